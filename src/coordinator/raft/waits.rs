//! What a member that serves nothing waits for, in words, with the names of the members that are missing.
//!
//! Pure: from how the member and its connections stand to a text for status pages and the log.

use std::fmt::{self, Display, Formatter};

use super::network::LinkStatus;
use super::peer::Refusal;
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
    /// As before, and another member remembers this one with data.
    AllAfterLoss,
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
}

impl Waits {
    /// Judges a member that serves nothing. `fresh`: it has never voted or held an entry.
    pub fn of(fresh: bool, leader: Option<MemberId>, others: &[Other]) -> Waits {
        let members = others.len() + 1;
        let here = others.iter().filter(|o| o.link.peer.is_some()).count() + 1;
        let lost = |other: &Other| other.link.refusal == Some(Refusal::OtherStore);
        let need = if fresh && others.iter().any(lost) {
            Need::AllAfterLoss
        } else if fresh && leader.is_none() {
            Need::All
        } else if here <= members / 2 {
            Need::Quorum(members / 2 + 1, members)
        } else {
            leader.map_or(Need::Election, Need::Leader)
        };
        let beginning = matches!(need, Need::All | Need::AllAfterLoss);
        let missing = others.iter().filter_map(|other| {
            let why = match (&other.link.peer, other.link.refusal) {
                (Some(peer), _) if beginning && !peer.fresh => "it has data already".to_owned(),
                (Some(_), _) => return None,
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
            Need::AllAfterLoss => f.write_str(
                "this member has come back with an empty data directory: restore it, or bring back a \
                 quorum of the others",
            )?,
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
    use super::super::peer::Peer;
    use super::*;

    fn other(id: u64, link: LinkStatus) -> Other {
        Other {
            member: MemberId(id),
            address: HostPort::new(format!("zk{id}"), 2888),
            link,
        }
    }

    fn here(id: u64, fresh: bool) -> Other {
        let peer = Peer {
            member: MemberId(id),
            store_id: 7,
            fresh,
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
        let lost = gone(3, false, Some(Refusal::OtherStore));
        let leader = Some(MemberId(2));
        type Case = (bool, Option<MemberId>, Vec<Other>, &'static [&'static str]);
        let cases: [Case; 7] = [
            (
                true,
                None,
                vec![here(2, true), gone(3, true, None)],
                &[
                    "all its members",
                    "missing: member 3 at zk3:2888 (nothing listens there)",
                ],
            ),
            (
                true,
                None,
                vec![here(2, false), gone(3, false, None)],
                &[
                    "member 2 at zk2:2888 (it has data already), member 3 at zk3:2888 (no connection)",
                ],
            ),
            (
                true,
                None,
                vec![gone(2, true, None), lost],
                &["come back with an empty", "member 2 at", "member 3 at"],
            ),
            (
                false,
                leader,
                vec![gone(2, true, None), refused],
                &[
                    "a quorum is 2 of 3 members",
                    "member 3 at zk3:2888 (it belongs to another",
                ],
            ),
            (
                false,
                None,
                vec![here(2, false), gone(3, true, None)],
                &["elect a leader; missing: member 3"],
            ),
            (
                false,
                leader,
                vec![here(2, false), here(3, true)],
                &["member 2 leads and has not been heard yet"],
            ),
            (false, None, vec![], &["the members elect a leader"]),
        ];
        for (fresh, leader, others, expected) in cases {
            let text = Waits::of(fresh, leader, &others).to_string();
            for part in expected {
                assert!(text.contains(part), "{text}");
            }
        }
    }
}
