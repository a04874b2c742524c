//! Why saying a setting of Kafka 2.8 changes nothing here: one reason for each row without a reader.
//!
//! Pure. A row is in this table until something reads it; start-up then stops telling the reason. What
//! would change what a user relies on stands under `keys::REFUSED` instead.

/// Kafka's names and the reasons. A `*` stands for any ending; the first match counts.
pub static WITHOUT_EFFECT: &[(&str, &str)] = &[
    // Threads and queues.
    ("background.threads", THREADS),
    ("num.io.threads", THREADS),
    ("num.network.threads", THREADS),
    ("num.recovery.threads.per.data.dir", THREADS),
    (
        "queued.max.*",
        "requests are served as they come, each connection has a limit of its own",
    ),
    ("delete.records.purgatory.*", PURGATORY),
    ("fetch.purgatory.*", PURGATORY),
    ("producer.purgatory.*", PURGATORY),
    // Sockets.
    ("socket.connection.setup.*", LIMITS),
    ("socket.receive.buffer.bytes", BUFFERS),
    ("socket.send.buffer.bytes", BUFFERS),
    (
        "max.connection.creation.rate",
        "the rate of new connections is not limited yet",
    ),
    // Replication.
    ("num.replica.alter.log.dirs.threads", THREADS),
    ("replica.socket.receive.buffer.bytes", BUFFERS),
    (
        "request.timeout.ms",
        "requests between brokers have limits of their own",
    ),
    (
        "controller.socket.timeout.ms",
        "the controller reaches brokers through ZooKeeper",
    ),
    // Logs.
    ("log.cleaner.*", CLEANER),
    ("delete.retention.ms", CLEANER),
    ("max.compaction.lag.ms", CLEANER),
    ("min.compaction.lag.ms", CLEANER),
    ("min.cleanable.dirty.ratio", CLEANER),
    ("log.preallocate", PREALLOCATE),
    ("preallocate", PREALLOCATE),
    ("log.message.downconversion.enable", FORMAT),
    ("message.downconversion.enable", FORMAT),
    ("log.message.format.version", FORMAT),
    ("message.format.version", FORMAT),
    ("log.message.timestamp.after.max.ms", TIMESTAMPS),
    ("log.message.timestamp.before.max.ms", TIMESTAMPS),
    ("message.timestamp.after.max.ms", TIMESTAMPS),
    ("message.timestamp.before.max.ms", TIMESTAMPS),
    ("log.roll.jitter.*", JITTER),
    ("segment.jitter.ms", JITTER),
    ("log.flush.offset.checkpoint.interval.ms", CHECKPOINTS),
    ("log.flush.start.offset.checkpoint.interval.ms", CHECKPOINTS),
    (
        "log.dir.failure.timeout.ms",
        "the controller learns about a failed directory at once",
    ),
    ("metadata.log.dir", KRAFT),
    (
        "max.request.partition.size.limit",
        "the request that it limits is not spoken yet",
    ),
    // KRaft.
    ("broker.heartbeat.interval.ms", KRAFT),
    (
        "broker.session.timeout.ms",
        "the session is ZooKeeper's: zookeeper.session.timeout.ms",
    ),
    ("initial.broker.registration.timeout.ms", KRAFT),
    ("controller.quorum.bootstrap.servers", KRAFT),
    ("controller.quorum.append.*", QUORUM),
    ("controller.quorum.election.*", QUORUM),
    ("controller.quorum.fetch.*", QUORUM),
    ("controller.quorum.request.*", QUORUM),
    ("controller.quorum.retry.*", QUORUM),
    // Groups.
    (
        "group.consumer.*",
        "only the classic group protocol is spoken",
    ),
    (
        "group.coordinator.rebalance.protocols",
        "only the classic group protocol is spoken",
    ),
    (
        "offsets.commit.required.acks",
        "a commit is answered when every in-sync replica has it",
    ),
    (
        "offsets.load.buffer.size",
        "offsets are loaded as records are read",
    ),
    // Transactions and producers.
    ("transaction.*", TRANSACTIONS),
    ("transactional.id.*", TRANSACTIONS),
    (
        "producer.id.expiration.check.interval.ms",
        "producer ids are looked at when segments roll",
    ),
    // Quotas.
    ("quota.*", QUOTAS),
    ("controller.quota.*", QUOTAS),
    // Versions, metrics.
    (
        "inter.broker.protocol.version",
        "brokers agree on the newest version that both know",
    ),
    ("kafka.metrics.*", METRICS),
    ("metric.reporters", METRICS),
    ("metrics.*", METRICS),
    // Security.
    ("connection.failed.authentication.delay.ms", SASL),
    ("connections.max.reauth.ms", SASL),
    ("delegation.token.*", "delegation tokens are not supported"),
    ("password.encoder.*", "passwords are not kept in ZooKeeper"),
    ("principal.builder.class", "Java classes cannot be loaded"),
    ("sasl.*", SASL),
    ("security.providers", "Java classes cannot be loaded"),
    ("ssl.*", "TLS is not supported yet"),
    // ZooKeeper.
    (
        "zookeeper.clientCnxnSocket",
        "Java classes cannot be loaded",
    ),
    (
        "zookeeper.max.in.flight.requests",
        "the session has a limit of its own",
    ),
    ("zookeeper.ssl.*", "TLS towards ZooKeeper is not supported"),
    ("zookeeper.sync.time.ms", "Kafka 2.8 does not read it, too"),
];

