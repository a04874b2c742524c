//! Znodes of Kafka 2.8: where they are and what is in them. Pure: bytes in, values out, and back.
//!
//! Whatever a stranger wrote is either understood or a [`Malformed`]; nothing here panics or keeps
//! more than the bytes it was given. Payloads are written with the keys in Kafka's own order.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::broker::image::{BrokerImage, PartitionState, Reassignment};
use crate::common::ids::{
    BrokerId, ControllerEpoch, LeaderEpoch, TopicPartition, Zxid, kafka_uuid_parse,
    kafka_uuid_text, valid_topic_name,
};
use crate::common::net::HostPort;

/// Live brokers.
pub const BROKER_IDS: &str = "/brokers/ids";
/// Topics.
pub const TOPICS: &str = "/brokers/topics";
/// The controller's ephemeral.
pub const CONTROLLER: &str = "/controller";
/// How many controllers there were.
pub const CONTROLLER_EPOCH: &str = "/controller_epoch";
/// Versioned features of the cluster; none so far.
pub const FEATURE: &str = "/feature";
/// The cluster's id.
pub const CLUSTER_ID: &str = "/cluster/id";
/// The newest block of producer ids.
pub const PRODUCER_IDS: &str = "/latest_producer_id_block";
/// Overrides of topics.
pub const TOPIC_CONFIGS: &str = "/config/topics";
/// Overrides of brokers; the cluster's defaults are under [`DEFAULT_ENTITY`].
pub const BROKER_CONFIGS: &str = "/config/brokers";
/// Writers of overrides leave a notification here for genuine brokers.
pub const CONFIG_CHANGE: &str = "/config/changes/config_change_";
/// Topics that shall be deleted.
pub const DELETE_TOPICS: &str = "/admin/delete_topics";
/// Asks the controller to hand partitions to their preferred leaders.
pub const PREFERRED_ELECTION: &str = "/admin/preferred_replica_election";
/// Asks the controller to move replicas.
pub const REASSIGNMENT: &str = "/admin/reassign_partitions";
/// Its version counts the ids that brokers were given.
pub const BROKER_SEQUENCE_ID: &str = "/brokers/seqid";
/// The name of a group of defaults among entities.
pub const DEFAULT_ENTITY: &str = "<default>";

/// What Kafka creates at every start if it is absent (`ZkData.PersistentZkPaths`), parents first.
pub const PERSISTENT_PATHS: [&str; 18] = [
    "/consumers",
    "/brokers",
    "/brokers/ids",
    "/brokers/topics",
    BROKER_SEQUENCE_ID,
    "/config",
    "/config/changes",
    "/config/topics",
    "/config/clients",
    "/config/users",
    "/config/brokers",
    "/config/ips",
    "/admin",
    "/admin/delete_topics",
    "/isr_change_notification",
    "/latest_producer_id_block",
    LOG_DIR_EVENTS,
    "/cluster",
];

/// `/brokers/ids/N`.
pub fn broker_path(id: BrokerId) -> String {
    format!("{BROKER_IDS}/{id}")
}

/// `/brokers/topics/T`.
pub fn topic_path(topic: &str) -> String {
    format!("{TOPICS}/{topic}")
}

/// `/brokers/topics/T/partitions`.
pub fn partitions_path(topic: &str) -> String {
    format!("{TOPICS}/{topic}/partitions")
}

/// `/brokers/topics/T/partitions/P`.
pub fn partition_path(topic: &str, partition: i32) -> String {
    format!("{TOPICS}/{topic}/partitions/{partition}")
}

/// `/brokers/topics/T/partitions/P/state`.
pub fn state_path(topic: &str, partition: i32) -> String {
    format!("{TOPICS}/{topic}/partitions/{partition}/state")
}

/// `/config/topics/T`.
pub fn topic_config_path(topic: &str) -> String {
    format!("{TOPIC_CONFIGS}/{topic}")
}

/// `/config/brokers/N`, or of the defaults.
pub fn broker_config_path(broker: Option<BrokerId>) -> String {
    match broker {
        Some(id) => format!("{BROKER_CONFIGS}/{id}"),
        None => format!("{BROKER_CONFIGS}/{DEFAULT_ENTITY}"),
    }
}

/// `/admin/delete_topics/T`.
pub fn delete_topic_path(topic: &str) -> String {
    format!("{DELETE_TOPICS}/{topic}")
}

