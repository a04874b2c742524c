//! Requests on their way into the log: gathered into entries, sent to the leader, resolved by apply.
//!
//! Exactly once and in order, also across a change of leader, without asking anybody: a request is given
//! a number; an entry says whose requests it holds and for which leader it was gathered; apply, which is
//! the same on every member, resolves them on the member that waits. Whoever sees the first entry of a
//! newer leader knows that everything sent to older ones and not applied yet never will be (a batch in
//! another leader's entry is void), and sends it again. The leader drops numbers it has had before, so a
//! broken connection is mended by sending again, too.
//!
//! Decisions only; [`super::node`] moves the messages.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, oneshot};

use super::types::{Batch, LeaderKey, Part};
use crate::common::ids::MemberId;
use crate::coordinator::room::Held;
use crate::coordinator::tree::op::Outcome;

/// Bytes of requests in one entry; a larger single request still makes one.
pub const BATCH_BYTES_MAX: usize = 512 << 10;
/// Requests in one entry.
pub const BATCH_REQUESTS_MAX: usize = 4096;
/// Entries proposed and not applied yet. With two, the followers' sync of one overlaps our sync of the
/// next.
const IN_FLIGHT_MAX: usize = 2;
/// Requests that wait on one member, in number and in bytes. Connections wait for room long before.
const WAITING_MAX: usize = 65_536;
const WAITING_BYTES_MAX: usize = 32 << 20;
/// Requests of other members that the leader holds before they are in an entry.
const INTAKE_BYTES_MAX: usize = 32 << 20;

/// Why a request has no outcome.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// It was never sent: there was no leader in time. It did not and will not happen.
    #[error("no leader")]
    NoLeader,
    /// It was sent, and no answer came in time. It may happen or not.
    #[error("no outcome in time; the request may or may not take effect")]
    Unknown,
    /// Too much is waiting already. It was not sent.
    #[error("too many requests are waiting")]
    Overloaded,
    /// It does not fit into an entry. It was not sent.
    #[error("a request of {bytes} bytes is too large for the log")]
    TooLarge {
        /// Its encoded size.
        bytes: usize,
    },
    /// This member is stopping or has failed.
    #[error("this member has stopped")]
    Stopped,
}

/// Whom to tell.
#[derive(Debug)]
pub enum Waiter {
    /// A request's outcome.
    Request(
        oneshot::Sender<Result<Outcome, ProposeError>>,
        /// The room that the request takes until then.
        Option<Held>,
    ),
    /// A barrier was applied.
    Barrier(oneshot::Sender<Result<(), ProposeError>>),
}

impl Waiter {
    fn fail(self, error: ProposeError) {
        match self {
            Waiter::Request(tell, _) => drop(tell.send(Err(error))),
            Waiter::Barrier(tell) => drop(tell.send(Err(error))),
        }
    }
}

/// The requests of one member, and on the leader those of all.
#[derive(Debug)]
pub struct Proposals {
    inner: Mutex<Inner>,
    /// There may be something to send.
    pub wake: Notify,
    /// The first entry of another leader was applied.
    pub opened: Notify,
}

#[derive(Debug)]
struct Inner {
    member: MemberId,
    life: u64,
    next: u64,
    waiting: BTreeMap<u64, Waiting>,
    waiting_bytes: usize,
    /// The first number that was not sent to the present leader.
    cursor: u64,
    leader: Option<LeaderKey>,
    leading: bool,
    /// The last leader known. What was sent to it, and taken as it, stays so if it is only lost from
    /// sight for a while.
    known: Option<LeaderKey>,
    applied: Option<LeaderKey>,
    /// On the leader: parts of others that are in no entry yet.
    intake: VecDeque<Part>,
    intake_bytes: usize,
    /// On the leader: the number after the last one taken, by member and life.
    taken: BTreeMap<(MemberId, u64), u64>,
    in_flight: usize,
    stopped: bool,
}

#[derive(Debug)]
struct Waiting {
    request: Bytes,
    waiter: Waiter,
    since_ms: i64,
    /// Sent to a leader, and not known to be lost.
    sent: bool,
}

/// What there is to send.
#[derive(Debug, PartialEq, Eq)]
pub enum Send {
    /// We lead: propose this.
    Propose(Batch),
    /// Another member leads: forward this to it.
    Forward(LeaderKey, Part),
}

impl Proposals {
    /// Nothing waits yet. `life` is drawn anew by each process.
    pub fn new(member: MemberId, life: u64) -> Proposals {
        Proposals {
            inner: Mutex::new(Inner {
                member,
                life,
                next: 1,
                waiting: BTreeMap::new(),
                waiting_bytes: 0,
                cursor: 0,
                leader: None,
                leading: false,
                known: None,
                applied: None,
                intake: VecDeque::new(),
                intake_bytes: 0,
                taken: BTreeMap::new(),
                in_flight: 0,
                stopped: false,
            }),
            wake: Notify::new(),
            opened: Notify::new(),
        }
    }

