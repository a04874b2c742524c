//! Printing that survives a closed pipe, Java's number formats, and Java's names for our errors.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;

use super::tool_log;
use crate::client::metrics::{Metric, Value};
use crate::client::{ClientError, World};

/// A line on standard output. A reader that went away (`| head`) is no error.
macro_rules! out {
    ($($argument:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($argument)*);
    }};
}

/// A line on standard error.
macro_rules! err {
    ($($argument:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($argument)*);
    }};
}

pub(crate) use {err, out};

/// An ERROR line as the tools' log4j writes it to standard error.
pub fn log_error(world: &World, text: &str, logger: &str) {
    err!(
        "{}",
        tool_log::line(world.clock.wall_ms(), "ERROR", text, logger)
    );
}

/// A Java exception without its stack: what the originals print of it, less the frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Throwable {
    /// `toString()`: the class and the message.
    pub text: String,
    /// What brought it about.
    pub cause: Option<Box<Throwable>>,
}

impl Throwable {
    /// An exception by class and message.
    pub fn new(class: &str, message: &str) -> Throwable {
        Throwable {
            text: format!("{class}: {message}"),
            cause: None,
        }
    }

    /// An exception that another one brought about.
    pub fn caused_by(mut self, cause: Throwable) -> Throwable {
        self.cause = Some(Box::new(cause));
        self
    }

    /// `java.util.concurrent.ExecutionException` around an exception.
    pub fn of_future(cause: Throwable) -> Throwable {
        Throwable::new("java.util.concurrent.ExecutionException", &cause.text).caused_by(cause)
    }
}

impl std::fmt::Display for Throwable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)?;
        match &self.cause {
            Some(cause) => write!(f, "\nCaused by: {cause}"),
            None => Ok(()),
        }
    }
}

/// A failed call as the Java client throws it.
pub fn throwable(error: &ClientError) -> Throwable {
    let text = exception(error);
    let cause = match error {
        ClientError::NoBroker { call, .. } => Some(Throwable::new(
            "org.apache.kafka.common.errors.TimeoutException",
            &format!("Timed out waiting for a node assignment. Call: {call}"),
        )),
        _ => None,
    };
    Throwable {
        text,
        cause: cause.map(Box::new),
    }
}

/// What Java's `Throwable.getMessage()` says for a failed call.
pub fn message(error: &ClientError) -> String {
    match error {
        ClientError::Answer {
            error,
            message: None,
        } => default_message(*error).to_owned(),
        ClientError::NoBroker { call, at_ms, .. } => format!(
            "Call(callName={call}, deadlineMs={at_ms}, tries=1, nextAllowedTryMs={}) timed out at {at_ms} after 1 attempt(s)",
            at_ms + 100
        ),
        other => other.to_string(),
    }
}

/// What Java's `Throwable.toString()` says: the exception's class and its message.
pub fn exception(error: &ClientError) -> String {
    let class = match error {
        ClientError::Answer { error, .. } => exception_class(*error),
        ClientError::Connect { .. } | ClientError::Closed { .. } => {
            "org.apache.kafka.common.errors.DisconnectException".to_owned()
        }
        ClientError::NoOffset { .. } => {
            "org.apache.kafka.clients.consumer.NoOffsetForPartitionException".to_owned()
        }
        ClientError::NoMemory { .. } => {
            "org.apache.kafka.clients.producer.BufferExhaustedException".to_owned()
        }
        ClientError::RecordTooLarge { .. } => {
            "org.apache.kafka.common.errors.RecordTooLargeException".to_owned()
        }
        ClientError::TimedOut { .. }
        | ClientError::NoBroker { .. }
        | ClientError::NoTopic { .. }
        | ClientError::Expired { .. } => {
            "org.apache.kafka.common.errors.TimeoutException".to_owned()
        }
        ClientError::Unsupported { .. } => {
            "org.apache.kafka.common.errors.UnsupportedVersionException".to_owned()
        }
        _ => "org.apache.kafka.common.KafkaException".to_owned(),
    };
    format!("{class}: {}", message(error))
}

