//! Client properties (`bootstrap.servers`, `acks`, …) as files and options give them, turned into
//! settings. A value that Kafka would refuse is refused with Kafka's sentence; a property that Kafka
//! knows and we do not honour is refused by name where ignoring it would change the outcome.

use std::collections::BTreeMap;
use std::time::Duration;

use super::java_args::{Options, key_values};
use super::print::{CONFIG_EXCEPTION, Refused, Throwable};
use crate::client::World;
use crate::client::admin::Admin;
use crate::client::cluster::Cluster;
use crate::client::connection::Settings as ConnectionSettings;
use crate::client::consumer::{self, Reset};
use crate::client::group::assignor::Assignor;
use crate::client::{group, producer};
use crate::common::net::HostPort;
use crate::kafka::batch::Compression;

/// Properties by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties(BTreeMap<String, String>);

/// For whom properties are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// A producer.
    Producer,
    /// A consumer.
    Consumer,
    /// An administrator.
    Admin,
}

impl For {
    /// The original's class for its settings, which also is the logger's name.
    fn config_class(self) -> &'static str {
        match self {
            For::Producer => "org.apache.kafka.clients.producer.ProducerConfig",
            For::Consumer => "org.apache.kafka.clients.consumer.ConsumerConfig",
            For::Admin => "org.apache.kafka.clients.admin.AdminClientConfig",
        }
    }

    /// What the original says when it cannot be made.
    fn not_made(self) -> Throwable {
        let message = match self {
            For::Producer => "Failed to construct kafka producer",
            For::Consumer => "Failed to construct kafka consumer",
            For::Admin => "Failed to create new KafkaAdminClient",
        };
        Throwable::new("org.apache.kafka.common.KafkaException", message)
    }

    /// Properties that it obeys beyond [`COMMON`].
    fn own(self) -> &'static [&'static str] {
        match self {
            For::Producer => PRODUCER,
            For::Consumer => CONSUMER,
            For::Admin => &["default.api.timeout.ms"],
        }
    }

    /// Properties that it knows, and that change nothing here, beyond [`IDLE`].
    fn idle(self) -> &'static [&'static str] {
        match self {
            For::Producer => &[
                "compression.gzip.level",
                "compression.lz4.level",
                "compression.zstd.level",
                "enable.metrics.push",
                "internal.auto.downgrade.txn.commit",
                "metadata.max.idle.ms",
                "partitioner.adaptive.partitioning.enable",
                "partitioner.availability.timeout.ms",
                "partitioner.ignore.keys",
                "transaction.timeout.ms",
            ],
            For::Consumer => &[
                "enable.metrics.push",
                "max.poll.records",
                "retry.backoff.ms",
            ],
            For::Admin => &["enable.metrics.push", "retries", "retry.backoff.ms"],
        }
    }

    /// Does the property do something here?
    fn obeys(self, key: &str) -> bool {
        [COMMON, self.own(), self.overwritten()]
            .iter()
            .any(|names| names.contains(&key))
    }

    /// Properties that the originals' tools set themselves, whatever was given.
    fn overwritten(self) -> &'static [&'static str] {
        match self {
            For::Producer => &["key.serializer", "value.serializer"],
            For::Consumer => &["key.deserializer", "value.deserializer"],
            For::Admin => &[],
        }
    }
}

/// Obeyed by every client.
const COMMON: &[&str] = &[
    "bootstrap.servers",
    "client.id",
    "metadata.max.age.ms",
    "receive.buffer.bytes",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "request.timeout.ms",
    "security.protocol",
    "send.buffer.bytes",
    "socket.connection.setup.timeout.ms",
];

/// Obeyed by producers.
const PRODUCER: &[&str] = &[
    "acks",
    "batch.size",
    "buffer.memory",
    "compression.type",
    "delivery.timeout.ms",
    "enable.idempotence",
    "linger.ms",
    "max.block.ms",
    "max.in.flight.requests.per.connection",
    "max.request.size",
    "retries",
    "retry.backoff.ms",
];

/// Obeyed by consumers.
const CONSUMER: &[&str] = &[
    "allow.auto.create.topics",
    "auto.commit.interval.ms",
    "auto.offset.reset",
    "check.crcs",
    "default.api.timeout.ms",
    "enable.auto.commit",
    "exclude.internal.topics",
    "fetch.max.bytes",
    "fetch.max.wait.ms",
    "fetch.min.bytes",
    "group.id",
    "group.instance.id",
    "heartbeat.interval.ms",
    "isolation.level",
    "max.partition.fetch.bytes",
    "max.poll.interval.ms",
    "partition.assignment.strategy",
    "session.timeout.ms",
];

