//! `zkCli` and `zookeeper-shell`: the shell over a coordinator's tree, as ZooKeeper 3.6's own.
//!
//! One command on the command line, or lines from standard input. This file reads words and lines and
//! keeps the history; [`commands`] talks to the ensemble. There is no line editing.

use std::io::{BufRead, IsTerminal, Write};
use std::time::Duration;

use tokio::sync::mpsc;

use super::print::{err, out};
use crate::client::World;
use crate::common::tasks::{Kind, blocking};
use crate::coordinator::status::{BUILT_ON, VERSION};
use session::Session;

mod commands;
mod session;
mod text;
mod watches;
mod words;

/// The exit code for a command that does not exist.
const NOT_FOUND: u8 = 127;
/// Lines that are read ahead of the one that runs.
const LINES_AHEAD: usize = 16;
/// How many commands `history` goes back.
const HISTORY: usize = 10;

/// Why a command was not done, and the exit code for it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Refusal {
    message: String,
    code: u8,
}

impl Refusal {
    fn new(message: impl Into<String>) -> Refusal {
        Refusal {
            message: message.into(),
            code: 1,
        }
    }
}

/// What is to be printed, in order; `true` is for standard error.
#[derive(Debug)]
struct Output {
    lines: Vec<(bool, String)>,
    events: bool,
}

impl Output {
    fn line(&mut self, text: impl Into<String>) {
        self.lines.push((false, text.into()));
    }

    fn error(&mut self, text: impl Into<String>) {
        self.lines.push((true, text.into()));
    }

    /// What the original's watcher prints, unless `printwatches` is off.
    fn event(&mut self, state: &str, kind: &str, path: Option<&str>) {
        if self.events {
            let path = path.unwrap_or("null");
            self.line(format!(
                "\nWATCHER::\n\nWatchedEvent state:{state} type:{kind} path:{path}"
            ));
        }
    }

    fn print(&mut self) {
        for (error, text) in self.lines.drain(..) {
            if error {
                err!("{text}");
            } else {
                out!("{text}");
            }
        }
    }
}

/// The words before the command.
#[derive(Debug, PartialEq, Eq)]
struct Arguments {
    servers: String,
    timeout: Duration,
    command: Vec<String>,
}

fn arguments(words: &[String]) -> Result<Arguments, String> {
    let mut parsed = Arguments {
        servers: "localhost:2181".to_owned(),
        timeout: Duration::from_secs(30),
        command: Vec::new(),
    };
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let mut value = || {
            rest.next()
                .ok_or_else(|| format!("Error: no argument found for option {word}"))
        };
        match word.as_str() {
            "-server" => parsed.servers = value()?.clone(),
            "-timeout" => {
                let text = value()?;
                let ms = text.parse::<u32>().ok().filter(|ms| *ms > 0);
                let ms = ms.ok_or_else(|| format!("-timeout {text}: not a number of ms"))?;
                parsed.timeout = Duration::from_millis(ms.into());
            }
            "-r" => {
                return Err(
                    "-r is not supported: there are no read-only sessions without a quorum"
                        .to_owned(),
                );
            }
            "-client-configuration" | "-zk-tls-config-file" => {
                return Err(format!(
                    "{word} is not supported: there is no TLS to ZooKeeper"
                ));
            }
            option if option.starts_with('-') => return Err(format!("unknown option {option}")),
            _ => {
                parsed.command.push(word.clone());
                parsed.command.extend(rest.by_ref().cloned());
            }
        }
    }
    Ok(parsed)
}

/// Runs the shell; `program` tells whether Kafka's habits or ZooKeeper's are wanted.
pub fn run(program: &str, words: Vec<String>) -> u8 {
    let kafka = super::base_name(program) == "zookeeper-shell";
    if matches!(words.first().map(String::as_str), Some("-h" | "--help")) {
        for line in usage() {
            out!("{line}");
        }
        return 0;
    }
    let mut words = words;
    if kafka {
        if words.is_empty() {
            out!("USAGE: {program} zookeeper_host:port[/path] [args...]");
            return 1;
        }
        words.insert(0, "-server".to_owned());
    }
    let arguments = match arguments(&words) {
        Ok(arguments) => arguments,
        Err(message) => {
            err!("{message}");
            return 1;
        }
    };
    match super::block_on(async move |world| shell(&world, arguments, kafka).await) {
        Ok(code) => code,
        Err(error) => {
            err!("{program}: {error}");
            1
        }
    }
}

async fn shell(world: &World, arguments: Arguments, kafka: bool) -> u8 {
    out!("Connecting to {}", arguments.servers);
    let started = Session::start(world, &arguments.servers, arguments.timeout);
    let session = match started {
        Ok(session) => session,
        Err(message) => {
            err!("{message}");
            return 1;
        }
    };
    let mut shell = Shell {
        world,
        host: arguments.servers,
        timeout: arguments.timeout,
        session: Some(session),
        history: Vec::new(),
        output: Output {
            lines: Vec::new(),
            events: true,
        },
        code: 0,
    };
    if arguments.command.is_empty() {
        shell.interact(kafka).await;
    } else {
        shell.process(&arguments.command).await;
    }
    if let Some(mut session) = shell.session.take() {
        session.leave().await;
    }
    shell.code
}