/// What a path means to a broker.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// `/brokers/ids/N`
    Broker(BrokerId),
    /// `/brokers/topics/T`
    Topic(String),
    /// `/brokers/topics/T/partitions/P/state`
    State(TopicPartition),
    /// `/config/topics/T`
    TopicConfig(String),
    /// `/config/brokers/N`
    BrokerConfig(Option<BrokerId>),
    /// `/admin/delete_topics/T`
    DeleteTopic(String),
    /// `/admin/preferred_replica_election`
    PreferredElection,
    /// `/admin/reassign_partitions`
    Reassignment,
    /// `/controller`
    Controller,
    /// `/controller_epoch`
    ControllerEpoch,
}

/// Says what a path means; none for those that the image does not hold.
pub fn place(path: &str) -> Option<Place> {
    let mut parts = path.strip_prefix('/')?.split('/');
    let found = match (parts.next()?, parts.next(), parts.next()) {
        ("brokers", Some("ids"), Some(id)) => Place::Broker(broker_id(id)?),
        ("brokers", Some("topics"), Some(topic)) => {
            valid_topic_name(topic).ok()?;
            match (parts.next(), parts.next(), parts.next()) {
                (None, ..) => Place::Topic(topic.to_owned()),
                (Some("partitions"), Some(partition), Some("state")) => {
                    let partition = i32::try_from(index(partition)?).ok()?;
                    Place::State(TopicPartition::new(topic, partition))
                }
                _ => return None,
            }
        }
        ("config", Some("topics"), Some(topic)) => {
            valid_topic_name(topic).ok()?;
            Place::TopicConfig(topic.to_owned())
        }
        ("config", Some("brokers"), Some(DEFAULT_ENTITY)) => Place::BrokerConfig(None),
        ("config", Some("brokers"), Some(id)) => Place::BrokerConfig(Some(broker_id(id)?)),
        ("admin", Some("delete_topics"), Some(topic)) => {
            valid_topic_name(topic).ok()?;
            Place::DeleteTopic(topic.to_owned())
        }
        ("admin", Some("preferred_replica_election"), None) => Place::PreferredElection,
        ("admin", Some("reassign_partitions"), None) => Place::Reassignment,
        ("controller", None, None) => Place::Controller,
        ("controller_epoch", None, None) => Place::ControllerEpoch,
        _ => return None,
    };
    parts.next().is_none().then_some(found)
}

impl Place {
    /// The path again.
    pub fn path(&self) -> String {
        match self {
            Place::Broker(id) => broker_path(*id),
            Place::Topic(topic) => topic_path(topic),
            Place::State(partition) => state_path(&partition.topic, partition.partition),
            Place::TopicConfig(topic) => topic_config_path(topic),
            Place::BrokerConfig(id) => broker_config_path(*id),
            Place::DeleteTopic(topic) => delete_topic_path(topic),
            Place::PreferredElection => PREFERRED_ELECTION.to_owned(),
            Place::Reassignment => REASSIGNMENT.to_owned(),
            Place::Controller => CONTROLLER.to_owned(),
            Place::ControllerEpoch => CONTROLLER_EPOCH.to_owned(),
        }
    }
}

/// Reads a child's name of `/brokers/ids`.
pub fn broker_id(text: &str) -> Option<BrokerId> {
    Some(BrokerId(i32::try_from(index(text)?).ok()?))
}

/// Digits as Kafka prints them: no sign, no leading zero, so that one number has one path.
fn index(text: &str) -> Option<u32> {
    let number = text.parse::<u32>().ok()?;
    (number.to_string() == text).then_some(number)
}

/// Why a znode was not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The bytes are no JSON object.
    #[error("it is not a JSON object")]
    NotAnObject,
    /// A field is missing or of a wrong kind.
    #[error("its field {0:?} is missing or of a wrong kind")]
    Field(&'static str),
}

type Decoded<T> = Result<T, Malformed>;

fn object(data: &[u8]) -> Decoded<Map<String, Value>> {
    match serde_json::from_slice(data) {
        Ok(Value::Object(map)) => Ok(map),
        _ => Err(Malformed::NotAnObject),
    }
}

