//! Sessions of ZooKeeper's clients at work, written down as a history for `check::znodes`. The client is one of
//! its own, on the bare protocol: the judge wants the zxid of every answer and the place of every event.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tripod::common::frame::read_frame;
use tripod::common::net::{self, HostPort, TcpStream};
use tripod::common::rng::Rng;
use tripod::common::shutdown::Shutdown;
use tripod::zookeeper::acl::Acl;
use tripod::zookeeper::error::ErrorCode;
use tripod::zookeeper::jute::{Jute, put_frame};
use tripod::zookeeper::message::{
    ConnectRequest, ConnectResponse, CreateKind, CreateRequest, PASSWORD_BYTES, ReplyHeader,
    Request, Response, SetDataRequest, SetWatchesRequest, WatchedPath, WatcherEvent, XID_EVENT,
    XID_SET_WATCHES, flags,
};

use crate::check::znodes::{Answer, Event, Op, What};
use crate::nodes::wait_until;

/// What a client asks for; the ensemble may grant more.
const TIMEOUT_MS: i32 = 6_000;
/// When a client gives a member up that says nothing.
const PATIENCE: Duration = Duration::from_millis(2_000);
const FRAME_MAX: usize = 4 << 20;
pub const REGISTERS: u64 = 3;

/// The history as it grows.
#[derive(Clone)]
pub struct Recorder {
    began: Instant,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Recorder {
    pub fn note(&self, who: &str, what: What) {
        let p = who.to_owned();
        // The order of the lines is that of their times.
        let mut events = self.events.lock().expect("no panic");
        let t = u64::try_from(self.began.elapsed().as_nanos()).expect("a short run");
        events.push(Event { t, p, what });
    }

    pub fn events(&self) -> Vec<Event> {
        self.events.lock().expect("no panic").clone()
    }

    fn sets(&self) -> usize {
        let events = self.events.lock().expect("no panic");
        let set = |event: &&Event| {
            matches!(
                &event.what,
                What::Return {
                    answer: Answer::Set { .. },
                    ..
                }
            )
        };
        events.iter().filter(set).count()
    }
}

/// The session is over, by the ensemble's word.
#[derive(Debug)]
struct Expired;

/// One session.
struct Session {
    name: String,
    recorder: Recorder,
    servers: Vec<HostPort>,
    next: usize,
    id: i64,
    password: [u8; PASSWORD_BYTES],
    zxid: i64,
    calls: u64,
    watched: BTreeSet<String>,
    stream: Option<TcpStream>,
}

impl Session {
    async fn begin(
        name: String,
        recorder: Recorder,
        servers: Vec<HostPort>,
        first: usize,
    ) -> Session {
        let mut session = Session {
            name,
            recorder,
            servers,
            next: first,
            id: 0,
            password: [0; PASSWORD_BYTES],
            zxid: 0,
            calls: 0,
            watched: BTreeSet::new(),
            stream: None,
        };
        session.connect().await.expect("a new session");
        session
    }

