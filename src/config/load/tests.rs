use std::fmt::Write as _;

use super::*;
use crate::common::ids::MemberId;
use crate::common::rng::Rng;
use crate::config::Roles;

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Files {
        Files(tempfile::tempdir().expect("a directory"))
    }

    fn put(&self, name: &str, text: &str) -> Option<PathBuf> {
        let path = self.0.path().join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).expect("made");
        }
        std::fs::write(&path, text).expect("written");
        Some(path)
    }

    /// The report without the temporary directory's name.
    fn report(&self, sources: &Sources) -> Vec<String> {
        let prefix = format!("{}/", self.0.path().display());
        let report = load(sources).expect_err("problems");
        report
            .problems
            .iter()
            .map(|problem| problem.to_string().replace(&prefix, ""))
            .collect()
    }
}

fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn flag(path: &str, value: &str) -> Flag {
    Flag {
        shown: format!("--{path}"),
        path: path.to_owned(),
        value: value.to_owned(),
        property: false,
    }
}

const BOTH: Roles = Roles {
    coordinator: true,
    broker: true,
};
const COORDINATOR: Roles = Roles {
    coordinator: true,
    broker: false,
};
const BROKER: Roles = Roles {
    coordinator: false,
    broker: true,
};

#[test]
fn the_strongest_source_wins_and_each_is_heard() {
    let files = Files::new();
    let mut sources = Sources {
        hostname: "here".into(),
        implied: vec![("broker.num.partitions".into(), "2".into())],
        ..Sources::default()
    };
    let partitions = |sources: &Sources| load(sources).expect("legal").config.broker.num_partitions;
    assert_eq!(partitions(&Sources::default()), 1);
    assert_eq!(partitions(&sources), 2);
    sources.server_properties = files.put("server.properties", "num.partitions=3\n");
    assert_eq!(partitions(&sources), 3);
    sources.yaml = files.put(
        "tripod.yaml",
        "broker:\n  num.partitions: 4\n  log.retention.ms: 7d\n",
    );
    assert_eq!(partitions(&sources), 4);
    sources.variables = variables(&[("KAFKA_NUM_PARTITIONS", "5")]);
    assert_eq!(partitions(&sources), 5);
    sources
        .variables
        .push(("TRIPOD_BROKER_NUM_PARTITIONS".into(), "6".into()));
    assert_eq!(partitions(&sources), 6);
    sources.flags = vec![flag("broker.num.partitions", "7")];
    assert_eq!(partitions(&sources), 7);
    let config = load(&sources).expect("legal").config;
    assert_eq!(config.broker.log_retention_ms, Some(604_800_000));
    assert_eq!(
        config.statics.get("num.partitions").map(String::as_str),
        Some("7")
    );
}

#[test]
fn all_problems_come_in_one_report_with_their_lines_and_nearest_names() {
    let files = Files::new();
    let sources = Sources {
        yaml: files.put(
            "tripod.yaml",
            "node:\n  id: x\nbroker:\n  num.partition: 2\n  auto.create.topics.enable: maybe\n",
        ),
        server_properties: files.put(
            "server.properties",
            "broker.id=0\nnum.io.threads=none\nlog.segment.bites=1\nlisteners=SSL://:9093\nauthorizer.class.name=kafka.security.authorizer.AclAuthorizer\n",
        ),
        zoo_cfg: files.put("zoo.cfg", "dataDir=/nowhere\ntickTime=0\nserver.1=a:2888\n"),
        variables: variables(&[("TRIPOD_HTTP_PRT", "1")]),
        flags: vec![flag("log.format", "xml")],
        ..Sources::default()
    };
    assert_eq!(
        files.report(&sources),
        [
            "server.properties:2: Invalid value none for configuration num.io.threads: Not a number of type INT",
            "server.properties:4: listener SSL asks for SSL, which is not supported yet: only PLAINTEXT is",
            "server.properties:5: authorizer.class.name cannot be set: authorization is not supported yet",
            "zoo.cfg:2: Invalid value 0 for configuration tickTime: Value must be at least 1",
            "zoo.cfg:3: 'a:2888' does not have the form server.N=host:port:port or host:port:port:participant",
            "tripod.yaml:2: Invalid value x for configuration node.id: Not a number of type INT",
            "tripod.yaml:4: broker.num.partition is unknown; did you mean broker.num.partitions?",
            "tripod.yaml:5: Invalid value maybe for configuration auto.create.topics.enable: Expected value to be either true or false",
            "variable TRIPOD_HTTP_PRT: no setting has this name; did you mean TRIPOD_HTTP_PORT?",
            "--log.format: Invalid value xml for configuration log.format: String must be one of: text, json",
        ]
    );
    let missing = Sources {
        yaml: Some(files.0.path().join("none.yaml")),
        ..Sources::default()
    };
    assert_eq!(
        files.report(&missing),
        ["none.yaml: cannot be read: No such file or directory (os error 2)"]
    );
}