fn int32(map: &Map<String, Value>, name: &'static str) -> Decoded<i32> {
    map.get(name)
        .and_then(Value::as_i64)
        .and_then(|value| i32::try_from(value).ok())
        .ok_or(Malformed::Field(name))
}

fn brokers(value: &Value, name: &'static str) -> Decoded<Vec<BrokerId>> {
    let list = value.as_array().ok_or(Malformed::Field(name))?;
    let ids = list.iter().map(|id| {
        let id = id.as_i64().and_then(|id| i32::try_from(id).ok());
        id.filter(|id| *id >= 0).map(BrokerId)
    });
    ids.collect::<Option<Vec<_>>>()
        .ok_or(Malformed::Field(name))
}

fn assignment(
    map: &Map<String, Value>,
    name: &'static str,
) -> Decoded<BTreeMap<i32, Vec<BrokerId>>> {
    let partitions = match map.get(name) {
        None | Some(Value::Null) => return Ok(BTreeMap::new()),
        Some(value) => value.as_object().ok_or(Malformed::Field(name))?,
    };
    let mut found = BTreeMap::new();
    for (partition, replicas) in partitions {
        let partition = index(partition)
            .and_then(|index| i32::try_from(index).ok())
            .ok_or(Malformed::Field(name))?;
        found.insert(partition, brokers(replicas, name)?);
    }
    Ok(found)
}

fn strings(map: &Map<String, Value>, name: &'static str) -> Decoded<BTreeMap<String, String>> {
    let entries = match map.get(name) {
        None | Some(Value::Null) => return Ok(BTreeMap::new()),
        Some(value) => value.as_object().ok_or(Malformed::Field(name))?,
    };
    let entries = entries.iter().map(|(key, value)| {
        let value = match value {
            Value::String(text) => text.clone(),
            // Kafka's reader takes strings alone; people write numbers by hand.
            Value::Number(number) => number.to_string(),
            Value::Bool(yes) => yes.to_string(),
            _ => return Err(Malformed::Field(name)),
        };
        Ok((key.clone(), value))
    });
    entries.collect()
}

fn bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// What `/brokers/topics/T` holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TopicZnode {
    /// The id; none in what a tool of 2.8 wrote.
    pub id: Option<Uuid>,
    /// Replicas by partition.
    pub partitions: BTreeMap<i32, Vec<BrokerId>>,
    /// Replicas that a reassignment adds.
    pub adding: BTreeMap<i32, Vec<BrokerId>>,
    /// Replicas that a reassignment removes.
    pub removing: BTreeMap<i32, Vec<BrokerId>>,
}

impl TopicZnode {
    /// Reads versions 1 to 3.
    pub fn decode(data: &[u8]) -> Decoded<TopicZnode> {
        let map = object(data)?;
        let id = match map.get("topic_id") {
            None | Some(Value::Null) => None,
            Some(text) => {
                let id = text.as_str().and_then(kafka_uuid_parse);
                Some(id.ok_or(Malformed::Field("topic_id"))?)
            }
        };
        if !map.contains_key("partitions") {
            return Err(Malformed::Field("partitions"));
        }
        Ok(TopicZnode {
            id: id.filter(|id| !id.is_nil()),
            partitions: assignment(&map, "partitions")?,
            adding: assignment(&map, "adding_replicas")?,
            removing: assignment(&map, "removing_replicas")?,
        })
    }

    /// Writes version 3, the one with an id.
    pub fn encode(&self) -> Vec<u8> {
        let side = |partitions: &BTreeMap<i32, Vec<BrokerId>>| {
            let entries = partitions
                .iter()
                .map(|(partition, replicas)| (partition.to_string(), json!(replicas)));
            Value::Object(entries.collect())
        };
        let mut map = Map::new();
        map.insert("partitions".into(), side(&self.partitions));
        if let Some(id) = self.id {
            map.insert("topic_id".into(), kafka_uuid_text(id).into());
        }
        map.insert("adding_replicas".into(), side(&self.adding));
        map.insert("removing_replicas".into(), side(&self.removing));
        map.insert("version".into(), 3.into());
        bytes(&Value::Object(map))
    }
}

/// The key by which a state says that it is as old as another one: whoever wrote it learned nothing new of
/// the in-sync replicas. Genuine readers pass it over.
const WRITTEN: &str = "tripod_written";

