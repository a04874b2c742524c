//! Every transition of a classic group. What is expected comes from Kafka's GroupCoordinator and its tests.

use super::*;
use crate::broker::group::record::MemberMetadata;

const SESSION_MS: i32 = 10_000;
const REBALANCE_MS: i32 = 60_000;
const LIMITS: Limits = Limits {
    members_max: 3,
    initial_rebalance_delay_ms: 3_000,
};

/// A group with a clock; requests get increasing waiters, and answers are collected by waiter.
struct Bench {
    group: Group,
    now: Now,
    waiter: Waiter,
    answers: BTreeMap<Waiter, Answer>,
    writes: Vec<(Write, GroupMetadata)>,
}

impl Bench {
    fn new(limits: Limits) -> Bench {
        Bench {
            group: Group::new(limits),
            now: Now {
                monotonic_ms: 1_000_000,
                wall_ms: 5_000_000,
            },
            waiter: 0,
            answers: BTreeMap::new(),
            writes: Vec::new(),
        }
    }

    fn on(&mut self, event: Event) {
        for effect in self.group.on(self.now, event) {
            match effect {
                Effect::Answer(waiter, answer) => {
                    assert!(waiter <= self.waiter, "an answer to nobody");
                    let before = self.answers.insert(waiter, answer);
                    assert_eq!(before, None, "a second answer to {waiter}");
                }
                Effect::Write(write, metadata) => self.writes.push((write, metadata)),
            }
        }
        if let Some(leader) = &self.group.leader {
            assert!(
                self.group.members.contains_key(leader),
                "the leader is a member"
            );
        }
        for (instance, id) in &self.group.statics {
            assert_eq!(self.group.members[id].instance_id.as_ref(), Some(instance));
        }
    }

    /// Lets time pass, firing every timer on the way.
    fn pass(&mut self, ms: i64) {
        let end = self.now.monotonic_ms + ms;
        while let Some(due) = self.group.deadline().filter(|due| *due <= end) {
            let step = (due - self.now.monotonic_ms).max(0);
            self.now.monotonic_ms += step;
            self.now.wall_ms += step;
            self.on(Event::Tick);
            assert!(
                self.group
                    .deadline()
                    .is_none_or(|next| next > self.now.monotonic_ms),
                "a tick leaves nothing due"
            );
        }
        self.now.wall_ms += end - self.now.monotonic_ms;
        self.now.monotonic_ms = end;
    }

    fn send(&mut self, event: impl FnOnce(Waiter) -> Event) -> Waiter {
        self.waiter += 1;
        self.on(event(self.waiter));
        self.waiter
    }

    fn join(&mut self, join: Join) -> Waiter {
        self.send(|waiter| Event::Join(waiter, join))
    }

