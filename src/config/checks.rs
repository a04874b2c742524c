//! The rules between settings, and those about texts that have a form of their own.
//!
//! Pure. Follows `KafkaConfig.validateValues` of 2.8 where Kafka has a rule. What is wrong goes to
//! `Values::problems`, at the place that said it; what is only odd to `Values::warnings`.

use std::net::IpAddr;

use crate::common::net::HostPort;
use crate::config::effects::NOT_COMPACTED;
use crate::config::raw::{Problem, Said, SourceKind, Values, cut, nearest};
use crate::config::resolve::blame;
use crate::config::value::split_list;
use crate::config::{BrokerConfig, Config, CoordinatorConfig, Roles, ZookeeperConnect};

/// The four-letter words that the coordinator answers.
pub const FOUR_LETTER_WORDS: &[&str] = &[
    "ruok", "srvr", "stat", "mntr", "conf", "cons", "envi", "dirs", "wchs", "isro", "crst", "srst",
    "dump", "wchc", "wchp", "gtmk", "stmk", "hash",
];
/// Names of the HTTP page's commands: a whitelist may hold them, but no word of 3.6 is called so.
const OTHER_WORDS: &[&str] = &["lead", "clst", "obsr", "sysp", "icfg", "orst"];

/// `EphemeralType.MAX_EXTENDED_SERVER_ID`.
const EXTENDED_SERVER_ID_MAX: u64 = 254;

/// ZooKeeper's provider of the ACL scheme sasl.
const SASL_PROVIDER: &str = "org.apache.zookeeper.server.auth.SASLAuthenticationProvider";
/// Its provider of the scheme x509.
const X509_PROVIDER: &str = "org.apache.zookeeper.server.auth.X509AuthenticationProvider";
/// All that can be said; the last two are there anyway.
const PROVIDERS: [&str; 4] = [
    SASL_PROVIDER,
    X509_PROVIDER,
    "org.apache.zookeeper.server.auth.DigestAuthenticationProvider",
    "org.apache.zookeeper.server.auth.IPAuthenticationProvider",
];

impl CoordinatorConfig {
    /// `need` unless another is said.
    pub fn ssl_client_auth(&self) -> &str {
        let said = self.ssl_client_auth.as_deref();
        said.filter(|said| !said.is_empty()).unwrap_or("need")
    }

    /// The versions of TLS, by Java's names.
    pub fn ssl_versions(&self) -> Vec<&str> {
        match self.ssl_enabled_protocols.is_empty() {
            true => vec![&self.ssl_protocol],
            false => self
                .ssl_enabled_protocols
                .iter()
                .map(String::as_str)
                .collect(),
        }
    }

    /// Do ids of the scheme sasl count?
    pub fn has_sasl_provider(&self) -> bool {
        self.auth_providers
            .iter()
            .any(|class| class == SASL_PROVIDER)
    }

    /// Do ids of the scheme x509 count? The secure client port brings them, as in ZooKeeper.
    pub fn has_x509_provider(&self) -> bool {
        self.secure_client_port.is_some()
            || self
                .auth_providers
                .iter()
                .any(|class| class == X509_PROVIDER)
    }
}

/// Kafka's replica selectors; the first is the default.
const LEADER_SELECTOR: &str = "org.apache.kafka.common.replica.LeaderSelector";
const RACK_SELECTOR: &str = "org.apache.kafka.common.replica.RackAwareReplicaSelector";

impl BrokerConfig {
    /// Are consumers sent to replicas in their own rack (KIP-392)?
    pub fn sends_to_racks(&self) -> bool {
        self.replica_selector_class.as_deref() == Some(RACK_SELECTOR)
    }
}

