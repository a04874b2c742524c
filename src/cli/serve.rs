//! `tripod serve`: one node, from every source of configuration.
//!
//! Parses the command line, loads the configuration, and hands over to [`super::node`]. Also the way in
//! for `tripod dev` and the start scripts, which say the same things in other words.

use std::path::PathBuf;
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches, Parser};

use super::logging;
use super::node::{self, HttpPolicy};
use super::print::{err, out};
use super::process;
use super::signals::Signals;
use super::watch::Watch;
use crate::config::keys::{self, Honour, Key};
use crate::config::raw::{Problem, Report};
use crate::config::{Config, Flag, Loaded, Sources, effects, env, examine};

/// Runs a node: a coordinator (ZooKeeper), a broker (Kafka), or both.
///
/// Every setting has a path. It can be said, strongest first, by flag (--set PATH=VALUE), by variable
/// (TRIPOD_...; KAFKA_... as in Kafka's images), in our YAML file, or in Kafka's and ZooKeeper's own
/// files. --list-settings prints all of them.
#[derive(Debug, Parser)]
#[command(
    name = "tripod serve",
    no_binary_name = true,
    disable_version_flag = true
)]
struct Arguments {
    /// Our YAML file (also TRIPOD_CONFIG)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A Kafka broker's configuration
    #[arg(long, value_name = "FILE")]
    server_properties: Option<PathBuf>,
    /// A ZooKeeper's configuration
    #[arg(long, value_name = "FILE")]
    zoo_cfg: Option<PathBuf>,
    /// The halves to run: coordinator, broker, or both with a comma
    #[arg(long)]
    roles: Option<String>,
    /// Where this node keeps everything
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// broker.id and myid in one
    #[arg(long)]
    node_id: Option<String>,
    /// This broker's id
    #[arg(long)]
    broker_id: Option<String>,
    /// Which of the servers this coordinator is
    #[arg(long)]
    myid: Option<String>,
    /// A member of the ensemble, once for each
    #[arg(long, value_name = "N=HOST:PORT:PORT")]
    server: Vec<String>,
    /// The port for ZooKeeper clients
    #[arg(long, value_name = "PORT")]
    client_port: Option<String>,
    /// What the broker listens on
    #[arg(long)]
    listeners: Option<String>,
    /// What the broker tells its clients
    #[arg(long)]
    advertised_listeners: Option<String>,
    /// The ZooKeeper of the broker; its own coordinators when this is not said
    #[arg(long, value_name = "HOST:PORT,...")]
    zookeeper_connect: Option<String>,
    /// The port of health, metrics and commands
    #[arg(long, value_name = "PORT")]
    http_port: Option<String>,
    /// The cluster's id
    #[arg(long)]
    cluster_id: Option<String>,
    /// error, warn, info, debug, trace, or a filter
    #[arg(long)]
    log_level: Option<String>,
    /// text or json
    #[arg(long)]
    log_format: Option<String>,
    /// Any setting by its path, as broker.num.partitions=3
    #[arg(long, value_name = "PATH=VALUE")]
    set: Vec<String>,
    /// A broker setting by Kafka's name, as num.partitions=3
    #[arg(long = "override", value_name = "NAME=VALUE")]
    overrides: Vec<String>,
    /// Check the configuration, say OK or what is wrong, and end
    #[arg(long)]
    check_config: bool,
    /// Print every setting and end
    #[arg(long)]
    list_settings: bool,
}

/// Parses with clap; `Err` is the exit code after help or a complaint was printed.
pub fn parse<T: Parser + CommandFactory + FromArgMatches>(arguments: Vec<String>) -> Result<T, u8> {
    T::try_parse_from(arguments).map_err(|error| {
        let text = error.render().to_string();
        if error.use_stderr() {
            err!("{}", text.trim_end());
            2
        } else {
            out!("{}", text.trim_end());
            0
        }
    })
}

/// Runs the command.
pub fn run(_program: &str, arguments: Vec<String>) -> u8 {
    let arguments = match parse::<Arguments>(arguments) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    if arguments.list_settings {
        list_settings();
        return 0;
    }
    let check_only = arguments.check_config;
    let sources = sources(arguments, std::env::vars_os());
    if check_only {
        check(&sources)
    } else {
        run_node(&sources, HttpPolicy::Required)
    }
}

