//! The line of requests, alone and as a small cluster of lines around one log.

use proptest::prelude::*;

use super::*;
use crate::common::ids::Zxid;
use crate::coordinator::tree::op::Done;

const A: MemberId = MemberId(1);
const B: MemberId = MemberId(2);

fn key(term: u64, node: u64) -> LeaderKey {
    LeaderKey::new(term, node)
}

type Answer = oneshot::Receiver<Result<Outcome, ProposeError>>;

fn submit(line: &Proposals, request: u64) -> Answer {
    let (tell, answer) = oneshot::channel();
    let bytes = Bytes::copy_from_slice(&request.to_be_bytes());
    line.submit(bytes, Waiter::Request(tell, None), 0);
    answer
}

fn outcome(number: u64) -> Outcome {
    Outcome {
        zxid: Zxid(number.cast_signed()),
        result: Ok(Done::Nothing),
    }
}

fn lead(line: &Proposals, leader: LeaderKey) {
    line.set_leader(Some(leader), true);
    line.entry(leader, None);
}

fn follow(line: &Proposals, leader: LeaderKey) {
    line.set_leader(Some(leader), false);
    line.entry(leader, None);
}

fn forwarded(line: &Proposals) -> (LeaderKey, Part) {
    match line.next() {
        Some(Send::Forward(leader, part)) => (leader, part),
        other => panic!("not forwarded: {other:?}"),
    }
}

fn proposed(line: &Proposals) -> Batch {
    match line.next() {
        Some(Send::Propose(batch)) => batch,
        other => panic!("not proposed: {other:?}"),
    }
}

#[test]
fn nothing_is_sent_before_the_leaders_first_entry_is_applied() {
    let line = Proposals::new(A, 9);
    let _answer = submit(&line, 1);
    assert_eq!(line.next(), None);
    line.set_leader(Some(key(3, 1)), true);
    assert_eq!(line.next(), None);
    line.entry(key(2, 2), None);
    assert_eq!(line.next(), None);
    line.entry(key(3, 1), None);
    assert_eq!(proposed(&line).leader, key(3, 1));
}

#[test]
fn what_gathers_while_two_entries_are_in_flight_becomes_one_entry() {
    let line = Proposals::new(A, 9);
    lead(&line, key(1, 1));
    let _first = (submit(&line, 1), proposed(&line));
    let _second = (submit(&line, 2), proposed(&line));
    let _more: Vec<_> = (3..10).map(|n| submit(&line, n)).collect();
    assert_eq!(line.next(), None);
    line.entry(key(1, 1), Some(key(1, 1)));
    let batch = proposed(&line);
    assert_eq!(batch.parts.len(), 1);
    assert_eq!(
        (batch.parts[0].first, batch.parts[0].requests.len()),
        (3, 7)
    );
}

#[test]
fn a_large_request_goes_alone_and_limits_hold() {
    let line = Proposals::new(A, 9);
    lead(&line, key(1, 1));
    for _ in 0..2 {
        let (tell, _) = oneshot::channel();
        let bytes = Bytes::from(vec![1; BATCH_BYTES_MAX * 3 / 2]);
        line.submit(bytes, Waiter::Request(tell, None), 0);
    }
    assert_eq!(proposed(&line).parts[0].requests.len(), 1);
    assert_eq!(proposed(&line).parts[0].requests.len(), 1);
    let mut refused = 0;
    for _ in 0..200 {
        let (tell, mut answer) = oneshot::channel();
        let bytes = Bytes::from(vec![1; 1 << 20]);
        line.submit(bytes, Waiter::Request(tell, None), 0);
        refused += u32::from(answer.try_recv() == Ok(Err(ProposeError::Overloaded)));
    }
    assert!(refused >= 136, "{refused}");
}

