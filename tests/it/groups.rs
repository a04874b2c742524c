//! Consumer groups: sharing, leaving, committing; what was committed survives a restart.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tripod::client::group::Settings;
use tripod::common::ids::TopicPartition;
use tripod::common::shutdown::Shutdown;
use tripod::common::tasks::{Kind, Tasks};

use crate::cluster::{Cluster, DEADLINE, Plan, numbered, wait_until};

/// A consumer that polls by itself.
struct Member {
    tasks: Tasks,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    assignment: Option<BTreeSet<i32>>,
    values: Vec<String>,
}

impl Member {
    /// With connections of its own, as a process has them.
    fn join(cluster: &Cluster, topic: &str, group: &str) -> Member {
        let mut settings = Settings::new(group);
        settings.heartbeat_interval = Duration::from_millis(100);
        let mut consumer = cluster.client().consumer(Some(settings));
        consumer.subscribe(vec![topic.to_owned()]);
        let tasks = Tasks::new(Shutdown::new());
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let (told, stopping) = (seen.clone(), tasks.shutdown().clone());
        tasks.spawn("member", Kind::Connection, async move {
            while !stopping.is_stopping() {
                let polled = consumer.poll(Duration::from_millis(50)).await;
                let mut values = Vec::new();
                if let Ok(Some(chunk)) = polled {
                    for record in chunk.records(true) {
                        let value = record.expect("well formed").0.value.expect("a value");
                        values.push(String::from_utf8(value.to_vec()).expect("text"));
                    }
                    let _ = consumer.commit().await;
                }
                let partitions = consumer.assignment();
                let mut seen = told.lock().expect("no panic");
                seen.assignment = Some(partitions.iter().map(|id| id.partition).collect());
                seen.values.extend(values);
            }
            let _ = consumer.close().await;
        });
        Member { tasks, seen }
    }

    fn assignment(&self) -> Option<BTreeSet<i32>> {
        self.seen.lock().expect("no panic").assignment.clone()
    }

    fn values(&self) -> Vec<String> {
        self.seen.lock().expect("no panic").values.clone()
    }

    /// Commits, leaves the group, and ends.
    async fn leave(&self) {
        assert!(self.tasks.stop(DEADLINE).await, "the member ends");
    }
}

/// Waits until the members' numbers of partitions are `counts`, in any order, and no partition is
/// missing or owned twice.
async fn shared(members: &[&Member], counts: &[usize]) {
    let wanted: usize = counts.iter().sum();
    wait_until(&format!("partitions are shared as {counts:?}"), || async {
        let owned: Option<Vec<BTreeSet<i32>>> =
            members.iter().map(|member| member.assignment()).collect();
        let owned = owned?;
        let mut sizes: Vec<usize> = owned.iter().map(BTreeSet::len).collect();
        sizes.sort_unstable();
        let all: BTreeSet<i32> = owned.into_iter().flatten().collect();
        (sizes == counts && all.len() == wanted).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_members_share_a_third_is_idle_and_takes_over_when_one_leaves() {
    let mut cluster = Plan::nodes(1).start().await;
    let client = cluster.client();
    client.create("t", 2).await;
    let first = Member::join(&cluster, "t", "g");
    shared(&[&first], &[2]).await;
    let second = Member::join(&cluster, "t", "g");
    shared(&[&first, &second], &[1, 1]).await;
    let third = Member::join(&cluster, "t", "g");
    shared(&[&first, &second, &third], &[0, 1, 1]).await;

    let described = wait_until("the group is stable with three members", || async {
        let group = client.admin.describe_group("g").await.ok()?;
        (group.state == "Stable" && group.members.len() == 3).then_some(group)
    })
    .await;
    assert_eq!(
        (
            described.protocol_type.as_str(),
            described.protocol.as_str()
        ),
        ("consumer", "range")
    );

    client.put("t", 0, &numbered("p0", 20)).await;
    client.put("t", 1, &numbered("p1", 20)).await;
    let members = [&first, &second, &third];
    wait_until("every record has come", || async {
        let all: usize = members.iter().map(|member| member.values().len()).sum();
        (all == 40).then_some(())
    })
    .await;

    first.leave().await;
    shared(&[&second, &third], &[1, 1]).await;
    second.leave().await;
    shared(&[&third], &[2]).await;
    client.put("t", 0, &numbered("more", 5)).await;
    wait_until("the one that stayed reads on", || async {
        let values = third.values();
        (values
            .iter()
            .filter(|value| value.starts_with("more"))
            .count()
            == 5)
            .then_some(())
    })
    .await;
    // Everybody committed before leaving: nothing was read twice.
    let all: usize = members.iter().map(|member| member.values().len()).sum();
    assert_eq!(all, 45);
    third.leave().await;
    wait_until("the group is empty", || async {
        let group = client.admin.describe_group("g").await.ok()?;
        (group.state == "Empty" && group.members.is_empty()).then_some(())
    })
    .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn committed_offsets_survive_restarts() {
    let mut cluster = Plan::nodes(1).start().await;
    let client = cluster.client();
    client.create("t", 2).await;
    client.put("t", 0, &numbered("a", 30)).await;
    client.put("t", 1, &numbered("b", 7)).await;
    let member = Member::join(&cluster, "t", "g");
    wait_until("all is read", || async {
        (member.values().len() == 37).then_some(())
    })
    .await;
    member.leave().await;
    for _ in 0..2 {
        cluster.restart().await;
        let client = cluster.client();
        let offsets = wait_until("the coordinator has loaded its groups", || async {
            let offsets = client.admin.group_offsets("g", None).await.ok()?;
            (!offsets.is_empty()).then_some(offsets)
        })
        .await;
        let of = |partition| offsets[&TopicPartition::new("t", partition)].offset;
        assert_eq!((of(0), of(1)), (30, 7));
    }
    // A new life of the group goes on where the old one ended.
    let client = cluster.client();
    client.put("t", 0, &numbered("late", 1)).await;
    let member = Member::join(&cluster, "t", "g");
    wait_until("what is new is read", || async {
        (!member.values().is_empty()).then_some(())
    })
    .await;
    assert_eq!(member.values(), ["late 0"]);
    member.leave().await;
    let groups = client.admin.list_groups(&[]).await.expect("listed");
    assert_eq!((groups.len(), groups[0].id.as_str()), (1, "g"));
    cluster.stop().await;
}