struct Shell<'a> {
    world: &'a World,
    host: String,
    timeout: Duration,
    /// None: closed.
    session: Option<Session>,
    /// The line of every command, the one that runs included.
    history: Vec<String>,
    output: Output,
    /// The last command's exit code.
    code: u8,
}

/// Whether the shell goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Line,
    Quit,
}

impl Shell<'_> {
    /// Waits for a connection and tells of it, or why there is none yet.
    async fn connected(&mut self) {
        if let Some(session) = &mut self.session {
            let reached = session.wait().await;
            session.settle(&mut self.output).await;
            if reached.is_err() {
                self.output.error(session.problem());
            }
        }
        self.output.print();
    }

    async fn interact(&mut self, kafka: bool) {
        out!("Welcome to ZooKeeper!");
        let terminal = std::io::stdin().is_terminal();
        // For scripts, the original's line. Whoever types is told that keys do not edit.
        let editing = if terminal || kafka {
            "disabled"
        } else {
            "enabled"
        };
        out!("JLine support is {editing}");
        let mut lines = self.read_lines();
        self.connected().await;
        loop {
            // The original's line reader prompts, and shows what it reads, without a terminal too;
            // Kafka comes without that reader.
            let prompting = terminal || !kafka;
            if prompting {
                self.prompt();
            }
            let Some(line) = self.next_line(&mut lines).await else {
                if terminal {
                    out!("");
                }
                return;
            };
            if prompting && !terminal {
                out!("{line}");
            }
            let words = words::split(&line);
            if words.is_empty() {
                continue;
            }
            self.history.push(line);
            if self.process(&words).await == Next::Quit {
                if let Some(mut session) = self.session.take() {
                    session.close(&mut self.output).await;
                    self.output.print();
                }
                return;
            }
        }
    }

    fn is_alive(&self) -> bool {
        self.session.as_ref().is_some_and(Session::is_alive)
    }

    fn prompt(&self) {
        let state = self.session.as_ref().map_or("CLOSED", Session::state);
        let mut output = std::io::stdout();
        let _ = write!(
            output,
            "[zk: {}({state}) {}] ",
            self.host,
            self.history.len()
        )
        .and_then(|()| output.flush());
    }

    fn read_lines(&self) -> mpsc::Receiver<String> {
        let (sender, lines) = mpsc::channel(LINES_AHEAD);
        let shutdown = self.world.tasks.shutdown().clone();
        self.world
            .tasks
            .spawn("standard-input", Kind::Connection, async move {
                tokio::select! {
                    () = blocking(move || read_lines(&sender)) => {}
                    // The thread may hang in a read; it ends with the process.
                    () = shutdown.stopped() => {}
                }
            });
        lines
    }

    /// The next line; watch events are printed while it is waited for.
    async fn next_line(&mut self, lines: &mut mpsc::Receiver<String>) -> Option<String> {
        loop {
            let Some(session) = &mut self.session else {
                return lines.recv().await;
            };
            tokio::select! {
                biased;
                () = session.news(&mut self.output) => {}
                line = lines.recv() => return line,
            }
            self.output.print();
        }
    }

    /// Runs a command, prints what came of it, and notes the exit code.
    async fn process(&mut self, words: &[String]) -> Next {
        let mut answer = Output {
            lines: Vec::new(),
            events: self.output.events,
        };
        let result = self.dispatch(words, &mut answer).await;
        // What was told before the answer is printed before it.
        if let Some(session) = &mut self.session {
            session.settle(&mut self.output).await;
        }
        self.output.lines.append(&mut answer.lines);
        let next = match result {
            Ok(next) => {
                if next == Next::Line {
                    self.code = 0;
                }
                next
            }
            Err(refusal) => {
                self.code = refusal.code;
                self.output.error(refusal.message);
                let unreached = self.session.as_ref().filter(|session| session.failed());
                if let Some(session) = unreached {
                    self.output.error(session.problem());
                }
                Next::Line
            }
        };
        self.output.print();
        next
    }

    async fn dispatch(&mut self, words: &[String], answer: &mut Output) -> Result<Next, Refusal> {
        let again = self.redone(words)?;
        let words = again.as_deref().unwrap_or(words);
        let name = words.first().map_or("", String::as_str);
        let usage = commands::find(name).ok_or_else(|| not_found(name, answer))?;
        let was_alive = self.is_alive();
        match name {
            "quit" => return Ok(Next::Quit),
            "history" => self.show_history(answer),
            "redo" => {}
            "printwatches" => match words.get(1) {
                None => {
                    let on = if self.output.events { "on" } else { "off" };
                    answer.line(format!("printwatches is {on}"));
                }
                Some(word) => self.output.events = word == "on",
            },
            "connect" => {
                let servers = words.get(1).unwrap_or(&self.host).clone();
                let session = Session::start(self.world, &servers, self.timeout);
                let session = session.map_err(Refusal::new)?;
                if let Some(mut old) = self.session.replace(session) {
                    old.close(&mut self.output).await;
                }
                self.host = servers;
                self.output.print();
                self.connected().await;
            }
            "close" => match &mut self.session {
                Some(session) if session.is_alive() => session.close(&mut self.output).await,
                _ => answer.line("Not connected"),
            },
            "version" if self.is_alive() => answer.line(format!(
                "ZooKeeper CLI version: {VERSION}, built on {BUILT_ON}"
            )),
            "version" => {}
            _ => match &mut self.session {
                Some(session) if session.is_alive() => {
                    commands::run(usage, words, session, answer).await?;
                }
                _ => {}
            },
        }
        // The original looks for the connection after whatever needs none, too.
        let needs_none = matches!(name, "history" | "redo" | "printwatches" | "connect");
        if name != "close" && !(was_alive || needs_none && self.is_alive()) {
            answer.line("Not connected");
        }
        Ok(Next::Line)
    }

    /// The words of the command that `redo` means.
    fn redone(&mut self, words: &[String]) -> Result<Option<Vec<String>>, Refusal> {
        let [redo, which, ..] = words else {
            return Ok(None);
        };
        if redo != "redo" {
            return Ok(None);
        }
        let which: i32 = words::number(which)?;
        let last = self.history.len().saturating_sub(1);
        let line = usize::try_from(which)
            .ok()
            .filter(|which| *which < last)
            .and_then(|which| self.history.get(which).cloned())
            .ok_or_else(|| Refusal::new("Command index out of range"))?;
        let again = words::split(&line);
        if again.first().is_some_and(|word| word == "redo") {
            return Err(Refusal::new("No redoing redos"));
        }
        if let Some(now) = self.history.last_mut() {
            *now = line;
        }
        Ok(Some(again))
    }

    fn show_history(&self, answer: &mut Output) {
        let first = self.history.len().saturating_sub(HISTORY + 1);
        if self.history.is_empty() {
            // One command on the command line leaves no line behind.
            answer.line("0 - null");
        }
        for (number, line) in self.history.iter().enumerate().skip(first) {
            answer.line(format!("{number} - {line}"));
        }
    }
}

