//! Three nodes as processes of the real binary, both roles each, and signals to them.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::time::Instant;
use tripod::common::net::HostPort;

use crate::http_get::http_get;

/// How long anything may take before a test gives up.
pub const DEADLINE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(10);

/// Waits until `condition` holds; panics with `what` otherwise.
pub async fn wait_until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition().await {
        assert!(
            Instant::now() < deadline,
            "waited {DEADLINE:?} in vain: {what}"
        );
        tokio::time::sleep(LOOK).await;
    }
}

/// Where a node runs.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its address, for the other nodes and for clients.
    pub host: String,
    /// The process whose network namespace it shares, where that is not ours.
    pub namespace: Option<u32>,
    /// How many descriptors it may have, where that is not as many as we.
    pub descriptors: Option<u32>,
    /// A disk of its own for this directory below its data, of so many MiB; in a mount namespace only.
    pub disk: Option<(&'static str, u32)>,
}

impl Place {
    /// On this machine's loopback.
    pub fn local() -> Place {
        Place {
            host: "127.0.0.1".to_owned(),
            namespace: None,
            descriptors: None,
            disk: None,
        }
    }

    /// What starts `program` there.
    pub fn command(&self, program: &str) -> Command {
        let mut words = Vec::new();
        if let Some(pid) = self.namespace {
            words.extend(["nsenter", "--net", "--target"].map(str::to_owned));
            words.extend([pid.to_string(), "--".to_owned()]);
        }
        if let Some(limit) = self.descriptors {
            let script = format!("ulimit -n {limit}; exec \"$0\" \"$@\"");
            words.extend(["sh".to_owned(), "-c".to_owned(), script]);
        }
        words.push(program.to_owned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command
    }
}

#[derive(Clone, Copy, Debug)]
struct Ports {
    kafka: u16,
    zookeeper: u16,
    quorum: u16,
    election: u16,
    http: u16,
}

fn free_port() -> u16 {
    // Below those that the system gives to outgoing connections; this binary runs its tests one by one.
    static NEXT: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 100).expect("below 100") * 90;
    loop {
        let next = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let port = 12_000 + (first + next) % 9_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// One node.
pub struct Node {
    place: Place,
    ports: Ports,
    config: PathBuf,
    data: PathBuf,
    log: PathBuf,
    child: Option<Child>,
}

/// The cluster; its processes end with it.
pub struct Nodes {
    pub nodes: Vec<Node>,
    dir: Option<TempDir>,
}

impl Nodes {
    /// Starts three nodes with `settings` (YAML below `broker:`) beside the usual ones.
    pub async fn start(places: [Place; 3], settings: &[(&str, &str)]) -> Nodes {
        let dir = tempfile::tempdir().expect("a directory");
        let ports: Vec<Ports> = (0..3)
            .map(|_| Ports {
                kafka: free_port(),
                zookeeper: free_port(),
                quorum: free_port(),
                election: free_port(),
                http: free_port(),
            })
            .collect();
        let nodes = (0..3).map(|index| {
            let root = dir.path().join(format!("node{}", index + 1));
            std::fs::create_dir_all(&root).expect("made");
            if let Some((below, size)) = places[index].disk {
                mount(&root.join("data").join(below), size);
            }
            let config = root.join("tripod.yaml");
            std::fs::write(
                &config,
                yaml(index, &places, &ports, &root.join("data"), settings),
            )
            .expect("written");
            Node {
                place: places[index].clone(),
                ports: ports[index],
                config,
                data: root.join("data"),
                log: root.join("log"),
                child: None,
            }
        });
        let mut nodes = Nodes {
            nodes: nodes.collect(),
            dir: Some(dir),
        };
        for index in 0..3 {
            nodes.spawn(index);
        }
        for index in 0..3 {
            nodes.ready(index).await;
        }
        nodes
    }

    /// Where clients begin.
    pub fn bootstrap(&self) -> Vec<HostPort> {
        let at = |node: &Node| HostPort::new(node.place.host.clone(), node.ports.kafka);
        self.nodes.iter().map(at).collect()
    }

    /// Starts one process; does not wait for it.
    pub fn spawn(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        assert!(node.child.is_none(), "node {index} runs already");
        let log = File::options().create(true).append(true).open(&node.log);
        let log = log.expect("a log file");
        let mut command = node.place.command(env!("CARGO_BIN_EXE_tripod"));
        // What is said to the tests is no setting of a node.
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"TRIPOD_") {
                command.env_remove(name);
            }
        }
        let child = command
            .args(["serve", "--config"])
            .arg(&node.config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor"))
            .stderr(log)
            .spawn();
        node.child = Some(child.expect("the binary starts"));
    }

    /// Waits until it says that it is ready.
    pub async fn ready(&mut self, index: usize) {
        let http = self.http(index);
        wait_until(&format!("node {index} is ready"), async || {
            self.nodes[index].must_run(index);
            matches!(http_get(&http, "/readyz").await, Ok((200, _)))
        })
        .await;
    }

    /// Waits until it says that it is not.
    pub async fn unready(&mut self, index: usize) {
        assert!(!self.unready_or_ended(index).await, "node {index} ended");
    }

    /// Waits until it says that it is not, or has ended (not as if all were well): did it?
    pub async fn unready_or_ended(&mut self, index: usize) -> bool {
        let http = self.http(index);
        wait_until(&format!("node {index} is not ready"), async || {
            let answer = http_get(&http, "/readyz").await;
            let why = answer.map_or(String::new(), |(_, why)| why);
            self.has_ended(index) || why.contains("No space left")
        })
        .await;
        let ended = self.has_ended(index);
        if ended {
            self.ends(index).await;
        }
        ended
    }

    fn http(&self, index: usize) -> HostPort {
        let node = &self.nodes[index];
        HostPort::new(node.place.host.clone(), node.ports.http)
    }

    /// Where its files are.
    pub fn data(&self, index: usize) -> &Path {
        &self.nodes[index].data
    }

    /// Its process.
    pub fn pid(&self, index: usize) -> u32 {
        self.nodes[index].child.as_ref().expect("it runs").id()
    }

    /// Where it serves clients.
    pub fn kafka(&self, index: usize) -> HostPort {
        self.bootstrap()[index].clone()
    }

    /// Where it serves ZooKeeper's clients.
    pub fn zookeeper(&self, index: usize) -> HostPort {
        let node = &self.nodes[index];
        HostPort::new(node.place.host.clone(), node.ports.zookeeper)
    }

    /// Whether its process is gone.
    pub fn has_ended(&mut self, index: usize) -> bool {
        let child = self.nodes[index].child.as_mut().expect("it was started");
        child.try_wait().expect("our own child").is_some()
    }

    /// Waits until it ends by itself; not by a panic, and not as if all were well.
    pub async fn ends(&mut self, index: usize) {
        let status = self.ended(index).await;
        assert_eq!(status.code(), Some(1), "{index}");
    }

    /// Waits for its end. Until then it is ours to kill.
    async fn ended(&mut self, index: usize) -> ExitStatus {
        wait_until(&format!("node {index} ends"), async || {
            self.has_ended(index)
        })
        .await;
        let mut child = self.nodes[index].child.take().expect("it was started");
        child.wait().expect("our own child")
    }

    fn signal(&self, index: usize, signal: Signal) {
        let child = self.nodes[index].child.as_ref().expect("it runs");
        let pid = Pid::from_child(child);
        kill_process(pid, signal).expect("our own child");
    }

    /// kill -9.
    pub fn kill(&mut self, index: usize) {
        self.signal(index, Signal::KILL);
        let mut child = self.nodes[index].child.take().expect("it runs");
        child.wait().expect("it ends");
    }

    /// SIGTERM, and waits for its end, which must be a success.
    pub async fn stop(&mut self, index: usize) {
        self.signal(index, Signal::TERM);
        let status = self.ended(index).await;
        assert_eq!(status.code(), Some(0), "{index}");
    }

    pub fn pause(&self, index: usize) {
        self.signal(index, Signal::STOP);
    }

    pub fn resume(&self, index: usize) {
        self.signal(index, Signal::CONT);
    }

    /// Keeps the directory for a person to look at.
    pub fn keep(&mut self) -> Option<PathBuf> {
        self.dir.take().map(TempDir::keep)
    }

    /// Lines of the logs that a person must look at.
    pub fn alarms(&self) -> Vec<String> {
        let logs = self
            .nodes
            .iter()
            .filter_map(|node| std::fs::read_to_string(&node.log).ok());
        let alarming = |line: &&str| line.contains(" ERROR ") || line.contains("panicked");
        logs.flat_map(|log| {
            log.lines()
                .filter(alarming)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect()
    }
}

impl Node {
    fn must_run(&mut self, index: usize) {
        let child = self.child.as_mut().expect("it was started");
        if let Ok(Some(status)) = child.try_wait() {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            panic!("node {index} ended with {status}:\n{log}");
        }
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if let Some(mut child) = node.child.take() {
                // A paused process takes this signal, too.
                let _ = child.kill();
                let _ = child.wait();
            }
            if let Some((below, _)) = node.place.disk {
                let _ = Command::new("umount").arg(node.data.join(below)).status();
            }
        }
    }
}

/// A file system of `size` MiB, which goes with the mount namespace that we are in.
fn mount(at: &Path, size: u32) {
    std::fs::create_dir_all(at).expect("made");
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", &format!("size={size}m"), "tmpfs"]);
    let status = mount.arg(at).status().expect("it starts");
    assert!(status.success(), "{status}");
}

fn yaml(
    index: usize,
    places: &[Place],
    ports: &[Ports],
    data: &Path,
    settings: &[(&str, &str)],
) -> String {
    let (own, host) = (ports[index], &places[index].host);
    let mut text = format!(
        "node: {{ roles: [coordinator, broker], data.dir: {} }}\nhttp: {{ port: {} }}\ncoordinator:\n  myid: {}\n  clientPort: {}\n  \
         clientPortAddress: {host}\n",
        data.display(),
        own.http,
        index + 1,
        own.zookeeper,
    );
    for (member, ports) in ports.iter().enumerate() {
        let Ports {
            quorum,
            election,
            zookeeper,
            ..
        } = ports;
        let line = format!(
            "  server.{}: {}:{quorum}:{election};{zookeeper}\n",
            member + 1,
            places[member].host
        );
        text.push_str(&line);
    }
    text.push_str(&format!(
        "broker:\n  broker.id: {index}\n  listeners: PLAINTEXT://{host}:{}\n",
        own.kafka
    ));
    for (name, value) in settings {
        text.push_str(&format!("  {name}: {value}\n"));
    }
    text
}
