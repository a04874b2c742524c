//! A node that cannot start says why in one message, ends with a code that is not 0, and changes nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::cluster::{DEADLINE, free_port, http_get, wait_until};
use tripod::common::net::HostPort;

/// The real binary, without this environment's settings.
pub fn tripod(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tripod"));
    command
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs to the end, which has to come by itself.
async fn run(mut command: Command) -> Output {
    let mut child = command.spawn().expect("the binary is there");
    let deadline = Instant::now() + DEADLINE;
    let status = loop {
        if let Some(status) = child.try_wait().expect("our child") {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().expect("our child");
            panic!("it runs on: {command:?}");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let mut output = Output {
        status,
        stdout: Vec::new(),
        stderr: Vec::new(),
    };
    let (mut out, mut err) = (
        child.stdout.take().expect("piped"),
        child.stderr.take().expect("piped"),
    );
    out.read_to_end(&mut output.stdout).expect("a pipe");
    err.read_to_end(&mut output.stderr).expect("a pipe");
    output
}

/// A file's time of change and content; a directory has neither.
pub type Content = (Option<SystemTime>, Vec<u8>);

/// Everything below a directory.
pub fn contents(dir: &Path) -> BTreeMap<String, Content> {
    let mut all = BTreeMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            let name = path.display().to_string();
            if path.is_dir() {
                all.insert(name, (None, Vec::new()));
                dirs.push(path);
            } else {
                let changed = fs::metadata(&path).and_then(|file| file.modified());
                let bytes = fs::read(&path).expect("a file");
                all.insert(name, (Some(changed.expect("a time")), bytes));
            }
        }
    }
    all
}

/// Must fail with a message that holds `said`, and leave `dir` as it was.
pub async fn refused(dir: &Path, arguments: &[&str], said: &[&str]) {
    refused_command(dir, tripod(arguments), said).await;
}

pub async fn refused_command(dir: &Path, command: Command, said: &[&str]) {
    let before = contents(dir);
    let arguments = format!("{command:?}");
    let output = run(command).await;
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.code().is_some_and(|code| code != 0),
        "{arguments} ended with {:?}: {stderr}",
        output.status
    );
    for text in said {
        assert!(stderr.contains(text), "{text:?} is not in:\n{stderr}");
    }
    assert!(!stderr.contains("panicked"), "{stderr}");
    let messages = stderr
        .lines()
        .filter(|line| line.starts_with("tripod: ") || line.starts_with("error: "));
    assert_eq!(messages.count(), 1, "one message:\n{stderr}");
    let after = contents(dir);
    let changed: Vec<&String> = after
        .iter()
        .filter(|(path, bytes)| before.get(*path) != Some(bytes))
        .map(|(path, _)| path)
        .chain(before.keys().filter(|path| !after.contains_key(*path)))
        .collect();
    assert!(
        changed.is_empty(),
        "{arguments} changed {changed:?}\n{stderr}"
    );
}

/// A node with both halves on ports and a directory of its own.
pub struct Setup {
    pub broker_id: Option<i32>,
    pub kafka: u16,
    pub zookeeper: u16,
    pub http: u16,
    pub data: String,
}

impl Setup {
    pub fn new(dir: &Path) -> Setup {
        Setup {
            broker_id: Some(1),
            kafka: free_port(),
            zookeeper: free_port(),
            http: free_port(),
            data: dir.join("data").display().to_string(),
        }
    }

    /// The usual flags; those of `more` stand instead of the same ones.
    pub fn arguments(&self, more: &[&str]) -> Vec<String> {
        let usual = [
            ("--roles", "coordinator,broker".to_owned()),
            ("--data-dir", self.data.clone()),
            (
                "--listeners",
                format!("PLAINTEXT://127.0.0.1:{}", self.kafka),
            ),
            ("--client-port", self.zookeeper.to_string()),
            ("--http-port", self.http.to_string()),
            ("--log-level", "warn".to_owned()),
        ];
        let mut arguments = vec!["serve".to_owned()];
        if let Some(id) = self.broker_id.filter(|_| !more.contains(&"--broker-id")) {
            arguments.extend(["--broker-id".to_owned(), id.to_string()]);
        }
        for (flag, value) in usual.iter().filter(|(flag, _)| !more.contains(flag)) {
            arguments.extend([(*flag).to_owned(), value.clone()]);
        }
        arguments.extend(more.iter().map(|text| (*text).to_owned()));
        arguments
    }

