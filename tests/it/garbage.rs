//! Bytes that no client sends, on every port of a real process: it answers afterwards and has not grown.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tripod::client;
use tripod::client::consumer::Start;
use tripod::client::zookeeper::{Options, ZooKeeper};
use tripod::common::clock::Clock;
use tripod::common::net::HostPort;
use tripod::common::rng::Rng;
use tripod::common::shutdown::Shutdown;
use tripod::common::tasks::Tasks;

use crate::bad_start::{Running, tripod};
use crate::cluster::{Client, DEADLINE, free_port, http_get, numbered, wait_until};

/// What the process may grow by. Its largest frame is 100 MiB, so a length that is believed shows.
const GROWTH_KIB_MAX: u64 = 64 * 1024;
const NOISE_ROUNDS: u64 = 300;

/// Three nodes in one process of its own.
struct Nodes {
    process: Running,
    kafka: u16,
    zookeeper: u16,
    quorum: u16,
    http: u16,
    tasks: Tasks,
    _dir: tempfile::TempDir,
}

/// Three ports in a row.
fn free_row() -> u16 {
    loop {
        let first = free_port();
        let mut others = 1..3;
        if others.all(|more| std::net::TcpListener::bind(("127.0.0.1", first + more)).is_ok()) {
            // Nobody else of this process shall get the two others.
            while free_port() < first + 2 {}
            return first;
        }
    }
}

