//! From what was said to a [`Config`]: precedence, ranges, and the rules between settings.
//!
//! Pure. Everything that is wrong ends in `Values::problems`; nothing here stops at the first one.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::common::ids::{BrokerId, MemberId};
use crate::common::net::HostPort;
use crate::common::units;
use crate::config::keys::{self, Key};
use crate::config::raw::{self, Origin, Problem, Said, SourceKind, Values, cut, nearest};
use crate::config::value::Kind;
use crate::config::{
    BrokerConfig, Config, CoordinatorConfig, HttpConfig, Listeners, LoggingConfig, Logins, Member,
    NodeConfig, Roles, ZookeeperConnect, checks, effects, zoo_cfg,
};

/// What the resolver has to know of this machine and of the command line.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// This machine's name.
    pub hostname: String,
    /// Was a `zoo.cfg` given?
    pub zoo_cfg: bool,
    /// Was a `server.properties` given?
    pub server_properties: bool,
    /// Could a file not be read? Then what is missing may well be in it.
    pub unread: bool,
    /// The file `dataDir/myid`, and its text where it can be read.
    pub myid: Option<(Origin, Result<String, String>)>,
}

/// Notes what a source said. Our own sources may use human units, and may name only what exists: by its
/// path, or by the name that Kafka or ZooKeeper gives it.
pub fn say(values: &mut Values, mut said: Said) {
    if said.path.starts_with("server.") {
        said.path = format!("coordinator.{}", said.path);
    }
    if said.path.starts_with("coordinator.server.") {
        values.say(said);
        return;
    }
    let own_name = || {
        keys::broker()
            .chain(keys::COORDINATOR)
            .find(|key| key.name == said.path)
    };
    let key = keys::all().find(|key| key.path() == said.path);
    let Some(key) = key.or_else(own_name) else {
        let text = format!("{} is unknown{}", cut(&said.path), advice(&said.path));
        values.problems.push(Problem::at(&said.origin, text));
        return;
    };
    said.path = key.path();
    if matches!(
        said.origin.kind,
        SourceKind::Yaml | SourceKind::TripodVariable | SourceKind::Flag
    ) {
        said.value = humane(key, said.value);
    }
    values.say(said);
}

/// What may be meant by an unknown path: the same name in its own section, else the nearest.
fn advice(path: &str) -> String {
    let refused = path.strip_prefix("coordinator.").unwrap_or(path);
    if let Some(why) = effects::lookup(zoo_cfg::REFUSED, refused) {
        return format!(": {why}");
    }
    let name = path.split_once('.').map_or(path, |(_, name)| name);
    let moved = keys::all().filter(|key| key.name == name || key.name == path);
    let moved: Vec<String> = moved.map(Key::written).collect();
    // Of several sections that have the name, the one that is spelt most alike.
    let alike = nearest(path, moved.iter().map(String::as_str)).map(str::to_owned);
    let meant = alike.or_else(|| moved.first().cloned()).or_else(|| {
        let mut known: Vec<String> = keys::all().map(Key::written).collect();
        let own = keys::broker().chain(keys::COORDINATOR);
        known.extend(own.map(|key| key.name.to_owned()));
        nearest(path, known.iter().map(String::as_str)).map(str::to_owned)
    });
    meant.map_or(String::new(), |meant| format!("; did you mean {meant}?"))
}

/// `64MiB` and `7d` as the plain numbers that Kafka knows.
fn humane(key: &Key, value: String) -> String {
    if !matches!(key.kind, Kind::Int | Kind::Long) {
        return value;
    }
    let number = if key.name.ends_with("ms") || key.name.ends_with("Time") {
        units::parse_millis(&value)
    } else if key.name.ends_with("bytes") || key.name.ends_with("maxbuffer") {
        units::parse_bytes(&value)
    } else {
        None
    };
    number.map_or(value, |number| number.to_string())
}

/// Takes what a `server.properties` says. As in Kafka, what is unknown there is a warning.
pub fn server_properties(file: &std::sync::Arc<str>, text: &str, values: &mut Values) {
    for property in crate::config::properties::parse(text) {
        let origin = Origin::line(SourceKind::Properties, file, property.line);
        let known = keys::broker().find(|key| key.name == property.key);
        match known {
            Some(key) => values.say(Said {
                path: key.path(),
                value: property.value,
                origin,
            }),
            None => values
                .warnings
                .push(Problem::at(&origin, unknown_property(&property.key))),
        }
    }
}