    /// Dials one member after the other until one takes the session.
    async fn connect(&mut self) -> Result<(), Expired> {
        while self.stream.is_none() {
            let server = self.servers[self.next % self.servers.len()].clone();
            self.next += 1;
            match timeout(PATIENCE, self.attempt(&server)).await {
                Ok(Some(stream)) => self.stream = Some(stream?),
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
        Ok(())
    }

    /// None: this member does not serve.
    async fn attempt(&mut self, server: &HostPort) -> Option<Result<TcpStream, Expired>> {
        let mut stream = net::connect(server, PATIENCE).await.ok()?;
        let hello = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: self.zxid,
            timeout_ms: TIMEOUT_MS,
            session_id: self.id,
            password: Some(Bytes::copy_from_slice(&self.password)),
            read_only: Some(false),
        };
        let mut out = BytesMut::new();
        put_frame(&mut out, |out| hello.encode(out));
        stream.write_all(&out).await.ok()?;
        let mut answer = read_frame(&mut stream, FRAME_MAX).await.ok()??;
        let answer = ConnectResponse::decode(&mut answer).expect("a handshake");
        if answer.timeout_ms <= 0 {
            return (self.id != 0).then_some(Err(Expired));
        }
        if self.id == 0 {
            let timeout_ms = u64::try_from(answer.timeout_ms).expect("positive");
            self.recorder.note(&self.name, What::Begin { timeout_ms });
        }
        (self.id, self.password) = (answer.session_id, answer.password);
        if self.watched.is_empty() {
            return Some(Ok(stream));
        }
        let watches = Request::SetWatches(SetWatchesRequest {
            relative_zxid: self.zxid,
            data: self.watched.iter().cloned().collect(),
            exist: Vec::new(),
            child: Vec::new(),
        });
        let mut out = BytesMut::new();
        watches.put(&mut out, XID_SET_WATCHES);
        stream.write_all(&out).await.ok()?;
        self.read(&mut stream, XID_SET_WATCHES).await?;
        Some(Ok(stream))
    }

    /// Reads up to the answer to `xid`, and notes the events before it; none when the connection breaks.
    async fn read(&mut self, stream: &mut TcpStream, xid: i32) -> Option<(ReplyHeader, Bytes)> {
        loop {
            let mut frame = read_frame(stream, FRAME_MAX).await.ok()??;
            let header = ReplyHeader::decode(&mut frame).expect("a header");
            if header.xid == XID_EVENT {
                let path = WatcherEvent::decode(&mut frame).expect("an event").path;
                self.watched.remove(&path);
                self.recorder.note(&self.name, What::Event { path });
                continue;
            }
            self.zxid = self.zxid.max(header.zxid);
            assert_eq!(header.xid, xid, "an answer to something else");
            return Some((header, frame));
        }
    }

    /// One call, noted; none when nothing is known of how it went.
    async fn call(&mut self, op: Op) -> Result<Option<Answer>, Expired> {
        self.calls += 1;
        let n = self.calls;
        self.connect().await?;
        self.recorder
            .note(&self.name, What::Call { n, op: op.clone() });
        let mut stream = self.stream.take().expect("connected");
        let request = request(&op);
        let xid = i32::try_from(n).expect("few");
        let mut out = BytesMut::new();
        request.put(&mut out, xid);
        let asked = async {
            stream.write_all(&out).await.ok()?;
            self.read(&mut stream, xid).await
        };
        let Ok(Some((header, mut frame))) = timeout(PATIENCE, asked).await else {
            return Ok(None);
        };
        self.stream = Some(stream);
        let answer = match ErrorCode::from_code(header.err) {
            None => answer(
                &op,
                Response::decode(request.op(), &mut frame).expect("an answer"),
            ),
            Some(ErrorCode::BadVersion) => Answer::BadVersion,
            Some(ErrorCode::SessionExpired) => return Err(Expired),
            Some(other) => panic!("{}: {op:?}: {other}", self.name),
        };
        if let Op::Get { path, watch: true } = &op {
            self.watched.insert(path.clone());
        }
        let told = answer.clone();
        let zxid = header.zxid;
        self.recorder.note(
            &self.name,
            What::Return {
                n,
                zxid,
                answer: told,
            },
        );
        Ok(Some(answer))
    }
}

fn create(path: &str, flags: i32) -> Request {
    let (path, acl) = (path.to_owned(), Acl::open());
    let record = CreateRequest {
        path,
        data: Some(Bytes::new()),
        acl,
        flags,
    };
    Request::Create(CreateKind::Create, record)
}

fn request(op: &Op) -> Request {
    match op {
        Op::Set {
            path,
            value,
            version,
        } => Request::SetData(SetDataRequest {
            path: path.clone(),
            data: Some(Bytes::from(value.clone())),
            version: *version,
        }),
        Op::Get { path, watch } => {
            let (path, watch) = (path.clone(), *watch);
            Request::GetData(WatchedPath { path, watch })
        }
        Op::Sequence { path } => create(path, flags::PERSISTENT_SEQUENTIAL),
        Op::Ephemeral { path } => create(path, flags::EPHEMERAL),
        Op::List { path } => {
            let (path, watch) = (path.clone(), false);
            Request::GetChildren(WatchedPath { path, watch })
        }
        Op::Sync => Request::Sync("/".to_owned()),
        Op::Close => Request::CloseSession,
    }
}

fn answer(op: &Op, response: Response) -> Answer {
    match (op, response) {
        (Op::Set { .. }, Response::Stat(stat)) => Answer::Set {
            version: stat.version,
            mzxid: stat.mzxid.0,
        },
        (Op::Get { .. }, Response::Data(found)) => Answer::Value {
            value: String::from_utf8(found.data.unwrap_or_default().to_vec()).expect("text"),
            version: found.stat.version,
            mzxid: found.stat.mzxid.0,
        },
        (Op::Sequence { .. } | Op::Ephemeral { .. }, Response::Path(path)) => {
            Answer::Created { path }
        }
        (Op::List { path }, Response::Children(names)) => {
            let paths = names.iter().map(|name| format!("{path}/{name}"));
            Answer::Names {
                paths: paths.collect(),
            }
        }
        (Op::Sync | Op::Close, _) => Answer::Done,
        (op, other) => panic!("{op:?} is answered with {other:?}"),
    }
}

fn register(rng: &Rng) -> String {
    format!("/chaos/r{}", rng.below(REGISTERS))
}

/// Sessions one after the other, each for a while; some are closed, some left to expire.
async fn client(who: String, recorder: Recorder, servers: Vec<HostPort>, rng: Rng, stop: Shutdown) {
    let mut serial = 0_u64;
    while !stop.is_stopping() {
        serial += 1;
        let first = usize::try_from(rng.below(3)).expect("small");
        let name = format!("{who}.{serial}");
        let mut session =
            Session::begin(name.clone(), recorder.clone(), servers.clone(), first).await;
        let mut ephemerals = 0;
        let (mut version, mut n) = (0, 0_u64);
        loop {
            n += 1;
            let value = format!("{name}-{n}");
            let over = stop.is_stopping() || rng.below(400) == 0;
            let op = match rng.below(20) {
                _ if over => Op::Close,
                0..6 => Op::Set {
                    path: register(&rng),
                    value,
                    version: -1,
                },
                6..9 => Op::Set {
                    path: "/chaos/r0".to_owned(),
                    value,
                    version,
                },
                9..15 => Op::Get {
                    path: register(&rng),
                    watch: rng.below(2) == 0,
                },
                15 => Op::Sequence {
                    path: "/chaos/s/n-".to_owned(),
                },
                16 => Op::Sync,
                17 if ephemerals < 4 => {
                    ephemerals += 1;
                    Op::Ephemeral {
                        path: format!("/chaos/e/{value}"),
                    }
                }
                _ => Op::List {
                    path: "/chaos/e".to_owned(),
                },
            };
            // Silence is another way to end.
            if over && !stop.is_stopping() && rng.below(2) == 0 {
                break;
            }
            let path = match &op {
                Op::Set { path, .. } | Op::Get { path, .. } => path.clone(),
                _ => String::new(),
            };
            match session.call(op).await {
                Err(Expired) => break,
                Ok(Some(Answer::Set { version: now, .. } | Answer::Value { version: now, .. }))
                    if path == "/chaos/r0" =>
                {
                    version = now
                }
                Ok(_) => {}
            }
            if over {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1 + rng.below(4))).await;
        }
    }
}

/// Clients at work.
pub struct Sessions {
    pub recorder: Recorder,
    servers: Vec<HostPort>,
    stop: Shutdown,
    clients: JoinSet<()>,
}

impl Sessions {
    /// Makes the nodes, and begins.
    pub async fn start(servers: Vec<HostPort>, clients: u64, rng: &Rng) -> Sessions {
        let recorder = Recorder {
            began: Instant::now(),
            events: Arc::default(),
        };
        let mut sessions = Sessions {
            recorder,
            servers,
            stop: Shutdown::new(),
            clients: JoinSet::new(),
        };
        let registers = (0..REGISTERS).map(|n| format!("/chaos/r{n}"));
        let fixed = ["/chaos", "/chaos/s", "/chaos/e"].map(str::to_owned);
        let mut out = BytesMut::new();
        for (path, xid) in fixed.into_iter().chain(registers).zip(1..) {
            create(&path, flags::PERSISTENT).put(&mut out, xid);
        }
        let recorder = sessions.recorder.clone();
        let mut first =
            Session::begin("first".to_owned(), recorder, sessions.servers.clone(), 0).await;
        let mut stream = first.stream.take().expect("connected");
        stream.write_all(&out).await.expect("written");
        for xid in 1..=i32::try_from(3 + REGISTERS).expect("few") {
            let (header, _) = first.read(&mut stream, xid).await.expect("answered");
            assert_eq!(header.err, 0, "made");
        }
        for client_number in 0..clients {
            let who = format!("client-{client_number}");
            let (recorder, servers) = (sessions.recorder.clone(), sessions.servers.clone());
            let (rng, stop) = (rng.fork(&who), sessions.stop.clone());
            sessions
                .clients
                .spawn(client(who, recorder, servers, rng, stop));
        }
        sessions.goes_on().await;
        sessions
    }

