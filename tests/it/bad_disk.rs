//! A node on data that is damaged, somebody else's, or that it may not write says so and leaves every
//! byte, size and time of it as it was.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::bad_start::{Setup, contents, refused_command, tripod};
use crate::cluster::{free_port, http_get, wait_until};
use tripod::common::net::HostPort;

/// Bytes that are no file of ours.
fn garbage(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 37 + 11) as u8 | 1).collect()
}

/// Where the zeros at the end of a file begin: what is in use of sled's.
fn used(file: &Path) -> usize {
    let bytes = fs::read(file).expect("there");
    bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1)
}

fn overwrite(file: &Path, from: usize, len: usize) {
    let mut bytes = fs::read(file).expect("there");
    let end = bytes.len().min(from + len);
    let there = bytes.get_mut(from..end).expect("inside");
    there.copy_from_slice(&garbage(end - from));
    fs::write(file, bytes).expect("written");
}

fn cut(file: &Path, to: usize) {
    let bytes = fs::read(file).expect("there");
    fs::write(file, &bytes[..to]).expect("written");
}

pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("a directory") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).expect("copied");
        }
    }
}

fn coordinator(setup: &Setup) -> PathBuf {
    Path::new(&setup.data).join("coordinator")
}

/// A directory with the data of a node that has run and stopped.
async fn used_data() -> (tempfile::TempDir, Setup) {
    let dir = tempfile::tempdir().expect("a directory");
    let setup = Setup::new(dir.path());
    setup.run_once().await;
    (dir, setup)
}