/// Takes a pair that overrides one of `server.properties`: what is unknown is a warning, too.
pub fn say_property(values: &mut Values, said: Said) {
    let name = said.path.strip_prefix("broker.").unwrap_or(&said.path);
    if keys::broker().any(|key| key.name == name) {
        say(values, said);
    } else {
        let warning = Problem::at(&said.origin, unknown_property(name));
        values.warnings.push(warning);
    }
}

fn unknown_property(name: &str) -> String {
    if name.starts_with("listener.name.") {
        return format!(
            "{} has no effect: only PLAINTEXT listeners are supported yet",
            cut(name)
        );
    }
    let near = nearest(name, keys::broker().map(|key| key.name));
    let hint = near.map_or(String::new(), |near| format!("; the nearest is {near}"));
    format!("{} is unknown and has no effect{hint}", cut(name))
}

/// Chooses, checks and completes. The problems are in `values` afterwards; with any of them the
/// configuration must not be used.
pub fn resolve(values: &mut Values, facts: &Facts) -> Config {
    refuse(values);
    let node = NodeConfig::take(values);
    let mut broker = BrokerConfig::take(values);
    let mut coordinator = CoordinatorConfig::take(values);
    let http = HttpConfig::take(values);
    let log = LoggingConfig::take(values);
    check_untyped(values);

    let roles = roles(values, facts, &node, &broker);
    let voters = voters(values, &broker);
    let members = if roles.coordinator {
        members(values, &voters)
    } else {
        Vec::new()
    };
    broker.broker_id = broker_id(values, facts, roles, &node, &broker, &coordinator, &members);
    let myid = myid(values, facts, roles, &node, &broker, &coordinator, &members);
    checks::four_letter_words(values, roles, &mut coordinator);
    checks::coordinator(values, roles, &coordinator);
    if let Some(member) = members.iter().find(|member| member.id == myid)
        && let Some(client) = &member.client
        && values.said("coordinator.clientPort").is_none()
    {
        coordinator.client_port = i32::from(client.port);
    }
    let zookeeper = zookeeper(
        values,
        facts,
        roles,
        &broker,
        &coordinator,
        &members,
        &voters,
    );
    checks::kraft(values, roles, &broker);
    let listeners = listeners(values, facts, roles, &broker);
    if roles.broker {
        checks::broker(values, &broker);
    }
    let log_dirs = log_dirs(values, &node, &broker);
    let coordinator_dir = coordinator_dir(values, facts, roles, &node, &coordinator);
    let config = Config {
        roles,
        broker_id: BrokerId(broker.broker_id),
        myid,
        listeners,
        log_dirs,
        coordinator_dir,
        // A file with one server line is ZooKeeper's standalone mode, unless it is told otherwise.
        members: if members.len() > 1 || !coordinator.standalone_enabled {
            members
        } else {
            Vec::new()
        },
        zookeeper,
        logins: Logins::default(),
        statics: statics(values),
        http_port_said: values
            .said("http.port")
            .is_some_and(|said| said.origin.kind > SourceKind::Implied),
        node,
        broker,
        coordinator,
        http,
        log,
    };
    checks::whole(values, &config);
    config
}

/// Reports values of rows that have no field, and what has no effect.
fn check_untyped(values: &mut Values) {
    let untyped = keys::REPORTED.iter().filter_map(|key| {
        let said = values.said(&key.path())?;
        let problem = raw::check(key, &said.value).err()?;
        Some(Problem::at(&said.origin, problem))
    });
    let problems: Vec<Problem> = untyped.collect();
    values.problems.extend(problems);
    let (mut idle, mut defaults) = (Vec::new(), Vec::new());
    for key in keys::broker() {
        let (Some(why), Some(said)) = (key.without_effect(), values.said(&key.path())) else {
            continue;
        };
        // What a command implies disappoints nobody.
        let Ok(text) = raw::check(key, &said.value) else {
            continue;
        };
        if said.origin.kind == SourceKind::Implied {
            continue;
        }
        if Some(text.as_str()) == key.default && !effects::promises(key.name) {
            defaults.push(key.name);
        } else {
            let text = format!("{} has no effect: {why}", key.name);
            idle.push(Problem::at(&said.origin, text));
        }
    }
    values.warnings.extend(idle);
    // The file that comes with Kafka says many defaults: one line is enough for all of them.
    if !defaults.is_empty() {
        let text = format!(
            "no effect, and Kafka's default anyway: {} (tripod serve --list-settings says why)",
            defaults.join(", ")
        );
        values.warnings.push(Problem::general(text));
    }
}

