use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;
use crate::broker::image::BrokerImage;
use crate::broker::testing::{ids, led, live};

const WRITTEN: i64 = 40;

/// Brokers as (id, epoch, blank since).
fn image(brokers: &[(i32, i64, Option<i64>)]) -> Image {
    let brokers = brokers.iter().map(|(id, epoch, blank)| {
        let broker = BrokerImage {
            epoch: Zxid(*epoch),
            blank_since: blank.map(Zxid),
            ..live(BrokerId(*id))
        };
        (BrokerId(*id), broker)
    });
    Image {
        brokers: brokers.collect(),
        controller_epoch: ControllerEpoch(3),
        ..Image::default()
    }
}

fn partition(leader: i32, isr: &[i32]) -> PartitionImage {
    led(&[0, 1, 2], leader, isr, Zxid(WRITTEN))
}

/// Leader (-1 is none) and in-sync set of what follows; none where the state stays.
fn next(
    brokers: &[(i32, i64, Option<i64>)],
    unclean: bool,
    of: &PartitionImage,
) -> Option<(i32, Vec<i32>)> {
    let all = brokers.iter().map(|(id, ..)| *id).collect::<Vec<_>>();
    next_knowing(&all, brokers, unclean, of).unwrap()
}

/// The same while only these are known to be alive; an error where that has to wait.
fn next_knowing(
    known: &[i32],
    brokers: &[(i32, i64, Option<i64>)],
    unclean: bool,
    of: &PartitionImage,
) -> Result<Option<(i32, Vec<i32>)>, &'static str> {
    let state = of.state.as_ref().unwrap();
    let known = ids(known).into_iter().collect();
    let epoch = ControllerEpoch(3);
    let next = match next_state(&image(brokers), &known, epoch, unclean, of, state) {
        Following::Same => return Ok(None),
        Following::Waits => return Err("waits"),
        Following::Next(next) => next,
    };
    assert_eq!(next.state.leader_epoch, LeaderEpoch(8));
    assert_eq!(next.state.controller_epoch, ControllerEpoch(3));
    assert_eq!(next.state.version, 4);
    let leader = next.state.leader.map_or(-1, |id| id.0);
    let isr = next.state.isr.iter().map(|id| id.0).collect();
    Ok(Some((leader, isr)))
}

const OLD: i64 = 10;
const NEW: i64 = 50;

#[test]
fn leaders_and_in_sync_sets_follow_the_brokers() {
    let there = |id| (id, OLD, None);
    let again = |id| (id, NEW, None);
    let wiped = |id| (id, NEW, Some(NEW));
    let once_wiped = |id| (id, NEW, Some(OLD));
    for (what, brokers, leader, isr, expected) in [
        (
            "all is well",
            vec![there(0), there(1), there(2)],
            0,
            &[0, 1, 2][..],
            None,
        ),
        (
            "a follower out of sync is dead",
            vec![there(0), there(1)],
            0,
            &[0, 1],
            None,
        ),
        (
            "a follower died",
            vec![there(0), there(2)],
            0,
            &[0, 1, 2],
            Some((0, vec![0, 2])),
        ),
        (
            "a follower restarted",
            vec![there(0), again(1)],
            0,
            &[0, 1],
            Some((0, vec![0])),
        ),
        (
            "the leader died",
            vec![there(1), there(2)],
            0,
            &[2, 1, 0],
            Some((1, vec![2, 1])),
        ),
        (
            "the leader restarted unseen",
            vec![again(0), there(2)],
            0,
            &[0, 2],
            Some((2, vec![2])),
        ),
        (
            "the leader restarted with an empty disk",
            vec![wiped(0), there(2)],
            0,
            &[0, 2],
            Some((2, vec![2])),
        ),
        (
            "the only one in sync died",
            vec![there(1), there(2)],
            0,
            &[0],
            Some((-1, vec![0])),
        ),
        ("it is still dead", vec![there(1), there(2)], -1, &[0], None),
        (
            "it is back",
            vec![again(0), there(1)],
            -1,
            &[0],
            Some((0, vec![0])),
        ),
        (
            "it restarted unseen",
            vec![again(0), there(1)],
            0,
            &[0],
            Some((0, vec![0])),
        ),
        (
            "it is back with an empty disk",
            vec![wiped(0), there(1)],
            -1,
            &[0],
            None,
        ),
        (
            "it led and is back with an empty disk",
            vec![wiped(0), there(1)],
            0,
            &[0],
            Some((-1, vec![0])),
        ),
        (
            "it was wiped before it had this",
            vec![once_wiped(0)],
            -1,
            &[0],
            Some((0, vec![0])),
        ),
        ("all died", vec![], 0, &[0, 1], Some((-1, vec![0, 1]))),
        (
            "all restarted: the order of the assignment",
            vec![again(2), again(1)],
            -1,
            &[2, 1, 0],
            Some((1, vec![1])),
        ),
        (
            "all restarted, one wiped",
            vec![wiped(0), again(1)],
            0,
            &[0, 1],
            Some((1, vec![1])),
        ),
        (
            "nobody is in sync, a stranger wrote it",
            vec![there(0)],
            -1,
            &[],
            None,
        ),
        (
            "the leader is no replica",
            vec![there(0), there(9)],
            9,
            &[9, 0],
            Some((0, vec![0])),
        ),
        (
            "the leader is not in sync",
            vec![there(0), there(1)],
            0,
            &[1],
            Some((1, vec![1])),
        ),
    ] {
        assert_eq!(
            next(&brokers, false, &partition(leader, isr)),
            expected,
            "{what}"
        );
    }
}

