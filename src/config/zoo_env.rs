//! `ZOO_*` variables of ZooKeeper's image.
//!
//! Pure. The image's entry point writes a `zoo.cfg` from its variables where there is none, and the file
//! `myid` where there is none: a file is stronger than what is said here.

use std::collections::BTreeMap;

use crate::config::effects::lookup;
use crate::config::foreign;
use crate::config::raw::{Origin, Problem, SourceKind, Values, cut, nearest};
use crate::config::zoo_cfg;

/// A variable and the key that it becomes.
const KEYS: &[(&str, &str)] = &[
    ("ZOO_MY_ID", MYID),
    ("ZOO_SERVER_ID", MYID),
    ("ZOO_DATA_DIR", "dataDir"),
    ("ZOO_DATA_LOG_DIR", "dataLogDir"),
    ("ZOO_TICK_TIME", "tickTime"),
    ("ZOO_INIT_LIMIT", "initLimit"),
    ("ZOO_SYNC_LIMIT", "syncLimit"),
    ("ZOO_PORT_NUMBER", "clientPort"),
    ("ZOO_MAX_CLIENT_CNXNS", "maxClientCnxns"),
    ("ZOO_MAX_CNXNS", "maxCnxns"),
    ("ZOO_STANDALONE_ENABLED", "standaloneEnabled"),
    ("ZOO_RECONFIG_ENABLED", "reconfigEnabled"),
    ("ZOO_SKIP_ACL", "skipACL"),
    ("ZOO_LISTEN_ALLIPS_ENABLED", "quorumListenOnAllIPs"),
    ("ZOO_ADMINSERVER_ENABLED", "admin.enableServer"),
    ("ZOO_ENABLE_ADMIN_SERVER", "admin.enableServer"),
    ("ZOO_ADMIN_SERVER_PORT_NUMBER", "admin.serverPort"),
    ("ZOO_4LW_COMMANDS_WHITELIST", "4lw.commands.whitelist"),
    ("ZOO_AUTOPURGE_PURGEINTERVAL", "autopurge.purgeInterval"),
    ("ZOO_AUTOPURGE_SNAPRETAINCOUNT", "autopurge.snapRetainCount"),
    ("ZOO_AUTOPURGE_INTERVAL", "autopurge.purgeInterval"),
    ("ZOO_AUTOPURGE_RETAIN_COUNT", "autopurge.snapRetainCount"),
    ("ZOO_PRE_ALLOC_SIZE", "preAllocSize"),
    ("ZOO_SNAPCOUNT", "snapCount"),
];

const MYID: &str = "myid";
/// Keys that stand in each generated file, most of all with the image's defaults: no effect, no word.
const GENERATED: &[&str] = &[
    "dataLogDir",
    "autopurge.purgeInterval",
    "autopurge.snapRetainCount",
    "reconfigEnabled",
    "preAllocSize",
];
/// Of the scripts of an image or of a JVM.
const SILENT: &[(&str, &str)] = &[
    ("ZOO_CONF_DIR", ""),
    ("ZOO_CONF_FILE", ""),
    ("ZOO_LOG_DIR", ""),
    ("ZOO_LOG_LEVEL", ""),
    ("ZOO_LOG4J_PROP", ""),
    ("ZOO_HEAP_SIZE", ""),
    ("ZOO_BASE_DIR", ""),
    ("ZOO_BIN_DIR", ""),
    ("ZOO_VOLUME_DIR", ""),
    ("ZOO_DAEMON_*", ""),
    ("ZOO_NOEXEC", ""),
    ("ZOO_DATADIR_AUTOCREATE_DISABLE", ""),
    ("ZOO_USER", ""),
    ("ZOO_VERSION", ""),
];

/// Takes what the variables say. `has_file`: there is a `zoo.cfg`.
pub fn read(variables: &[(String, String)], has_file: bool, values: &mut Values) {
    let (mut members, mut providers) = (BTreeMap::new(), zoo_cfg::Providers::default());
    for (name, value) in variables {
        if !name.starts_with("ZOO_")
            || lookup(SILENT, name).is_some()
            || foreign::advice(name).is_some()
            || is_service_link(name, value)
        {
            continue;
        }
        let origin = Origin::named(SourceKind::ZooVariable, format!("variable {}", cut(name)));
        let key = KEYS.iter().find(|(variable, _)| variable == name);
        let key = key.map(|(_, key)| *key);
        if key.is_none() && !matches!(name.as_str(), "ZOO_SERVERS" | "ZOO_CFG_EXTRA") {
            let known = KEYS.iter().map(|(variable, _)| *variable);
            let near = nearest(name, known.chain(["ZOO_SERVERS", "ZOO_CFG_EXTRA"]));
            let hint = near.map_or(String::new(), |near| format!("; the nearest is {near}"));
            let text = format!("has no effect: no setting is meant by it{hint}");
            values.warnings.push(Problem::at(&origin, text));
            continue;
        }
        // The image does not look at them beside a file; but the file myid is another one.
        if has_file && key != Some(MYID) {
            let text = "has no effect, as there is a zoo.cfg";
            values.warnings.push(Problem::at(&origin, text));
            continue;
        }
        let pairs = match key {
            Some(key) if GENERATED.contains(&key) => Vec::new(),
            Some(key) => vec![(key.to_owned(), value.clone())],
            None if name == "ZOO_SERVERS" => servers(value),
            None => pairs(value),
        };
        for (key, value) in pairs {
            let before = (&mut members, &mut providers);
            zoo_cfg::line(&key, value, &origin, before, values);
        }
    }
    providers.say(values);
}