    /// Waits until more was written.
    pub async fn goes_on(&self) {
        let before = self.recorder.sets();
        wait_until("more is written", async || {
            self.recorder.sets() > before + 10
        })
        .await;
    }

    pub fn fault(&self, what: &str) {
        let what = what.to_owned();
        self.recorder.note("test", What::Fault { what });
    }

    /// Ends the load.
    pub async fn finish(&mut self) {
        self.stop.stop();
        while let Some(ended) = self.clients.join_next().await {
            ended.expect("no panic");
        }
    }

    /// Waits until the ephemerals of all sessions are gone: some were closed, the others have to expire.
    pub async fn all_expire(&self) {
        let (servers, recorder) = (self.servers.clone(), self.recorder.clone());
        let mut session = Session::begin("last".to_owned(), recorder, servers, 0).await;
        wait_until("all sessions expire", async || {
            let synced = session.call(Op::Sync).await.expect("a session");
            let path = "/chaos/e".to_owned();
            let listed = session.call(Op::List { path }).await.expect("a session");
            let empty = |answer| matches!(answer, Answer::Names { paths } if paths.is_empty());
            synced.is_some() && listed.is_some_and(empty)
        })
        .await;
    }

    /// Notes every register as each member holds it.
    pub async fn look(&self, pass: u32) {
        for (member, server) in (1..).zip(&self.servers) {
            let name = format!("look-{pass}-{member}");
            let servers = vec![server.clone()];
            let mut session = Session::begin(name, self.recorder.clone(), servers, 0).await;
            for n in 0..REGISTERS {
                let path = format!("/chaos/r{n}");
                let mut found = None;
                while found.is_none() {
                    let synced = session.call(Op::Sync).await.expect("a session");
                    let watch = false;
                    let op = Op::Get {
                        path: path.clone(),
                        watch,
                    };
                    found = match synced {
                        Some(_) => session.call(op).await.expect("a session"),
                        None => None,
                    };
                }
                let Some(Answer::Value {
                    value,
                    version,
                    mzxid,
                }) = found
                else {
                    panic!("{found:?}");
                };
                let what = What::Final {
                    path,
                    value,
                    version,
                    mzxid,
                    member,
                    pass,
                };
                self.recorder.note("test", what);
            }
        }
    }
}