#[test]
fn nobody_is_dropped_for_a_leader_of_whom_only_the_registration_is_left() {
    let there = |id| (id, OLD, None);
    let again = |id| (id, NEW, None);
    let waits = Err("waits");
    let all = &[0, 1, 2][..];
    for (what, known, brokers, leader, isr, expected) in [
        (
            "all crashed, one is not back, its session has not ended",
            &[0, 1][..],
            vec![again(0), again(1), there(2)],
            0,
            all,
            waits.clone(),
        ),
        (
            "the same, and it led",
            &[0, 1],
            vec![again(0), there(2)],
            2,
            all,
            waits.clone(),
        ),
        (
            "it turns out to be alive",
            &[0, 1, 2],
            vec![again(0), again(1), there(2)],
            0,
            all,
            Ok(Some((2, vec![2]))),
        ),
        (
            "it turns out to be dead",
            &[0, 1],
            vec![again(0), again(1)],
            0,
            all,
            Ok(Some((0, vec![0]))),
        ),
        (
            "nothing has happened, nobody is reached yet",
            &[],
            vec![there(0), there(1), there(2)],
            0,
            all,
            Ok(None),
        ),
        (
            "the leader died: the next one is known",
            &[1, 2],
            vec![there(1), there(2)],
            0,
            all,
            Ok(Some((1, vec![1, 2]))),
        ),
        (
            "the leader died: the next one is silent, the one after is not",
            &[2],
            vec![there(1), there(2)],
            0,
            all,
            Ok(Some((2, vec![1, 2]))),
        ),
        (
            "a follower died, and the leader is silent",
            &[1],
            vec![there(0), there(1)],
            0,
            all,
            waits.clone(),
        ),
        (
            "all restarted, one is not reached yet",
            &[1],
            vec![again(0), again(1)],
            -1,
            &[0, 1],
            Ok(Some((1, vec![1]))),
        ),
        (
            "all restarted, nobody is reached yet",
            &[],
            vec![again(0), again(1)],
            -1,
            &[0, 1],
            waits.clone(),
        ),
        (
            "all died",
            &[],
            vec![],
            0,
            &[0, 1],
            Ok(Some((-1, vec![0, 1]))),
        ),
    ] {
        let of = partition(leader, isr);
        for unclean in [false, true] {
            if brokers.is_empty() && unclean {
                continue;
            }
            let found = next_knowing(known, &brokers, unclean, &of);
            assert_eq!(found, expected, "{what}");
        }
    }
}

#[test]
fn unclean_elections_come_last_and_prefer_those_who_have_something() {
    let died = partition(0, &[0]);
    let wiped = (1, NEW, Some(NEW));
    assert_eq!(
        next(&[(1, OLD, None), (2, OLD, None)], true, &died),
        Some((1, vec![1]))
    );
    assert_eq!(
        next(&[wiped, (2, NEW, None)], true, &died),
        Some((2, vec![2]))
    );
    assert_eq!(next(&[wiped], true, &died), Some((1, vec![1])));
    assert_eq!(next(&[], true, &died), Some((-1, vec![0])));
    // Not where it can be had clean.
    assert_eq!(
        next(&[(0, NEW, None), (1, OLD, None)], true, &died),
        Some((0, vec![0]))
    );
    let now = image(&[(1, OLD, None)]);
    let asked = unclean(&now, &died).map(|state| state.leader);
    assert_eq!(asked, Ok(Some(BrokerId(1))));
    assert_eq!(
        unclean(&now, &partition(1, &[1])),
        Err(NotElected::NotNeeded)
    );
    assert_eq!(
        unclean(&image(&[]), &partition(-1, &[1])),
        Err(NotElected::NoEligible)
    );
}

