//! Keeps the image in step with ZooKeeper: watches, reads what changed, swaps the whole.
//!
//! Persistent recursive watches (ZooKeeper 3.6) tell which paths changed; those are read again, all at
//! once, and the image is swapped when the answers are in. What an event said is never believed, only
//! what is read after it; so a lost or doubled event costs a read, not the truth. After a lost
//! connection everything is read again, and what did not change is shared with the image before.
//!
//! A malformed znode is said once and passed over: the last good content stays, or it is as if the
//! znode were not there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use tracing::{debug, warn};

use crate::broker::image::znode::{self, Malformed, Place, TopicZnode};
use crate::broker::image::{
    Image, ImageCell, PartitionImage, PartitionState, Reassignment, TopicImage,
};
use crate::client::zookeeper::{Error, Event, Events, ZooKeeper};
use crate::common::ids::{BrokerId, ControllerEpoch, TopicPartition, Zxid, valid_topic_name};
use crate::common::shutdown::Shutdown;
use crate::zookeeper::error::ErrorCode;
use crate::zookeeper::stat::Stat;

/// What is watched, with all that is below.
const WATCHED: [&str; 7] = [
    znode::BROKER_IDS,
    znode::TOPICS,
    znode::TOPIC_CONFIGS,
    znode::BROKER_CONFIGS,
    "/admin",
    znode::CONTROLLER,
    znode::CONTROLLER_EPOCH,
];
/// Malformed znodes that are remembered as said.
const SAID_MAX: usize = 1_000;

type Read = Result<(Bytes, Stat), Error>;

/// The one writer of an [`ImageCell`].
#[derive(Debug)]
pub struct Feed {
    zookeeper: Arc<ZooKeeper>,
    events: Events,
    cell: Arc<ImageCell>,
    image: Image,
    /// Which creation of a topic's znode the image shows: a deleted and recreated topic shares nothing
    /// with its predecessor.
    created: BTreeMap<Arc<str>, Zxid>,
    said: BTreeSet<String>,
    mark: u64,
}

/// Who holds an office whose znode cannot be read. No broker has this id.
const UNKNOWN_OWNER: BrokerId = BrokerId(-1);

impl Feed {
    /// Sets the watches and reads the first image, again where a connection is lost over it. The paths that
    /// Kafka expects have to exist.
    pub async fn load(
        zookeeper: Arc<ZooKeeper>,
        mut events: Events,
        cell: Arc<ImageCell>,
    ) -> Result<Feed, Error> {
        // Events so far were before our watches.
        while events.ready().is_some() {}
        let mut feed = Feed {
            zookeeper,
            events,
            cell,
            image: Image::default(),
            created: BTreeMap::new(),
            said: BTreeSet::new(),
            mark: 0,
        };
        while let Err(error) = feed.reload().await {
            feed.zookeeper.mended(error).await?;
        }
        Ok(feed)
    }

    /// Follows the changes until the shutdown.
    pub async fn run(mut self, shutdown: Shutdown) {
        loop {
            let first = tokio::select! {
                first = self.events.next() => first,
                () = shutdown.stopped() => None,
            };
            let Some(first) = first else { return };
            // One transaction tells of many nodes: let the rest of its events arrive.
            tokio::task::yield_now().await;
            let mut all = false;
            let mut dirty = BTreeSet::new();
            let mut next = Some(first);
            while let Some(event) = next {
                match event {
                    Event::Connected(_) => all = true,
                    Event::Lost => {
                        all = true;
                        self.mark = self.zookeeper.marked();
                    }
                    Event::Mark(mark) => self.mark = self.mark.max(mark),
                    Event::Node(_, path) => dirty.extend(znode::place(&path)),
                }
                next = self.events.ready();
            }
            let done = if all {
                self.reload().await
            } else {
                self.refresh(dirty).await
            };
            match done {
                Ok(()) => self.cell.see(self.mark),
                // The connection is gone; the next one is an event, and reads everything.
                Err(error) => debug!(%error, "the image could not be read"),
            }
        }
    }