/// The rules between the settings of a broker.
pub(super) fn broker(values: &mut Values, broker: &BrokerConfig) {
    let mut rule = |holds: bool, name: &str, text: &str| {
        if !holds {
            blame(values, &format!("broker.{name}"), text);
        }
    };
    rule(
        broker.log_roll_time_millis() >= 1,
        "log.roll.ms",
        "log.roll.ms must be equal or greater than 1",
    );
    rule(
        broker.log_roll_jitter_millis() >= 0,
        "log.roll.jitter.ms",
        "log.roll.jitter.ms must be equal or greater than 0",
    );
    let retention = broker.log_retention_time_millis();
    rule(
        retention >= 1 || retention == -1,
        "log.retention.ms",
        "log.retention.ms must be unlimited (-1) or, equal or greater than 1",
    );
    rule(
        broker.replica_fetch_wait_max_ms <= broker.replica_socket_timeout_ms,
        "replica.fetch.wait.max.ms",
        "replica.socket.timeout.ms should always be at least replica.fetch.wait.max.ms to prevent unnecessary socket timeouts",
    );
    rule(
        i64::from(broker.replica_fetch_wait_max_ms) <= broker.replica_lag_time_max_ms,
        "replica.fetch.wait.max.ms",
        "replica.fetch.wait.max.ms should always be less than or equal to replica.lag.time.max.ms to prevent frequent changes in ISR",
    );
    rule(
        broker.group_min_session_timeout_ms <= broker.group_max_session_timeout_ms,
        "group.min.session.timeout.ms",
        "group.min.session.timeout.ms must not be above group.max.session.timeout.ms",
    );
    rule(
        broker.offsets_topic_compression_codec == 0,
        "offsets.topic.compression.codec",
        "offsets.topic.compression.codec must be 0: compressed offset records are not written yet",
    );
    rule(
        broker.max_connections_per_ip != 0 || !broker.max_connections_per_ip_overrides.is_empty(),
        "max.connections.per.ip",
        "max.connections.per.ip can be set to zero only if max.connections.per.ip.overrides property is set.",
    );
    rule(
        broker.replica_selector_class.is_none()
            || broker.sends_to_racks()
            || broker.replica_selector_class.as_deref() == Some(LEADER_SELECTOR),
        "replica.selector.class",
        "replica.selector.class: only Kafka's own RackAwareReplicaSelector and LeaderSelector are there, other Java classes cannot be loaded",
    );
    let both = values.said("broker.inter.broker.listener.name").is_some()
        && values
            .said("broker.security.inter.broker.protocol")
            .is_some();
    if both {
        let text = "Only one of inter.broker.listener.name and security.inter.broker.protocol should be set.";
        blame(values, "broker.inter.broker.listener.name", text);
    }
    compaction(values, broker);
    overrides(values, broker);
    ports(values, broker);
}

/// `log.cleanup.policy`: compacting is a promise that is not kept yet.
fn compaction(values: &mut Values, broker: &BrokerConfig) {
    if broker.log_cleanup_policy.iter().any(|p| p == "compact") {
        let text = format!("log.cleanup.policy: {NOT_COMPACTED}");
        warn(values, "broker.log.cleanup.policy", text);
    }
}

/// `max.connections.per.ip.overrides`: `address:count` pairs.
fn overrides(values: &mut Values, broker: &BrokerConfig) {
    const NAME: &str = "max.connections.per.ip.overrides";
    for entry in split_list(&broker.max_connections_per_ip_overrides) {
        let pair = entry.rsplit_once(':');
        match pair.and_then(|(host, count)| Some((host, count.trim().parse::<u32>().ok()?))) {
            None => {
                let text = format!("{NAME}: '{}' is not address:count", cut(&entry));
                blame(values, &format!("broker.{NAME}"), text);
            }
            Some((host, _)) if host.parse::<IpAddr>().is_err() => {
                let text = format!(
                    "{NAME}: '{}' is a name, only addresses have an effect",
                    cut(host)
                );
                warn(values, &format!("broker.{NAME}"), text);
            }
            Some(_) => {}
        }
    }
}

/// The deprecated ports are no Kafka `ConfigDef` ranges, but no port is outside of this one.
fn ports(values: &mut Values, broker: &BrokerConfig) {
    let ports = [
        ("port", Some(broker.port)),
        ("advertised.port", broker.advertised_port),
    ];
    for (name, port) in ports {
        if let Some(port) = port
            && u16::try_from(port).is_err()
        {
            let text = format!("{name}: {port} is no port (0-65535)");
            blame(values, &format!("broker.{name}"), text);
        }
    }
}

