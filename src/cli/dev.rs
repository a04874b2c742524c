//! `tripod dev`: a cluster in one process, without configuration.
//!
//! One node, or three that know each other. The data lives in a temporary directory that goes away at
//! the end, unless `--data-dir` says where to keep it.

use std::path::{Path, PathBuf};

use clap::Parser;

use super::node::{Banner, HttpPolicy};
use super::print::err;
use super::serve;
use crate::config::{Flag, Loaded, Sources};

/// Runs a cluster in one process: Kafka on localhost:9092, ZooKeeper on localhost:2181.
#[derive(Debug, Parser)]
#[command(
    name = "tripod dev",
    no_binary_name = true,
    disable_version_flag = true
)]
struct Arguments {
    /// One node, or three
    #[arg(long, default_value_t = 1, value_parser = nodes)]
    nodes: u16,
    /// Keep the data here instead of a temporary directory
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The first node's Kafka port; the others count on
    #[arg(long, value_name = "PORT", default_value_t = 9092)]
    port: u16,
    /// The first node's ZooKeeper port
    #[arg(long, value_name = "PORT", default_value_t = 2181, value_parser = known_port)]
    zookeeper_port: u16,
    /// The first node's port between coordinators; only with three nodes
    #[arg(long, value_name = "PORT", default_value_t = 2888, value_parser = known_port)]
    peer_port: u16,
    /// The first node's HTTP port; where nobody says it and 8080 is taken, one of the next nine
    #[arg(long, value_name = "PORT")]
    http_port: Option<u16>,
    /// error, warn, info, debug, trace, or a filter
    #[arg(long, default_value = "warn")]
    log_level: String,
    /// text or json
    #[arg(long, default_value = "text")]
    log_format: String,
    /// A broker setting by Kafka's name, as num.partitions=3
    #[arg(long = "override", value_name = "NAME=VALUE")]
    overrides: Vec<String>,
}

fn nodes(text: &str) -> Result<u16, String> {
    match text {
        "1" => Ok(1),
        "3" => Ok(3),
        _ => Err("a cluster has 1 or 3 nodes".to_owned()),
    }
}

/// Where HTTP is served unless somebody says otherwise.
const HTTP_PORT: u16 = 8080;

/// A port that other nodes have to know before it is open.
fn known_port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(0) => Err(
            "0, a port of the system's choice, is possible for --port and --http-port only"
                .to_owned(),
        ),
        Ok(port) => Ok(port),
        Err(_) => Err("no port (1-65535)".to_owned()),
    }
}

/// A directory that goes away with us.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            err!("tripod: {} is left behind: {error}", self.0.display());
        }
    }
}

/// With how many nodes a directory was used before.
fn nodes_in(dir: &Path) -> Option<u16> {
    let has = |name: &str| dir.join(name).exists();
    has("node1").then(|| if has("node2") { 3 } else { 1 })
}

/// Runs the command.
pub fn run(_program: &str, arguments: Vec<String>) -> u8 {
    let arguments = match serve::parse::<Arguments>(arguments) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    let Some(signals) = serve::install_signals() else {
        return 1;
    };
    let (dir, temporary) = match &arguments.data_dir {
        Some(dir) => (dir.clone(), None),
        None => match temporary_directory() {
            Ok(dir) => (dir.clone(), Some(Temporary(dir))),
            Err(text) => {
                err!("tripod: {text}");
                return 1;
            }
        },
    };
    if let Some(nodes) = nodes_in(&dir).filter(|nodes| *nodes != arguments.nodes) {
        let dir = dir.display();
        err!(
            "tripod: {dir} was made by `tripod dev --nodes {nodes}`, whose brokers have other ids: say --nodes {nodes}, \
             or give another --data-dir; nothing was changed"
        );
        return 1;
    }
    let (mut configs, mut warnings) = (Vec::new(), Vec::new());
    for node in 0..arguments.nodes {
        match configure(&arguments, node, &dir) {
            Ok(loaded) => {
                // What is odd is odd for each of them: once is enough.
                warnings = loaded.warnings.iter().map(ToString::to_string).collect();
                configs.push(loaded.config);
            }
            Err(text) => {
                err!("tripod: {text}");
                return 1;
            }
        }
    }
    let kept = match temporary {
        Some(_) => "gone at the end",
        None => "kept",
    };
    let banner = Banner {
        data: format!("{} ({kept})", dir.display()),
        json: arguments.log_format == "json",
    };
    let code = serve::run_nodes(
        configs,
        warnings,
        HttpPolicy::Optional,
        Some(banner),
        signals,
    );
    drop(temporary);
    code
}

fn temporary_directory() -> Result<PathBuf, String> {
    let base = std::env::temp_dir();
    let pid = std::process::id();
    for attempt in 0..100 {
        let dir = base.join(format!("tripod-dev-{pid}-{attempt}"));
        match std::fs::create_dir(&dir) {
            Ok(()) => return Ok(dir),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(format!("{} cannot be made: {error}", dir.display())),
        }
    }
    Err(format!(
        "no free name for a directory in {}",
        base.display()
    ))
}

fn port(first: u16, node: u16) -> Result<u16, String> {
    // 0 is "the system chooses" for every node alike.
    match first {
        0 => Ok(0),
        _ => first
            .checked_add(node)
            .ok_or_else(|| format!("there is no port {first} + {node}")),
    }
}