    /// Reads what changed.
    async fn refresh(&mut self, mut dirty: BTreeSet<Place>) -> Result<(), Error> {
        if dirty.is_empty() {
            return Ok(());
        }
        let unknown: Vec<Place> = dirty
            .iter()
            .filter_map(|place| match place {
                Place::Topic(topic) if !self.image.topics.contains_key(topic.as_str()) => {
                    Some(Place::TopicConfig(topic.clone()))
                }
                _ => None,
            })
            .collect();
        dirty.extend(unknown);
        let mut image = self.image.clone();
        self.read_into(&mut image, &dirty).await?;
        self.publish(image);
        Ok(())
    }

    /// Sets the watches of a new connection and reads everything.
    async fn reload(&mut self) -> Result<(), Error> {
        self.zookeeper.watch_all(&WATCHED).await?;
        let parents = [
            znode::BROKER_IDS,
            znode::TOPICS,
            znode::TOPIC_CONFIGS,
            znode::BROKER_CONFIGS,
            znode::DELETE_TOPICS,
        ];
        let parents = parents.map(str::to_owned);
        let mut places = BTreeSet::from([
            Place::Controller,
            Place::ControllerEpoch,
            Place::PreferredElection,
            Place::Reassignment,
        ]);
        let listed = self.zookeeper.children_all(&parents).await;
        for (parent, names) in parents.iter().zip(listed) {
            let names = match names {
                Err(error) if error.is(ErrorCode::NoNode) => Vec::new(),
                names => names?,
            };
            places.extend(
                names
                    .iter()
                    .filter_map(|name| znode::place(&format!("{parent}/{name}"))),
            );
        }
        // Reading into an empty image drops what is gone; unchanged topics are shared afterwards.
        let mut image = Image::default();
        self.created.clear();
        self.read_into(&mut image, &places).await?;
        for (name, topic) in &mut image.topics {
            if let Some(before) = self
                .image
                .topics
                .get(name)
                .filter(|before| *before == topic)
            {
                *topic = before.clone();
            }
        }
        self.publish(image);
        Ok(())
    }

    fn publish(&mut self, mut image: Image) {
        let any = |image: &Image| image.brokers.values().any(|one| !one.offline.is_empty());
        if any(&image) || any(&self.image) {
            image.settle_offline();
        }
        if image != self.image {
            self.image = image.clone();
            self.cell.swap(Arc::new(image));
        }
    }

    /// Reads `places`, and then the states of partitions that came to light.
    async fn read_into(
        &mut self,
        image: &mut Image,
        places: &BTreeSet<Place>,
    ) -> Result<(), Error> {
        let mut fresh = BTreeSet::new();
        let paths: Vec<String> = places.iter().map(Place::path).collect();
        let answers = self.zookeeper.get_all(&paths).await;
        for ((place, path), answer) in places.iter().zip(&paths).zip(answers) {
            let found = found(answer)?;
            if let Place::Topic(topic) = place {
                let known = self.take_topic(image, topic, path, found);
                fresh.extend(known.into_iter().map(Place::State));
            } else {
                self.take(image, place, path, found);
            }
        }
        let fresh: Vec<Place> = fresh.difference(places).cloned().collect();
        let paths: Vec<String> = fresh.iter().map(Place::path).collect();
        let answers = self.zookeeper.get_all(&paths).await;
        for ((place, path), answer) in fresh.iter().zip(&paths).zip(answers) {
            let found = found(answer)?;
            self.take(image, place, path, found);
        }
        Ok(())
    }