/// Reads a partition's state; `version` is the znode's. When it was written is seldom in the data: where
/// it says 0, the reader of the znode fills it in.
pub fn decode_state(data: &[u8], version: i32) -> Decoded<PartitionState> {
    let map = object(data)?;
    let leader = int32(&map, "leader")?;
    Ok(PartitionState {
        // -1 is "none"; 2.8 also writes -2 while it deletes.
        leader: (leader >= 0).then_some(BrokerId(leader)),
        leader_epoch: LeaderEpoch(int32(&map, "leader_epoch")?.max(0)),
        isr: brokers(map.get("isr").unwrap_or(&Value::Null), "isr")?,
        controller_epoch: ControllerEpoch(int32(&map, "controller_epoch")?),
        version,
        written: Zxid(map.get(WRITTEN).and_then(Value::as_i64).unwrap_or(0)),
    })
}

/// Writes a partition's state. One without a leader stays as old as the state that it follows: that its
/// in-sync replicas restarted meanwhile, or lost their disks, must not be forgotten.
pub fn encode_state(state: &PartitionState) -> Vec<u8> {
    if state.leader.is_none() {
        return encode_state_again(state);
    }
    bytes(&state_json(state))
}

/// Writes a state anew that stays as old as it is.
pub fn encode_state_again(state: &PartitionState) -> Vec<u8> {
    let mut map = state_json(state);
    if state.written.0 > 0
        && let Some(map) = map.as_object_mut()
    {
        map.insert(WRITTEN.into(), state.written.0.into());
    }
    bytes(&map)
}

fn state_json(state: &PartitionState) -> Value {
    json!({
        "controller_epoch": state.controller_epoch,
        "leader": state.leader.map_or(-1, |leader| leader.0),
        "version": 1,
        "leader_epoch": state.leader_epoch,
        "isr": state.isr,
    })
}

/// Reads the overrides of a topic or broker.
pub fn decode_config(data: &[u8]) -> Decoded<BTreeMap<String, String>> {
    if data.is_empty() {
        // Containers on the way to `users/U/clients/C` are null; so is a node somebody made by hand.
        return Ok(BTreeMap::new());
    }
    strings(&object(data)?, "config")
}

/// Writes the overrides of a topic or broker.
pub fn encode_config(config: &BTreeMap<String, String>) -> Vec<u8> {
    bytes(&json!({"version": 1, "config": config}))
}

/// What [`CONFIG_CHANGE`] gets: which entity's overrides were written.
pub fn encode_config_change(entity_path: &str) -> Vec<u8> {
    bytes(&json!({"version": 2, "entity_path": entity_path}))
}

/// Reads the owner of `/controller`.
pub fn decode_controller(data: &[u8]) -> Decoded<BrokerId> {
    let id = int32(&object(data)?, "brokerid")?;
    if id < 0 {
        return Err(Malformed::Field("brokerid"));
    }
    Ok(BrokerId(id))
}

/// What the owner of `/controller` writes.
pub fn encode_controller(id: BrokerId, now_ms: i64) -> Vec<u8> {
    bytes(&json!({"version": 1, "brokerid": id, "timestamp": now_ms.to_string()}))
}

/// Reads `/controller_epoch`: decimal text.
pub fn decode_controller_epoch(data: &[u8]) -> Decoded<ControllerEpoch> {
    let text = std::str::from_utf8(data).ok();
    let epoch = text.and_then(|text| text.trim().parse::<i32>().ok());
    epoch
        .filter(|epoch| *epoch >= 0)
        .map(ControllerEpoch)
        .ok_or(Malformed::Field("controller_epoch"))
}

/// Reads `/cluster/id`.
pub fn decode_cluster_id(data: &[u8]) -> Decoded<String> {
    let map = object(data)?;
    let id = map.get("id").and_then(Value::as_str);
    id.filter(|id| !id.is_empty() && id.len() <= 256)
        .map(str::to_owned)
        .ok_or(Malformed::Field("id"))
}

/// Writes `/cluster/id`. The version is a string there.
pub fn encode_cluster_id(id: &str) -> Vec<u8> {
    bytes(&json!({"version": "1", "id": id}))
}

/// What `/feature` holds in a cluster without versioned features.
pub fn encode_feature() -> Vec<u8> {
    bytes(&json!({"features": {}, "version": 1, "status": 1}))
}

