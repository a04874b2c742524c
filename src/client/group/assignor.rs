//! Who reads which partition, decided by a group's leader. Pure; the four assignors of Kafka 2.8.
//!
//! Members are taken in Kafka's order: static members by instance id, then the others by member id.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use crate::common::ids::TopicPartition;

/// One member, as the leader sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: String,
    /// Its instance id, if it is static.
    pub instance_id: Option<String>,
    /// What it subscribes to.
    pub topics: Vec<String>,
    /// What it read until now.
    pub owned: Vec<TopicPartition>,
    /// The generation that `owned` is from; `None` if it is the present one.
    pub generation: Option<i32>,
}

/// An assignment strategy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Assignor {
    /// Per topic, in ranges.
    Range,
    /// Over all topics, one by one.
    RoundRobin,
    /// Balanced, moving as little as possible; everybody stops during a rebalance.
    Sticky,
    /// The same, but only what moves stops.
    CooperativeSticky,
}

/// Partitions by member id.
pub type Plan = BTreeMap<String, Vec<TopicPartition>>;

impl Assignor {
    /// By the last part of a Java class name, or by the protocol's name.
    pub fn from_name(name: &str) -> Option<Assignor> {
        let last = name.rsplit('.').next().unwrap_or(name);
        Some(match last {
            "RangeAssignor" | "range" => Assignor::Range,
            "RoundRobinAssignor" | "roundrobin" => Assignor::RoundRobin,
            "StickyAssignor" | "sticky" => Assignor::Sticky,
            "CooperativeStickyAssignor" | "cooperative-sticky" => Assignor::CooperativeSticky,
            _ => return None,
        })
    }

    /// The protocol's name.
    pub fn name(self) -> &'static str {
        match self {
            Assignor::Range => "range",
            Assignor::RoundRobin => "roundrobin",
            Assignor::Sticky => "sticky",
            Assignor::CooperativeSticky => "cooperative-sticky",
        }
    }

    /// Do members keep what they own during a rebalance?
    pub fn is_cooperative(self) -> bool {
        self == Assignor::CooperativeSticky
    }

    /// Assigns the partitions of `topics` (name and count) to `members`.
    pub fn assign(self, members: &[Member], topics: &BTreeMap<String, usize>) -> Plan {
        let mut sorted: Vec<&Member> = members.iter().collect();
        sorted.sort_by(|a, b| kafka_order(a, b));
        let mut plan: Plan = members
            .iter()
            .map(|member| (member.id.clone(), Vec::new()))
            .collect();
        match self {
            Assignor::Range => range(&sorted, topics, &mut plan),
            Assignor::RoundRobin => round_robin(&sorted, topics, &mut plan),
            Assignor::Sticky => sticky(&sorted, topics, &mut plan),
            Assignor::CooperativeSticky => {
                sticky(&sorted, topics, &mut plan);
                withhold_moving(&sorted, &mut plan);
            }
        }
        plan
    }
}