    /// A topic's znode. Answers the partitions whose states are not known.
    fn take_topic(
        &mut self,
        image: &mut Image,
        name: &str,
        path: &str,
        found: Option<(Bytes, Stat)>,
    ) -> Vec<TopicPartition> {
        image.unreadable.remove(name);
        let Some((data, stat)) = found else {
            forget_topic(image, name);
            self.created.remove(name);
            return Vec::new();
        };
        let Some(znode) = self.sound(path, TopicZnode::decode(&data)) else {
            image.unreadable.insert(Arc::from(name));
            // After a reload the last good content is in the image before.
            if let Some(before) = self.image.topics.get(name) {
                image.put_topic(before.clone());
            }
            return Vec::new();
        };
        let before = image.topics.get(name).cloned();
        let same = self.created.get(name) == Some(&stat.czxid);
        let before = before.filter(|_| same);
        let name: Arc<str> = before
            .as_ref()
            .map_or_else(|| Arc::from(name), |before| before.name.clone());
        let mut topic = topic_of(&name, &znode, stat.version);
        let mut unknown = Vec::new();
        for (index, partition) in &mut topic.partitions {
            let known = before
                .as_ref()
                .and_then(|before| before.partitions.get(index));
            match known {
                Some(known) => partition.state.clone_from(&known.state),
                None => unknown.push(TopicPartition::new(name.clone(), *index)),
            }
        }
        if let Some(before) = &before {
            topic.config.clone_from(&before.config);
        }
        forget_topic(image, &name);
        self.created.insert(name, stat.czxid);
        image.put_topic(Arc::new(topic));
        unknown
    }

    /// Any other znode.
    fn take(&mut self, image: &mut Image, place: &Place, path: &str, found: Option<(Bytes, Stat)>) {
        let Some((data, stat)) = found else {
            self.said.remove(path);
            image.remove(place);
            return;
        };
        match place {
            Place::Topic(_) => {}
            Place::Broker(id) => {
                let broker = znode::decode_broker(*id, &data, stat.czxid);
                let last = self.image.brokers.get(id).cloned();
                // A broker that came anew is not described by what another session wrote.
                let last = last.filter(|last| last.epoch == stat.czxid);
                if let Some(broker) = self.sound(path, broker).or(last) {
                    image.brokers.insert(*id, broker);
                }
            }
            Place::State(partition) => {
                let state = self.sound(path, decode_state(&data, &stat));
                let last = self.image.partition(&partition.topic, partition.partition);
                let state = state.or_else(|| last.and_then(|last| last.state.clone()));
                set_state(image, partition, state);
            }
            Place::TopicConfig(topic) => {
                let config = self.sound(path, znode::decode_config(&data));
                let last = self.image.topics.get(topic.as_str());
                let config = config.or_else(|| last.map(|last| last.config.clone()));
                set_topic_config(image, topic, config.unwrap_or_default());
            }
            Place::BrokerConfig(id) => {
                let config = self.sound(path, znode::decode_config(&data));
                let last = self.image.broker_configs.get(id).cloned();
                if let Some(config) = config.or(last) {
                    image.broker_configs.insert(*id, config);
                }
            }
            Place::DeleteTopic(topic) => {
                image.deleting.insert(Arc::from(topic.as_str()));
            }
            Place::PreferredElection => {
                let wanted = self.sound(path, znode::decode_preferred_election(&data));
                // Nonsense is an empty wish: the controller removes the znode, as Kafka's does.
                image.preferred_election = Some(wanted.unwrap_or_default());
            }
            Place::Reassignment => {
                let wanted = self.sound(path, znode::decode_reassignment(&data, stat.version));
                // Nonsense is an empty wish here, too.
                image.reassignment = Some(wanted.unwrap_or(Reassignment {
                    partitions: Vec::new(),
                    version: stat.version,
                }));
            }
            Place::Controller => {
                // Taken all the same: the office is free when the node goes, and that must show.
                let owner = self.sound(path, znode::decode_controller(&data));
                image.controller = Some(owner.unwrap_or(UNKNOWN_OWNER));
            }
            Place::ControllerEpoch => {
                let epoch = self.sound(path, znode::decode_controller_epoch(&data));
                image.controller_epoch = epoch.unwrap_or(self.image.controller_epoch);
            }
        }
    }