/// KRaft's settings stand for ours as far as they can (its controllers are our coordinators); where they
/// cannot, it is told.
pub(super) fn kraft(values: &mut Values, roles: Roles, broker: &BrokerConfig) {
    process_roles(values, roles, broker);
    let elsewhere = values.said("broker.zookeeper.connect").is_some();
    if !broker.controller_quorum_voters.is_empty() {
        let servers = |said: &Said| said.path.starts_with("coordinator.server.");
        let why = if roles.coordinator {
            let text = "has no effect: the lines server.N say who the coordinators are";
            values.iter().any(servers).then_some(text)
        } else if elsewhere {
            Some("has no effect: zookeeper.connect says where the cluster's state is")
        } else {
            Some("names no controllers here: ZooKeeper is looked for on their hosts, at clientPort")
        };
        if let Some(why) = why {
            let text = format!("controller.quorum.voters {why}");
            warn(values, "broker.controller.quorum.voters", text);
        }
    }
    if broker.controller_listener_names.is_some() {
        let text = "controller.listener.names: listeners of these names are not opened, there is no KRaft here";
        warn(values, "broker.controller.listener.names", text.to_owned());
    }
}

/// `process.roles` where something else says which halves run.
fn process_roles(values: &mut Values, roles: Roles, broker: &BrokerConfig) {
    const PATH: &str = "broker.process.roles";
    let node = values.said("node.roles").map(|said| said.origin.kind);
    let why = match node {
        Some(SourceKind::Implied) => "this command says what runs",
        Some(_) => "node.roles says what runs",
        None if values.said("broker.zookeeper.connect").is_some() => {
            "zookeeper.connect is said, and stands for a broker without KRaft"
        }
        None => return,
    };
    if broker.process_roles.is_empty() {
        return;
    }
    let outright = node.is_some_and(|kind| kind > SourceKind::Implied);
    if roles.broker && !outright && !broker.process_roles.iter().any(|role| role == "broker") {
        let text = format!(
            "process.roles asks for no broker, but {why}: for a coordinator alone, run tripod serve --roles coordinator"
        );
        blame(values, PATH, text);
    } else {
        warn(values, PATH, format!("process.roles has no effect: {why}"));
    }
}

