//! A model of three replicas of one partition: processes die and machines lose power, sessions end later
//! or not before the broker is back, every decision comes as late as its guard lets it. What must hold:
//! what was acknowledged is at every leader, and no offset has two contents under one epoch, for by epochs
//! alone followers find out where their logs leave the leader's.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;

/// A record: the epoch it was written under, and what tells it from all others.
type Record = (i64, u8);

/// One broker, as it is and as it is registered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Node {
    alive: bool,
    /// Its session has not ended.
    registered: bool,
    epoch: i64,
    blank: Option<i64>,
    cut: Option<i64>,
    /// It is down, and its machine went down, too.
    powerless: bool,
    log: Vec<Record>,
    /// Where its log ends, as the leader knows.
    end: Option<usize>,
}

/// A write on its way to ZooKeeper, guarded by the version it was made from: only while that is the
/// newest one it is kept here.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Pending {
    leader: Option<usize>,
    isr: BTreeSet<usize>,
    /// The leader itself writes it: the epoch stays, and who is added counts already.
    by_leader: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct World {
    nodes: [Node; 3],
    leader: Option<usize>,
    leader_epoch: i64,
    /// Where the leader's log ended when its epoch began.
    start: usize,
    isr: BTreeSet<usize>,
    written: i64,
    pending: Option<Pending>,
    acknowledged: Vec<Record>,
    records: u8,
    /// No disk of an in-sync replica has kept everything: nothing is promised any more.
    void: bool,
}

#[derive(Clone, Copy, Debug)]
enum Happening {
    Dies(usize),
    /// Its machine goes down, with what had not reached the disk; the process may have died before.
    LosesPower(usize),
    SessionEnds(usize),
    Returns(usize),
    ReturnsBlank(usize),
    Departs(usize),
    Decided,
    Written,
    Appends,
    Fetches(usize),
    Expands(usize),
    Shrinks(usize),
}

/// All that can happen.
fn happenings() -> Vec<Happening> {
    use Happening::*;
    let mut all = vec![Decided, Written, Appends];
    for id in 0..3 {
        let own = [
            Dies(id),
            LosesPower(id),
            SessionEnds(id),
            Returns(id),
            ReturnsBlank(id),
            Departs(id),
            Fetches(id),
            Expands(id),
            Shrinks(id),
        ];
        all.extend(own);
    }
    all
}

fn broker(index: usize) -> BrokerId {
    BrokerId(i32::try_from(index).unwrap())
}

fn index(id: BrokerId) -> usize {
    usize::try_from(id.0).unwrap()
}

/// What a follower does with its log before it takes the leader's records: KIP-101 and KIP-279. It sees epochs
/// and offsets, nothing else.
fn truncate(follower: &mut Vec<Record>, leader: &[Record]) {
    while let Some((last, _)) = follower.last().copied() {
        let end = |log: &[Record], epoch| log.iter().filter(|(of, _)| *of <= epoch).count();
        let epochs = leader.iter().map(|(epoch, _)| *epoch);
        let found = epochs.filter(|epoch| *epoch <= last).max();
        let length = match found {
            Some(epoch) if epoch == last => end(leader, epoch).min(follower.len()),
            Some(epoch) => end(follower, epoch).min(end(leader, epoch)),
            None => 0,
        };
        let whole = found == Some(last);
        follower.truncate(length);
        if whole {
            return;
        }
    }
}

impl World {
    fn start() -> World {
        let node = |epoch| Node {
            alive: true,
            registered: true,
            epoch,
            blank: None,
            cut: None,
            powerless: false,
            log: Vec::new(),
            end: None,
        };
        World {
            nodes: [node(1), node(2), node(3)],
            leader: Some(0),
            leader_epoch: 5,
            start: 0,
            isr: BTreeSet::from([0, 1, 2]),
            written: 4,
            pending: None,
            acknowledged: Vec::new(),
            records: 0,
            void: false,
        }
    }

