//! Speaks Kafka's and ZooKeeper's protocols outward: for the tools and for a broker's own requests.
//!
//! [`connection`] is one socket to one broker; [`cluster`] finds brokers, leaders and coordinators;
//! [`producer`], [`consumer`], [`group`] and [`admin`] are what an application sees. Nothing here
//! prints, and nothing here knows how a broker works inside.

pub mod admin;
pub mod cluster;
pub mod connection;
pub mod consumer;
pub mod group;
pub mod metrics;
pub mod producer;
pub mod zookeeper;

use std::io;

use kafka_protocol::ResponseError;

use crate::common::clock::Clock;
use crate::common::net::HostPort;
use crate::common::rng::Rng;
use crate::common::tasks::Tasks;

/// The world as a client meets it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct World {
    /// Tells the time.
    pub clock: Clock,
    /// Chooses bootstrap servers and sticky partitions.
    pub rng: Rng,
    /// Owns the client's tasks.
    pub tasks: Tasks,
}

/// Why a request has no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection came about.
    #[error("Connection to {address} could not be established. Broker may not be available.")]
    Connect {
        /// Whom we dialled.
        address: HostPort,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The connection ended before the answer came.
    #[error("Connection to {address} was closed before the response was read.")]
    Closed {
        /// The peer.
        address: HostPort,
    },
    /// The answer did not come in time. The connection is closed with it.
    #[error("{address} did not answer {api} within {limit_ms} ms.")]
    TimedOut {
        /// The peer.
        address: HostPort,
        /// The request.
        api: &'static str,
        /// How long we waited.
        limit_ms: u64,
    },
    /// The peer has no version of the request that we speak.
    #[error("The broker {address} does not support {api}{}.", wanted_version(.version))]
    Unsupported {
        /// The peer.
        address: HostPort,
        /// The request.
        api: &'static str,
        /// The lowest version that would do, where the request needs one.
        version: Option<i16>,
    },
    /// The request could not be put into bytes, or the answer does not follow the protocol.
    #[error("{api} v{version} with {address} does not follow the protocol")]
    Malformed {
        /// The peer.
        address: HostPort,
        /// The request.
        api: &'static str,
        /// The version in use.
        version: i16,
        /// What the codec says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The broker answered with an error code.
    #[error("{}", answer_text(.error, .message))]
    Answer {
        /// The code.
        error: ResponseError,
        /// The broker's own words, if it had any.
        message: Option<String>,
    },
    /// No broker could be reached before the deadline.
    #[error("Timed out waiting for a node assignment. Call: {call}")]
    NoBroker {
        /// What was to be done.
        call: &'static str,
        /// When that was given up, in milliseconds since 1970.
        at_ms: i64,
        /// The last failure.
        #[source]
        source: Option<Box<ClientError>>,
    },
    /// A group has not committed an offset, and nothing else says where to begin.
    #[error("Undefined offset with no reset policy for partitions: [{partitions}]")]
    NoOffset {
        /// The partitions.
        partitions: String,
    },
    /// Record batches that cannot be read or written.
    #[error("a record batch of {partition} is damaged at offset {offset}")]
    Batch {
        /// `topic-partition`.
        partition: String,
        /// Where.
        offset: i64,
        /// What is wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A record that no request can carry.
    #[error(
        "The message is {size} bytes when serialized which is larger than {limit}, which is the value of the max.request.size configuration."
    )]
    RecordTooLarge {
        /// Its size in a batch.
        size: usize,
        /// `max.request.size`.
        limit: usize,
    },
    /// A topic did not become usable.
    #[error("Topic {topic} not present in metadata after {limit_ms} ms.")]
    NoTopic {
        /// The topic.
        topic: String,
        /// `max.block.ms`.
        limit_ms: u64,
    },
    /// A topic lacks the partition that was asked for.
    #[error("Topic {topic} has {count} partitions, and none with the number {partition}.")]
    NoPartition {
        /// The topic.
        topic: String,
        /// The partition asked for.
        partition: i32,
        /// How many there are.
        count: usize,
    },
    /// The producer's memory stayed full.
    #[error("Failed to allocate memory within the configured max blocking time {limit_ms} ms.")]
    NoMemory {
        /// `max.block.ms`.
        limit_ms: u64,
    },
    /// A batch waited longer than `delivery.timeout.ms`.
    #[error(
        "Expiring {records} record(s) for {partition}:{waited_ms} ms has passed since batch creation"
    )]
    Expired {
        /// Records in the batch.
        records: usize,
        /// `topic-partition`.
        partition: String,
        /// How long it waited.
        waited_ms: u64,
    },
    /// The client was closed while the call was under way.
    #[error("the client is closed")]
    ClientClosed,
}

fn wanted_version(version: &Option<i16>) -> String {
    version.map_or_else(String::new, |version| format!(" in version {version}"))
}

fn answer_text(error: &ResponseError, message: &Option<String>) -> String {
    message.clone().unwrap_or_else(|| error.to_string())
}

impl ClientError {
    /// An error code of an answer as a failure; `Ok` where it is 0.
    pub fn check(code: i16, message: Option<&str>) -> Result<(), ClientError> {
        match ResponseError::try_from_code(code) {
            None => Ok(()),
            Some(error) => Err(ClientError::Answer {
                error,
                message: message.map(str::to_owned),
            }),
        }
    }

    /// The broker's error code, if it answered with one.
    pub fn code(&self) -> Option<ResponseError> {
        match self {
            ClientError::Answer { error, .. } => Some(*error),
            _ => None,
        }
    }

    /// May the same request succeed later, perhaps elsewhere?
    pub fn is_retriable(&self) -> bool {
        match self {
            ClientError::Connect { .. }
            | ClientError::Closed { .. }
            | ClientError::TimedOut { .. } => true,
            ClientError::Answer { error, .. } => error.is_retriable(),
            _ => false,
        }
    }
}
