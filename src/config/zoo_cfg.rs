//! `zoo.cfg` and `myid`: ZooKeeper's own configuration files.
//!
//! Pure. Keys that change something here become `coordinator.*` settings; keys that cannot are answered
//! with one line that says why, because a file of a real ensemble should just work.

use std::sync::Arc;

use crate::common::net::HostPort;
use crate::config::Member;
use crate::config::keys;
use crate::config::properties;
use crate::config::raw::{Origin, Problem, Said, SourceKind, Values, cut, nearest};
use crate::config::resolve;

/// Keys of ZooKeeper 3.6 that have no effect here, and why. A `*` stands for any ending.
const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("dataLogDir", "state and log live together in dataDir"),
    (
        "autopurge.*",
        "old snapshots are removed without being asked",
    ),
    ("preAllocSize", "the log is not preallocated"),
    ("electionAlg", "members elect by Raft"),
    ("peerType", "every member votes"),
    ("group.*", "every member has one vote"),
    ("weight.*", "every member has one vote"),
    (
        "cnxTimeout",
        "connections between members have limits of their own",
    ),
    ("standaloneEnabled", "one member alone is always possible"),
    ("reconfigEnabled", "members are fixed by the configuration"),
    (
        "dynamicConfigFile",
        "members are fixed by the configuration",
    ),
    (
        "extendedTypesEnabled",
        "containers and TTL nodes are not supported yet",
    ),
    (
        "metricsProvider.*",
        "metrics are on the HTTP port under /metrics",
    ),
    (
        "localSessionsEnabled",
        "every session is known to all members",
    ),
    (
        "localSessionsUpgradingEnabled",
        "every session is known to all members",
    ),
    ("observerMasterPort", "there are no observers"),
    ("syncEnabled", "there are no observers"),
    ("multiAddress.*", "a member has one address"),
    ("maxResponseCacheSize", "answers are not cached"),
    (
        "globalOutstandingLimit",
        "each connection has a limit of its own",
    ),
    ("clientPortListenBacklog", "the system's backlog is used"),
    ("fsync.warningthresholdms", "slow syncs are in the metrics"),
    ("leaderServes", "the leader serves clients"),
    (
        "admin.idleTimeout",
        "HTTP connections have a limit of their own",
    ),
    ("admin.commandURL", "the path is /commands"),
    ("skipACL", "only world ACLs are supported yet"),
];

/// Keys that promise what is not kept: refused rather than passed over.
const REFUSED: &[(&str, &str)] = &[
    ("secureClientPort", "TLS is not supported yet"),
    ("secureClientPortAddress", "TLS is not supported yet"),
    ("ssl.*", "TLS is not supported yet"),
    ("sslQuorum", "TLS is not supported yet"),
    ("portUnification", "TLS is not supported yet"),
    ("authProvider.*", "authentication is not supported yet"),
    (
        "requireClientAuthScheme",
        "authentication is not supported yet",
    ),
    ("quorum.auth.*", "SASL between members is not supported"),
    (
        "forceSync",
        "answers are given when they are on disk, always",
    ),
];

/// Takes what a `zoo.cfg` says.
pub fn read(file: &Arc<str>, text: &str, values: &mut Values) {
    for property in properties::parse(text) {
        let origin = Origin::line(SourceKind::Properties, file, property.line);
        let key = property.key.as_str();
        let path = match key {
            "admin.serverPort" => Some("http.port".to_owned()),
            "admin.serverAddress" => Some("http.host".to_owned()),
            "zookeeper.4lw.commands.whitelist" => {
                Some("coordinator.4lw.commands.whitelist".to_owned())
            }
            _ if is_member(key) => Some(format!("coordinator.{key}")),
            _ => keys::COORDINATOR
                .iter()
                .find(|row| row.name == key)
                .map(keys::Key::path),
        };
        if let Some(path) = path {
            let value = property.value;
            resolve::say(
                values,
                Said {
                    path,
                    value,
                    origin,
                },
            );
        } else if let Some(why) = lookup(WITHOUT_EFFECT, key) {
            values
                .warnings
                .push(Problem::at(&origin, format!("{key} has no effect: {why}")));
        } else if let Some(why) = lookup(REFUSED, key) {
            refuse(key, &property.value, why, &origin, values);
        } else {
            let near = nearest(key, keys::COORDINATOR.iter().map(|row| row.name));
            let hint = near.map_or(String::new(), |near| format!("; the nearest is {near}"));
            let text = format!("{} is unknown and has no effect{hint}", cut(key));
            values.warnings.push(Problem::at(&origin, text));
        }
    }
}

fn is_member(key: &str) -> bool {
    key.strip_prefix("server.")
        .is_some_and(|id| !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit()))
}

fn refuse(key: &str, value: &str, why: &str, origin: &Origin, values: &mut Values) {
    // Off is what we do anyway; forceSync is the other way round.
    let off = matches!(value.to_ascii_lowercase().as_str(), "" | "false" | "no");
    let on = matches!(value.to_ascii_lowercase().as_str(), "true" | "yes");
    if if key == "forceSync" { on } else { off } {
        return;
    }
    let text = format!("{} cannot be set to {}: {why}", cut(key), cut(value));
    values.problems.push(Problem::at(origin, text));
}