    /// One record is acknowledged by two, and the third is gone.
    fn later() -> World {
        let mut world = World::start();
        let before = [
            Happening::Dies(2),
            Happening::SessionEnds(2),
            Happening::Decided,
            Happening::Written,
            Happening::Appends,
            Happening::Fetches(1),
        ];
        for happening in before {
            world = world.after(happening).unwrap();
        }
        assert_eq!(world.acknowledged.len(), 1);
        world
    }

    fn image(&self) -> Image {
        let nodes = self.nodes.iter().enumerate();
        let brokers = nodes.filter(|(_, node)| node.registered).map(|(id, node)| {
            let broker = BrokerImage {
                epoch: Zxid(node.epoch),
                blank_since: node.blank.map(Zxid),
                cut_since: node.cut.map(Zxid),
                ..live(broker(id))
            };
            (broker.id, broker)
        });
        Image {
            brokers: brokers.collect(),
            ..image(&[])
        }
    }

    /// Those to whom there is a connection.
    fn known(&self) -> BTreeSet<BrokerId> {
        let alive = (0..3).filter(|id| self.nodes[*id].alive);
        alive.map(broker).collect()
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

    fn stands(&self, id: usize) -> Standing {
        let written = Zxid(self.written);
        standing(&self.image(), &self.partition(), broker(id), written)
    }

    /// The in-sync set, where its leader may write another one: all of it has been there all the time.
    fn settled(&self) -> Option<BTreeSet<usize>> {
        let partition = self.partition();
        let state = partition.state.as_ref().unwrap();
        let members = in_sync(&self.image(), &partition, state);
        let members: BTreeSet<usize> = members.into_iter().map(index).collect();
        (members == self.isr && self.pending.is_none()).then_some(members)
    }

    fn decided(&self) -> Option<Pending> {
        let partition = self.partition();
        let state = partition.state.as_ref().unwrap();
        let (image, epoch) = (self.image(), ControllerEpoch(3));
        let Following::Next(next) =
            next_state(&image, &self.known(), epoch, false, &partition, state)
        else {
            return None;
        };
        assert!(!next.unclean);
        if let Some(leader) = next.state.leader {
            let stands = self.stands(index(leader));
            let bad = matches!(stands, Standing::Dead | Standing::Blank);
            assert!(!bad, "{self:?}");
        }
        Some(Pending::of(&next.state))
    }

    fn now(&self) -> i64 {
        let epochs = self.nodes.iter().map(|node| node.epoch);
        1 + epochs.chain([self.written]).max().unwrap_or_default()
    }

    fn return_(&mut self, id: usize, blank: bool) {
        let now = self.now();
        let node = &mut self.nodes[id];
        (node.alive, node.registered, node.epoch) = (true, true, now);
        if blank {
            (node.blank, node.log) = (Some(now), Vec::new());
        }
        if node.powerless {
            node.cut = Some(now);
        }
        // Who lost something first writes the states that name it anew, which ends what is on its way;
        // they stay as old as they are.
        if blank || node.powerless {
            self.pending = None;
        }
        self.nodes[id].powerless = false;
        self.nodes[id].end = None;
        if self.leader == Some(id) {
            self.forget_ends();
        }
    }

    fn forget_ends(&mut self) {
        for node in &mut self.nodes {
            node.end = None;
        }
    }

    fn write(&mut self, pending: Pending) {
        let now = self.now();
        if self.leader != pending.leader {
            self.forget_ends();
        }
        (self.leader, self.isr) = (pending.leader, pending.isr);
        if !pending.by_leader {
            self.leader_epoch += 1;
            self.start = self.leader.map_or(0, |id| self.nodes[id].log.len());
        }
        // Without a leader it says nothing new of anybody.
        if self.leader.is_some() {
            self.written = now;
        }
    }

    /// The world after it; none where it cannot happen.
    fn after(&self, happening: Happening) -> Option<World> {
        let mut world = self.clone();
        let down = |id: usize| (!self.nodes[id].alive).then_some(());
        match happening {
            Happening::Dies(id) => {
                self.nodes[id].alive.then_some(())?;
                world.nodes[id].alive = false;
            }
            Happening::LosesPower(id) => {
                let node = &mut world.nodes[id];
                node.log.pop()?;
                (node.alive, node.powerless) = (false, true);
                world.lose();
            }
            Happening::SessionEnds(id) => {
                down(id).filter(|()| self.nodes[id].registered)?;
                world.nodes[id].registered = false;
            }
            Happening::Returns(id) => {
                down(id)?;
                world.return_(id, false);
            }
            Happening::ReturnsBlank(id) => {
                down(id)?;
                world.return_(id, true);
                world.lose();
            }
            Happening::Departs(id) => {
                (self.nodes[id].alive && self.pending.is_none()).then_some(())?;
                let known = self.known();
                let state = departed(&self.image(), &known, &self.partition(), broker(id))?;
                world.pending = Some(Pending::of(&state));
            }
            Happening::Decided => {
                self.pending.is_none().then_some(())?;
                world.pending = Some(self.decided()?);
            }
            Happening::Written => {
                let pending = world.pending.take()?;
                world.write(pending);
            }
            Happening::Appends => {
                let leader = self.leading().filter(|_| self.records < 3)?;
                let record = (self.leader_epoch, self.records);
                world.nodes[leader].log.push(record);
                world.records += 1;
            }
            Happening::Fetches(id) => {
                let leader = self.leading().filter(|leader| *leader != id)?;
                self.nodes[id].alive.then_some(())?;
                let from = self.nodes[leader].log.clone();
                let node = &mut world.nodes[id];
                truncate(&mut node.log, &from);
                let have = node.log.len();
                node.log.extend(from.into_iter().skip(have));
                node.end = Some(node.log.len());
            }
            Happening::Expands(id) => {
                let leader = self.leading().filter(|_| !self.isr.contains(&id))?;
                let low = self.acknowledged.len().max(self.start);
                let node = &self.nodes[id];
                (node.registered && node.end.is_some_and(|end| end >= low)).then_some(())?;
                let isr = self.settled()?.into_iter().chain([id]).collect();
                world.pending = Some(Pending::by(leader, isr));
            }
            Happening::Shrinks(id) => {
                let leader = self.leading().filter(|leader| *leader != id)?;
                self.isr.contains(&id).then_some(())?;
                let mut isr = self.settled()?;
                isr.remove(&id);
                world.pending = Some(Pending::by(leader, isr));
            }
        }
        world.acknowledge();
        Some(world.canonical())
    }

    /// What all have, as the leader knows, is acknowledged at once.
    fn acknowledge(&mut self) {
        if let Some(leader) = self.leading() {
            let adds = self.pending.iter().filter(|pending| pending.by_leader);
            let adds = adds.flat_map(|pending| pending.isr.iter());
            let others = self.isr.iter().chain(adds).filter(|id| **id != leader);
            let ends: Option<Vec<usize>> = others.map(|id| self.nodes[*id].end).collect();
            let log = &self.nodes[leader].log;
            let lowest = ends.and_then(|ends| ends.into_iter().chain([log.len()]).min());
            if let Some(high_watermark) = lowest.filter(|end| *end > self.acknowledged.len()) {
                self.acknowledged = log[..high_watermark].to_vec();
            }
        }
    }

    /// A disk has lost something. Has one of an in-sync replica kept everything, also if a write that is on its
    /// way arrives? Its broker may be dead.
    fn lose(&mut self) {
        let kept = |id: &usize| {
            let node = &self.nodes[*id];
            let since = |since: Option<i64>| since.is_some_and(|since| since > self.written);
            !node.powerless && !since(node.cut) && !since(node.blank)
        };
        let pending = self.pending.iter().map(|pending| &pending.isr);
        let mut sets = pending.chain([&self.isr]);
        self.void |= sets.any(|set| !set.iter().any(kept));
    }

    /// Only the order of the moments and of the epochs counts.
    fn canonical(mut self) -> World {
        let mut moments: Vec<&mut i64> = vec![&mut self.written];
        let mut epochs: Vec<&mut i64> = vec![&mut self.leader_epoch];
        for node in &mut self.nodes {
            moments.push(&mut node.epoch);
            moments.extend(&mut node.blank);
            moments.extend(&mut node.cut);
            epochs.extend(node.log.iter_mut().map(|(epoch, _)| epoch));
        }
        epochs.extend(self.acknowledged.iter_mut().map(|(epoch, _)| epoch));
        for numbers in [moments, epochs] {
            let order: BTreeSet<i64> = numbers.iter().map(|number| **number).collect();
            let rank: BTreeMap<i64, i64> = order.into_iter().zip(1..).collect();
            for number in numbers {
                *number = rank[number];
            }
        }
        self
    }

    fn check(&self) -> Result<(), &'static str> {
        let sound = |held, reason| if held { Ok(()) } else { Err(reason) };
        sound(!self.isr.is_empty(), "nobody is in sync")?;
        let member = self.leader.is_none_or(|leader| self.isr.contains(&leader));
        sound(member, "the leader is not in sync")?;
        for one in &self.nodes {
            for other in &self.nodes {
                let mut both = one.log.iter().zip(&other.log);
                let differs = both.any(|(one, other)| one.0 == other.0 && one.1 != other.1);
                sound(!differs, "an offset has two contents under one epoch")?;
            }
        }
        if let Some(leader) = self.leading().filter(|_| !self.void) {
            let kept = self.nodes[leader].log.starts_with(&self.acknowledged);
            sound(kept, "something acknowledged is lost")?;
        }
        // Whoever has what was acknowledged does not wait for somebody else for ever.
        let ended = self.nodes.iter().all(|node| node.alive || !node.registered);
        if ended && self.pending.is_none() && self.leading().is_none() && self.decided().is_none() {
            let mut members = self.isr.iter().map(|id| self.stands(*id));
            let away = members.clone().any(|stands| stands == Standing::Dead);
            let usable = |stands| match stands {
                Standing::Dead | Standing::Blank => false,
                Standing::Cut => !away,
                Standing::Unproven | Standing::Proven => true,
            };
            sound(!members.any(usable), "nobody leads")?;
        }
        Ok(())
    }
}

