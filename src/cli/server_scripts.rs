//! `kafka-server-start`, `kafka-server-stop`, `zookeeper-server-start`, `zookeeper-server-stop`.
//!
//! The start scripts run half a node from one properties file; `KAFKA_*` variables are not read, as the
//! genuine scripts do not. The stop scripts stop what was started by the start script of the same name:
//! like the genuine ones they need no file, but they look for this program rather than for a word in
//! `ps`, and a file given to them picks the one process that was started with it.

use std::path::{Path, PathBuf};

use super::node::HttpPolicy;
use super::print::{err, out};
use super::process::{self, Running};
use super::{daemon, serve, zk_server};
use crate::config::{Flag, Sources};

/// What tells the two start scripts apart.
struct Script {
    command: &'static str,
    /// The name that a daemon of it runs under.
    program: &'static str,
    usage: &'static str,
    /// The genuine daemon's output file.
    output: &'static str,
    overrides: bool,
    /// The exit code for a configuration that is not valid.
    invalid: u8,
}

const KAFKA: Script = Script {
    command: "server-start",
    program: "kafka-server-start",
    usage: "[-daemon] server.properties [--override property=value]*",
    output: "kafkaServer.out",
    overrides: true,
    invalid: 1,
};

const ZOOKEEPER: Script = Script {
    command: "zookeeper-server-start",
    program: "zookeeper-server-start",
    usage: "[-daemon] zookeeper.properties",
    output: "zookeeper.out",
    overrides: false,
    invalid: zk_server::INVALID_CONFIG,
};

/// A start script's arguments.
#[derive(Debug, PartialEq, Eq)]
struct Start {
    daemon: bool,
    file: PathBuf,
    overrides: Vec<Flag>,
}

/// `kafka-server-start.sh [-daemon] server.properties [--override property=value]*`
pub fn kafka_start(program: &str, arguments: Vec<String>) -> u8 {
    start(&KAFKA, program, arguments)
}

/// `zookeeper-server-start.sh [-daemon] zookeeper.properties`
pub fn zookeeper_start(program: &str, arguments: Vec<String>) -> u8 {
    start(&ZOOKEEPER, program, arguments)
}

/// `kafka-server-stop.sh [server.properties]`
pub fn kafka_stop(program: &str, arguments: Vec<String>) -> u8 {
    stop(&KAFKA, program, "kafka", &arguments)
}

/// `zookeeper-server-stop.sh [zookeeper.properties]`
pub fn zookeeper_stop(program: &str, arguments: Vec<String>) -> u8 {
    stop(&ZOOKEEPER, program, "zookeeper", &arguments)
}

fn start(script: &Script, program: &str, arguments: Vec<String>) -> u8 {
    daemon::detach_if_asked();
    let usage = format!("USAGE: {} {}", super::called_as(program), script.usage);
    match arguments.first().map(String::as_str) {
        // The script itself says this, where it says everything: on standard output.
        None => {
            out!("{usage}");
            return 1;
        }
        Some("--version") if script.overrides => {
            out!("{}", super::VERSION);
            return 0;
        }
        Some(_) => {}
    }
    let parsed = match parse(script, &arguments) {
        Ok(parsed) => parsed,
        Err(complaint) => {
            if let Some(complaint) = complaint {
                err!("{complaint}");
            }
            err!("{usage}");
            return 1;
        }
    };
    if parsed.daemon {
        // What is wrong with the configuration is told here, not in an output file.
        if let Err(report) = serve::load(&sources(script, &parsed)) {
            err!("tripod: {report}");
            return 1;
        }
        return background(script, &arguments);
    }
    let sources = sources(script, &parsed);
    serve::run_node_or(&sources, HttpPolicy::Optional, script.invalid)
}

fn sources(script: &Script, start: &Start) -> Sources {
    let mut variables = serve::variables(std::env::vars_os());
    // The genuine scripts read none of those that their images understand.
    variables.retain(|(name, _)| name.starts_with("TRIPOD_") || name == "JMX_PORT");
    let mut sources = Sources {
        variables,
        flags: start.overrides.clone(),
        hostname: serve::hostname(),
        ..Sources::default()
    };
    if script.overrides {
        sources.server_properties = Some(start.file.clone());
        sources.implied.push(("node.roles".into(), "broker".into()));
    } else {
        sources.zoo_cfg = Some(start.file.clone());
        sources
            .implied
            .push(("node.roles".into(), "coordinator".into()));
        // The file that comes with Kafka turns the admin server off, and a broker may run beside it.
        sources.implied.push(("http.enable".into(), "false".into()));
    }
    sources
}