/// Known to every client of Kafka's; told to change nothing here.
const IDLE: &[&str] = &[
    "auto.include.jmx.reporter",
    "client.dns.lookup",
    "connections.max.idle.ms",
    "metadata.recovery.rebootstrap.trigger.ms",
    "metadata.recovery.strategy",
    "metrics.num.samples",
    "metrics.recording.level",
    "metrics.sample.window.ms",
    "retry.backoff.max.ms",
    "socket.connection.setup.timeout.max.ms",
];

/// Numbers of Java's type `long`; all others are `int`.
const LONGS: &[&str] = &[
    "buffer.memory",
    "connections.max.idle.ms",
    "linger.ms",
    "max.block.ms",
    "metadata.max.age.ms",
    "metadata.max.idle.ms",
    "metrics.sample.window.ms",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "retry.backoff.ms",
    "socket.connection.setup.timeout.max.ms",
    "socket.connection.setup.timeout.ms",
];

/// Would change what happens, and is not there yet.
const REFUSED: &[&str] = &[
    "sasl.",
    "ssl.",
    "interceptor.classes",
    "metric.reporters",
    "partitioner.class",
    "transactional.id",
    "client.rack",
    "group.protocol",
    "group.remote.assignor",
    "security.providers",
];

fn is_refused(key: &str) -> bool {
    REFUSED.iter().any(|refused| key.starts_with(refused))
}

