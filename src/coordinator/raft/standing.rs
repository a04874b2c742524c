//! When a member stands for election: a pure decision; `leadership` looks and acts.
//!
//! openraft's own timers are off. They know nothing of disks: while a core syncs, it hears nothing, and
//! when it is done its timer has run out, so on a disk that is slower than the timer every vote is followed
//! by another candidate, and no election ever ends. Here a leader whose process answers is slow rather than
//! dead, and an election gets the time that this member's disk needs for its part, then twice that, and so on.

use std::time::Duration;

/// A member grants no vote for this long after it heard from a leader.
pub const LEASE: Duration = Duration::from_millis(400);
/// Members that would stand at the same moment do it one after the other.
const TURN: Duration = Duration::from_millis(60);
/// A little over the lease, which other members count from another moment.
const MARGIN: Duration = Duration::from_millis(20);
/// An election is waited for at most so long.
const PATIENCE_MAX: Duration = Duration::from_secs(10);

/// How it stands with the leader, as this member sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Leader {
    /// Nobody was elected in this term yet.
    #[default]
    Unknown,
    /// This member leads, or another one that answers and was heard leading.
    Leads,
    /// One was elected, but has not been heard leading since its process, or this one, began.
    Unproven,
    /// It has not answered, or not led, for much longer than a lease.
    Silent,
    /// There is no connection to it.
    Gone,
}

impl Leader {
    /// Elected, but not leading; whether its process is back by now makes no difference.
    fn is_lost(self) -> bool {
        matches!(self, Leader::Unproven | Leader::Silent | Leader::Gone)
    }
}

/// How long `leader` is looked at before this member stands. `None`: it does not.
///
/// `before` is how many other members have their turn first, `tries` how often this member stood since it
/// was last led, `write` how long a write takes to be durable here.
pub fn patience(leader: Leader, before: u32, tries: u32, write: Duration) -> Option<Duration> {
    let turn = TURN * before;
    let first = match leader {
        Leader::Leads => return None,
        // The others' lease is over, too.
        Leader::Silent => turn,
        Leader::Gone => LEASE + MARGIN + turn,
        // Who was elected writes that down, and its first entry, before it is heard; and two other writes
        // may be ahead of these.
        Leader::Unproven | Leader::Unknown => LEASE + MARGIN + turn + 4 * write,
    };
    Some(
        first
            .saturating_mul(1 << tries.min(8))
            .min(PATIENCE_MAX + turn),
    )
}

/// What was seen, since when, and what was done about it.
#[derive(Debug)]
pub struct Standing<Vote> {
    seen: Option<Sight<Vote>>,
    since: Duration,
    tries: u32,
}

impl<Vote> Default for Standing<Vote> {
    fn default() -> Standing<Vote> {
        Standing {
            seen: None,
            since: Duration::ZERO,
            tries: 0,
        }
    }
}

/// What one look finds.
#[derive(Clone, Copy, Debug)]
pub struct Sight<Vote> {
    /// The vote of this member.
    pub vote: Vote,
    /// The leader.
    pub leader: Leader,
    /// Could an election be won: are enough members here, and may this one stand?
    pub able: bool,
    /// Is this member's core waiting for its disk? What it has received it has not looked at.
    pub busy: bool,
    /// How many members have their turn before this one.
    pub before: u32,
    /// How long a write takes to be durable here.
    pub write: Duration,
}

impl<Vote: Copy + PartialEq> Standing<Vote> {
    /// Looks at `now`. Says whether this member stands now; then it is taken to have stood.
    pub fn look(&mut self, sight: Sight<Vote>, now: Duration) -> bool {
        if sight.leader == Leader::Leads {
            self.tries = 0;
        }
        let same = self.seen.replace(sight).is_some_and(|seen| {
            let leader = seen.leader == sight.leader;
            seen.vote == sight.vote && (leader || seen.leader.is_lost() && sight.leader.is_lost())
        });
        if !same || sight.busy || !sight.able {
            self.since = now;
        }
        let patience = patience(sight.leader, sight.before, self.tries, sight.write);
        let stands = sight.able
            && !sight.busy
            && patience.is_some_and(|patience| now.saturating_sub(self.since) >= patience);
        if stands {
            self.tries = self.tries.saturating_add(1);
            self.since = now;
        }
        stands
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn sight(vote: u64, leader: Leader) -> Sight<u64> {
        Sight {
            vote,
            leader,
            able: true,
            busy: false,
            before: 1,
            write: Duration::from_millis(1),
        }
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_leader_that_leads_is_left_alone_and_one_that_is_gone_is_followed_after_the_lease() {
        let mut standing = Standing::default();
        assert!(!standing.look(sight(1, Leader::Leads), ms(0)));
        assert!(!standing.look(sight(1, Leader::Leads), SECOND * 3600));
        assert!(!standing.look(sight(1, Leader::Gone), SECOND * 3600));
        let lease = SECOND * 3600 + LEASE;
        assert!(!standing.look(sight(1, Leader::Gone), lease));
        assert!(standing.look(sight(1, Leader::Gone), lease + MARGIN + TURN));
        assert!(!standing.look(sight(2, Leader::Unknown), lease + MARGIN + TURN));
    }

    #[test]
    fn the_time_counts_from_the_last_change_and_from_the_end_of_the_disks_work() {
        let mut standing = Standing::default();
        let busy = Sight {
            busy: true,
            ..sight(1, Leader::Gone)
        };
        let lone = Sight {
            able: false,
            ..sight(1, Leader::Gone)
        };
        for blocked in [
            busy,
            lone,
            sight(2, Leader::Gone),
            sight(2, Leader::Unknown),
        ] {
            let mut now = ms(1);
            assert!(!standing.look(blocked, now));
            now += LEASE;
            assert!(!standing.look(blocked, now));
            // One turn later the first would stand; not if something has changed.
            assert!(!standing.look(sight(3, Leader::Gone), now + TURN + MARGIN));
        }
    }

    #[test]
    fn a_leader_whose_process_is_back_does_not_lead_again() {
        let mut standing = Standing::default();
        assert!(!standing.look(sight(1, Leader::Leads), ms(0)));
        assert!(!standing.look(sight(1, Leader::Gone), ms(1)));
        assert!(!standing.look(sight(1, Leader::Unproven), ms(300)));
        assert!(standing.look(sight(1, Leader::Unproven), ms(600)));
    }

    #[test]
    fn candidates_take_turns_and_give_one_another_more_time_with_each_try() {
        let mut last = Duration::ZERO;
        for tries in 0..20 {
            let [first, second] = [0, 1].map(|before| {
                patience(Leader::Unknown, before, tries, ms(700)).expect("it stands")
            });
            assert!(second > first);
            assert!(first >= last && first <= PATIENCE_MAX);
            assert!(first >= 4 * ms(700));
            last = first;
        }
    }

    #[test]
    fn a_member_that_is_led_again_starts_anew() {
        let mut standing = Standing::default();
        let mut now = ms(0);
        for vote in 0..4 {
            standing.look(sight(vote, Leader::Unknown), now);
            now += PATIENCE_MAX + SECOND;
            assert!(standing.look(sight(vote, Leader::Unknown), now));
        }
        assert_eq!(standing.tries, 4);
        standing.look(sight(9, Leader::Leads), now);
        standing.look(sight(9, Leader::Gone), now);
        assert!(standing.look(sight(9, Leader::Gone), now + LEASE + MARGIN + TURN));
    }
}