/// The class of Kafka's Java exception for an error code.
pub fn exception_class(error: ResponseError) -> String {
    if error == ResponseError::InvalidRecord {
        // The only one that stands elsewhere.
        return "org.apache.kafka.common.InvalidRecordException".to_owned();
    }
    let name = match error {
        ResponseError::TopicAlreadyExists => "TopicExistsException".to_owned(),
        ResponseError::InvalidConfig => "InvalidConfigurationException".to_owned(),
        ResponseError::InvalidTopicException => "InvalidTopicException".to_owned(),
        ResponseError::MessageTooLarge => "RecordTooLargeException".to_owned(),
        ResponseError::RequestTimedOut => "TimeoutException".to_owned(),
        ResponseError::RecordListTooLarge => "RecordBatchTooLargeException".to_owned(),
        ResponseError::NonEmptyGroup => "GroupNotEmptyException".to_owned(),
        ResponseError::TopicAuthorizationFailed => "TopicAuthorizationException".to_owned(),
        ResponseError::GroupAuthorizationFailed => "GroupAuthorizationException".to_owned(),
        ResponseError::ClusterAuthorizationFailed => "ClusterAuthorizationException".to_owned(),
        ResponseError::NetworkException => "NetworkException".to_owned(),
        ResponseError::CorruptMessage => "CorruptRecordException".to_owned(),
        ResponseError::OutOfOrderSequenceNumber => "OutOfOrderSequenceException".to_owned(),
        ResponseError::Unknown(_) => "UnknownServerException".to_owned(),
        ResponseError::UnknownServerError => "UnknownServerException".to_owned(),
        other => {
            let name = other.to_string();
            let stem = name.strip_suffix("Error").unwrap_or(&name);
            format!("{stem}Exception")
        }
    };
    format!("org.apache.kafka.common.errors.{name}")
}

/// `ToolsUtils.printMetrics`: the table of a client's own counts, sorted by name.
pub fn metrics_table(metrics: &[Metric]) -> String {
    let mut rows: BTreeMap<String, String> = BTreeMap::new();
    for metric in metrics {
        let tags = metric
            .tags
            .iter()
            .map(|(tag, value)| format!("{tag}={value}"));
        let tags = tags.collect::<Vec<_>>().join(", ");
        let value = match &metric.value {
            Value::Number(number) if number.is_nan() => "NaN".to_owned(),
            Value::Number(number) => format!("{number:.3}"),
            Value::Text(text) => text.clone(),
        };
        rows.insert(
            format!("{}:{}:{{{tags}}}", metric.group, metric.name),
            value,
        );
    }
    let width = rows.keys().map(String::len).max().unwrap_or(0);
    let mut text = format!("\n{:<width$}   Value", "Metric Name");
    for (name, value) in rows {
        text.push_str(&format!("\n{name:<width$} : {value}"));
    }
    text
}

/// What a tool cannot begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A setting's value is wrong: `ConfigException`.
    Config(String),
    /// The client cannot be made of its settings: what its constructor throws, and why.
    Construct(Throwable),
    /// A file of settings is not there.
    NoFile(String),
    /// Kafka knows it; this tool does not. Our own words.
    Unsupported(String),
}

/// Sentences about values are `ConfigException`s unless something else is said.
impl From<String> for Refused {
    fn from(message: String) -> Refused {
        Refused::Config(message)
    }
}

impl Refused {
    /// As an exception; `Err` is a sentence of our own.
    pub fn throwable(&self) -> Result<Throwable, &str> {
        match self {
            Refused::Config(message) => Ok(Throwable::new(CONFIG_EXCEPTION, message)),
            Refused::Construct(throwable) => Ok(throwable.clone()),
            Refused::NoFile(path) => Ok(Throwable::new("java.nio.file.NoSuchFileException", path)),
            Refused::Unsupported(message) => Err(message),
        }
    }

    /// Prints it as an exception that nobody caught. Gives the exit code.
    pub fn die(&self) -> u8 {
        match self.throwable() {
            Ok(throwable) => err!("Exception in thread \"main\" {throwable}"),
            Err(message) => err!("{message}"),
        }
        1
    }
}

/// The class of exceptions about settings.
pub const CONFIG_EXCEPTION: &str = "org.apache.kafka.common.config.ConfigException";

