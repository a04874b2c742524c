//! Members in one process, over loopback, on the real disk.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::super::log_store::LogError;
use super::super::peer;
use super::*;
use crate::common::disk::real::RealDisk;
use crate::common::disk::{DiskFile, Open};
use crate::common::net;
use crate::common::shutdown::Shutdown;
use crate::coordinator::identity::IdentityError;
use crate::coordinator::tree::op::{Change, ConnectionId, Op};
use crate::zookeeper::acl::{Acl, Id};
use crate::zookeeper::error::ErrorCode;

const LIMIT: Duration = Duration::from_secs(60);

struct Member {
    node: Arc<RaftNode>,
    replica: Arc<Replica>,
}

fn one(dir: &Path) -> RaftOptions {
    let members = BTreeMap::from([(MemberId(1), HostPort::new("127.0.0.1", 1))]);
    RaftOptions::new("test", MemberId(1), members, dir)
}

async fn start(options: RaftOptions, listener: Option<TcpListener>) -> Result<Member, StartError> {
    let tasks = Tasks::new(Shutdown::new());
    start_on(Arc::new(RealDisk), options, listener, tasks).await
}

async fn start_on(
    disk: Arc<dyn Disk>,
    options: RaftOptions,
    listener: Option<TcpListener>,
    tasks: Tasks,
) -> Result<Member, StartError> {
    let replica = Arc::new(Replica::new());
    let node = RaftNode::start(
        options,
        listener,
        replica.clone(),
        disk,
        Clock::real(),
        Rng::from_os(),
        tasks,
    )
    .await?;
    Ok(Member { node, replica })
}