fn refuse(values: &mut Values) {
    let refused = keys::REFUSED.iter().filter_map(|key| {
        let said = values.said(&key.path())?;
        let problem = raw::check(key, &said.value).err()?;
        Some(Problem::at(&said.origin, problem))
    });
    let problems: Vec<Problem> = refused.collect();
    values.problems.extend(problems);
}

/// The broker settings that were said, by Kafka's name.
fn statics(values: &Values) -> BTreeMap<String, String> {
    keys::broker()
        .filter_map(|key| {
            let said = values.said(&key.path())?;
            let text = raw::check(key, &said.value).ok()?;
            Some((key.name.to_owned(), text))
        })
        .collect()
}

/// Which halves are asked for: said outright, or as the variables of Kafka's images and the files imply.
fn roles(values: &mut Values, facts: &Facts, node: &NodeConfig, broker: &BrokerConfig) -> Roles {
    let has = |list: &[String], role: &str| list.iter().any(|item| item == role);
    let zookeeper = values.said("broker.zookeeper.connect").is_some();
    if values.said("node.roles").is_some() {
        if node.roles.is_empty() {
            let text = "node.roles names nothing to run: say coordinator, broker, or both";
            blame(values, "node.roles", text);
        }
        return Roles {
            coordinator: has(&node.roles, "coordinator"),
            broker: has(&node.roles, "broker"),
        };
    }
    // Kafka's default is the empty list, and means ZooKeeper.
    let kraft = values
        .said("broker.process.roles")
        .map(|said| !said.value.trim().is_empty());
    if kraft == Some(false) && !zookeeper {
        let text = "process.roles is empty, which means ZooKeeper, but zookeeper.connect is not said: leave \
                    it out, or say broker, controller, or both";
        blame(values, "broker.process.roles", text);
    }
    if kraft == Some(true) && !zookeeper {
        return Roles {
            coordinator: has(&broker.process_roles, "controller"),
            broker: has(&broker.process_roles, "broker"),
        };
    }
    // Flags for a JVM say how, but not what runs.
    let section = |name: &str| {
        let mut all = values.iter();
        all.any(|said| said.path.starts_with(name) && said.origin.kind != SourceKind::JvmFlag)
    };
    // Whoever says these runs ZooKeeper's image, which is no broker.
    let zoo_variables = values.iter().any(|said| {
        said.origin.kind == SourceKind::ZooVariable
            && (said.path == "coordinator.myid" || said.path.starts_with("coordinator.server."))
    });
    let zoo_cfg = facts.zoo_cfg || zoo_variables;
    let coordinator = zoo_cfg || section("coordinator.");
    let from_kafka = values
        .said("broker.zookeeper.connect")
        .is_some_and(|said| said.origin.kind == SourceKind::KafkaVariable);
    Roles {
        coordinator: !from_kafka && (coordinator || !zookeeper),
        broker: !zoo_cfg || facts.server_properties || section("broker."),
    }
}

/// `controller.quorum.voters`: who would be Kafka's controllers are our coordinators.
fn voters(values: &mut Values, broker: &BrokerConfig) -> Vec<Member> {
    let mut voters = Vec::new();
    for item in &broker.controller_quorum_voters {
        let voter = item.split_once('@').and_then(|(id, address)| {
            let id = id.trim().parse::<u8>().ok()?;
            Some((id, HostPort::parse(address, None).ok()?))
        });
        match voter {
            Some((id, address)) => voters.push(Member {
                id: MemberId(u64::from(id)),
                host: address.host,
                quorum_port: address.port,
                election_port: address.port,
                client: None,
            }),
            None => {
                let text = format!(
                    "'{}' is not id@host:port with an id from 0 to 255",
                    cut(item)
                );
                blame(values, "broker.controller.quorum.voters", text);
            }
        }
    }
    if voters.is_empty() && broker.controller_quorum_bootstrap_servers.len() > 1 {
        let text =
            "several controllers need their ids: say controller.quorum.voters=id@host:port,…";
        blame(values, "broker.controller.quorum.bootstrap.servers", text);
    }
    voters
}

fn members(values: &mut Values, voters: &[Member]) -> Vec<Member> {
    let mut members = Vec::new();
    let mut problems = Vec::new();
    for said in values.iter() {
        if let Some(id) = said.path.strip_prefix("coordinator.server.") {
            match zoo_cfg::member(id, &said.value) {
                Ok(member) => members.push(member),
                Err(text) => problems.push(Problem::at(&said.origin, text)),
            }
        }
    }
    let broken = !problems.is_empty();
    values.problems.extend(problems);
    if members.is_empty() {
        members = voters.to_vec();
    }
    members.sort_by_key(|member| member.id);
    let distinct = members.windows(2).all(|pair| pair[0].id != pair[1].id);
    if !distinct {
        let text = "two servers have the same id";
        values.problems.push(Problem::general(text));
    }
    if !broken && !matches!(members.len(), 0 | 1 | 3 | 5 | 7) {
        let text = format!(
            "an ensemble has 1, 3, 5 or 7 servers, not {}",
            members.len()
        );
        values.problems.push(Problem::general(text));
    }
    members
}