fn kafka_order(a: &Member, b: &Member) -> Ordering {
    match (&a.instance_id, &b.instance_id) {
        (Some(a), Some(b)) => a.cmp(b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.id.cmp(&b.id),
    }
}

fn partition(topic: &str, index: usize) -> TopicPartition {
    TopicPartition::new(topic, i32::try_from(index).unwrap_or(i32::MAX))
}

fn reads(member: &Member, topic: &str) -> bool {
    member.topics.iter().any(|name| name == topic)
}

fn give(plan: &mut Plan, member: &Member, partition: TopicPartition) {
    plan.entry(member.id.clone()).or_default().push(partition);
}

fn range(members: &[&Member], topics: &BTreeMap<String, usize>, plan: &mut Plan) {
    for (topic, count) in topics {
        let readers: Vec<&&Member> = members.iter().filter(|m| reads(m, topic)).collect();
        if readers.is_empty() {
            continue;
        }
        let (each, extra) = (count / readers.len(), count % readers.len());
        let mut next = 0;
        for (place, member) in readers.into_iter().enumerate() {
            let share = each + usize::from(place < extra);
            for index in next..next + share {
                give(plan, member, partition(topic, index));
            }
            next += share;
        }
    }
}

fn round_robin(members: &[&Member], topics: &BTreeMap<String, usize>, plan: &mut Plan) {
    let mut turn = 0;
    for (topic, count) in topics {
        if !members.iter().any(|member| reads(member, topic)) {
            continue;
        }
        for index in 0..*count {
            while !reads(members[turn % members.len()], topic) {
                turn += 1;
            }
            give(plan, members[turn % members.len()], partition(topic, index));
            turn += 1;
        }
    }
}

/// Keeps what is owned, gives the rest to whoever has least, then evens out with as few moves as
/// possible: from a member to another that may read it and has at least two less.
fn sticky(members: &[&Member], topics: &BTreeMap<String, usize>, plan: &mut Plan) {
    let mut held: Vec<BTreeSet<TopicPartition>> = vec![BTreeSet::new(); members.len()];
    let mut taken: BTreeSet<TopicPartition> = BTreeSet::new();
    let newest = members.iter().filter_map(|member| member.generation).max();
    for (place, member) in members.iter().enumerate() {
        if member.generation.is_some() && member.generation != newest {
            continue;
        }
        for owned in &member.owned {
            let exists = topics.get(&*owned.topic).is_some_and(|count| {
                usize::try_from(owned.partition).is_ok_and(|index| index < *count)
            });
            if exists && reads(member, &owned.topic) && taken.insert(owned.clone()) {
                held[place].insert(owned.clone());
            }
        }
    }
    for (topic, count) in topics {
        for index in 0..*count {
            let partition = partition(topic, index);
            if taken.contains(&partition) {
                continue;
            }
            let least = (0..members.len())
                .filter(|place| reads(members[*place], topic))
                .min_by_key(|place| held[*place].len());
            if let Some(place) = least {
                held[place].insert(partition);
            }
        }
    }
    even_out(members, &mut held);
    for (member, held) in members.iter().zip(held) {
        for partition in held {
            give(plan, member, partition);
        }
    }
}

fn even_out(members: &[&Member], held: &mut [BTreeSet<TopicPartition>]) {
    loop {
        let mut giver_order: Vec<usize> = (0..members.len()).collect();
        giver_order.sort_by_key(|place| std::cmp::Reverse(held[*place].len()));
        let step = giver_order.into_iter().find_map(|from| {
            // The last partitions move first, as they were given out last.
            held[from].iter().rev().find_map(|partition| {
                (0..members.len())
                    .filter(|to| {
                        reads(members[*to], &partition.topic)
                            && held[*to].len() + 2 <= held[from].len()
                    })
                    .min_by_key(|to| held[*to].len())
                    .map(|to| (from, to, partition.clone()))
            })
        });
        let Some((from, to, partition)) = step else {
            return;
        };
        held[from].remove(&partition);
        held[to].insert(partition);
    }
}

/// What somebody else still owns is given to its new owner in the next rebalance only (KIP-429).
fn withhold_moving(members: &[&Member], plan: &mut Plan) {
    for (id, partitions) in plan.iter_mut() {
        partitions.retain(|partition| {
            !members
                .iter()
                .any(|other| other.id != *id && other.owned.contains(partition))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: &str, topics: &[&str]) -> Member {
        Member {
            id: id.to_owned(),
            topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
            ..Member::default()
        }
    }

    fn topics(list: &[(&str, usize)]) -> BTreeMap<String, usize> {
        list.iter()
            .map(|(topic, count)| ((*topic).to_owned(), *count))
            .collect()
    }

    fn shown(plan: &Plan) -> Vec<String> {
        plan.iter()
            .map(|(id, partitions)| {
                let names: Vec<String> = partitions.iter().map(ToString::to_string).collect();
                format!("{id}: {}", names.join(" "))
            })
            .collect()
    }

    /// The examples in the documentation of Kafka's RangeAssignor and RoundRobinAssignor.
    #[test]
    fn kafkas_own_examples() {
        let both = [member("C0", &["t0", "t1"]), member("C1", &["t0", "t1"])];
        let three = topics(&[("t0", 3), ("t1", 3)]);
        assert_eq!(
            shown(&Assignor::Range.assign(&both, &three)),
            ["C0: t0-0 t0-1 t1-0 t1-1", "C1: t0-2 t1-2"]
        );
        assert_eq!(
            shown(&Assignor::RoundRobin.assign(&both, &three)),
            ["C0: t0-0 t0-2 t1-1", "C1: t0-1 t1-0 t1-2"]
        );
        let differing = [
            member("C0", &["t0"]),
            member("C1", &["t0", "t1"]),
            member("C2", &["t0", "t1", "t2"]),
        ];
        assert_eq!(
            shown(
                &Assignor::RoundRobin
                    .assign(&differing, &topics(&[("t0", 1), ("t1", 2), ("t2", 3)]))
            ),
            ["C0: t0-0", "C1: t1-0", "C2: t1-1 t2-0 t2-1 t2-2"]
        );
    }

    /// The first example in the documentation of Kafka's StickyAssignor: C1 leaves.
    #[test]
    fn sticky_moves_only_what_it_must() {
        let names = ["t0", "t1", "t2", "t3"];
        let four = topics(&[("t0", 2), ("t1", 2), ("t2", 2), ("t3", 2)]);
        let members: Vec<Member> = ["C0", "C1", "C2"].map(|id| member(id, &names)).into();
        let first = Assignor::Sticky.assign(&members, &four);
        assert_eq!(
            shown(&first),
            ["C0: t0-0 t1-1 t3-0", "C1: t0-1 t2-0 t3-1", "C2: t1-0 t2-1"]
        );
        let left: Vec<Member> = [0, 2]
            .map(|place: usize| Member {
                owned: first[&members[place].id].clone(),
                generation: Some(1),
                ..members[place].clone()
            })
            .into();
        let second = Assignor::Sticky.assign(&left, &four);
        for id in ["C0", "C2"] {
            assert_eq!(second[id].len(), 4);
            assert!(
                first[id].iter().all(|kept| second[id].contains(kept)),
                "{id}"
            );
        }
    }

    #[test]
    fn sticky_evens_out_for_a_newcomer_and_forgets_old_generations() {
        let four = topics(&[("t", 4)]);
        let mut old = member("a", &["t"]);
        old.owned = (0..4).map(|index| partition("t", index)).collect();
        old.generation = Some(3);
        let new = member("b", &["t"]);
        let plan = Assignor::Sticky.assign(&[old.clone(), new.clone()], &four);
        assert_eq!(shown(&plan), ["a: t-0 t-1", "b: t-2 t-3"]);
        let mut newer = new.clone();
        newer.generation = Some(4);
        newer.owned = vec![partition("t", 0)];
        let plan = Assignor::Sticky.assign(&[old, newer], &four);
        assert!(plan["b"].contains(&partition("t", 0)));
        assert_eq!(plan["b"].len(), 2);
    }

    #[test]
    fn cooperative_withholds_what_is_still_owned() {
        let two = topics(&[("t", 2)]);
        let mut old = member("a", &["t"]);
        old.owned = vec![partition("t", 0), partition("t", 1)];
        let new = member("b", &["t"]);
        let plan = Assignor::CooperativeSticky.assign(&[old.clone(), new.clone()], &two);
        assert_eq!(shown(&plan), ["a: t-0", "b: "]);
        old.owned = vec![partition("t", 0)];
        let plan = Assignor::CooperativeSticky.assign(&[old, new], &two);
        assert_eq!(shown(&plan), ["a: t-0", "b: t-1"]);
    }

    #[test]
    fn more_members_than_partitions_and_static_members_first() {
        let mut fixed = member("z", &["t"]);
        fixed.instance_id = Some("i".to_owned());
        let members = [member("a", &["t"]), fixed, member("b", &["t"])];
        for assignor in [Assignor::Range, Assignor::RoundRobin, Assignor::Sticky] {
            let plan = assignor.assign(&members, &topics(&[("t", 2)]));
            assert_eq!(shown(&plan), ["a: t-1", "b: ", "z: t-0"], "{assignor:?}");
        }
    }
}