impl Pending {
    fn of(state: &PartitionState) -> Pending {
        Pending {
            leader: state.leader.map(index),
            isr: state.isr.iter().copied().map(index).collect(),
            by_leader: false,
        }
    }

    fn by(leader: usize, isr: BTreeSet<usize>) -> Pending {
        Pending {
            leader: Some(leader),
            isr,
            by_leader: true,
        }
    }
}

/// How many worlds are looked at, the shortest histories first.
const WORLDS: usize = 20_000;

/// Every order in which three brokers die, lose power, return, return with empty disks, depart, follow and
/// lag, with every decision delayed as long as its guard lets it be.
#[test]
fn nothing_acknowledged_is_lost_in_any_order_of_deaths() {
    for start in [World::start(), World::later()] {
        all_histories(start.canonical());
    }
}

fn all_histories(start: World) {
    let happenings = happenings();
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

/// Histories too long for all of them to be looked at.
#[test]
fn nothing_acknowledged_is_lost_in_long_histories() {
    let happenings = happenings();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut below = |limit: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % limit as u64).unwrap()
    };
    for walk in 0..10_000 {
        let mut world = World::later().canonical();
        let mut story = Vec::new();
        // Most histories end where nothing is promised any more: what is left then takes its time.
        let length = if walk % 8 == 0 { 60 } else { 15 };
        while story.len() < length && (length > 15 || !world.void) {
            let happening = happenings[below(happenings.len())];
            let Some(next) = world.after(happening) else {
                continue;
            };
            story.push(format!("{happening:?}"));
            world = next;
            if let Err(reason) = world.check() {
                panic!("{reason}\n{}\n{world:?}", story.join("\n"));
            }
        }
    }
}
