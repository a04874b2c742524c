//! A single member on a port of its own, spoken to with raw frames.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::BufMut;

use super::*;
use crate::common::clock::Clock;
use crate::common::disk::real::RealDisk;
use crate::common::ids::MemberId;
use crate::common::net::{self, HostPort};
use crate::common::rng::Rng;
use crate::common::shutdown::Shutdown;
use crate::common::tasks::Tasks;
use crate::common::tls;
use crate::coordinator::status::Mode;
use crate::coordinator::{Coordinator, Member, Options, Secure, World};
use crate::zookeeper::acl::Acl;
use crate::zookeeper::digest_md5;
use crate::zookeeper::message::EventType::{self, *};
use crate::zookeeper::message::{
    AddWatchRequest, AuthRequest, CreateKind, CreateRequest, CreateTtlRequest, MultiOp,
    MultiResult, ReplyHeader, Request as Ask, SetDataRequest, SetWatchesRequest, VersionedPath,
    WatchedPath, WatcherEvent, WatchesRequest, XID_EVENT, flags, op, put_event, watch_mode,
    watcher_type,
};

mod operations;

const WCHS_OF_ONE: &str = "1 connections watching 1 paths\nTotal watches:1\n";
const LIMIT: Duration = Duration::from_secs(60);
/// The session timeout that clients ask for: more than a busy machine keeps them silent.
const SESSION_MS: i32 = 20_000;

struct Fixture {
    coordinator: Coordinator,
    _dir: tempfile::TempDir,
}

async fn launch(dir: tempfile::TempDir, options: Options) -> Fixture {
    let world = World {
        disk: Arc::new(RealDisk),
        clock: Clock::real(),
        rng: Rng::from_os(),
        tasks: Tasks::new(Shutdown::new()),
    };
    let coordinator = Coordinator::start(options, world).await.unwrap();
    Fixture {
        coordinator,
        _dir: dir,
    }
}

async fn start_with(change: impl FnOnce(&mut Options)) -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options::standalone(dir.path().to_owned(), HostPort::new("127.0.0.1", 0));
    change(&mut options);
    let fixture = launch(dir, options).await;
    fixture.serving().await;
    fixture
}

/// An ensemble with short sessions, on ports that were free a moment ago.
async fn start_three() -> Vec<Fixture> {
    start_three_with(|_| {}).await
}

async fn start_three_with(change: impl Fn(&mut Options)) -> Vec<Fixture> {
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(net::bind(&HostPort::new("127.0.0.1", 0)).await.unwrap());
    }
    let members: BTreeMap<MemberId, Member> = (1..)
        .map(MemberId)
        .zip(&held)
        .map(|(id, listener)| {
            let port = net::local_address(listener).unwrap().port();
            let quorum = HostPort::new("127.0.0.1", port);
            let election = HostPort::new("127.0.0.1", 3888);
            let member = Member {
                quorum,
                election,
                client: None,
            };
            (id, member)
        })
        .collect();
    drop(held);
    let mut fixtures = Vec::new();
    for (id, member) in &members {
        let dir = tempfile::tempdir().unwrap();
        let client = HostPort::new("127.0.0.1", 0);
        let mut options = Options::standalone(dir.path().to_owned(), client);
        options.member = *id;
        options.members = members.clone();
        options.quorum_listen = member.quorum.clone();
        options.tick_time_ms = 500;
        options.min_session_timeout_ms = 4000;
        options.max_session_timeout_ms = 4000;
        change(&mut options);
        fixtures.push(launch(dir, options).await);
    }
    for fixture in &fixtures {
        fixture.serving().await;
    }
    fixtures
}

async fn start() -> Fixture {
    start_with(|_| {}).await
}

struct Client {
    stream: Stream,
    session: ConnectResponse,
    xid: i32,
    /// Events that came before the reply that was waited for.
    events: Vec<(EventType, String)>,
    zxid: i64,
}