    /// Says once what cannot be read.
    fn sound<T>(&mut self, path: &str, decoded: Result<T, Malformed>) -> Option<T> {
        match decoded {
            Ok(value) => {
                self.said.remove(path);
                Some(value)
            }
            Err(reason) => {
                if self.said.len() < SAID_MAX && self.said.insert(path.to_owned()) {
                    warn!(path, %reason, "a malformed znode is passed over");
                }
                None
            }
        }
    }
}

/// A node that may be absent.
fn found(answer: Read) -> Result<Option<(Bytes, Stat)>, Error> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is(ErrorCode::NoNode) => Ok(None),
        // It is there and may not be read: as good as malformed, and never as good as deleted.
        Err(Error::Code(ErrorCode::NoAuth)) => Ok(Some((Bytes::new(), Stat::default()))),
        Err(error) => Err(error),
    }
}

fn topic_of(name: &Arc<str>, znode: &TopicZnode, version: i32) -> TopicImage {
    debug_assert!(valid_topic_name(name).is_ok(), "a place has a checked name");
    let side =
        |of: &BTreeMap<i32, Vec<BrokerId>>, index: &i32| of.get(index).cloned().unwrap_or_default();
    let partitions = znode.partitions.iter().map(|(index, replicas)| {
        let partition = PartitionImage {
            replicas: replicas.clone(),
            adding: side(&znode.adding, index),
            removing: side(&znode.removing, index),
            state: None,
            offline: Vec::new(),
        };
        (*index, partition)
    });
    TopicImage {
        name: name.clone(),
        id: znode.id.unwrap_or_default(),
        partitions: partitions.collect(),
        config: BTreeMap::new(),
        version,
    }
}

fn forget_topic(image: &mut Image, name: &str) {
    if let Some(topic) = image.topics.remove(name)
        && image.topic_names.get(&topic.id) == Some(&topic.name)
    {
        image.topic_names.remove(&topic.id);
    }
}

fn decode_state(data: &[u8], stat: &Stat) -> Result<PartitionState, Malformed> {
    let state = znode::decode_state(data, stat.version)?;
    // It cannot be from the future, whatever it says.
    let written = match state.written {
        Zxid(0) => stat.mzxid,
        older => older.min(stat.mzxid),
    };
    Ok(PartitionState { written, ..state })
}

fn set_state(image: &mut Image, of: &TopicPartition, state: Option<PartitionState>) {
    let Some(topic) = image.topics.get_mut(&of.topic) else {
        return;
    };
    let known = topic.partitions.get(&of.partition);
    if known.is_some_and(|known| known.state != state)
        && let Some(partition) = Arc::make_mut(topic).partitions.get_mut(&of.partition)
    {
        partition.state = state;
    }
}

fn set_topic_config(image: &mut Image, topic: &str, config: BTreeMap<String, String>) {
    if let Some(topic) = image.topics.get_mut(topic)
        && topic.config != config
    {
        Arc::make_mut(topic).config = config;
    }
}

impl Image {
    fn put_topic(&mut self, topic: Arc<TopicImage>) {
        if !topic.id.is_nil() {
            self.topic_names.insert(topic.id, topic.name.clone());
        }
        self.topics.insert(topic.name.clone(), topic);
    }

    fn remove(&mut self, place: &Place) {
        match place {
            Place::Broker(id) => {
                self.brokers.remove(id);
            }
            Place::Topic(topic) => forget_topic(self, topic),
            Place::State(partition) => set_state(self, partition, None),
            Place::TopicConfig(topic) => set_topic_config(self, topic, BTreeMap::new()),
            Place::BrokerConfig(id) => {
                self.broker_configs.remove(id);
            }
            Place::DeleteTopic(topic) => {
                self.deleting.remove(topic.as_str());
            }
            Place::PreferredElection => self.preferred_election = None,
            Place::Reassignment => self.reassignment = None,
            Place::Controller => self.controller = None,
            Place::ControllerEpoch => self.controller_epoch = ControllerEpoch(0),
        }
    }
}
