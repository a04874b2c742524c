//! ZooKeeper's promises through a client: sessions, ephemerals, watches, sequences, multi.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tripod::client::zookeeper::{Error, Event, Events, Mode, Op, ZooKeeper};
use tripod::common::net::HostPort;
use tripod::zookeeper::error::ErrorCode;
use tripod::zookeeper::message::{EventType, Request, WatchedPath};

use crate::cluster::{Cluster, DEADLINE, Plan, wait_until};

async fn next(events: &mut Events) -> (EventType, String) {
    loop {
        let event = tokio::time::timeout(DEADLINE, events.next()).await;
        match event.expect("an event in time").expect("an open session") {
            Event::Node(kind, path) => return (kind, path),
            Event::Connected(_) | Event::Mark(_) => {}
            Event::Lost => panic!("events were lost"),
        }
    }
}

async fn make(zookeeper: &ZooKeeper, path: &str, mode: Mode) -> Result<String, Error> {
    zookeeper.create(path, Some(b"data".to_vec()), mode).await
}

/// A session without a client behind it: it never pings.
struct Bare {
    stream: TcpStream,
    id: i64,
    password: Vec<u8>,
    timeout_ms: i32,
}

impl Bare {
    async fn connect(address: &HostPort, id: i64, password: &[u8], timeout_ms: i32) -> Bare {
        let mut stream = TcpStream::connect((address.host.as_str(), address.port))
            .await
            .expect("connects");
        let mut body = vec![0; 12];
        body.extend(timeout_ms.to_be_bytes());
        body.extend(id.to_be_bytes());
        body.extend(i32::try_from(password.len()).expect("short").to_be_bytes());
        body.extend(password);
        body.push(0);
        send(&mut stream, &body).await;
        let answer = receive(&mut stream).await;
        let int =
            |at: usize| i32::from_be_bytes(answer[at..at + 4].try_into().expect("as many bytes"));
        Bare {
            stream,
            timeout_ms: int(4),
            id: i64::from_be_bytes(answer[8..16].try_into().expect("as many bytes")),
            password: answer[20..20 + int(16) as usize].to_vec(),
        }
    }

    /// Creates an open ephemeral node without data.
    async fn create_ephemeral(&mut self, path: &str) -> i32 {
        let mut body = Vec::new();
        body.extend(1i32.to_be_bytes());
        body.extend(1i32.to_be_bytes());
        let text = |body: &mut Vec<u8>, text: &str| {
            body.extend(i32::try_from(text.len()).expect("short").to_be_bytes());
            body.extend(text.as_bytes());
        };
        text(&mut body, path);
        text(&mut body, "");
        body.extend(1i32.to_be_bytes());
        body.extend(31i32.to_be_bytes());
        text(&mut body, "world");
        text(&mut body, "anyone");
        body.extend(1i32.to_be_bytes());
        send(&mut self.stream, &body).await;
        let answer = receive(&mut self.stream).await;
        i32::from_be_bytes(answer[12..16].try_into().expect("as many bytes"))
    }
}

async fn send(stream: &mut TcpStream, body: &[u8]) {
    let length = i32::try_from(body.len()).expect("short").to_be_bytes();
    stream.write_all(&length).await.expect("written");
    stream.write_all(body).await.expect("written");
}

async fn receive(stream: &mut TcpStream) -> Vec<u8> {
    let length = tokio::time::timeout(DEADLINE, stream.read_i32())
        .await
        .expect("an answer in time")
        .expect("an answer");
    let mut body = vec![0; usize::try_from(length).expect("positive")];
    stream.read_exact(&mut body).await.expect("all of it");
    body
}

async fn is_gone(zookeeper: &ZooKeeper, path: &str) {
    wait_until(&format!("{path} is gone"), || async {
        let found = zookeeper.exists(path).await.ok()?;
        found.is_none().then_some(())
    })
    .await;
}