    pub async fn refused(&self, dir: &Path, more: &[&str], said: &[&str]) {
        let arguments = self.arguments(more);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        refused(dir, &arguments, said).await;
    }

    /// Starts the node.
    pub fn spawn(&self, more: &[&str]) -> Running {
        let arguments = self.arguments(more);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut command = tripod(&arguments);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Running(command.spawn().expect("the binary is there"))
    }

    /// Runs the node until it is ready.
    pub async fn start(&self, more: &[&str]) -> Running {
        let node = self.spawn(more);
        let address = HostPort::new("127.0.0.1", self.http);
        wait_until("the node is ready", || async {
            let (status, _) = http_get(&address, "/readyz").await.ok()?;
            (status == 200).then_some(())
        })
        .await;
        node
    }

    /// Runs the node until it is ready, and stops it as an operator does.
    pub async fn run_once(&self) {
        self.start(&[]).await.stop().await;
    }
}

/// A child that goes with the test.
pub struct Running(pub Child);

impl Running {
    /// Stops it as an operator does.
    pub async fn stop(mut self) {
        let pid = i32::try_from(self.0.id()).expect("a pid");
        let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("our child");
        let deadline = Instant::now() + DEADLINE;
        let status = loop {
            if let Some(status) = self.0.try_wait().expect("our child") {
                break status;
            }
            assert!(Instant::now() < deadline, "it does not stop");
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        assert_eq!(status.code(), Some(0), "a clean stop");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn wrong_flags_and_settings_name_the_nearest_right_one() {
    let dir = tempfile::tempdir().expect("a directory");
    refused(
        dir.path(),
        &["serve", "--data-dri", "x"],
        &["--data-dri", "--data-dir"],
    )
    .await;
    refused(
        dir.path(),
        &["serve", "--override", "nonsense"],
        &["NAME=VALUE", "nonsense"],
    )
    .await;
    let setup = Setup::new(dir.path());
    for (flags, said) in [
        (
            ["--set", "broker.num.partition=3"],
            ["num.partition", "num.partitions"],
        ),
        (["--override", "num.partitions=0"], ["num.partitions", "0"]),
        (["--set", "http.prot=1"], ["http.prot", "http.port"]),
        (["--listeners", "nonsense"], ["listeners", "nonsense"]),
        (["--roles", "brocker"], ["brocker", "broker"]),
        (["--config", "/no/such/file"], ["/no/such/file", "o"]),
    ] {
        setup.refused(dir.path(), &flags, &said).await;
        let check = [&flags[..], &["--check-config"]].concat();
        setup.refused(dir.path(), &check, &said).await;
    }

    // What a server.properties may hold, --override may say.
    let check = [
        "--override",
        "num.partition=0",
        "--override",
        "num.partitions=0",
    ];
    let said = ["warning: --override num.partition:", "num.partitions"];
    setup.refused(dir.path(), &check, &said).await;

    // All problems at once, each with its place. A key of a file that Kafka would pass over is none.
    let file = dir.path().join("server.properties");
    fs::write(&file, "broker.id=x\nlog.dri=/x\nnum.network.threads=many\n").expect("written");
    let file = file.display().to_string();
    let mut setup = setup;
    setup.broker_id = None;
    let check = ["--server-properties", &file, "--check-config"];
    let said = [":1", "broker.id", ":3", "num.network.threads"];
    setup.refused(dir.path(), &check, &said).await;
}

#[tokio::test]
async fn a_good_configuration_is_ok_and_changes_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let setup = Setup::new(dir.path());
    let arguments = setup.arguments(&["--check-config"]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = run(tripod(&arguments)).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(output.stdout, b"OK\n");
    assert_eq!(output.stderr, b"");
    assert!(contents(dir.path()).is_empty());
}

#[tokio::test]
async fn an_unknown_key_of_a_file_is_a_warning_with_the_nearest_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("server.properties");
    fs::write(&file, "broker.id=1\nlog.dri=/x\n").expect("written");
    let file = file.display().to_string();
    let setup = Setup::new(dir.path());
    let arguments = setup.arguments(&["--server-properties", &file, "--check-config"]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = run(tripod(&arguments)).await;
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    for text in ["warning: ", &format!("{file}:2"), "log.dri", "log.dir"] {
        assert!(stderr.contains(text), "{text:?} is not in:\n{stderr}");
    }
}

#[tokio::test]
async fn a_busy_port_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let setup = Setup::new(dir.path());
    for port in [setup.zookeeper, setup.http, setup.kafka] {
        let _busy = TcpListener::bind(("0.0.0.0", port)).expect("free");
        setup.refused(dir.path(), &[], &[&port.to_string()]).await;
    }
    // A broker alone, as its coordinator is elsewhere.
    let _busy = TcpListener::bind(("127.0.0.1", setup.kafka)).expect("free");
    let connect = format!("127.0.0.1:{}", setup.zookeeper);
    let broker = ["--roles", "broker", "--zookeeper-connect", &connect];
    setup
        .refused(dir.path(), &broker, &[&setup.kafka.to_string()])
        .await;
}

#[tokio::test]
async fn an_unusable_data_directory_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    // A file is in the way: that stops root too.
    let mut setup = Setup::new(dir.path());
    let file = dir.path().join("file");
    fs::write(&file, "mine").expect("written");
    setup.data = file.join("data").display().to_string();
    setup.refused(dir.path(), &[], &[&setup.data]).await;
    setup.data = "/proc/none/data".to_owned();
    setup.refused(dir.path(), &[], &["/proc/none/data"]).await;
}

#[tokio::test]
async fn a_directory_of_another_node_or_with_damage_is_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let setup = Setup::new(dir.path());
    setup.run_once().await;
    let data = Path::new(&setup.data);
    let properties = data.join("broker/meta.properties");
    assert!(properties.exists(), "{:?}", contents(data).keys());

