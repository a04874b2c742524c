//! A coordinator with an older copy of its own directory ends by itself, and harms no other one.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tripod::client;
use tripod::client::zookeeper::{Mode, Options, ZooKeeper};
use tripod::common::clock::Clock;
use tripod::common::net::HostPort;
use tripod::common::rng::Rng;
use tripod::common::shutdown::Shutdown;
use tripod::common::tasks::Tasks;

use crate::bad_disk::copy;
use crate::bad_start::{Running, tripod};
use crate::cluster::{DEADLINE, free_port, http_get, wait_until};

pub struct Node {
    arguments: Vec<String>,
    pub data: PathBuf,
    log: PathBuf,
    pub zookeeper: u16,
    pub http: HostPort,
    process: Option<Running>,
}

impl Node {
    pub fn start(&mut self) {
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.expect("a log file");
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        let mut command = tripod(&arguments);
        let both = log.try_clone().expect("a descriptor");
        command.stdin(Stdio::null()).stdout(both).stderr(log);
        self.process = Some(Running(command.spawn().expect("the binary is there")));
    }

    /// kill -9.
    pub fn kill(&mut self) {
        drop(self.process.take().expect("it runs"));
    }

    pub async fn ready(&self) {
        wait_until("a node is ready", || async {
            let (status, _) = http_get(&self.http, "/readyz").await.ok()?;
            (status == 200).then_some(())
        })
        .await;
    }

    pub async fn leads(&self) -> bool {
        let stat = http_get(&self.http, "/commands/stat").await;
        stat.is_ok_and(|(_, body)| body.contains("\"leader\""))
    }

    /// Waits until the process ends by itself.
    pub async fn end(&mut self) -> ExitStatus {
        let mut process = self.process.take().expect("it runs");
        wait_until("a node ends by itself", || {
            let ended = process.0.try_wait().expect("our child");
            async move { ended }
        })
        .await
    }

    pub fn coordinator(&self) -> PathBuf {
        self.data.join("coordinator")
    }

    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).expect("a log file")
    }
}

pub fn three(dir: &Path) -> Vec<Node> {
    let ports: Vec<[u16; 4]> = (0..3).map(|_| [(); 4].map(|()| free_port())).collect();
    let server = |index: usize| {
        let [zookeeper, quorum, election, _] = ports[index];
        let at = format!("127.0.0.1:{quorum}:{election};{zookeeper}");
        format!("coordinator.server.{}={at}", index + 1)
    };
    let node = |index: usize| {
        let [zookeeper, _, _, http] = ports[index];
        let data = dir.join(format!("node{}", index + 1));
        let settings = [
            "node.roles=coordinator".to_owned(),
            format!("node.data.dir={}", data.display()),
            format!("http.port={http}"),
            format!("coordinator.myid={}", index + 1),
            format!("coordinator.clientPort={zookeeper}"),
            server(0),
            server(1),
            server(2),
        ];
        let settings = settings.into_iter().flat_map(|it| ["--set".to_owned(), it]);
        Node {
            arguments: ["serve".to_owned()].into_iter().chain(settings).collect(),
            log: dir.join(format!("log{}", index + 1)),
            data,
            zookeeper,
            http: HostPort::new("127.0.0.1", http),
            process: None,
        }
    };
    (0..3).map(node).collect()
}

pub async fn leader(nodes: &[Node]) -> usize {
    wait_until("one leads", || async {
        for (index, node) in nodes.iter().enumerate() {
            if node.leads().await {
                return Some(index);
            }
        }
        None
    })
    .await
}

pub async fn write(zookeeper: &ZooKeeper, count: usize) {
    for _ in 0..count {
        let made = zookeeper.create("/written-", None, Mode::Sequential);
        made.await.expect("created");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_copy_of_the_directory_ends_its_node_and_no_other_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut nodes = three(dir.path());
    nodes.iter_mut().for_each(Node::start);
    for node in &nodes {
        node.ready().await;
    }
    let tasks = Tasks::new(Shutdown::new());
    let world = client::World {
        clock: Clock::real(),
        rng: Rng::from_os(),
        tasks: tasks.clone(),
    };
    let leads = leader(&nodes).await;
    let options = Options {
        servers: vec![HostPort::new("127.0.0.1", nodes[leads].zookeeper)],
        chroot: String::new(),
        session_timeout: Duration::from_secs(30),
        connection_timeout: Some(DEADLINE),
    };
    let (zookeeper, _events): (Arc<ZooKeeper>, _) = ZooKeeper::connect(options, &world)
        .await
        .expect("a session");
    write(&zookeeper, 10).await;
    for round in 1..=2 {
        let back = (leads + round) % 3;
        let node = &mut nodes[back];
        let (now, old, new) = (
            node.coordinator(),
            node.data.join("old"),
            node.data.join("new"),
        );
        node.kill();
        copy(&now, &old);
        node.start();
        node.ready().await;
        write(&zookeeper, 20).await;
        node.kill();
        fs::rename(&now, &new).expect("moved");
        fs::rename(&old, &now).expect("moved");
        node.start();
        assert!(!node.end().await.success());
        let sentence = format!(
            "its data directory {} is older than what this member had acknowledged to member",
            now.display()
        );
        assert!(node.said().contains(&sentence), "{}", node.said());
        write(&zookeeper, 10).await;
        assert!(nodes[leads].leads().await, "the leader has not noticed");
        let node = &mut nodes[back];
        fs::remove_dir_all(&now).expect("removed");
        fs::rename(&new, &now).expect("moved back");
        node.start();
        node.ready().await;
        write(&zookeeper, 10).await;
    }
    for (index, node) in nodes.iter().enumerate() {
        let said = node.said();
        assert!(!said.contains("panicked"), "node {index}: {said}");
    }
    zookeeper.sync("/").await.expect("in touch");
    let children = zookeeper.children("/").await.expect("listed");
    let written = children.iter().filter(|name| name.starts_with("written-"));
    assert_eq!(written.count(), 90);
    tasks.stop(DEADLINE).await;
}