async fn with_short_ticks(nodes: u16) -> Cluster {
    let plan = Plan::coordinators(nodes).set("coordinator.tickTime", "200");
    plan.start().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ephemerals_go_with_their_session_closed_or_expired() {
    let mut cluster = with_short_ticks(1).await;
    let (watcher, _events) = cluster.zookeeper().await;
    let (owner, _others) = cluster.zookeeper().await;
    make(&owner, "/closed", Mode::Ephemeral)
        .await
        .expect("made");
    let stat = watcher.exists("/closed").await.unwrap().expect("seen");
    assert_ne!(stat.ephemeral_owner.0, 0);
    assert!(
        make(&owner, "/closed/child", Mode::Persistent)
            .await
            .expect_err("refused")
            .is(ErrorCode::NoChildrenForEphemerals)
    );
    owner.close().await;
    assert_eq!(watcher.exists("/closed").await, Ok(None), "gone at once");
    assert!(owner.create("/more", None, Mode::Persistent).await.is_err());

    let address = cluster.nodes[0].zookeeper.clone();
    let mut silent = Bare::connect(&address, 0, &[0; 16], 1).await;
    assert_eq!(silent.timeout_ms, 400, "two ticks at least");
    assert_eq!(silent.create_ephemeral("/expired").await, 0);
    is_gone(&watcher, "/expired").await;
    let late = Bare::connect(&address, silent.id, &silent.password, 400).await;
    assert_eq!(
        (late.timeout_ms, late.id),
        (0, 0),
        "an expired session stays so"
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_moves_to_another_connection_with_its_password_only() {
    let mut cluster = with_short_ticks(1).await;
    let (watcher, _events) = cluster.zookeeper().await;
    let address = cluster.nodes[0].zookeeper.clone();
    let mut first = Bare::connect(&address, 0, &[0; 16], 4_000).await;
    assert_eq!(first.create_ephemeral("/mine").await, 0);
    let stranger = Bare::connect(&address, first.id, &[7; 16], 4_000).await;
    assert_eq!((stranger.timeout_ms, stranger.id), (0, 0));
    let mut again = Bare::connect(&address, first.id, &first.password, 4_000).await;
    assert_eq!((again.timeout_ms, again.id), (4_000, first.id));
    drop(first);
    assert_eq!(again.create_ephemeral("/mine").await, -110);
    let stat = watcher.exists("/mine").await.unwrap().expect("alive");
    assert_eq!(stat.ephemeral_owner.0, again.id);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_tell_each_change_in_order() {
    let mut cluster = Plan::coordinators(1).start().await;
    let (writer, _) = cluster.zookeeper().await;
    let (watcher, mut events) = cluster.zookeeper().await;
    make(&writer, "/w", Mode::Persistent).await.expect("made");
    watcher.watch_all(&["/w"]).await.expect("watched");
    make(&writer, "/w/a", Mode::Persistent).await.expect("made");
    writer.set("/w/a", b"new".to_vec(), 0).await.expect("set");
    make(&writer, "/w/a/b", Mode::Persistent)
        .await
        .expect("made");
    writer.delete("/w/a/b", 0).await.expect("deleted");
    writer.delete("/w/a", 1).await.expect("deleted");
    for (kind, path) in [
        (EventType::NodeCreated, "/w/a"),
        (EventType::NodeDataChanged, "/w/a"),
        (EventType::NodeCreated, "/w/a/b"),
        (EventType::NodeDeleted, "/w/a/b"),
        (EventType::NodeDeleted, "/w/a"),
    ] {
        assert_eq!(next(&mut events).await, (kind, path.to_owned()));
    }

    // The classic ones tell once.
    let (once, mut events) = cluster.zookeeper().await;
    let watched = |path: &str| WatchedPath {
        path: path.to_owned(),
        watch: true,
    };
    once.call(Request::GetData(watched("/w")))
        .await
        .expect("read");
    once.call(Request::Exists(watched("/x")))
        .await
        .expect_err("not there");
    once.call(Request::GetChildren2(watched("/")))
        .await
        .expect("read");
    writer.set("/w", b"1".to_vec(), -1).await.expect("set");
    writer.set("/w", b"2".to_vec(), -1).await.expect("set");
    make(&writer, "/x", Mode::Persistent).await.expect("made");
    writer.set("/x", b"3".to_vec(), -1).await.expect("set");
    assert_eq!(
        next(&mut events).await,
        (EventType::NodeDataChanged, "/w".to_owned())
    );
    let mut created = [next(&mut events).await, next(&mut events).await];
    created.sort_by(|a, b| a.1.cmp(&b.1));
    assert_eq!(
        created,
        [
            (EventType::NodeChildrenChanged, "/".to_owned()),
            (EventType::NodeCreated, "/x".to_owned()),
        ]
    );
    once.sync("/").await.expect("in touch");
    once.exists("/x").await.expect("answered");
    assert!(
        !matches!(events.ready(), Some(Event::Node(..))),
        "nothing more was to be told"
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_multi_does_all_or_nothing() {
    let mut cluster = Plan::coordinators(1).start().await;
    let (zookeeper, _events) = cluster.zookeeper().await;
    let create = |path: &str| Op::Create {
        path: path.to_owned(),
        data: None,
        mode: Mode::Persistent,
    };
    let check = |path: &str, version| Op::Check {
        path: path.to_owned(),
        version,
    };
    let set = Op::Set {
        path: "/m/a".to_owned(),
        data: b"x".to_vec(),
        version: 0,
    };
    let stats = zookeeper
        .multi(vec![create("/m"), create("/m/a"), set, check("/m/a", 1)])
        .await
        .expect("done");
    assert_eq!((stats.len(), stats[0].version), (1, 1));
    let failure = zookeeper
        .multi(vec![create("/m/b"), check("/m/a", 7), create("/m/c")])
        .await
        .expect_err("refused");
    assert_eq!(
        (failure.step, failure.error),
        (1, Error::Code(ErrorCode::BadVersion))
    );
    assert_eq!(zookeeper.children("/m").await.unwrap(), ["a"]);
    let delete = |path: &str| Op::Delete {
        path: path.to_owned(),
        version: -1,
    };
    let failure = zookeeper
        .multi(vec![delete("/m"), delete("/m/a")])
        .await
        .expect_err("refused");
    assert_eq!(
        (failure.step, failure.error),
        (0, Error::Code(ErrorCode::NotEmpty))
    );
    zookeeper
        .multi(vec![delete("/m/a"), delete("/m")])
        .await
        .expect("children first");
    assert_eq!(zookeeper.exists("/m").await, Ok(None));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tree_and_its_sequences_survive_a_restart() {
    let mut cluster = Plan::coordinators(1).start().await;
    let (zookeeper, _events) = cluster.zookeeper().await;
    make(&zookeeper, "/q", Mode::Persistent)
        .await
        .expect("made");
    for number in 0..3 {
        let path = make(&zookeeper, "/q/n-", Mode::Sequential).await;
        assert_eq!(path, Ok(format!("/q/n-{number:010}")));
    }
    let before = zookeeper.get("/q/n-0000000001").await.expect("there");
    cluster.restart().await;
    let (zookeeper, _events) = cluster.zookeeper().await;
    assert_eq!(zookeeper.get("/q/n-0000000001").await, Ok(before));
    let path = make(&zookeeper, "/q/n-", Mode::Sequential).await;
    assert_eq!(path, Ok("/q/n-0000000003".to_owned()));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_coordinators_are_one_tree_and_a_session_outlives_its_server() {
    let mut cluster = Plan::coordinators(3).start().await;
    let long = Duration::from_secs(30);
    let at = |cluster: &Cluster, node: usize| vec![cluster.nodes[node].zookeeper.clone()];
    let (first, _e0) = cluster.session(at(&cluster, 0), long).await;
    let (second, _e1) = cluster.session(at(&cluster, 1), long).await;
    let servers: Vec<HostPort> = (0..3).map(|node| at(&cluster, node)[0].clone()).collect();
    let (roaming, _e2) = cluster.session(servers, long).await;
    let session = roaming.session();
    make(&roaming, "/alive", Mode::Ephemeral)
        .await
        .expect("made");
    make(&first, "/t", Mode::Persistent).await.expect("made");
    second.sync("/t").await.expect("in touch");
    assert!(second.exists("/t").await.unwrap().is_some());

    // Each in turn is away; the third comes back before the next one goes.
    for node in 0..3 {
        cluster.nodes[node].stop().await;
        wait_until("the session goes on elsewhere", || async {
            roaming.set("/t", vec![node as u8], -1).await.ok()
        })
        .await;
        cluster.nodes[node].start().await.expect("it starts again");
        let (asker, _events) = cluster.session(at(&cluster, node), long).await;
        asker.sync("/t").await.expect("in touch");
        let (data, stat) = asker.get("/t").await.expect("caught up");
        assert_eq!(data[..], [node as u8]);
        assert!(stat.version > node as i32);
        assert!(asker.exists("/alive").await.unwrap().is_some());
    }
    assert_eq!(roaming.session(), session);
    cluster.stop().await;
}
