//! THE table: one row per setting. Parsing, validation, help, DescribeConfigs and the typed structs
//! come from these rows, and from nowhere else.
//!
//! A row says: field and type, the name (Kafka's or ZooKeeper's own), default, range, importance, whether
//! Kafka may change it while it runs, and one sentence. The path in our YAML is `section.name`, the
//! variable is `TRIPOD_SECTION_NAME`. Kafka's rows follow 2.8.0; a few of 4.x are there because they act.
//! Pure: no files, no clock. New key? One row here; then use the typed field.

use crate::config::effects;
use crate::config::raw::Values;
use crate::config::value::Valid::{
    Any, ApiVersion, AtLeast, Between, ClientAuth, ClusterId, NotEmpty, OneOf, StoreType,
    ThrottledReplicas,
};
use crate::config::value::{Kind, Password, Setting, Valid};

/// How much a setting matters to somebody who reads the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Importance {
    /// Look at it first.
    High,
    /// Sometimes needed.
    Medium,
    /// Rarely needed.
    Low,
}

/// Whether Kafka changes the setting while a broker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dynamic {
    /// Only at start.
    ReadOnly,
    /// For one broker.
    PerBroker,
    /// For one broker or for all.
    ClusterWide,
    /// For one topic.
    PerTopic,
}

/// What a setting does here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Honour {
    /// It changes behaviour.
    Acts,
    /// Checked, kept and shown by DescribeConfigs; saying it has no effect, and start-up says so.
    Reported,
    /// Saying anything but the default is an error, for this reason.
    Refused(&'static str),
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// `node`, `broker`, `coordinator`, `http`, `log` or `topic`.
    pub section: &'static str,
    /// Kafka's or ZooKeeper's name.
    pub name: &'static str,
    /// The type of the value.
    pub kind: Kind,
    /// The default as text; `None` is Kafka's `null`.
    pub default: Option<&'static str>,
    /// The legal values.
    pub valid: Valid,
    /// How much it matters.
    pub importance: Importance,
    /// Whether Kafka changes it at run time.
    pub dynamic: Dynamic,
    /// What it does here.
    pub honour: Honour,
    /// For topic settings: the broker setting that gives the default; else empty.
    pub synonym: &'static str,
    /// One sentence.
    pub doc: &'static str,
}

impl Key {
    /// The path in our YAML file, in flags and (upper case) in `TRIPOD_*` variables.
    pub fn path(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }

    /// How a person writes it: `broker.id` says its section by itself.
    pub fn written(&self) -> String {
        let named = self.name.strip_prefix(self.section);
        if named.is_some_and(|rest| rest.starts_with('.')) {
            self.name.to_owned()
        } else {
            self.path()
        }
    }

    /// The name in messages: Kafka's and ZooKeeper's own, ours with its section.
    pub fn shown(&self) -> String {
        match self.section {
            "broker" | "coordinator" | "topic" => self.name.to_owned(),
            _ => self.path(),
        }
    }

    /// Why saying it changes nothing here, if that is so.
    pub fn without_effect(&self) -> Option<&'static str> {
        match self.honour {
            Honour::Refused(_) => None,
            _ if !matches!(self.section, "broker" | "topic") => None,
            _ => effects::lookup(effects::WITHOUT_EFFECT, self.name),
        }
    }
}

/// Makes a struct of typed settings and the table of its rows.
macro_rules! settings {
    ($(#[$meta:meta])* $name:ident, $section:literal, $table:ident;
     $($field:ident: $type:ty = $key:literal, $default:expr, $valid:expr, $importance:ident, $dynamic:ident, $doc:literal;)*) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $(#[doc = concat!("`", $key, "`: ", $doc, ".")] pub $field: $type,)*
        }

        impl $name {
            /// Reads every field; bad values are noted as problems and replaced by the default.
            pub(crate) fn take(values: &mut Values) -> $name {
                let mut rows = $table.iter();
                $name { $($field: values.take(rows.next().expect("one row per field")),)* }
            }

            /// A setting's value as text, by its name; `None` for null and for unknown names.
            pub fn text(&self, name: &str) -> Option<String> {
                match name {
                    $($key => self.$field.print(),)*
                    _ => None,
                }
            }
        }

        #[doc = concat!("The rows of [`", stringify!($name), "`], in field order.")]
        pub static $table: &[Key] = &[$(Key {
            section: $section, name: $key, kind: <$type as Setting>::KIND, default: $default,
            valid: $valid, importance: Importance::$importance, dynamic: Dynamic::$dynamic,
            honour: Honour::Acts, synonym: "", doc: $doc,
        },)*];
    };
}