#[test]
fn a_new_leaders_first_entry_sends_again_what_was_not_applied_and_only_that() {
    let line = Proposals::new(B, 9);
    follow(&line, key(1, 1));
    let mut answers: Vec<_> = (1..=3).map(|n| submit(&line, n)).collect();
    let (_, part) = forwarded(&line);
    assert_eq!(
        (part.first, part.requests.len(), part.from_start),
        (1, 3, true)
    );
    // The first made it into the log before the leader died.
    let mut applied = part.clone();
    applied.requests.truncate(1);
    line.resolve(&applied, &mut [outcome(1)].into_iter());
    assert_eq!(answers[0].try_recv(), Ok(Ok(outcome(1))));
    line.set_leader(Some(key(2, 3)), false);
    assert_eq!(line.next(), None, "it is not known yet what was applied");
    line.entry(key(2, 3), None);
    let (leader, part) = forwarded(&line);
    assert_eq!(leader, key(2, 3));
    assert_eq!(
        (part.first, part.requests.len(), part.from_start),
        (2, 2, true)
    );
    assert!(answers[1].try_recv().is_err());
}

#[test]
fn a_batch_in_another_leaders_entry_is_void() {
    let line = Proposals::new(A, 9);
    assert!(line.entry(key(1, 1), Some(key(1, 1))));
    assert!(!line.entry(key(3, 1), Some(key(1, 1))));
}

#[test]
fn the_leader_takes_each_request_once_and_none_after_a_gap() {
    let leader = key(1, 1);
    let line = Proposals::new(A, 9);
    lead(&line, leader);
    let part = |first: u64, count: usize, from_start: bool| Part {
        member: B,
        life: 5,
        first,
        from_start,
        requests: vec![Bytes::from_static(b"x"); count],
    };
    assert!(
        !line.take(key(1, 2), part(1, 1, true)),
        "for another leader"
    );
    assert!(
        !line.take(leader, part(4, 2, false)),
        "something is missing"
    );
    assert!(line.take(leader, part(1, 3, true)));
    assert!(!line.take(leader, part(5, 1, false)), "4 is missing");
    assert!(line.take(leader, part(1, 5, true)), "again, and more");
    assert!(line.take(leader, part(2, 2, false)), "nothing new");
    let taken: Vec<(u64, usize)> = proposed(&line)
        .parts
        .iter()
        .map(|part| (part.first, part.requests.len()))
        .collect();
    assert_eq!(taken, [(1, 3), (4, 2)]);
    // A leader lost from sight and found again is the same one.
    line.set_leader(None, false);
    line.set_leader(Some(leader), true);
    assert!(line.take(leader, part(3, 3, true)));
    assert_eq!(line.next(), None);
}

#[test]
fn late_requests_say_whether_they_may_still_happen() {
    let line = Proposals::new(A, 9);
    let mut unsent = submit(&line, 1);
    line.expire(1);
    assert_eq!(unsent.try_recv(), Ok(Err(ProposeError::NoLeader)));
    follow(&line, key(1, 2));
    let mut sent = submit(&line, 2);
    forwarded(&line);
    let mut jumped = submit(&line, 3);
    line.expire(0);
    assert!(sent.try_recv().is_err(), "not late yet");
    line.jumped(key(1, 2));
    assert_eq!(sent.try_recv(), Ok(Err(ProposeError::Unknown)));
    assert!(jumped.try_recv().is_err(), "it was not sent");
    line.stop();
    assert_eq!(jumped.try_recv(), Ok(Err(ProposeError::Stopped)));
    assert_eq!(submit(&line, 4).try_recv(), Ok(Err(ProposeError::Stopped)));
}

/// One thing that happens to a cluster of three lines.
#[derive(Clone, Debug)]
enum Step {
    Submit(usize),
    /// A member moves what it may; forwards reach the leader or are lost.
    Move(usize, bool),
    Rewind(usize),
    /// A member applies the next entry.
    Apply(usize),
    /// Another member becomes leader; the log loses what is not applied, from some place on.
    Elect(usize, u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3usize).prop_map(Step::Submit),
        6 => (0..3usize, prop::bool::weighted(0.8)).prop_map(|(m, arrives)| Step::Move(m, arrives)),
        1 => (0..3usize).prop_map(Step::Rewind),
        6 => (0..3usize).prop_map(Step::Apply),
        1 => (0..3usize, any::<u8>()).prop_map(|(m, cut)| Step::Elect(m, cut)),
    ]
}