/// Reads the end of the newest block of producer ids; none where there was no block yet.
pub fn decode_producer_ids(data: &[u8]) -> Decoded<Option<i64>> {
    if data.is_empty() {
        return Ok(None);
    }
    let map = object(data)?;
    let end = match map.get("block_end") {
        Some(Value::String(text)) => text.parse().ok(),
        Some(value) => value.as_i64(),
        None => None,
    };
    end.filter(|end| *end >= 0)
        .map(Some)
        .ok_or(Malformed::Field("block_end"))
}

/// Writes a block of producer ids, both ends included.
pub fn encode_producer_ids(broker: BrokerId, start: i64, end: i64) -> Vec<u8> {
    bytes(&json!({
        "version": 1,
        "broker": broker,
        "block_start": start.to_string(),
        "block_end": end.to_string(),
    }))
}

/// What a tool's list under `partitions` asks for; entries that make no sense are left out.
fn wishes<T>(data: &[u8], of: impl Fn(&Value, TopicPartition) -> Option<T>) -> Decoded<Vec<T>> {
    let map = object(data)?;
    let list = map
        .get("partitions")
        .and_then(Value::as_array)
        .ok_or(Malformed::Field("partitions"))?;
    let entries = list.iter().filter_map(|entry| {
        let topic = entry.get("topic")?.as_str()?;
        let partition = i32::try_from(entry.get("partition")?.as_i64()?).ok()?;
        valid_topic_name(topic).ok()?;
        of(entry, TopicPartition::new(topic, partition))
    });
    Ok(entries.collect())
}

/// Reads which partitions shall go to their preferred leaders. Entries that make no sense are left out.
pub fn decode_preferred_election(data: &[u8]) -> Decoded<Vec<TopicPartition>> {
    wishes(data, |_, id| Some(id))
}

/// Reads which replicas a tool wants moved. Entries that make no sense are left out.
pub fn decode_reassignment(data: &[u8], version: i32) -> Decoded<Reassignment> {
    let partitions = wishes(data, |entry, id| {
        let replicas = brokers(entry.get("replicas")?, "replicas").ok()?;
        Some((id, replicas))
    })?;
    Ok(Reassignment {
        partitions,
        version,
    })
}

/// Writes which replicas are still to be moved.
pub fn encode_reassignment(partitions: &[(TopicPartition, Vec<BrokerId>)]) -> Vec<u8> {
    let entries = partitions.iter().map(|(id, replicas)| {
        json!({"topic": &*id.topic, "partition": id.partition, "replicas": replicas})
    });
    let entries: Vec<Value> = entries.collect();
    bytes(&json!({"version": 1, "partitions": entries}))
}

/// The key by which a broker says since when its log directories hold anything. Genuine readers pass it
/// over.
const BLANK_SINCE: &str = "tripod_blank_since";

/// The key by which a broker says since when the ends of its logs may be missing.
const CUT_SINCE: &str = "tripod_cut_since";

/// The key by which a broker names its replicas whose logs cannot be used: partitions by topic.
const OFFLINE_REPLICAS: &str = "tripod_offline_replicas";

/// Below it brokers tell, as Kafka does, that a log directory failed.
pub const LOG_DIR_EVENTS: &str = "/log_dir_event_notification";

/// Writes a child of [`LOG_DIR_EVENTS`].
pub fn encode_log_dir_event(id: BrokerId) -> Vec<u8> {
    bytes(&json!({"version": 1, "broker": id, "event": 1}))
}

/// At which registration of a broker something befell its log directories, for the last time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Since {
    /// It is not known that it ever did.
    #[default]
    Never,
    /// At the one that is being made.
    Now,
    /// At this earlier one.
    At(Zxid),
}

impl Since {
    /// The value that says so.
    fn value(self) -> Option<Value> {
        match self {
            Since::Never => None,
            Since::Now => Some(true.into()),
            Since::At(at) => Some(at.0.into()),
        }
    }
}

/// What befell the log directories of a broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// They were empty.
    pub blank: Since,
    /// The machine went down beneath the broker: what had not reached the disk is missing.
    pub cut: Since,
}