    setup.refused(dir.path(), &["--myid", "7"], &["7"]).await;
    let connect = format!("127.0.0.1:{}", setup.zookeeper);
    let good = fs::read(&properties).expect("there");
    // The broker alone reads its directory before it looks for a ZooKeeper.
    let stranger = [
        "--roles",
        "broker",
        "--zookeeper-connect",
        &connect,
        "--broker-id",
        "9",
    ];
    setup
        .refused(
            dir.path(),
            &stranger,
            &["belongs to broker 1", "this is broker 9"],
        )
        .await;
    // With its coordinator it does so before that one writes anything.
    setup
        .refused(dir.path(), &stranger[4..], &["belongs to broker 1"])
        .await;
    let elsewhere = ["--cluster-id", "AAAAAAAAAAAAAAAAAAAAAA"];
    setup
        .refused(dir.path(), &elsewhere, &["AAAAAAAAAAAAAAAAAAAAAA"])
        .await;
    for damaged in [
        "",
        "broker.id=x\n",
        "version=99\nbroker.id=1\n",
        "version=0\ncluster.id=x\n",
        "version=1\nnode.id=1\ncluster.id=x\n",
        "\u{0}\u{0}\u{0}\u{0}",
    ] {
        fs::write(&properties, damaged).expect("written");
        let broker = ["--roles", "broker", "--zookeeper-connect", &connect];
        for roles in [&broker[..], &[]] {
            setup.refused(dir.path(), roles, &["meta.properties"]).await;
        }
    }
    fs::write(&properties, good).expect("written");
    let file = dir.path().join("file");
    fs::write(&file, "mine").expect("written");
    let logs = format!("log.dirs={}", file.join("logs").display());
    let unusable = ["--override", &logs];
    setup.refused(dir.path(), &unusable, &["file/logs"]).await;
    setup.run_once().await;
}

#[tokio::test]
async fn partitions_of_a_cluster_that_the_coordinator_does_not_know_are_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let setup = Setup::new(dir.path());
    setup.run_once().await;
    let (data, broker) = (
        Path::new(&setup.data),
        Path::new(&setup.data).join("broker"),
    );
    let lose_the_rest = || {
        for entry in fs::read_dir(data).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path != broker && path.is_dir() {
                fs::remove_dir_all(&path).expect("removed");
            }
        }
    };
    fs::create_dir(broker.join("t-0")).expect("made");
    lose_the_rest();
    let properties = fs::read_to_string(broker.join("meta.properties")).expect("there");
    let cluster = properties
        .lines()
        .find_map(|line| line.strip_prefix("cluster.id="))
        .expect("an id");
    let named = broker.display().to_string();
    for _ in 0..2 {
        setup
            .refused(
                data,
                &[],
                &[&named, cluster, "restore the coordinator's data"],
            )
            .await;
    }
    // What only waits for its removal belongs to nobody.
    fs::rename(broker.join("t-0"), broker.join("t-0.0123-delete")).expect("renamed");
    setup.run_once().await;
    let after = fs::read_to_string(broker.join("meta.properties")).expect("there");
    assert_eq!(after, properties);
}