#[test]
fn the_tutorials_files_give_three_members_and_a_broker() {
    let files = Files::new();
    let data = files.0.path().join("data");
    files.put("data/myid", "2\n");
    let zoo_cfg = format!(
        "tickTime=2000\ninitLimit=10\nsyncLimit=5\ndataDir={}\nclientPort=2181\nserver.1=node1:2888:3888\nserver.2=node2:2888:3888\nserver.3=node3:2888:3888\n",
        data.display()
    );
    let properties = "broker.id=1\nlisteners=PLAINTEXT://node2:9092\nadvertised.listeners=PLAINTEXT://node2:9092\nlog.dirs=/tmp/a,/tmp/b\nzookeeper.connect=node1:2181,node2:2181,node3:2181/kafka\nlog.segment.bites=1\n";
    let zoo_only = Sources {
        zoo_cfg: files.put("zoo.cfg", &zoo_cfg),
        ..Sources::default()
    };
    let config = load(&zoo_only).expect("legal").config;
    assert_eq!(config.roles, COORDINATOR);
    assert_eq!(config.myid, MemberId(2));
    assert_eq!(config.members.len(), 3);
    assert_eq!(config.coordinator_dir, data);

    let broker_only = Sources {
        server_properties: files.put("server.properties", properties),
        ..Sources::default()
    };
    let loaded = load(&broker_only).expect("legal");
    let config = loaded.config;
    assert_eq!(config.roles, BROKER);
    assert_eq!(config.broker_id.0, 1);
    assert_eq!(
        config.log_dirs,
        [PathBuf::from("/tmp/a"), PathBuf::from("/tmp/b")]
    );
    assert_eq!(config.zookeeper.servers.len(), 3);
    assert_eq!(config.zookeeper.chroot, "/kafka");
    assert_eq!(
        config.listeners.advertised[0].to_string(),
        "PLAINTEXT://node2:9092"
    );
    assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
    assert!(loaded.warnings[0].to_string().ends_with(
        "server.properties:6: log.segment.bites is unknown and has no effect; the nearest is log.segment.bytes"
    ));

    let both = Sources {
        zoo_cfg: zoo_only.zoo_cfg.clone(),
        ..broker_only
    };
    assert_eq!(load(&both).expect("legal").config.roles, BOTH);

    files.put("data/myid", "4\n");
    assert_eq!(
        files.report(&zoo_only),
        ["myid is 4, but there is no server.4"]
    );
    files.put("data/myid", "four\n");
    assert_eq!(
        files.report(&zoo_only),
        ["data/myid:1: serverid 'four' is not a number from 0 to 255"]
    );
}