#[test]
fn preferred_leaders_are_elected_where_that_changes_something() {
    let now = image(&[(0, OLD, None), (1, OLD, None), (2, NEW, None)]);
    for (what, of, expected) in [
        ("leads", partition(0, &[0]), Err(NotElected::NotNeeded)),
        (
            "moved",
            partition(1, &[1, 0]),
            Ok((Some(BrokerId(0)), ids(&[1, 0]))),
        ),
        (
            "lags",
            partition(1, &[1]),
            Err(NotElected::PreferredNotAvailable),
        ),
        (
            "new",
            PartitionImage {
                state: None,
                ..partition(1, &[1])
            },
            Err(NotElected::PreferredNotAvailable),
        ),
        (
            "restarted",
            PartitionImage {
                replicas: ids(&[2, 1]),
                ..partition(1, &[1, 2])
            },
            Err(NotElected::PreferredNotAvailable),
        ),
        (
            "dead",
            PartitionImage {
                replicas: ids(&[5, 1]),
                ..partition(1, &[1, 5])
            },
            Err(NotElected::PreferredNotAvailable),
        ),
    ] {
        let found = preferred(&now, &of).map(|next| (next.leader, next.isr));
        assert_eq!(found, expected, "{what}");
    }
}

#[test]
fn a_replica_that_cannot_be_used_counts_as_dead() {
    let brokers = [(0, OLD, None), (1, OLD, None), (2, OLD, None)];
    let offline = |offline: &[i32], of: PartitionImage| PartitionImage {
        offline: ids(offline),
        ..of
    };
    for (what, of, expected) in [
        (
            "the leader's",
            offline(&[0], partition(0, &[0, 1])),
            Some((1, vec![1])),
        ),
        (
            "a follower's",
            offline(&[1], partition(0, &[0, 1])),
            Some((0, vec![0])),
        ),
        (
            "one not in sync",
            offline(&[2], partition(0, &[0, 1])),
            None,
        ),
        (
            "the last one",
            offline(&[0], partition(0, &[0])),
            Some((-1, vec![0])),
        ),
        ("it is known", offline(&[0], partition(-1, &[0])), None),
    ] {
        assert_eq!(next(&brokers, false, &of), expected, "{what}");
    }
    let of = offline(&[0], partition(0, &[0]));
    assert_eq!(next(&brokers, true, &of), Some((1, vec![1])), "unclean");
    let of = PartitionImage {
        state: None,
        ..offline(&[0], partition(0, &[]))
    };
    let first = first_state(&image(&brokers), ControllerEpoch(3), &of).unwrap();
    assert_eq!((first.leader, first.isr), (Some(BrokerId(1)), ids(&[1, 2])));
    let of = offline(&[0], partition(1, &[0, 1]));
    assert_eq!(
        preferred(&image(&brokers), &of),
        Err(NotElected::PreferredNotAvailable)
    );
}

#[test]
fn who_departs_hands_over_what_others_have() {
    let now = image(&[(0, OLD, None), (1, OLD, None), (2, NEW, None)]);
    for (what, of, expected) in [
        ("leads", partition(0, &[0, 1]), Some((1, vec![1]))),
        ("follows", partition(1, &[0, 1]), Some((1, vec![1]))),
        ("is not in sync", partition(1, &[1]), None),
        ("is alone", partition(0, &[0]), None),
        ("the other has restarted", partition(0, &[0, 2]), None),
        ("is alone without leading", partition(-1, &[0]), None),
    ] {
        let found = departed(&now, &of, BrokerId(0));
        let found = found.map(|next| {
            assert_eq!(next.leader_epoch, LeaderEpoch(8));
            let isr: Vec<i32> = next.isr.iter().map(|id| id.0).collect();
            (next.leader.unwrap().0, isr)
        });
        assert_eq!(found, expected, "{what}");
    }
}

/// One broker of the model, as it is and as it is registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Node {
    alive: bool,
    epoch: i64,
    blank: Option<i64>,
    /// How many of the records it has; what is acknowledged is counted the same way.
    log: u8,
}

/// A write on its way to ZooKeeper, guarded by the version it was made from: only while that is the
/// newest one it is kept here.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Pending {
    leader: Option<usize>,
    isr: BTreeSet<usize>,
    /// Who the leader itself is adding to the in-sync set.
    adds: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct World {
    nodes: [Node; 3],
    leader: Option<usize>,
    isr: BTreeSet<usize>,
    written: i64,
    pending: Option<Pending>,
    acknowledged: u8,
}

