//! The command line: one table of commands, chosen by subcommand or by the name we were started as.
//!
//! Each command is a file with one `run(program, arguments) -> exit code`. Adding one is a file and a
//! row in [`COMMANDS`]. Only this folder may print, and only it knows exit codes.

pub mod client_props;
pub mod console_consumer;
pub mod console_producer;
pub mod consumer_groups;
mod consumer_groups_change;
pub mod consumer_options;
pub mod consumer_perf;
pub mod daemon;
pub mod dev;
pub mod halves;
pub mod health;
pub mod java_args;
pub mod java_help;
pub mod java_text;
mod joined;
pub mod leader_election;
pub mod logging;
pub mod node;
pub mod output;
pub mod print;
pub mod process;
pub mod producer_perf;
pub mod serve;
pub mod server_scripts;
pub mod signals;
pub mod tool_log;
pub mod topics;
mod topics_zookeeper;
pub mod watch;
pub mod zk_cli;
pub mod zk_server;

use std::ffi::OsString;
use std::future::Future;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use crate::client::World;
use crate::common::clock::Clock;
use crate::common::rng::Rng;
use crate::common::shutdown::Shutdown;
use crate::common::tasks::Tasks;
use crate::config::raw::nearest;
use print::{err, out};

/// What a tool gets when it is asked for `--version`: the Kafka whose tools it stands in for.
pub const VERSION: &str = concat!("2.8.0 (tripod ", env!("CARGO_PKG_VERSION"), ")");

/// How long a finished tool waits for its connections to end.
const STOP_LIMIT: Duration = Duration::from_secs(2);

/// One command.
pub struct Command {
    /// The subcommand (`topics`); for a Kafka tool the rest of its name.
    pub name: &'static str,
    /// Other names, and the names it may be started as (`kafka-topics`; a `.sh` is ignored).
    pub aliases: &'static [&'static str],
    /// One line for the list of commands.
    pub about: &'static str,
    /// Gets the name it was called by and the arguments after it; gives the exit code.
    pub run: fn(&str, Vec<String>) -> u8,
}

/// Every command, in the order of the list that `tripod --help` prints.
pub const COMMANDS: &[Command] = &[
    // Nodes: serve, dev, run, health.
    Command {
        name: "serve",
        aliases: &[],
        about: "Run a node: a coordinator (ZooKeeper), a broker (Kafka), or both",
        run: serve::run,
    },
    Command {
        name: "dev",
        aliases: &[],
        about: "Run a cluster of one or three nodes in this process, without configuration",
        run: dev::run,
    },
    Command {
        name: "health",
        aliases: &[],
        about: "Ask a node whether it is ready",
        run: health::run,
    },
    Command {
        name: "server-start",
        aliases: &["kafka-server-start"],
        about: "Run a broker from a server.properties",
        run: server_scripts::kafka_start,
    },
    Command {
        name: "server-stop",
        aliases: &["kafka-server-stop"],
        about: "Stop what kafka-server-start started",
        run: server_scripts::kafka_stop,
    },
    // ZooKeeper's tools: zookeeper-server-start, zookeeper-server-stop, zkServer, zkCli.
    Command {
        name: "zookeeper-server-start",
        aliases: &[],
        about: "Run a coordinator from a zoo.cfg",
        run: server_scripts::zookeeper_start,
    },
    Command {
        name: "zookeeper-server-stop",
        aliases: &[],
        about: "Stop what zookeeper-server-start started",
        run: server_scripts::zookeeper_stop,
    },
    Command {
        name: "zkServer",
        aliases: &["zk-server"],
        about: "Start, stop and ask a coordinator",
        run: zk_server::run,
    },
    Command {
        name: "zk-cli",
        aliases: &["zkCli", "zookeeper-shell"],
        about: "Read, write and watch a coordinator's tree",
        run: zk_cli::run,
    },
    // Kafka's tools.
    Command {
        name: "topics",
        aliases: &["kafka-topics"],
        about: "Create, delete, describe or change topics",
        run: topics::run,
    },
    Command {
        name: "console-producer",
        aliases: &["kafka-console-producer"],
        about: "Lines of standard input become records",
        run: console_producer::run,
    },
    Command {
        name: "console-consumer",
        aliases: &["kafka-console-consumer"],
        about: "Print records as lines",
        run: console_consumer::run,
    },
    Command {
        name: "producer-perf-test",
        aliases: &["kafka-producer-perf-test"],
        about: "Measure how fast records can be written",
        run: producer_perf::run,
    },
    Command {
        name: "consumer-perf-test",
        aliases: &["kafka-consumer-perf-test"],
        about: "Measure how fast records can be read",
        run: consumer_perf::run,
    },
    Command {
        name: "consumer-groups",
        aliases: &["kafka-consumer-groups"],
        about: "List, describe, reset and delete consumer groups",
        run: consumer_groups::run,
    },
    Command {
        name: "leader-election",
        aliases: &["kafka-leader-election"],
        about: "Elect the preferred or any leader of partitions",
        run: leader_election::run,
    },
];