/// Settings whose default already asks for what is not there: the reason is told even for that.
const PROMISES: &[(&str, &str)] = &[
    ("log.cleaner.enable", CLEANER),
    ("transaction.state.log.*", TRANSACTIONS),
];

/// Does the default of this setting promise what is not there?
pub fn promises(name: &str) -> bool {
    lookup(PROMISES, name).is_some()
}

/// What settings of KRaft come to where there is none; start-up says it where it disappoints.
pub static INSTEAD: &[(&str, &str)] = &[
    (
        "controller.listener.names",
        "listeners of these names are not opened",
    ),
    (
        "controller.quorum.voters",
        "the coordinators' hosts, unless server.N or zookeeper.connect says them",
    ),
    ("node.id", "the same as broker.id"),
    (
        "process.roles",
        "controller means coordinator; no effect where node.roles, zookeeper.connect or a start script says what runs",
    ),
];

const THREADS: &str = "threads are few and shared: node.worker.threads";
const PURGATORY: &str = "waiting requests are woken one by one, there is no list to purge";
const LIMITS: &str = "connections between nodes have limits of their own";
const BUFFERS: &str = "the system sizes its buffers itself";
const CLEANER: &str = "compacted topics keep every record until the cleaner is supported";
/// What `cleanup.policy=compact` comes to.
pub const NOT_COMPACTED: &str =
    "nothing is compacted yet: a compacted topic keeps every record with the same key";
const PREALLOCATE: &str = "files grow as they are written";
const FORMAT: &str = "records are kept in the newest format and never converted";
const TIMESTAMPS: &str = "log.message.timestamp.difference.max.ms limits both sides";
const JITTER: &str = "segments roll without jitter";
const CHECKPOINTS: &str = "checkpoints are written by a schedule of their own";
const KRAFT: &str = "there is no KRaft here: the cluster's state is in ZooKeeper";
const QUORUM: &str = "coordinators elect and replicate by tickTime, initLimit and syncLimit";
const TRANSACTIONS: &str = "transactions are not supported yet";
const QUOTAS: &str = "quotas are not supported yet";
const METRICS: &str = "figures are on the HTTP port under /metrics";
const SASL: &str = "SASL is not supported yet";

/// The reason for a name. Also for the tables of other files, which have the same form.
pub fn lookup(table: &'static [(&str, &'static str)], name: &str) -> Option<&'static str> {
    table
        .iter()
        .find(|(pattern, _)| match pattern.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => *pattern == name,
        })
        .map(|(_, why)| *why)
}