/// Reads `/brokers/ids/N`; `epoch` is the znode's czxid.
pub fn decode_broker(id: BrokerId, data: &[u8], epoch: Zxid) -> Decoded<BrokerImage> {
    let map = object(data)?;
    let security = strings(&map, "listener_security_protocol_map")?;
    let mut endpoints = BTreeMap::new();
    let mut protocols = BTreeMap::new();
    let listed = map.get("endpoints").and_then(Value::as_array);
    for endpoint in listed.into_iter().flatten() {
        let (listener, address) = endpoint
            .as_str()
            .and_then(|text| text.split_once("://"))
            .ok_or(Malformed::Field("endpoints"))?;
        let address = HostPort::parse(address, None).map_err(|_| Malformed::Field("endpoints"))?;
        let protocol = security.get(listener).map_or(listener, String::as_str);
        protocols.insert(listener.to_owned(), protocol.to_owned());
        endpoints.insert(listener.to_owned(), address);
    }
    if endpoints.is_empty() {
        // Version 1: host and port alone.
        let host = map.get("host").and_then(Value::as_str);
        let port = u16::try_from(int32(&map, "port")?).map_err(|_| Malformed::Field("port"))?;
        let host = host.ok_or(Malformed::Field("host"))?;
        endpoints.insert("PLAINTEXT".into(), HostPort::new(host, port));
        protocols.insert("PLAINTEXT".into(), "PLAINTEXT".into());
    }
    Ok(BrokerImage {
        id,
        epoch,
        endpoints,
        security: protocols,
        rack: map.get("rack").and_then(Value::as_str).map(str::to_owned),
        blank_since: since(&map, BLANK_SINCE, epoch),
        cut_since: since(&map, CUT_SINCE, epoch),
        offline: offline_replicas(&map),
    })
}

fn since(map: &Map<String, Value>, key: &str, epoch: Zxid) -> Option<Zxid> {
    match map.get(key)? {
        Value::Bool(true) => Some(epoch),
        value => value.as_i64().map(Zxid),
    }
}

/// What else stands there is passed over.
fn offline_replicas(map: &Map<String, Value>) -> BTreeMap<String, BTreeSet<i32>> {
    let topics = map.get(OFFLINE_REPLICAS).and_then(Value::as_object);
    let topics = topics.into_iter().flatten().filter_map(|(topic, indexes)| {
        let indexes = indexes.as_array()?.iter().filter_map(Value::as_i64);
        let indexes = indexes.filter_map(|index| i32::try_from(index).ok());
        Some((topic.clone(), indexes.collect()))
    });
    topics.collect()
}

/// Writes `/brokers/ids/N`, version 5. `listeners` in the order of the configuration:
/// name, security protocol, advertised address.
pub fn encode_broker(
    listeners: &[(String, String, HostPort)],
    rack: Option<&str>,
    losses: Losses,
    offline: &BTreeMap<String, BTreeSet<i32>>,
    now_ms: i64,
) -> Vec<u8> {
    let protocols: Map<String, Value> = listeners
        .iter()
        .map(|(name, protocol, _)| (name.clone(), protocol.clone().into()))
        .collect();
    let endpoints: Vec<String> = listeners
        .iter()
        .map(|(name, _, address)| format!("{name}://{address}"))
        .collect();
    // Old tools read these two; Kafka fills them from the first plaintext listener.
    let plain = listeners
        .iter()
        .find(|(_, protocol, _)| protocol == "PLAINTEXT");
    let mut map = Map::new();
    map.insert("features".into(), json!({}));
    map.insert("listener_security_protocol_map".into(), protocols.into());
    map.insert("endpoints".into(), endpoints.into());
    map.insert("jmx_port".into(), (-1).into());
    map.insert(
        "port".into(),
        plain
            .map_or(-1, |(.., address)| i32::from(address.port))
            .into(),
    );
    map.insert(
        "host".into(),
        plain.map_or(Value::Null, |(.., address)| address.host.clone().into()),
    );
    map.insert("version".into(), 5.into());
    map.insert("timestamp".into(), now_ms.to_string().into());
    if let Some(rack) = rack {
        map.insert("rack".into(), rack.into());
    }
    if !offline.is_empty() {
        map.insert(OFFLINE_REPLICAS.into(), json!(offline));
    }
    for (key, since) in [(BLANK_SINCE, losses.blank), (CUT_SINCE, losses.cut)] {
        if let Some(value) = since.value() {
            map.insert(key.into(), value);
        }
    }
    bytes(&Value::Object(map))
}

#[cfg(test)]
mod tests;
