use tokio::io::AsyncWriteExt;

use super::*;
use crate::common::frame::read_frame;
use crate::common::net::{self, TcpListener, TcpStream};
use crate::common::rng::Rng;
use crate::common::tasks::Tasks;
use crate::zookeeper::jute::{Jute, put_frame};
use crate::zookeeper::message::{
    ConnectRequest, ConnectResponse, DataReply, RequestHeader, put_event, put_reply,
};

/// How long anything may take before a test gives up.
const LIMIT: Duration = Duration::from_secs(60);

/// The server's side of one connection, spoken by the test line by line.
struct Peer(TcpStream);

impl Peer {
    async fn accept(listener: &TcpListener, grant: (i64, i32)) -> (Peer, ConnectRequest) {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut frame = read_frame(&mut stream, 1 << 20).await.unwrap().unwrap();
        let asked = ConnectRequest::decode(&mut frame).unwrap();
        let response = ConnectResponse {
            timeout_ms: grant.1,
            session_id: grant.0,
            password: [7; 16],
            read_only: Some(false),
            ..ConnectResponse::default()
        };
        let mut out = bytes::BytesMut::new();
        put_frame(&mut out, |out| response.encode(out));
        stream.write_all(&out).await.unwrap();
        (Peer(stream), asked)
    }

    async fn hear(&mut self) -> (i32, Request) {
        let mut frame = read_frame(&mut self.0, 1 << 20).await.unwrap().unwrap();
        let header = RequestHeader::decode(&mut frame).unwrap();
        (header.xid, Request::decode(header.op, &mut frame).unwrap())
    }

    async fn say(&mut self, fill: impl FnOnce(&mut bytes::BytesMut)) {
        let mut out = bytes::BytesMut::new();
        fill(&mut out);
        self.0.write_all(&out).await.unwrap();
    }
}

fn world() -> World {
    World {
        clock: Clock::real(),
        rng: Rng::from_seed(1),
        tasks: Tasks::new(Shutdown::new()),
    }
}

async fn listen() -> (TcpListener, HostPort) {
    let listener = net::bind(&HostPort::new("127.0.0.1", 0)).await.unwrap();
    let port = net::local_address(&listener).unwrap().port();
    (listener, HostPort::new("127.0.0.1", port))
}

fn options(server: HostPort, chroot: &str) -> Options {
    Options {
        servers: vec![server],
        chroot: chroot.to_owned(),
        session_timeout: Duration::from_secs(6),
        connection_timeout: Some(LIMIT),
    }
}

fn read_of(request: &Request) -> &str {
    match request {
        Request::GetData(record) => &record.path,
        other => panic!("{other:?} is no getData"),
    }
}

#[tokio::test]
async fn requests_are_pipelined_and_events_come_before_the_answers_behind_them() {
    let (listener, server) = listen().await;
    let world = world();
    let (zookeeper, mut events) = ZooKeeper::start(options(server, "/k"), &world);
    let (mut peer, asked) = Peer::accept(&listener, (5, 6000)).await;
    assert_eq!((asked.session_id, asked.timeout_ms), (0, 6000));
    assert_eq!(zookeeper.connected().await, Ok(SessionId(5)));

    let paths = ["/a".to_owned(), "/b".to_owned()];
    let talk = async {
        let first = peer.hear().await;
        // The second is here before the first was answered.
        let second = peer.hear().await;
        assert_eq!((read_of(&first.1), read_of(&second.1)), ("/k/a", "/k/b"));
        let reply = Response::Data(DataReply {
            data: Some("x".into()),
            stat: Stat::default(),
        });
        peer.say(|out| {
            put_event(out, EventType::NodeDataChanged, "/k/a");
            put_reply(out, first.0, 9, &Ok(reply));
            put_reply(out, second.0, 9, &Err(ErrorCode::NoNode));
        })
        .await;
    };
    let (answers, ()) = tokio::join!(zookeeper.get_all(&paths), talk);
    assert_eq!(answers[0].as_ref().unwrap().0, "x");
    assert_eq!(answers[1], Err(Error::Code(ErrorCode::NoNode)));
    assert_eq!(events.ready(), Some(Event::Connected(SessionId(5))));
    let changed = Event::Node(EventType::NodeDataChanged, "/a".into());
    assert_eq!(events.ready(), Some(changed));
    assert_eq!(events.ready(), None);
    assert!(world.tasks.stop(LIMIT).await);
}