/// Kafka's own sentence for an error code (`Errors.java`), where tools commonly show it.
pub fn default_message(error: ResponseError) -> &'static str {
    use ResponseError as E;
    match error {
        E::UnknownServerError => {
            "The server experienced an unexpected error when processing the request."
        }
        E::OffsetOutOfRange => {
            "The requested offset is not within the range of offsets maintained by the server."
        }
        E::CorruptMessage => {
            "This message has failed its CRC checksum, exceeds the valid size, has a null key for a compacted topic, or is otherwise corrupt."
        }
        E::UnknownTopicOrPartition => "This server does not host this topic-partition.",
        E::LeaderNotAvailable => {
            "There is no leader for this topic-partition as we are in the middle of a leadership election."
        }
        E::NotLeaderOrFollower => {
            "For requests intended only for the leader, this error indicates that the broker is not the current leader. For requests intended for any replica, this error indicates that the broker is not a replica of the topic partition."
        }
        E::RequestTimedOut => "The request timed out.",
        E::BrokerNotAvailable => "The broker is not available.",
        E::MessageTooLarge => {
            "The request included a message larger than the max message size the server will accept."
        }
        E::NetworkException => "The server disconnected before a response was received.",
        E::CoordinatorLoadInProgress => {
            "The coordinator is loading and hence can't process requests."
        }
        E::CoordinatorNotAvailable => "The coordinator is not available.",
        E::NotCoordinator => "This is not the correct coordinator.",
        E::InvalidTopicException => {
            "The request attempted to perform an operation on an invalid topic."
        }
        E::NotEnoughReplicas => {
            "Messages are rejected since there are fewer in-sync replicas than required."
        }
        E::NotEnoughReplicasAfterAppend => {
            "Messages are written to the log, but to fewer in-sync replicas than required."
        }
        E::InvalidGroupId => "The configured groupId is invalid.",
        E::TopicAuthorizationFailed => "Topic authorization failed.",
        E::GroupAuthorizationFailed => "Group authorization failed.",
        E::ClusterAuthorizationFailed => "Cluster authorization failed.",
        E::UnsupportedVersion => "The version of API is not supported.",
        E::TopicAlreadyExists => "Topic with this name already exists.",
        E::InvalidPartitions => "Number of partitions is below 1.",
        E::InvalidReplicationFactor => {
            "Replication factor is below 1 or larger than the number of available brokers."
        }
        E::InvalidReplicaAssignment => "Replica assignment is invalid.",
        E::InvalidConfig => "Configuration is invalid.",
        E::NotController => "This is not the correct controller for this cluster.",
        E::InvalidRequest => {
            "This most likely occurs because of a request being malformed by the client library or the message was sent to an incompatible broker. See the broker logs for more details."
        }
        E::NonEmptyGroup => "The group is not empty.",
        E::GroupIdNotFound => "The group id does not exist.",
        E::GroupSubscribedToTopic => {
            "Deleting offsets of a topic is forbidden while the consumer group is actively subscribed to it."
        }
        E::TopicDeletionDisabled => "Topic deletion is disabled.",
        E::PreferredLeaderNotAvailable => "The preferred leader was not available.",
        E::GroupMaxSizeReached => "The consumer group has reached its max size.",
        E::EligibleLeadersNotAvailable => "Eligible topic partition leaders are not available.",
        E::ElectionNotNeeded => "Leader election not needed for topic partition.",
        _ => "The request failed.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::metrics::{Of, Rows};

    /// Two rows of a genuine 2.8.0 `kafka-producer-perf-test --print-metrics`.
    #[test]
    fn metrics_stand_in_a_table() {
        let mut rows = Rows::new("producer-1", 1_000);
        let client = Of::Client;
        rows.value("producer-metrics", "record-send-total", client, 1_000.0);
        let topic = Of::Topic("ex-g28");
        rows.value("producer-topic-metrics", "byte-total", topic, 110_153.0);
        let table = metrics_table(&rows.finish());
        let expected = [
            "",
            "Metric Name                                                           Value",
            "kafka-metrics-count:count:{client-id=producer-1}                    : 3.000",
            "producer-metrics:record-send-total:{client-id=producer-1}           : 1000.000",
            "producer-topic-metrics:byte-total:{client-id=producer-1, topic=ex-g28} : 110153.000",
        ];
        let words = |line: &str| {
            line.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let lines: Vec<_> = table.lines().map(words).collect();
        assert_eq!(lines, expected.map(words));
        // The colons stand below one another.
        let colons: Vec<_> = table.lines().skip(2).map(|line| line.find(" : ")).collect();
        assert!(colons.windows(2).all(|pair| pair[0] == pair[1]), "{table}");
    }

    /// What genuine 2.8.0 tools print of failures, less the stack frames.
    #[test]
    fn failures_are_printed_as_java_prints_them() {
        let timed_out = ClientError::NoBroker {
            call: "listTopics",
            at_ms: 1_795_372_776_530,
            source: None,
        };
        let no_topic = ClientError::NoTopic {
            topic: "t".to_owned(),
            limit_ms: 3_000,
        };
        let too_large = ClientError::RecordTooLarge {
            size: 88,
            limit: 20,
        };
        let cases = [
            (
                throwable(&timed_out).to_string(),
                "org.apache.kafka.common.errors.TimeoutException: Call(callName=listTopics, deadlineMs=1795372776530, tries=1, nextAllowedTryMs=1795372776630) timed out at 1795372776530 after 1 attempt(s)\nCaused by: org.apache.kafka.common.errors.TimeoutException: Timed out waiting for a node assignment. Call: listTopics",
            ),
            (
                throwable(&no_topic).to_string(),
                "org.apache.kafka.common.errors.TimeoutException: Topic t not present in metadata after 3000 ms.",
            ),
            (
                Throwable::of_future(throwable(&too_large)).to_string(),
                "java.util.concurrent.ExecutionException: org.apache.kafka.common.errors.RecordTooLargeException: The message is 88 bytes when serialized which is larger than 20, which is the value of the max.request.size configuration.\nCaused by: org.apache.kafka.common.errors.RecordTooLargeException: The message is 88 bytes when serialized which is larger than 20, which is the value of the max.request.size configuration.",
            ),
        ];
        for (printed, expected) in cases {
            assert_eq!(printed, expected);
        }
    }
}