#[derive(Clone, Copy, Debug)]
enum Happening {
    Dies(usize),
    Returns(usize),
    ReturnsBlank(usize),
    Departs(usize),
    Decided,
    Written,
    Fetches(usize),
    Expands(usize),
    Shrinks(usize),
    Acknowledges,
}

fn broker(index: usize) -> BrokerId {
    BrokerId(i32::try_from(index).unwrap())
}

fn index(id: BrokerId) -> usize {
    usize::try_from(id.0).unwrap()
}

impl World {
    fn start() -> World {
        let node = |epoch| Node {
            alive: true,
            epoch,
            blank: None,
            log: 0,
        };
        World {
            nodes: [node(1), node(2), node(3)],
            leader: Some(0),
            isr: BTreeSet::from([0, 1, 2]),
            written: 4,
            pending: None,
            acknowledged: 0,
        }
    }

    fn image(&self) -> Image {
        let alive = self.nodes.iter().enumerate().filter(|(_, node)| node.alive);
        let brokers: Vec<_> = alive
            .map(|(id, node)| (i32::try_from(id).unwrap(), node.epoch, node.blank))
            .collect();
        image(&brokers)
    }

    fn partition(&self) -> PartitionImage {
        let isr: Vec<i32> = self.isr.iter().map(|id| broker(*id).0).collect();
        let mut partition = partition(self.leader.map_or(-1, |id| broker(id).0), &isr);
        partition.state.as_mut().unwrap().written = Zxid(self.written);
        partition
    }

    /// The leader, where it is alive and may lead: the state is newer than its registration.
    fn leading(&self) -> Option<usize> {
        self.leader
            .filter(|id| self.nodes[*id].alive && self.nodes[*id].epoch < self.written)
    }

    /// Who a leader keeps in the in-sync set when it changes it.
    fn members(&self) -> impl Iterator<Item = usize> {
        let partition = self.partition();
        let state = partition.state.as_ref().unwrap();
        in_sync(&self.image(), &partition, state)
            .into_iter()
            .map(index)
    }

    fn decided(&self) -> Option<Pending> {
        let partition = self.partition();
        let state = partition.state.as_ref().unwrap();
        let (image, epoch) = (self.image(), ControllerEpoch(3));
        let known = image.brokers.keys().copied().collect();
        let Following::Next(next) = next_state(&image, &known, epoch, false, &partition, state)
        else {
            return None;
        };
        assert!(!next.unclean);
        if let Some(leader) = next.state.leader {
            let stands = standing(&self.image(), &partition, leader, state.written);
            assert!(
                matches!(stands, Standing::Proven | Standing::Unproven),
                "{self:?}"
            );
        }
        Some(Pending::of(&next.state))
    }

    /// The world after it; none where it cannot happen.
    fn after(&self, happening: Happening) -> Option<World> {
        let mut world = self.clone();
        let now = 1 + self
            .nodes
            .iter()
            .map(|node| node.epoch)
            .chain([self.written])
            .max()?;
        match happening {
            Happening::Dies(id) => {
                world.nodes[id].alive.then_some(())?;
                world.nodes[id].alive = false;
            }
            Happening::Returns(id) => {
                (!world.nodes[id].alive).then_some(())?;
                world.nodes[id].alive = true;
                world.nodes[id].epoch = now;
            }
            Happening::ReturnsBlank(id) => {
                (!world.nodes[id].alive).then_some(())?;
                // First it writes the states that name it anew, which ends what is on its way; they
                // stay as old as they are.
                world.pending = None;
                world.nodes[id] = Node {
                    alive: true,
                    epoch: now,
                    blank: Some(now),
                    log: 0,
                };
            }
            Happening::Departs(id) => {
                (world.nodes[id].alive && world.pending.is_none()).then_some(())?;
                let state = departed(&self.image(), &self.partition(), broker(id))?;
                world.pending = Some(Pending::of(&state));
            }
            Happening::Decided => {
                world.pending.is_none().then_some(())?;
                world.pending = Some(self.decided()?);
            }
            Happening::Written => {
                let pending = world.pending.take()?;
                (world.leader, world.isr) = (pending.leader, pending.isr);
                // Without a leader it says nothing new of anybody.
                if world.leader.is_some() {
                    world.written = now;
                }
            }
            Happening::Fetches(id) => {
                let leader = self
                    .leading()
                    .filter(|leader| *leader != id && self.nodes[id].alive)?;
                world.nodes[id].log = self.nodes[leader].log;
            }
            Happening::Expands(id) => {
                let leader = self.leading()?;
                let caught_up =
                    self.nodes[id].alive && self.nodes[id].log == self.nodes[leader].log;
                (caught_up && world.pending.is_none() && !self.isr.contains(&id)).then_some(())?;
                let isr = self.members().chain([id]).collect();
                world.pending = Some(Pending {
                    leader: Some(leader),
                    isr,
                    adds: Some(id),
                });
            }
            Happening::Shrinks(id) => {
                let leader = self.leading().filter(|leader| *leader != id)?;
                (world.pending.is_none() && self.isr.contains(&id)).then_some(())?;
                let isr = self.members().filter(|member| *member != id).collect();
                world.pending = Some(Pending {
                    leader: Some(leader),
                    isr,
                    adds: None,
                });
            }
            Happening::Acknowledges => {
                self.leading()?;
                (self.acknowledged < 1).then_some(())?;
                let adds = self.pending.as_ref().and_then(|pending| pending.adds);
                let members: Vec<usize> = self.isr.iter().copied().chain(adds).collect();
                members
                    .iter()
                    .all(|id| self.nodes[*id].alive)
                    .then_some(())?;
                world.acknowledged += 1;
                for id in members {
                    world.nodes[id].log = world.acknowledged;
                }
            }
        }
        Some(world.canonical())
    }