/// Runs the command that `arguments` (the program's own name first) ask for.
pub fn run(arguments: Vec<OsString>) -> ExitCode {
    let mut words = Vec::with_capacity(arguments.len());
    for argument in arguments {
        match argument.into_string() {
            Ok(word) => words.push(word),
            Err(word) => {
                err!("tripod: {word:?} is not UTF-8 text");
                return ExitCode::from(1);
            }
        }
    }
    ExitCode::from(dispatch(words))
}

fn dispatch(words: Vec<String>) -> u8 {
    let mut words = words.into_iter();
    let program = words.next().unwrap_or_default();
    let program = base_name(&program);
    if program != "tripod" {
        if let Some(command) = find(program) {
            return (command.run)(program, words.collect());
        }
        if looks_like_a_tool(program) {
            return unknown(program);
        }
    }
    match words.next() {
        None => {
            err!("{}", usage());
            1
        }
        Some(word) if matches!(word.as_str(), "--help" | "-h" | "help") => {
            out!("{}", usage());
            0
        }
        Some(word) if matches!(word.as_str(), "--version" | "-V" | "version") => {
            out!("tripod {}", env!("CARGO_PKG_VERSION"));
            0
        }
        Some(word) => match find(base_name(&word)) {
            Some(command) => (command.run)(&word, words.collect()),
            None => unknown(&word),
        },
    }
}

/// As the shell's `$0`: how this program was called, if it was by the command's own name.
pub(crate) fn called_as(program: &str) -> String {
    let called = std::env::args().next().unwrap_or_default();
    if base_name(&called) == program {
        called
    } else {
        program.to_owned()
    }
}

/// The file name without directories and without `.sh`.
fn base_name(program: &str) -> &str {
    let name = Path::new(program)
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or(program);
    name.strip_suffix(".sh").unwrap_or(name)
}

fn looks_like_a_tool(program: &str) -> bool {
    program.starts_with("kafka-") || program.starts_with("zookeeper-") || program.starts_with("zk")
}

fn find(name: &str) -> Option<&'static Command> {
    COMMANDS
        .iter()
        .find(|command| command.name == name || command.aliases.contains(&name))
}

fn unknown(name: &str) -> u8 {
    err!("tripod: there is no command '{name}'");
    if base_name(name).starts_with("kafka-") {
        err!("Where it is a tool of Kafka's, Kafka's own works with tripod.");
    }
    let names = COMMANDS
        .iter()
        .flat_map(|command| std::iter::once(command.name).chain(command.aliases.iter().copied()));
    if let Some(near) = nearest(base_name(name), names) {
        let suffix = if name.ends_with(".sh") { ".sh" } else { "" };
        err!("Did you mean '{near}{suffix}'?");
    } else {
        err!("'tripod --help' lists all commands");
    }
    1
}

fn usage() -> String {
    let mut text = String::from("Usage: tripod COMMAND [OPTIONS]\n\nCommands:\n");
    for command in COMMANDS {
        text.push_str(&format!("  {:<24} {}\n", command.name, command.about));
    }
    text.push_str("\nKafka's and ZooKeeper's tools also answer to their own names, for example as links: kafka-topics.sh");
    text
}

/// Runs one of Kafka's tools with its log on standard error; gives its exit code.
pub fn run_tool<F: Future<Output = u8>>(work: impl FnOnce(World) -> F) -> u8 {
    tool_log::install(Clock::real());
    block_on(work).unwrap_or_else(|error| {
        err!("{error}");
        1
    })
}

/// Runs a tool's async part on one thread, in the real world, and stops its tasks afterwards.
pub fn block_on<F, T>(work: impl FnOnce(World) -> F) -> Result<T, std::io::Error>
where
    F: Future<Output = T>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let world = World {
        clock: Clock::real(),
        rng: Rng::from_os(),
        tasks: Tasks::new(Shutdown::new()),
    };
    let tasks = world.tasks.clone();
    let value = runtime.block_on(async {
        let value = work(world).await;
        tasks.stop(STOP_LIMIT).await;
        value
    });
    // A thread that still reads standard input must not keep a finished tool alive.
    runtime.shutdown_background();
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_their_directory_and_ending() {
        assert_eq!(base_name("/opt/kafka/bin/kafka-topics.sh"), "kafka-topics");
        assert_eq!(base_name("tripod"), "tripod");
    }

    #[test]
    fn a_typing_slip_finds_its_way() {
        let names = ["kafka-topics", "topics", "kafka-configs"];
        assert_eq!(
            nearest("kafka-topic", names.into_iter()),
            Some("kafka-topics")
        );
        assert_eq!(
            nearest("partitons", ["partitions", "topic"].into_iter()),
            Some("partitions")
        );
        assert_eq!(nearest("xyz", names.into_iter()), None);
    }
}