/// What a node of such a cluster runs with, unless `--override` says otherwise.
fn implied(arguments: &Arguments, node: u16, dir: &Path) -> Result<Vec<(String, String)>, String> {
    let three = arguments.nodes > 1;
    let member = |index: u16| -> Result<String, String> {
        let peer = port(arguments.peer_port, index)?;
        let client = port(arguments.zookeeper_port, index)?;
        // ZooKeeper's second port is not used; it is shown, so it gets a number of its own.
        Ok(format!(
            "localhost:{peer}:{};{client}",
            peer.saturating_add(1000)
        ))
    };
    let broker_port = port(arguments.port, node)?;
    let mut implied = vec![
        ("node.roles".to_owned(), "coordinator,broker".to_owned()),
        (
            "node.data.dir".to_owned(),
            dir.join(format!("node{}", node + 1)).display().to_string(),
        ),
        ("coordinator.myid".to_owned(), (node + 1).to_string()),
        (
            "coordinator.clientPort".to_owned(),
            port(arguments.zookeeper_port, node)?.to_string(),
        ),
        (
            "coordinator.clientPortAddress".to_owned(),
            "localhost".to_owned(),
        ),
        ("coordinator.maxClientCnxns".to_owned(), "0".to_owned()),
        (
            "broker.broker.id".to_owned(),
            if three { node } else { 1 }.to_string(),
        ),
        (
            "broker.listeners".to_owned(),
            format!("PLAINTEXT://localhost:{broker_port}"),
        ),
        (
            "broker.advertised.listeners".to_owned(),
            format!("PLAINTEXT://localhost:{broker_port}"),
        ),
        (
            "broker.group.initial.rebalance.delay.ms".to_owned(),
            "0".to_owned(),
        ),
        ("http.host".to_owned(), "localhost".to_owned()),
        ("http.port".to_owned(), port(HTTP_PORT, node)?.to_string()),
        ("log.level".to_owned(), arguments.log_level.clone()),
        ("log.format".to_owned(), arguments.log_format.clone()),
    ];
    for setting in [
        "offsets.topic.replication.factor",
        "transaction.state.log.replication.factor",
        "transaction.state.log.min.isr",
    ] {
        implied.push((format!("broker.{setting}"), "1".to_owned()));
    }
    if three {
        for index in 0..arguments.nodes {
            implied.push((format!("coordinator.server.{}", index + 1), member(index)?));
        }
    }
    Ok(implied)
}

fn configure(arguments: &Arguments, node: u16, dir: &Path) -> Result<Loaded, String> {
    let flags: Result<Vec<Flag>, String> = arguments
        .overrides
        .iter()
        .map(|pair| serve::pair_flag("--override", "broker.", pair))
        .collect();
    let mut flags = flags?;
    if let Some(first) = arguments.http_port {
        // A wish, not a default: a node that cannot have it does not start.
        flags.push(Flag {
            shown: "--http-port".to_owned(),
            path: "http.port".to_owned(),
            value: port(first, node)?.to_string(),
            property: false,
        });
    }
    let sources = Sources {
        flags,
        implied: implied(arguments, node, dir)?,
        hostname: serve::hostname(),
        ..Sources::default()
    };
    serve::load(&sources).map_err(|report| report.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_node_and_three_are_configured_without_a_word() {
        let arguments = |words: &[&str]| {
            serve::parse::<Arguments>(words.iter().map(|word| (*word).to_owned()).collect())
                .expect("legal")
        };
        let one = configure(&arguments(&[]), 0, Path::new("/d"))
            .expect("legal")
            .config;
        assert_eq!(
            one.listeners.advertised[0].to_string(),
            "PLAINTEXT://localhost:9092"
        );
        assert!(one.members.is_empty());
        assert_eq!(one.coordinator_dir, Path::new("/d/node1/coordinator"));
        assert_eq!(one.log_dirs, [Path::new("/d/node1/broker")]);
        assert_eq!(one.zookeeper.servers[0].to_string(), "localhost:2181");
        assert_eq!(one.broker.offsets_topic_replication_factor, 1);

        let words = arguments(&["--nodes", "3", "--override", "num.partitions=4"]);
        let third = configure(&words, 2, Path::new("/d")).expect("legal").config;
        assert_eq!((third.broker_id.0, third.myid.0), (2, 3));
        assert_eq!(third.members.len(), 3);
        assert_eq!(third.members[2].quorum_port, 2890);
        assert_eq!(third.coordinator.client_port, 2183);
        assert_eq!(third.http.port, 8082);
        assert_eq!(third.broker.num_partitions, 4);
        let servers: Vec<_> = third
            .zookeeper
            .servers
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            servers,
            ["localhost:2181", "localhost:2182", "localhost:2183"]
        );
        assert!(!third.http_port_said);
        let asked = arguments(&["--http-port", "9000", "--override", "num.io.threads=3"]);
        let asked = configure(&asked, 1, Path::new("/d")).expect("legal");
        assert_eq!(
            (asked.config.http.port, asked.config.http_port_said),
            (9001, true)
        );
        let warnings: Vec<_> = asked.warnings.iter().map(ToString::to_string).collect();
        assert!(
            matches!(&warnings[..], [one] if one.starts_with("--override num.io.threads: num.io.threads has no effect: ")),
            "{warnings:?}"
        );
        let unknown = configure(
            &arguments(&["--override", "log.dri=/x"]),
            0,
            Path::new("/d"),
        );
        let warnings: Vec<_> = unknown
            .expect("legal")
            .warnings
            .iter()
            .map(ToString::to_string)
            .collect();
        let warning =
            "--override log.dri: log.dri is unknown and has no effect; the nearest is log.dir";
        assert_eq!(warnings, [warning], "as in server.properties");
        for bad in [
            ["--nodes", "2"],
            ["--zookeeper-port", "0"],
            ["--peer-port", "x"],
        ] {
            let bad = bad.iter().map(|word| (*word).to_owned()).collect();
            assert!(serve::parse::<Arguments>(bad).is_err());
        }
    }
}