fn broker_id(
    values: &mut Values,
    facts: &Facts,
    roles: Roles,
    node: &NodeConfig,
    broker: &BrokerConfig,
    coordinator: &CoordinatorConfig,
    members: &[Member],
) -> i32 {
    let (id, kraft) = (broker.broker_id, broker.node_id);
    if id >= 0 && kraft >= 0 && id != kraft {
        let text = format!("broker.id ({id}) and node.id ({kraft}) differ");
        blame(values, "broker.node.id", text);
    }
    for (path, id) in [("broker.broker.id", id), ("broker.node.id", kraft)] {
        if id < -1 {
            blame(values, path, format!("{id} cannot be a broker's id"));
        }
    }
    let said = [Some(id), Some(kraft), node.id];
    if let Some(id) = said.into_iter().flatten().find(|id| *id >= 0) {
        return id;
    }
    // What is wrong has been told; -1 is Kafka's way to say nothing.
    let wrong = ["broker.broker.id", "broker.node.id", "node.id"]
        .iter()
        .filter_map(|path| values.said(path))
        .any(|said| said.value.trim() != "-1");
    let elsewhere = values.said("broker.zookeeper.connect").is_some();
    if !wrong && roles.broker && roles.coordinator && members.len() > 1 {
        let text = "broker.id is not said; give each node that is a coordinator, too, its own";
        missing(values, facts, text);
    }
    if !wrong && roles.broker && elsewhere && !roles.coordinator {
        if broker.broker_id_generation_enable {
            return -1;
        }
        let text = "broker.id is not said, and broker.id.generation.enable is false: give each broker its own";
        missing(values, facts, text);
    }
    coordinator.myid.unwrap_or(1)
}

fn myid(
    values: &mut Values,
    facts: &Facts,
    roles: Roles,
    node: &NodeConfig,
    broker: &BrokerConfig,
    coordinator: &CoordinatorConfig,
    members: &[Member],
) -> MemberId {
    let kraft = (values.said("broker.process.roles").is_some() || node.id.is_some())
        .then_some(broker.broker_id);
    if !roles.coordinator {
        return MemberId(1);
    }
    let from_file = facts.myid.as_ref().map(|(origin, text)| {
        let id = text.clone().and_then(|text| zoo_cfg::myid(&text));
        id.map_err(|text| Problem::at(origin, text))
    });
    // ZooKeeper's image writes the file from its variable only where there is none.
    let from_image = values
        .said("coordinator.myid")
        .is_some_and(|said| said.origin.kind == SourceKind::ZooVariable);
    let id = match (coordinator.myid, from_file) {
        (Some(_), Some(Ok(id))) if from_image => Some(id),
        (Some(said), _) => Some(said),
        (None, Some(Ok(id))) => Some(id),
        (None, Some(Err(problem))) => {
            values.problems.push(problem);
            return MemberId(1);
        }
        (None, None) => node.id.or(kraft),
    };
    // Also lines that are wrong count: they say that there is more than one server.
    let servers = values
        .iter()
        .filter(|said| said.path.starts_with("coordinator.server."))
        .count();
    let id = match id {
        Some(id) => id,
        // A bad one has been told already.
        None if values.said("coordinator.myid").is_some() => return MemberId(1),
        None if servers.max(members.len()) > 1 => {
            let text = "myid is missing: it says which of the servers this is, in the file dataDir/myid or with --myid";
            missing(values, facts, text);
            return MemberId(1);
        }
        // Alone, and nobody says a number: the only server line's, else the broker's own.
        None => return members.first().map_or(MemberId(1), |member| member.id),
    };
    let id = MemberId(u64::try_from(id).unwrap_or(0));
    if id.0 > 255 {
        let text = format!("{id} cannot be a coordinator's id: it goes from 0 to 255");
        values.problems.push(Problem::general(text));
    } else if !members.is_empty()
        && !members.iter().any(|member| member.id == id)
        && values.said(&format!("coordinator.server.{id}")).is_none()
    {
        let text = format!("myid is {id}, but there is no server.{id}");
        values.problems.push(Problem::general(text));
    }
    id
}