/// `server.1=a:2888:3888;2181 server.2=…`, or, as Bitnami's image has it, `a:2888:3888::1,…`.
fn servers(text: &str) -> Vec<(String, String)> {
    if text.contains('=') {
        return pairs(text);
    }
    let items = text.split([',', ';', ' ']).map(str::trim);
    let items = items.filter(|item| !item.is_empty()).zip(1..);
    items
        .map(|(item, place)| match item.rsplit_once("::") {
            Some((address, id)) => (format!("server.{id}"), address.to_owned()),
            None => (format!("server.{place}"), item.to_owned()),
        })
        .collect()
}

/// `key=value` words. One without a value is told of as an unknown key.
fn pairs(text: &str) -> Vec<(String, String)> {
    text.split_whitespace()
        .map(|word| {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            (key.to_owned(), value.to_owned())
        })
        .collect()
}

/// Kubernetes makes such variables of a Service named `zoo`.
fn is_service_link(name: &str, value: &str) -> bool {
    name.starts_with("ZOO_SERVICE_")
        || name.starts_with("ZOO_PORT_") && name != "ZOO_PORT_NUMBER"
        || name.ends_with("_PORT") && value.contains("://")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(variables: &[(&str, &str)], has_file: bool) -> (Vec<String>, Vec<String>) {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let variables: Vec<_> = variables.iter().map(owned).collect();
        let mut values = Values::default();
        read(&variables, has_file, &mut values);
        let said = values
            .iter()
            .map(|said| format!("{}={}", said.path, said.value))
            .collect();
        let told = values.warnings.iter().chain(&values.problems);
        (said, told.map(ToString::to_string).collect())
    }

    #[test]
    fn variables_of_zookeepers_image_are_a_zoo_cfg() {
        let variables = [
            ("ZOO_MY_ID", "2"),
            (
                "ZOO_SERVERS",
                "server.1=a:2888:3888;2181 server.2=b:2888:3888;2181",
            ),
            ("ZOO_TICK_TIME", "1000"),
            ("ZOO_4LW_COMMANDS_WHITELIST", "srvr, ruok"),
            ("ZOO_STANDALONE_ENABLED", "false"),
            (
                "ZOO_CFG_EXTRA",
                "metricsProvider.httpPort=7000 extendedTypesEnabled=true",
            ),
            ("ZOO_AUTOPURGE_PURGEINTERVAL", "0"),
            ("ZOO_LOG_DIR", "/logs"),
            ("ZOO_TICKTIME", "5"),
            ("ZOO_PORT_2181_TCP_ADDR", "10.0.0.1"),
        ];
        let (said, told) = read_all(&variables, false);
        assert_eq!(
            said,
            [
                "coordinator.4lw.commands.whitelist=srvr, ruok",
                "coordinator.extendedTypesEnabled=true",
                "coordinator.myid=2",
                "coordinator.server.1=a:2888:3888;2181",
                "coordinator.server.2=b:2888:3888;2181",
                "coordinator.standaloneEnabled=false",
                "coordinator.tickTime=1000",
            ]
        );
        assert_eq!(
            told,
            [
                "variable ZOO_CFG_EXTRA: metricsProvider.httpPort has no effect: metrics are on the HTTP port under /metrics",
                "variable ZOO_TICKTIME: has no effect: no setting is meant by it; the nearest is ZOO_TICK_TIME",
            ]
        );
    }

    #[test]
    fn a_file_is_stronger_than_the_images_variables() {
        let variables = [("ZOO_MY_ID", "2"), ("ZOO_TICK_TIME", "1000")];
        let (said, told) = read_all(&variables, true);
        assert_eq!(said, ["coordinator.myid=2"]);
        assert_eq!(
            told,
            ["variable ZOO_TICK_TIME: has no effect, as there is a zoo.cfg"]
        );
    }

    #[test]
    fn servers_are_read_as_either_image_spells_them() {
        let two = [
            "coordinator.server.1=a:1:2".to_owned(),
            "coordinator.server.3=b:1:2".to_owned(),
        ];
        for text in [
            "server.1=a:1:2 server.3=b:1:2",
            "a:1:2::1,b:1:2::3",
            "a:1:2::1;b:1:2::3",
        ] {
            assert_eq!(
                read_all(&[("ZOO_SERVERS", text)], false),
                (two.to_vec(), vec![]),
                "{text}"
            );
        }
        let (said, told) = read_all(&[("ZOO_SERVERS", "server.1=a:1:2 server.1=b:1:2")], false);
        assert_eq!(said.len(), 1);
        assert_eq!(
            told,
            ["variable ZOO_SERVERS: server.1 is there twice: each member is named once"]
        );
    }
}