impl Nodes {
    async fn start() -> Nodes {
        let dir = tempfile::tempdir().expect("a directory");
        let (kafka, zookeeper) = (free_row(), free_row());
        let (quorum, http) = (free_row(), free_row());
        let data = dir.path().display().to_string();
        let mut command = tripod(&["dev", "--nodes", "3", "--data-dir", &data]);
        for (flag, port) in [
            ("--port", kafka),
            ("--zookeeper-port", zookeeper),
            ("--peer-port", quorum),
            ("--http-port", http),
        ] {
            command.arg(flag).arg(port.to_string());
        }
        command.args(["--log-level", "off"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let nodes = Nodes {
            process: Running(command.spawn().expect("the binary is there")),
            kafka,
            zookeeper,
            quorum,
            http,
            tasks: Tasks::new(Shutdown::new()),
            _dir: dir,
        };
        for node in 0..3 {
            wait_until("the node is ready", || async {
                let address = HostPort::new("localhost", nodes.http + node);
                let (status, _) = http_get(&address, "/readyz").await.ok()?;
                (status == 200).then_some(())
            })
            .await;
        }
        nodes
    }

    fn world(&self) -> client::World {
        client::World {
            clock: Clock::real(),
            rng: Rng::from_os(),
            tasks: self.tasks.clone(),
        }
    }

    /// Resident memory in KiB.
    fn resident(&self) -> u64 {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.process.0.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let text = line.expect("a running process has memory");
        text.trim().trim_end_matches(" kB").parse().expect("KiB")
    }

    /// Everything is still done, on every node.
    async fn serves(&self, round: &str) {
        for node in 0..3 {
            let address = HostPort::new("localhost", self.kafka + node);
            let client = Client::new(self.world(), vec![address]);
            let topic = format!("{round}-{node}");
            client.create(&topic, 3).await;
            for partition in 0..3 {
                client.put(&topic, partition, &numbered("x", 5)).await;
                client.read((&topic, partition), Start::Earliest, 5).await;
            }
            let options = Options {
                servers: vec![HostPort::new("localhost", self.zookeeper + node)],
                chroot: String::new(),
                session_timeout: Duration::from_secs(10),
                connection_timeout: Some(DEADLINE),
            };
            let session = ZooKeeper::connect(options, &self.world()).await;
            let (zookeeper, _events) = session.expect("a session");
            zookeeper.sync("/").await.expect("in touch");
            assert_eq!(
                zookeeper
                    .children("/brokers/ids")
                    .await
                    .expect("listed")
                    .len(),
                3
            );
            zookeeper.close().await;
        }
    }
}

/// Sends bytes and reads until the other side ends it, or has nothing to say for a moment.
async fn throw(port: u16, bytes: &[u8], patience: Duration) {
    let Ok(mut stream) = TcpStream::connect(("localhost", port)).await else {
        panic!("port {port} is closed");
    };
    // The other side may hang up in the middle of it.
    let _ = tokio::time::timeout(patience, stream.write_all(bytes)).await;
    let mut answer = vec![0; 4096];
    while let Ok(Ok(count)) = tokio::time::timeout(patience, stream.read(&mut answer)).await
        && count > 0
    {}
}

fn frame(body: &[u8]) -> Vec<u8> {
    let length = i32::try_from(body.len()).expect("short").to_be_bytes();
    [&length, body].concat()
}

/// A Kafka request: key, version, correlation id, client id, and whatever follows.
fn request(key: i16, version: i16, rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(key.to_be_bytes());
    body.extend(version.to_be_bytes());
    body.extend(7i32.to_be_bytes());
    body.extend([0, 2, b'i', b't']);
    body.extend(rest);
    frame(&body)
}

fn cases() -> Vec<Vec<u8>> {
    let mut cases: Vec<Vec<u8>> = Vec::new();
    for length in [0, -1, i32::MIN, i32::MAX, 104_857_601, 104_857_600, 1, 3] {
        cases.push(length.to_be_bytes().to_vec());
        cases.push([&length.to_be_bytes()[..], &[0xff; 64]].concat());
    }
    // The regression: a Metadata request of four bytes whose array claims two thousand million topics.
    for version in 0..=12 {
        cases.push(request(3, version, &[0x7f, 0xff, 0xff, 0xff]));
        cases.push(request(3, version, &[0, 0x7f, 0xff, 0xff, 0xff]));
        cases.push(request(3, version, &[0, 0xff, 0xff, 0xff, 0xff, 0x0f]));
    }
    // Counts of every request that begins with one, in old and new encodings.
    for key in 0..70 {
        for version in [0, 1, 4, 9] {
            cases.push(request(key, version, &[0x7f; 24]));
            cases.push(request(key, version, &[0xff; 24]));
            cases.push(request(key, version, &[0; 24]));
        }
    }
    for key in [-1, 71, 999, i16::MIN, i16::MAX] {
        for version in [-1, 0, 99, i16::MIN, i16::MAX] {
            cases.push(request(key, version, b""));
        }
    }
    cases.push(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec());
    cases.push(frame(&[0; 45]));
    cases.push(frame(&[0xff; 45]));
    // A session that is fine, then requests that are not.
    let mut connect = vec![0; 45];
    connect[14..16].copy_from_slice(&[0x27, 0x10]);
    connect[27] = 16;
    let connect = frame(&connect);
    for kind in [
        -11i32,
        0,
        1,
        2,
        3,
        5,
        8,
        12,
        14,
        100,
        101,
        106,
        9999,
        i32::MIN,
    ] {
        let head = [&1i32.to_be_bytes()[..], &kind.to_be_bytes()].concat();
        for rest in [&[0x7f; 16][..], &[0xff; 16], &[0; 16], b""] {
            let body = frame(&[&head[..], rest].concat());
            cases.push([&connect[..], &body].concat());
        }
    }
    // Half of it, and nothing more.
    let halves: Vec<Vec<u8>> = cases
        .iter()
        .map(|case| case[..case.len() / 2].to_vec())
        .collect();
    cases.extend(halves);
    cases
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_bytes_on_any_port_stop_a_node_or_make_it_grow() {
    let nodes = Nodes::start().await;
    nodes.serves("before").await;
    let before = nodes.resident();
    let ports = [
        nodes.kafka,
        nodes.zookeeper + 1,
        nodes.quorum + 2,
        nodes.quorum,
    ];
    let cases = cases();
    for batch in cases.chunks(64) {
        let throws = batch
            .iter()
            .flat_map(|case| ports.map(|port| throw(port, case, Duration::from_millis(50))));
        together(throws.collect()).await;
    }
    let grown = nodes.resident().saturating_sub(before);
    assert!(grown < GROWTH_KIB_MAX, "it grew by {grown} KiB");
    nodes.serves("after-cases").await;

    let seed = std::env::var("IT_SEED").ok();
    let seed = seed.and_then(|text| text.parse().ok()).unwrap_or(1);
    println!("the noise repeats with IT_SEED={seed}");
    let rng = Rng::from_seed(seed);
    for _ in 0..NOISE_ROUNDS / 10 {
        let noise = (0..10).map(|_| {
            let mut bytes = vec![0; rng.below(3_000) as usize];
            rng.fill(&mut bytes);
            // Now and then as the body of a good frame, so that it gets further.
            if rng.below(2) == 0 {
                bytes = frame(&bytes);
            }
            (ports[rng.below(4) as usize], bytes)
        });
        let noise: Vec<(u16, Vec<u8>)> = noise.collect();
        let throws = noise
            .iter()
            .map(|(port, bytes)| throw(*port, bytes, Duration::from_millis(30)));
        together(throws.collect()).await;
    }
    nodes.serves("after-noise").await;
    let grown = nodes.resident().saturating_sub(before);
    assert!(grown < GROWTH_KIB_MAX, "it grew by {grown} KiB");
    nodes.tasks.stop(DEADLINE).await;
}

/// Runs futures side by side.
async fn together<F: Future<Output = ()>>(futures: Vec<F>) {
    let mut running: Vec<_> = futures.into_iter().map(Box::pin).collect();
    std::future::poll_fn(|context| {
        running.retain_mut(|future| future.as_mut().poll(context).is_pending());
        if running.is_empty() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
}
