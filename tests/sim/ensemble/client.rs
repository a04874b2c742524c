//! A client of the ensemble: nodes of its own, nodes that all share, and what it must find there.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tripod::client::World;
use tripod::client::zookeeper::{Error, Mode, Op, Options, ZooKeeper};
use tripod::common::clock::Clock;
use tripod::common::ids::SessionId;
use tripod::common::net::HostPort;
use tripod::common::rng::Rng;
use tripod::common::shutdown::Shutdown;
use tripod::common::tasks::Tasks;
use tripod::zookeeper::error::ErrorCode;
use tripod::zookeeper::stat::Stat;

use super::{CLIENT_PORT, MEMBERS, Phase, Shared, lock, name};
use crate::invariants::acknowledged_writes_stay::Owned;
use crate::invariants::session_never_goes_back::Seen;
use crate::invariants::zxid_is_the_order::{self, Write};
use crate::machines;

const SESSION: Duration = Duration::from_secs(4);
/// Nodes of its own that a client has.
const OWN_NODES: u64 = 6;
/// Nodes that every client writes.
const SHARED_NODES: u64 = 2;
/// Two nodes that are only written together.
const PAIR: [&str; 2] = ["/pair-a", "/pair-b"];
/// Ephemeral nodes whose session nobody closed are gone after this.
const EXPIRED_MS: i64 = 20_000;