fn not_found(name: &str, answer: &mut Output) -> Refusal {
    list_commands(answer);
    Refusal {
        message: format!("Command not found: Command not found {name}"),
        code: NOT_FOUND,
    }
}

fn list_commands(answer: &mut Output) {
    usage().for_each(|line| answer.error(line));
}

fn usage() -> impl Iterator<Item = String> {
    let commands = commands::USAGES
        .iter()
        .map(|usage| format!("\t{} {}", usage.name, usage.text));
    let first = "ZooKeeper -server host:port -client-configuration properties-file cmd args";
    std::iter::once(first.to_owned()).chain(commands)
}

/// Reads standard input to its end.
fn read_lines(sender: &mpsc::Sender<String>) {
    let mut input = std::io::stdin().lock();
    let mut line = Vec::new();
    loop {
        line.clear();
        match input.read_until(b'\n', &mut line) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) => {
                err!("reading standard input: {error}");
                return;
            }
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches(['\n', '\r']).to_owned();
        if sender.blocking_send(text).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        words::split(line)
    }

    #[test]
    fn options_come_before_the_command() {
        let parsed = arguments(&words("-server a:1,b:2/x -timeout 5000 get -s /path"));
        assert_eq!(
            parsed,
            Ok(Arguments {
                servers: "a:1,b:2/x".to_owned(),
                timeout: Duration::from_secs(5),
                command: words("get -s /path"),
            })
        );
        let parsed = arguments(&[]).expect("nothing is fine");
        assert_eq!(parsed.servers, "localhost:2181");
        assert!(parsed.command.is_empty());
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        for (line, named) in [
            ("-r ls /", "-r"),
            ("-client-configuration f ls /", "-client-configuration"),
            ("-zk-tls-config-file f", "-zk-tls-config-file"),
            ("-bogus", "-bogus"),
            ("-server", "no argument found for option -server"),
            ("-timeout soon", "soon"),
        ] {
            let message = arguments(&words(line)).expect_err(line);
            assert!(message.contains(named), "{line}: {message}");
        }
    }

    #[test]
    fn every_unknown_command_lists_the_known_ones() {
        let mut answer = Output {
            lines: Vec::new(),
            events: true,
        };
        let refusal = not_found("bogus", &mut answer);
        assert_eq!(refusal.code, 127);
        assert_eq!(answer.lines.len(), commands::USAGES.len() + 1);
        assert!(answer.lines[1].1.starts_with("\taddWatch [-m mode] path"));
    }

    #[test]
    fn events_are_printed_as_the_originals() {
        let mut output = Output {
            lines: Vec::new(),
            events: true,
        };
        output.event("SyncConnected", "NodeCreated", Some("/a"));
        output.events = false;
        output.event("SyncConnected", "None", None);
        assert_eq!(
            output.lines,
            [(
                false,
                "\nWATCHER::\n\nWatchedEvent state:SyncConnected type:NodeCreated path:/a"
                    .to_owned()
            )]
        );
    }
}