/// The environment as text; what is not UTF-8 cannot be a setting of ours.
pub fn variables(
    raw: impl Iterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
) -> Vec<(String, String)> {
    raw.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// This machine's name.
pub fn hostname() -> String {
    let name = rustix::system::uname();
    let name = name.nodename().to_string_lossy();
    if name.is_empty() {
        "localhost".to_owned()
    } else {
        name.into_owned()
    }
}

fn sources(
    arguments: Arguments,
    raw: impl Iterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
) -> Sources {
    let variables = variables(raw);
    let file = |flag: Option<PathBuf>, variable: &str| {
        let said = variables
            .iter()
            .find(|(name, value)| name == variable && !value.is_empty());
        flag.or_else(|| said.map(|(_, value)| PathBuf::from(value)))
    };
    let mut flags = Vec::new();
    for (flag, path, value) in [
        ("--roles", "node.roles", &arguments.roles),
        ("--data-dir", "node.data.dir", &arguments.data_dir),
        ("--node-id", "node.id", &arguments.node_id),
        ("--broker-id", "broker.broker.id", &arguments.broker_id),
        ("--myid", "coordinator.myid", &arguments.myid),
        (
            "--client-port",
            "coordinator.clientPort",
            &arguments.client_port,
        ),
        ("--listeners", "broker.listeners", &arguments.listeners),
        (
            "--advertised-listeners",
            "broker.advertised.listeners",
            &arguments.advertised_listeners,
        ),
        (
            "--zookeeper-connect",
            "broker.zookeeper.connect",
            &arguments.zookeeper_connect,
        ),
        ("--http-port", "http.port", &arguments.http_port),
        ("--cluster-id", "node.cluster.id", &arguments.cluster_id),
        ("--log-level", "log.level", &arguments.log_level),
        ("--log-format", "log.format", &arguments.log_format),
    ] {
        if let Some(value) = value {
            flags.push(Flag::new(flag, path, value.clone()));
        }
    }
    let (pairs, problems) = pair_flags(&arguments);
    flags.extend(pairs);
    Sources {
        yaml: file(arguments.config, "TRIPOD_CONFIG"),
        server_properties: file(arguments.server_properties, "TRIPOD_SERVER_PROPERTIES"),
        zoo_cfg: file(arguments.zoo_cfg, "TRIPOD_ZOO_CFG"),
        variables,
        flags,
        implied: Vec::new(),
        problems,
        hostname: hostname(),
    }
}

/// The flags that take `NAME=VALUE`, and what is wrong with them.
fn pair_flags(arguments: &Arguments) -> (Vec<Flag>, Vec<Problem>) {
    let pairs = [
        ("--server", "coordinator.server.", &arguments.server),
        ("--set", "", &arguments.set),
        ("--override", "broker.", &arguments.overrides),
    ];
    let (mut flags, mut problems) = (Vec::<Flag>::new(), Vec::new());
    for (flag, prefix, list) in pairs {
        for pair in list {
            match pair_flag(flag, prefix, pair) {
                // With --set the last word counts; of a list each item is one of its own.
                Ok(new) if flag == "--server" && flags.iter().any(|f| f.path == new.path) => {
                    let text = format!("{} is there twice", new.shown);
                    problems.push(Problem::general(text));
                }
                Ok(flag) => flags.push(flag),
                Err(text) => problems.push(Problem::general(text)),
            }
        }
    }
    (flags, problems)
}

/// Loads a configuration, and checks what only this program can know about it.
pub fn load(sources: &Sources) -> Result<Loaded, Report> {
    let mut examined = examine(sources);
    if let Err(text) = logging::filter(&examined.config.log.level) {
        examined.problems.push(Problem::general(text));
    }
    examined.verdict()
}

/// Splits `name=value` of a flag.
pub fn pair_flag(flag: &str, prefix: &str, pair: &str) -> Result<Flag, String> {
    let (name, value) = pair
        .split_once('=')
        .ok_or_else(|| format!("{flag} takes NAME=VALUE, not '{pair}'"))?;
    Ok(Flag {
        shown: format!("{flag} {name}"),
        path: format!("{prefix}{name}"),
        value: value.to_owned(),
        property: flag == "--override",
    })
}

fn check(sources: &Sources) -> u8 {
    match load(sources) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                err!("warning: {warning}");
            }
            out!("OK");
            0
        }
        Err(report) => {
            err!("tripod: {report}");
            1
        }
    }
}

/// Loads, and runs one node until it is told to stop.
pub fn run_node(sources: &Sources, http: HttpPolicy) -> u8 {
    run_node_or(sources, http, 1)
}