impl Properties {
    /// Reads a properties file.
    pub fn load(path: &str) -> Result<Properties, Refused> {
        let text = std::fs::read_to_string(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Refused::NoFile(path.to_owned()),
            _ => Refused::Unsupported(format!("{path}: {error}")),
        })?;
        Ok(Properties::parse(&text))
    }

    fn parse(text: &str) -> Properties {
        let mut properties = Properties::default();
        let mut whole = String::new();
        for line in text.lines() {
            let line = line.trim_start();
            if whole.is_empty() && (line.starts_with('#') || line.starts_with('!')) {
                continue;
            }
            if let Some(start) = line.strip_suffix('\\') {
                whole.push_str(start);
                continue;
            }
            whole.push_str(line);
            let entry = std::mem::take(&mut whole);
            if entry.trim().is_empty() {
                continue;
            }
            let end = entry
                .find(|c: char| c == '=' || c == ':' || c.is_whitespace())
                .unwrap_or(entry.len());
            let (key, value) = entry.split_at(end);
            let value = value.trim_start();
            let value = value.strip_prefix(['=', ':']).unwrap_or(value);
            properties.set(key, value.trim());
        }
        properties
    }

    /// Sets a property, whatever it was.
    pub fn set(&mut self, key: &str, value: &str) {
        self.0.insert(key.to_owned(), value.to_owned());
    }

    /// Sets a property unless it has a value.
    pub fn set_default(&mut self, key: &str, value: &str) {
        self.0
            .entry(key.to_owned())
            .or_insert_with(|| value.to_owned());
    }

    /// All of them.
    pub fn into_map(self) -> BTreeMap<String, String> {
        self.0
    }

    /// A property's value.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// A property as a number within bounds, or its default.
    pub fn number(&self, key: &str, default: i64, least: i64) -> Result<i64, String> {
        let Some(text) = self.get(key) else {
            return Ok(default);
        };
        let number: i64 = text.trim().parse().map_err(|_| {
            let kind = if LONGS.contains(&key) { "LONG" } else { "INT" };
            format!("Invalid value {text} for configuration {key}: Not a number of type {kind}")
        })?;
        if number < least {
            return Err(format!(
                "Invalid value {number} for configuration {key}: Value must be at least {least}"
            ));
        }
        Ok(number)
    }

    /// A property as a duration in milliseconds, or its default.
    pub fn millis(&self, key: &str, default: i64) -> Result<Duration, String> {
        let number = self.number(key, default, 0)?;
        Ok(Duration::from_millis(number.unsigned_abs()))
    }

    /// A property as true or false, or its default.
    pub fn boolean(&self, key: &str, default: bool) -> Result<bool, String> {
        match self.get(key).map(str::trim) {
            None => Ok(default),
            Some(text) if text.eq_ignore_ascii_case("true") => Ok(true),
            Some(text) if text.eq_ignore_ascii_case("false") => Ok(false),
            Some(text) => Err(format!(
                "Invalid value {text} for configuration {key}: Expected value to be either true or false"
            )),
        }
    }

    /// A property as a list separated by commas.
    pub fn list(&self, key: &str) -> Vec<String> {
        self.get(key)
            .unwrap_or_default()
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(str::to_owned)
            .collect()
    }

    /// Refuses what would be ignored to the user's harm.
    pub fn check(&self, client: For) -> Result<(), Refused> {
        for (key, value) in &self.0 {
            if key == "security.protocol" && !value.eq_ignore_ascii_case("PLAINTEXT") {
                return Err(Refused::Unsupported(format!(
                    "security.protocol={value} is not supported by this tool yet: only PLAINTEXT is"
                )));
            }
            if !client.obeys(key) && is_refused(key) {
                return Err(Refused::Unsupported(format!(
                    "the property {key} is not supported by this tool yet"
                )));
            }
        }
        Ok(())
    }

    /// Warns of what changes nothing and of what nobody knows, as clients do when they are made.
    fn tell_unused(&self, client: For) {
        for key in self.0.keys().map(String::as_str) {
            if client.obeys(key) || is_refused(key) {
                continue;
            }
            let what = if IDLE.contains(&key) || client.idle().contains(&key) {
                "has no effect in this tool."
            } else {
                "isn't a known config."
            };
            warn(
                &format!("The configuration '{key}' was supplied but {what}"),
                client.config_class(),
            );
        }
    }

    /// The cluster that `bootstrap.servers` names, and how to talk to it.
    pub fn cluster(
        &self,
        world: World,
        client: For,
        default_client_id: &str,
    ) -> Result<Cluster, Refused> {
        let bootstrap = self.bootstrap().map_err(|message| {
            let cause = Throwable::new(CONFIG_EXCEPTION, &message);
            Refused::Construct(client.not_made().caused_by(cause))
        })?;
        let client_id = self.get("client.id").unwrap_or(default_client_id);
        let mut settings = ConnectionSettings::new(client_id);
        let group = self.get("group.id");
        settings.context = match (client, group) {
            (For::Producer, _) => format!("[Producer clientId={client_id}] "),
            (For::Consumer, Some(group)) => {
                format!("[Consumer clientId={client_id}, groupId={group}] ")
            }
            (For::Consumer, None) => format!("[Consumer clientId={client_id}, groupId=null] "),
            (For::Admin, _) => format!("[AdminClient clientId={client_id}] "),
        };
        settings.is_admin = client == For::Admin;
        settings.request_timeout = self.millis("request.timeout.ms", 30_000)?;
        settings.connect_timeout = self.millis("socket.connection.setup.timeout.ms", 10_000)?;
        settings.reconnect_backoff = self.millis("reconnect.backoff.ms", 50)?;
        settings.reconnect_backoff_max = self.millis("reconnect.backoff.max.ms", 1_000)?;
        settings.metadata_age_max = self.millis("metadata.max.age.ms", 300_000)?;
        let buffer = |key: &str| {
            let bytes = self.number(key, -1, -1)?;
            Ok::<_, String>(u32::try_from(bytes).ok())
        };
        settings.buffers.send = buffer("send.buffer.bytes")?;
        settings.buffers.receive = buffer("receive.buffer.bytes")?;
        self.tell_unused(client);
        Ok(Cluster::new(world, bootstrap, settings))
    }

    /// The servers of `bootstrap.servers` whose names can be resolved.
    fn bootstrap(&self) -> Result<Vec<HostPort>, String> {
        let mut found = Vec::new();
        for url in self.list("bootstrap.servers") {
            let server = HostPort::parse(&url, None)
                .map_err(|_| format!("Invalid url in bootstrap.servers: {url}"))?;
            let host = server.host.as_str();
            match std::net::ToSocketAddrs::to_socket_addrs(&(host, server.port)) {
                Ok(_) => found.push(server),
                Err(_) => warn(
                    &format!(
                        "Couldn't resolve server {url} from bootstrap.servers as DNS resolution failed for {host}"
                    ),
                    "org.apache.kafka.clients.ClientUtils",
                ),
            }
        }
        if found.is_empty() {
            return Err("No resolvable bootstrap urls given in bootstrap.servers".to_owned());
        }
        Ok(found)
    }

    /// An administrator of that cluster, as `--bootstrap-server` and a properties file ask for it.
    pub fn admin(
        world: &World,
        servers: &str,
        file: Option<&str>,
        timeouts: &[(&str, &str)],
    ) -> Result<Admin, Refused> {
        let mut properties = match file {
            Some(path) => Properties::load(path)?,
            None => Properties::default(),
        };
        properties.set("bootstrap.servers", servers);
        for (key, value) in timeouts {
            properties.set(key, value);
        }
        properties.check(For::Admin)?;
        let cluster = properties.cluster(world.clone(), For::Admin, "adminclient-1")?;
        Ok(Admin::new(cluster).with_timeout(properties.api_timeout()?))
    }

    /// Of a file and of `key=value` options, the first file option given and every pair.
    pub fn from_options(
        options: &Options,
        files: &[&str],
        pairs: &[&str],
    ) -> Result<Properties, Refused> {
        let file = files
            .iter()
            .find_map(|name| options.values(name).first().map(String::as_str));
        let mut properties = match file {
            Some(path) => Properties::load(path)?,
            None => Properties::default(),
        };
        for name in pairs {
            for (key, value) in key_values(options.values(name)) {
                properties.set(&key, &value);
            }
        }
        Ok(properties)
    }

    /// How long one administrative call may take.
    pub fn api_timeout(&self) -> Result<Duration, String> {
        self.millis("default.api.timeout.ms", 60_000)
    }

    /// A producer's settings.
    pub fn producer(&self) -> Result<producer::Settings, Refused> {
        self.check(For::Producer)?;
        let default = producer::Settings::default();
        let idempotent = self.boolean("enable.idempotence", false)?;
        let acks = match self.get("acks").map(str::trim) {
            None if idempotent => -1,
            None => default.acks,
            Some("all" | "-1") => -1,
            Some("0") => 0,
            Some("1") => 1,
            Some(text) => {
                return Err(Refused::Config(format!(
                    "Invalid value {text} for configuration acks: String must be one of: all, -1, 0, 1"
                )));
            }
        };
        if idempotent && acks != -1 {
            return Err(Refused::Config(
                "Must set acks to all in order to use the idempotent producer. Otherwise we cannot guarantee idempotence."
                    .to_owned(),
            ));
        }
        let name = self.get("compression.type").unwrap_or("none").trim();
        let compression = Compression::from_name(name).ok_or_else(|| {
            let message = format!("Unknown compression name: {name}");
            let cause = Throwable::new("java.lang.IllegalArgumentException", &message);
            Refused::Construct(For::Producer.not_made().caused_by(cause))
        })?;
        let in_flight_max = self.size(
            "max.in.flight.requests.per.connection",
            default.in_flight_max,
            1,
        )?;
        if idempotent && in_flight_max > 5 {
            return Err(Refused::Config("Must set max.in.flight.requests.per.connection to at most 5 to use the idempotent producer.".to_owned()));
        }
        let retries = self.number("retries", i64::from(i32::MAX), 0)?;
        let (linger, request_timeout) = (
            self.millis("linger.ms", 0)?,
            self.millis("request.timeout.ms", 30_000)?,
        );
        let mut delivery_timeout = self.millis("delivery.timeout.ms", 120_000)?;
        if delivery_timeout < linger + request_timeout {
            if self.get("delivery.timeout.ms").is_some() {
                let message = "delivery.timeout.ms should be equal to or larger than linger.ms + request.timeout.ms";
                let cause = Throwable::new(CONFIG_EXCEPTION, message);
                return Err(Refused::Construct(
                    For::Producer.not_made().caused_by(cause),
                ));
            }
            delivery_timeout = linger + request_timeout;
        }
        Ok(producer::Settings {
            acks,
            linger,
            batch_bytes: self.size("batch.size", default.batch_bytes, 0)?,
            request_bytes_max: self.size("max.request.size", default.request_bytes_max, 0)?,
            buffer_bytes: self.size("buffer.memory", default.buffer_bytes, 0)?,
            in_flight_max,
            compression,
            idempotent,
            request_timeout,
            delivery_timeout,
            max_block: self.millis("max.block.ms", 60_000)?,
            retries: u32::try_from(retries).unwrap_or(u32::MAX),
            retry_backoff: self.millis("retry.backoff.ms", 100)?,
        })
    }

    /// A consumer's settings.
    pub fn consumer(&self) -> Result<consumer::Settings, Refused> {
        self.check(For::Consumer)?;
        self.number("max.poll.records", 500, 1)?;
        let default = consumer::Settings::default();
        let one_of = |key: &str, text: &str, choices: &str| {
            format!(
                "Invalid value {text} for configuration {key}: String must be one of: {choices}"
            )
        };
        let reset = match self.get("auto.offset.reset") {
            None | Some("latest") => Reset::Latest,
            Some("earliest") => Reset::Earliest,
            Some("none") => Reset::None,
            Some(text) => {
                let choices = "latest, earliest, none";
                return Err(one_of("auto.offset.reset", text, choices).into());
            }
        };
        let read_committed = match self
            .get("isolation.level")
            .map(str::to_lowercase)
            .as_deref()
        {
            None | Some("read_uncommitted") => false,
            Some("read_committed") => true,
            Some(text) => {
                let choices = "read_committed, read_uncommitted";
                return Err(one_of("isolation.level", text, choices).into());
            }
        };
        let bytes = |key: &str, default: i32| {
            let number = self.number(key, i64::from(default), 0)?;
            Ok::<i32, String>(i32::try_from(number).unwrap_or(i32::MAX))
        };
        Ok(consumer::Settings {
            reset,
            read_committed,
            auto_commit: self.boolean("enable.auto.commit", self.get("group.id").is_some())?,
            auto_commit_interval: self.millis("auto.commit.interval.ms", 5_000)?,
            bytes_min: bytes("fetch.min.bytes", default.bytes_min)?,
            bytes_max: bytes("fetch.max.bytes", default.bytes_max)?,
            partition_bytes_max: bytes("max.partition.fetch.bytes", default.partition_bytes_max)?,
            max_wait: self.millis("fetch.max.wait.ms", 500)?,
            request_timeout: self.millis("request.timeout.ms", 30_000)?,
            auto_create: self.boolean("allow.auto.create.topics", true)?,
            api_timeout: self.api_timeout()?,
            exclude_internal: self.boolean("exclude.internal.topics", true)?,
            check_crcs: self.boolean("check.crcs", true)?,
        })
    }

    /// The membership in `group.id`, if there is one.
    pub fn group(&self) -> Result<Option<group::Settings>, String> {
        let Some(group_id) = self.get("group.id") else {
            return Ok(None);
        };
        let mut settings = group::Settings::new(group_id);
        settings.instance_id = self.get("group.instance.id").map(str::to_owned);
        settings.session_timeout = self.millis("session.timeout.ms", 10_000)?;
        settings.rebalance_timeout = self.millis("max.poll.interval.ms", 300_000)?;
        settings.heartbeat_interval = self.millis("heartbeat.interval.ms", 3_000)?;
        let names = self.list("partition.assignment.strategy");
        if !names.is_empty() {
            settings.assignors = names
                .iter()
                .map(|name| {
                    Assignor::from_name(name).ok_or_else(|| {
                        format!("the assignor {name} in partition.assignment.strategy is not known")
                    })
                })
                .collect::<Result<_, _>>()?;
        }
        Ok(Some(settings))
    }

    /// A property as a size, or its default.
    pub fn size(&self, key: &str, default: usize, least: i64) -> Result<usize, String> {
        let default = i64::try_from(default).unwrap_or(i64::MAX);
        Ok(usize::try_from(self.number(key, default, least)?).unwrap_or(usize::MAX))
    }
}

