//! The group APIs over a socket, in every version: what a client sees from its first question to its
//! group's deletion.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_groups_request::DeleteGroupsRequest;
use kafka_protocol::messages::describe_groups_request::DescribeGroupsRequest;
use kafka_protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use kafka_protocol::messages::heartbeat_request::HeartbeatRequest;
use kafka_protocol::messages::join_group_request::{JoinGroupRequest, JoinGroupRequestProtocol};
use kafka_protocol::messages::leave_group_request::{LeaveGroupRequest, MemberIdentity};
use kafka_protocol::messages::list_groups_request::ListGroupsRequest;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::sync_group_request::{SyncGroupRequest, SyncGroupRequestAssignment};
use kafka_protocol::messages::{BrokerId, GroupId, JoinGroupResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use crate::broker::Broker;
use crate::broker::group::coordinator::OFFSETS_TOPIC;
use crate::broker::testing::{self, Client};

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn group(name: &str) -> GroupId {
    GroupId(text(name))
}

fn topic(name: &str) -> TopicName {
    TopicName(text(name))
}

/// A broker that coordinates every group, and its address.
async fn start(dir: &std::path::Path) -> (Arc<Broker>, SocketAddr) {
    let topics = vec![
        testing::topic(OFFSETS_TOPIC, 3, 0),
        testing::topic("t", 2, 0),
    ];
    let broker = testing::broker(dir, topics);
    broker.groups.start();
    for partition in 0..3 {
        broker
            .groups
            .elected(partition, crate::common::ids::LeaderEpoch(0));
    }
    let loaded = async {
        while broker.groups.loading() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), loaded)
        .await
        .expect("it loads");
    let address = testing::listen(&broker).await;
    (broker, address)
}