struct Cluster {
    lines: Vec<Proposals>,
    applied: Vec<usize>,
    log: Vec<(LeaderKey, Option<Batch>)>,
    term: u64,
    leader: usize,
    submitted: Vec<Vec<(u64, Answer)>>,
    next: u64,
}

impl Cluster {
    fn new() -> Cluster {
        let lines = (0..3)
            .map(|m| Proposals::new(MemberId(m + 1), 100 + m))
            .collect();
        let mut cluster = Cluster {
            lines,
            applied: vec![0; 3],
            log: Vec::new(),
            term: 0,
            leader: 0,
            submitted: (0..3).map(|_| Vec::new()).collect(),
            next: 0,
        };
        cluster.elect(0, 0);
        cluster
    }

    fn elect(&mut self, member: usize, cut: u8) {
        let committed = *self.applied.iter().max().expect("three");
        let uncommitted = self.log.len() - committed;
        self.log
            .truncate(committed + usize::from(cut) % (uncommitted + 1));
        self.term += 1;
        self.leader = member;
        let leader = key(self.term, member as u64 + 1);
        for (index, line) in self.lines.iter().enumerate() {
            line.set_leader(Some(leader), index == member);
        }
        self.log.push((leader, None));
    }

    fn move_out(&mut self, member: usize, arrives: bool) {
        while let Some(send) = self.lines[member].next() {
            match send {
                Send::Propose(batch) => {
                    let leader = key(self.term, self.leader as u64 + 1);
                    assert_eq!(member, self.leader);
                    self.log.push((leader, Some(batch)));
                }
                Send::Forward(leader, part) => {
                    if !arrives || !self.lines[self.leader].take(leader, part) {
                        self.lines[member].rewind();
                        return;
                    }
                }
            }
        }
    }

    fn apply(&mut self, member: usize) -> bool {
        let Some((leader, batch)) = self.log.get(self.applied[member]).cloned() else {
            return false;
        };
        self.applied[member] += 1;
        let line = &self.lines[member];
        if line.entry(leader, batch.as_ref().map(|batch| batch.leader)) {
            for part in batch.iter().flat_map(|batch| &batch.parts) {
                let numbers: Vec<Outcome> =
                    part.requests.iter().map(|r| outcome(number(r))).collect();
                line.resolve(part, &mut numbers.into_iter());
            }
        }
        true
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Submit(member) => {
                self.next += 1;
                let answer = submit(&self.lines[*member], self.next);
                self.submitted[*member].push((self.next, answer));
            }
            Step::Move(member, arrives) => self.move_out(*member, *arrives),
            Step::Rewind(member) => self.lines[*member].rewind(),
            Step::Apply(member) => drop(self.apply(*member)),
            Step::Elect(member, cut) => self.elect(*member, *cut),
        }
    }
}

fn number(request: &Bytes) -> u64 {
    u64::from_be_bytes(request.as_ref().try_into().expect("eight bytes"))
}

proptest! {
    #[test]
    fn every_request_is_applied_exactly_once_and_in_order_whatever_happens(
        steps in prop::collection::vec(step(), 1..200)
    ) {
        let mut cluster = Cluster::new();
        for step in &steps {
            cluster.run(step);
        }
        // Then all is well for a while.
        for _ in 0..200 {
            for member in 0..3 {
                cluster.move_out(member, true);
                while cluster.apply(member) {}
            }
        }
        let counted: Vec<u64> = cluster
            .log
            .iter()
            .filter_map(|(leader, batch)| batch.as_ref().filter(|batch| batch.leader == *leader))
            .flat_map(|batch| &batch.parts)
            .flat_map(|part| part.requests.iter().map(number))
            .collect();
        for submitted in &mut cluster.submitted {
            let mut order = Vec::new();
            for (number, answer) in submitted.iter_mut() {
                prop_assert_eq!(answer.try_recv(), Ok(Ok(outcome(*number))));
                let places: Vec<usize> =
                    counted.iter().enumerate().filter(|(_, n)| *n == number).map(|(at, _)| at).collect();
                prop_assert_eq!(places.len(), 1, "request {} is in the log at {:?}", number, places);
                order.push(places[0]);
            }
            prop_assert!(order.is_sorted());
        }
        prop_assert_eq!(counted.len() as u64, cluster.next);
    }
}