impl Fixture {
    async fn serving(&self) {
        let deadline = tokio::time::Instant::now() + LIMIT;
        while !self.coordinator.status().is_serving {
            assert!(tokio::time::Instant::now() < deadline, "it never serves");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn leads(&self) -> bool {
        self.coordinator.status().mode == Mode::Leader
    }

    async fn dial(&self) -> Stream {
        let address = self.coordinator.client_address();
        let address = HostPort::new(address.ip().to_string(), address.port());
        net::connect(&address, LIMIT).await.unwrap().into()
    }

    async fn dial_secure(&self) -> net::TcpStream {
        let port = self.coordinator.secure_address().unwrap().port();
        let address = HostPort::new("127.0.0.1", port);
        net::connect(&address, LIMIT).await.unwrap()
    }

    async fn connect(&self) -> Client {
        self.resume(0, &[0; 16], 0).await.unwrap()
    }

    async fn resume(&self, session_id: i64, password: &[u8], seen: i64) -> Option<Client> {
        self.handshake(session_id, password, seen, Some(false))
            .await
    }

    async fn handshake(
        &self,
        session_id: i64,
        password: &[u8],
        seen: i64,
        read_only: Option<bool>,
    ) -> Option<Client> {
        Fixture::begin(self.dial().await, session_id, password, seen, read_only).await
    }

    async fn begin(
        mut stream: Stream,
        session_id: i64,
        password: &[u8],
        seen: i64,
        read_only: Option<bool>,
    ) -> Option<Client> {
        let request = ConnectRequest {
            last_zxid_seen: seen,
            timeout_ms: SESSION_MS,
            session_id,
            password: Some(Bytes::copy_from_slice(password)),
            read_only,
            ..ConnectRequest::default()
        };
        let mut out = BytesMut::new();
        put_frame(&mut out, |out| request.encode(out));
        stream.write_all(&out).await.unwrap();
        let mut body = frame(&mut stream).await?;
        let session = ConnectResponse::decode(&mut body).unwrap();
        Some(Client {
            stream,
            session,
            xid: 0,
            events: Vec::new(),
            zxid: 0,
        })
    }

    async fn word(&self, word: &str) -> String {
        let mut stream = self.dial().await;
        stream.write_all(word.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut text = String::new();
        tokio::time::timeout(LIMIT, stream.read_to_string(&mut text))
            .await
            .unwrap()
            .unwrap();
        text
    }
}

/// One frame, `None` at the end of the stream.
async fn frame(stream: &mut Stream) -> Option<Bytes> {
    let read = crate::common::frame::read_frame(stream, 1 << 24);
    tokio::time::timeout(LIMIT, read)
        .await
        .expect("a frame in time")
        .ok()
        .flatten()
}

impl Client {
    async fn send(&mut self, request: &Ask) -> i32 {
        self.xid += 1;
        let mut out = BytesMut::new();
        let xid = match request {
            Ask::Ping => XID_PING,
            _ => self.xid,
        };
        request.put(&mut out, xid);
        self.stream.write_all(&out).await.unwrap();
        xid
    }

    async fn receive(&mut self, code: i32, xid: i32) -> Result<Response, i32> {
        loop {
            let mut body = frame(&mut self.stream).await.expect("a reply");
            let header = ReplyHeader::decode(&mut body).unwrap();
            if header.xid == XID_EVENT {
                let event = WatcherEvent::decode(&mut body).unwrap();
                self.events
                    .push((EventType::from_code(event.kind).unwrap(), event.path));
                continue;
            }
            assert_eq!(header.xid, xid, "replies come in the order of requests");
            assert!(
                header.zxid >= self.zxid || header.zxid <= 0,
                "zxids do not fall"
            );
            self.zxid = self.zxid.max(header.zxid);
            if header.err != 0 {
                return Err(header.err);
            }
            let response = Response::decode(code, &mut body).unwrap();
            assert!(body.is_empty(), "{code}: {} bytes too many", body.len());
            return Ok(response);
        }
    }

    async fn call(&mut self, request: Ask) -> Result<Response, i32> {
        let xid = self.send(&request).await;
        self.receive(request.op(), xid).await
    }

    async fn create(&mut self, path: &str, flags: i32) -> Result<String, i32> {
        match self
            .call(Ask::Create(CreateKind::Create, create(path, flags)))
            .await?
        {
            Response::Path(path) => Ok(path),
            other => panic!("{other:?}"),
        }
    }

    async fn ended(&mut self) -> bool {
        frame(&mut self.stream).await.is_none()
    }
}

fn create(path: &str, flags: i32) -> CreateRequest {
    CreateRequest {
        path: path.into(),
        data: Some(Bytes::from_static(b"x")),
        acl: Acl::open(),
        flags,
    }
}

fn watched(path: &str) -> WatchedPath {
    WatchedPath {
        path: path.into(),
        watch: true,
    }
}

fn set(path: &str, version: i32) -> SetDataRequest {
    SetDataRequest {
        path: path.into(),
        data: Some(Bytes::from_static(b"y")),
        version,
    }
}

fn versioned(path: &str, version: i32) -> VersionedPath {
    VersionedPath {
        path: path.into(),
        version,
    }
}

#[tokio::test]
async fn a_session_begins_works_and_ends() {
    let fixture = start().await;
    let mut client = fixture.connect().await;
    assert_eq!(client.session.timeout_ms, SESSION_MS);
    assert_eq!(client.session.session_id >> 56, 1);
    assert_ne!(client.session.password, [0; 16]);
    assert_eq!(client.create("/a", flags::EPHEMERAL).await.unwrap(), "/a");
    assert_eq!(client.call(Ask::Unknown(999)).await, Err(-6));
    assert_eq!(client.call(Ask::Ping).await, Ok(Response::Nothing));
    let ephemerals = client.call(Ask::GetEphemerals("/".into())).await;
    assert_eq!(ephemerals, Ok(Response::Children(vec!["/a".into()])));
    assert_eq!(
        client.call(Ask::Sync("/".into())).await,
        Ok(Response::Path("/".into()))
    );
    assert_eq!(client.call(Ask::CloseSession).await, Ok(Response::Nothing));
    assert!(client.ended().await);
    let mut other = fixture.connect().await;
    assert_eq!(other.call(Ask::Exists(watched("/a"))).await, Err(-101));
    let (id, password) = (client.session.session_id, client.session.password);
    let gone = fixture.resume(id, &password, 0).await.unwrap().session;
    assert_eq!(
        (gone.timeout_ms, gone.session_id, gone.password),
        (0, 0, [0; 16])
    );
    assert!(fixture.coordinator.shutdown().await);
}

/// What a Kafka controller does: many requests before the first reply, reads among writes.
#[tokio::test]
async fn pipelined_requests_are_answered_in_order_and_reads_see_earlier_writes() {
    let fixture = start().await;
    let mut client = fixture.connect().await;
    let mut asked = Vec::new();
    for n in 0..1500 {
        let path = format!("/n{n}");
        let write = Ask::Create(CreateKind::Create, create(&path, 0));
        let read = Ask::GetData(watched(&path));
        for request in [write, read] {
            let xid = client.send(&request).await;
            asked.push((request.op(), xid));
        }
        if asked.len() >= 700 {
            for (code, xid) in asked.drain(..) {
                client.receive(code, xid).await.unwrap();
            }
        }
    }
    for (code, xid) in asked {
        client.receive(code, xid).await.unwrap();
    }
    assert!(client.events.is_empty());
}

#[tokio::test]
async fn an_event_comes_before_the_reply_that_shows_the_change() {
    let fixture = start().await;
    let mut client = fixture.connect().await;
    let mut watcher = fixture.connect().await;
    assert_eq!(watcher.call(Ask::Exists(watched("/a"))).await, Err(-101));
    watcher.call(Ask::GetChildren2(watched("/"))).await.unwrap();
    assert_eq!(client.call(Ask::Exists(watched("/a"))).await, Err(-101));
    client.create("/a", 0).await.unwrap();
    assert_eq!(
        client.events,
        [(NodeCreated, "/a".into())],
        "before the own write's reply"
    );
    watcher.call(Ask::GetData(watched("/a"))).await.unwrap();
    watcher.call(Ask::GetChildren(watched("/a"))).await.unwrap();
    let expected = [
        (NodeCreated, "/a".to_owned()),
        (NodeChildrenChanged, "/".to_owned()),
    ];
    assert_eq!(watcher.events, expected);
    client.call(Ask::Delete(versioned("/a", -1))).await.unwrap();
    assert_eq!(watcher.call(Ask::Exists(watched("/a"))).await, Err(-101));
    assert_eq!(
        watcher.events[2..],
        [(NodeDeleted, "/a".to_owned())],
        "once, for two watches"
    );
}

#[tokio::test]
async fn persistent_watches_stay_until_removed() {
    let fixture = start().await;
    let mut client = fixture.connect().await;
    let add = |path: &str, mode| {
        Ask::AddWatch(AddWatchRequest {
            path: path.into(),
            mode,
        })
    };
    assert_eq!(client.call(add("/a", 2)).await, Err(-5));
    let added = client
        .call(add("/a", watch_mode::PERSISTENT_RECURSIVE))
        .await;
    assert_eq!(added, Ok(Response::Error(0)));
    for path in ["/a", "/a/b", "/a/b/c"] {
        client.create(path, 0).await.unwrap();
    }
    client.call(Ask::SetData(set("/a/b", -1))).await.unwrap();
    let expected = [
        (NodeCreated, "/a".to_owned()),
        (NodeCreated, "/a/b".to_owned()),
        (NodeCreated, "/a/b/c".to_owned()),
        (NodeDataChanged, "/a/b".to_owned()),
    ];
    assert_eq!(client.events, expected);
    let watches = WatchesRequest {
        path: "/a".into(),
        kind: watcher_type::ANY,
    };
    client
        .call(Ask::CheckWatches(watches.clone()))
        .await
        .unwrap();
    client
        .call(Ask::RemoveWatches(watches.clone()))
        .await
        .unwrap();
    assert_eq!(client.call(Ask::RemoveWatches(watches)).await, Err(-121));
    client.call(Ask::SetData(set("/a/b", -1))).await.unwrap();
    assert_eq!(client.events.len(), 4);
}

#[tokio::test]
async fn set_watches_tells_what_was_missed_and_arms_the_rest() {
    let fixture = start().await;
    let mut client = fixture.connect().await;
    for path in ["/same", "/changed", "/gone", "/parent", "/quiet"] {
        client.create(path, 0).await.unwrap();
    }
    let relative_zxid = client.zxid;
    client
        .call(Ask::SetData(set("/changed", -1)))
        .await
        .unwrap();
    client
        .call(Ask::Delete(versioned("/gone", -1)))
        .await
        .unwrap();
    client.create("/parent/child", 0).await.unwrap();
    client.create("/came", 0).await.unwrap();
    let paths = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let request = SetWatchesRequest {
        relative_zxid,
        data: paths(&["/same", "/changed", "/gone"]),
        exist: paths(&["/came", "/coming"]),
        child: paths(&["/parent", "/quiet", "/gone"]),
    };
    let mut again = fixture.connect().await;
    again.call(Ask::SetWatches(request)).await.unwrap();
    let expected = [
        (NodeDataChanged, "/changed"),
        (NodeDeleted, "/gone"),
        (NodeCreated, "/came"),
        (NodeChildrenChanged, "/parent"),
        (NodeDeleted, "/gone"),
    ];
    let told: Vec<_> = again
        .events
        .iter()
        .map(|(kind, path)| (*kind, path.as_str()))
        .collect();
    assert_eq!(told, expected);
    again.events.clear();
    again.call(Ask::SetData(set("/same", -1))).await.unwrap();
    again.create("/coming", 0).await.unwrap();
    again.create("/quiet/child", 0).await.unwrap();
    let expected = [
        (NodeDataChanged, "/same".to_owned()),
        (NodeCreated, "/coming".to_owned()),
        (NodeChildrenChanged, "/quiet".to_owned()),
    ];
    assert_eq!(again.events, expected);
}

#[tokio::test]
async fn a_session_moves_only_with_its_password() {
    let fixture = start().await;
    let mut old = fixture.connect().await;
    old.create("/e", flags::EPHEMERAL).await.unwrap();
    let (id, password) = (old.session.session_id, old.session.password);
    let refused = fixture.resume(id, &[3; 16], 0).await.unwrap();
    assert_eq!(refused.session.timeout_ms, 0);
    assert_eq!(
        fixture
            .resume(id, &[3; 5], 0)
            .await
            .unwrap()
            .session
            .timeout_ms,
        0
    );
    old.call(Ask::Ping)
        .await
        .expect("a wrong password harms nobody");
    let mut new = fixture.resume(id, &password, old.zxid).await.unwrap();
    assert_eq!(new.session.session_id, id);
    assert!(old.ended().await);
    new.call(Ask::GetData(watched("/e"))).await.unwrap();
    new.create("/more", 0).await.unwrap();
    assert!(
        fixture.resume(id, &password, 1 << 60).await.is_none(),
        "we never were there"
    );
}

#[tokio::test]
async fn a_silent_session_expires_and_its_ephemerals_go() {
    let fixture = start_with(|options| {
        options.tick_time_ms = 100;
        options.min_session_timeout_ms = 200;
        options.max_session_timeout_ms = 400;
    })
    .await;
    let mut silent = fixture.connect().await;
    assert_eq!(silent.session.timeout_ms, 400);
    silent.create("/e", flags::EPHEMERAL).await.unwrap();
    let mut lively = fixture.connect().await;
    let deadline = tokio::time::Instant::now() + LIMIT;
    loop {
        match lively.call(Ask::Exists(watched("/e"))).await {
            Ok(_) => assert!(tokio::time::Instant::now() < deadline),
            Err(error) => break assert_eq!(error, -101),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(lively.events.contains(&(NodeDeleted, "/e".into())));
    assert!(silent.ended().await);
}

#[tokio::test]
async fn a_multi_fails_as_a_whole() {
    let fixture = start().await;
    let mut client = fixture.connect().await;
    client.create("/v", 0).await.unwrap();
    let steps = vec![
        MultiOp::Create(CreateKind::Create, create("/m", 0)),
        MultiOp::Check(versioned("/v", 5)),
        MultiOp::SetData(set("/v", -1)),
    ];
    let codes = [
        None,
        Some(ErrorCode::BadVersion),
        Some(ErrorCode::RuntimeInconsistency),
    ];
    let expected = codes.into_iter().map(MultiResult::Error).collect();
    assert_eq!(
        client.call(Ask::Multi(steps)).await,
        Ok(Response::Multi(expected))
    );
    let steps = vec![
        MultiOp::Create(CreateKind::Create2, create("/m", flags::EPHEMERAL)),
        MultiOp::SetData(set("/m", 0)),
        MultiOp::Check(versioned("/v", 0)),
        MultiOp::Delete(versioned("/v", 0)),
    ];
    let Ok(Response::Multi(results)) = client.call(Ask::Multi(steps)).await else {
        panic!()
    };
    let [
        MultiResult::Create(_),
        MultiResult::SetData(stat),
        MultiResult::Check,
        MultiResult::Delete,
    ] = &results[..]
    else {
        panic!("{results:?}")
    };
    assert_eq!((stat.version, stat.czxid.0), (1, client.zxid));
    assert_eq!(
        client.call(Ask::Multi(vec![])).await,
        Ok(Response::Multi(vec![]))
    );
}

#[tokio::test]
async fn garbage_ends_its_connection_and_nothing_else() {
    let fixture = start().await;
    for head in [
        i32::MIN.to_be_bytes(),
        (-1_i32).to_be_bytes(),
        0x10_0000_i32.to_be_bytes(),
        *b"GET ",
        3_i32.to_be_bytes(),
    ] {
        let mut stream = fixture.dial().await;
        stream.write_all(&head).await.unwrap();
        stream.write_all(&[0; 64]).await.unwrap();
        assert!(frame(&mut stream).await.is_none(), "{head:?}");
    }
    let mut client = fixture.connect().await;
    for length in [-5_i32, i32::MAX, 0x10_0000, 2] {
        let mut bad = fixture.connect().await;
        let mut out = BytesMut::new();
        out.put_i32(length);
        out.put_slice(&[0; 8]);
        bad.stream.write_all(&out).await.unwrap();
        assert!(bad.ended().await, "{length}");
    }
    let mut bad = fixture.connect().await;
    bad.send(&Ask::Check(versioned("/", 0))).await;
    assert!(bad.ended().await);
    client.call(Ask::Ping).await.unwrap();
}

/// Answers that ZooKeeper 3.6.2 gave to the same requests.
#[tokio::test]
async fn odd_requests_are_answered_as_zookeeper_answers_them() {
    let fixture = start().await;
    let mut client = fixture.connect().await;
    let made = |flags| Ask::Create(CreateKind::Create, create("/odd", flags));
    let watch = |mode| {
        let path = "/".into();
        Ask::AddWatch(AddWatchRequest { path, mode })
    };
    let read = MultiOp::GetData(watched("/"));
    let removal = WatchesRequest {
        path: "/".into(),
        kind: 9,
    };
    for (request, code) in [
        (made(flags::PERSISTENT_WITH_TTL), -6),
        (made(flags::PERSISTENT_SEQUENTIAL_WITH_TTL), -6),
        (made(7), -8),
        (made(-1), -8),
        (watch(2), -5),
        (Ask::RemoveWatches(removal), -5),
        (Ask::Multi(vec![read.clone()]), -5),
        (
            Ask::MultiRead(vec![read, MultiOp::Delete(versioned("/x", 0))]),
            -5,
        ),
        (Ask::Create(CreateKind::Create, create("/\u{1f980}", 0)), -8),
    ] {
        let name = format!("{request:?}");
        assert_eq!(client.call(request).await, Err(code), "{name}");
    }
    assert!(client.call(Ask::GetData(watched(""))).await.is_ok());
    let plain = Ask::Create(CreateKind::Container, create("/plain", flags::PERSISTENT));
    assert!(client.call(plain).await.is_ok());
    let steps = vec![
        MultiOp::Create(CreateKind::Create2, create("/two", 0)),
        MultiOp::Create(CreateKind::Container, create("/box", flags::CONTAINER)),
    ];
    let Ok(Response::Multi(results)) = client.call(Ask::Multi(steps)).await else {
        panic!()
    };
    assert!(matches!(
        &results[..],
        [
            MultiResult::Create(_),
            MultiResult::Create2(CreateKind::Create2, _)
        ]
    ));
    // A record that is cut off: exists without a path.
    let mut out = BytesMut::new();
    for word in [8, 77, op::EXISTS] {
        out.put_i32(word);
    }
    client.stream.write_all(&out).await.unwrap();
    assert_eq!(client.receive(op::EXISTS, 77).await, Err(-5));
    // A ping with an ordinary number.
    out.clear();
    for word in [8, 78, op::PING] {
        out.put_i32(word);
    }
    client.stream.write_all(&out).await.unwrap();
    assert!(client.receive(op::PING, XID_PING).await.is_ok());
}

#[tokio::test]
async fn words_are_answered_after_a_half_close() {
    let fixture = start_with(|options| {
        // srvr cannot be forbidden.
        options
            .four_letter_words
            .retain(|word| word != "dirs" && word != "srvr");
        let more = ["wchc", "wchp", "dump"].map(str::to_owned);
        options.four_letter_words.extend(more);
    })
    .await;
    let mut client = fixture.connect().await;
    client.create("/eph", flags::EPHEMERAL).await.unwrap();
    client.call(Ask::GetData(watched("/"))).await.unwrap();
    assert_eq!(fixture.word("ruok").await, "imok");
    assert_eq!(fixture.word("ruok\n").await, "imok");
    assert_eq!(fixture.word("isro").await, "rw");
    let refused = "dirs is not executed because it is not in the whitelist.\n";
    assert_eq!(fixture.word("dirs").await, refused);
    assert_eq!(fixture.word("xxxx").await, "");
    let refused = "gtmk is not executed because it is not in the whitelist.\n";
    assert_eq!(fixture.word("gtmk").await, refused);
    let srvr = fixture.word("srvr").await;
    let lines: Vec<_> = srvr.lines().collect();
    assert!(lines[0].starts_with("Zookeeper version: 3.6.2-"), "{srvr}");
    assert!(lines[1].starts_with("Latency min/avg/max: "), "{srvr}");
    assert!(
        lines[4] == "Connections: 2" && lines[6].starts_with("Zxid: 0x"),
        "{srvr}"
    );
    assert_eq!(lines[7..], ["Mode: standalone", "Node count: 6"], "{srvr}");
    assert!(
        fixture
            .word("stat")
            .await
            .contains("Clients:\n /127.0.0.1:")
    );
    assert!(
        fixture
            .word("mntr")
            .await
            .contains("zk_server_state\tstandalone\n")
    );
    assert!(
        fixture
            .word("conf")
            .await
            .contains("maxClientCnxns=60\nminSessionTimeout=4000\n")
    );
    assert!(fixture.word("cons").await.contains("lop=GETD,"));
    assert!(
        fixture
            .word("stat")
            .await
            .contains("[0](queued=0,recved=1,sent=0)\n"),
        "the word's own connection"
    );
    assert_eq!(fixture.word("wchs").await, WCHS_OF_ONE);
    let name = format!("{:#x}", client.session.session_id);
    assert_eq!(fixture.word("wchc").await, format!("{name}\n\t/\n\n"));
    assert_eq!(fixture.word("wchp").await, format!("/\n\t{name}\n\n"));
    let dump = fixture.word("dump").await;
    let sessions = format!("SessionTracker dump:\nGlobal Sessions(1):\n{name}\t");
    assert!(dump.starts_with(&sessions), "{dump}");
    let ephemerals = format!("Sessions with Ephemerals (1):\n{name}:\n\t/eph\n");
    assert!(dump.contains(&ephemerals), "{dump}");
    assert!(
        fixture
            .word("envi")
            .await
            .starts_with("Environment:\nzookeeper.version=")
    );
    let wchs = "1 connections watching 1 paths\nTotal watches:1\n";
    assert_eq!(fixture.word("wchs").await, wchs);
}

#[tokio::test]
async fn connections_of_one_address_are_limited() {
    let fixture = start_with(|options| options.max_client_cnxns = 2).await;
    let first = fixture.connect().await;
    let _second = fixture.connect().await;
    let mut third = fixture.dial().await;
    assert!(frame(&mut third).await.is_none());
    drop(first);
    let deadline = tokio::time::Instant::now() + LIMIT;
    loop {
        let mut stream = fixture.dial().await;
        let _ = stream.write_all(b"ruok").await;
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text).await;
        if text == "imok" {
            break;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "the place is given back"
        );
    }
}

#[tokio::test]
async fn digest_users_keep_their_nodes_to_themselves() {
    let fixture = start().await;
    let mut owner = fixture.connect().await;
    let auth = |scheme: &str| {
        Ask::Auth(AuthRequest {
            kind: 0,
            scheme: scheme.into(),
            auth: Some(Bytes::from_static(b"u:p")),
        })
    };
    owner.call(auth("digest")).await.unwrap();
    let mut secret = create("/secret", 0);
    secret.acl[0].id = Id::new("auth", "");
    owner
        .call(Ask::Create(CreateKind::Create, secret))
        .await
        .unwrap();
    let Ok(Response::Acl(reply)) = owner.call(Ask::GetAcl("/secret".into())).await else {
        panic!()
    };
    assert_eq!(
        reply.acl[0].id,
        Id::new("digest", "u:Jq7wMyA/w2Vd5WIDAKdu4OIIFEQ=")
    );
    let mut stranger = fixture.connect().await;
    assert_eq!(
        stranger.call(Ask::GetData(watched("/secret"))).await,
        Err(-102)
    );
    assert_eq!(
        stranger.call(Ask::GetAcl("/secret".into())).await,
        Err(-102)
    );
    assert!(stranger.call(Ask::Exists(watched("/secret"))).await.is_ok());
    owner.call(Ask::SetData(set("/secret", -1))).await.unwrap();
    stranger.call(Ask::Ping).await.unwrap();
    assert!(stranger.events.is_empty(), "who may not read is not told");
    assert_eq!(stranger.call(auth("kerberos")).await, Err(-115));
    assert!(stranger.ended().await);
    let mut nobody = fixture.connect().await;
    let null = Ask::Auth(AuthRequest {
        kind: 0,
        scheme: "digest".into(),
        auth: None,
    });
    assert_eq!(nobody.call(null).await, Err(-115));
    assert!(nobody.ended().await);
}

fn sasl_users(options: &mut Options) {
    let users = [("bob", "bobsecret"), ("super", "supersecret")];
    let users = users.map(|(name, password)| (name.to_owned(), password.to_owned()));
    options.auth.users = Some(auth::Users(BTreeMap::from(users)));
    options.auth.has_sasl = true;
}

impl Client {
    /// The exchange of SASL; the error that it ends in, if it does.
    async fn log_in(&mut self, user: &str, password: &str) -> Result<(), i32> {
        let first = self.call(Ask::Sasl(Some(Bytes::new()))).await?;
        let Response::Token(Some(challenge)) = first else {
            panic!("{first:?}")
        };
        let answered = digest_md5::Client::respond(&challenge, user, password, |_| {});
        let (side, token) = answered.expect("a challenge");
        match self.call(Ask::Sasl(Some(token.into()))).await? {
            Response::Token(Some(token)) => side.finish(&token).expect("it knows the password"),
            other => panic!("{other:?}"),
        }
        Ok(())
    }

    async fn create_for(&mut self, path: &str, scheme: &str, id: &str) -> Result<Response, i32> {
        let mut request = create(path, 0);
        request.acl[0].id = Id::new(scheme, id);
        self.call(Ask::Create(CreateKind::Create, request)).await
    }
}

#[tokio::test]
async fn sasl_users_keep_their_nodes_to_themselves() {
    let fixture = start_with(sasl_users).await;
    let mut bob = fixture.connect().await;
    assert_eq!(bob.create_for("/early", "auth", "").await, Err(-114));
    bob.log_in("bob", "bobsecret").await.expect("the password");
    bob.create_for("/bob", "auth", "").await.expect("proved");
    let acl = bob.call(Ask::GetAcl("/bob".into())).await;
    let Ok(Response::Acl(reply)) = acl else {
        panic!("{acl:?}")
    };
    assert_eq!(reply.acl[0].id, Id::new("sasl", "bob"));
    bob.create_for("/eve", "sasl", "eve").await.expect("legal");
    assert_eq!(bob.call(Ask::GetData(watched("/eve"))).await, Err(-102));
    assert_eq!(bob.create_for("/bad", "x509", "CN=x").await, Err(-114));
    let mut all = fixture.connect().await;
    all.log_in("super", "supersecret").await.expect("logged in");
    assert!(all.call(Ask::GetData(watched("/eve"))).await.is_ok());
    // Who fails is told so, and no more.
    let mut guesser = fixture.connect().await;
    assert_eq!(guesser.log_in("bob", "guess").await, Err(-115));
    assert!(guesser.ended().await);
    let mut nobody = fixture.connect().await;
    nobody.send(&Ask::Sasl(None)).await;
    assert!(nobody.ended().await);
}

#[tokio::test]
async fn a_server_without_sasl_answers_null_and_one_that_requires_it_nothing_else() {
    let fixture = start().await;
    let mut client = fixture.connect().await;
    for token in [&b""[..], b"username=\"bob\""] {
        let answer = client
            .call(Ask::Sasl(Some(Bytes::from_static(token))))
            .await;
        assert_eq!(answer, Ok(Response::Token(None)));
    }
    assert_eq!(client.create_for("/bob", "sasl", "bob").await, Err(-114));
    assert!(client.create("/open", 0).await.is_ok());
    let fixture = start_with(|options| {
        sasl_users(options);
        options.auth.requires_sasl = true;
    })
    .await;
    for request in [Ask::Ping, Ask::Exists(watched("/")), Ask::CloseSession] {
        let mut client = fixture.connect().await;
        assert_eq!(client.call(request).await, Err(-124));
        assert!(client.ended().await);
    }
    let mut client = fixture.connect().await;
    assert_eq!(client.log_in("bob", "guess").await, Err(-124));
    assert!(client.ended().await);
    let mut client = fixture.connect().await;
    client.log_in("bob", "bobsecret").await.expect("logged in");
    assert!(client.create("/open", 0).await.is_ok());
}

fn tls(key: &str, trust: &str) -> tls::Settings {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tls");
    let store = |name: &str| {
        (!name.is_empty()).then(|| tls::Store {
            path: dir.join(name),
            password: "changeit".to_owned(),
        })
    };
    tls::Settings {
        key_store: store(key),
        trust_store: store(trust),
        versions: vec![tls::Version::Tls12],
        cipher_suites: Vec::new(),
    }
}

async fn start_secure(client_auth: tls::ClientAuth, change: impl FnOnce(&mut Options)) -> Fixture {
    start_with(|options| {
        options.secure = Some(Secure {
            address: HostPort::new("127.0.0.1", 0),
            tls: tls("server.p12", "trust.p12"),
            client_auth,
        });
        options.auth.has_x509 = true;
        change(options);
    })
    .await
}

impl Fixture {
    async fn connect_secure(&self, key: &str) -> io::Result<Client> {
        let connector = tls::Connector::new(&RealDisk, &tls(key, "ca.pem"), true).unwrap();
        let stream = connector
            .connect("localhost", self.dial_secure().await)
            .await?;
        let client = Fixture::begin(stream, 0, &[0; 16], 0, Some(false)).await;
        client.ok_or(io::ErrorKind::UnexpectedEof.into())
    }
}

#[tokio::test]
async fn clients_with_a_certificate_keep_their_nodes_to_themselves() {
    const BOB: &str = "CN=bob,OU=a+OU=b,O=Example\\, Inc.,DC=org";
    let fixture = start_secure(tls::ClientAuth::Want, |_| {}).await;
    let mut bob = fixture.connect_secure("client.p12").await.unwrap();
    bob.create_for("/bob", "auth", "").await.expect("proved");
    let acl = bob.call(Ask::GetAcl("/bob".into())).await;
    let Ok(Response::Acl(reply)) = acl else {
        panic!("{acl:?}")
    };
    assert_eq!(reply.acl[0].id, Id::new("x509", BOB));
    bob.create_for("/eve", "x509", "CN=eve")
        .await
        .expect("legal");
    assert_eq!(bob.call(Ask::GetData(watched("/eve"))).await, Err(-102));
    // Much, and many at once, is sent whole.
    let mut long = create("/long", 0);
    long.data = Some(Bytes::from(vec![7; 700_000]));
    let long = Ask::Create(CreateKind::Create, long);
    bob.call(long).await.expect("below the limit");
    let asked = Ask::GetData(watched("/long"));
    let mut sent = Vec::new();
    for _ in 0..20 {
        sent.push(bob.send(&asked).await);
    }
    for xid in sent {
        let Ok(Response::Data(reply)) = bob.receive(asked.op(), xid).await else {
            panic!()
        };
        assert_eq!(reply.data.map(|data| data.len()), Some(700_000));
    }
    let mut nobody = fixture.connect_secure("").await.unwrap();
    assert_eq!(nobody.call(Ask::GetData(watched("/bob"))).await, Err(-102));
    assert_eq!(nobody.create_for("/x", "auth", "").await, Err(-114));
    assert!(fixture.connect_secure("own.pem").await.is_err());
    let mut plain = fixture.connect().await;
    assert_eq!(plain.call(Ask::GetData(watched("/bob"))).await, Err(-102));
    let secure = fixture.coordinator.secure_address().unwrap().port();
    let conf = fixture.word("conf").await;
    assert!(
        conf.contains(&format!("\nsecureClientPort={secure}\n")),
        "{conf}"
    );
    drop((bob, nobody, plain));
    assert!(fixture.coordinator.shutdown().await);
    let fixture = start_secure(tls::ClientAuth::Need, |options| {
        options.auth.x509_super = Some(BOB.to_owned());
    })
    .await;
    let mut bob = fixture.connect_secure("client.pem").await.unwrap();
    bob.create_for("/eve", "x509", "CN=eve")
        .await
        .expect("legal");
    assert!(bob.call(Ask::GetData(watched("/eve"))).await.is_ok());
    assert!(fixture.connect_secure("").await.is_err());
}

/// What is no handshake ends the connection, and nothing else; its place is given back.
#[tokio::test]
async fn garbage_on_the_secure_port_holds_nothing() {
    let fixture = start_secure(tls::ClientAuth::None, |options| {
        options.max_client_cnxns = 2;
    })
    .await;
    let mut hello = vec![0x16, 3, 1, 0xff, 0xff, 1, 0, 0xff, 0xfb];
    hello.resize(70_000, 0);
    for bytes in [
        &b"ruok"[..],
        b"GET / HTTP/1.1\r\n\r\n",
        &[0, 0, 0, 45],
        &[0xff; 300],
        &hello,
    ] {
        let mut stream = fixture.dial_secure().await;
        // The other end may be gone before all of it is taken.
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        let _ = tokio::time::timeout(LIMIT, read)
            .await
            .expect("it is closed");
        assert!(!answer.starts_with(b"imok"), "{bytes:?}");
    }
    // Two that say nothing have both places, until they are gone.
    let silent = [fixture.dial_secure().await, fixture.dial_secure().await];
    let deadline = tokio::time::Instant::now() + LIMIT;
    while fixture.connect_secure("").await.is_ok() {
        assert!(tokio::time::Instant::now() < deadline, "they count");
    }
    drop(silent);
    while fixture.connect_secure("").await.is_err() {
        assert!(
            tokio::time::Instant::now() < deadline,
            "the place is given back"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // A plain client on the port behind TLS, and the other way round.
    let mut plain = fixture.dial().await;
    plain.write_all(&[0x16, 3, 1, 0, 5]).await.unwrap();
    assert!(frame(&mut plain).await.is_none());
}

#[tokio::test]
async fn a_busy_port_is_one_clear_error() {
    let fixture = start().await;
    let taken = fixture.coordinator.client_address().port();
    let options = Options::standalone(PathBuf::new(), HostPort::new("127.0.0.1", taken));
    let world = World {
        disk: Arc::new(RealDisk),
        clock: Clock::real(),
        rng: Rng::from_os(),
        tasks: Tasks::new(Shutdown::new()),
    };
    let error = Coordinator::start(options, world)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains(&format!("127.0.0.1:{taken}")), "{error}");
}

#[test]
fn an_outbox_that_nobody_empties_is_closed() {
    let outbox = Outbox::default();
    let mut one = BytesMut::new();
    put_event(&mut one, NodeCreated, "/a");
    for _ in 0..(20 << 20) / one.len() {
        outbox.event(NodeCreated, "/a");
    }
    assert!(outbox.is_closed());
    assert!(outbox.unsent() < 9 << 20);
}

/// A pipelined read sees what was written before it and nothing that was written after it.
#[tokio::test]
async fn a_read_does_not_see_later_writes_of_its_connection() {
    let fixture = start().await;
    let mut client = fixture.connect().await;
    for _ in 0..20 {
        let line = [
            Ask::Create(CreateKind::Create, create("/a", 0)),
            Ask::SetData(set("/a", 0)),
            Ask::Exists(watched("/b")),
            Ask::GetData(watched("/a")),
            Ask::SetData(set("/a", 1)),
            Ask::Delete(versioned("/a", 2)),
            Ask::GetChildren2(watched("/")),
        ];
        let mut xids = Vec::new();
        for request in &line {
            xids.push(client.send(request).await);
        }
        for (request, xid) in line.iter().zip(xids) {
            match client.receive(request.op(), xid).await {
                Ok(Response::Data(reply)) => assert_eq!(reply.stat.version, 1),
                Ok(Response::Children2(reply)) => assert_eq!(reply.children, ["zookeeper"]),
                Err(error) => assert_eq!((error, request.op()), (-101, op::EXISTS)),
                Ok(_) => {}
            }
        }
    }
}

/// Floods of long requests, and of requests for long replies, from clients that read nothing: what they
/// have in memory is bounded, and others go on.
#[tokio::test]
#[allow(clippy::disallowed_methods, reason = "the test's own clients")]
async fn who_never_reads_has_a_bounded_number_of_bytes_waiting() {
    const LONG: usize = 900_000;
    const FLOODS: usize = 12;
    // Whoever is quiet here while others flood is not to lose its session for that.
    let fixture = start_with(|options| options.min_session_timeout_ms = 40_000).await;
    let server = fixture.coordinator.server();
    let mut polite = fixture.connect().await;
    polite.create("/big", 0).await.unwrap();
    let long = Ask::SetData(SetDataRequest {
        path: "/big".into(),
        data: Some(Bytes::from(vec![7; LONG])),
        version: -1,
    });
    let mut floods = Vec::new();
    for _ in 0..FLOODS {
        let mut client = fixture.connect().await;
        let long = long.clone();
        floods.push(tokio::spawn(async move {
            for _ in 0..4 {
                client.send(&long).await;
            }
            client
        }));
    }
    let mut most = (0, 0);
    let waits = || server.stats.outstanding.load(Relaxed) > 0;
    while waits() || !floods.iter().all(|flood| flood.is_finished()) {
        let outstanding = server.stats.outstanding.load(Relaxed);
        let bytes = server.rooms.request_bytes();
        most = (most.0.max(outstanding), most.1.max(bytes));
        polite.call(Ask::Ping).await.unwrap();
    }
    // A second one begins before the limit is reached.
    assert!(most.0 <= 2 * FLOODS as i64 + 1, "{most:?} waited");
    assert!(most.1 > LONG && most.1 <= 16 << 20, "{most:?} waited");
    let mut deaf = Vec::new();
    for flood in floods {
        let mut client = flood.await.unwrap();
        for _ in 0..30 {
            client.send(&Ask::GetData(watched("/big"))).await;
        }
        deaf.push(client);
    }
    let deadline = tokio::time::Instant::now() + LIMIT;
    while server.rooms.replies.held() < 8 * LONG {
        assert!(tokio::time::Instant::now() < deadline, "replies wait");
        polite.call(Ask::Ping).await.unwrap();
    }
    // There is no room left until one that takes nothing is cut off for it.
    match polite.call(Ask::GetData(watched("/big"))).await {
        Ok(Response::Data(reply)) => assert_eq!(reply.data.map(|data| data.len()), Some(LONG)),
        other => panic!("{other:?}"),
    }
    drop(deaf);
    while server.rooms.replies.held() > 0 || server.rooms.request_bytes() > 0 {
        assert!(tokio::time::Instant::now() < deadline, "it is given back");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A reply that one request may multiply at will is refused.
#[tokio::test]
async fn a_multi_read_of_one_long_node_many_times_is_refused() {
    let fixture = start().await;
    let mut client = fixture.connect().await;
    client.create("/big", 0).await.unwrap();
    let data = Some(Bytes::from(vec![7; 900_000]));
    let (path, version) = ("/big".to_owned(), -1);
    let set = SetDataRequest {
        path,
        data,
        version,
    };
    client.call(Ask::SetData(set)).await.unwrap();
    let unwatched = || {
        MultiOp::GetData(WatchedPath {
            path: "/big".into(),
            watch: false,
        })
    };
    for (steps, answer) in [(3, Ok(())), (1000, Err(-1))] {
        let steps = (0..steps).map(|_| unwatched()).collect();
        let got = client.call(Ask::MultiRead(steps)).await;
        assert_eq!(got.map(drop), answer);
    }
}

/// Sessions, watches and order across members; then the leader goes.
#[tokio::test]
async fn three_members_are_one_server() {
    let mut members = start_three().await;
    let leader = members
        .iter()
        .position(Fixture::leads)
        .expect("somebody leads");
    let gone = members.remove(leader);
    let [one, two] = &members[..] else { panic!() };
    let (mut a, mut b) = (one.connect().await, two.connect().await);
    assert_eq!(a.call(Ask::Exists(watched("/e"))).await, Err(-101));
    b.create("/e", flags::EPHEMERAL).await.unwrap();
    a.call(Ask::Sync("/".into())).await.unwrap();
    let Ok(Response::Data(reply)) = a.call(Ask::GetData(watched("/e"))).await else {
        panic!()
    };
    assert_eq!(a.events, [(NodeCreated, "/e".to_owned())]);
    assert_eq!(reply.stat.ephemeral_owner.0, b.session.session_id);
    let config = a.call(Ask::GetData(watched("/zookeeper/config"))).await;
    let Ok(Response::Data(config)) = config else {
        panic!()
    };
    assert!(
        config
            .data
            .unwrap()
            .ends_with(b":3888:participant\nversion=0")
    );

    // The session moves to another member; its former connection may no longer write.
    let (id, password) = (b.session.session_id, b.session.password);
    let mut moved = one.resume(id, &password, b.zxid).await.unwrap();
    assert_eq!(moved.session.session_id, id);
    b.send(&Ask::SetData(set("/e", -1))).await;
    assert!(b.ended().await, "a refused write ends the connection");
    moved.call(Ask::SetData(set("/e", 0))).await.unwrap();

    assert!(gone.word("mntr").await.contains("zk_quorum_size\t3\n"));
    assert!(gone.coordinator.shutdown().await);
    // An election is short: whoever is connected stays so, and the write waits for the new leader.
    moved.call(Ask::SetData(set("/e", 1))).await.unwrap();
    let deadline = tokio::time::Instant::now() + LIMIT;
    let mut again = loop {
        if let Some(client) = two.resume(id, &password, moved.zxid).await {
            break client;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "a member without a leader refuses"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(
        again.session.session_id, id,
        "the session outlives the leader"
    );
    again.call(Ask::SetData(set("/e", 2))).await.unwrap();

    // Nobody hears from it any more; a pinged session lives on.
    let mut lively = one.connect().await;
    let deadline = tokio::time::Instant::now() + LIMIT;
    while lively.call(Ask::Exists(watched("/e"))).await.is_ok() {
        assert!(tokio::time::Instant::now() < deadline, "it never expires");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(again.ended().await);
    lively.call(Ask::Sync("/".into())).await.unwrap();
    for member in members {
        assert!(member.coordinator.shutdown().await);
    }
}