#[test]
fn variables_of_kafkas_images_say_which_halves_run() {
    let with = |pairs: &[(&str, &str)]| {
        let sources = Sources {
            variables: variables(pairs),
            hostname: "here".into(),
            ..Sources::default()
        };
        load(&sources)
            .map(|loaded| loaded.config)
            .map_err(|report| report.to_string())
    };
    let config = with(&[]).expect("nothing at all");
    assert_eq!((config.roles, config.broker_id.0), (BOTH, 1));
    assert_eq!(
        config.listeners.advertised[0].to_string(),
        "PLAINTEXT://localhost:9092"
    );
    assert_eq!(config.zookeeper.servers[0].to_string(), "localhost:2181");

    let kraft = [
        ("KAFKA_NODE_ID", "3"),
        ("KAFKA_PROCESS_ROLES", "broker,controller"),
        (
            "KAFKA_LISTENERS",
            "PLAINTEXT://0.0.0.0:9092,BROKER://0.0.0.0:9093,CONTROLLER://0.0.0.0:9094",
        ),
        (
            "KAFKA_ADVERTISED_LISTENERS",
            "PLAINTEXT://localhost:32768,BROKER://abc:9093",
        ),
        (
            "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP",
            "BROKER:PLAINTEXT,PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        ),
        ("KAFKA_CONTROLLER_LISTENER_NAMES", "CONTROLLER"),
        ("KAFKA_INTER_BROKER_LISTENER_NAME", "BROKER"),
        ("KAFKA_CONTROLLER_QUORUM_VOTERS", "3@localhost:9094"),
        ("KAFKA_LOG_FLUSH_INTERVAL_MESSAGES", "9223372036854775807"),
        ("KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS", "0"),
        ("KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS", "1"),
        ("KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR", "1"),
        ("KAFKA_TRANSACTION_STATE_LOG_MIN_ISR", "1"),
        ("CLUSTER_ID", "5L6g3nShT-eMCtK--X86sw"),
    ];
    let config = with(&kraft).expect("Testcontainers");
    assert_eq!(
        (config.roles, config.broker_id.0, config.myid.0),
        (BOTH, 3, 3)
    );
    assert!(config.members.is_empty());
    assert_eq!(config.listeners.bound.len(), 2);
    assert_eq!(config.listeners.inter_broker, "BROKER");
    assert_eq!(
        config.node.cluster_id.as_deref(),
        Some("5L6g3nShT-eMCtK--X86sw")
    );
    assert_eq!(config.broker.group_initial_rebalance_delay_ms, 0);

    let mut three = kraft.to_vec();
    three.push((
        "KAFKA_CONTROLLER_QUORUM_VOTERS",
        "1@a:9094,2@b:9094,3@c:9094",
    ));
    let config = with(&three).expect("three voters");
    assert_eq!(config.members.len(), 3);
    assert_eq!(config.zookeeper.servers[0].to_string(), "a:2181");
    three.push(("KAFKA_PROCESS_ROLES", "broker"));
    let config = with(&three).expect("isolated broker");
    assert_eq!(config.roles, BROKER);
    assert_eq!(config.zookeeper.servers[2].to_string(), "c:2181");
    three.push(("KAFKA_PROCESS_ROLES", "controller"));
    assert!(
        with(&three)
            .expect_err("advertised")
            .contains("must not be set when process.roles is controller")
    );

    let zookeeper = [
        ("KAFKA_ZOOKEEPER_CONNECT", "zk:2181"),
        ("KAFKA_BROKER_ID", "7"),
    ];
    let config = with(&zookeeper).expect("on a ZooKeeper");
    assert_eq!((config.roles, config.broker_id.0), (BROKER, 7));
    // ZooKeeper gives it one.
    let config = with(&zookeeper[..1]).expect("no id is needed");
    assert_eq!((config.roles, config.broker_id.0), (BROKER, -1));
    let fixed = [zookeeper[0], ("KAFKA_BROKER_ID_GENERATION_ENABLE", "false")];
    let text = with(&fixed).expect_err("no id");
    assert!(text.contains("broker.id is not said"), "{text}");
}

#[test]
fn whatever_the_files_hold_loading_ends_with_a_verdict() {
    const WORDS: &[&str] = &[
        "broker",
        "node",
        "coordinator",
        ":",
        "=",
        "\n",
        "  ",
        "\\",
        "\\u00",
        "server.1",
        "a:1:2",
        "[",
        "]",
        "{",
        "}",
        "&a",
        "*a",
        "- ",
        "'",
        "\"",
        "#",
        "listeners",
        "PLAINTEXT://",
        "://",
        ",",
        "-1",
        "99999999999999999999",
        "é",
        "\u{0}",
        "log.retention.ms",
        "7d",
        "num.partitions",
        "process.roles",
        "controller",
        "1@",
        "@",
        ";",
        "|",
        ">",
        "!!binary",
        "tickTime",
        "zookeeper.connect",
        "/",
        "\t",
        "\r\n",
        "null",
        "~",
        "? ",
        "<<",
    ];
    let seed = 20_240_814;
    let rng = Rng::from_seed(seed);
    let files = Files::new();
    for round in 0..200 {
        let text = || {
            let mut text = String::new();
            for _ in 0..rng.below(60) {
                let _ = write!(text, "{}", WORDS[rng.below(WORDS.len() as u64) as usize]);
            }
            text
        };
        let sources = Sources {
            yaml: files.put("f.yaml", &text()),
            server_properties: files.put("f.properties", &text()),
            zoo_cfg: files.put("f.cfg", &text()),
            variables: vec![
                (format!("KAFKA_{}", text()), text()),
                (format!("TRIPOD_{}", text()), text()),
                ("KAFKA_LISTENERS".into(), text()),
                ("KAFKA_CONTROLLER_QUORUM_VOTERS".into(), text()),
            ],
            flags: vec![
                flag(&text(), &text()),
                flag("broker.zookeeper.connect", &text()),
            ],
            ..Sources::default()
        };
        let verdict = load(&sources);
        if let Err(report) = verdict {
            assert!(!report.problems.is_empty(), "seed {seed}, round {round}");
            assert!(report.to_string().len() < 1_000_000);
        }
    }
}

#[test]
fn a_report_tells_warnings_too() {
    let files = Files::new();
    let sources = Sources {
        server_properties: files.put("s.properties", "log.dri=/x\nnum.partitions=many\n"),
        ..Sources::default()
    };
    let text = load(&sources).expect_err("a problem").to_string();
    let lines: Vec<_> = text.lines().collect();
    let [problem, warning] = lines[..] else {
        panic!("{text}")
    };
    assert!(problem.contains("s.properties:2: "), "{text}");
    assert!(warning.starts_with("  warning: "), "{text}");
    assert!(
        warning.ends_with(
            "s.properties:1: log.dri is unknown and has no effect; the nearest is log.dir"
        ),
        "{text}"
    );
}

#[test]
fn yaml_understands_kafkas_own_names_and_advises_the_section() {
    let files = Files::new();
    let yaml = |text: &str| Sources {
        yaml: files.put("f.yaml", text),
        ..Sources::default()
    };
    for text in [
        "broker:\n  id: 7\n",
        "broker:\n  broker.id: 7\n",
        "broker.id: 7\n",
        "broker:\n  broker:\n    id: 7\n",
    ] {
        let config = load(&yaml(text)).expect(text).config;
        assert_eq!(config.broker_id.0, 7, "{text}");
    }
    let text = "num.partitions: 3\ntickTime: 1s\nserver:\n  1: a:1:2\n";
    let config = load(&yaml(text)).expect("legal").config;
    assert_eq!(config.broker.num_partitions, 3);
    assert_eq!(config.coordinator.tick_time, 1000);
    for (text, problem) in [
        (
            "roles: [broker]\n",
            "f.yaml:1: roles is unknown; did you mean node.roles?",
        ),
        (
            "broker:\n  roles: broker\n",
            "f.yaml:2: broker.roles is unknown; did you mean node.roles?",
        ),
        (
            "htp:\n  port: 7\n",
            "f.yaml:2: htp.port is unknown; did you mean http.port?",
        ),
        (
            "broker:\n  idd: 7\n",
            "f.yaml:2: broker.idd is unknown; did you mean broker.id?",
        ),
        (
            "num.partition: 7\n",
            "f.yaml:1: num.partition is unknown; did you mean num.partitions?",
        ),
        (
            "node:\n  roles: [controller, broker]\n",
            "f.yaml:2: Invalid value controller for configuration node.roles: String must be one of: coordinator, broker",
        ),
    ] {
        assert_eq!(files.report(&yaml(text)), [problem]);
    }
}

#[test]
fn one_report_also_where_a_file_or_myid_is_missing() {
    let files = Files::new();
    let data = files.0.path().join("data");
    std::fs::create_dir(&data).expect("made");
    let zoo_cfg = format!(
        "dataDir={}\nserver.1=node1:2888:3888\nserver.2=node2:2888\nserver.3=node3:2888:3888\n",
        data.display()
    );
    let mut sources = Sources {
        zoo_cfg: files.put("zoo.cfg", &zoo_cfg),
        variables: variables(&[("TRIPOD_COORDINATOR_TICK_TIME", "0")]),
        ..Sources::default()
    };
    let line = "zoo.cfg:3: 'node2:2888' does not have the form server.N=host:port:port or host:port:port:participant";
    let tick = "variable TRIPOD_COORDINATOR_TICK_TIME: Invalid value 0 for configuration tickTime: Value must be at least 1";
    assert_eq!(
        files.report(&sources),
        [
            "myid is missing: it says which of the servers this is, in the file dataDir/myid or with --myid",
            line,
            tick,
        ]
    );
    // A myid that is there but cannot be read is no missing one.
    std::fs::create_dir(data.join("myid")).expect("made");
    assert_eq!(
        files.report(&sources),
        [
            "data/myid:1: cannot be read: Is a directory (os error 21)",
            line,
            tick
        ]
    );
    // What may be in a file that cannot be read is not called missing; the rest is told at once.
    std::fs::remove_dir(data.join("myid")).expect("removed");
    files.put("data/myid", "3");
    sources.server_properties = Some(files.0.path().join("none.properties"));
    sources.problems = vec![Problem::general("--override takes NAME=VALUE, not 'x'")];
    assert_eq!(
        files.report(&sources),
        [
            "--override takes NAME=VALUE, not 'x'",
            "none.properties: cannot be read: No such file or directory (os error 2)",
            line,
            tick,
        ]
    );
}

#[test]
fn directories_that_cannot_be_used_are_told_at_the_line_that_names_them() {
    let files = Files::new();
    let file = files.put("file", "mine").expect("a file");
    let top = files.0.path().display().to_string();
    let with = |dirs: &str| Sources {
        server_properties: files.put(
            "s.properties",
            &format!("broker.id=1\nzookeeper.connect=a:1\nlog.dirs={dirs}\n"),
        ),
        ..Sources::default()
    };
    let file = file.display().to_string();
    assert_eq!(
        files.report(&with(&file)),
        ["s.properties:3: file is not a directory"]
    );
    assert_eq!(
        files.report(&with(&format!("{file}/a/b"))),
        ["s.properties:3: file/a/b cannot be made: file is not a directory"]
    );
    assert_eq!(
        files.report(&with(&format!("{top}/x,{top}/x"))),
        ["s.properties:3: Duplicate log directory found: x"]
    );
    // Kafka goes on with the directories that are left.
    let loaded = load(&with(&format!("{file},{top}/new/dir"))).expect("one is left");
    let [warning] = &loaded.warnings[..] else {
        panic!("{:?}", loaded.warnings)
    };
    assert!(warning.to_string().ends_with("file is not a directory"));
    assert!(!files.0.path().join("new").exists());
    let zoo_cfg = Sources {
        zoo_cfg: files.put("zoo.cfg", &format!("clientPort=1\ndataDir={file}\n")),
        ..Sources::default()
    };
    assert_eq!(
        files.report(&zoo_cfg),
        ["zoo.cfg:2: file is not a directory"]
    );
}

#[test]
fn brokers_that_ask_for_secure_links_are_refused_whoever_says_so() {
    const NAME: &str = "security.inter.broker.protocol";
    const REASON: &str = "security.inter.broker.protocol asks for SSL, which is not supported yet: only PLAINTEXT is";
    let files = Files::new();
    let from = |protocol: &str| {
        [
            Sources {
                server_properties: files
                    .put("p.properties", &format!("{NAME}={protocol}\nbroker.id=1\n")),
                ..Sources::default()
            },
            Sources {
                yaml: files.put("p.yaml", &format!("broker:\n  {NAME}: {protocol}\n")),
                ..Sources::default()
            },
            Sources {
                variables: variables(&[("KAFKA_SECURITY_INTER_BROKER_PROTOCOL", protocol)]),
                ..Sources::default()
            },
            Sources {
                flags: vec![flag(&format!("broker.{NAME}"), protocol)],
                ..Sources::default()
            },
        ]
    };
    for sources in from("SSL") {
        let report = load(&sources).expect_err("refused");
        let [problem] = &report.problems[..] else {
            panic!("{report}")
        };
        assert_eq!(problem.text, REASON);
        assert!(problem.origin.is_some(), "{problem}");
    }
    for sources in from("PLAINTEXT") {
        let loaded = load(&sources).expect("legal");
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    }
}
