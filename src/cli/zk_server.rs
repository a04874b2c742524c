//! `zkServer.sh`: starts, stops and asks one coordinator, with the words of ZooKeeper 3.6.2.
//!
//! `start` runs this program again in the background and notes its id in `dataDir/zookeeper_server.pid`,
//! as the genuine script does; unlike it, `stop` makes sure that the id is still ours before it kills.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use super::node::HttpPolicy;
use super::print::{err, out};
use super::{daemon, process, serve};
use crate::config::{Sources, properties, zoo_cfg};
use crate::coordinator::status::{BUILT_ON, VERSION};

/// The pid file's name in `dataDir`.
const PID_FILE: &str = "zookeeper_server.pid";
/// How long `start` waits for the port, and `stop` for the end.
const START_LIMIT_MS: u64 = 3_000;
const STOP_LIMIT_MS: u64 = 15_000;
/// How long `start` waits for a server that answers to serve too; the genuine script looks after a second.
const SERVING_LIMIT_MS: u64 = 1_000;
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// `QuorumPeerMain`'s exit code for a configuration that is not valid.
pub(super) const INVALID_CONFIG: u8 = 2;
/// How long `status` waits for an answer.
const ASK_LIMIT: Duration = Duration::from_secs(5);

/// What the script reads out of the configuration.
#[derive(Debug, Default)]
struct Settings {
    data_dir: Option<PathBuf>,
    client_port: Option<u16>,
    client_address: Option<String>,
    /// Was a myid needed to find the port, and found?
    has_myid: bool,
}

/// Runs the script.
pub fn run(program: &str, arguments: Vec<String>) -> u8 {
    daemon::detach_if_asked();
    let mut words = arguments.iter().map(String::as_str).peekable();
    let mut conf_dir = std::env::var("ZOOCFGDIR")
        .map(PathBuf::from)
        .ok()
        .or_else(|| conf_beside(std::env::args_os().next()?.as_ref()))
        .unwrap_or_else(|| PathBuf::from("conf"));
    if words.next_if_eq(&"--config").is_some() {
        let Some(dir) = words.next() else {
            return usage(program);
        };
        conf_dir = PathBuf::from(dir);
    }
    let Some(command) = words.next() else {
        return usage(program);
    };
    let file = config_file(&conf_dir, words.next());
    match std::env::var("JMXDISABLE").as_deref() {
        Err(_) | Ok("" | "false") => err!("ZooKeeper JMX enabled by default"),
        Ok(_) => err!("JMX disabled by user request"),
    }
    err!("Using config: {}", file.display());
    match command {
        "version" => {
            // Its own tool for this knows no revision, and leaves its dash.
            let (number, _) = VERSION.split_once("--").unwrap_or((VERSION, ""));
            out!("Apache ZooKeeper, version {number}- {BUILT_ON}");
            0
        }
        "print-cmd" => print_command(program, &file),
        "start" => start(program, &file),
        "start-foreground" => foreground(&file),
        "stop" => stop(&file),
        "restart" => {
            let code = stop(&file);
            if code == 0 {
                start(program, &file)
            } else {
                code
            }
        }
        "status" => status(&file),
        _ => usage(program),
    }
}

/// What `start` runs.
fn print_command(program: &str, file: &Path) -> u8 {
    let log = output_file();
    out!(
        "\"{program}\" start-foreground \"{}\" > \"{}\" 2>&1 < /dev/null",
        file.display(),
        log.display()
    );
    0
}

/// Where the output of a server in the background goes.
fn output_file() -> PathBuf {
    let log_dir = daemon::zookeeper_log_dir();
    let user = std::env::var("USER").unwrap_or_else(|_| "nobody".to_owned());
    log_dir.join(format!("zookeeper-{user}-server-{}.out", serve::hostname()))
}

fn usage(program: &str) -> u8 {
    err!(
        "Usage: {} [--config <conf-dir>] {{start|start-foreground|stop|version|restart|status|print-cmd}}",
        super::called_as(program)
    );
    1
}