/// What may happen to the files of a coordinator, by name.
type Damage = (&'static str, fn(&Path));

const DAMAGES: &[Damage] = &[
    ("no store file", |data| {
        fs::remove_file(data.join("raft/db")).expect("removed");
    }),
    ("no store", |data| {
        fs::remove_dir_all(data.join("raft")).expect("removed");
    }),
    ("an empty store file", |data| {
        cut(&data.join("raft/db"), 0);
    }),
    ("a byte of a store file", |data| {
        cut(&data.join("raft/db"), 1);
    }),
    ("half a store file", |data| {
        let file = data.join("raft/db");
        let used = used(&file);
        cut(&file, used / 2);
    }),
    ("a store file cut a little", |data| {
        let file = data.join("raft/db");
        let used = used(&file);
        cut(&file, used - 20);
    }),
    ("a store of garbage", |data| {
        let file = data.join("raft/db");
        let used = used(&file);
        overwrite(&file, 0, used);
    }),
    ("garbage at its begin", |data| {
        overwrite(&data.join("raft/db"), 0, 64);
    }),
    ("garbage at a quarter", |data| {
        let file = data.join("raft/db");
        let used = used(&file);
        overwrite(&file, used / 4, 200);
    }),
    ("garbage in the middle", |data| {
        let file = data.join("raft/db");
        let used = used(&file);
        overwrite(&file, used / 2, 200);
    }),
    ("garbage at its end", |data| {
        let file = data.join("raft/db");
        let used = used(&file);
        overwrite(&file, used - 60, 50);
    }),
    ("settings of the store that are garbage", |data| {
        overwrite(&data.join("raft/conf"), 0, 20);
    }),
    ("no identity", |data| {
        fs::remove_file(data.join("identity")).expect("removed");
    }),
    ("an empty identity", |data| {
        cut(&data.join("identity"), 0);
    }),
    ("half an identity", |data| {
        cut(&data.join("identity"), 60);
    }),
    ("an identity of garbage", |data| {
        overwrite(&data.join("identity"), 0, 40);
    }),
];

async fn try_all(dir: &Path, setup: &Setup, damages: &[Damage]) {
    let data = PathBuf::from(&setup.data);
    let good = dir.join("good");
    copy(&data, &good);
    let heal = || {
        fs::remove_dir_all(&data).expect("removed");
        copy(&good, &data);
    };
    for (what, damage) in damages {
        // Shown when it fails.
        println!("{what}");
        heal();
        damage(&coordinator(setup));
        setup.refused(dir, &[], &[&setup.data]).await;
    }
    heal();
    setup.run_once().await;
    let left = coordinator(setup).join("raft.examined");
    assert!(!left.exists(), "the copy is gone");
}

#[tokio::test]
async fn damaged_data_of_a_coordinator_is_left_as_it_is() {
    let (dir, setup) = used_data().await;
    try_all(dir.path(), &setup, DAMAGES).await;
}

#[tokio::test]
async fn a_strangers_flags_and_ports_leave_used_data_as_it_is() {
    let (dir, setup) = used_data().await;
    for (flags, said) in [
        (&["--myid", "7"][..], "7"),
        (
            &["--cluster-id", "AAAAAAAAAAAAAAAAAAAAAA"],
            "AAAAAAAAAAAAAAAAAAAAAA",
        ),
        (&["--broker-id", "9"], "this is broker 9"),
        (&["--set", "coordinator.tickTim=1"], "tickTim"),
        (&["--set", "coordinator.tickTime=x"], "tickTime"),
        (&["--no-such-flag"], "--no-such-flag"),
    ] {
        setup.refused(dir.path(), flags, &[said]).await;
    }
    for port in [setup.zookeeper, setup.http, setup.kafka] {
        let _busy = std::net::TcpListener::bind(("0.0.0.0", port)).expect("free");
        setup.refused(dir.path(), &[], &[&port.to_string()]).await;
    }
    // A member of three: the port for the others.
    let fresh = Setup {
        data: dir.path().join("three").display().to_string(),
        ..Setup::new(dir.path())
    };
    let quorum = free_port();
    let _busy = std::net::TcpListener::bind(("127.0.0.1", quorum)).expect("free");
    let own = format!("1=127.0.0.1:{quorum}:{}", free_port());
    let members = [
        "--server",
        &own,
        "--server",
        "2=127.0.0.1:1:2",
        "--server",
        "3=127.0.0.1:3:4",
    ];
    let flags = [&members[..], &["--myid", "1", "--roles", "coordinator"]].concat();
    fresh
        .refused(dir.path(), &flags, &[&quorum.to_string()])
        .await;
}

#[tokio::test]
async fn a_directory_that_may_only_be_read_is_left_as_it_is() {
    let (dir, setup) = used_data().await;
    let script = "mount --bind \"$0\" \"$0\" && mount -o remount,ro,bind \"$0\" && exec \"$@\"";
    let within = |program: &str, arguments: &[String]| {
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", script, &setup.data, program]);
        command.args(arguments);
        command
    };
    if !within("true", &[])
        .output()
        .is_ok_and(|done| done.status.success())
    {
        eprintln!("skipped: nothing can be mounted here");
        return;
    }
    let node = tripod(&[]);
    let program = node.get_program().to_str().expect("UTF-8");
    let mut command = within(program, &setup.arguments(&[]));
    command
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    refused_command(dir.path(), command, &[&setup.data, "Read-only"]).await;
}

/// Log directories of another cluster. Where the coordinator has not noted the cluster (its data is older),
/// only ZooKeeper can tell, and that shows when the coordinator runs: the broker's data is not touched.
#[tokio::test]
async fn log_directories_of_another_cluster_are_refused() {
    let (dir, setup) = used_data().await;
    let broker = Path::new(&setup.data).join("broker");
    let properties = broker.join("meta.properties");
    let good = fs::read_to_string(&properties).expect("there");
    let id = good
        .lines()
        .find_map(|line| line.strip_prefix("cluster.id="));
    let id = id.expect("an id");
    let other = good.replace(id, "AAAAAAAAAAAAAAAAAAAAAA");
    fs::write(&properties, other).expect("written");
    let noted = coordinator(&setup).join("joined-cluster");
    let place = noted.display().to_string();
    let said = ["AAAAAAAAAAAAAAAAAAAAAA", id, "wrong cluster", &place];
    setup.refused(dir.path(), &[], &said).await;
    // What is damaged says nothing, and is written anew.
    for damage in [fs::remove_file as fn(PathBuf) -> _, |path| {
        fs::write(path, "x")
    }] {
        damage(noted.clone()).expect("changed");
        setup.refused(&broker, &[], &said[..3]).await;
    }
    fs::write(&properties, &good).expect("written");
    setup.run_once().await;
    let now = fs::read_to_string(&noted).expect("there");
    assert!(now.contains(id), "{now}");
}

/// What only ZooKeeper can tell shows when the coordinator runs, as a ZooKeeper would: its own data goes on.
/// The broker's is not touched.
#[tokio::test]
async fn what_zookeeper_reveals_leaves_the_brokers_data_as_it_is() {
    let (dir, setup) = used_data().await;
    // A broker elsewhere whose id is taken, whose directories are new or its own.
    let running = setup.start(&[]).await;
    let connect = format!("127.0.0.1:{}", setup.zookeeper);
    let home = dir.path().join("other");
    let second = Setup {
        data: home.join("data").display().to_string(),
        ..Setup::new(&home)
    };
    fs::create_dir_all(&home).expect("made");
    let roles = ["--roles", "broker", "--zookeeper-connect", &connect];
    let said = ["broker id 1 is taken"];
    second.refused(&home, &roles, &said).await;
    let as_two = [&roles[..], &["--broker-id", "2"]].concat();
    second.start(&as_two).await.stop().await;
    let logs = Path::new(&second.data).join("broker/meta.properties");
    let mine = fs::read_to_string(&logs).expect("there");
    fs::write(&logs, mine.replace("broker.id=2", "broker.id=1")).expect("written");
    second.refused(&home, &roles, &said).await;
    running.stop().await;
}

/// Runs `zkCli.sh` with one command.
async fn zk_cli(setup: &Setup, command: &[&str]) {
    let server = format!("127.0.0.1:{}", setup.zookeeper);
    let arguments = [&["zkCli", "-server", &server][..], command].concat();
    let output = tripod(&arguments).output().expect("the binary is there");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
}

/// The message says how to repair what a stranger wrote, and doing so repairs it.
#[tokio::test]
async fn garbage_as_the_clusters_id_is_repaired_as_the_message_says() {
    let (_dir, setup) = used_data().await;
    let broker = Path::new(&setup.data).join("broker");
    let properties = fs::read_to_string(broker.join("meta.properties")).expect("there");
    let id = properties
        .lines()
        .find_map(|line| line.strip_prefix("cluster.id="));
    let good = format!(r#"{{"version":"1","id":"{}"}}"#, id.expect("an id"));
    let running = setup.start(&[]).await;
    zk_cli(&setup, &["set", "/cluster/id", "garbage"]).await;
    running.stop().await;
    let command = format!("set /cluster/id {good}");
    let server = format!("127.0.0.1:{}", setup.zookeeper);
    let thrice = format!("{server},{server},{server}");
    let said = ["--roles coordinator", &command];
    setup.refused(&broker, &[], &said).await;
    let connect = ["--zookeeper-connect", &thrice];
    let once = format!("/cluster/id at {server} is malformed");
    setup.refused(&broker, &connect, &[&once]).await;
    let alone = setup.start(&["--roles", "coordinator"]).await;
    zk_cli(&setup, &["set", "/cluster/id", &good]).await;
    alone.stop().await;
    setup.run_once().await;
}

/// Kafka leaves out a directory whose `meta.properties` the disk does not give out, and uses the others.
#[tokio::test]
async fn one_directory_that_cannot_tell_whose_it_is_is_left_out() {
    let dir = tempfile::tempdir().expect("a directory");
    let setup = Setup::new(dir.path());
    let (first, second) = (dir.path().join("a"), dir.path().join("b"));
    let logs = format!("log.dirs={},{}", first.display(), second.display());
    let two = ["--override", &logs];
    setup.start(&two).await.stop().await;
    let properties = second.join("meta.properties");
    let good = fs::read(&properties).expect("there");
    // A directory in its place cannot be read, by nobody.
    fs::remove_file(&properties).expect("removed");
    fs::create_dir(&properties).expect("made");
    let before = contents(&second);
    let running = setup.spawn(&two);
    let address = HostPort::new("127.0.0.1", setup.http);
    wait_until("it runs with the other one", || async {
        let (_, text) = http_get(&address, "/readyz").await.ok()?;
        text.contains("b is offline").then_some(())
    })
    .await;
    running.stop().await;
    assert_eq!(contents(&second), before, "left out");
    // Nonsense, or somebody else's, stops it; so does having no other.
    let only = format!("log.dirs={}", second.display());
    let all = ["--override", &only];
    setup.refused(&second, &all, &["meta.properties"]).await;
    fs::remove_dir(&properties).expect("removed");
    for text in ["", "version=0\nbroker.id=1\ncluster.id=other\n"] {
        fs::write(&properties, text).expect("written");
        setup
            .refused(dir.path(), &two, &[&second.display().to_string()])
            .await;
    }
    fs::write(&properties, good).expect("written");
    setup.start(&two).await.stop().await;
}
