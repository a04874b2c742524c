//! Printing that survives a closed pipe, Java's number formats, and Java's names for our errors.

use kafka_protocol::ResponseError;

use super::java_text;
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
    let now = java_text::date(world.clock.wall_ms(), "yyyy-MM-dd HH:mm:ss,SSS").unwrap_or_default();
    err!("[{now}] ERROR {text}\n ({logger})");
}

/// What Java's `Throwable.getMessage()` says for a failed call.
pub fn message(error: &ClientError) -> String {
    match error {
        ClientError::Answer {
            error,
            message: None,
        } => default_message(*error).to_owned(),
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
        ClientError::TimedOut { .. } | ClientError::NoBroker { .. } => {
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
    let name = match error {
        ResponseError::TopicAlreadyExists => "TopicExistsException".to_owned(),
        ResponseError::InvalidConfig => "InvalidConfigurationException".to_owned(),
        ResponseError::InvalidTopicException => "InvalidTopicException".to_owned(),
        ResponseError::MessageTooLarge => "RecordTooLargeException".to_owned(),
        ResponseError::RequestTimedOut => "TimeoutException".to_owned(),
        ResponseError::RecordListTooLarge => "RecordBatchTooLargeException".to_owned(),
        ResponseError::NonEmptyGroup => "GroupNotEmptyException".to_owned(),
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
        E::TopicDeletionDisabled => "Topic deletion is disabled.",
        E::PreferredLeaderNotAvailable => "The preferred leader was not available.",
        E::GroupMaxSizeReached => "The consumer group has reached its max size.",
        E::EligibleLeadersNotAvailable => "Eligible topic partition leaders are not available.",
        E::ElectionNotNeeded => "Leader election not needed for topic partition.",
        _ => "The request failed.",
    }
}