    fn sync(&mut self, id: &str, generation: i32, assignments: &[(&str, &'static [u8])]) -> Waiter {
        let assignments = assignments
            .iter()
            .map(|(id, data)| ((*id).into(), Bytes::from_static(data)));
        let sync = Sync {
            identity: who(id, generation),
            assignments: assignments.collect(),
            ..Sync::default()
        };
        self.send(|waiter| Event::Sync(waiter, sync))
    }

    fn heartbeat(&mut self, id: &str, generation: i32) -> Result<(), ResponseError> {
        let waiter = self.send(|waiter| Event::Heartbeat(waiter, who(id, generation)));
        match self.answers.remove(&waiter) {
            Some(Answer::Heartbeat(result)) => result,
            other => panic!("{other:?}"),
        }
    }

    fn leave(&mut self, leavers: &[(&str, Option<&str>)]) -> Vec<Option<ResponseError>> {
        let own = |(id, instance): &(&str, Option<&str>)| ((*id).into(), instance.map(Arc::from));
        let leavers = leavers.iter().map(own).collect();
        let waiter = self.send(|waiter| Event::Leave(waiter, leavers));
        match self.answers.remove(&waiter) {
            Some(Answer::Left(Ok(errors))) => errors,
            other => panic!("{other:?}"),
        }
    }

    fn written(&mut self, result: Result<(), ResponseError>) -> GroupMetadata {
        let (write, metadata) = self.writes.remove(0);
        self.on(Event::Written(write, result));
        metadata
    }

    fn joined(&mut self, waiter: Waiter) -> Joined {
        match self.answers.remove(&waiter) {
            Some(Answer::Joined(joined)) => joined,
            other => panic!("{waiter}: {other:?}"),
        }
    }

    fn refused(&mut self, waiter: Waiter) -> (ResponseError, String) {
        match self.answers.remove(&waiter) {
            Some(Answer::JoinRefused(error, id)) => (error, id.to_string()),
            other => panic!("{waiter}: {other:?}"),
        }
    }

    fn synced(&mut self, waiter: Waiter) -> Result<Bytes, ResponseError> {
        match self.answers.remove(&waiter) {
            Some(Answer::Synced(result)) => result.map(|synced| synced.assignment),
            other => panic!("{waiter}: {other:?}"),
        }
    }

    fn waits(&self, waiter: Waiter) -> bool {
        !self.answers.contains_key(&waiter)
    }
}

fn who(id: &str, generation: i32) -> Identity {
    Identity {
        member_id: id.into(),
        instance_id: None,
        generation,
    }
}

/// A member that needs no second request to be in: a client before v4.
fn old(id: &str) -> Join {
    Join {
        new_member_id: id.into(),
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        rebalance_timeout_ms: REBALANCE_MS,
        session_timeout_ms: SESSION_MS,
        protocol_type: "consumer".into(),
        protocols: vec![("range".into(), Bytes::from_static(b"v1"))],
        ..Join::default()
    }
}

fn again(id: &str) -> Join {
    Join {
        member_id: id.into(),
        new_member_id: "unused".into(),
        ..old("unused")
    }
}

fn fixed(instance: &str, id: &str) -> Join {
    Join {
        instance_id: Some(instance.into()),
        ..old(id)
    }
}

/// A stable group of one or two members `a` (leads) and `b`, in generation 1.
fn stable(members: usize) -> Bench {
    let mut bench = Bench::new(LIMITS);
    let a = bench.join(old("a"));
    let b = (members > 1).then(|| bench.join(old("b")));
    bench.pass(6_000);
    assert_eq!(bench.joined(a).generation, 1);
    let a = bench.sync("a", 1, &[("a", b"A"), ("b", b"B")]);
    bench.written(Ok(()));
    assert_eq!(bench.synced(a), Ok(Bytes::from_static(b"A")));
    if let Some(b) = b {
        assert_eq!(bench.joined(b).members, vec![]);
        let b = bench.sync("b", 1, &[]);
        assert_eq!(bench.synced(b), Ok(Bytes::from_static(b"B")));
    }
    assert_eq!(bench.group.state(), State::Stable);
    bench
}

/// The group of [`stable`] with two members, with `a` joining again.
fn preparing() -> (Bench, Waiter) {
    let mut bench = stable(2);
    let a = bench.join(again("a"));
    assert_eq!(bench.group.state(), State::PreparingRebalance);
    (bench, a)
}

fn completing() -> Bench {
    let (mut bench, a) = preparing();
    let b = bench.join(again("b"));
    assert_eq!(bench.joined(a).generation, 2);
    assert_eq!(bench.joined(b).generation, 2);
    assert_eq!(bench.group.state(), State::CompletingRebalance);
    bench
}

fn dead() -> Bench {
    let mut bench = stable(1);
    bench.on(Event::Unload);
    bench
}

fn empty() -> Bench {
    let mut bench = stable(1);
    assert_eq!(bench.leave(&[("a", None)]), vec![None]);
    bench.written(Ok(()));
    assert_eq!(bench.group.state(), State::Empty);
    bench
}

#[test]
fn a_new_client_gets_an_id_first_and_a_generation_after_the_initial_delay() {
    let mut bench = Bench::new(LIMITS);
    let first = bench.join(Join {
        require_known_member_id: true,
        ..old("a")
    });
    let required = (ResponseError::MemberIdRequired, "a".to_owned());
    assert_eq!(bench.refused(first), required);
    assert_eq!(bench.group.state(), State::Empty);
    let second = bench.join(again("a"));
    assert_eq!(bench.group.state(), State::PreparingRebalance);
    bench.pass(2_999);
    assert!(bench.waits(second));
    bench.pass(1);
    let joined = bench.joined(second);
    let expected = Joined {
        generation: 1,
        protocol_type: Some("consumer".into()),
        protocol_name: Some("range".into()),
        leader: "a".into(),
        skip_assignment: false,
        member_id: "a".into(),
        members: vec![("a".into(), None, Bytes::from_static(b"v1"))],
    };
    assert_eq!(joined, expected);
    assert_eq!(bench.group.state(), State::CompletingRebalance);
    let sync = bench.sync("a", 1, &[("a", b"A")]);
    assert!(bench.waits(sync), "not before it is in the log");
    let metadata = bench.written(Ok(()));
    let expected = GroupMetadata {
        protocol_type: "consumer".into(),
        generation: 1,
        protocol: Some("range".into()),
        leader: Some("a".into()),
        current_state_timestamp_ms: Some(5_003_000),
        members: vec![MemberMetadata {
            member_id: "a".into(),
            instance_id: None,
            client_id: "client".into(),
            client_host: "/127.0.0.1".into(),
            rebalance_timeout_ms: REBALANCE_MS,
            session_timeout_ms: SESSION_MS,
            subscription: Bytes::from_static(b"v1"),
            assignment: Bytes::from_static(b"A"),
        }],
    };
    assert_eq!(metadata, expected);
    assert_eq!(bench.synced(sync), Ok(Bytes::from_static(b"A")));
    assert_eq!(bench.group.state(), State::Stable);
}

#[test]
fn an_id_that_is_not_used_lapses() {
    let mut bench = Bench::new(LIMITS);
    bench.join(Join {
        require_known_member_id: true,
        ..old("a")
    });
    assert!(!bench.group.is_blank());
    bench.pass(i64::from(SESSION_MS));
    assert!(bench.group.is_blank());
    let late = bench.join(again("a"));
    assert_eq!(
        bench.refused(late),
        (ResponseError::UnknownMemberId, "a".to_owned())
    );
}

#[test]
fn the_initial_delay_grows_with_members_up_to_the_rebalance_timeout() {
    let mut bench = Bench::new(LIMITS);
    let short = |id| Join {
        rebalance_timeout_ms: 7_000,
        ..old(id)
    };
    let a = bench.join(short("a"));
    bench.pass(2_000);
    bench.join(short("b"));
    bench.pass(2_000);
    assert!(bench.waits(a), "3 s more because of b");
    bench.join(short("c"));
    bench.pass(2_999);
    assert!(
        bench.waits(a),
        "the last second that the timeout of 7 s leaves, because of c"
    );
    bench.pass(1);
    assert_eq!(bench.joined(a).members.len(), 3);
}

#[test]
fn a_second_member_rebalances_the_group() {
    let mut bench = stable(1);
    let b = bench.join(old("b"));
    assert_eq!(
        bench.heartbeat("a", 1),
        Err(ResponseError::RebalanceInProgress)
    );
    let a = bench.join(again("a"));
    let (a, b) = (bench.joined(a), bench.joined(b));
    assert_eq!((a.generation, b.generation), (2, 2));
    assert_eq!((&*a.leader, &*b.leader), ("a", "a"));
    assert_eq!((a.members.len(), b.members.len()), (2, 0));
    let b = bench.sync("b", 2, &[]);
    let a = bench.sync("a", 2, &[("a", b"A")]);
    bench.written(Ok(()));
    assert_eq!(bench.synced(a), Ok(Bytes::from_static(b"A")));
    assert_eq!(
        bench.synced(b),
        Ok(Bytes::new()),
        "what the leader forgot is empty"
    );
}

#[test]
fn joining_again_in_each_state() {
    let changed = |id| Join {
        protocols: vec![("range".into(), Bytes::from_static(b"v2"))],
        ..again(id)
    };
    let mut bench = stable(2);
    let b = bench.join(again("b"));
    let joined = bench.joined(b);
    assert_eq!(
        (joined.generation, joined.members.len()),
        (1, 0),
        "nothing changed"
    );
    bench.join(changed("b"));
    assert_eq!(bench.group.state(), State::PreparingRebalance);

    let mut bench = stable(2);
    bench.join(again("a"));
    assert_eq!(
        bench.group.state(),
        State::PreparingRebalance,
        "the leader always rebalances"
    );

    let mut bench = completing();
    let a = bench.join(again("a"));
    assert_eq!(bench.joined(a).members.len(), 2, "the answer was lost");
    let b = bench.sync("b", 2, &[]);
    bench.join(changed("a"));
    assert_eq!(bench.synced(b), Err(ResponseError::RebalanceInProgress));
    assert_eq!(bench.group.state(), State::PreparingRebalance);

    let (mut bench, a) = preparing();
    let retry = bench.join(again("a"));
    assert_eq!(bench.refused(a).0, ResponseError::RebalanceInProgress);
    assert!(bench.waits(retry));

    for (mut bench, error) in [
        (empty(), ResponseError::UnknownMemberId),
        (dead(), ResponseError::CoordinatorNotAvailable),
    ] {
        let a = bench.join(again("a"));
        assert_eq!(bench.refused(a), (error, "a".to_owned()));
    }
}

#[test]
fn protocols_must_fit_and_are_voted_for() {
    let speaks = |id: &str, names: &[&str]| Join {
        protocols: names
            .iter()
            .map(|name| ((*name).into(), Bytes::new()))
            .collect(),
        ..old(id)
    };
    let mut bench = Bench::new(LIMITS);
    for bad in [
        speaks("x", &[]),
        Join {
            protocol_type: "".into(),
            ..old("x")
        },
    ] {
        let waiter = bench.join(bad);
        assert_eq!(
            bench.refused(waiter).0,
            ResponseError::InconsistentGroupProtocol
        );
    }
    let a = bench.join(speaks("a", &["range", "sticky", "roundrobin"]));
    for bad in [
        speaks("x", &["other"]),
        Join {
            protocol_type: "connect".into(),
            ..old("x")
        },
    ] {
        let waiter = bench.join(bad);
        assert_eq!(
            bench.refused(waiter).0,
            ResponseError::InconsistentGroupProtocol
        );
    }
    bench.join(speaks("b", &["sticky", "roundrobin"]));
    bench.join(speaks("c", &["roundrobin", "sticky"]));
    bench.pass(10_000);
    // a and b vote for sticky, because c and b do not speak range.
    assert_eq!(bench.joined(a).protocol_name, Some("sticky".into()));
}

#[test]
fn sync_in_each_state() {
    use ResponseError as E;
    let table: [(Bench, &str, i32, E); 9] = [
        (stable(1), "x", 1, E::UnknownMemberId),
        (stable(1), "a", 0, E::IllegalGeneration),
        (completing(), "a", 1, E::IllegalGeneration),
        (completing(), "x", 2, E::UnknownMemberId),
        (preparing().0, "a", 1, E::RebalanceInProgress),
        (preparing().0, "b", 0, E::IllegalGeneration),
        (empty(), "a", 1, E::UnknownMemberId),
        (dead(), "a", 1, E::CoordinatorNotAvailable),
        (Bench::new(LIMITS), "a", 1, E::UnknownMemberId),
    ];
    for (row, (mut bench, id, generation, error)) in table.into_iter().enumerate() {
        let waiter = bench.sync(id, generation, &[]);
        assert_eq!(bench.synced(waiter), Err(error), "row {row}");
    }
    for (kind, name, good) in [
        (Some("consumer"), Some("range"), true),
        (Some("connect"), Some("range"), false),
        (Some("consumer"), Some("sticky"), false),
        (None, None, true),
    ] {
        let mut bench = stable(1);
        let sync = Sync {
            identity: who("a", 1),
            protocol_type: kind.map(Arc::from),
            protocol_name: name.map(Arc::from),
            ..Sync::default()
        };
        let waiter = bench.send(|waiter| Event::Sync(waiter, sync));
        let expected = if good {
            Ok(Bytes::from_static(b"A"))
        } else {
            Err(E::InconsistentGroupProtocol)
        };
        assert_eq!(bench.synced(waiter), expected, "{kind:?} {name:?}");
    }
}

#[test]
fn heartbeat_in_each_state() {
    use ResponseError as E;
    let table: [(Bench, &str, i32, Result<(), E>); 9] = [
        (stable(1), "a", 1, Ok(())),
        (stable(1), "a", 2, Err(E::IllegalGeneration)),
        (stable(1), "x", 1, Err(E::UnknownMemberId)),
        (completing(), "a", 2, Ok(())),
        (completing(), "a", 1, Err(E::IllegalGeneration)),
        (preparing().0, "b", 1, Err(E::RebalanceInProgress)),
        (preparing().0, "b", 0, Err(E::IllegalGeneration)),
        (empty(), "a", 1, Err(E::UnknownMemberId)),
        (dead(), "a", 1, Err(E::CoordinatorNotAvailable)),
    ];
    for (row, (mut bench, id, generation, expected)) in table.into_iter().enumerate() {
        assert_eq!(bench.heartbeat(id, generation), expected, "row {row}");
    }
}

#[test]
fn commits_in_each_state() {
    use ResponseError as E;
    let table: [(Bench, &str, i32, Result<(), E>); 15] = [
        (Bench::new(LIMITS), "", -1, Ok(())),
        (Bench::new(LIMITS), "a", -1, Ok(())),
        (Bench::new(LIMITS), "a", 1, Err(E::UnknownMemberId)),
        (empty(), "", -1, Ok(())),
        (empty(), "a", 1, Err(E::UnknownMemberId)),
        (stable(1), "a", 1, Ok(())),
        (stable(1), "a", 0, Err(E::IllegalGeneration)),
        (stable(1), "x", 1, Err(E::UnknownMemberId)),
        (stable(1), "", -1, Err(E::UnknownMemberId)),
        (stable(1), "a", -1, Err(E::IllegalGeneration)),
        (preparing().0, "b", 1, Ok(())),
        (completing(), "a", 2, Err(E::RebalanceInProgress)),
        (completing(), "a", 1, Err(E::IllegalGeneration)),
        (dead(), "a", 1, Err(E::CoordinatorNotAvailable)),
        (dead(), "", -1, Err(E::CoordinatorNotAvailable)),
    ];
    for (row, (mut bench, id, generation, expected)) in table.into_iter().enumerate() {
        let result = bench.group.check_commit(bench.now, &who(id, generation));
        assert_eq!(result, expected, "row {row}");
    }
}

#[test]
fn silence_ends_a_session_and_every_request_renews_it() {
    let mut bench = stable(2);
    bench.pass(9_000);
    assert_eq!(bench.heartbeat("a", 1), Ok(()));
    let now = bench.now;
    assert_eq!(bench.group.check_commit(now, &who("b", 1)), Ok(()));
    bench.pass(9_999);
    assert_eq!(bench.group.state(), State::Stable);
    let a = bench.join(again("a"));
    bench.pass(1);
    // b is gone, so a has its generation alone, at once.
    let joined = bench.joined(a);
    assert_eq!((joined.generation, joined.members.len()), (2, 1));
    let a = bench.sync("a", 2, &[]);
    bench.written(Ok(()));
    assert_eq!(bench.synced(a), Ok(Bytes::new()));
    bench.pass(i64::from(SESSION_MS));
    assert_eq!(bench.group.state(), State::Empty);
    assert_eq!(bench.group.generation(), 3);
    let written = bench.written(Ok(()));
    assert_eq!(
        (written.generation, written.protocol, written.leader),
        (3, None, None)
    );
    assert_eq!(&*written.protocol_type, "consumer");
    assert_eq!(
        bench.group.deadline(),
        None,
        "an empty group needs no timer"
    );
}

#[test]
fn who_waits_for_an_answer_is_alive() {
    let (mut bench, a) = preparing();
    for _ in 0..5 {
        bench.pass(9_000);
        assert_eq!(
            bench.heartbeat("b", 1),
            Err(ResponseError::RebalanceInProgress)
        );
    }
    assert!(bench.waits(a));
    let b = bench.join(again("b"));
    assert_eq!(bench.joined(a).generation, 2);
    bench.joined(b);
    // And from the answer on, it has a whole session again.
    bench.pass(9_999);
    assert_eq!(bench.group.members().len(), 2);
    bench.pass(1);
    assert_eq!(bench.group.members().len(), 0);
}

#[test]
fn a_rebalance_does_not_wait_for_ever() {
    let (mut bench, a) = preparing();
    let mut passed = 0;
    while bench.waits(a) {
        bench.pass(5_000);
        passed += 5_000;
        if bench.waits(a) {
            assert_eq!(
                bench.heartbeat("b", 1),
                Err(ResponseError::RebalanceInProgress)
            );
        }
    }
    assert_eq!(passed, REBALANCE_MS);
    assert_eq!(bench.joined(a).members.len(), 1);
    assert_eq!(bench.heartbeat("b", 2), Err(ResponseError::UnknownMemberId));
}

#[test]
fn a_late_leader_is_replaced_by_who_joined() {
    let mut bench = stable(2);
    let b = bench.join(Join {
        protocols: vec![("range".into(), Bytes::from_static(b"v2"))],
        ..again("b")
    });
    bench.pass(i64::from(SESSION_MS));
    let joined = bench.joined(b);
    assert_eq!((&*joined.leader, joined.members.len()), ("b", 1));
}

#[test]
fn a_new_member_that_has_gone_is_dropped_after_five_minutes() {
    let mut bench = stable(1);
    let long = |join| Join {
        rebalance_timeout_ms: 900_000,
        session_timeout_ms: 1_000_000,
        ..join
    };
    bench.join(long(again("a")));
    let b = bench.join(long(old("b")));
    bench.joined(1 + 2);
    // a was alone and completed; b now waits for a.
    assert_eq!(bench.group.state(), State::PreparingRebalance);
    bench.pass(NEW_MEMBER_JOIN_TIMEOUT_MS - 1);
    assert!(bench.waits(b));
    bench.pass(1);
    assert_eq!(
        bench.refused(b),
        (ResponseError::UnknownMemberId, String::new())
    );
}

#[test]
fn members_that_do_not_sync_are_dropped() {
    let mut bench = completing();
    let a = bench.sync("a", 2, &[]);
    bench.written(Ok(()));
    assert_eq!(bench.synced(a), Ok(Bytes::new()));
    let mut passed = 0;
    while bench.group.state() == State::Stable {
        assert_eq!(bench.heartbeat("a", 2), Ok(()));
        assert_eq!(bench.heartbeat("b", 2), Ok(()));
        bench.pass(5_000);
        passed += 5_000;
    }
    assert_eq!(passed, REBALANCE_MS);
    assert_eq!(bench.heartbeat("b", 2), Err(ResponseError::UnknownMemberId));
    assert_eq!(
        bench.heartbeat("a", 2),
        Err(ResponseError::RebalanceInProgress)
    );
}

#[test]
fn leaving_one_by_one_and_in_a_batch() {
    let mut bench = stable(2);
    let unknown = Some(ResponseError::UnknownMemberId);
    let errors = bench.leave(&[("x", None), ("b", None), ("", None), ("b", None)]);
    assert_eq!(errors, vec![unknown, None, unknown, unknown]);
    assert_eq!(
        bench.heartbeat("a", 1),
        Err(ResponseError::RebalanceInProgress)
    );
    // The last one to leave completes the rebalance of nobody.
    assert_eq!(bench.leave(&[("a", None)]), vec![None]);
    assert_eq!(
        (bench.group.state(), bench.group.generation()),
        (State::Empty, 2)
    );

    let mut bench = stable(1);
    bench.join(Join {
        require_known_member_id: true,
        ..old("p")
    });
    let a = bench.join(again("a"));
    assert!(bench.waits(a), "p is still expected");
    assert_eq!(bench.leave(&[("p", None)]), vec![None]);
    assert_eq!(bench.joined(a).generation, 2);

    let mut bench = dead();
    let waiter = bench.send(|waiter| Event::Leave(waiter, vec![]));
    let error = Answer::Left(Err(ResponseError::CoordinatorNotAvailable));
    assert_eq!(bench.answers.remove(&waiter), Some(error));
}

/// A stable group of the static members i (leads) and j.
fn stable_static() -> Bench {
    let mut bench = Bench::new(LIMITS);
    let a = bench.join(fixed("i", "a"));
    let b = bench.join(fixed("j", "b"));
    bench.pass(6_000);
    assert_eq!(bench.joined(a).members[0].1, Some("i".into()));
    bench.joined(b);
    let a = bench.sync("a", 1, &[("a", b"A"), ("b", b"B")]);
    bench.written(Ok(()));
    assert!(bench.synced(a).is_ok());
    let b = bench.sync("b", 1, &[]);
    assert!(bench.synced(b).is_ok());
    bench
}

#[test]
fn a_static_member_comes_back_without_a_rebalance() {
    for skip in [false, true] {
        let mut bench = stable_static();
        let back = bench.join(Join {
            support_skipping_assignment: skip,
            ..fixed("i", "a2")
        });
        assert!(bench.waits(back), "not before it is in the log");
        let written = bench.written(Ok(()));
        assert_eq!(written.leader, Some("a2".into()));
        assert_eq!(written.members[0].assignment, Bytes::from_static(b"A"));
        let joined = bench.joined(back);
        assert_eq!((joined.generation, &*joined.member_id), (1, "a2"));
        assert_eq!(&*joined.leader, if skip { "a2" } else { "a" });
        assert_eq!(
            (joined.skip_assignment, joined.members.len()),
            (skip, if skip { 2 } else { 0 })
        );
        assert_eq!(bench.group.state(), State::Stable);
        let sync = bench.sync("a2", 1, &[]);
        assert_eq!(bench.synced(sync), Ok(Bytes::from_static(b"A")));
        // Its former self is fenced, wherever it knocks.
        let former = Identity {
            instance_id: Some("i".into()),
            ..who("a", 1)
        };
        let waiter = bench.send(|waiter| Event::Heartbeat(waiter, former.clone()));
        let fenced = ResponseError::FencedInstanceId;
        assert_eq!(
            bench.answers.remove(&waiter),
            Some(Answer::Heartbeat(Err(fenced)))
        );
        assert_eq!(bench.group.check_commit(bench.now, &former), Err(fenced));
        let waiter = bench.join(Join {
            member_id: "a".into(),
            ..fixed("i", "unused")
        });
        assert_eq!(bench.refused(waiter), (fenced, "a".to_owned()));
        assert_eq!(bench.leave(&[("a", Some("i"))]), vec![Some(fenced)]);
        assert_eq!(
            bench.leave(&[("", Some("i"))]),
            vec![None],
            "by an administrator"
        );
    }
}

#[test]
fn a_static_member_whose_return_cannot_be_written_keeps_its_former_self() {
    let mut bench = stable_static();
    let back = bench.join(fixed("i", "a2"));
    bench.written(Err(ResponseError::NotCoordinator));
    assert_eq!(
        bench.refused(back),
        (ResponseError::NotCoordinator, String::new())
    );
    assert_eq!(bench.heartbeat("a", 1), Ok(()));
    assert_eq!(
        bench.heartbeat("a2", 1),
        Err(ResponseError::UnknownMemberId)
    );
    assert_eq!(bench.group.leader, Some("a".into()));
}

#[test]
fn a_static_member_that_changes_the_protocol_rebalances() {
    let mut bench = stable_static();
    let back = bench.join(Join {
        protocols: vec![
            ("range".into(), Bytes::new()),
            ("other".into(), Bytes::new()),
        ],
        ..fixed("j", "b2")
    });
    bench.written(Ok(()));
    assert_eq!(bench.joined(back).generation, 1, "range still wins");
    let mut bench = stable_static();
    bench.leave(&[("b", Some("j"))]);
    let a = bench.join(Join {
        member_id: "a".into(),
        ..fixed("i", "unused")
    });
    assert_eq!(bench.joined(a).generation, 2);
    let a = bench.sync("a", 2, &[]);
    bench.written(Ok(()));
    assert!(bench.synced(a).is_ok());
    let back = bench.join(Join {
        protocols: vec![("range".into(), Bytes::new())],
        ..fixed("i", "a2")
    });
    bench.written(Ok(()));
    bench.joined(back);
}

#[test]
fn a_static_member_in_a_rebalance_fences_and_takes_over() {
    let mut bench = stable_static();
    let a = bench.join(Join {
        member_id: "a".into(),
        ..fixed("i", "unused")
    });
    assert_eq!(bench.group.state(), State::PreparingRebalance);
    let a2 = bench.join(fixed("i", "a2"));
    assert_eq!(
        bench.refused(a),
        (ResponseError::FencedInstanceId, "a".to_owned())
    );
    let b = bench.join(Join {
        member_id: "b".into(),
        ..fixed("j", "unused")
    });
    assert_eq!(bench.joined(a2).generation, 2);
    bench.joined(b);
    // In CompletingRebalance the leader may be assigning to the old id: once more, then.
    let b = bench.sync("b", 2, &[]);
    let b2 = bench.join(fixed("j", "b2"));
    assert_eq!(bench.synced(b), Err(ResponseError::FencedInstanceId));
    assert_eq!(bench.group.state(), State::PreparingRebalance);
    assert!(bench.waits(b2));
}

#[test]
fn static_members_that_are_away_stay_until_their_session_ends() {
    let mut bench = stable_static();
    let long = Join {
        session_timeout_ms: 100_000,
        member_id: "b".into(),
        protocols: vec![("range".into(), Bytes::from_static(b"v2"))],
        ..fixed("j", "unused")
    };
    // Both have long sessions; then only b joins.
    let mut all = Vec::new();
    for (id, instance) in [("a", "i"), ("b", "j")] {
        all.push(bench.join(Join {
            member_id: id.into(),
            instance_id: Some(instance.into()),
            ..long.clone()
        }));
    }
    for waiter in all {
        assert_eq!(bench.joined(waiter).generation, 2);
    }
    let a = bench.sync("a", 2, &[]);
    let b = bench.sync("b", 2, &[]);
    bench.written(Ok(()));
    assert!(bench.synced(a).is_ok() && bench.synced(b).is_ok());
    let b = bench.join(Join {
        protocols: vec![("range".into(), Bytes::from_static(b"v3"))],
        ..long
    });
    bench.pass(i64::from(REBALANCE_MS));
    let joined = bench.joined(b);
    assert_eq!(
        (joined.generation, joined.members.len()),
        (3, 2),
        "a is still counted"
    );
    assert_eq!(&*joined.leader, "b", "but does not lead");
}

#[test]
fn a_group_has_a_largest_size() {
    let mut bench = stable(2);
    bench.join(old("c"));
    bench.join(old("d"));
    let e = bench.join(old("e"));
    let f = bench.join(old("f"));
    // Three may wait for a generation, whoever they are.
    assert!(bench.waits(e));
    let full = (ResponseError::GroupMaxSizeReached, String::new());
    assert_eq!(bench.refused(f), full);
    let a = bench.join(again("a"));
    assert_eq!(
        bench.refused(a),
        (ResponseError::GroupMaxSizeReached, String::new())
    );

    let mut bench = Bench::new(LIMITS);
    for n in 0..5 {
        let waiter = bench.join(Join {
            require_known_member_id: true,
            ..old(&format!("p{n}"))
        });
        let (error, _) = bench.refused(waiter);
        let expected = if n < 3 {
            ResponseError::MemberIdRequired
        } else {
            ResponseError::GroupMaxSizeReached
        };
        assert_eq!(error, expected);
    }
    let p = bench.join(again("p0"));
    assert!(bench.waits(p), "who has an id has a place");
}

#[test]
fn an_assignment_that_cannot_be_written_is_nobodys() {
    let mut bench = completing();
    let b = bench.sync("b", 2, &[]);
    let a = bench.sync("a", 2, &[("a", b"A")]);
    bench.written(Err(ResponseError::CoordinatorNotAvailable));
    for waiter in [a, b] {
        assert_eq!(
            bench.synced(waiter),
            Err(ResponseError::CoordinatorNotAvailable)
        );
    }
    assert_eq!(bench.group.state(), State::PreparingRebalance);
}

#[test]
fn an_assignment_of_a_generation_that_has_passed_is_dropped() {
    let mut bench = completing();
    let a = bench.sync("a", 2, &[("a", b"A")]);
    assert_eq!(bench.leave(&[("b", None)]), vec![None]);
    assert_eq!(bench.synced(a), Err(ResponseError::RebalanceInProgress));
    bench.written(Ok(()));
    assert_eq!(bench.group.state(), State::PreparingRebalance);
    let a = bench.join(again("a"));
    assert_eq!(bench.joined(a).generation, 3);
}

#[test]
fn unloading_tells_everybody_who_waits() {
    let (mut bench, a) = preparing();
    bench.on(Event::Unload);
    assert_eq!(
        bench.refused(a),
        (ResponseError::NotCoordinator, "a".to_owned())
    );
    let mut bench = completing();
    let b = bench.sync("b", 2, &[]);
    bench.on(Event::Unload);
    assert_eq!(bench.synced(b), Err(ResponseError::NotCoordinator));
    assert_eq!(
        (bench.group.state(), bench.group.deadline()),
        (State::Dead, None)
    );
}

#[test]
fn a_group_reads_back_as_it_was_written() {
    let mut bench = completing();
    bench.sync("a", 2, &[("a", b"A"), ("b", b"B")]);
    let written = bench.written(Ok(()));
    let now = bench.now;
    let mut loaded = Bench {
        group: Group::load(LIMITS, now, written.clone()),
        now,
        ..Bench::new(LIMITS)
    };
    assert_eq!(loaded.group.state(), State::Stable);
    assert_eq!(loaded.heartbeat("b", 2), Ok(()));
    let b = loaded.sync("b", 2, &[]);
    assert_eq!(loaded.synced(b), Ok(Bytes::from_static(b"B")));
    // The leader's next join rebalances, a follower's does not.
    let b = loaded.join(again("b"));
    assert_eq!(loaded.joined(b).generation, 2);
    loaded.pass(i64::from(SESSION_MS));
    assert_eq!(loaded.group.state(), State::Empty);

    let small = Limits {
        members_max: 1,
        ..LIMITS
    };
    let over = Group::load(small, now, written);
    assert_eq!(
        over.state(),
        State::PreparingRebalance,
        "too large for this broker"
    );
}

#[test]
fn only_an_empty_group_can_be_deleted() {
    assert!(!stable(1).group.delete());
    assert!(!preparing().0.group.delete());
    assert!(!completing().group.delete());
    assert!(empty().group.delete());
}

/// A thousand random lives: nobody is answered twice, nobody waits for ever, and what holds after every
/// step (see [`Bench::on`]) holds.
#[test]
fn random_lives_answer_every_request_once() {
    for seed in 0..1_000u64 {
        let rng = crate::common::rng::Rng::from_seed(seed);
        let mut bench = Bench::new(LIMITS);
        let mut open = BTreeSet::new();
        for step in 0..60 {
            let id = ["a", "b", "c", "d"][rng.below(4) as usize];
            let generation = bench.group.generation() - i32::from(rng.below(8) == 0);
            let fresh = format!("{id}{step}");
            let instance = (id == "d").then(|| Arc::from("i"));
            let known = bench
                .group
                .members()
                .find(|member| member.id.starts_with(id));
            let current = known.map_or(Arc::from(id), |member| member.id.clone());
            match rng.below(7) {
                0 => drop(open.insert(bench.join(Join {
                    instance_id: instance,
                    require_known_member_id: rng.below(2) == 0,
                    ..old(&fresh)
                }))),
                1 | 2 => drop(open.insert(bench.join(Join {
                    instance_id: instance,
                    ..again(&current)
                }))),
                3 => drop(open.insert(bench.sync(&current, generation, &[]))),
                4 => {
                    let _ = bench.heartbeat(&current, generation);
                }
                5 if rng.below(3) == 0 => {
                    bench.leave(&[(&current, None)]);
                }
                _ => bench.pass(rng.below(8_000) as i64),
            }
            while !bench.writes.is_empty() && rng.below(3) > 0 {
                let failed = rng.below(5) == 0;
                let result = Err(ResponseError::CoordinatorNotAvailable);
                bench.written(if failed { result } else { Ok(()) });
            }
        }
        bench.on(Event::Unload);
        for waiter in open {
            assert!(
                bench.answers.contains_key(&waiter),
                "seed {seed}: {waiter} waits for ever"
            );
        }
    }
}