fn lookup(table: &'static [(&str, &'static str)], key: &str) -> Option<&'static str> {
    table
        .iter()
        .find(|(pattern, _)| match pattern.strip_suffix('*') {
            Some(prefix) => key.starts_with(prefix),
            None => *pattern == key,
        })
        .map(|(_, why)| *why)
}

/// Reads the value of `server.N`: `host:quorum:election[:participant][;[host:]port]`.
pub fn member(id: &str, text: &str) -> Result<Member, String> {
    let bad = || {
        format!(
            "'{}' does not have the form server.N=host:port:port or host:port:port:participant",
            cut(text)
        )
    };
    let id = id
        .parse::<u8>()
        .map_err(|_| format!("server.{} is no number from 0 to 255", cut(id)))?;
    let (servers, client) = match text.split_once(';') {
        Some((servers, client)) => (servers, Some(client)),
        None => (text, None),
    };
    let (host, rest) = match servers.strip_prefix('[') {
        Some(rest) => rest.split_once("]:").ok_or_else(bad)?,
        None => servers.split_once(':').ok_or_else(bad)?,
    };
    let mut parts = rest.split(':');
    let mut port = || {
        parts
            .next()
            .and_then(|port| port.trim().parse::<u16>().ok())
    };
    let (Some(quorum_port), Some(election_port)) = (port(), port()) else {
        return Err(bad());
    };
    match (parts.next().map(str::trim), parts.next()) {
        (None | Some("participant"), None) => {}
        (Some("observer"), None) => {
            return Err(format!(
                "server.{id} is an observer, which is not supported: every member votes"
            ));
        }
        _ => return Err(bad()),
    }
    let client = client.map(parse_client).transpose()?;
    if host.trim().is_empty() {
        return Err(bad());
    }
    Ok(Member {
        id: crate::common::ids::MemberId(u64::from(id)),
        host: host.trim().to_owned(),
        quorum_port,
        election_port,
        client,
    })
}

fn parse_client(text: &str) -> Result<HostPort, String> {
    let text = text.trim();
    match text.parse::<u16>() {
        Ok(port) => Ok(HostPort::new("", port)),
        Err(_) => HostPort::parse(text, None),
    }
}

/// Reads a `myid` file.
pub fn myid(text: &str) -> Result<i32, String> {
    let text = text.trim();
    text.parse::<u8>()
        .map(i32::from)
        .map_err(|_| format!("serverid {} is not a number from 0 to 255", cut(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_a_real_ensemble_is_taken_or_answered() {
        let text = "tickTime=2000\ninitLimit=10\nsyncLimit=5\ndataDir=/data\nclientPort=2181\n\
                    server.1=node1:2888:3888\nserver.2=node2:2888:3888:participant;2181\n\
                    autopurge.snapRetainCount=3\nadmin.serverPort=9999\ntickTiem=1\nsecureClientPort=2281\n";
        let mut values = Values::default();
        read(&Arc::from("zoo.cfg"), text, &mut values);
        let paths: Vec<_> = values.iter().map(|said| said.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "coordinator.clientPort",
                "coordinator.dataDir",
                "coordinator.initLimit",
                "coordinator.server.1",
                "coordinator.server.2",
                "coordinator.syncLimit",
                "coordinator.tickTime",
                "http.port",
            ]
        );
        let shown = |list: &[Problem]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            shown(&values.warnings),
            [
                "zoo.cfg:8: autopurge.snapRetainCount has no effect: old snapshots are removed without being asked",
                "zoo.cfg:10: tickTiem is unknown and has no effect; the nearest is tickTime",
            ]
        );
        assert_eq!(
            shown(&values.problems),
            ["zoo.cfg:11: secureClientPort cannot be set to 2281: TLS is not supported yet"]
        );
    }

    #[test]
    fn members_are_read_in_every_form() {
        let read = |text: &str| {
            member("3", text).map(|m| {
                format!(
                    "{} {} {} {} {:?}",
                    m.id,
                    m.host,
                    m.quorum_port,
                    m.election_port,
                    m.client.map(|c| c.to_string())
                )
            })
        };
        assert_eq!(
            read("node1:2888:3888").as_deref(),
            Ok("3 node1 2888 3888 None")
        );
        assert_eq!(
            read("[::1]:1:2:participant;[::]:2181").as_deref(),
            Ok("3 ::1 1 2 Some(\"[::]:2181\")")
        );
        assert_eq!(read("a:1:2;2181").as_deref(), Ok("3 a 1 2 Some(\":2181\")"));
        for bad in [
            "",
            "a",
            "a:1",
            ":1:2",
            "a:1:2:3",
            "a:1:2:observer",
            "a:x:2",
            "a:1:99999",
            "[::1:1:2",
            "a:1:2;x",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(member("256", "a:1:2").is_err());
        assert_eq!(myid(" 3\n"), Ok(3));
        assert!(myid("three").is_err());
    }
}