/// `zookeeper.connect`: `host:port,host:port/chroot`.
pub(super) fn zookeeper_connect(values: &mut Values, text: &str) -> ZookeeperConnect {
    const PATH: &str = "broker.zookeeper.connect";
    let (servers, chroot) = match text.find('/') {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let before = values.problems.len();
    let servers = match HostPort::parse_list(servers, Some(2181)) {
        Ok(servers) => servers,
        Err(text) => {
            blame(values, PATH, format!("zookeeper.connect: {text}"));
            return ZookeeperConnect::default();
        }
    };
    if servers.is_empty() {
        blame(values, PATH, "zookeeper.connect names no server");
    }
    if let Some(bad) = servers.iter().find(|s| s.host.is_empty() || s.port == 0) {
        let text = format!("zookeeper.connect: '{bad}' is not host:port");
        blame(values, PATH, text);
    }
    let chroot = chroot.trim_end_matches('/');
    let wrong = |part: &str| {
        matches!(part, "" | "." | "..") || part.chars().any(|c| c.is_control() || c == '\u{fffd}')
    };
    if chroot.split('/').skip(1).any(wrong) {
        let text = format!(
            "zookeeper.connect: '{}' is no path of a znode, as the part after the servers has to be",
            cut(chroot)
        );
        blame(values, PATH, text);
    } else if chroot.contains(',') {
        let text = format!(
            "zookeeper.connect: the path of all servers is '{}'; it belongs after the last server only",
            cut(chroot)
        );
        warn(values, PATH, text);
    }
    if values.problems.len() > before {
        return ZookeeperConnect::default();
    }
    ZookeeperConnect {
        servers,
        chroot: chroot.to_owned(),
    }
}

/// `4lw.commands.whitelist`: ZooKeeper's words that nobody answers here are left out, with a warning.
pub(super) fn four_letter_words(
    values: &mut Values,
    roles: Roles,
    coordinator: &mut CoordinatorConfig,
) {
    const PATH: &str = "coordinator.4lw.commands.whitelist";
    if !roles.coordinator {
        return;
    }
    let words = std::mem::take(&mut coordinator.four_letter_words);
    let (known, others): (Vec<String>, Vec<String>) = words
        .into_iter()
        .partition(|word| word == "*" || FOUR_LETTER_WORDS.contains(&word.as_str()));
    coordinator.four_letter_words = known;
    let (unanswered, wrong): (Vec<String>, Vec<String>) = others
        .into_iter()
        .partition(|word| OTHER_WORDS.contains(&word.as_str()));
    if !unanswered.is_empty() {
        let text = format!(
            "4lw.commands.whitelist: {} are not answered here",
            unanswered.join(", ")
        );
        warn(values, PATH, text);
    }
    for word in wrong {
        let near = nearest(&word, FOUR_LETTER_WORDS.iter().copied());
        let hint = near.map_or(String::new(), |near| format!("; did you mean {near}?"));
        let text = format!(
            "4lw.commands.whitelist: '{}' is not a four-letter word{hint}",
            cut(&word)
        );
        blame(values, PATH, text);
    }
}

/// The rules between the settings of a coordinator, as in ZooKeeper's `QuorumPeerConfig`.
pub(super) fn coordinator(values: &mut Values, roles: Roles, settings: &CoordinatorConfig) {
    if !roles.coordinator {
        return;
    }
    let ticks = |said: i32, ticks: i64| match said {
        -1 => i64::from(settings.tick_time) * ticks,
        said => i64::from(said),
    };
    let min = ticks(settings.min_session_timeout, 2);
    if min > ticks(settings.max_session_timeout, 20) {
        let text = "minSessionTimeout must not be larger than maxSessionTimeout";
        blame(values, "coordinator.minSessionTimeout", text);
    }
    for class in &settings.auth_providers {
        if !PROVIDERS.contains(&class.as_str()) {
            let text = format!(
                "authProvider: {} cannot be loaded; those that are there are {}",
                cut(class),
                PROVIDERS.join(", ")
            );
            blame(values, "coordinator.authProvider", text);
        }
    }
    for (name, address) in [
        ("clientPortAddress", &settings.client_port_address),
        (
            "secureClientPortAddress",
            &settings.secure_client_port_address,
        ),
    ] {
        let host = address.as_deref().unwrap_or_default();
        if HostPort::parse(&format!("[{host}]:1"), None).is_err() {
            let text = format!("{name}: '{}' is no host", cut(host));
            blame(values, &format!("coordinator.{name}"), text);
        }
    }
    secure_client_port(values, settings);
}

/// What TLS needs; and what says nothing without it.
fn secure_client_port(values: &mut Values, settings: &CoordinatorConfig) {
    const PATH: &str = "coordinator.secureClientPort";
    if settings.secure_client_port.is_none() {
        let idle = values.iter().filter(|said| {
            let name = said.path.strip_prefix("coordinator.").unwrap_or_default();
            name.starts_with("ssl.")
                || matches!(
                    name,
                    "secureClientPortAddress" | "X509AuthenticationProvider.superUser"
                )
        });
        let idle = idle.map(|said| (said.path.clone(), said.path.replacen("coordinator.", "", 1)));
        let idle: Vec<_> = idle.collect();
        for (path, name) in idle {
            warn(
                values,
                &path,
                format!("{name} has no effect: secureClientPort is not said"),
            );
        }
        return;
    }
    if settings.ssl_key_store.is_none() {
        blame(
            values,
            PATH,
            "secureClientPort needs ssl.keyStore.location: there is no TLS without a key",
        );
    }
    let asks = !settings.ssl_client_auth().eq_ignore_ascii_case("none");
    if asks && settings.ssl_trust_store.is_none() {
        let text = "secureClientPort needs ssl.trustStore.location, unless ssl.clientAuth=none: nobody's \
                    certificate would be trusted";
        blame(values, PATH, text);
    }
}

/// What can be told only of a whole configuration.
pub(super) fn whole(values: &mut Values, config: &Config) {
    sockets(values, config);
    extended_types(values, config);
}

/// A session's id begins with its server's number, and 255 is what marks TTL nodes.
fn extended_types(values: &mut Values, config: &Config) {
    if config.roles.coordinator
        && config.coordinator.extended_types_enabled
        && config.myid.0 > EXTENDED_SERVER_ID_MAX
    {
        let text = format!(
            "extendedTypesEnabled is true but Server ID is too large. Cannot be larger than {EXTENDED_SERVER_ID_MAX}"
        );
        blame(values, "coordinator.extendedTypesEnabled", text);
    }
}

/// A place to listen at, and the setting that says so.
struct Socket {
    path: String,
    name: String,
    address: HostPort,
}

/// No two of this node's own sockets may be the same, and no two members either. What names hide (that
/// `node1` is 127.0.0.1) is found out when the port is taken.
fn sockets(values: &mut Values, config: &Config) {
    let own = own_sockets(config);
    for (index, socket) in own.iter().enumerate() {
        let same = |other: &&Socket| meet(&socket.address, &other.address);
        if let Some(other) = own[..index].iter().find(same) {
            let text = format!(
                "{} and {} are both on port {}",
                other.name, socket.name, socket.address.port
            );
            blame(values, &socket.path, text);
        }
    }
    for (index, member) in config.members.iter().enumerate() {
        let address = |member: &crate::config::Member| (member.host.clone(), member.quorum_port);
        let same = |other: &&crate::config::Member| address(other) == address(member);
        if let Some(other) = config.members[..index].iter().find(same) {
            let text = format!(
                "server.{} and server.{} have the same address {}:{}",
                other.id, member.id, member.host, member.quorum_port
            );
            blame(values, &format!("coordinator.server.{}", member.id), text);
        }
    }
}

fn own_sockets(config: &Config) -> Vec<Socket> {
    let mut own = Vec::new();
    let mut add = |path: &str, name: String, host: &str, port: u16| {
        own.push(Socket {
            path: path.to_owned(),
            name,
            address: HostPort::new(host, port),
        });
    };
    if config.roles.coordinator {
        let client = &config.coordinator;
        let host = client.client_port_address.as_deref().unwrap_or_default();
        let port = u16::try_from(client.client_port).unwrap_or(0);
        add("coordinator.clientPort", "clientPort".into(), host, port);
        if let Some(port) = client.secure_client_port {
            let host = client.secure_client_port_address.as_deref();
            let (name, port) = ("secureClientPort", u16::try_from(port).unwrap_or(0));
            let path = format!("coordinator.{name}");
            add(&path, name.into(), host.unwrap_or_default(), port);
        }
        if let Some(member) = config.members.iter().find(|m| m.id == config.myid) {
            let (name, port) = (format!("server.{}", member.id), member.quorum_port);
            let host = if client.quorum_listen_on_all_ips {
                ""
            } else {
                &member.host
            };
            add(&format!("coordinator.{name}"), name, host, port);
        }
    }
    for endpoint in &config.listeners.bound {
        let HostPort { host, port } = &endpoint.address;
        add(
            "broker.listeners",
            format!("listener {}", endpoint.name),
            host,
            *port,
        );
    }
    if config.http.enable && config.http_port_said {
        let port = u16::try_from(config.http.port).unwrap_or(0);
        add("http.port", "http.port".into(), &config.http.host, port);
    }
    own
}

/// Would the system refuse to listen at both?
fn meet(one: &HostPort, other: &HostPort) -> bool {
    // An empty host is every interface of IPv4; `::` is every one of both families.
    let covers = |wide: &str, host: &str| match wide {
        "::" => true,
        "" | "0.0.0.0" => host == "::" || !host.contains(':'),
        _ => wide == host,
    };
    one.port == other.port
        && one.port != 0
        && (covers(&one.host, &other.host) || covers(&other.host, &one.host))
}

/// Adds a warning at the place that said the setting.
fn warn(values: &mut Values, path: &str, text: String) {
    let warning = match values.said(path) {
        Some(said) => Problem::at(&said.origin, text),
        None => Problem::general(text),
    };
    values.warnings.push(warning);
}

#[cfg(test)]
mod tests;