/// A warning by one of the original's loggers.
fn warn(text: &str, logger: &str) {
    tracing::warn!(logger, "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_as_java_reads_them() {
        let text = "# a comment\n! another\nacks = all\nlinger.ms:5\n\nclient.id  me too\nx=a\\\n   b\nempty=\n";
        let properties = Properties::parse(text);
        assert_eq!(properties.get("acks"), Some("all"));
        assert_eq!(properties.get("linger.ms"), Some("5"));
        assert_eq!(properties.get("client.id"), Some("me too"));
        assert_eq!(properties.get("x"), Some("ab"));
        assert_eq!(properties.get("empty"), Some(""));
    }

    #[test]
    fn wrong_values_are_refused_in_kafkas_words() {
        let with = |key: &str, value: &str| {
            let mut properties = Properties::default();
            properties.set(key, value);
            properties.producer().map(|settings| settings.acks)
        };
        assert_eq!(with("acks", "all"), Ok(-1));
        assert_eq!(
            with("acks", "2"),
            Err(Refused::Config(
                "Invalid value 2 for configuration acks: String must be one of: all, -1, 0, 1"
                    .to_owned()
            ))
        );
        assert!(with("compression.type", "rar").is_err());
        assert!(with("ssl.truststore.location", "x").is_err());
        assert!(with("security.protocol", "SASL_SSL").is_err());
        assert_eq!(with("enable.idempotence", "true"), Ok(-1));
    }
}