fn join(version: i16, name: &str, member_id: StrBytes) -> JoinGroupRequest {
    let metadata = Bytes::from_static(b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff");
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(text("range"))
        .with_metadata(metadata);
    let request = JoinGroupRequest::default()
        .with_group_id(group(name))
        .with_session_timeout_ms(10_000)
        .with_member_id(member_id)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    if version >= 1 {
        request.with_rebalance_timeout_ms(60_000)
    } else {
        request
    }
}

async fn enter(client: &mut Client, version: i16, name: &str) -> JoinGroupResponse {
    let first = client
        .call(version, &join(version, name, StrBytes::default()))
        .await;
    if version < 4 {
        return first;
    }
    assert_eq!((first.error_code, first.generation_id), (79, -1));
    client
        .call(version, &join(version, name, first.member_id))
        .await
}

#[tokio::test]
async fn the_coordinator_is_the_leader_of_the_groups_partition() {
    let dir = tempfile::tempdir().expect("a directory");
    let (_broker, address) = start(dir.path()).await;
    let mut client = Client::connect(address).await;
    for version in 0..=6 {
        for (key_type, error) in [(0, 0), (1, 42), (2, 42)] {
            if version == 0 && key_type > 0 {
                continue;
            }
            let mut request = FindCoordinatorRequest::default().with_key_type(key_type);
            if version >= 4 {
                request.coordinator_keys = vec![text("a"), text("b")];
            } else {
                request.key = text("a");
            }
            let found = client.call(version, &request).await;
            if version >= 4 {
                assert_eq!(found.coordinators.len(), 2);
                for one in &found.coordinators {
                    assert_eq!(one.error_code, error);
                    assert_eq!((one.node_id, one.port), place(error));
                }
            } else {
                assert_eq!(found.error_code, error);
                assert_eq!((found.node_id, found.port), place(error));
                assert_eq!(&*found.host, if error == 0 { "node1" } else { "" });
            }
        }
    }
}

fn place(error: i16) -> (BrokerId, i32) {
    if error == 0 {
        (BrokerId(1), 9092)
    } else {
        (BrokerId(-1), -1)
    }
}

#[tokio::test]
async fn a_member_lives_in_every_version() {
    let dir = tempfile::tempdir().expect("a directory");
    let (_broker, address) = start(dir.path()).await;
    let mut client = Client::connect(address).await;
    // At once, because each group waits for the initial rebalance delay.
    let mut lives = tokio::task::JoinSet::new();
    for version in 0..=9 {
        lives.spawn(live(version, address));
    }
    while let Some(ended) = lives.join_next().await {
        ended.expect("it lived");
    }
    for version in 0..=5 {
        list(&mut client, version).await;
    }
    for version in 0..=2 {
        let names = vec![group(&format!("g{version}")), group("none")];
        let request = DeleteGroupsRequest::default().with_groups_names(names);
        let deleted = client.call(version, &request).await;
        let codes: Vec<_> = deleted
            .results
            .iter()
            .map(|result| result.error_code)
            .collect();
        assert_eq!(codes, vec![0, 69]);
    }
}

async fn live(version: i16, address: SocketAddr) {
    let mut client = Client::connect(address).await;
    let name = format!("g{version}");
    let joined = enter(&mut client, version, &name).await;
    assert_eq!(
        (joined.error_code, joined.generation_id),
        (0, 1),
        "v{version}"
    );
    assert_eq!(joined.protocol_name, Some(text("range")));
    assert_eq!(joined.leader, joined.member_id);
    assert_eq!(joined.members.len(), 1);
    let assignment = SyncGroupRequestAssignment::default()
        .with_member_id(joined.member_id.clone())
        .with_assignment(Bytes::from_static(b"share"));
    let at = version.min(5);
    let mut sync = SyncGroupRequest::default()
        .with_group_id(group(&name))
        .with_generation_id(1)
        .with_member_id(joined.member_id.clone())
        .with_assignments(vec![assignment]);
    if at >= 5 {
        let nameless = client.call(at, &sync).await;
        assert_eq!(nameless.error_code, 23, "v5 has to name the protocol");
        sync.protocol_type = Some(text("consumer"));
        sync.protocol_name = Some(text("range"));
    }
    let synced = client.call(at, &sync).await;
    assert_eq!((synced.error_code, &*synced.assignment), (0, &b"share"[..]));
    let at = version.min(4);
    let mut heartbeat = HeartbeatRequest::default()
        .with_group_id(group(&name))
        .with_generation_id(1)
        .with_member_id(joined.member_id.clone());
    assert_eq!(client.call(at, &heartbeat).await.error_code, 0);
    heartbeat.generation_id = 2;
    assert_eq!(client.call(at, &heartbeat).await.error_code, 22);
    describe(&mut client, version.min(6), &name).await;
    let at = version.min(5);
    let mut leave = LeaveGroupRequest::default().with_group_id(group(&name));
    if at >= 3 {
        let member = |id: StrBytes| MemberIdentity::default().with_member_id(id);
        leave.members = vec![member(text("x")), member(joined.member_id)];
        let left = client.call(at, &leave).await;
        let codes: Vec<_> = left
            .members
            .iter()
            .map(|member| member.error_code)
            .collect();
        assert_eq!((left.error_code, codes), (0, vec![25, 0]));
    } else {
        leave.member_id = joined.member_id;
        assert_eq!(client.call(at, &leave).await.error_code, 0);
        assert_eq!(client.call(at, &leave).await.error_code, 25);
    }
}

async fn describe(client: &mut Client, version: i16, name: &str) {
    let request = DescribeGroupsRequest::default()
        .with_groups(vec![group(name), group("none")])
        .with_include_authorized_operations(version >= 3);
    let described = client.call(version, &request).await;
    let (found, none) = (&described.groups[0], &described.groups[1]);
    assert_eq!((found.error_code, &*found.group_state), (0, "Stable"));
    assert_eq!(
        (&*found.protocol_type, &*found.protocol_data),
        ("consumer", "range")
    );
    let member = &found.members[0];
    assert_eq!(
        (&*member.client_id, &*member.client_host),
        ("test", "/127.0.0.1")
    );
    assert_eq!(&*member.member_assignment, b"share");
    let operations = if version >= 3 { 328 } else { i32::MIN };
    assert_eq!(found.authorized_operations, operations);
    assert_eq!(none.error_code, if version >= 6 { 69 } else { 0 });
    assert_eq!(&*none.group_state, "Dead");
}

async fn list(client: &mut Client, version: i16) {
    let all = client.call(version, &ListGroupsRequest::default()).await;
    assert_eq!((all.error_code, all.groups.len()), (0, 10));
    let first = &all.groups[0];
    assert_eq!(&*first.protocol_type, "consumer");
    assert_eq!(&*first.group_state, if version >= 4 { "Empty" } else { "" });
    assert_eq!(
        &*first.group_type,
        if version >= 5 { "classic" } else { "" }
    );
    if version >= 4 {
        for (state, count) in [("empty", 10), ("Stable", 0)] {
            let request = ListGroupsRequest::default().with_states_filter(vec![text(state)]);
            assert_eq!(client.call(version, &request).await.groups.len(), count);
        }
    }
    if version >= 5 {
        for (kind, count) in [("Classic", 10), ("consumer", 0)] {
            let request = ListGroupsRequest::default().with_types_filter(vec![text(kind)]);
            assert_eq!(client.call(version, &request).await.groups.len(), count);
        }
    }
}

fn commit(name: &str, version: i16, partitions: &[(&str, i32, i64, usize)]) -> OffsetCommitRequest {
    let topics = partitions.iter().map(|(name, index, offset, metadata)| {
        let mut partition = OffsetCommitRequestPartition::default()
            .with_partition_index(*index)
            .with_committed_offset(*offset)
            .with_committed_metadata(Some(text(&"m".repeat(*metadata))));
        if version >= 6 {
            partition.committed_leader_epoch = 4;
        }
        OffsetCommitRequestTopic::default()
            .with_name(topic(name))
            .with_partitions(vec![partition])
    });
    OffsetCommitRequest::default()
        .with_group_id(group(name))
        .with_topics(topics.collect())
}

#[tokio::test]
async fn offsets_are_committed_and_fetched_in_every_version() {
    let dir = tempfile::tempdir().expect("a directory");
    let (_broker, address) = start(dir.path()).await;
    let mut client = Client::connect(address).await;
    for version in 2..=9 {
        let name = format!("c{version}");
        let request = commit(
            &name,
            version,
            &[
                ("t", 0, 5, 1),
                ("t", 1, 6, 4097),
                ("none", 0, 7, 0),
                ("t", 9, 8, 0),
            ],
        );
        let committed = client.call(version, &request).await;
        let topics = committed.topics.iter();
        let codes: Vec<_> = topics.map(|topic| topic.partitions[0].error_code).collect();
        assert_eq!(codes, vec![0, 12, 3, 3], "v{version}");
        let stale = commit("unheard", version, &[("t", 0, 5, 0)])
            .with_generation_id_or_member_epoch(3)
            .with_member_id(text("m"));
        let answer = client.call(version, &stale).await;
        let expected = if version >= 9 { 69 } else { 22 };
        assert_eq!(answer.topics[0].partitions[0].error_code, expected);
    }
    for version in 1..=7 {
        let wanted = OffsetFetchRequestTopic::default()
            .with_name(topic("t"))
            .with_partition_indexes(vec![1, 0]);
        let mut request = OffsetFetchRequest::default()
            .with_group_id(group("c9"))
            .with_topics(Some(vec![wanted]));
        let fetched = client.call(version, &request).await;
        assert_eq!(fetched.error_code, 0);
        let partitions = &fetched.topics[0].partitions;
        let offsets: Vec<_> = partitions.iter().map(|one| one.committed_offset).collect();
        assert_eq!(offsets, vec![-1, 5], "v{version}");
        assert_eq!(
            partitions[1].committed_leader_epoch,
            if version >= 5 { 4 } else { -1 }
        );
        assert_eq!(partitions[1].metadata, Some(text("m")));
        if version >= 2 {
            request.topics = None;
            let all = client.call(version, &request).await;
            assert_eq!((all.topics.len(), all.topics[0].partitions.len()), (1, 1));
        }
    }
    for version in 8..=9 {
        let wanted = OffsetFetchRequestTopics::default()
            .with_name(topic("t"))
            .with_partition_indexes(vec![0]);
        let one = |name| OffsetFetchRequestGroup::default().with_group_id(group(name));
        let groups = vec![
            one("c9").with_topics(Some(vec![wanted.clone()])),
            one("c8").with_topics(None),
            one("unheard").with_topics(Some(vec![wanted])),
        ];
        let request = OffsetFetchRequest::default()
            .with_groups(groups)
            .with_require_stable(true);
        let fetched = client.call(version, &request).await;
        let offset = |index: usize| fetched.groups[index].topics[0].partitions[0].committed_offset;
        assert_eq!([offset(0), offset(1), offset(2)], [5, 5, -1]);
    }
    let partition = |index| OffsetDeleteRequestPartition::default().with_partition_index(index);
    let gone = OffsetDeleteRequestTopic::default()
        .with_name(topic("t"))
        .with_partitions(vec![partition(9), partition(0)]);
    let request = OffsetDeleteRequest::default()
        .with_group_id(group("c9"))
        .with_topics(vec![gone]);
    let deleted = client.call(0, &request).await;
    let partitions = deleted.topics[0].partitions.iter();
    let codes: Vec<_> = partitions.map(|one| one.error_code).collect();
    assert_eq!((deleted.error_code, codes), (0, vec![3, 0]));
    // The group went with its last offset.
    let again = client.call(0, &request).await;
    assert_eq!(again.error_code, ResponseError::GroupIdNotFound.code());
}