/// `bin/../conf`, as the original script finds it, if this was started by a path and a `zoo.cfg` is there.
fn conf_beside(program: &Path) -> Option<PathBuf> {
    let bin = program.parent().filter(|bin| !bin.as_os_str().is_empty())?;
    let conf = bin.join("../conf");
    conf.join("zoo.cfg").is_file().then_some(conf)
}

/// A plain name is looked for in the configuration directory; a path is taken as it is.
fn config_file(conf_dir: &Path, said: Option<&str>) -> PathBuf {
    let name = said
        .map(str::to_owned)
        .or_else(|| std::env::var("ZOOCFG").ok());
    match name {
        Some(name) if name.contains('/') || (said.is_some() && Path::new(&name).is_file()) => {
            PathBuf::from(name)
        }
        Some(name) => conf_dir.join(name),
        None => conf_dir.join("zoo.cfg"),
    }
}

fn sources(file: &Path) -> Sources {
    let mut variables = serve::variables(std::env::vars_os());
    // The genuine scripts read none of those that their images understand.
    variables.retain(|(name, _)| name.starts_with("TRIPOD_") || name == "JMX_PORT");
    Sources {
        zoo_cfg: Some(file.to_owned()),
        implied: vec![("node.roles".into(), "coordinator".into())],
        variables,
        hostname: serve::hostname(),
        ..Sources::default()
    }
}

fn foreground(file: &Path) -> u8 {
    serve::run_node_or(&sources(file), HttpPolicy::Optional, INVALID_CONFIG)
}

/// Reads the few settings that the script itself needs.
fn settings(file: &Path) -> Result<Settings, String> {
    let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let mut settings = Settings::default();
    let mut members = Vec::new();
    for property in properties::parse(&text) {
        match property.key.as_str() {
            "dataDir" => settings.data_dir = Some(PathBuf::from(property.value)),
            "clientPort" => settings.client_port = property.value.parse().ok(),
            "clientPortAddress" => settings.client_address = Some(property.value),
            key => {
                if let Some(id) = key.strip_prefix("server.")
                    && let Ok(member) = zoo_cfg::member(id, &property.value)
                {
                    members.push(member);
                }
            }
        }
    }
    // The port may stand in the member's own line, after a semicolon.
    if settings.client_port.is_none()
        && let Some(dir) = &settings.data_dir
        && let Ok(myid) = fs::read_to_string(dir.join("myid"))
        && let Ok(myid) = zoo_cfg::myid(&myid)
    {
        settings.has_myid = true;
        let own = members
            .into_iter()
            .find(|member| i64::try_from(member.id.0) == Ok(i64::from(myid)));
        if let Some(client) = own.and_then(|member| member.client) {
            settings.client_port = Some(client.port);
            settings.client_address =
                Some(client.host).filter(|host| !matches!(host.as_str(), "" | "0.0.0.0" | "::"));
        }
    }
    Ok(settings)
}

/// As the genuine script puts it together: without a dataDir it would be in the root directory.
fn pid_file(settings: &Settings) -> PathBuf {
    match (std::env::var_os("ZOOPIDFILE"), &settings.data_dir) {
        (Some(file), _) => PathBuf::from(file),
        (None, Some(dir)) => dir.join(PID_FILE),
        (None, None) => Path::new("/").join(PID_FILE),
    }
}

/// The process that the pid file names, if it still is one of ours.
fn running(pid_file: &Path) -> Option<i32> {
    let pid = fs::read_to_string(pid_file).ok()?.trim().parse().ok()?;
    process::ours(pid).map(|process| process.pid)
}

