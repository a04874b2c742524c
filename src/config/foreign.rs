//! Variables that mean something to popular images of Kafka and ZooKeeper, and nothing here: one line each
//! about what to do instead.
//!
//! Pure. A variable that only concerns the JVM or the image's own scripts is passed over in silence.

use crate::config::effects::lookup;

/// What is said about a variable, where something has to be. A `*` stands for any ending.
pub fn advice(name: &str) -> Option<&'static str> {
    lookup(ADVICE, name)
}

/// Concerns only a JVM or an image's scripts: its absence changes nothing for anybody.
pub fn is_silent(name: &str) -> bool {
    lookup(SILENT, name).is_some()
}

const SILENT: &[(&str, &str)] = &[
    ("KAFKA_VERSION", JVM),
    ("KAFKA_LOG4J_*", JVM),
    ("KAFKA_OPTS", JVM),
    ("KAFKA_JMX_OPTS", JVM),
    ("KAFKA_JMX_HOSTNAME", JVM),
    ("KAFKA_JVM_PERFORMANCE_OPTS", JVM),
    ("KAFKA_GC_LOG_OPTS", JVM),
    ("KAFKA_TOOLS_LOG4J_LOGLEVEL", JVM),
    ("KAFKA_DEBUG", JVM),
    ("KAFKA_HOME", IMAGE),
    ("KAFKA_BASE_DIR", IMAGE),
    ("KAFKA_BIN_DIR", IMAGE),
    ("KAFKA_CONF_DIR", IMAGE),
    ("KAFKA_DAEMON_*", IMAGE),
    ("KAFKA_BOOTSTRAP_SERVERS", IMAGE),
    ("KAFKA_SKIP_KRAFT_STORAGE_INIT", IMAGE),
    ("KAFKA_ENABLE_KRAFT", IMAGE),
];

const JVM: &str = "there is no JVM";
const IMAGE: &str = "the image's own business";

const ADVICE: &[(&str, &str)] = &[
    (
        "KAFKA_HEAP_OPTS",
        "no effect: there is no JVM, and memory needs no setting",
    ),
    (
        "KAFKA_LOG4J_LOGGERS",
        "no effect: say a filter, as TRIPOD_LOG_LEVEL=info,tripod::broker=debug",
    ),
    // wurstmeister/kafka
    (
        "KAFKA_CREATE_TOPICS*",
        "topics are not created at start: run kafka-topics --create when the node is ready, or leave it to auto.create.topics.enable",
    ),
    ("HOSTNAME_COMMAND", COMMAND),
    ("PORT_COMMAND", COMMAND),
    ("BROKER_ID_COMMAND", COMMAND),
    ("RACK_COMMAND", COMMAND),
    ("CUSTOM_INIT_SCRIPT", "scripts are not run at start"),
    // bitnami/kafka
    ("KAFKA_CLIENT_USER*", SASL),
    ("KAFKA_CLIENT_PASSWORD*", SASL),
    ("KAFKA_CLIENT_LISTENER_NAME", LISTENERS),
    ("KAFKA_INTER_BROKER_USER", SASL),
    ("KAFKA_INTER_BROKER_PASSWORD", SASL),
    ("KAFKA_CONTROLLER_USER", SASL),
    ("KAFKA_CONTROLLER_PASSWORD", SASL),
    ("KAFKA_ZOOKEEPER_USER", SASL),
    ("KAFKA_ZOOKEEPER_PASSWORD", SASL),
    ("KAFKA_ZOOKEEPER_PROTOCOL", SECURE_ZOOKEEPER),
    ("KAFKA_ZOOKEEPER_TLS_*", SECURE_ZOOKEEPER),
    ("KAFKA_TLS_*", TLS),
    ("KAFKA_CERTIFICATE_PASSWORD", TLS),
    (
        "KAFKA_EXTRA_FLAGS",
        "flags are said on the command line: tripod serve --override NAME=VALUE",
    ),
    ("KAFKA_MOUNTED_CONF_DIR", FILE),
    ("KAFKA_CONF_FILE", FILE),
    ("KAFKA_INITSCRIPTS_DIR", "scripts are not run at start"),
    (
        "KAFKA_VOLUME_DIR",
        "say TRIPOD_NODE_DATA_DIR, or KAFKA_LOG_DIRS",
    ),
    (
        "KAFKA_DATA_DIR",
        "say TRIPOD_NODE_DATA_DIR, or KAFKA_LOG_DIRS",
    ),
    ("KAFKA_PORT_NUMBER", LISTENERS),
    // confluentinc/cp-kafka
    (
        "KAFKA_CONFLUENT_*",
        "settings of Confluent's own server have no meaning here",
    ),
    ("KAFKA_SSL_KEYSTORE_FILENAME", TLS),
    ("KAFKA_SSL_KEYSTORE_CREDENTIALS", TLS),
    ("KAFKA_SSL_KEY_CREDENTIALS", TLS),
    ("KAFKA_SSL_TRUSTSTORE_FILENAME", TLS),
    ("KAFKA_SSL_TRUSTSTORE_CREDENTIALS", TLS),
    // spotify/kafka
    ("ADVERTISED_HOST", LISTENERS),
    ("ADVERTISED_PORT", LISTENERS),
    // bitnami/zookeeper
    ("ZOO_ENABLE_AUTH", SASL),
    ("ZOO_ENABLE_QUORUM_AUTH", SASL),
    ("ZOO_CLIENT_USER", SASL),
    ("ZOO_CLIENT_PASSWORD", SASL),
    ("ZOO_SERVER_USERS", SASL),
    ("ZOO_SERVER_PASSWORDS", SASL),
    ("ZOO_TLS_*", TLS),
    // confluentinc/cp-zookeeper
    (
        "ZOOKEEPER_SERVER_ID",
        "not read here: say TRIPOD_COORDINATOR_MYID",
    ),
    ("ZOOKEEPER_SERVERS", SERVERS),
    (
        "ZOOKEEPER_CLIENT_PORT",
        "not read here: say TRIPOD_COORDINATOR_CLIENT_PORT",
    ),
    (
        "ZOOKEEPER_TICK_TIME",
        "not read here: say TRIPOD_COORDINATOR_TICK_TIME",
    ),
    (
        "ZOOKEEPER_INIT_LIMIT",
        "not read here: say TRIPOD_COORDINATOR_INIT_LIMIT",
    ),
    (
        "ZOOKEEPER_SYNC_LIMIT",
        "not read here: say TRIPOD_COORDINATOR_SYNC_LIMIT",
    ),
    (
        "ZOOKEEPER_MAX_CLIENT_CNXNS",
        "not read here: say TRIPOD_COORDINATOR_MAX_CLIENT_CNXNS",
    ),
];

const COMMAND: &str = "commands are not run at start: say the setting itself, as KAFKA_BROKER_ID";
const SASL: &str = "no effect: authentication is not supported yet, everybody is let in";
const TLS: &str = "no effect: TLS is not supported yet";
const SECURE_ZOOKEEPER: &str = "no effect: the session with ZooKeeper is in plain text";
const LISTENERS: &str = "not read here: say KAFKA_LISTENERS and KAFKA_ADVERTISED_LISTENERS";
const FILE: &str = "not read here: name a server.properties with TRIPOD_SERVER_PROPERTIES";
const SERVERS: &str =
    "not read here: say TRIPOD_COORDINATOR_SERVER_1=host:2888:3888, and so on for each server";