/// The same; ends with `invalid` if the configuration is not valid.
pub fn run_node_or(sources: &Sources, http: HttpPolicy, invalid: u8) -> u8 {
    let Some(signals) = install_signals() else {
        return 1;
    };
    match load(sources) {
        Ok(Loaded { config, warnings }) => {
            let warnings = warnings.iter().map(ToString::to_string).collect();
            run_nodes(vec![config], warnings, http, None, signals)
        }
        Err(report) => {
            err!("tripod: {report}");
            invalid
        }
    }
}

/// Makes ready for signals, before anything else is done; complains when that fails.
pub fn install_signals() -> Option<Signals> {
    Signals::install()
        .inspect_err(|text| err!("tripod: {text}"))
        .ok()
}

/// Runs nodes that are configured already.
pub fn run_nodes(
    configs: Vec<Config>,
    warnings: Vec<String>,
    http: HttpPolicy,
    banner: Option<node::Banner>,
    signals: Signals,
) -> u8 {
    let Some(first) = configs.first() else {
        return 0;
    };
    let sizes = configs.iter().find_map(process::FileSizes::of);
    let more = match process::take_limits(sizes) {
        Ok(more) => more,
        Err(text) => {
            err!("tripod: {text}");
            return 1;
        }
    };
    if let Err(text) = logging::install(&first.log) {
        err!("tripod: {text}");
        return 1;
    }
    for warning in warnings.into_iter().chain(more) {
        tracing::warn!("{warning}");
    }
    let limit = configs.iter().map(|config| config.node.stop_timeout_ms);
    let limit = u64::try_from(limit.max().unwrap_or(0)).unwrap_or(0);
    let watch = match Watch::start(signals, Duration::from_millis(limit)) {
        Ok(watch) => watch,
        Err(text) => {
            err!("tripod: {text}");
            return 1;
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(usize::try_from(first.node.worker_threads).unwrap_or(2))
        .thread_name("tripod")
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            err!("tripod: no threads: {error}");
            return 1;
        }
    };
    let ended = runtime.block_on(node::run(configs, http, banner, &watch));
    // What still runs after the time limit of a stop must not hold the process.
    runtime.shutdown_background();
    let code = match ended {
        Ok(()) => 0,
        Err(failure) => {
            logging::complain(&failure.text);
            failure.code
        }
    };
    logging::finish();
    code
}

/// The reference: every row of the table.
fn list_settings() {
    let show = |key: &Key| {
        let effect = match (key.honour, key.without_effect()) {
            (Honour::Refused(why), _) => format!(" (not supported: {why})"),
            (_, Some(why)) => format!(" (no effect: {why})"),
            (_, None) if key.section == "broker" => effects::lookup(effects::INSTEAD, key.name)
                .map_or(String::new(), |means| format!(" (here: {means})")),
            (_, None) => String::new(),
        };
        let default = match key.default {
            None => "not set".to_owned(),
            Some(text) => format!("default '{text}'"),
        };
        out!(
            "{}  [{}, {default}]{effect}",
            key.written(),
            key.kind.name().to_lowercase()
        );
        out!("    {}. {}", key.doc, env::variable(key));
    };
    keys::all().for_each(show);
    out!(
        "coordinator.server.N  [string]\n    A member of the ensemble, as host:2888:3888. TRIPOD_COORDINATOR_SERVER_N"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_become_settings() {
        let words = "--roles coordinator --server 1=a:1:2 --server 2=b:1:2 --set http.port=0 --override num.partitions=4 --myid 1";
        let words = words.split(' ').map(str::to_owned).collect();
        let arguments = parse::<Arguments>(words).expect("legal");
        let sources = sources(arguments, std::iter::empty());
        let flags: Vec<_> = sources
            .flags
            .iter()
            .map(|flag| format!("{}: {}={}", flag.shown, flag.path, flag.value))
            .collect();
        assert_eq!(
            flags,
            [
                "--roles: node.roles=coordinator",
                "--myid: coordinator.myid=1",
                "--server 1: coordinator.server.1=a:1:2",
                "--server 2: coordinator.server.2=b:1:2",
                "--set http.port: http.port=0",
                "--override num.partitions: broker.num.partitions=4",
            ]
        );
        assert!(parse::<Arguments>(vec!["--rolls".into()]).is_err_and(|code| code == 2));
        assert!(pair_flag("--set", "", "x").is_err());
    }
}