#[tokio::test]
async fn a_lost_connection_is_dialled_again_and_an_expired_session_replaced() {
    let (listener, server) = listen().await;
    let world = world();
    let (zookeeper, mut events) = ZooKeeper::start(options(server, ""), &world);
    let (mut peer, _) = Peer::accept(&listener, (5, 6000)).await;
    let cut = async {
        let (xid, _) = peer.hear().await;
        peer.say(|out| put_reply(out, xid, 33, &Err(ErrorCode::NoNode)))
            .await;
        let _ = peer.hear().await;
        drop(peer);
    };
    let calls = async {
        assert!(zookeeper.get("/a").await.unwrap_err().is(ErrorCode::NoNode));
        zookeeper.get("/b").await
    };
    let (lost, ()) = tokio::join!(calls, cut);
    assert_eq!(lost, Err(Error::ConnectionLoss));

    // Within the session, and never back in time.
    let (peer, asked) = Peer::accept(&listener, (5, 6000)).await;
    assert_eq!((asked.session_id, asked.last_zxid_seen), (5, 33));
    assert_eq!(asked.password.as_deref(), Some(&[7; 16][..]));
    drop(peer);
    // Expired: the server answers 0, the client starts anew.
    let (_peer, _) = Peer::accept(&listener, (0, 0)).await;
    let (mut peer, asked) = Peer::accept(&listener, (6, 6000)).await;
    assert_eq!((asked.session_id, asked.last_zxid_seen), (0, 33));
    for session in [5, 5, 6] {
        assert_eq!(
            events.next().await,
            Some(Event::Connected(SessionId(session)))
        );
    }
    // A close is told to the server, and ends the stream of events.
    let farewell = async {
        let (xid, request) = peer.hear().await;
        assert_eq!(request, Request::CloseSession);
        peer.say(|out| put_reply(out, xid, 34, &Ok(Response::Nothing)))
            .await;
    };
    tokio::join!(zookeeper.close(), farewell);
    assert_eq!(events.next().await, None);
    assert_eq!(zookeeper.get("/").await, Err(Error::Closed));
    assert!(world.tasks.stop(LIMIT).await);
}

#[tokio::test]
async fn a_multi_names_the_step_that_failed() {
    let results = |codes: &[i32]| {
        let results = codes
            .iter()
            .map(|code| MultiResult::Error(ErrorCode::from_code(*code)));
        Ok(Response::Multi(results.collect()))
    };
    // The example of the protocol: create, check with a bad version, setData.
    let failed = MultiError {
        step: 1,
        error: Error::Code(ErrorCode::BadVersion),
    };
    assert_eq!(multi(results(&[0, -103, -2])), Err(failed));
    let stat = Stat {
        version: 3,
        ..Stat::default()
    };
    let done = vec![MultiResult::Check, MultiResult::SetData(stat)];
    assert_eq!(multi(Ok(Response::Multi(done))), Ok(vec![stat]));
    assert_eq!(
        multi(Ok(Response::Nothing)).unwrap_err().error,
        Error::Malformed
    );
}

#[tokio::test]
async fn nobody_there_is_said_after_the_time_given() {
    let (listener, server) = listen().await;
    drop(listener);
    let world = world();
    let mut options = options(server.clone(), "");
    options.connection_timeout = Some(Duration::from_millis(50));
    let error = ZooKeeper::connect(options, &world).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains(&server.to_string()) && text.contains("refused"),
        "{text}"
    );
    assert!(world.tasks.stop(LIMIT).await);
}