/// Runs until the end of the simulation.
pub async fn run(number: u32, rng: Rng, shared: Arc<Shared>) -> turmoil::Result {
    let mut client = Client {
        number,
        rng: rng.fork("choices"),
        world_rng: rng,
        clock: machines::clock(),
        shared,
        owned: Owned::default(),
        ephemerals: Vec::new(),
        serial: 0,
        last_sequence: None,
    };
    let mut read_back = 0;
    loop {
        match client.shared.phase() {
            Phase::Working => client.live().await,
            Phase::ReadingBack(round) if round > read_back => {
                read_back = round;
                client.read_back().await;
                client.shared.done.fetch_add(1, Ordering::Relaxed);
            }
            Phase::ReadingBack(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            Phase::Over => {
                client.shared.done.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
        }
    }
}

/// An ephemeral node, and the sessions of which one made it.
#[derive(Clone, Debug)]
struct Ephemeral {
    path: String,
    sessions: Vec<SessionId>,
    /// It was acknowledged.
    certain: bool,
}

struct Client {
    number: u32,
    rng: Rng,
    world_rng: Rng,
    clock: Clock,
    shared: Arc<Shared>,
    /// What its own nodes may hold.
    owned: Owned,
    ephemerals: Vec<Ephemeral>,
    serial: u64,
    last_sequence: Option<u64>,
}

/// One handle, from its start to its end.
struct Handle {
    zookeeper: Arc<ZooKeeper>,
    tasks: Tasks,
    seen: Seen,
    /// The session that was there last, and when it was last confirmed.
    last: Option<(SessionId, i64)>,
}

impl Handle {
    /// Waits for what is on its way; the session ends, or is left to expire.
    async fn close(self, leaves: bool) {
        if leaves {
            self.zookeeper.leave().await;
        } else {
            self.zookeeper.close().await;
        }
        self.tasks.stop(Duration::from_secs(5)).await;
    }
}

impl Client {
    fn open(&self) -> Handle {
        let tasks = Tasks::new(Shutdown::new());
        let servers = (0..MEMBERS).map(|member| HostPort::new(name(member), CLIENT_PORT));
        let options = Options {
            servers: servers.collect(),
            chroot: String::new(),
            session_timeout: SESSION,
            connection_timeout: None,
        };
        let world = World {
            clock: self.clock.clone(),
            rng: self.world_rng.fork("handle"),
            tasks: tasks.clone(),
        };
        let (zookeeper, mut events) = ZooKeeper::start(options, &world);
        // Nobody wants them; they must not pile up.
        tokio::task::spawn_local(async move { while events.next().await.is_some() {} });
        Handle {
            zookeeper,
            tasks,
            seen: Seen::default(),
            last: None,
        }
    }

    /// Works with one handle until it is let go.
    async fn live(&mut self) {
        let mut handle = self.open();
        self.prepare(&handle).await;
        let mut left = 20 + self.rng.below(200);
        while self.shared.phase() == Phase::Working && left > 0 {
            left -= 1;
            self.act(&mut handle).await;
            self.watch_session(&mut handle);
            tokio::time::sleep(Duration::from_millis(self.rng.below(60))).await;
        }
        // What has no outcome yet has one when the session goes on, or is over.
        let _ = handle.zookeeper.connected().await;
        handle.close(self.rng.below(3) == 0).await;
    }

    async fn prepare(&self, handle: &Handle) {
        let own = format!("/c{}", self.number);
        let shared = (0..SHARED_NODES).map(|n| format!("/shared{n}"));
        let fixed = [own, "/e".to_owned(), "/s".to_owned()];
        let pair = PAIR.map(str::to_owned);
        for path in fixed.into_iter().chain(shared).chain(pair) {
            let data = || Some(b"0".to_vec());
            loop {
                let made = handle.zookeeper.create(&path, data(), Mode::Persistent);
                match made.await {
                    Ok(_) => break,
                    Err(error) if error.is(ErrorCode::NodeExists) => break,
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        }
    }

    fn fresh_value(&mut self) -> Vec<u8> {
        self.serial += 1;
        let filler = "x".repeat(self.rng.below(300) as usize);
        format!("{}.{} {filler}", self.number, self.serial).into_bytes()
    }

    fn own_path(&self) -> String {
        format!("/c{}/n{}", self.number, self.rng.below(OWN_NODES))
    }

    async fn act(&mut self, handle: &mut Handle) {
        match self.rng.below(16) {
            0..3 => self.create(handle).await,
            3..6 => self.set(handle).await,
            6 => self.delete(handle).await,
            7 | 8 => {
                let path = self.own_path();
                self.read_own(handle, &path).await;
            }
            9 | 10 => self.set_shared(handle).await,
            11 => self.read_shared(handle).await,
            12 => self.create_ephemeral(handle).await,
            13 => self.look_at_ephemeral(handle).await,
            14 => self.create_sequential(handle).await,
            _ => self.set_pair(handle).await,
        }
    }

    /// Counts an outcome; true if there is one.
    fn is_known<T>(&self, outcome: &Result<T, Error>) -> bool {
        use ErrorCode::{BadVersion, NoNode, NodeExists, NotEmpty};
        let known = match outcome {
            Ok(_) => true,
            Err(Error::Malformed) => panic!("an answer that is none"),
            Err(Error::Code(code)) => {
                matches!(code, NoNode | NodeExists | BadVersion | NotEmpty)
            }
            Err(_) => false,
        };
        let (known_ones, unknown_ones) = (&self.shared.known, &self.shared.unknown);
        let count = if known { known_ones } else { unknown_ones };
        count.fetch_add(1, Ordering::Relaxed);
        known
    }

    async fn create(&mut self, handle: &mut Handle) {
        let (path, value) = (self.own_path(), self.fresh_value());
        let data = Some(value.clone());
        let made = handle.zookeeper.create(&path, data, Mode::Persistent).await;
        match (self.is_known(&made), &made) {
            (true, Ok(_)) => self.owned.made(&path, value),
            (true, _) => self.owned.exists(&path),
            (false, _) => self.owned.perhaps_made(&path, value),
        }
    }

    async fn set(&mut self, handle: &mut Handle) {
        let (path, value) = (self.own_path(), self.fresh_value());
        let invoked = self.shared.next();
        let set = handle.zookeeper.set(&path, value.clone(), -1).await;
        match (self.is_known(&set), &set) {
            (true, Ok(stat)) => {
                self.wrote(invoked, stat.mzxid.0);
                self.version(handle, &path, stat, &value);
                self.owned.set(&path, value);
            }
            (true, _) => self.owned.is_missing(&path),
            (false, _) => self.owned.perhaps_changed(&path, Some(value)),
        }
    }

    async fn delete(&mut self, handle: &mut Handle) {
        let path = self.own_path();
        let deleted = handle.zookeeper.delete(&path, -1).await;
        match (self.is_known(&deleted), &deleted) {
            (true, Ok(())) => self.owned.deleted(&path),
            (true, _) => self.owned.is_missing(&path),
            (false, _) => self.owned.perhaps_changed(&path, None),
        }
    }

    /// Reads one of its own nodes; nobody else writes it. True if there was an answer.
    async fn read_own(&mut self, handle: &mut Handle, path: &str) -> bool {
        let read = handle.zookeeper.get(path).await;
        match (self.is_known(&read), read) {
            (true, Ok((data, stat))) => {
                self.version(handle, path, &stat, &data);
                self.owned.found(path, &data);
            }
            (true, _) => self.owned.is_missing(path),
            (false, _) => return false,
        }
        true
    }

    async fn set_shared(&mut self, handle: &mut Handle) {
        let path = format!("/shared{}", self.rng.below(SHARED_NODES));
        let value = self.fresh_value();
        let invoked = self.shared.next();
        let set = handle.zookeeper.set(&path, value.clone(), -1).await;
        if let (true, Ok(stat)) = (self.is_known(&set), &set) {
            self.wrote(invoked, stat.mzxid.0);
            self.version(handle, &path, stat, &value);
        }
    }

    /// Z6: a read behind a sync sees what was acknowledged before the sync.
    async fn read_shared(&mut self, handle: &mut Handle) {
        let path = format!("/shared{}", self.rng.below(SHARED_NODES));
        let before = self.shared.next();
        if handle.zookeeper.sync(&path).await.is_err() {
            return;
        }
        let read = handle.zookeeper.get(&path).await;
        if let (true, Ok((data, stat))) = (self.is_known(&read), &read) {
            self.version(handle, &path, stat, data);
            let versions = lock(&self.shared.versions);
            let of_node = |zxid: i64| versions.contains_key(&(path.clone(), zxid));
            let writes = lock(&self.shared.writes);
            zxid_is_the_order::check_read(&writes, before, stat.mzxid.0, of_node);
        }
    }

    async fn create_ephemeral(&mut self, handle: &mut Handle) {
        self.serial += 1;
        let path = format!("/e/{}-{}", self.number, self.serial);
        let before = handle.zookeeper.session();
        let data = Some(b"e".to_vec());
        let made = handle.zookeeper.create(&path, data, Mode::Ephemeral).await;
        let known = self.is_known(&made);
        if let (Some(before), Some(after)) = (before, handle.zookeeper.session()) {
            self.ephemerals.push(Ephemeral {
                path,
                sessions: vec![before, after],
                certain: known && made.is_ok() && before == after,
            });
        }
    }

    /// Z4: an ephemeral is there while its session is, and no longer.
    async fn look_at_ephemeral(&mut self, handle: &mut Handle) {
        if self.ephemerals.is_empty() {
            return;
        }
        let at = self.rng.below(self.ephemerals.len() as u64) as usize;
        let Ephemeral {
            path,
            sessions,
            certain,
        } = self.ephemerals[at].clone();
        let before = handle.zookeeper.session();
        if handle.zookeeper.sync(&path).await.is_err() {
            return;
        }
        let found = handle.zookeeper.exists(&path).await;
        let known = self.is_known(&found);
        let (Some(session), Ok(found), true) = (before, found, known) else {
            return;
        };
        if handle.zookeeper.session() != before {
            return;
        }
        if sessions.contains(&session) {
            let owner = found.map(|stat| stat.ephemeral_owner);
            assert!(
                !certain || owner == Some(session),
                "{path} of {owner:?} should be there: session {session} lives"
            );
            return;
        }
        // A session of another handle may have been left to expire; of its own ones this one knows.
        let over = &handle.seen.sessions_over;
        let is_over = sessions.iter().all(|session| over.contains(session));
        assert!(
            found.is_none() || !is_over,
            "{path} is there, and its session is over"
        );
        if found.is_none() {
            self.ephemerals.swap_remove(at);
        }
    }

    async fn create_sequential(&mut self, handle: &mut Handle) {
        let made = handle.zookeeper.create("/s/q-", None, Mode::Sequential);
        let made = made.await;
        if let (true, Ok(path)) = (self.is_known(&made), &made) {
            let number = path.rsplit('-').next().and_then(|n| n.parse::<u64>().ok());
            let number = number.expect("a number at its end");
            let last = self.last_sequence.replace(number);
            assert!(last < Some(number), "{path} comes behind {last:?}");
        }
    }

    /// Both or none.
    async fn set_pair(&mut self, handle: &mut Handle) {
        let value = self.fresh_value();
        let steps = PAIR.map(|path| Op::Set {
            path: path.to_owned(),
            data: value.clone(),
            version: -1,
        });
        let invoked = self.shared.next();
        let done = handle.zookeeper.multi(steps.to_vec()).await;
        let done = done.map_err(|refused| refused.error);
        if let (true, Ok(stats)) = (self.is_known(&done), &done) {
            assert_eq!(stats.len(), 2);
            assert_eq!(stats[0].mzxid, stats[1].mzxid, "one transaction");
            self.wrote(invoked, stats[0].mzxid.0);
            for (path, stat) in PAIR.iter().zip(stats) {
                self.version(handle, path, stat, &value);
            }
        }
    }

    fn wrote(&self, invoked: u64, zxid: i64) {
        let returned = self.shared.next();
        lock(&self.shared.writes).push(Write {
            invoked,
            returned,
            zxid,
        });
    }

    /// One version of a node is one content, for everybody and for ever; and a session sees no older one.
    fn version(&self, handle: &mut Handle, path: &str, stat: &Stat, data: &[u8]) {
        let mut versions = lock(&self.shared.versions);
        let version = versions.entry((path.to_owned(), stat.mzxid.0));
        let known = version.or_insert_with(|| data.to_vec());
        assert!(
            known == data,
            "{path} had two contents at {:#x}: {:?} and {:?}",
            stat.mzxid.0,
            String::from_utf8_lossy(known),
            String::from_utf8_lossy(data)
        );
        let session = handle.zookeeper.session();
        handle.seen.saw(session, path, stat.mzxid.0);
    }

    /// Z5: a session is over only when nothing was heard of it for its timeout.
    fn watch_session(&self, handle: &mut Handle) {
        let Some(session) = handle.zookeeper.session() else {
            return;
        };
        if let Some((last, confirmed_ms)) = handle.last
            && last != session
        {
            let silent_ms = self.clock.monotonic_ms() - confirmed_ms;
            let timeout_ms = handle.zookeeper.session_timeout_ms();
            assert!(
                silent_ms >= timeout_ms,
                "session {last} was over {silent_ms} ms after it had been confirmed"
            );
            handle.seen.over(last);
        }
        handle.last = Some((session, handle.zookeeper.confirmed_ms()));
    }

    /// All is mended: everything that was acknowledged is there.
    async fn read_back(&mut self) {
        let mut handle = self.open();
        self.prepare(&handle).await;
        while handle.zookeeper.sync("/").await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        for node in 0..OWN_NODES {
            let path = format!("/c{}/n{node}", self.number);
            while !self.read_own(&mut handle, &path).await {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        for node in 0..SHARED_NODES {
            let path = format!("/shared{node}");
            if let Ok((data, stat)) = handle.zookeeper.get(&path).await {
                self.version(&mut handle, &path, &stat, &data);
            }
        }
        let pair = handle.zookeeper.get_all(&PAIR.map(str::to_owned)).await;
        if let [Ok((a, _)), Ok((b, _))] = &pair[..] {
            assert_eq!(a, b, "half of a multi");
        }
        self.ephemerals_are_gone(&handle).await;
        handle.close(false).await;
    }

    /// All sessions but this handle's are closed, or expire now: their ephemerals go with them.
    async fn ephemerals_are_gone(&mut self, handle: &Handle) {
        let began_ms = self.clock.monotonic_ms();
        loop {
            if let Ok(left) = handle.zookeeper.children("/e").await {
                let own = format!("{}-", self.number);
                let left: Vec<_> = left.iter().filter(|name| name.starts_with(&own)).collect();
                if left.is_empty() {
                    self.ephemerals.clear();
                    return;
                }
                let waited_ms = self.clock.monotonic_ms() - began_ms;
                assert!(waited_ms < EXPIRED_MS, "{left:?} outlive their sessions");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
