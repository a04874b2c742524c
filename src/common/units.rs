//! Bytes and durations in Kafka's and in human spelling.
