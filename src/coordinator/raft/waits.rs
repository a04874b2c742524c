//! What a member that serves nothing waits for, in words, with the names of the members that are missing.
//!
//! Pure: from how the member and its connections stand to a text for status pages and the log.

use std::fmt::{self, Display, Formatter};

use super::network::LinkStatus;
use crate::common::ids::MemberId;
use crate::common::net::HostPort;

/// What a member is lacking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waits {
    need: Need,
    missing: Vec<Missing>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// The ensemble has not begun.
    All,
    /// It has, and this member's store is not part of it; the leader will let it in.
    Admission,
    /// It is let in, and has so many entries of so many.
    Joining(u64, u64),
    /// So many members of so many.
    Quorum(usize, usize),
    /// Enough are here; they elect.
    Election,
    /// The leader's first entry has not arrived.
    Leader(MemberId),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Missing {
    member: MemberId,
    address: HostPort,
    why: String,
}

/// How another member is connected.
#[derive(Clone, Debug)]
pub struct Other {
    /// Which.
    pub member: MemberId,
    /// Where it is dialed.
    pub address: HostPort,
    /// The connection.
    pub link: LinkStatus,
    /// The store at its other end counts, by our log.
    pub counts: bool,
}

/// How a member stands.
#[derive(Clone, Debug)]
pub struct View {
    /// It has never voted or held an entry.
    pub fresh: bool,
    /// Its store counts, by its own log.
    pub counts: bool,
    /// The leader that it knows.
    pub leader: Option<MemberId>,
    /// The last entry that it has, and the last that a leader has spoken of.
    pub has: u64,
    /// See above.
    pub offered: u64,
    /// The others.
    pub others: Vec<Other>,
}

impl Waits {
    /// Judges a member that serves nothing.
    pub fn of(view: &View) -> Waits {
        let others = &view.others;
        let members = others.len() + 1;
        let here = others.iter().filter(|other| other.counts).count() + 1;
        let begun = others
            .iter()
            .any(|other| other.link.peer.is_some_and(|peer| !peer.fresh));
        let need = if view.fresh && view.leader.is_none() && !begun {
            Need::All
        } else if !view.counts && view.fresh {
            Need::Admission
        } else if !view.counts {
            Need::Joining(view.has, view.offered)
        } else if here <= members / 2 {
            Need::Quorum(members / 2 + 1, members)
        } else {
            view.leader.map_or(Need::Election, Need::Leader)
        };
        let outside = matches!(need, Need::All | Need::Admission | Need::Joining(..));
        let missing = others.iter().filter_map(|other| {
            let why = match (&other.link.peer, other.link.refusal) {
                (Some(_), _) if outside || other.counts => return None,
                (Some(_), _) => "it has come back without its data".to_owned(),
                (None, Some(refusal)) => refusal.to_string(),
                (None, None) if other.link.dead => "nothing listens there".to_owned(),
                (None, None) => "no connection".to_owned(),
            };
            Some(Missing {
                member: other.member,
                address: other.address.clone(),
                why,
            })
        });
        Waits {
            need,
            missing: missing.collect(),
        }
    }
}

impl Display for Waits {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.need {
            Need::All => f.write_str("a new ensemble begins only when all its members are there")?,
            Need::Admission => f.write_str(
                "this member has come back with an empty data directory, and joins as new when the others \
                 have a leader: for that a quorum of the members has to be there with the data they had",
            )?,
            Need::Joining(has, of) => write!(f, "joins as new: {has} of {of} entries")?,
            Need::Quorum(need, of) => write!(f, "a quorum is {need} of {of} members")?,
            Need::Election => f.write_str("the members elect a leader")?,
            Need::Leader(leader) => write!(f, "member {leader} leads and has not been heard yet")?,
        }
        let mut before = "; missing: ";
        for missing in &self.missing {
            let (member, address) = (missing.member, &missing.address);
            write!(f, "{before}member {member} at {address} ({})", missing.why)?;
            before = ", ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::peer::{Peer, Refusal};
    use super::*;

    fn other(id: u64, link: LinkStatus) -> Other {
        Other {
            member: MemberId(id),
            address: HostPort::new(format!("zk{id}"), 2888),
            counts: link.peer.is_some_and(|peer| !peer.fresh),
            link,
        }
    }

    fn here(id: u64, fresh: bool) -> Other {
        let peer = Peer {
            member: MemberId(id),
            node: 0x700 + id,
            ensemble: None,
            fresh,
            counts: !fresh,
        };
        let link = LinkStatus {
            peer: Some(peer),
            ..LinkStatus::default()
        };
        other(id, link)
    }

    fn gone(id: u64, dead: bool, refusal: Option<Refusal>) -> Other {
        let link = LinkStatus {
            peer: None,
            dead,
            refusal,
        };
        other(id, link)
    }

    #[test]
    fn the_missing_members_are_named() {
        let refused = gone(3, false, Some(Refusal::OtherCluster));
        let leader = Some(MemberId(2));
        // Fresh, counts, by whom it is led, the others, what is said.
        type Case = (
            bool,
            bool,
            Option<MemberId>,
            Vec<Other>,
            &'static [&'static str],
        );
        let cases: [Case; 10] = [
            (
                true,
                false,
                None,
                vec![here(2, true), gone(3, true, None)],
                &[
                    "all its members",
                    "missing: member 3 at zk3:2888 (nothing listens there)",
                ],
            ),
            (
                true,
                false,
                None,
                vec![here(2, false), gone(3, false, None)],
                &[
                    "empty data directory, and joins as new when",
                    "missing: member 3 at zk3:2888 (no connection)",
                ],
            ),
            (
                true,
                false,
                leader,
                vec![here(2, false), here(3, false)],
                &["joins as new when"],
            ),
            (
                false,
                false,
                leader,
                vec![here(2, false), here(3, false)],
                &["joins as new: 5 of 70 entries"],
            ),
            (
                false,
                true,
                leader,
                vec![gone(2, true, None), refused],
                &[
                    "a quorum is 2 of 3 members",
                    "member 3 at zk3:2888 (it belongs to another",
                ],
            ),
            (
                false,
                true,
                None,
                vec![here(2, true), here(3, true)],
                &[
                    "a quorum is 2 of 3 members",
                    "member 2 at zk2:2888 (it has come back without its data), member 3",
                ],
            ),
            (
                false,
                true,
                None,
                vec![here(2, false), gone(3, true, None)],
                &["elect a leader; missing: member 3"],
            ),
            (
                false,
                true,
                None,
                vec![here(2, false), here(3, true)],
                &["elect a leader; missing: member 3 at zk3:2888 (it has come back"],
            ),
            (
                false,
                true,
                leader,
                vec![here(2, false), here(3, false)],
                &["member 2 leads and has not been heard yet"],
            ),
            (false, true, None, vec![], &["the members elect a leader"]),
        ];
        for (fresh, counts, leader, others, expected) in cases {
            let text = Waits::of(&View {
                fresh,
                counts,
                leader,
                has: 5,
                offered: 70,
                others,
            });
            let text = text.to_string();
            for part in expected {
                assert!(text.contains(part), "{text}");
            }
        }
    }
}