    /// Only the order of the moments counts.
    fn canonical(mut self) -> World {
        let mut moments: Vec<&mut i64> = vec![&mut self.written];
        for node in &mut self.nodes {
            moments.push(&mut node.epoch);
            moments.extend(&mut node.blank);
        }
        let order: BTreeSet<i64> = moments.iter().map(|moment| **moment).collect();
        let rank: BTreeMap<i64, i64> = order.into_iter().zip(1..).collect();
        for moment in moments {
            *moment = rank[moment];
        }
        self
    }

    fn check(&self) -> Result<(), &'static str> {
        let sound = |held, reason| if held { Ok(()) } else { Err(reason) };
        sound(!self.isr.is_empty(), "nobody is in sync")?;
        let member = self.leader.is_none_or(|leader| self.isr.contains(&leader));
        sound(member, "the leader is not in sync")?;
        if let Some(leader) = self.leading() {
            let log = self.nodes[leader].log;
            sound(log >= self.acknowledged, "something acknowledged is lost")?;
        }
        // Whoever has what was acknowledged does not wait for somebody else for ever.
        if self.pending.is_none() && self.leading().is_none() && self.decided().is_none() {
            let image = self.image();
            let usable = |id: &usize| {
                let stands = standing(&image, &self.partition(), broker(*id), Zxid(self.written));
                !matches!(stands, Standing::Dead | Standing::Blank)
            };
            sound(!self.isr.iter().any(usable), "nobody leads")?;
        }
        Ok(())
    }
}

impl Pending {
    fn of(state: &PartitionState) -> Pending {
        Pending {
            leader: state.leader.map(index),
            isr: state.isr.iter().copied().map(index).collect(),
            adds: None,
        }
    }
}

/// How many worlds are looked at, the shortest histories first: about ten events deep.
const WORLDS: usize = 40_000;

/// Every order in which three brokers die, return, return with empty disks, depart, follow and lag, with
/// every decision delayed as long as its guard lets it be.
#[test]
fn nothing_acknowledged_is_lost_in_any_order_of_deaths() {
    use Happening::*;
    let mut happenings = vec![Decided, Written, Acknowledges];
    for id in 0..3 {
        let own = [
            Dies(id),
            Returns(id),
            ReturnsBlank(id),
            Departs(id),
            Fetches(id),
            Expands(id),
            Shrinks(id),
        ];
        happenings.extend(own);
    }
    let start = World::start().canonical();
    let mut before: BTreeMap<World, Option<(World, Happening)>> = BTreeMap::new();
    before.insert(start.clone(), None);
    let mut frontier = VecDeque::from([start]);
    while let Some(world) = frontier.pop_front() {
        if before.len() > WORLDS {
            return;
        }
        if let Err(reason) = world.check() {
            let mut story = vec![format!("{world:?}")];
            let mut at = &world;
            while let Some(Some((earlier, happening))) = before.get(at) {
                story.push(format!("{earlier:?}\n  {happening:?}"));
                at = earlier;
            }
            story.reverse();
            panic!("{reason}\n{}", story.join("\n"));
        }
        for happening in &happenings {
            let Some(next) = world.after(*happening) else {
                continue;
            };
            if !before.contains_key(&next) {
                before.insert(next.clone(), Some((world.clone(), *happening)));
                frontier.push_back(next);
            }
        }
    }
}