/// `tripod dev` on ports of its own, with its standard output in a file.
fn dev(dir: &Path, more: &[&str]) -> (Command, std::path::PathBuf) {
    let (kafka, zookeeper) = (free_port().to_string(), free_port().to_string());
    let mut arguments = vec!["dev", "--zookeeper-port", &zookeeper];
    if !more.contains(&"--port") {
        arguments.extend(["--port", &kafka]);
    }
    arguments.extend(more);
    let mut command = tripod(&arguments);
    let stdout = dir.join("stdout");
    command
        .env("TMPDIR", dir)
        .stdout(fs::File::create(&stdout).expect("a file"));
    (command, stdout)
}

#[tokio::test]
async fn dev_shows_its_banner_when_everything_listens_and_not_before() {
    let dir = tempfile::tempdir().expect("a directory");
    // Whoever has 8080, nobody asked for it: the banner says where HTTP really is.
    let _taken = TcpListener::bind(("127.0.0.1", 8080));
    for (more, end) in [
        (&["--log-format", "text"][..], "  Ctrl-C stops.\n"),
        (&["--log-format", "json"], " (gone at the end)\"}\n"),
    ] {
        let (mut command, stdout) = dev(dir.path(), more);
        let node = Running(command.spawn().expect("the binary is there"));
        wait_until("the banner is there", || async {
            let text = fs::read_to_string(&stdout).ok()?;
            text.contains(end).then_some(())
        })
        .await;
        let text = fs::read_to_string(&stdout).expect("a file");
        let (before, banner) = text
            .split_once("Transitioning from RECOVERY to RUNNING")
            .expect("the broker was ready before");
        assert!(!before.contains("Kafka      "), "{text}");
        assert!(!banner.contains("localhost:8080"), "{text}");
        if more.contains(&"json") {
            for line in text.lines() {
                serde_json::from_str::<serde_json::Value>(line).expect(line);
            }
        }
        let pid = i32::try_from(node.0.id()).expect("a pid");
        let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("our child");
        wait_until("it has tidied up", || async {
            let mut left = fs::read_dir(dir.path()).ok()?.flatten();
            let ours = |name: &str| name.starts_with("tripod-dev-");
            let left = left.any(|entry| entry.file_name().to_str().is_some_and(ours));
            (!left).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn dev_names_the_port_that_is_taken_and_shows_no_banner() {
    let dir = tempfile::tempdir().expect("a directory");
    let busy = TcpListener::bind(("127.0.0.1", 0)).expect("free");
    let port = busy.local_addr().expect("bound").port().to_string();
    for flag in ["--port", "--http-port"] {
        let (mut command, stdout) = dev(dir.path(), &[flag, &port]);
        let mut child = command.spawn().expect("the binary is there");
        // `run` wants a pipe for standard output.
        let status = wait_until("it ends", || {
            let ended = child.try_wait().expect("our child");
            async move { ended }
        })
        .await;
        let mut stderr = String::new();
        let mut pipe = child.stderr.take().expect("piped");
        pipe.read_to_string(&mut stderr).expect("a pipe");
        assert_eq!(status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(&format!("localhost:{port}")), "{stderr}");
        let shown = fs::read_to_string(&stdout).expect("a file");
        assert!(!shown.contains("Ctrl-C stops"), "{flag}: {shown}");
        let left: Vec<_> = contents(dir.path()).into_keys().collect();
        assert_eq!(left, [stdout.display().to_string()], "{flag}");
    }
}

#[tokio::test]
async fn a_daemon_with_a_wrong_configuration_is_told_at_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("server.properties");
    fs::write(&file, "broker.id=x\nzookeeper.connect=a:1:2\n").expect("written");
    let before = contents(dir.path());
    let name = file.display().to_string();
    let mut command = tripod(&["server-start", "-daemon", &name]);
    command.env("LOG_DIR", dir.path().join("logs"));
    let output = run(command).await;
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    for text in [format!("{name}:1: "), format!("{name}:2: ")] {
        assert!(stderr.contains(&text), "{stderr}");
    }
    assert_eq!(contents(dir.path()), before);
}

#[tokio::test]
async fn a_log_filter_and_a_port_for_two_are_told_by_check_config_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let setup = Setup::new(dir.path());
    let port = setup.kafka.to_string();
    let flags = ["--log-level", "a=b=c", "--client-port", &port];
    let said = [
        "2 problems",
        "log.level 'a=b=c' is no filter",
        "clientPort and listener PLAINTEXT",
    ];
    setup.refused(dir.path(), &flags, &said).await;
    let check = [&flags[..], &["--check-config"]].concat();
    setup.refused(dir.path(), &check, &said).await;
}

#[test]
fn the_shell_tests_end_at_a_taken_port_before_they_start_anything() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (busy, free) = (listener.local_addr().expect("bound").port(), free_port());
    let library = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lib/common.sh");
    for (ports, code) in [(vec![free], 0), (vec![free, busy], 2)] {
        let places: Vec<String> = ports.iter().map(|p| format!("127.0.0.1:{p}")).collect();
        let script = format!(". '{library}'; need_ports {}", places.join(" "));
        let output = Command::new("bash").args(["-c", &script]).output();
        let output = output.expect("bash is there");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        if code != 0 {
            assert!(
                stderr.contains(&format!("needs 127.0.0.1:{busy}, and somebody listens")),
                "{stderr}"
            );
        }
    }
}

#[tokio::test]
async fn what_has_to_say_something_and_says_nothing_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let setup = Setup::new(dir.path());
    let id = "for configuration node.cluster.id";
    let long = "x".repeat(129);
    for (flags, said) in [
        (&["--cluster-id", ""][..], id),
        (&["--cluster-id", "a b"], id),
        (&["--cluster-id", "a\"b"], id),
        (&["--cluster-id", "f\u{fc}r"], id),
        (&["--cluster-id", &long], id),
        (&["--roles", ""], "node.roles names nothing to run"),
        (
            &["--data-dir", ""],
            "node.data.dir: String must be non-empty",
        ),
        (
            &["--set", "coordinator.dataDir="],
            "dataDir: String must be non-empty",
        ),
        (
            &["--set", "coordinator.peer.secret="],
            "peer.secret: String must be non-empty",
        ),
        (
            &["--zookeeper-connect", ""],
            "zookeeper.connect names no server",
        ),
        (&["--listeners", ""], "there is no listener for clients"),
        (&["--log-level", ""], "log.level: String must be non-empty"),
        (
            &["--log-level", "bogus"],
            "'bogus' is no level; there are error, warn, info",
        ),
        (
            &["--server", "1=a:1:2", "--server", "1=a:1:2"],
            "--server 1 is there twice",
        ),
    ] {
        for check in [&["--check-config"][..], &[]] {
            let flags = [flags, check].concat();
            setup.refused(dir.path(), &flags, &[said]).await;
        }
    }
    for variable in [
        "CLUSTER_ID",
        "KAFKA_CLUSTER_ID",
        "TRIPOD_NODE_CLUSTER_ID",
        "TRIPOD_CLUSTER_ID",
    ] {
        let mut command = tripod(&["serve", "--data-dir", &setup.data]);
        command.env(variable, "");
        refused_command(dir.path(), command, &[variable]).await;
    }
    let file = dir.path().join("tripod.yaml");
    let name = file.display().to_string();
    for (text, said) in [
        (
            "node: {data.dir: [a, b]}",
            "node.data.dir: one value is wanted",
        ),
        ("node: {roles: []}", "node.roles names nothing to run"),
        ("node: {cluster.id: ''}", id),
        ("broker: {process.roles: ''}", "process.roles is empty"),
        (
            "broker: {zookeeper.connect: []}",
            "zookeeper.connect names no server",
        ),
        (
            "coordinator: {server.1: [a, b]}",
            "server.1: one value is wanted",
        ),
    ] {
        fs::write(&file, text).expect("written");
        let flags = ["serve", "--config", &name, "--check-config"];
        refused(dir.path(), &flags, &[&format!("{name}:1: "), said]).await;
    }
}

#[tokio::test]
async fn a_limit_of_a_files_size_that_no_index_fits_in_is_told_before_anything_is_made() {
    let dir = tempfile::tempdir().expect("a directory");
    let setup = Setup::new(dir.path());
    let arguments = setup.arguments(&[]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let node = tripod(&arguments);
    let mut command = Command::new("bash");
    command
        .args(["-c", "ulimit -f 1024; exec \"$@\"", "bash"])
        .arg(node.get_program())
        .args(node.get_args())
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    refused_command(
        dir.path(),
        command,
        &["1048576 bytes", "log.index.size.max.bytes"],
    )
    .await;
}