fn start(program: &str, file: &Path) -> u8 {
    // What is wrong with the configuration is told here, not in an output file.
    if let Err(report) = serve::load(&sources(file)) {
        err!("{report}");
        out!("Starting zookeeper ... FAILED TO START");
        return 1;
    }
    let settings = match settings(file) {
        Ok(settings) => settings,
        Err(text) => {
            err!("{text}");
            return 1;
        }
    };
    let pid_file = pid_file(&settings);
    if let Some(pid) = running(&pid_file) {
        out!("Starting zookeeper ... already running as process {pid}.");
        return 1;
    }
    match launch(program, file, &settings, &pid_file) {
        Ok(()) => {
            out!("Starting zookeeper ... STARTED");
            0
        }
        Err(text) => {
            err!("{text}");
            out!("Starting zookeeper ... FAILED TO START");
            1
        }
    }
}

fn launch(program: &str, file: &Path, settings: &Settings, pid_file: &Path) -> Result<(), String> {
    let dir = pid_file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(dir)
        .map_err(|error| format!("{} cannot be made: {error}", dir.display()))?;
    let log = output_file();
    let file = fs::canonicalize(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let arguments = ["start-foreground".to_owned(), file.display().to_string()];
    // A link keeps its name, so that the process shows what it is.
    let name = if program.starts_with("zkServer") {
        program
    } else {
        "zkServer"
    };
    // Whoever has the port already would answer in the place of our own.
    let taken = connect(&address(settings), ASK_LIMIT).is_ok();
    let mut child = daemon::start(name, &arguments, &log)?;
    fs::write(pid_file, child.id().to_string())
        .map_err(|error| format!("{} cannot be written: {error}", pid_file.display()))?;
    let ended = wait_for_port(&mut child, settings, taken);
    match ended {
        None => Ok(()),
        Some(why) => {
            let _ = fs::remove_file(pid_file);
            let last = fs::read_to_string(&log).unwrap_or_default();
            let last = last.lines().last().unwrap_or("").to_owned();
            Err(format!("{why}; the last line of {}: {last}", log.display()))
        }
    }
}

/// Waits until the client port is open; `Some` is why it never will be. With a port that was `taken` before,
/// only the process itself tells, as the genuine script has it: it has started if it does not end.
fn wait_for_port(child: &mut Child, settings: &Settings, taken: bool) -> Option<String> {
    let address = address(settings);
    let mut looks = 0;
    for _ in 0..START_LIMIT_MS / 20 {
        match child.try_wait() {
            Ok(Some(status)) => return Some(format!("the process ended ({status})")),
            Ok(None) => {}
            Err(error) => return Some(error.to_string()),
        }
        // Answered is as good as started: alone it serves at once, but others have to come first elsewhere.
        if !taken
            && settings.client_port.is_some()
            && let Ok(answer) = ask(&address, "srvr", LOOK_EVERY)
            && !answer.is_empty()
        {
            looks += 1;
            if answer.contains("Mode: ") || looks > SERVING_LIMIT_MS / 20 {
                return None;
            }
        }
        std::thread::sleep(LOOK_EVERY);
    }
    None
}

fn stop(file: &Path) -> u8 {
    let settings = settings(file).unwrap_or_else(|text| {
        err!("{text}");
        Settings::default()
    });
    let pid_file = pid_file(&settings);
    if !pid_file.is_file() {
        out!(
            "Stopping zookeeper ... no zookeeper to stop (could not find file {})",
            pid_file.display()
        );
        return 0;
    }
    if let Some(pid) = running(&pid_file) {
        if let Err(text) = process::terminate(pid) {
            err!("{text}");
            return 1;
        }
        let mut left = STOP_LIMIT_MS / 20;
        while process::ours(pid).is_some() && left > 0 {
            std::thread::sleep(LOOK_EVERY);
            left -= 1;
        }
        if left == 0 {
            err!("process {pid} does not end");
            return 1;
        }
    }
    let _ = fs::remove_file(&pid_file);
    out!("Stopping zookeeper ... STOPPED");
    0
}

fn address(settings: &Settings) -> String {
    let host = settings.client_address.as_deref().unwrap_or("localhost");
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    format!("{host}:{}", settings.client_port.unwrap_or(0))
}

fn status(file: &Path) -> u8 {
    let settings = settings(file).unwrap_or_else(|text| {
        err!("{text}");
        Settings::default()
    });
    let Some(port) = settings.client_port else {
        if settings.has_myid {
            out!("Client port not found in static config file. Looking in dynamic config file.");
            out!("Client port not found in the server configs");
        } else {
            out!(
                "myid could not be determined, will not able to locate clientPort in the server configs."
            );
        }
        out!("Client port not found. Looking for secureClientPort in the static config.");
        out!("Unable to find either secure or unsecure client port in any configs. Terminating.");
        return 1;
    };
    let host = settings.client_address.as_deref().unwrap_or("localhost");
    out!("Client port found: {port}. Client address: {host}. Client SSL: false.");
    let answer = ask(&address(&settings), "srvr", ASK_LIMIT).unwrap_or_default();
    match answer.lines().find(|line| line.contains("Mode")) {
        Some(mode) => {
            out!("{mode}");
            0
        }
        None => {
            out!("Error contacting service. It is probably not running.");
            1
        }
    }
}

fn connect(address: &str, limit: Duration) -> std::io::Result<TcpStream> {
    let mut last = std::io::Error::from(std::io::ErrorKind::NotFound);
    for socket in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&socket, limit) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Sends a four-letter word and reads its answer.
fn ask(address: &str, word: &str, limit: Duration) -> std::io::Result<String> {
    let mut stream = connect(address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.write_all(word.as_bytes())?;
    let mut answer = String::new();
    stream.take(64 * 1024).read_to_string(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_finds_its_file_and_its_settings() {
        let dir = tempfile::tempdir().expect("a directory");
        let conf = Path::new("conf");
        assert_eq!(config_file(conf, None), Path::new("conf/zoo.cfg"));
        assert_eq!(conf_beside(Path::new("zkServer.sh")), None);
        assert_eq!(config_file(conf, Some("a.cfg")), Path::new("conf/a.cfg"));
        assert_eq!(config_file(conf, Some("/x/a.cfg")), Path::new("/x/a.cfg"));

        let file = dir.path().join("zoo.cfg");
        let text = format!(
            "dataDir={}\nserver.2=a:1:2;b:2182\nserver.1=a:1:2;2181\n",
            dir.path().display()
        );
        fs::write(&file, text).expect("written");
        fs::write(dir.path().join("myid"), "2\n").expect("written");
        let read = settings(&file).expect("read");
        assert_eq!(address(&read), "b:2182");
        assert_eq!(pid_file(&read), dir.path().join(PID_FILE));
        assert_eq!(running(&dir.path().join(PID_FILE)), None);
        fs::write(dir.path().join(PID_FILE), "1").expect("written");
        assert_eq!(
            running(&dir.path().join(PID_FILE)),
            None,
            "a stranger is not ours"
        );
    }

    #[test]
    fn another_servers_answer_does_not_stand_for_a_process_that_ended() {
        let other = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let settings = Settings {
            client_port: Some(other.local_addr().expect("bound").port()),
            client_address: Some("127.0.0.1".to_owned()),
            ..Settings::default()
        };
        let process = |seconds: &str| {
            let mut command = std::process::Command::new("sleep");
            command.arg(seconds).spawn().expect("started")
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for stream in other.incoming() {
                    let mut word = [0; 4];
                    let mut stream = stream.expect("a connection");
                    if stream.read_exact(&mut word).is_err() || &word == b"quit" {
                        return;
                    }
                    let _ = stream.write_all(b"Mode: standalone\n");
                }
            });
            let ended = wait_for_port(&mut process("0.2"), &settings, true);
            let mut lives = process("60");
            let own = wait_for_port(&mut lives, &settings, false);
            let _ = lives.kill().and_then(|()| lives.wait());
            let _ = ask(&address(&settings), "quit", ASK_LIMIT);
            // Told only now: whoever waits for the server to end would wait for ever.
            let why = "the process ended (exit status: 0)";
            assert_eq!((ended.as_deref(), own), (Some(why), None));
        });
    }
}