fn zookeeper(
    values: &mut Values,
    facts: &Facts,
    roles: Roles,
    broker: &BrokerConfig,
    coordinator: &CoordinatorConfig,
    members: &[Member],
    voters: &[Member],
) -> ZookeeperConnect {
    if let Some(text) = broker.zookeeper_connect.as_deref() {
        return checks::zookeeper_connect(values, text);
    }
    let client_port = u16::try_from(coordinator.client_port).unwrap_or(2181);
    let ensemble = if members.is_empty() { voters } else { members };
    let servers = if !roles.coordinator || members.len() > 1 {
        ensemble
            .iter()
            .map(|member| client_address(member, client_port))
            .collect()
    } else {
        let host = coordinator
            .client_port_address
            .clone()
            .filter(|host| !matches!(host.as_str(), "" | "0.0.0.0" | "::"))
            .unwrap_or_else(|| "localhost".to_owned());
        vec![HostPort::new(host, client_port)]
    };
    if roles.broker && servers.is_empty() {
        let text = "Missing required configuration `zookeeper.connect` which has no default value.";
        missing(values, facts, text);
    }
    if roles.broker && servers.iter().any(|server| server.port == 0) {
        let text =
            "a broker cannot find a coordinator whose port the system chooses: say clientPort";
        blame(values, "coordinator.clientPort", text);
    }
    ZookeeperConnect {
        servers,
        chroot: String::new(),
    }
}

/// Where a member serves clients.
fn client_address(member: &Member, client_port: u16) -> HostPort {
    match &member.client {
        Some(client) if matches!(client.host.as_str(), "" | "0.0.0.0" | "::") => {
            HostPort::new(member.host.clone(), client.port)
        }
        Some(client) => client.clone(),
        None => HostPort::new(member.host.clone(), client_port),
    }
}

fn listeners(values: &mut Values, facts: &Facts, roles: Roles, broker: &BrokerConfig) -> Listeners {
    if !roles.broker {
        let kraft = values.said("broker.process.roles").is_some();
        if kraft && values.said("broker.advertised.listeners").is_some() {
            let text = "advertised.listeners must not be set when process.roles is controller";
            blame(values, "broker.advertised.listeners", text);
        }
    } else {
        let mut broker = broker.clone();
        // The listeners of controllers are said to belong to them even where a file forgets to.
        if broker.controller_listener_names.is_none() {
            broker.controller_listener_names = Some("CONTROLLER".to_owned());
        }
        match Listeners::resolve(&broker, &facts.hostname) {
            Ok(listeners) => return listeners,
            Err(problems) => {
                for (name, text) in problems {
                    blame(values, &format!("broker.{name}"), text);
                }
            }
        }
    }
    Listeners {
        bound: Vec::new(),
        advertised: Vec::new(),
        inter_broker: String::new(),
    }
}

fn log_dirs(values: &mut Values, node: &NodeConfig, broker: &BrokerConfig) -> Vec<PathBuf> {
    let said = values.said("broker.log.dir").is_some();
    let dirs = match (&broker.log_dirs, &node.data_dir) {
        (Some(dirs), _) => crate::config::value::split_list(dirs),
        (None, Some(dir)) if !said => return vec![PathBuf::from(dir).join("broker")],
        (None, _) => crate::config::value::split_list(&broker.log_dir),
    };
    if dirs.is_empty() {
        let text = "At least one log directory must be defined via log.dirs or log.dir.";
        blame(values, "broker.log.dirs", text);
    }
    dirs.into_iter().map(PathBuf::from).collect()
}

fn coordinator_dir(
    values: &mut Values,
    facts: &Facts,
    roles: Roles,
    node: &NodeConfig,
    coordinator: &CoordinatorConfig,
) -> PathBuf {
    match (&coordinator.data_dir, &node.data_dir) {
        (Some(dir), _) => PathBuf::from(dir),
        (None, Some(dir)) => PathBuf::from(dir).join("coordinator"),
        (None, None) => {
            if facts.zoo_cfg && roles.coordinator {
                missing(values, facts, "dataDir is not set");
            }
            PathBuf::from("/tmp/zookeeper")
        }
    }
}

/// Adds a problem about something that nobody says, unless it may be in a file that could not be read.
fn missing(values: &mut Values, facts: &Facts, text: &str) {
    if !facts.unread {
        values.problems.push(Problem::general(text));
    }
}

/// Adds a problem at the place that said the setting, if one did.
pub(super) fn blame(values: &mut Values, path: &str, text: impl Into<String>) {
    let problem = match values.said(path) {
        Some(said) => Problem::at(&said.origin, text),
        None => Problem::general(text),
    };
    values.problems.push(problem);
}