    /// Puts a request at the end of the line. An empty one is a barrier.
    pub fn submit(&self, request: Bytes, waiter: Waiter, now_ms: i64) {
        let refused = {
            let mut inner = self.lock();
            match inner.room_for(request.len()) {
                Err(error) => Some((waiter, error)),
                Ok(()) => {
                    inner.push(request, waiter, now_ms);
                    None
                }
            }
        };
        match refused {
            Some((waiter, error)) => waiter.fail(error),
            None => self.wake.notify_one(),
        }
    }

    /// Tells who leads now, as openraft sees it.
    pub fn set_leader(&self, leader: Option<LeaderKey>, leading: bool) {
        self.lock().set_leader(leader, leading);
        self.wake.notify_one();
    }

    /// May requests be sent: is the leader known, and has its first entry been applied here?
    pub fn is_open(&self) -> bool {
        self.lock().is_open()
    }

    /// Has an entry of this leader been applied, and none of a later one?
    pub fn is_led_by(&self, leader: LeaderKey) -> bool {
        self.lock().applied == Some(leader)
    }

    /// The next thing to send, if there is one and it may be sent.
    pub fn next(&self) -> Option<Send> {
        self.lock().next_send()
    }

    /// Sends everything unresolved again: the connection to the leader broke, or it refused a part.
    pub fn rewind(&self) {
        {
            let mut inner = self.lock();
            if inner.leading {
                return;
            }
            inner.cursor = 0;
        }
        self.wake.notify_one();
    }

    /// On the leader: takes another member's part. `false` if we are not the leader it was meant for, or
    /// something before it is missing; the member sends again.
    pub fn take(&self, leader: LeaderKey, part: Part) -> bool {
        let taken = self.lock().take(leader, part);
        if taken {
            self.wake.notify_one();
        }
        taken
    }

    /// An entry of `leader` is about to be applied here. Says whether a batch gathered for `gathered_for`
    /// counts in it.
    pub fn entry(&self, leader: LeaderKey, gathered_for: Option<LeaderKey>) -> bool {
        let (woken, opened) = {
            let mut inner = self.lock();
            let before = inner.applied;
            (inner.entry(leader, gathered_for), inner.applied != before)
        };
        if woken {
            self.wake.notify_one();
        }
        if opened {
            self.opened.notify_one();
        }
        gathered_for == Some(leader)
    }

    /// A part was applied with these outcomes, one per request that is not a barrier.
    pub fn resolve(&self, part: &Part, outcomes: &mut dyn Iterator<Item = Outcome>) {
        let mut told = Vec::new();
        {
            let mut inner = self.lock();
            let ours = part.member == inner.member && part.life == inner.life;
            for (number, request) in (part.first..).zip(&part.requests) {
                let outcome = if request.is_empty() {
                    None
                } else {
                    outcomes.next()
                };
                if ours && let Some(waiting) = inner.remove(number) {
                    told.push((waiting.waiter, outcome));
                }
            }
        }
        for (waiter, outcome) in told {
            match (waiter, outcome) {
                (Waiter::Request(tell, _), Some(outcome)) => drop(tell.send(Ok(outcome))),
                (Waiter::Barrier(tell), None) => drop(tell.send(Ok(()))),
                (waiter, _) => waiter.fail(ProposeError::Unknown),
            }
        }
    }

    /// A snapshot took the place of entries: what was sent may be in it, and nobody will say.
    pub fn jumped(&self, leader: LeaderKey) {
        let lost = {
            let mut inner = self.lock();
            let sent: Vec<u64> = inner.numbers(|waiting| waiting.sent);
            let lost: Vec<_> = sent.into_iter().filter_map(|n| inner.remove(n)).collect();
            inner.entry(leader, None);
            lost
        };
        for waiting in lost {
            waiting.waiter.fail(ProposeError::Unknown);
        }
        self.wake.notify_one();
        self.opened.notify_one();
    }

    /// Gives up on requests that wait since before `since_ms`.
    pub fn expire(&self, since_ms: i64) {
        let late: Vec<_> = {
            let mut inner = self.lock();
            let late = inner.numbers(|waiting| waiting.since_ms < since_ms);
            late.into_iter().filter_map(|n| inner.remove(n)).collect()
        };
        for waiting in late {
            waiting.waiter.fail(if waiting.sent {
                ProposeError::Unknown
            } else {
                ProposeError::NoLeader
            });
        }
    }

    /// Fails everything, now and later.
    pub fn stop(&self) {
        let all = {
            let mut inner = self.lock();
            inner.stopped = true;
            inner.waiting_bytes = 0;
            std::mem::take(&mut inner.waiting)
        };
        for (_, waiting) in all {
            waiting.waiter.fail(if waiting.sent {
                ProposeError::Unknown
            } else {
                ProposeError::Stopped
            });
        }
    }

    /// How many requests wait here.
    pub fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn room_for(&self, bytes: usize) -> Result<(), ProposeError> {
        if self.stopped {
            Err(ProposeError::Stopped)
        } else if self.waiting.len() >= WAITING_MAX
            || self.waiting_bytes + bytes > WAITING_BYTES_MAX
        {
            Err(ProposeError::Overloaded)
        } else {
            Ok(())
        }
    }

