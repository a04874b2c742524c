//! A node does its work and stops whatever becomes of its standard output and error: readers that have
//! gone, and readers that read nothing.

use std::io::{PipeReader, PipeWriter, Read, Write};
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use tripod::client;
use tripod::common::clock::Clock;
use tripod::common::net::HostPort;
use tripod::common::rng::Rng;
use tripod::common::shutdown::Shutdown;
use tripod::common::tasks::Tasks;

use crate::bad_start::{Running, tripod};
use crate::cluster::{Client, free_port, http_get, wait_until};

/// What becomes of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    /// It can be read.
    There,
    /// It has gone before the first line.
    Gone,
    /// There is one that reads nothing, and the pipe is full before the first line.
    Stalled,
}

/// Writes until nothing more goes into the pipe; says how much it was.
fn fill(pipe: &mut PipeWriter) -> usize {
    let flags = rustix::fs::fcntl_getfl(&*pipe).expect("flags");
    rustix::fs::fcntl_setfl(&*pipe, flags | rustix::fs::OFlags::NONBLOCK).expect("flags");
    let mut filled = 0;
    while let Ok(written) = pipe.write(&[b'.'; 512]) {
        filled += written;
    }
    rustix::fs::fcntl_setfl(&*pipe, flags).expect("flags");
    filled
}

/// A node whose standard output and error are one pipe.
struct Node {
    process: Running,
    kafka: HostPort,
    http: HostPort,
}

impl Node {
    fn start(dir: &Path, level: &str, reads: Reader, more: &[&str]) -> (Node, PipeReader) {
        let (kafka, http) = (free_port(), free_port());
        let (listeners, http_port) = (
            format!("PLAINTEXT://127.0.0.1:{kafka}"),
            format!("http.port={http}"),
        );
        let (zookeeper, data) = (free_port().to_string(), dir.display().to_string());
        let mut arguments = vec!["serve", "--set", &http_port, "--data-dir", &data];
        arguments.extend(["--listeners", &listeners, "--client-port", &zookeeper]);
        arguments.extend(["--node-id", "1", "--log-level", level]);
        arguments.extend(more);
        let (mut reader, mut writer) = std::io::pipe().expect("a pipe");
        match reads {
            Reader::There => {}
            Reader::Gone => reader = std::io::pipe().expect("a pipe").0,
            Reader::Stalled => assert!(fill(&mut writer) > 0),
        }
        let mut command = tripod(&arguments);
        command
            .stdout(writer.try_clone().expect("a descriptor"))
            .stderr(writer)
            .stdin(Stdio::null());
        let node = Node {
            process: Running(command.spawn().expect("the binary is there")),
            kafka: HostPort::new("127.0.0.1", kafka),
            http: HostPort::new("127.0.0.1", http),
        };
        (node, reader)
    }

    async fn ready(&self) {
        wait_until("the node is ready", || async {
            let (status, _) = http_get(&self.http, "/readyz").await.ok()?;
            (status == 200).then_some(())
        })
        .await;
    }

    /// Topics can be made, and their partitions get leaders.
    async fn serves(&self, name: &str) {
        let tasks = Tasks::new(Shutdown::new());
        let world = client::World {
            clock: Clock::real(),
            rng: Rng::from_os(),
            tasks: tasks.clone(),
        };
        let client = Client::new(world, vec![self.kafka.clone()]);
        client.create(name, 20).await;
        assert_eq!(client.put(name, 0, &["x".to_owned()]).await, [0]);
        tasks.shutdown().stop();
    }

    async fn terminate(mut self) -> ExitStatus {
        let pid = i32::try_from(self.process.0.id()).expect("a pid");
        let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
        // Two at once are one wish: timeout(1) sends to the process and to its group.
        for signal in [rustix::process::Signal::TERM, rustix::process::Signal::INT] {
            rustix::process::kill_process(pid, signal).expect("our child");
        }
        wait_until("it stops", || {
            let ended = self.process.0.try_wait().expect("our child");
            async move { ended }
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_outlives_the_reader_of_its_log_and_stops_cleanly() {
    let dir = tempfile::tempdir().expect("a directory");
    for (reads, topic) in [(Reader::There, "a"), (Reader::Gone, "b")] {
        let (node, reader) = Node::start(dir.path(), "debug", reads, &[]);
        node.ready().await;
        drop(reader);
        node.serves(topic).await;
        assert_eq!(node.terminate().await.code(), Some(0), "{topic}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_nobody_reads_costs_lines_and_not_the_node() {
    let dir = tempfile::tempdir().expect("a directory");
    let (node, mut reader) = Node::start(dir.path(), "debug", Reader::Stalled, &[]);
    node.ready().await;
    node.serves("a").await;
    assert_eq!(node.terminate().await.code(), Some(0));
    let mut log = Vec::new();
    reader.read_to_end(&mut log).expect("a pipe");
    assert!(log.iter().all(|byte| *byte == b'.'), "it was full");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_that_takes_too_long_says_what_was_left() {
    let dir = tempfile::tempdir().expect("a directory");
    let limit = ["--set", "node.stop.timeout.ms=0"];
    let (node, mut reader) = Node::start(dir.path(), "info", Reader::There, &limit);
    node.ready().await;
    assert_eq!(node.terminate().await.code(), Some(124));
    let mut log = String::new();
    reader.read_to_string(&mut log).expect("a pipe");
    for text in [
        "tripod: the stop was not done within node.stop.timeout.ms=0; what was left: ",
        " x task '",
    ] {
        assert!(log.contains(text), "{text:?} is not in:\n{log}");
    }
}