/// Reads the arguments; `Err` holds a complaint, if usage alone does not say it.
fn parse(script: &Script, arguments: &[String]) -> Result<Start, Option<String>> {
    let mut words = arguments.iter().map(String::as_str).peekable();
    let daemon = words.next_if_eq(&"-daemon").is_some();
    // Kafka's scripts take these for the JVM.
    let named = words.next_if(|word| matches!(*word, "-name" | "-loggc"));
    if named == Some("-name") {
        words.next();
    }
    let file = match words.next() {
        Some(word) if !word.starts_with('-') => PathBuf::from(word),
        _ => return Err(None),
    };
    let mut overrides = Vec::new();
    while let Some(word) = words.next() {
        if word != "--override" || !script.overrides {
            return Err(Some(format!("{word} is not a recognized option")));
        }
        let pair = words.next().unwrap_or("");
        overrides.push(serve::pair_flag("--override", "broker.", pair).map_err(Some)?);
    }
    Ok(Start {
        daemon,
        file,
        overrides,
    })
}

fn background(script: &Script, arguments: &[String]) -> u8 {
    let rest: Vec<String> = arguments.iter().skip(1).cloned().collect();
    let log = daemon::kafka_log_dir().join(script.output);
    match daemon::start(script.program, &rest, &log) {
        // The genuine script says nothing, too: the output file does.
        Ok(_) => 0,
        Err(text) => {
            err!("{text}");
            1
        }
    }
}

fn stop(script: &Script, program: &str, what: &str, arguments: &[String]) -> u8 {
    if let Some(word) = arguments.first().filter(|word| word.starts_with('-')) {
        let file = script.usage.split(' ').nth(1).unwrap_or("FILE");
        let usage = format!(
            "USAGE: {program} [{file}]\nStops every {what} server on this machine that {} started; with a file, the one that was started with it.",
            script.program
        );
        if matches!(word.as_str(), "--help" | "-h" | "-help") {
            out!("{usage}");
            return 0;
        }
        err!("{word} is not a recognized option\n{usage}");
        return 1;
    }
    let mut targets = process::running(script.command);
    if let Some(file) = arguments.first() {
        let Ok(file) = std::fs::canonicalize(file) else {
            err!("{file}: no such file");
            return 1;
        };
        targets.retain(|target| started_with(target, &file));
    }
    if targets.is_empty() {
        out!("No {what} server to stop");
        return 1;
    }
    let mut code = 0;
    for target in targets {
        if let Err(text) = process::terminate(target.pid) {
            err!("{text}");
            code = 1;
        }
    }
    code
}

/// Is the file among the arguments of the process, seen from its own directory?
fn started_with(target: &Running, file: &Path) -> bool {
    let Ok(directory) = std::fs::read_link(format!("/proc/{}/cwd", target.pid)) else {
        return false;
    };
    target
        .arguments
        .iter()
        .any(|word| std::fs::canonicalize(directory.join(word)).is_ok_and(|path| path == file))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(script: &Script, line: &str) -> Result<Start, Option<String>> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse(script, &words)
    }

    #[test]
    fn arguments_are_those_of_the_genuine_scripts() {
        let start = read(
            &KAFKA,
            "-daemon a.properties --override broker.id=3 --override x=1",
        )
        .expect("legal");
        assert!(start.daemon);
        assert_eq!(start.file, Path::new("a.properties"));
        assert_eq!(start.overrides[0].path, "broker.broker.id");
        assert_eq!(start.overrides[1].value, "1");
        assert!(read(&ZOOKEEPER, "z.properties").is_ok_and(|start| !start.daemon));
        assert_eq!(read(&KAFKA, ""), Err(None));
        assert_eq!(read(&KAFKA, "--help"), Err(None));
        assert_eq!(
            read(&ZOOKEEPER, "z --override a=b"),
            Err(Some("--override is not a recognized option".into()))
        );
        assert!(read(&KAFKA, "a --override").is_err());
    }

    #[test]
    fn an_unknown_override_is_a_warning_as_in_the_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("server.properties");
        std::fs::write(&file, "broker.id=1\nzookeeper.connect=z:1\n").expect("written");
        let line = format!("{} --override foo=1 --override broker.id=3", file.display());
        let start = read(&KAFKA, &line).expect("legal");
        let loaded = serve::load(&sources(&KAFKA, &start)).expect("legal");
        assert_eq!(loaded.config.broker_id.0, 3);
        let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(
            warnings,
            ["--override foo: foo is unknown and has no effect"]
        );
    }
}