/// Makes a table of rows without fields.
macro_rules! rows {
    ($(#[$meta:meta])* $table:ident;
     $($key:literal, $kind:ident, $default:expr, $valid:expr, $importance:ident, $dynamic:ident, $honour:expr, $doc:literal;)*) => {
        $(#[$meta])*
        pub static $table: &[Key] = &[$(Key {
            section: "broker", name: $key, kind: Kind::$kind, default: $default,
            valid: $valid, importance: Importance::$importance, dynamic: Dynamic::$dynamic,
            honour: $honour, synonym: "", doc: $doc,
        },)*];
    };
}

/// Makes the struct of a topic's settings and its table.
macro_rules! topic_settings {
    ($(#[$meta:meta])* $name:ident, $table:ident;
     $($field:ident: $type:ty = $key:literal, $default:expr, $valid:expr, $importance:ident, $synonym:literal, $doc:literal;)*) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $(#[doc = concat!("`", $key, "`: ", $doc, ".")] pub $field: $type,)*
        }

        impl $name {
            /// Reads every field from the text that `value` gives for its row.
            pub(crate) fn take(value: impl Fn(&Key) -> Option<String>) -> $name {
                let mut rows = $table.iter();
                $name { $($field: {
                    let row = rows.next().expect("one row per field");
                    value(row)
                        .and_then(|text| <$type as Setting>::read(&text))
                        .or_else(|| row.default.and_then(<$type as Setting>::read))
                        .unwrap_or_else(<$type as Setting>::absent)
                },)* }
            }

            /// A setting's value as text, by its name; `None` for unknown names.
            pub fn text(&self, name: &str) -> Option<String> {
                match name {
                    $($key => self.$field.print(),)*
                    _ => None,
                }
            }
        }

        #[doc = concat!("The rows of [`", stringify!($name), "`], in field order.")]
        pub static $table: &[Key] = &[$(Key {
            section: "topic", name: $key, kind: <$type as Setting>::KIND, default: $default,
            valid: $valid, importance: Importance::$importance, dynamic: Dynamic::PerTopic,
            honour: Honour::Acts, synonym: $synonym, doc: $doc,
        },)*];
    };
}

settings! {
    /// What concerns the whole process.
    NodeConfig, "node", NODE;
    roles: Vec<String> = "roles", Some("coordinator,broker"), OneOf(&["coordinator", "broker"]), High, ReadOnly,
        "The halves this node runs";
    id: Option<i32> = "id", None, AtLeast(0), High, ReadOnly,
        "Gives broker.id and myid their value where these are not said themselves";
    data_dir: Option<String> = "data.dir", None, NotEmpty, High, ReadOnly,
        "Where this node keeps everything: its coordinator below coordinator/, its broker below broker/";
    cluster_id: Option<String> = "cluster.id", None, ClusterId, Medium, ReadOnly,
        "The cluster's id, printable without spaces or quotes; when it is not said, 22 characters of base64 are made once and kept";
    worker_threads: i32 = "worker.threads", Some("2"), Between(1, 64), Low, ReadOnly,
        "Threads that serve sockets";
    stop_timeout_ms: i64 = "stop.timeout.ms", Some("25000"), AtLeast(0), Low, ReadOnly,
        "How long a clean stop may take before the process ends anyway";
    jaas: Option<String> = "java.security.auth.login.config", None, NotEmpty, Medium, ReadOnly,
        "A JAAS file: its section Server names the users of ZooKeeper's SASL, its section Client is who the broker is there; also read from KAFKA_OPTS, SERVER_JVMFLAGS and JVMFLAGS";
}

settings! {
    /// The coordinator: ZooKeeper's own names, as in zoo.cfg. `server.N` lines and myid stand apart.
    CoordinatorConfig, "coordinator", COORDINATOR;
    tick_time: i32 = "tickTime", Some("2000"), Between(1, 3_600_000), High, ReadOnly,
        "The length of a tick in milliseconds, the unit of the other times";
    init_limit: i32 = "initLimit", Some("10"), AtLeast(1), Medium, ReadOnly,
        "Ticks that a member may take to connect and catch up at first";
    sync_limit: i32 = "syncLimit", Some("5"), AtLeast(1), Medium, ReadOnly,
        "Ticks that a member may be behind before it counts as lost";
    data_dir: Option<String> = "dataDir", None, NotEmpty, High, ReadOnly,
        "Where the coordinator keeps its state and its myid file";
    client_port: i32 = "clientPort", Some("2181"), Between(0, 65535), High, ReadOnly,
        "The port for ZooKeeper clients; 0 lets the system choose";
    client_port_address: Option<String> = "clientPortAddress", None, Any, Medium, ReadOnly,
        "The address to listen on for clients; every interface when it is empty or not said";
    max_client_cnxns: i32 = "maxClientCnxns", Some("60"), AtLeast(0), Medium, ReadOnly,
        "Connections that one address may have; 0 is no limit";
    max_cnxns: i32 = "maxCnxns", Some("0"), AtLeast(0), Low, ReadOnly,
        "Connections altogether; 0 is no limit";
    min_session_timeout: i32 = "minSessionTimeout", Some("-1"), AtLeast(-1), Medium, ReadOnly,
        "The shortest session timeout in milliseconds; -1 is two ticks";
    max_session_timeout: i32 = "maxSessionTimeout", Some("-1"), AtLeast(-1), Medium, ReadOnly,
        "The longest session timeout in milliseconds; -1 is twenty ticks";
    myid: Option<i32> = "myid", None, Between(0, 255), High, ReadOnly,
        "Which server.N this is; normally the text of the file myid in dataDir";
    four_letter_words: Vec<String> = "4lw.commands.whitelist", Some("ruok,srvr,stat,mntr,conf,cons,envi,dirs,wchs,isro"), Any, Medium, ReadOnly,
        "The four-letter words that are answered; * is all";
    admin_enable_server: bool = "admin.enableServer", Some("true"), Any, Medium, ReadOnly,
        "Whether /commands is served over HTTP";
    quorum_listen_on_all_ips: bool = "quorumListenOnAllIPs", Some("false"), Any, Low, ReadOnly,
        "Listen for the other members on every interface, not only on the address of the own server line";
    snap_count: i32 = "snapCount", Some("100000"), AtLeast(2), Low, ReadOnly,
        "Entries in the log between two snapshots";
    extended_types_enabled: bool = "extendedTypesEnabled", Some("false"), Any, Medium, ReadOnly,
        "Whether there are TTL nodes; the numbers of all members are below 255 then";
    standalone_enabled: bool = "standaloneEnabled", Some("true"), Any, Low, ReadOnly,
        "Whether a single server line means a server alone, as its mode is shown; if not it is the leader of one";
    read_only_mode_enabled: bool = "readonlymode.enabled", Some("false"), Any, Low, ReadOnly,
        "Whether a member without a quorum serves clients that only read";
    skip_acl: bool = "skipACL", Some("false"), Any, Low, ReadOnly,
        "Whether everybody may do everything, whatever the ACLs say";
    container_check_interval_ms: i32 = "znode.container.checkIntervalMs", Some("60000"), AtLeast(1), Low, ReadOnly,
        "How often the leader looks for empty containers and TTL nodes whose time is up, in milliseconds";
    container_max_per_minute: i32 = "znode.container.maxPerMinute", Some("10000"), AtLeast(1), Low, ReadOnly,
        "How many containers and TTL nodes are removed in a minute at most";
    container_max_never_used_interval_ms: i64 = "znode.container.maxNeverUsedIntervalMs", Some("0"), AtLeast(0), Low, ReadOnly,
        "After how many milliseconds a container is removed that never had a child; 0 is never";
    super_digest: Password = "DigestAuthenticationProvider.superDigest", None, NotEmpty, Low, ReadOnly,
        "The super user, as super:hash";
    secure_client_port: Option<i32> = "secureClientPort", None, Between(0, 65535), Medium, ReadOnly,
        "The port for ZooKeeper clients with TLS; 0 lets the system choose, and without it there is none";
    secure_client_port_address: Option<String> = "secureClientPortAddress", None, Any, Low, ReadOnly,
        "The address to listen on for clients with TLS; every interface when it is empty or not said";
    ssl_key_store: Option<String> = "ssl.keyStore.location", None, NotEmpty, Medium, ReadOnly,
        "The file with the private key and certificate of the secure client port: PEM or PKCS #12";
    ssl_key_store_password: Password = "ssl.keyStore.password", None, Any, Medium, ReadOnly,
        "The key store's password";
    ssl_key_store_type: Option<String> = "ssl.keyStore.type", None, StoreType, Low, ReadOnly,
        "JKS, PEM or PKCS12; checked only, as the file's first bytes say which it is";
    ssl_trust_store: Option<String> = "ssl.trustStore.location", None, NotEmpty, Medium, ReadOnly,
        "The file with the certificates that clients' certificates have to be, or to be signed by: PEM or PKCS #12";
    ssl_trust_store_password: Password = "ssl.trustStore.password", None, Any, Medium, ReadOnly,
        "The trust store's password";
    ssl_trust_store_type: Option<String> = "ssl.trustStore.type", None, StoreType, Low, ReadOnly,
        "JKS, PEM or PKCS12; checked only, as the file's first bytes say which it is";
    ssl_client_auth: Option<String> = "ssl.clientAuth", None, ClientAuth, Medium, ReadOnly,
        "Whether clients have to show a certificate: need (as when it is not said), want or none";
    ssl_protocol: String = "ssl.protocol", Some("TLSv1.2"), OneOf(&["TLSv1.2", "TLSv1.3"]), Low, ReadOnly,
        "The version of TLS, unless ssl.enabledProtocols says more";
    ssl_enabled_protocols: Vec<String> = "ssl.enabledProtocols", Some(""), OneOf(&["TLSv1.2", "TLSv1.3"]), Low, ReadOnly,
        "The versions of TLS; that of ssl.protocol when it is empty";
    ssl_cipher_suites: Vec<String> = "ssl.ciphersuites", Some(""), Any, Low, ReadOnly,
        "The cipher suites, by Java's names; all that are known when it is empty";
    ssl_auth_provider: String = "ssl.authProvider", Some("x509"), OneOf(&["x509"]), Low, ReadOnly,
        "The ACL scheme of clients with a certificate";
    x509_super_user: Option<String> = "X509AuthenticationProvider.superUser", None, NotEmpty, Low, ReadOnly,
        "The name in a client's certificate that may do everything, as CN=admin,O=Example";
    auth_providers: Vec<String> = "authProvider", Some(""), Any, Medium, ReadOnly,
        "The Java classes of authentication providers, as authProvider.N in zoo.cfg: ZooKeeper's SASLAuthenticationProvider and X509AuthenticationProvider add the ACL schemes sasl and x509";
    sasl_section: String = "sasl.serverconfig", Some("Server"), NotEmpty, Low, ReadOnly,
        "The section of the JAAS file that names the users of SASL";
    requires_sasl: bool = "sessionRequireClientSASLAuth", Some("false"), Any, Medium, ReadOnly,
        "Whether clients have to prove themselves by SASL before anything else";
    keeps_failed_sasl: bool = "allowSaslFailedClients", Some("false"), Any, Low, ReadOnly,
        "Whether a client that fails to prove itself by SASL may go on without";
    sasl_super_user: Option<String> = "superUser", None, NotEmpty, Low, ReadOnly,
        "The SASL user who may do everything";
    sasl_super_password: Password = "SASLAuthenticationProvider.superPassword", None, NotEmpty, Low, ReadOnly,
        "The password of the SASL user super, instead of that in the JAAS file";
    peer_secret: Password = "peer.secret", None, NotEmpty, Medium, ReadOnly,
        "A secret that the members prove to one another; without it they check names only";
    jute_maxbuffer: i32 = "jute.maxbuffer", Some("1048575"), AtLeast(1024), Medium, ReadOnly,
        "The largest request in bytes";
}

settings! {
    /// Health, metrics and admin commands over HTTP.
    HttpConfig, "http", HTTP;
    enable: bool = "enable", Some("true"), Any, Medium, ReadOnly,
        "Whether this node serves HTTP";
    host: String = "host", Some("0.0.0.0"), Any, Medium, ReadOnly,
        "The address to listen on; every interface when it is empty";
    port: i32 = "port", Some("8080"), Between(0, 65535), High, ReadOnly,
        "The port; 0 lets the system choose";
    max_connections: i32 = "max.connections", Some("100"), Between(1, 10_000), Low, ReadOnly,
        "Connections at one time";
}

settings! {
    /// What this process writes about itself.
    LoggingConfig, "log", LOG;
    level: String = "level", Some("info"), NotEmpty, Medium, ReadOnly,
        "error, warn, info, debug or trace, or a filter as info,tripod::broker=debug";
    format: String = "format", Some("text"), OneOf(&["text", "json"]), Medium, ReadOnly,
        "One line of text, or one JSON object, per event";
}

settings! {
    /// A Kafka broker's settings, by Kafka's names with dots as underscores.
    BrokerConfig, "broker", BROKER;
    advertised_host_name: Option<String> = "advertised.host.name", None, Any, High, ReadOnly,
        "DEPRECATED: only used when advertised.listeners or listeners are not set";
    advertised_listeners: Option<String> = "advertised.listeners", None, Any, High, ReadOnly,
        "Specifies the listener addresses that the Kafka brokers will advertise to clients and other brokers";
    advertised_port: Option<i32> = "advertised.port", None, Any, High, ReadOnly,
        "DEPRECATED: only used when advertised.listeners or listeners are not set";
    auto_create_topics_enable: bool = "auto.create.topics.enable", Some("true"), Any, High, ReadOnly,
        "Enable auto creation of topic on the server";
    auto_leader_rebalance_enable: bool = "auto.leader.rebalance.enable", Some("true"), Any, High, ReadOnly,
        "Moves leadership back to preferred replicas from time to time";
    broker_id: i32 = "broker.id", Some("-1"), Any, High, ReadOnly,
        "The broker id for this server";
    broker_id_generation_enable: bool = "broker.id.generation.enable", Some("true"), Any, Medium, ReadOnly,
        "Enable automatic broker id generation on the server";
    broker_rack: Option<String> = "broker.rack", None, Any, Medium, ReadOnly,
        "Rack of the broker";
    compression_type: String = "compression.type", Some("producer"), OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]), High, ClusterWide,
        "Specify the final compression type for a given topic";
    connections_max_idle_ms: i64 = "connections.max.idle.ms", Some("600000"), Any, Medium, ReadOnly,
        "Idle connections timeout: the server socket processor threads close the connections that idle more than this";
    controlled_shutdown_enable: bool = "controlled.shutdown.enable", Some("true"), Any, Medium, ReadOnly,
        "Enable controlled shutdown of the server";
    controlled_shutdown_max_retries: i32 = "controlled.shutdown.max.retries", Some("3"), Any, Medium, ReadOnly,
        "Controlled shutdown can fail for multiple reasons";
    controlled_shutdown_retry_backoff_ms: i64 = "controlled.shutdown.retry.backoff.ms", Some("5000"), Any, Medium, ReadOnly,
        "Before each retry, the system needs time to recover from the state that caused the previous failure (Controller fail over, replica lag etc)";
    controller_listener_names: Option<String> = "controller.listener.names", None, Any, High, ReadOnly,
        "A comma-separated list of the names of the listeners used by the controller";
    controller_quorum_bootstrap_servers: Vec<String> = "controller.quorum.bootstrap.servers", Some(""), Any, High, ReadOnly,
        "List of endpoints to use for bootstrapping the cluster metadata";
    controller_quorum_voters: Vec<String> = "controller.quorum.voters", Some(""), Any, High, ReadOnly,
        "Map of id/endpoint information for the set of voters in a comma-separated list of {id}@{host}:{port} entries";
    default_replication_factor: i32 = "default.replication.factor", Some("1"), Any, Medium, ReadOnly,
        "The default replication factor per topic";
    delete_topic_enable: bool = "delete.topic.enable", Some("true"), Any, High, ReadOnly,
        "When set to true, topics can be deleted by the admin client";
    fetch_max_bytes: i32 = "fetch.max.bytes", Some("57671680"), AtLeast(1024), Medium, ReadOnly,
        "The maximum number of bytes we will return for a fetch request";
    group_initial_rebalance_delay_ms: i32 = "group.initial.rebalance.delay.ms", Some("3000"), Any, Medium, ReadOnly,
        "The amount of time the group coordinator will wait for more consumers to join a new group before performing the first rebalance";
    group_max_session_timeout_ms: i32 = "group.max.session.timeout.ms", Some("1800000"), Any, Medium, ReadOnly,
        "The maximum allowed session timeout for registered consumers";
    group_max_size: i32 = "group.max.size", Some("2147483647"), AtLeast(1), Medium, ReadOnly,
        "The maximum number of consumers that a single consumer group can accommodate";
    group_min_session_timeout_ms: i32 = "group.min.session.timeout.ms", Some("6000"), Any, Medium, ReadOnly,
        "The minimum allowed session timeout for registered consumers";
    host_name: String = "host.name", Some(""), Any, High, ReadOnly,
        "DEPRECATED: only used when listeners is not set";
    inter_broker_listener_name: Option<String> = "inter.broker.listener.name", None, Any, Medium, ReadOnly,
        "Name of listener used for communication between brokers";
    leader_imbalance_check_interval_seconds: i64 = "leader.imbalance.check.interval.seconds", Some("300"), AtLeast(1), High, ReadOnly,
        "The frequency with which the partition rebalance check is triggered by the controller";
    leader_imbalance_per_broker_percentage: i32 = "leader.imbalance.per.broker.percentage", Some("10"), Any, High, ReadOnly,
        "The ratio of leader imbalance allowed per broker";
    listener_security_protocol_map: String = "listener.security.protocol.map", Some("PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL"), Any, Low, ReadOnly,
        "Map between listener names and security protocols";
    listeners: Option<String> = "listeners", None, Any, High, ReadOnly,
        "Listener List - Comma-separated list of URIs we will listen on and the listener names";
    log_cleaner_backoff_ms: i64 = "log.cleaner.backoff.ms", Some("15000"), AtLeast(0), Medium, ClusterWide,
        "The amount of time to sleep when there are no logs to clean";
    log_cleaner_delete_retention_ms: i64 = "log.cleaner.delete.retention.ms", Some("86400000"), AtLeast(0), Medium, ClusterWide,
        "The amount of time to retain tombstone message markers for log compacted topics";
    log_cleaner_enable: bool = "log.cleaner.enable", Some("true"), Any, Medium, ReadOnly,
        "Enable the log cleaner process to run on the server";
    log_cleaner_max_compaction_lag_ms: i64 = "log.cleaner.max.compaction.lag.ms", Some("9223372036854775807"), AtLeast(1), Medium, ClusterWide,
        "The maximum time a message will remain ineligible for compaction in the log";
    log_cleaner_min_cleanable_ratio: f64 = "log.cleaner.min.cleanable.ratio", Some("0.5"), Between(0, 1), Medium, ClusterWide,
        "The minimum ratio of dirty log to total log for a log to eligible for cleaning";
    log_cleaner_min_compaction_lag_ms: i64 = "log.cleaner.min.compaction.lag.ms", Some("0"), AtLeast(0), Medium, ClusterWide,
        "The minimum time a message will remain uncompacted in the log";
    log_cleaner_threads: i32 = "log.cleaner.threads", Some("1"), AtLeast(0), Medium, ClusterWide,
        "The number of background threads to use for log cleaning";
    log_cleanup_policy: Vec<String> = "log.cleanup.policy", Some("delete"), OneOf(&["compact", "delete"]), Medium, ClusterWide,
        "This config designates the retention policy to use on log segments";
    log_dir: String = "log.dir", Some("/tmp/kafka-logs"), Any, High, ReadOnly,
        "A comma-separated list of the directories where the log data is stored. (supplemental to log.dirs property)";
    log_dirs: Option<String> = "log.dirs", None, Any, High, ReadOnly,
        "A comma-separated list of the directories where the log data is stored";
    log_flush_interval_messages: i64 = "log.flush.interval.messages", Some("9223372036854775807"), AtLeast(1), High, ClusterWide,
        "The number of messages accumulated on a log partition before messages are flushed to disk";
    log_flush_interval_ms: Option<i64> = "log.flush.interval.ms", None, Any, High, ClusterWide,
        "The maximum time in ms that a message in any topic is kept in memory before flushed to disk";
    log_flush_offset_checkpoint_interval_ms: i32 = "log.flush.offset.checkpoint.interval.ms", Some("60000"), AtLeast(0), High, ReadOnly,
        "The frequency with which we update the persistent record of the last flush which acts as the log recovery point";
    log_flush_scheduler_interval_ms: i64 = "log.flush.scheduler.interval.ms", Some("9223372036854775807"), Any, High, ReadOnly,
        "The frequency in ms that the log flusher checks whether any log needs to be flushed to disk";
    log_flush_start_offset_checkpoint_interval_ms: i32 = "log.flush.start.offset.checkpoint.interval.ms", Some("60000"), AtLeast(0), High, ReadOnly,
        "The frequency with which we update the persistent record of log start offset";
    log_index_interval_bytes: i32 = "log.index.interval.bytes", Some("4096"), AtLeast(0), Medium, ClusterWide,
        "The interval with which we add an entry to the offset index";
    log_index_size_max_bytes: i32 = "log.index.size.max.bytes", Some("10485760"), AtLeast(4), Medium, ClusterWide,
        "The maximum size in bytes of the offset index";
    log_message_downconversion_enable: bool = "log.message.downconversion.enable", Some("true"), Any, Low, ClusterWide,
        "This configuration controls whether down-conversion of message formats is enabled to satisfy consume requests";
    log_message_format_version: String = "log.message.format.version", Some("2.8-IV1"), ApiVersion, Medium, ReadOnly,
        "Specify the message format version the broker will use to append messages to the logs";
    log_message_timestamp_after_max_ms: i64 = "log.message.timestamp.after.max.ms", Some("9223372036854775807"), AtLeast(0), Medium, ClusterWide,
        "This configuration sets the allowable timestamp difference between the message timestamp and the broker's timestamp";
    log_message_timestamp_before_max_ms: i64 = "log.message.timestamp.before.max.ms", Some("9223372036854775807"), AtLeast(0), Medium, ClusterWide,
        "This configuration sets the allowable timestamp difference between the broker's timestamp and the message timestamp";
    log_message_timestamp_difference_max_ms: i64 = "log.message.timestamp.difference.max.ms", Some("9223372036854775807"), Any, Medium, ClusterWide,
        "The maximum difference allowed between the timestamp when a broker receives a message and the timestamp specified in the message";
    log_message_timestamp_type: String = "log.message.timestamp.type", Some("CreateTime"), OneOf(&["CreateTime", "LogAppendTime"]), Medium, ClusterWide,
        "Define whether the timestamp in the message is message create time or log append time";
    log_preallocate: bool = "log.preallocate", Some("false"), Any, Medium, ClusterWide,
        "Should pre allocate file when create new segment? If you are using Kafka on Windows, you probably need to set it to true";
    log_retention_bytes: i64 = "log.retention.bytes", Some("-1"), Any, High, ClusterWide,
        "The maximum size of the log before deleting it";
    log_retention_check_interval_ms: i64 = "log.retention.check.interval.ms", Some("300000"), AtLeast(1), Medium, ReadOnly,
        "The frequency in milliseconds that the log cleaner checks whether any log is eligible for deletion";
    log_retention_hours: i32 = "log.retention.hours", Some("168"), Any, High, ReadOnly,
        "The number of hours to keep a log file before deleting it (in hours), tertiary to log.retention.ms property";
    log_retention_minutes: Option<i32> = "log.retention.minutes", None, Any, High, ReadOnly,
        "The number of minutes to keep a log file before deleting it (in minutes), secondary to log.retention.ms property";
    log_retention_ms: Option<i64> = "log.retention.ms", None, Any, High, ClusterWide,
        "The number of milliseconds to keep a log file before deleting it (in milliseconds), If not set, the value in log.retention.minutes is used";
    log_roll_hours: i32 = "log.roll.hours", Some("168"), AtLeast(1), High, ReadOnly,
        "The maximum time before a new log segment is rolled out (in hours), secondary to log.roll.ms property";
    log_roll_jitter_hours: i32 = "log.roll.jitter.hours", Some("0"), AtLeast(0), High, ReadOnly,
        "The maximum jitter to subtract from logRollTimeMillis (in hours), secondary to log.roll.jitter.ms property";
    log_roll_jitter_ms: Option<i64> = "log.roll.jitter.ms", None, Any, High, ClusterWide,
        "The maximum jitter to subtract from logRollTimeMillis (in milliseconds)";
    log_roll_ms: Option<i64> = "log.roll.ms", None, Any, High, ClusterWide,
        "The maximum time before a new log segment is rolled out (in milliseconds)";
    log_segment_bytes: i32 = "log.segment.bytes", Some("1073741824"), AtLeast(14), High, ClusterWide,
        "The maximum size of a single log file";
    log_segment_delete_delay_ms: i64 = "log.segment.delete.delay.ms", Some("60000"), AtLeast(0), High, ClusterWide,
        "The amount of time to wait before deleting a file from the filesystem";
    max_connection_creation_rate: i32 = "max.connection.creation.rate", Some("2147483647"), AtLeast(0), Medium, ClusterWide,
        "The maximum connection creation rate we allow in the broker at any time";
    max_connections: i32 = "max.connections", Some("2147483647"), AtLeast(0), Medium, ClusterWide,
        "The maximum number of connections we allow in the broker at any time";
    max_connections_per_ip: i32 = "max.connections.per.ip", Some("2147483647"), AtLeast(0), Medium, ClusterWide,
        "The maximum number of connections we allow from each ip address";
    max_connections_per_ip_overrides: String = "max.connections.per.ip.overrides", Some(""), Any, Medium, ClusterWide,
        "A comma-separated list of per-ip or hostname overrides to the default maximum number of connections";
    max_incremental_fetch_session_cache_slots: i32 = "max.incremental.fetch.session.cache.slots", Some("1000"), AtLeast(0), Medium, ReadOnly,
        "The maximum number of total incremental fetch sessions that we will maintain";
    max_request_partition_size_limit: i32 = "max.request.partition.size.limit", Some("2000"), AtLeast(1), Medium, ReadOnly,
        "The maximum number of partitions can be served in one request";
    message_max_bytes: i32 = "message.max.bytes", Some("1048588"), AtLeast(0), High, ClusterWide,
        "The largest record batch size allowed by Kafka (after compression if compression is enabled).This can be set per topic with the topic level max.message.bytes config";
    min_insync_replicas: i32 = "min.insync.replicas", Some("1"), AtLeast(1), High, ClusterWide,
        "Specifies the minimum number of in-sync replicas (including the leader) required for a write to succeed when a producer sets acks to \"all\" (or \"-1\")";
    node_id: i32 = "node.id", Some("-1"), Any, High, ReadOnly,
        "The node ID associated with the roles this process is playing when process.roles is non-empty";
    num_partitions: i32 = "num.partitions", Some("1"), AtLeast(1), Medium, ReadOnly,
        "The default number of log partitions per topic";
    num_replica_fetchers: i32 = "num.replica.fetchers", Some("1"), AtLeast(1), High, ClusterWide,
        "Number of fetcher threads used to replicate records from each source broker";
    offset_metadata_max_bytes: i32 = "offset.metadata.max.bytes", Some("4096"), Any, High, ReadOnly,
        "The maximum size for a metadata entry associated with an offset commit";
    offsets_commit_timeout_ms: i32 = "offsets.commit.timeout.ms", Some("5000"), AtLeast(1), High, ReadOnly,
        "Offset commit will be delayed until all replicas for the offsets topic receive the commit or this timeout is reached";
    offsets_retention_check_interval_ms: i64 = "offsets.retention.check.interval.ms", Some("600000"), AtLeast(1), High, ReadOnly,
        "Frequency at which to check for stale offsets";
    offsets_retention_minutes: i32 = "offsets.retention.minutes", Some("10080"), AtLeast(1), High, ReadOnly,
        "For subscribed consumers, committed offset of a specific partition will be expired and discarded when 1) this retention period has elapsed after the";
    offsets_topic_compression_codec: i32 = "offsets.topic.compression.codec", Some("0"), Any, High, ReadOnly,
        "Compression codec for the offsets topic - compression may be used to achieve \"atomic\" commits";
    offsets_topic_num_partitions: i32 = "offsets.topic.num.partitions", Some("50"), AtLeast(1), High, ReadOnly,
        "The number of partitions for the offset commit topic (should not change after deployment)";
    offsets_topic_replication_factor: i16 = "offsets.topic.replication.factor", Some("3"), AtLeast(1), High, ReadOnly,
        "The replication factor for the offsets topic (set higher to ensure availability)";
    offsets_topic_segment_bytes: i32 = "offsets.topic.segment.bytes", Some("104857600"), AtLeast(1), High, ReadOnly,
        "The offsets topic segment bytes should be kept relatively small in order to facilitate faster log compaction and cache loads";
    port: i32 = "port", Some("9092"), Any, High, ReadOnly,
        "DEPRECATED: only used when listeners is not set";
    process_roles: Vec<String> = "process.roles", Some(""), OneOf(&["broker", "controller"]), High, ReadOnly,
        "The roles that this process plays: 'broker', 'controller', or 'broker,controller' if it is both";
    producer_id_expiration_check_interval_ms: i32 = "producer.id.expiration.check.interval.ms", Some("600000"), AtLeast(1), Low, ReadOnly,
        "The interval at which to remove producer IDs that have expired due to producer.id.expiration.ms passing";
    producer_id_expiration_ms: i32 = "producer.id.expiration.ms", Some("86400000"), AtLeast(1), Low, ClusterWide,
        "The time in ms that a topic partition leader will wait before expiring producer IDs";
    quota_window_num: i32 = "quota.window.num", Some("11"), AtLeast(1), Low, ReadOnly,
        "The number of samples to retain in memory for client quotas";
    quota_window_size_seconds: i32 = "quota.window.size.seconds", Some("1"), AtLeast(1), Low, ReadOnly,
        "The time span of each sample for client quotas";
    replica_fetch_backoff_ms: i32 = "replica.fetch.backoff.ms", Some("1000"), AtLeast(0), Medium, ReadOnly,
        "The amount of time to sleep when fetch partition error occurs";
    replica_fetch_max_bytes: i32 = "replica.fetch.max.bytes", Some("1048576"), AtLeast(0), Medium, ReadOnly,
        "The number of bytes of messages to attempt to fetch for each partition";
    replica_fetch_min_bytes: i32 = "replica.fetch.min.bytes", Some("1"), Any, High, ReadOnly,
        "Minimum bytes expected for each fetch response";
    replica_fetch_response_max_bytes: i32 = "replica.fetch.response.max.bytes", Some("10485760"), AtLeast(0), Medium, ReadOnly,
        "Maximum bytes expected for the entire fetch response";
    replica_fetch_wait_max_ms: i32 = "replica.fetch.wait.max.ms", Some("500"), Any, High, ReadOnly,
        "The maximum wait time for each fetcher request issued by follower replicas";
    replica_high_watermark_checkpoint_interval_ms: i64 = "replica.high.watermark.checkpoint.interval.ms", Some("5000"), Any, High, ReadOnly,
        "The frequency with which the high watermark is saved out to disk";
    replica_lag_time_max_ms: i64 = "replica.lag.time.max.ms", Some("30000"), Any, High, ReadOnly,
        "If a follower hasn't sent any fetch requests or hasn't consumed up to the leader's log end offset for at least this time, the leader will remove the";
    replica_selector_class: Option<String> = "replica.selector.class", None, Any, Medium, ReadOnly,
        "The fully qualified class name that implements ReplicaSelector";
    replica_socket_timeout_ms: i32 = "replica.socket.timeout.ms", Some("30000"), Any, High, ReadOnly,
        "The socket timeout for network requests";
    replica_alter_log_dirs_io_max_bytes_per_second: i64 = "replica.alter.log.dirs.io.max.bytes.per.second", Some("9223372036854775807"), AtLeast(0), Medium, PerBroker,
        "Upper bound in bytes/s for moving replicas between log directories of one broker";
    alter_log_dirs_replication_quota_window_num: i32 = "alter.log.dirs.replication.quota.window.num", Some("11"), AtLeast(1), Low, ReadOnly,
        "The number of samples to retain in memory for alter log dirs replication quotas";
    alter_log_dirs_replication_quota_window_size_seconds: i32 = "alter.log.dirs.replication.quota.window.size.seconds", Some("1"), AtLeast(1), Low, ReadOnly,
        "The time span of each sample for alter log dirs replication quotas";
    replication_quota_window_num: i32 = "replication.quota.window.num", Some("11"), AtLeast(1), Low, ReadOnly,
        "The number of samples to retain in memory for replication quotas";
    replication_quota_window_size_seconds: i32 = "replication.quota.window.size.seconds", Some("1"), AtLeast(1), Low, ReadOnly,
        "The time span of each sample for replication quotas";
    request_timeout_ms: i32 = "request.timeout.ms", Some("30000"), Any, High, ReadOnly,
        "The configuration controls the maximum amount of time the client will wait for the response of a request";
    reserved_broker_max_id: i32 = "reserved.broker.max.id", Some("1000"), AtLeast(0), Medium, ReadOnly,
        "Max number that can be used for a broker.id";
    security_inter_broker_protocol: String = "security.inter.broker.protocol", Some("PLAINTEXT"), OneOf(&["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]), Medium, ReadOnly,
        "Security protocol used to communicate between brokers";
    socket_request_max_bytes: i32 = "socket.request.max.bytes", Some("104857600"), AtLeast(1), High, ReadOnly,
        "The maximum number of bytes in a socket request";
    unclean_leader_election_enable: bool = "unclean.leader.election.enable", Some("false"), Any, High, ClusterWide,
        "Indicates whether to enable replicas not in the ISR set to be elected as leader as a last resort, even though doing so may result in data lossNote";
    zookeeper_connect: Option<String> = "zookeeper.connect", None, Any, High, ReadOnly,
        "Specifies the ZooKeeper connection string in the form hostname:port where host and port are the host and port of a ZooKeeper server";
    zookeeper_connection_timeout_ms: Option<i32> = "zookeeper.connection.timeout.ms", None, Any, High, ReadOnly,
        "The max time that the client waits to establish a connection to zookeeper";
    zookeeper_session_timeout_ms: i32 = "zookeeper.session.timeout.ms", Some("18000"), Any, High, ReadOnly,
        "Zookeeper session timeout";
    leader_replication_throttled_rate: i64 = "leader.replication.throttled.rate", Some("9223372036854775807"), AtLeast(0), Medium, PerBroker,
        "Upper bound in bytes/s on replication traffic this broker sends as leader for throttled replicas";
    follower_replication_throttled_rate: i64 = "follower.replication.throttled.rate", Some("9223372036854775807"), AtLeast(0), Medium, PerBroker,
        "Upper bound in bytes/s on replication traffic this broker fetches as follower for throttled replicas";
}

rows! {
    /// Settings of Kafka 2.8 that would change what a user relies on, and that are not supported.
    REFUSED;
    "alter.config.policy.class.name", Class, None, Any, Low, ReadOnly, Honour::Refused("Java classes cannot be loaded"),
        "The alter configs policy class that should be used for validation";
    "authorizer.class.name", String, Some(""), Any, Low, ReadOnly, Honour::Refused("authorization is not supported yet"),
        "The fully qualified name of a class that implements org.apache.kafka.server.authorizer.Authorizer interface, which is used by the broker for authorization";
    "client.quota.callback.class", Class, None, Any, Low, ReadOnly, Honour::Refused("Java classes cannot be loaded"),
        "The fully qualified name of a class that implements the ClientQuotaCallback interface, which is used to determine quota limits applied to client requests";
    "control.plane.listener.name", String, None, Any, High, ReadOnly, Honour::Refused("a control plane listener is not supported: the controller speaks through ZooKeeper"),
        "Name of listener used for communication between controller and brokers";
    "create.topic.policy.class.name", Class, None, Any, Low, ReadOnly, Honour::Refused("Java classes cannot be loaded"),
        "The create topic policy class that should be used for validation";
    "delegation.token.master.key", Password, None, Any, Medium, ReadOnly, Honour::Refused("delegation tokens are not supported"),
        "DEPRECATED: An alias for delegation.token.secret.key, which should be used instead of this config";
    "delegation.token.secret.key", Password, None, Any, Medium, ReadOnly, Honour::Refused("delegation tokens are not supported"),
        "Secret key to generate and verify delegation tokens";
    "zookeeper.set.acl", Boolean, Some("false"), Any, High, ReadOnly, Honour::Refused("the broker sets no ACLs on its znodes yet"),
        "Set client to use secure ACLs";
    "zookeeper.ssl.client.enable", Boolean, Some("false"), Any, Medium, ReadOnly, Honour::Refused("TLS towards ZooKeeper is not supported"),
        "Set client to use TLS when connecting to ZooKeeper";
    "super.users", String, Some(""), Any, Low, ReadOnly, Honour::Refused("authorization is not supported yet"),
        "Semicolon-separated principals that bypass ACLs";
    "allow.everyone.if.no.acl.found", Boolean, Some("false"), Any, Low, ReadOnly, Honour::Refused("authorization is not supported yet"),
        "When no ACL matches a resource, allow instead of deny";
}

rows! {
    /// Settings that are checked and shown, but have no effect here.
    REPORTED;
    "background.threads", Int, Some("10"), AtLeast(1), High, ClusterWide, Honour::Reported,
        "The number of threads to use for various background processing tasks";
    "broker.heartbeat.interval.ms", Int, Some("2000"), Any, Medium, ReadOnly, Honour::Reported,
        "The length of time in milliseconds between broker heartbeats";
    "broker.session.timeout.ms", Int, Some("9000"), Any, Medium, ReadOnly, Honour::Reported,
        "The length of time in milliseconds that a broker lease lasts if no heartbeats are made";
    "connection.failed.authentication.delay.ms", Int, Some("100"), AtLeast(0), Low, ReadOnly, Honour::Reported,
        "Connection close delay on failed authentication: this is the time (in milliseconds) by which connection close will be delayed on authentication failure";
    "connections.max.reauth.ms", Long, Some("0"), Any, Medium, ReadOnly, Honour::Reported,
        "When explicitly set to a positive number (the default is 0, not a positive number), a session lifetime that will not exceed the configured value will";
    "controller.quorum.append.linger.ms", Int, Some("25"), AtLeast(0), Medium, ReadOnly, Honour::Reported,
        "The duration in milliseconds that the leader will wait for writes to accumulate before flushing them to disk";
    "controller.quorum.election.backoff.max.ms", Int, Some("1000"), AtLeast(0), High, ReadOnly, Honour::Reported,
        "Maximum time in milliseconds before starting new elections";
    "controller.quorum.election.timeout.ms", Int, Some("1000"), AtLeast(0), High, ReadOnly, Honour::Reported,
        "Maximum time in milliseconds to wait without being able to fetch from the leader before triggering a new election";
    "controller.quorum.fetch.timeout.ms", Int, Some("2000"), AtLeast(0), High, ReadOnly, Honour::Reported,
        "Maximum time without a successful fetch from the current leader before becoming a candidate and triggering an election for voters; Maximum time a";
    "controller.quorum.request.timeout.ms", Int, Some("2000"), AtLeast(0), Medium, ReadOnly, Honour::Reported,
        "The configuration controls the maximum amount of time the client will wait for the response of a request";
    "controller.quorum.retry.backoff.ms", Int, Some("20"), AtLeast(0), Low, ReadOnly, Honour::Reported,
        "The amount of time to wait before attempting to retry a failed request to a given topic partition";
    "controller.quota.window.num", Int, Some("11"), AtLeast(1), Low, ReadOnly, Honour::Reported,
        "The number of samples to retain in memory for controller mutation quotas";
    "controller.quota.window.size.seconds", Int, Some("1"), AtLeast(1), Low, ReadOnly, Honour::Reported,
        "The time span of each sample for controller mutations quotas";
    "controller.socket.timeout.ms", Int, Some("30000"), Any, Medium, ReadOnly, Honour::Reported,
        "The socket timeout for controller-to-broker channels";
    "delegation.token.expiry.check.interval.ms", Long, Some("3600000"), AtLeast(1), Low, ReadOnly, Honour::Reported,
        "Scan interval to remove expired delegation tokens";
    "delegation.token.expiry.time.ms", Long, Some("86400000"), AtLeast(1), Medium, ReadOnly, Honour::Reported,
        "The token validity time in milliseconds before the token needs to be renewed";
    "delegation.token.max.lifetime.ms", Long, Some("604800000"), AtLeast(1), Medium, ReadOnly, Honour::Reported,
        "The token has a maximum lifetime beyond which it cannot be renewed anymore";
    "delete.records.purgatory.purge.interval.requests", Int, Some("1"), Any, Medium, ReadOnly, Honour::Reported,
        "The purge interval (in number of requests) of the delete records request purgatory";
    "fetch.purgatory.purge.interval.requests", Int, Some("1000"), Any, Medium, ReadOnly, Honour::Reported,
        "The purge interval (in number of requests) of the fetch request purgatory";
    "group.consumer.assignors", List, Some("uniform,range"), Any, Medium, ReadOnly, Honour::Reported,
        "The server side assignors as a list of either names for builtin assignors or full class names for customer assignors";
    "group.consumer.heartbeat.interval.ms", Int, Some("5000"), AtLeast(1), Medium, ReadOnly, Honour::Reported,
        "The heartbeat interval given to the members of a consumer group";
    "group.consumer.max.heartbeat.interval.ms", Int, Some("15000"), AtLeast(1), Medium, ReadOnly, Honour::Reported,
        "The maximum heartbeat interval for registered consumers";
    "group.consumer.max.session.timeout.ms", Int, Some("60000"), AtLeast(1), Medium, ReadOnly, Honour::Reported,
        "The maximum allowed session timeout for registered consumers";
    "group.consumer.max.size", Int, Some("2147483647"), AtLeast(1), Medium, ReadOnly, Honour::Reported,
        "The maximum number of consumers that a single consumer group can accommodate";
    "group.consumer.migration.policy", String, Some("bidirectional"), Any, Medium, ReadOnly, Honour::Reported,
        "The config that enables converting the non-empty classic group using the consumer embedded protocol to the non-empty consumer group using the";
    "group.consumer.min.heartbeat.interval.ms", Int, Some("5000"), AtLeast(1), Medium, ReadOnly, Honour::Reported,
        "The minimum heartbeat interval for registered consumers";
    "group.consumer.min.session.timeout.ms", Int, Some("45000"), AtLeast(1), Medium, ReadOnly, Honour::Reported,
        "The minimum allowed session timeout for registered consumers";
    "group.consumer.session.timeout.ms", Int, Some("45000"), AtLeast(1), Medium, ReadOnly, Honour::Reported,
        "The timeout to detect client failures when using the consumer group protocol";
    "group.coordinator.rebalance.protocols", List, Some("classic,consumer,streams"), OneOf(&["consumer", "classic", "share", "streams"]), Medium, ReadOnly, Honour::Reported,
        "This configuration is deprecated and will be removed in Kafka 5.0";
    "initial.broker.registration.timeout.ms", Int, Some("60000"), Any, Medium, ReadOnly, Honour::Reported,
        "When initially registering with the controller quorum, the number of milliseconds to wait before declaring failure and exiting the broker process";
    "inter.broker.protocol.version", String, Some("2.8-IV1"), ApiVersion, Medium, ReadOnly, Honour::Reported,
        "Specify which version of the inter-broker protocol will be used";
    "kafka.metrics.polling.interval.secs", Int, Some("10"), AtLeast(1), Low, ReadOnly, Honour::Reported,
        "The metrics polling interval (in seconds) which can be used in kafka.metrics.reporters implementations";
    "kafka.metrics.reporters", List, Some(""), Any, Low, ReadOnly, Honour::Reported,
        "A list of classes to use as Yammer metrics custom reporters";
    "log.cleaner.dedupe.buffer.size", Long, Some("134217728"), Any, Medium, ClusterWide, Honour::Reported,
        "The total memory used for log deduplication across all cleaner threads";
    "log.cleaner.io.buffer.load.factor", Double, Some("0.9"), Any, Medium, ClusterWide, Honour::Reported,
        "Log cleaner dedupe buffer load factor";
    "log.cleaner.io.buffer.size", Int, Some("524288"), AtLeast(0), Medium, ClusterWide, Honour::Reported,
        "The total memory used for log cleaner I/O buffers across all cleaner threads";
    "log.cleaner.io.max.bytes.per.second", Double, Some("1.7976931348623157E308"), Any, Medium, ClusterWide, Honour::Reported,
        "The log cleaner will be throttled so that the sum of its read and write i/o will be less than this value on average";
    "log.dir.failure.timeout.ms", Long, Some("30000"), AtLeast(1), Low, ReadOnly, Honour::Reported,
        "If the broker is unable to successfully communicate to the controller that some log directory has failed for longer than this time, the broker will fail and shut down";
    "metadata.log.dir", String, None, Any, High, ReadOnly, Honour::Reported,
        "This configuration determines where we put the metadata log";
    "metric.reporters", List, Some(""), Any, Low, ClusterWide, Honour::Reported,
        "A list of classes to use as metrics reporters";
    "metrics.num.samples", Int, Some("2"), AtLeast(1), Low, ReadOnly, Honour::Reported,
        "The number of samples maintained to compute metrics";
    "metrics.recording.level", String, Some("INFO"), Any, Low, ReadOnly, Honour::Reported,
        "The highest recording level for metrics";
    "metrics.sample.window.ms", Long, Some("30000"), AtLeast(1), Low, ReadOnly, Honour::Reported,
        "The window of time a metrics sample is computed over";
    "num.io.threads", Int, Some("8"), AtLeast(1), High, ClusterWide, Honour::Reported,
        "The number of threads that the server uses for processing requests, which may include disk I/O";
    "num.network.threads", Int, Some("3"), AtLeast(1), High, ClusterWide, Honour::Reported,
        "The number of threads that the server uses for receiving requests from the network and sending responses to the network";
    "num.recovery.threads.per.data.dir", Int, Some("1"), AtLeast(1), High, ClusterWide, Honour::Reported,
        "The number of threads per data directory to be used for log recovery at startup and flushing at shutdown";
    "num.replica.alter.log.dirs.threads", Int, None, Any, High, ReadOnly, Honour::Reported,
        "The number of threads that can move replicas between log directories, which may include disk I/O. The default value is equal to the number of directories specified in the log.dir or log.dirs configuration property";
    "offsets.commit.required.acks", Short, Some("-1"), Any, High, ReadOnly, Honour::Reported,
        "The required acks before the commit can be accepted";
    "offsets.load.buffer.size", Int, Some("5242880"), AtLeast(1), High, ReadOnly, Honour::Reported,
        "Batch size for reading from the offsets segments when loading group metadata into the cache (soft-limit, overridden if records are too large)";
    "password.encoder.cipher.algorithm", String, Some("AES/CBC/PKCS5Padding"), Any, Low, ReadOnly, Honour::Reported,
        "The Cipher algorithm used for encoding dynamically configured passwords";
    "password.encoder.iterations", Int, Some("4096"), AtLeast(1024), Low, ReadOnly, Honour::Reported,
        "The iteration count used for encoding dynamically configured passwords";
    "password.encoder.key.length", Int, Some("128"), AtLeast(8), Low, ReadOnly, Honour::Reported,
        "The key length used for encoding dynamically configured passwords";
    "password.encoder.keyfactory.algorithm", String, None, Any, Low, ReadOnly, Honour::Reported,
        "The SecretKeyFactory algorithm used for encoding dynamically configured passwords";
    "password.encoder.old.secret", Password, None, Any, Medium, ReadOnly, Honour::Reported,
        "The old secret that was used for encoding dynamically configured passwords";
    "password.encoder.secret", Password, None, Any, Medium, ReadOnly, Honour::Reported,
        "The secret used for encoding dynamically configured passwords for this broker";
    "principal.builder.class", Class, None, Any, Medium, PerBroker, Honour::Reported,
        "The fully qualified name of a class that implements the KafkaPrincipalBuilder interface, which is used to build the KafkaPrincipal object used during authorization";
    "producer.purgatory.purge.interval.requests", Int, Some("1000"), Any, Medium, ReadOnly, Honour::Reported,
        "The purge interval (in number of requests) of the producer request purgatory";
    "queued.max.request.bytes", Long, Some("-1"), Any, Medium, ReadOnly, Honour::Reported,
        "The number of queued bytes allowed before no more requests are read";
    "queued.max.requests", Int, Some("500"), AtLeast(1), High, ReadOnly, Honour::Reported,
        "The number of queued requests allowed for data-plane, before blocking the network threads";
    "quota.consumer.default", Long, Some("9223372036854775807"), AtLeast(1), High, ReadOnly, Honour::Reported,
        "DEPRECATED: Used only when dynamic default quotas are not configured for or in Zookeeper";
    "quota.producer.default", Long, Some("9223372036854775807"), AtLeast(1), High, ReadOnly, Honour::Reported,
        "DEPRECATED: Used only when dynamic default quotas are not configured for , or in Zookeeper";
    "replica.socket.receive.buffer.bytes", Int, Some("65536"), Any, High, ReadOnly, Honour::Reported,
        "The socket receive buffer for network requests to the leader for replicating data";
    "sasl.client.callback.handler.class", Class, None, Any, Medium, ReadOnly, Honour::Reported,
        "The fully qualified name of a SASL client callback handler class that implements the AuthenticateCallbackHandler interface";
    "sasl.enabled.mechanisms", List, Some("GSSAPI"), Any, Medium, PerBroker, Honour::Reported,
        "The list of SASL mechanisms enabled in the Kafka server";
    "sasl.jaas.config", Password, None, Any, Medium, PerBroker, Honour::Reported,
        "JAAS login context parameters for SASL connections in the format used by JAAS configuration files";
    "sasl.kerberos.kinit.cmd", String, Some("/usr/bin/kinit"), Any, Medium, PerBroker, Honour::Reported,
        "Kerberos kinit command path";
    "sasl.kerberos.min.time.before.relogin", Long, Some("60000"), Any, Medium, PerBroker, Honour::Reported,
        "Login thread sleep time between refresh attempts";
    "sasl.kerberos.principal.to.local.rules", List, Some("DEFAULT"), Any, Medium, PerBroker, Honour::Reported,
        "A list of rules for mapping from principal names to short names (typically operating system usernames)";
    "sasl.kerberos.service.name", String, None, Any, Medium, PerBroker, Honour::Reported,
        "The Kerberos principal name that Kafka runs as";
    "sasl.kerberos.ticket.renew.jitter", Double, Some("0.05"), Any, Medium, PerBroker, Honour::Reported,
        "Percentage of random jitter added to the renewal time";
    "sasl.kerberos.ticket.renew.window.factor", Double, Some("0.8"), Any, Medium, PerBroker, Honour::Reported,
        "Login thread will sleep until the specified window factor of time from last refresh to ticket's expiry has been reached, at which time it will try to renew the ticket";
    "sasl.login.callback.handler.class", Class, None, Any, Medium, ReadOnly, Honour::Reported,
        "The fully qualified name of a SASL login callback handler class that implements the AuthenticateCallbackHandler interface";
    "sasl.login.class", Class, None, Any, Medium, ReadOnly, Honour::Reported,
        "The fully qualified name of a class that implements the Login interface";
    "sasl.login.refresh.buffer.seconds", Short, Some("300"), Any, Medium, PerBroker, Honour::Reported,
        "The amount of buffer time before credential expiration to maintain when refreshing a credential, in seconds";
    "sasl.login.refresh.min.period.seconds", Short, Some("60"), Any, Medium, PerBroker, Honour::Reported,
        "The desired minimum time for the login refresh thread to wait before refreshing a credential, in seconds";
    "sasl.login.refresh.window.factor", Double, Some("0.8"), Any, Medium, PerBroker, Honour::Reported,
        "Login refresh thread will sleep until the specified window factor relative to the credential's lifetime has been reached, at which time it will try to refresh the credential";
    "sasl.login.refresh.window.jitter", Double, Some("0.05"), Any, Medium, PerBroker, Honour::Reported,
        "The maximum amount of random jitter relative to the credential's lifetime that is added to the login refresh thread's sleep time";
    "sasl.mechanism.controller.protocol", String, Some("GSSAPI"), Any, High, ReadOnly, Honour::Reported,
        "SASL mechanism used for communication with controllers";
    "sasl.mechanism.inter.broker.protocol", String, Some("GSSAPI"), Any, Medium, PerBroker, Honour::Reported,
        "SASL mechanism used for inter-broker communication";
    "sasl.server.callback.handler.class", Class, None, Any, Medium, ReadOnly, Honour::Reported,
        "The fully qualified name of a SASL server callback handler class that implements the AuthenticateCallbackHandler interface";
    "security.providers", String, None, Any, Low, ReadOnly, Honour::Reported,
        "A list of configurable creator classes each returning a provider implementing security algorithms";
    "socket.connection.setup.timeout.max.ms", Long, Some("30000"), Any, Medium, ReadOnly, Honour::Reported,
        "The maximum amount of time the client will wait for the socket connection to be established";
    "socket.connection.setup.timeout.ms", Long, Some("10000"), Any, Medium, ReadOnly, Honour::Reported,
        "The amount of time the client will wait for the socket connection to be established";
    "socket.receive.buffer.bytes", Int, Some("102400"), Any, High, ReadOnly, Honour::Reported,
        "The SO_RCVBUF buffer of the socket server sockets";
    "socket.send.buffer.bytes", Int, Some("102400"), Any, High, ReadOnly, Honour::Reported,
        "The SO_SNDBUF buffer of the socket server sockets";
    "ssl.cipher.suites", List, Some(""), Any, Medium, PerBroker, Honour::Reported,
        "A list of cipher suites";
    "ssl.client.auth", String, Some("none"), OneOf(&["required", "requested", "none"]), Medium, PerBroker, Honour::Reported,
        "Configures kafka broker to request client authentication";
    "ssl.enabled.protocols", List, Some("TLSv1.2,TLSv1.3"), Any, Medium, PerBroker, Honour::Reported,
        "The list of protocols enabled for SSL connections";
    "ssl.endpoint.identification.algorithm", String, Some("https"), Any, Low, PerBroker, Honour::Reported,
        "The endpoint identification algorithm to validate server hostname using server certificate";
    "ssl.engine.factory.class", Class, None, Any, Low, PerBroker, Honour::Reported,
        "The class of type org.apache.kafka.common.security.auth.SslEngineFactory to provide SSLEngine objects";
    "ssl.key.password", Password, None, Any, Medium, PerBroker, Honour::Reported,
        "The password of the private key in the key store file or the PEM key specified in 'ssl.keystore.key'";
    "ssl.keymanager.algorithm", String, Some("SunX509"), Any, Medium, PerBroker, Honour::Reported,
        "The algorithm used by key manager factory for SSL connections";
    "ssl.keystore.certificate.chain", Password, None, Any, Medium, PerBroker, Honour::Reported,
        "Certificate chain in the format specified by 'ssl.keystore.type'";
    "ssl.keystore.key", Password, None, Any, Medium, PerBroker, Honour::Reported,
        "Private key in the format specified by 'ssl.keystore.type'";
    "ssl.keystore.location", String, None, Any, Medium, PerBroker, Honour::Reported,
        "The location of the key store file";
    "ssl.keystore.password", Password, None, Any, Medium, PerBroker, Honour::Reported,
        "The store password for the key store file";
    "ssl.keystore.type", String, Some("JKS"), Any, Medium, PerBroker, Honour::Reported,
        "The file format of the key store file";
    "ssl.principal.mapping.rules", String, Some("DEFAULT"), Any, Low, ReadOnly, Honour::Reported,
        "A list of rules for mapping from distinguished name from the client certificate to short name";
    "ssl.protocol", String, Some("TLSv1.3"), Any, Medium, PerBroker, Honour::Reported,
        "The SSL protocol used to generate the SSLContext";
    "ssl.provider", String, None, Any, Medium, PerBroker, Honour::Reported,
        "The name of the security provider used for SSL connections";
    "ssl.secure.random.implementation", String, None, Any, Low, PerBroker, Honour::Reported,
        "The SecureRandom PRNG implementation to use for SSL cryptography operations";
    "ssl.trustmanager.algorithm", String, Some("PKIX"), Any, Medium, PerBroker, Honour::Reported,
        "The algorithm used by trust manager factory for SSL connections";
    "ssl.truststore.certificates", Password, None, Any, Medium, PerBroker, Honour::Reported,
        "Trusted certificates in the format specified by 'ssl.truststore.type'";
    "ssl.truststore.location", String, None, Any, Medium, PerBroker, Honour::Reported,
        "The location of the trust store file";
    "ssl.truststore.password", Password, None, Any, Medium, PerBroker, Honour::Reported,
        "The password for the trust store file";
    "ssl.truststore.type", String, Some("JKS"), Any, Medium, PerBroker, Honour::Reported,
        "The file format of the trust store file";
    "transaction.abort.timed.out.transaction.cleanup.interval.ms", Int, Some("10000"), AtLeast(1), Low, ReadOnly, Honour::Reported,
        "The interval at which to rollback transactions that have timed out";
    "transaction.max.timeout.ms", Int, Some("900000"), AtLeast(1), High, ReadOnly, Honour::Reported,
        "The maximum allowed timeout for transactions";
    "transaction.partition.verification.enable", Boolean, Some("true"), Any, Low, ClusterWide, Honour::Reported,
        "Enable verification that checks that the partition has been added to the transaction before writing transactional records to the partition";
    "transaction.remove.expired.transaction.cleanup.interval.ms", Int, Some("3600000"), AtLeast(1), Low, ReadOnly, Honour::Reported,
        "The interval at which to remove transactions that have expired due to transactional.id.expiration.ms passing";
    "transaction.state.log.load.buffer.size", Int, Some("5242880"), AtLeast(1), High, ReadOnly, Honour::Reported,
        "Batch size for reading from the transaction log segments when loading producer ids and transactions into the cache (soft-limit, overridden if records are too large)";
    "transaction.state.log.min.isr", Int, Some("2"), AtLeast(1), High, ReadOnly, Honour::Reported,
        "The minimum number of replicas that must acknowledge a write to transaction topic in order to be considered successful";
    "transaction.state.log.num.partitions", Int, Some("50"), AtLeast(1), High, ReadOnly, Honour::Reported,
        "The number of partitions for the transaction topic (should not change after deployment)";
    "transaction.state.log.replication.factor", Short, Some("3"), AtLeast(1), High, ReadOnly, Honour::Reported,
        "The replication factor for the transaction topic (set higher to ensure availability)";
    "transaction.state.log.segment.bytes", Int, Some("104857600"), AtLeast(1), High, ReadOnly, Honour::Reported,
        "The transaction topic segment bytes should be kept relatively small in order to facilitate faster log compaction and cache loads";
    "transactional.id.expiration.ms", Int, Some("604800000"), AtLeast(1), High, ReadOnly, Honour::Reported,
        "The time in ms that the transaction coordinator will wait without receiving any transaction status updates for the current transaction before expiring its transactional id";
    "zookeeper.max.in.flight.requests", Int, Some("10"), AtLeast(1), High, ReadOnly, Honour::Reported,
        "The maximum number of unacknowledged requests the client will send to Zookeeper before blocking";
    "zookeeper.clientCnxnSocket", String, None, Any, Medium, ReadOnly, Honour::Reported,
        "Typically set to org.apache.zookeeper.ClientCnxnSocketNetty when using TLS connectivity to ZooKeeper";
    "zookeeper.ssl.cipher.suites", List, None, Any, Low, ReadOnly, Honour::Reported,
        "Specifies the enabled cipher suites to be used in ZooKeeper TLS negotiation (csv)";
    "zookeeper.ssl.crl.enable", Boolean, Some("false"), Any, Low, ReadOnly, Honour::Reported,
        "Specifies whether to enable Certificate Revocation List in the ZooKeeper TLS protocols";
    "zookeeper.ssl.enabled.protocols", List, None, Any, Low, ReadOnly, Honour::Reported,
        "Specifies the enabled protocol(s) in ZooKeeper TLS negotiation (csv)";
    "zookeeper.ssl.endpoint.identification.algorithm", String, Some("HTTPS"), Any, Low, ReadOnly, Honour::Reported,
        "Specifies whether to enable hostname verification in the ZooKeeper TLS negotiation process";
    "zookeeper.ssl.keystore.location", String, None, Any, Medium, ReadOnly, Honour::Reported,
        "Keystore location when using a client-side certificate with TLS connectivity to ZooKeeper";
    "zookeeper.ssl.keystore.password", Password, None, Any, Medium, ReadOnly, Honour::Reported,
        "Keystore password when using a client-side certificate with TLS connectivity to ZooKeeper";
    "zookeeper.ssl.keystore.type", String, None, Any, Medium, ReadOnly, Honour::Reported,
        "Keystore type when using a client-side certificate with TLS connectivity to ZooKeeper";
    "zookeeper.ssl.ocsp.enable", Boolean, Some("false"), Any, Low, ReadOnly, Honour::Reported,
        "Specifies whether to enable Online Certificate Status Protocol in the ZooKeeper TLS protocols";
    "zookeeper.ssl.protocol", String, Some("TLSv1.2"), Any, Low, ReadOnly, Honour::Reported,
        "Specifies the protocol to be used in ZooKeeper TLS negotiation";
    "zookeeper.ssl.truststore.location", String, None, Any, Medium, ReadOnly, Honour::Reported,
        "Truststore location when using TLS connectivity to ZooKeeper";
    "zookeeper.ssl.truststore.password", Password, None, Any, Medium, ReadOnly, Honour::Reported,
        "Truststore password when using TLS connectivity to ZooKeeper";
    "zookeeper.ssl.truststore.type", String, None, Any, Medium, ReadOnly, Honour::Reported,
        "Truststore type when using TLS connectivity to ZooKeeper";
    "zookeeper.sync.time.ms", Int, Some("2000"), Any, Low, ReadOnly, Honour::Reported,
        "How far a ZK follower can be behind a ZK leader";
}

topic_settings! {
    /// A topic's settings in force: its own, else the broker's.
    TopicConfig, TOPIC;
    cleanup_policy: Vec<String> = "cleanup.policy", Some("delete"), OneOf(&["compact", "delete"]), Medium, "log.cleanup.policy",
        "This config designates the retention policy to use on log segments";
    compression_type: String = "compression.type", Some("producer"), OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]), Medium, "compression.type",
        "Specify the final compression type for a given topic";
    delete_retention_ms: i64 = "delete.retention.ms", Some("86400000"), AtLeast(0), Medium, "log.cleaner.delete.retention.ms",
        "The amount of time to retain delete tombstone markers for log compacted topics";
    file_delete_delay_ms: i64 = "file.delete.delay.ms", Some("60000"), AtLeast(0), Medium, "log.segment.delete.delay.ms",
        "The time to wait before deleting a file from the filesystem";
    flush_messages: i64 = "flush.messages", Some("9223372036854775807"), AtLeast(0), Medium, "log.flush.interval.messages",
        "This setting allows specifying an interval at which we will force an fsync of data written to the log";
    flush_ms: i64 = "flush.ms", Some("9223372036854775807"), AtLeast(0), Medium, "log.flush.interval.ms",
        "This setting allows specifying a time interval at which we will force an fsync of data written to the log";
    follower_replication_throttled_replicas: Vec<String> = "follower.replication.throttled.replicas", Some(""), ThrottledReplicas, Medium, "",
        "A list of replicas for which log replication should be throttled on the follower side";
    index_interval_bytes: i32 = "index.interval.bytes", Some("4096"), AtLeast(0), Medium, "log.index.interval.bytes",
        "This setting controls how frequently Kafka adds entries to its offset index and, conditionally, to its time index";
    leader_replication_throttled_replicas: Vec<String> = "leader.replication.throttled.replicas", Some(""), ThrottledReplicas, Medium, "",
        "A list of replicas for which log replication should be throttled on the leader side";
    max_compaction_lag_ms: i64 = "max.compaction.lag.ms", Some("9223372036854775807"), AtLeast(1), Medium, "log.cleaner.max.compaction.lag.ms",
        "The maximum time a message will remain ineligible for compaction in the log";
    max_message_bytes: i32 = "max.message.bytes", Some("1048588"), AtLeast(0), Medium, "message.max.bytes",
        "The largest record batch size allowed by Kafka (after compression if compression is enabled)";
    message_downconversion_enable: bool = "message.downconversion.enable", Some("true"), Any, Low, "log.message.downconversion.enable",
        "This configuration controls whether down-conversion of message formats is enabled to satisfy consume requests";
    message_format_version: String = "message.format.version", Some("2.8-IV1"), ApiVersion, Medium, "log.message.format.version",
        "Specify the message format version the broker will use to append messages to the logs";
    message_timestamp_after_max_ms: i64 = "message.timestamp.after.max.ms", Some("9223372036854775807"), AtLeast(0), Medium, "log.message.timestamp.after.max.ms",
        "This configuration sets the allowable timestamp difference between the message timestamp and the broker's timestamp";
    message_timestamp_before_max_ms: i64 = "message.timestamp.before.max.ms", Some("9223372036854775807"), AtLeast(0), Medium, "log.message.timestamp.before.max.ms",
        "This configuration sets the allowable timestamp difference between the broker's timestamp and the message timestamp";
    message_timestamp_difference_max_ms: i64 = "message.timestamp.difference.max.ms", Some("9223372036854775807"), AtLeast(0), Medium, "log.message.timestamp.difference.max.ms",
        "The maximum difference allowed between the timestamp when a broker receives a message and the timestamp specified in the message";
    message_timestamp_type: String = "message.timestamp.type", Some("CreateTime"), OneOf(&["CreateTime", "LogAppendTime"]), Medium, "log.message.timestamp.type",
        "Define whether the timestamp in the message is message create time or log append time";
    min_cleanable_dirty_ratio: f64 = "min.cleanable.dirty.ratio", Some("0.5"), Between(0, 1), Medium, "log.cleaner.min.cleanable.ratio",
        "This configuration controls how frequently the log compactor will attempt to clean the log (assuming log compaction is enabled)";
    min_compaction_lag_ms: i64 = "min.compaction.lag.ms", Some("0"), AtLeast(0), Medium, "log.cleaner.min.compaction.lag.ms",
        "The minimum time a message will remain uncompacted in the log";
    min_insync_replicas: i32 = "min.insync.replicas", Some("1"), AtLeast(1), Medium, "min.insync.replicas",
        "Specifies the minimum number of in-sync replicas (including the leader) required for a write to succeed when a producer sets acks to \"all\" (or \"-1\")";
    preallocate: bool = "preallocate", Some("false"), Any, Medium, "log.preallocate",
        "True if we should preallocate the file on disk when creating a new log segment";
    retention_bytes: i64 = "retention.bytes", Some("-1"), Any, Medium, "log.retention.bytes",
        "This configuration controls the maximum size a partition (which consists of log segments) can grow to before we will discard old log segments to free up space if we are using the \"delete\" retention policy";
    retention_ms: i64 = "retention.ms", Some("604800000"), AtLeast(-1), Medium, "log.retention.ms",
        "This configuration controls the maximum time we will retain a log before we will discard old log segments to free up space if we are using the \"delete\" retention policy";
    segment_bytes: i32 = "segment.bytes", Some("1073741824"), AtLeast(14), Medium, "log.segment.bytes",
        "This configuration controls the segment file size for the log";
    segment_index_bytes: i32 = "segment.index.bytes", Some("10485760"), AtLeast(0), Medium, "log.index.size.max.bytes",
        "This configuration controls the size of the index that maps offsets to file positions";
    segment_jitter_ms: i64 = "segment.jitter.ms", Some("0"), AtLeast(0), Medium, "log.roll.jitter.ms",
        "The maximum random jitter subtracted from the scheduled segment roll time to avoid thundering herds of segment rolling";
    segment_ms: i64 = "segment.ms", Some("604800000"), AtLeast(1), Medium, "log.roll.ms",
        "This configuration controls the period of time after which Kafka will force the log to roll even if the segment file isn't full to ensure that retention can delete or compact old data";
    unclean_leader_election_enable: bool = "unclean.leader.election.enable", Some("false"), Any, Medium, "unclean.leader.election.enable",
        "Indicates whether to enable replicas not in the ISR set to be elected as leader as a last resort, even though doing so may result in data loss";
}

/// Every row that a configuration source may set.
pub fn all() -> impl Iterator<Item = &'static Key> {
    [NODE, BROKER, COORDINATOR, HTTP, LOG, REFUSED, REPORTED]
        .into_iter()
        .flatten()
}

/// Every broker row: with a field, refused, or reported.
pub fn broker() -> impl Iterator<Item = &'static Key> {
    [BROKER, REFUSED, REPORTED].into_iter().flatten()
}