    fn push(&mut self, request: Bytes, waiter: Waiter, since_ms: i64) {
        let number = self.next;
        self.next += 1;
        self.waiting_bytes += request.len();
        self.waiting.insert(
            number,
            Waiting {
                request,
                waiter,
                since_ms,
                sent: false,
            },
        );
    }

    fn remove(&mut self, number: u64) -> Option<Waiting> {
        let waiting = self.waiting.remove(&number)?;
        self.waiting_bytes -= waiting.request.len();
        Some(waiting)
    }

    fn numbers(&self, which: impl Fn(&Waiting) -> bool) -> Vec<u64> {
        let found = self.waiting.iter().filter(|(_, waiting)| which(waiting));
        found.map(|(number, _)| *number).collect()
    }

    fn set_leader(&mut self, leader: Option<LeaderKey>, leading: bool) {
        self.leader = leader;
        self.leading = leading && leader.is_some();
        if leader.is_some() && leader != self.known {
            self.known = leader;
            self.intake.clear();
            self.intake_bytes = 0;
            self.taken.clear();
            self.in_flight = 0;
            self.cursor = 0;
        }
    }

    fn is_open(&self) -> bool {
        self.leader.is_some() && self.leader == self.applied
    }

    fn next_send(&mut self) -> Option<Send> {
        let leader = self.leader.filter(|_| self.is_open() && !self.stopped)?;
        if !self.leading {
            let part = self.next_part(BATCH_BYTES_MAX, BATCH_REQUESTS_MAX)?;
            return Some(Send::Forward(leader, part));
        }
        if self.in_flight >= IN_FLIGHT_MAX {
            return None;
        }
        let mut parts = Vec::new();
        let mut bytes = 0;
        let mut requests = 0;
        while bytes < BATCH_BYTES_MAX && requests < BATCH_REQUESTS_MAX {
            let Some(part) = self.intake.pop_front() else {
                break;
            };
            bytes += part.bytes();
            requests += part.requests.len();
            parts.push(part);
        }
        self.intake_bytes -= bytes;
        while bytes < BATCH_BYTES_MAX && requests < BATCH_REQUESTS_MAX {
            let Some(part) = self.next_part(BATCH_BYTES_MAX - bytes, BATCH_REQUESTS_MAX - requests)
            else {
                break;
            };
            bytes += part.bytes();
            requests += part.requests.len();
            parts.push(part);
        }
        if parts.is_empty() {
            return None;
        }
        self.in_flight += 1;
        Some(Send::Propose(Batch { leader, parts }))
    }

    /// The next unsent requests without a gap, at least one if there is any.
    fn next_part(&mut self, bytes_max: usize, requests_max: usize) -> Option<Part> {
        let lowest = *self.waiting.keys().next()?;
        let (first, _) = self.waiting.range(self.cursor..).next()?;
        let first = *first;
        let mut requests = Vec::new();
        let mut bytes = 0;
        for ((number, waiting), expected) in self.waiting.range_mut(first..).zip(first..) {
            let full = bytes + waiting.request.len() > bytes_max || requests.len() >= requests_max;
            if *number != expected || (full && !requests.is_empty()) {
                break;
            }
            waiting.sent = true;
            bytes += waiting.request.len();
            requests.push(waiting.request.clone());
        }
        self.cursor = first + requests.len() as u64;
        Some(Part {
            member: self.member,
            life: self.life,
            first,
            from_start: first == lowest,
            requests,
        })
    }

    fn take(&mut self, leader: LeaderKey, mut part: Part) -> bool {
        if !self.leading || self.leader != Some(leader) || self.stopped {
            return false;
        }
        let had = self.taken.get(&(part.member, part.life)).copied();
        let follows = had.is_some_and(|had| part.first <= had);
        if !(follows || part.from_start) || self.intake_bytes + part.bytes() > INTAKE_BYTES_MAX {
            return false;
        }
        let end = part.end();
        let again = had.map_or(0, |had| had.saturating_sub(part.first));
        let again = usize::try_from(again).unwrap_or(usize::MAX);
        if again >= part.requests.len() {
            return true;
        }
        part.requests.drain(..again);
        part.first = end - part.requests.len() as u64;
        self.taken.insert((part.member, part.life), end);
        self.intake_bytes += part.bytes();
        self.intake.push_back(part);
        true
    }

    /// Says whether there may be something new to send.
    fn entry(&mut self, leader: LeaderKey, gathered_for: Option<LeaderKey>) -> bool {
        if self.applied < Some(leader) {
            self.applied = Some(leader);
            self.cursor = 0;
            for waiting in self.waiting.values_mut() {
                waiting.sent = false;
            }
            return true;
        }
        if self.leading && self.leader == Some(leader) && gathered_for == Some(leader) {
            self.in_flight = self.in_flight.saturating_sub(1);
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests;