/// Opens again what was just closed; sled lets go of its file a moment later.
async fn start_again(options: RaftOptions, address: Option<&HostPort>) -> Member {
    let until = Instant::now() + LIMIT;
    loop {
        let listener = match address {
            Some(address) => Some(net::bind(address).await.expect("the port is free again")),
            None => None,
        };
        match start(options.clone(), listener).await {
            Ok(member) => return member,
            Err(error) if Instant::now() > until => panic!("{}", told(&error)),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

struct Ensemble {
    members: Vec<Option<Member>>,
    options: Vec<RaftOptions>,
    _dir: tempfile::TempDir,
}

impl Ensemble {
    async fn new() -> Ensemble {
        Ensemble::on(Arc::new(RealDisk)).await
    }

    async fn on(disk: Arc<dyn Disk>) -> Ensemble {
        Ensemble::of(3, disk, |_| {}).await
    }

    /// Of so many members, with these settings.
    async fn of(count: u64, disk: Arc<dyn Disk>, set: impl Fn(&mut RaftOptions)) -> Ensemble {
        let dir = tempfile::tempdir().expect("a directory");
        let mut listeners = Vec::new();
        let mut addresses = BTreeMap::new();
        for id in 1..=count {
            let listener = net::bind(&HostPort::new("127.0.0.1", 0))
                .await
                .expect("a port");
            let port = net::local_address(&listener).expect("bound").port();
            addresses.insert(MemberId(id), HostPort::new("127.0.0.1", port));
            listeners.push(listener);
        }
        let mut members = Vec::new();
        let mut all = Vec::new();
        for (id, listener) in (1..=count).zip(listeners) {
            let dir = dir.path().join(id.to_string());
            let mut options = RaftOptions::new("test", MemberId(id), addresses.clone(), dir);
            set(&mut options);
            let tasks = Tasks::new(Shutdown::new());
            let member = start_on(disk.clone(), options.clone(), Some(listener), tasks).await;
            members.push(Some(member.expect("starts")));
            all.push(options);
        }
        Ensemble {
            members,
            options: all,
            _dir: dir,
        }
    }

    fn member(&self, index: usize) -> &Member {
        self.members[index].as_ref().expect("it runs")
    }

    fn running(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().flatten()
    }

    async fn wait(&self, what: &str, condition: impl Fn(&Ensemble) -> bool) {
        let until = Instant::now() + LIMIT;
        while !condition(self) {
            let states: Vec<_> = self.running().map(|m| m.node.status()).collect();
            assert!(Instant::now() < until, "not in time: {what}: {states:#?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn all_serve(&self) {
        self.wait("all serve", |all| all.running().all(|m| m.node.serving()))
            .await;
    }

    fn leader(&self) -> Option<usize> {
        self.members.iter().position(|member| {
            member
                .as_ref()
                .is_some_and(|member| member.node.role() == Role::Leader)
        })
    }

    /// Who leads; not for longer than until somebody dies.
    async fn led(&self) -> usize {
        self.wait("one leads", |all| all.leader().is_some()).await;
        self.leader().expect("one leads")
    }

    async fn stop(&mut self, index: usize) {
        let member = self.members[index].take().expect("it runs");
        member.node.shutdown().await;
    }

    /// As kill -9 does: nothing is handed over, and nothing noted.
    async fn kill(&mut self, index: usize) {
        let member = self.members[index].take().expect("it runs");
        let node = &member.node;
        node.stopping.store(true, Ordering::SeqCst);
        node.tasks.shutdown().stop();
        let _ = node.raft.shutdown().await;
        node.proposals.stop();
        node.tasks.stop(Duration::from_secs(5)).await;
        drop(node.lock.lock().expect("not poisoned").take());
    }

    /// Takes a stopped member's directory away. Returns where it is.
    fn wipe(&self, index: usize) -> PathBuf {
        let dir = &self.options[index].dir;
        let aside = (0..).map(|number| dir.with_extension(number.to_string()));
        let mut free = aside.filter(|aside| !aside.exists());
        let aside = free.next().expect("a name is free");
        RealDisk.rename(dir, &aside).expect("moved");
        aside
    }

    async fn restart(&mut self, index: usize) {
        let options = self.options[index].clone();
        let address = options.members[&options.member].clone();
        self.members[index] = Some(start_again(options, Some(&address)).await);
    }

    async fn same_tree(&self) {
        self.wait("equal trees", |all| {
            let mut seen = all
                .running()
                .map(|m| (m.replica.last_zxid(), m.replica.digest()));
            let first = seen.next();
            seen.all(|other| Some(other) == first)
        })
        .await;
    }
}

/// One session, whose writes are counted: apply refuses a repeated one and one after a gap.
struct Client {
    session: SessionId,
    next: AtomicU64,
}

impl Client {
    async fn new(member: &Member) -> Client {
        let client = Client {
            session: SessionId(7),
            next: AtomicU64::new(0),
        };
        let op = Op::CreateSession {
            password: [1; 16],
            timeout_ms: 10_000,
        };
        client.done(member, op).await;
        client
    }

    fn request(&self, op: Op) -> Request {
        Request {
            session: self.session,
            connection: ConnectionId(1),
            sequence: self.next.fetch_add(1, Ordering::Relaxed),
            now_ms: 1,
            auth: Arc::from(Vec::<Id>::new()),
            op,
        }
    }

    async fn done(&self, member: &Member, op: Op) -> Zxid {
        let outcome = member.node.propose(self.request(op)).await;
        let outcome = outcome.expect("an outcome");
        outcome.result.expect("success");
        outcome.zxid
    }

    /// The same for what may be done twice: again while it is not known whether it was.
    async fn done_at_last(&self, member: &Member, op: Op) {
        let until = Instant::now() + LIMIT;
        loop {
            match member.node.propose(self.request(op.clone())).await {
                Ok(outcome) => return drop(outcome.result.expect("success")),
                Err(error) => assert!(Instant::now() < until, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// How long this process stood still at most while `work` was done: what a busy machine does to it is no
/// finding about us.
async fn with_stalls<T>(work: impl Future<Output = T>) -> (T, Duration) {
    const STEP: Duration = Duration::from_millis(10);
    let (mut longest, mut looked) = (Duration::ZERO, Instant::now());
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return (done, longest.max(looked.elapsed())),
            () = tokio::time::sleep(STEP) => {
                longest = longest.max(looked.elapsed().saturating_sub(STEP));
                looked = Instant::now();
            }
        }
    }
}

fn create(path: &str) -> Op {
    Op::Change(Change::Create {
        path: path.to_owned(),
        data: Some(Bytes::from_static(b"value")).into(),
        acl: vec![Acl {
            perms: 31,
            id: Id::new("world", "anyone"),
        }],
        flags: 0,
    })
}

fn set(path: &str, data: Bytes) -> Op {
    Op::Change(Change::SetData {
        path: path.to_owned(),
        data: Some(data).into(),
        version: -1,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_member_serves_at_once_and_keeps_what_it_acknowledged() {
    let dir = tempfile::tempdir().expect("a directory");
    let began = Instant::now();
    let member = start(one(dir.path()), None).await.expect("starts");
    let mut roles = member.node.role_changes();
    roles
        .wait_for(|(role, _)| *role == Role::Standalone)
        .await
        .expect("it lives");
    println!("one member serves after {:?}", began.elapsed());
    let client = Client::new(&member).await;
    client.done(&member, create("/a")).await;
    let mut last = Zxid(0);
    for _ in 0..50 {
        let zxid = client
            .done(&member, set("/a", Bytes::from_static(b"x")))
            .await;
        assert!(zxid > last);
        last = zxid;
    }
    assert_eq!(member.node.barrier().await, Ok(last));
    let digest = member.replica.digest();
    member.node.shutdown().await;
    assert_eq!(member.node.barrier().await, Err(ProposeError::Stopped));
    drop(member);
    let began = Instant::now();
    let again = start_again(one(dir.path()), None).await;
    let mut roles = again.node.role_changes();
    roles
        .wait_for(|(role, _)| *role == Role::Standalone)
        .await
        .expect("it lives");
    println!("and again after {:?}", began.elapsed());
    again.node.barrier().await.expect("applied");
    assert_eq!(again.replica.digest(), digest);
    assert!(
        client
            .done(&again, set("/a", Bytes::from_static(b"y")))
            .await
            > last
    );
    again.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_members_agree_survive_a_dead_leader_and_a_restart_of_all() {
    let began = Instant::now();
    let mut all = Ensemble::new().await;
    all.all_serve().await;
    println!("three members serve after {:?}", began.elapsed());
    let client = Client::new(all.member(0)).await;
    client.done(all.member(0), create("/a")).await;
    for round in 0..10 {
        for index in 0..3 {
            let zxid = client
                .done(all.member(index), create(&format!("/a/{round}-{index}")))
                .await;
            // Applied here already: what the caller reads next shows its own write.
            assert!(all.member(index).replica.last_zxid() >= zxid);
        }
    }
    let zxid = client.done(all.member(2), create("/last")).await;
    assert!(all.member(1).node.barrier().await.expect("applied") >= zxid);
    all.same_tree().await;

    let leader = all.leader().expect("one leads");
    let began = Instant::now();
    all.stop(leader).await;
    let other = (leader + 1) % 3;
    client.done(all.member(other), create("/b")).await;
    println!("a write after the leader's stop: {:?}", began.elapsed());
    all.restart(leader).await;
    all.all_serve().await;
    all.same_tree().await;

    let digest = all.member(0).replica.digest();
    for index in 0..3 {
        all.stop(index).await;
    }
    let began = Instant::now();
    for index in 0..3 {
        all.restart(index).await;
    }
    all.all_serve().await;
    println!("three members serve again after {:?}", began.elapsed());
    all.same_tree().await;
    assert_eq!(all.member(0).replica.digest(), digest);
    client.done(all.member(1), create("/c")).await;
    for index in 0..3 {
        all.stop(index).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelined_requests_are_applied_once_and_in_order_across_a_change_of_leader() {
    let mut all = Ensemble::new().await;
    all.all_serve().await;
    let client = Client::new(all.member(0)).await;
    client.done(all.member(0), create("/q")).await;
    let leader = all.leader().expect("one leads");
    let from = (leader + 1) % 3;
    let node = all.member(from).node.clone();
    let (early, some_are_on_their_way) = tokio::sync::oneshot::channel();
    let submitting = async move {
        let (mut answers, mut early) = (Vec::new(), Some(early));
        for number in 0..600 {
            if number == 150
                && let Some(early) = early.take()
            {
                early.send(()).expect("it is waited for");
            }
            answers.push(node.submit(&client.request(create(&format!("/q/{number:05}"))), None));
            if number % 10 == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        answers
    };
    let stopping = async {
        some_are_on_their_way.await.expect("told");
        all.stop(leader).await;
    };
    let (answers, ()) = tokio::join!(submitting, stopping);
    let mut last = Zxid(0);
    for answer in answers {
        let outcome = answer.await.expect("told").expect("an outcome");
        outcome.result.expect("created once");
        assert!(outcome.zxid > last, "in order");
        last = outcome.zxid;
    }
    all.same_tree().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_brings_a_far_member_up_to_date() {
    let mut all = Ensemble::new().await;
    for options in &mut all.options {
        options.snapshot_entries = 50;
    }
    for index in 0..3 {
        all.stop(index).await;
    }
    for index in 0..3 {
        all.restart(index).await;
    }
    all.all_serve().await;
    let away = (all.leader().expect("one leads") + 1) % 3;
    all.stop(away).await;
    let here = (away + 1) % 3;
    let client = Client::new(all.member(here)).await;
    client.done(all.member(here), create("/a")).await;
    for number in 0..400 {
        let value = set("/a", Bytes::from(number.to_string()));
        client.done_at_last(all.member(here), value).await;
    }
    all.wait("the log was purged", |all| {
        all.running()
            .all(|member| member.node.status().purged_index > Some(200))
    })
    .await;
    all.restart(away).await;
    all.all_serve().await;
    all.same_tree().await;
    client.done(all.member(away), create("/b")).await;
    for index in 0..3 {
        all.stop(index).await;
    }
    for index in 0..3 {
        all.restart(index).await;
    }
    all.all_serve().await;
    all.same_tree().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_and_strangers_on_the_raft_port_are_turned_away() {
    let all = Ensemble::new().await;
    all.all_serve().await;
    let options = &all.options[0];
    let address = &options.members[&options.member];
    let zeros = vec![0u8; 4096];
    let garbage: [&[u8]; 6] = [
        &[0xff; 64],
        &[0x7f, 0xff, 0xff, 0xff],
        &[0, 0, 0, 4, 1, 2, 3, 4],
        b"GET / HTTP/1.1\r\n\r\n",
        &[0, 0, 2, 0, 9],
        &zeros,
    ];
    for bytes in garbage {
        let mut stream = net::connect(address, LIMIT).await.expect("it listens");
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(LIMIT, stream.read_to_end(&mut answer))
            .await
            .expect("it is closed");
    }
    // Another secret: the proof fails, on either side.
    let dir = tempfile::tempdir().expect("a directory");
    let ids: Vec<MemberId> = options.members.keys().copied().collect();
    let rng = Rng::from_os();
    let opened = IdentityFile::open(
        Arc::new(RealDisk),
        dir.path(),
        "test",
        MemberId(2),
        &ids,
        &rng,
    );
    let Ok(Opened::Fresh(fresh)) = opened else {
        panic!("a new directory")
    };
    let identity = Arc::new(fresh.create().expect("writable"));
    for (cluster, secret, to) in [
        ("test", Some(&b"wrong"[..]), 1),
        ("other", None, 1),
        ("test", None, 3),
        ("test", None, 1), // Right, but its directory is another ensemble's.
    ] {
        if (cluster, secret, to) == ("test", None, 1) {
            identity.set_ensemble(4711).expect("written");
        }
        let stranger = Credentials::new(
            cluster,
            secret,
            MemberId(2),
            &ids,
            identity.clone(),
            rng.clone(),
        );
        let until = Instant::now() + LIMIT;
        loop {
            let mut stream = net::connect(address, LIMIT).await.expect("it listens");
            match stranger.dial(&mut stream, MemberId(to)).await {
                Err(_) => break,
                // The last case needs the members to have begun.
                Ok(_) => assert!(to == 1 && secret.is_none() && Instant::now() < until),
            }
        }
    }
    let client = Client::new(all.member(0)).await;
    client.done(all.member(0), create("/still-here")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_incomplete_and_damaged_directories_are_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let member = start(one(dir.path()), None).await.expect("starts");
    let client = Client::new(&member).await;
    client.done(&member, create("/a")).await;
    for _ in 0..100 {
        client
            .done(&member, set("/a", Bytes::from(vec![7; 2000])))
            .await;
    }
    let second = start(one(dir.path()), None)
        .await
        .err()
        .expect("it is in use");
    assert!(matches!(second, StartError::Directory { .. }), "{second}");
    member.node.shutdown().await;
    drop(member);
    // Wait until it can be opened, then have it closed again.
    let again = start_again(one(dir.path()), None).await;
    again.node.shutdown().await;
    drop(again);
    let mut foreign = one(dir.path());
    foreign.cluster = "another".into();
    let refused = start(foreign, None).await.err().expect("not ours");
    assert!(
        refused.to_string().contains("cluster \"another\""),
        "{refused}"
    );
    let disk = RealDisk;
    let identity = dir.path().join("identity");
    let kept = disk.read(&identity, 9999).expect("there");
    disk.remove_file(&identity).expect("removed");
    let refused = start(one(dir.path()), None)
        .await
        .err()
        .expect("no identity");
    assert!(
        matches!(refused, StartError::NoIdentity { .. }),
        "{refused}"
    );
    disk.replace(&identity, &kept[1..]).expect("spoiled");
    let refused = start(one(dir.path()), None).await.err().expect("damaged");
    assert!(
        matches!(refused, StartError::Identity(IdentityError::Damaged { .. })),
        "{refused}"
    );
    disk.replace(&identity, &kept).expect("restored");
    disk.remove_dir_all(&dir.path().join("raft"))
        .expect("removed");
    let refused = start(one(dir.path()), None)
        .await
        .err()
        .expect("the log is gone");
    assert!(
        matches!(
            refused,
            StartError::Log {
                source: LogError::Behind { .. },
                ..
            }
        ),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_emptied_members_of_three_never_begin_anew() {
    let mut all = Ensemble::new().await;
    all.all_serve().await;
    let client = Client::new(all.member(0)).await;
    client.done(all.member(0), create("/a")).await;
    all.same_tree().await;
    let digest = all.member(2).replica.digest();
    for index in 0..3 {
        all.stop(index).await;
    }
    let aside = |all: &Ensemble, index: usize| all.options[index].dir.with_extension("aside");
    for index in 0..2 {
        RealDisk
            .rename(&all.options[index].dir, &aside(&all, index))
            .expect("moved");
        all.restart(index).await;
    }
    // The third down, for longer than any patience the members once had.
    tokio::time::sleep(Duration::from_secs(11)).await;
    let untouched = |all: &Ensemble| {
        for member in all.running() {
            assert!(!member.node.serving());
            assert_eq!(member.node.status().term, 0);
        }
    };
    untouched(&all);
    // The third up, and refusing them.
    let before = all.options[2].clone();
    let address = before.members[&before.member].clone();
    let third = start_again(before, Some(&address)).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    untouched(&all);
    assert!(!third.node.serving());
    let term = third.node.status().term;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(
        third.node.status().term <= term + 1,
        "it stands without end"
    );
    all.members[2] = Some(third);
    // One of the two gets its data back: a quorum that remembers.
    all.stop(1).await;
    let dir = all.options[1].dir.clone();
    RealDisk.remove_dir_all(&dir).expect("removed");
    RealDisk.rename(&aside(&all, 1), &dir).expect("moved back");
    all.restart(1).await;
    all.wait("two of three serve", |all| {
        (1..3).all(|index| all.member(index).node.serving())
    })
    .await;
    for index in 1..3 {
        all.member(index).node.barrier().await.expect("applied");
        assert_eq!(all.member(index).replica.digest(), digest);
    }
    client.done(all.member(1), create("/b")).await;
    // And the quorum takes the other one back.
    all.all_serve().await;
    all.same_tree().await;
}

/// What a member says that it waits for.
fn waits_for(member: &Member) -> String {
    let waits = member.node.waits_for();
    waits.map(|waits| waits.to_string()).unwrap_or_default()
}

/// Each store counts that a member has now, and no other one.
fn all_count(all: &Ensemble) -> bool {
    let stores = all.running().map(|m| m.node.identity.node()).collect();
    let voters = |node: &RaftNode| node.machine.membership();
    all.running().all(|member| {
        let now = voters(&member.node);
        now.membership().get_joint_config() == &vec![BTreeSet::clone(&stores)]
            && now.membership().learner_ids().next().is_none()
    })
}

/// Writes what is to be found again. Where the outcome of a write is unknown (a snapshot took its place, or
/// the machine stood still) it is written again by another session, and may be there already.
struct Writer {
    client: Client,
    written: u32,
}

impl Writer {
    async fn new(member: &Member) -> Writer {
        let client = Client::new(member).await;
        Writer { client, written: 0 }
    }

    async fn put(&mut self, member: &Member, count: u32) {
        for _ in 0..count {
            self.written += 1;
            let op = create(&format!("/{:04}", self.written));
            self.done(member, op).await;
        }
    }

    async fn done(&mut self, member: &Member, op: Op) {
        let until = Instant::now() + LIMIT;
        loop {
            let outcome = member.node.propose(self.client.request(op.clone())).await;
            match outcome.map(|outcome| outcome.result) {
                Ok(Ok(_) | Err(ErrorCode::NodeExists)) => return,
                Ok(Err(error)) => panic!("{op:?}: {error:?}"),
                Err(error) => assert!(Instant::now() < until, "{error}"),
            }
            self.new_session(member, until).await;
        }
    }

    async fn new_session(&mut self, member: &Member, until: Instant) {
        loop {
            self.client = Client {
                session: SessionId(self.client.session.0 + 1),
                next: AtomicU64::new(0),
            };
            let op = Op::CreateSession {
                password: [1; 16],
                timeout_ms: 10_000,
            };
            match member.node.propose(self.client.request(op)).await {
                Ok(_) => return,
                Err(error) => assert!(Instant::now() < until, "{error}"),
            }
        }
    }
}

/// Everything that was acknowledged is on every member that runs.
async fn has_all(all: &Ensemble, count: u32) {
    all.all_serve().await;
    all.same_tree().await;
    for member in all.running() {
        for number in 1..=count {
            let path = format!("/{number:04}");
            assert!(member.replica.data(&path).is_some(), "{path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_member_joins_as_new_and_counts_again() {
    let mut all = Ensemble::of(3, Arc::new(RealDisk), |options| {
        // Most of it comes as a snapshot.
        options.snapshot_entries = 20;
    })
    .await;
    all.all_serve().await;
    let mut writer = Writer::new(all.member(0)).await;
    // A follower, the leader, and one that was emptied before; while it is away, writes go on.
    for round in 0..3 {
        let leader = all.led().await;
        let wiped = [(leader + 1) % 3, leader, (leader + 2) % 3][round];
        let other = (wiped + 1) % 3;
        writer.put(all.member(other), 30).await;
        let lost = all.member(wiped).node.identity.node();
        all.kill(wiped).await;
        all.wipe(wiped);
        all.wait("two serve", |all| all.running().all(|m| m.node.serving()))
            .await;
        writer.put(all.member(other), 30).await;
        let began = Instant::now();
        all.restart(wiped).await;
        let store = all.member(wiped).node.identity.node();
        assert_ne!(store, lost);
        all.wait("it counts", all_count).await;
        println!("round {round}: it counts after {:?}", began.elapsed());
        has_all(&all, writer.written).await;
        // It is needed from now on: the two others are away in turn.
        for away in [(wiped + 1) % 3, (wiped + 2) % 3] {
            all.kill(away).await;
            all.wait("two serve", |all| all.running().all(|m| m.node.serving()))
                .await;
            writer.put(all.member(wiped), 5).await;
            all.restart(away).await;
            has_all(&all, writer.written).await;
        }
    }
    for index in 0..3 {
        all.stop(index).await;
    }
    for index in 0..3 {
        all.restart(index).await;
    }
    has_all(&all, writer.written).await;
    assert!(all_count(&all));
}

/// As before stores had names.
fn named_by_member(options: &mut RaftOptions) {
    let ids: Vec<u64> = options.members.keys().map(|id| id.0).collect();
    let identity = serde_json::json!({
        "version": 1, "cluster": "test", "member": options.member.0, "members": ids, "store_id": 9,
        "vote": {"term": 0, "node": 0, "committed": false}, "durable_index": null, "peers": {},
    });
    let sealed = crate::common::sealed::seal(&identity).expect("keys are strings");
    RealDisk.create_dir_all(&options.dir).expect("made");
    let file = options.dir.join("identity");
    RealDisk.replace(&file, &sealed).expect("written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_with_the_same_id_is_told_so_and_changes_nothing() {
    let all = Ensemble::new().await;
    all.all_serve().await;
    let voters = all.member(0).node.voters();
    let dir = tempfile::tempdir().expect("a directory");
    let mut options = all.options[1].clone();
    options.dir = dir.path().join("second");
    let listener = net::bind(&HostPort::new("127.0.0.1", 0)).await;
    let second = start(options, Some(listener.expect("a port"))).await;
    let second = second.expect("starts");
    all.wait("it is told", |_| {
        waits_for(&second).contains("another process is this member already")
    })
    .await;
    assert!(!second.node.serving());
    let client = Client::new(all.member(1)).await;
    client.done(all.member(1), create("/a")).await;
    assert_eq!(all.member(0).node.voters(), voters);
    second.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_of_five_join_as_new_at_once_and_an_ensemble_of_five_survives_two() {
    let mut all = Ensemble::of(5, Arc::new(RealDisk), named_by_member).await;
    all.all_serve().await;
    let mut writer = Writer::new(all.member(0)).await;
    writer.put(all.member(0), 20).await;
    let leader = all.led().await;
    let wiped = [leader, (leader + 1) % 5];
    for index in wiped {
        all.kill(index).await;
        all.wipe(index);
    }
    all.wait("three serve", |all| all.running().all(|m| m.node.serving()))
        .await;
    writer.put(all.member((leader + 2) % 5), 20).await;
    for index in wiped {
        all.restart(index).await;
    }
    all.wait("all count", all_count).await;
    has_all(&all, writer.written).await;
    for away in [(leader + 2) % 5, (leader + 3) % 5] {
        all.kill(away).await;
    }
    all.wait("three serve", |all| all.running().all(|m| m.node.serving()))
        .await;
    writer.put(all.member(leader), 5).await;
    for away in [(leader + 2) % 5, (leader + 3) % 5] {
        all.restart(away).await;
    }
    has_all(&all, writer.written).await;
}

/// How often this member has changed the membership since it was limited to `of` changes.
fn changes(member: &Member, of: u64) -> u64 {
    of - member.node.changes_left.load(Ordering::SeqCst).min(of)
}

fn limit_changes(all: &Ensemble, to: u64) {
    for member in all.running() {
        member.node.changes_left.store(to, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_step_of_joining_as_new_leaves_what_goes_on_by_itself() {
    let mut all = Ensemble::of(3, Arc::new(RealDisk), |_| {}).await;
    all.all_serve().await;
    let mut writer = Writer::new(all.member(0)).await;
    // It learns; it counts beside the lost one; it counts in its place. Who dies: the leader, the other one,
    // it itself, it itself and its new store with it, all.
    for step in 1..=3 {
        for who in 0..5 {
            let leader = all.led().await;
            let (wiped, other) = ((leader + 1) % 3, (leader + 2) % 3);
            writer.put(all.member(other), 5).await;
            all.kill(wiped).await;
            all.wipe(wiped);
            limit_changes(&all, step);
            all.restart(wiped).await;
            all.wait("the step is taken", |all| {
                // By the leader, or by one that came after it.
                let taken = all.running().map(|member| changes(member, step));
                taken.sum::<u64>() >= step
            })
            .await;
            writer.put(all.member(other), 3).await;
            let dead = match who {
                0 => vec![leader],
                1 => vec![other],
                2 | 3 => vec![wiped],
                _ => vec![leader, other, wiped],
            };
            for index in &dead {
                all.kill(*index).await;
            }
            if who == 3 {
                all.wipe(wiped);
            }
            limit_changes(&all, u64::MAX);
            for index in &dead {
                all.restart(*index).await;
            }
            let what = format!("it counts, {who} having died at step {step}");
            all.wait(&what, all_count).await;
            has_all(&all, writer.written).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_moment_of_joining_as_new_loses_nothing() {
    const ROUNDS: usize = 3;
    let mut all = Ensemble::of(3, Arc::new(RealDisk), |options| {
        options.snapshot_entries = 20;
    })
    .await;
    all.all_serve().await;
    let mut writer = Writer::new(all.member(0)).await;
    // A snapshot of many pieces.
    for large in 0..3 {
        let path = format!("/large{large}");
        writer.done(all.member(0), create(&path)).await;
        let value = Bytes::from(vec![large; 900 << 10]);
        writer.done(all.member(0), set(&path, value)).await;
    }
    let rng = Rng::from_os();
    for round in 0..ROUNDS {
        let leader = all.led().await;
        let (wiped, other) = ((leader + 1) % 3, (leader + 2) % 3);
        writer.put(all.member(other), 30).await;
        all.kill(wiped).await;
        all.wipe(wiped);
        all.restart(wiped).await;
        let dies = [wiped, leader, other][round % 3];
        let after = Duration::from_micros(rng.next_u64() % 200_000);
        tokio::time::sleep(after).await;
        all.kill(dies).await;
        all.restart(dies).await;
        let what = format!("it counts, round {round} with a kill after {after:?}");
        all.wait(&what, all_count).await;
        has_all(&all, writer.written).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_was_replaced_is_refused_and_what_is_meant_for_it_reaches_no_other_one() {
    let mut all = Ensemble::new().await;
    all.all_serve().await;
    let client = Client::new(all.member(0)).await;
    client.done(all.member(0), create("/a")).await;
    let wiped = (all.led().await + 1) % 3;
    let other = (wiped + 1) % 3;
    let lost = all.member(wiped).node.identity.node();
    all.kill(wiped).await;
    let aside = all.wipe(wiped);
    // No change of the membership yet: it is not admitted.
    limit_changes(&all, 0);
    all.restart(wiped).await;
    all.wait("it says what it waits for", |all| {
        waits_for(all.member(wiped)).contains("joins as new")
    })
    .await;
    assert!(!all.member(wiped).node.serving());
    // The others know nothing but the lost store: what they ask of it, the new one does not answer.
    let voters = all.member(other).node.voters();
    assert!(voters.include(lost) && !all.member(wiped).node.counts());
    let from = all.member(other).node.clone();
    let vote = openraft::raft::VoteRequest::new(
        super::super::types::Vote::new(99, from.identity.node()),
        None,
    );
    let ensemble = from.identity.ensemble().expect("it has begun");
    let link = from.links.get(all.options[wiped].member).expect("a member");
    all.wait("connected", |_| link.up().is_some()).await;
    let route = peer::Route { ensemble, to: lost };
    let asked = link.call(&Message::Vote(route, vote)).expect("connected");
    assert!(matches!(asked.answer().await, Ok(Answer::Stopped)));
    assert_eq!(all.member(wiped).node.status().term, 0);
    limit_changes(&all, u64::MAX);
    all.wait("it counts", all_count).await;
    client.done(all.member(wiped), create("/b")).await;
    all.stop(wiped).await;

    // Now the lost store is found again, too late.
    let (dir, later) = (all.options[wiped].dir.clone(), all.wipe(wiped));
    RealDisk.rename(&aside, &dir).expect("moved");
    let tasks = Tasks::new(Shutdown::new());
    let options = all.options[wiped].clone();
    let address = &options.members[&options.member];
    let listener = net::bind(address).await.expect("the port is free again");
    let disk = Arc::new(RealDisk);
    let started = start_on(disk, options.clone(), Some(listener), tasks.clone());
    let replaced = started.await.expect("starts");
    let failed = tokio::time::timeout(LIMIT, tasks.failed()).await;
    let why = failed.expect("in time").why.expect("told");
    assert!(why.contains("has joined anew since"), "{why}");
    replaced.node.shutdown().await;
    drop(replaced);
    RealDisk.remove_dir_all(&dir).expect("removed");
    RealDisk.rename(&later, &dir).expect("moved back");
    all.restart(wiped).await;
    all.all_serve().await;
    all.same_tree().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_of_few_large_entries_is_purged_by_its_bytes_and_a_damaged_snapshot_is_done_without()
{
    let dir = tempfile::tempdir().expect("a directory");
    let snapshots = dir.path().join("snapshots");
    let mut member = start(one(dir.path()), None).await.expect("starts");
    let client = Client::new(&member).await;
    client.done(&member, create("/a")).await;
    let value = Bytes::from(vec![7; 900 << 10]);
    let mut purged = None;
    // In each life the log moves on; at its end the newest snapshot is damaged.
    for life in 0..3 {
        let until = Instant::now() + LIMIT * 2;
        while member.node.status().purged_index <= purged {
            assert!(Instant::now() < until, "{:?}", member.node.status());
            client.done(&member, set("/a", value.clone())).await;
        }
        let status = member.node.status();
        purged = status.purged_index;
        let logged = status.last_log_index.unwrap_or(0) - purged.unwrap_or(0);
        assert!(logged < 200, "life {life}: {status:?}");
        let (digest, zxid) = (member.replica.digest(), member.replica.last_zxid());
        member.node.shutdown().await;
        drop(member);
        let mut files = RealDisk.list(&snapshots).expect("listed");
        files.retain(|path| !path.ends_with("damaged"));
        files.sort();
        assert_eq!(files.len(), 2, "{files:?}");
        let mut bytes = RealDisk.read(&files[1], u64::MAX).expect("there");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        RealDisk.replace(&files[1], &bytes).expect("spoiled");
        member = start_again(one(dir.path()), None).await;
        member.node.barrier().await.expect("applied");
        assert_eq!(member.replica.digest(), digest, "life {life}");
        assert_eq!(member.replica.last_zxid(), zxid, "life {life}");
    }
    member.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_stops_hands_over_even_when_its_own_vote_is_needed() {
    let mut all = Ensemble::new().await;
    all.all_serve().await;
    let client = Client::new(all.member(0)).await;
    client.done(all.member(0), create("/a")).await;
    for _ in 0..2 {
        let term = all
            .member(all.leader().expect("one leads"))
            .node
            .status()
            .term;
        let leader = all.leader().expect("one leads");
        all.stop(leader).await;
        // It was handed over before the old one was gone: in the very next term, by one election.
        all.wait("another leads", |all| all.leader().is_some())
            .await;
        let next = all.leader().expect("one leads");
        assert_eq!(all.member(next).node.status().term, term + 1);
        client
            .done(all.member(next), set("/a", Bytes::from_static(b"x")))
            .await;
        all.restart(leader).await;
        all.all_serve().await;
    }
    // Now with two of three, so that the one that stops has to vote.
    let leader = all.leader().expect("one leads");
    let (away, next) = ((leader + 1) % 3, (leader + 2) % 3);
    all.stop(away).await;
    let term = all.member(leader).node.status().term;
    all.stop(leader).await;
    assert_eq!(all.member(next).node.status().term, term + 1);
    all.restart(away).await;
    all.wait("two serve", |all| all.running().all(|m| m.node.serving()))
        .await;
    client
        .done(all.member(next), set("/a", Bytes::from_static(b"y")))
        .await;
    all.same_tree().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_without_a_leader_and_a_quorum_serves_nobody() {
    let mut all = Ensemble::new().await;
    all.all_serve().await;
    let leader = all.leader().expect("one leads");
    let (away, left) = ((leader + 1) % 3, (leader + 2) % 3);
    all.stop(away).await;
    // As kill -9 does, it leaves without handing over.
    let dead = all.members[leader].take().expect("it runs");
    dead.node.tasks.shutdown().stop();
    all.wait("the one left serves nobody", |all| {
        !all.member(left).node.serving()
    })
    .await;
    all.restart(away).await;
    all.all_serve().await;
    let client = Client::new(all.member(left)).await;
    client.done(all.member(left), create("/a")).await;
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("made");
    for entry in std::fs::read_dir(from).expect("listed") {
        let entry = entry.expect("listed");
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_dir(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).expect("copied");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_data_is_older_than_it_acknowledged_is_refused_and_ends() {
    let mut all = Ensemble::new().await;
    all.all_serve().await;
    let client = Client::new(all.member(0)).await;
    let mut number = 0;
    // A follower, a follower again, and the leader.
    for round in 0..3 {
        let leader = all.leader().expect("one leads");
        let index = if round == 2 { leader } else { (leader + 1) % 3 };
        let other = (index + 1) % 3;
        let dir = all.options[index].dir.clone();
        let (old, new) = (dir.with_extension("old"), dir.with_extension("new"));
        // As it was at one moment; then it acknowledges more, and dies without a word.
        all.stop(index).await;
        copy_dir(&dir, &old);
        all.restart(index).await;
        all.all_serve().await;
        for _ in 0..20 {
            number += 1;
            client
                .done(all.member(other), create(&format!("/{number}")))
                .await;
        }
        all.same_tree().await;
        all.stop(index).await;
        RealDisk.rename(&dir, &new).expect("moved");
        RealDisk.rename(&old, &dir).expect("moved");
        let leader = all.leader();
        if round == 1 {
            // What they have seen outlives them.
            for other in [(index + 1) % 3, (index + 2) % 3] {
                all.stop(other).await;
                all.restart(other).await;
            }
        }
        let tasks = Tasks::new(Shutdown::new());
        let options = all.options[index].clone();
        let address = &options.members[&options.member];
        let listener = net::bind(address).await.expect("the port is free again");
        let started = start_on(
            Arc::new(RealDisk),
            options.clone(),
            Some(listener),
            tasks.clone(),
        );
        let older = started.await.expect("starts");
        let failed = tokio::time::timeout(LIMIT, tasks.failed()).await;
        let why = failed.expect("in time").why.expect("told");
        for part in [
            "is older than what this member had acknowledged",
            "restore the directory",
        ] {
            assert!(why.contains(part), "{why}");
        }
        assert!(!older.node.serving());
        older.node.shutdown().await;
        drop(older);
        // The others have not noticed.
        if round == 0 {
            assert_eq!(all.leader(), leader);
        }
        all.all_serve().await;
        number += 1;
        client
            .done(all.member(other), create(&format!("/{number}")))
            .await;
        RealDisk.remove_dir_all(&dir).expect("removed");
        RealDisk.rename(&new, &dir).expect("moved back");
        all.restart(index).await;
        all.all_serve().await;
        all.same_tree().await;
    }
}

/// The real disk, with syncs that take long or fail.
#[derive(Debug, Default)]
struct Faulty(Arc<Faults>);

#[derive(Debug, Default)]
struct Faults {
    sync_ms: AtomicU64,
    sync_fails: AtomicBool,
    sync_panics: AtomicBool,
}

#[derive(Debug)]
struct FaultyFile(Arc<dyn DiskFile>, Arc<Faults>);

impl Disk for Faulty {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let file = RealDisk.open(path, how)?;
        Ok(Arc::new(FaultyFile(file, self.0.clone())))
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir_all(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        RealDisk.list(dir)
    }
    fn exists(&self, path: &Path) -> bool {
        RealDisk.exists(path)
    }
    fn is_dir(&self, path: &Path) -> bool {
        RealDisk.is_dir(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove_file(path)
    }
    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove_dir_all(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.sync_dir(dir)
    }
    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        RealDisk.free_bytes(path)
    }
    fn lock(&self, lock_file: &Path) -> io::Result<Box<dyn DirLock>> {
        RealDisk.lock(lock_file)
    }
}

impl DiskFile for FaultyFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn write_at(&self, parts: &[io::IoSlice<'_>], position: u64) -> io::Result<()> {
        self.0.write_at(parts, position)
    }
    fn read_at(&self, into: &mut [u8], position: u64) -> io::Result<usize> {
        self.0.read_at(into, position)
    }
    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.truncate(len)
    }
    fn sync(&self) -> io::Result<()> {
        std::thread::sleep(Duration::from_millis(
            self.1.sync_ms.load(Ordering::Relaxed),
        ));
        assert!(!self.1.sync_panics.load(Ordering::Relaxed), "on purpose");
        if self.1.sync_fails.load(Ordering::Relaxed) {
            return Err(io::Error::other("the disk is gone"));
        }
        self.0.sync()
    }
}

/// Writes with slow syncs; the first thing that should not have happened.
async fn writes_with_slow_syncs() -> Result<(), String> {
    let disk = Faulty::default();
    let faults = disk.0.clone();
    let all = Ensemble::on(Arc::new(disk)).await;
    all.all_serve().await;
    let client = Client::new(all.member(0)).await;
    client.done(all.member(0), create("/a")).await;
    let terms = || -> Vec<u64> { all.running().map(|m| m.node.status().term).collect() };
    let before = terms();
    for (sync_ms, writes) in [(100, 12), (700, 3)] {
        faults.sync_ms.store(sync_ms, Ordering::Relaxed);
        for number in 0..writes {
            let value = set("/a", Bytes::from(vec![1; 100]));
            client.done_at_last(all.member(number % 3), value).await;
            if !all.running().all(|m| m.node.serving()) {
                return Err(format!("one does not serve with {sync_ms} ms a sync"));
            }
        }
    }
    let after = terms();
    (before == after)
        .then_some(())
        .ok_or_else(|| format!("elections: {before:?}, {after:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_disk_makes_no_elections() {
    // A member takes its leader for gone after a second.
    let lease = Duration::from_millis(300);
    for _ in 0..10 {
        match with_stalls(writes_with_slow_syncs()).await {
            (Ok(()), _) => return,
            (Err(problem), stalled) => {
                assert!(stalled > lease, "{problem}, longest stall {stalled:?}");
                println!("again: the machine stood still for {stalled:?}, {problem}");
            }
        }
    }
    panic!("the machine stood still again and again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn elections_end_on_a_slow_disk() {
    let disk = Faulty::default();
    let faults = disk.0.clone();
    let mut all = Ensemble::on(Arc::new(disk)).await;
    all.all_serve().await;
    let client = Client::new(all.member(0)).await;
    client.done(all.member(0), create("/a")).await;
    // Longer than a lease, and than openraft would wait for a vote.
    faults.sync_ms.store(700, Ordering::Relaxed);
    let leader = all.leader().expect("one leads");
    let began = Instant::now();
    all.stop(leader).await;
    all.all_serve().await;
    let term = all.member((leader + 1) % 3).node.status().term;
    println!("led again after {:?}, term {term}", began.elapsed());
    client
        .done(all.member((leader + 1) % 3), create("/b"))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_sync_ends_the_member_and_is_not_retried() {
    let dir = tempfile::tempdir().expect("a directory");
    let disk = Faulty::default();
    let faults = disk.0.clone();
    let tasks = Tasks::new(Shutdown::new());
    let member = start_on(Arc::new(disk), one(dir.path()), None, tasks.clone()).await;
    let member = member.expect("starts");
    let client = Client::new(&member).await;
    client.done(&member, create("/a")).await;
    let zxid = member.replica.last_zxid();
    faults.sync_fails.store(true, Ordering::Relaxed);
    let lost = member.node.propose(client.request(create("/b"))).await;
    assert_eq!(lost, Err(ProposeError::Unknown));
    assert_eq!(
        member.replica.last_zxid(),
        zxid,
        "applied though not durable"
    );
    // The disk recovering changes nothing: what the failed sync left behind is not known.
    faults.sync_fails.store(false, Ordering::Relaxed);
    let failed = tokio::time::timeout(LIMIT, tasks.failed()).await;
    let failed = failed.expect("in time");
    assert_eq!(failed.task, "raft leadership");
    let why = failed.why.expect("told");
    assert!(why.contains(&dir.path().display().to_string()), "{why}");
    assert_eq!(member.node.barrier().await, Err(ProposeError::Stopped));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_core_that_panicked_or_ended_ends_the_process() {
    for panics in [true, false] {
        let dir = tempfile::tempdir().expect("a directory");
        let disk = Faulty::default();
        let faults = disk.0.clone();
        let tasks = Tasks::new(Shutdown::new());
        let member = start_on(Arc::new(disk), one(dir.path()), None, tasks.clone()).await;
        let member = member.expect("starts");
        let client = Client::new(&member).await;
        client.done(&member, create("/a")).await;
        if panics {
            faults.sync_panics.store(true, Ordering::Relaxed);
            // It has no outcome that could be relied on.
            drop(member.node.submit(&client.request(create("/b")), None));
        } else {
            member.node.raft.shutdown().await.expect("ended");
        }
        let failed = tokio::time::timeout(LIMIT, tasks.failed()).await;
        faults.sync_panics.store(false, Ordering::Relaxed);
        let why = failed.expect("in time").why.expect("told");
        let expected = if panics {
            "has panicked"
        } else {
            "has stopped"
        };
        assert!(why.contains(expected), "{why}");
        let stopped = tokio::time::timeout(LIMIT, member.node.barrier()).await;
        assert!(stopped.expect("in time").is_err());
        let end = tokio::time::timeout(LIMIT, member.node.shutdown()).await;
        end.expect("a dead core holds up no stop");
    }
}

#[test]
fn a_full_disk_is_no_reason_to_empty_the_directory() {
    let dir = Path::new("/data");
    let told = |kind: io::ErrorKind| {
        let source = StoreError::Io {
            action: "opening",
            path: dir.to_owned(),
            source: kind.into(),
        };
        let dir = dir.to_owned();
        told(&or_disk_full(
            StartError::Store {
                dir: dir.clone(),
                source,
            },
            &RealDisk,
            &std::env::temp_dir(),
        ))
    };
    let full = told(io::ErrorKind::StorageFull);
    assert!(
        full.contains("free some") && !full.contains("empty"),
        "{full}"
    );
    let damaged = told(io::ErrorKind::InvalidData);
    assert!(damaged.contains("does not open"), "{damaged}");
}

#[tokio::test]
async fn the_term_of_a_candidate_with_a_short_log_is_taken_up_unless_somebody_leads() {
    let dir = tempfile::tempdir().expect("a directory");
    let member = start(one(dir.path()), None).await.expect("starts");
    let node = &member.node;
    let until = Instant::now() + LIMIT;
    while !node.serving() {
        assert!(Instant::now() < until, "it leads");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let server = super::super::peer::PeerServer {
        credentials: node.credentials.clone(),
        raft: node.raft.clone(),
        proposals: node.proposals.clone(),
        touches: node.touches.clone(),
        led: node.led.clone(),
        offered: node.offered.clone(),
        links: node.links.clone(),
        tasks: node.tasks.clone(),
    };
    let candidate = |term| super::super::types::Vote::new(term, 3);
    let asks = async |term| {
        let request = openraft::raft::VoteRequest::new(candidate(term), None);
        let answer = server.vote(request).await;
        assert!(matches!(answer, Answer::Vote(answer) if !answer.vote_granted));
    };
    let mut metrics = node.raft.server_metrics();
    asks(10).await;
    let led = metrics.borrow_and_update().vote;
    assert!(led.committed, "it goes on leading");
    handover::release(&node.raft, super::super::types::Vote::new(5, 2)).await;
    asks(9).await;
    let taken = metrics.wait_for(|now| now.vote == candidate(9));
    let taken = tokio::time::timeout(LIMIT, taken).await;
    assert!(taken.expect("in time").is_ok(), "term 10 was not taken up");
    node.shutdown().await;
}
