use super::*;
use crate::config::keys::{self, Honour, Key};
use crate::config::raw::{Origin, Said, SourceKind};
use crate::config::resolve::{self, Facts};
use crate::config::value::Kind;

fn origin(place: &str) -> Origin {
    Origin::named(SourceKind::Properties, place)
}

/// Problems and warnings of settings that were said at places named after themselves.
fn verdict(pairs: &[(&str, &str)]) -> (Vec<String>, Vec<String>) {
    let mut values = Values::default();
    for (path, value) in pairs {
        resolve::say(
            &mut values,
            Said {
                path: (*path).to_owned(),
                value: (*value).to_owned(),
                origin: origin("here"),
            },
        );
    }
    let facts = Facts {
        hostname: "this".into(),
        ..Facts::default()
    };
    let _ = resolve::resolve(&mut values, &facts);
    let show = |list: &[Problem]| list.iter().map(ToString::to_string).collect();
    (show(&values.problems), show(&values.warnings))
}

#[test]
fn what_a_start_would_refuse_is_told_before() {
    for (pairs, problem) in [
        (
            &[("zookeeper.connect", "node1:2181:99")][..],
            "here: zookeeper.connect: 'node1:2181:99' is not host:port",
        ),
        (
            &[("zookeeper.connect", ":2181")],
            "here: zookeeper.connect: ':2181' is not host:port",
        ),
        (
            &[("zookeeper.connect", "a:0")],
            "here: zookeeper.connect: 'a:0' is not host:port",
        ),
        (
            &[("zookeeper.connect", "a:1/x//y")],
            "here: zookeeper.connect: '/x//y' is no path of a znode, as the part after the servers has to be",
        ),
        (
            &[("zookeeper.connect", "/kafka")],
            "here: zookeeper.connect names no server",
        ),
        (
            &[("listeners", "PLAINTEXT://node1:9092:99")],
            "here: 'node1:9092:99' is not host:port",
        ),
        (
            &[("listeners", "PLAINTEXT://a b:9092")],
            "here: 'a b' in 'a b:9092' is no host name",
        ),
        (
            &[
                ("listeners", "A://:9092,B://:9092"),
                ("listener.security.protocol.map", "A:PLAINTEXT,B:PLAINTEXT"),
                ("inter.broker.listener.name", "A"),
            ],
            "here: listener A and listener B are both on port 9092",
        ),
        (
            &[("clientPort", "9092")],
            "clientPort and listener PLAINTEXT are both on port 9092",
        ),
        (
            &[("http.port", "2181")],
            "here: clientPort and http.port are both on port 2181",
        ),
        (
            &[
                ("server.1", "a:1:2"),
                ("server.2", "a:1:3"),
                ("server.3", "b:1:2"),
                ("myid", "1"),
                ("broker.id", "1"),
            ],
            "here: server.1 and server.2 have the same address a:1",
        ),
        (
            &[("clientPort", "0")],
            "here: a broker cannot find a coordinator whose port the system chooses: say clientPort",
        ),
        (
            &[("server.1", "a:0:2")],
            "here: server.1 needs ports that the others know, not 0",
        ),
        (
            &[("server.1", "a:1:2|b:1:2")],
            "here: server.1 has several addresses, which is not supported: say one",
        ),
        (
            &[("minSessionTimeout", "50000")],
            "here: minSessionTimeout must not be larger than maxSessionTimeout",
        ),
        (
            &[("clientPortAddress", "a b")],
            "here: clientPortAddress: 'a b' is no host",
        ),
        (
            &[("4lw.commands.whitelist", "ruok,statt")],
            "here: 4lw.commands.whitelist: 'statt' is not a four-letter word; did you mean stat?",
        ),
        (
            &[("max.connections.per.ip.overrides", "10.0.0.1")],
            "here: max.connections.per.ip.overrides: '10.0.0.1' is not address:count",
        ),
        (
            &[("max.connections.per.ip", "0")],
            "here: max.connections.per.ip can be set to zero only if max.connections.per.ip.overrides property is set.",
        ),
        (
            &[
                ("inter.broker.listener.name", "PLAINTEXT"),
                ("security.inter.broker.protocol", "PLAINTEXT"),
            ],
            "here: Only one of inter.broker.listener.name and security.inter.broker.protocol should be set.",
        ),
        (
            &[("security.inter.broker.protocol", "SSL")],
            "here: security.inter.broker.protocol asks for SSL, which is not supported yet: only PLAINTEXT is",
        ),
        (
            &[("security.inter.broker.protocol", "SASL_SSL")],
            "here: security.inter.broker.protocol asks for SASL_SSL, which is not supported yet: only PLAINTEXT is",
        ),
        (
            &[("security.inter.broker.protocol", "SASL_PLAINTEXT")],
            "here: security.inter.broker.protocol asks for SASL_PLAINTEXT, which is not supported yet: only PLAINTEXT is",
        ),
        (
            &[("advertised.port", "70000")],
            "here: advertised.port: 70000 is no port (0-65535)",
        ),
        (
            &[("log.retention.minutes", "0")],
            "log.retention.ms must be unlimited (-1) or, equal or greater than 1",
        ),
    ] {
        // Who has his ZooKeeper elsewhere needs an id; that is not what this is about.
        let id = ("broker.id", "1");
        let pairs: Vec<_> = pairs.iter().copied().chain([id]).collect();
        assert_eq!(verdict(&pairs).0, [problem], "{pairs:?}");
    }
}

#[test]
fn what_only_looks_odd_is_legal() {
    for (pairs, warnings) in [
        (
            &[
                ("zookeeper.connect", "[::1]:2181,node_1:2181/a/b/"),
                ("broker.id", "1"),
            ][..],
            &[][..],
        ),
        (
            &[
                ("listeners", "PLAINTEXT://127.0.0.1:2181"),
                ("clientPortAddress", "127.0.0.2"),
            ],
            &[],
        ),
        (
            &[
                ("listeners", "PLAINTEXT://0.0.0.0:0"),
                ("clientPort", "0"),
                ("zookeeper.connect", "a:1"),
                ("http.port", "0"),
            ],
            &[],
        ),
        (
            &[
                ("log.retention.hours", "-1"),
                ("4lw.commands.whitelist", "*"),
            ],
            &[],
        ),
        (
            &[("zookeeper.connect", "a:1/x,b:1/x")],
            &[
                "here: zookeeper.connect: the path of all servers is '/x,b:1/x'; it belongs after the last server only",
            ],
        ),
        (
            &[("4lw.commands.whitelist", "ruok, lead, obsr")],
            &["here: 4lw.commands.whitelist: lead, obsr are not answered here"],
        ),
        (
            &[("max.connections.per.ip.overrides", "10.0.0.1:5,example:3")],
            &[
                "here: max.connections.per.ip.overrides: 'example' is a name, only addresses have an effect",
            ],
        ),
    ] {
        let id = ("broker.id", "1");
        let pairs: Vec<_> = pairs.iter().copied().chain([id]).collect();
        let (problems, said) = verdict(&pairs);
        assert!(problems.is_empty(), "{pairs:?}: {problems:?}");
        assert_eq!(said, warnings, "{pairs:?}");
    }
}

/// The settings of Kafka 2.8.0: scope, name, type, default, legal values.
fn kafkas() -> impl Iterator<Item = [&'static str; 5]> {
    let text = include_str!("../../../tests/golden/kafka-2.8-configs.tsv");
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let mut columns = line.split('\t');
            std::array::from_fn(|_| columns.next().unwrap_or(""))
        })
}

/// A value that is not the default and that Kafka accepts.
fn other_value(key: &Key, legal: &str) -> String {
    let default = key.default.unwrap_or("");
    if let crate::config::value::Valid::OneOf(list) = key.valid {
        let other = list.iter().find(|item| **item != default);
        return (*other.expect("more than one")).to_owned();
    }
    match (key.kind, legal) {
        (_, "throttled") => "0:1".into(),
        (_, "version") => "2.7".into(),

        (Kind::Boolean, _) => (default != "true").to_string(),
        (Kind::Double, _) => "0.25".into(),
        (Kind::Short | Kind::Int | Kind::Long, _) => {
            let default = default.parse().unwrap_or(5_i64);
            let more = default.checked_add(1).filter(|n| *n <= i64::from(i32::MAX));
            more.unwrap_or(default.min(i64::from(i32::MAX)) - 1)
                .to_string()
        }
        _ => "other".into(),
    }
}

#[test]
fn every_setting_of_kafka_2_8_is_here_with_its_type_default_and_range() {
    let mut seen = 0;
    for [scope, name, kind, default, legal] in kafkas() {
        let key = match scope {
            "topic" => keys::TOPIC.iter().find(|key| key.name == name),
            _ => keys::broker().find(|key| key.name == name),
        };
        let key = key.unwrap_or_else(|| panic!("{scope} {name} is missing"));
        assert_eq!(key.kind.name(), kind, "{name}");
        assert_eq!(key.default.unwrap_or("null"), default, "{name}");
        let range = legal
            .strip_prefix('[')
            .and_then(|rest| rest.split_once(",..."));
        if let Some((min, rest)) = range {
            let min: i64 = min.parse().expect("a number");
            let check = |value: i64| crate::config::raw::check(key, &value.to_string());
            assert!(check(min).is_ok(), "{name}={min}");
            assert!(check(min - 1).is_err(), "{name} below {min}");
            if let Ok(max) = rest.trim_matches([',', ']']).parse::<i64>() {
                assert!(check(max).is_ok() && check(max + 1).is_err(), "{name}");
            }
        } else if legal.starts_with('[') {
            assert!(
                crate::config::raw::check(key, "nonsense").is_err(),
                "{name}"
            );
        }
        seen += 1;
    }
    assert!(seen > 250, "{seen}");
}

/// Settings whose meaning is checked elsewhere, so that no arbitrary value is legal.
const OF_A_FORM: &[&str] = &[
    "advertised.listeners",
    "control.plane.listener.name",
    "controller.quorum.voters",
    "inter.broker.listener.name",
    "listener.security.protocol.map",
    "listeners",
    "max.connections.per.ip.overrides",
    "node.id",
    "process.roles",
    "replica.selector.class",
    "security.inter.broker.protocol",
    "offsets.topic.compression.codec",
];

#[test]
fn what_is_wrong_is_told_once() {
    for id in ["broker.id", "broker.node.id"] {
        let (problems, _) = verdict(&[("zookeeper.connect", "z:1"), (id, "abc")]);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains("abc"), "{problems:?}");
    }
    let (problems, _) = verdict(&[
        ("zookeeper.connect", "z:1"),
        ("broker.id", "-1"),
        ("broker.id.generation.enable", "false"),
    ]);
    assert!(
        problems[0].starts_with("broker.id is not said"),
        "{problems:?}"
    );
}

#[test]
fn defaults_without_effect_share_a_line_and_compaction_has_its_own() {
    let said = [
        ("broker.id", "1"),
        ("num.io.threads", "8"),
        ("num.network.threads", "3"),
        ("log.cleaner.enable", "true"),
        ("log.cleanup.policy", "compact"),
        ("transaction.state.log.replication.factor", "3"),
    ];
    let (problems, warnings) = verdict(&said);
    assert_eq!(problems, Vec::<String>::new());
    let [cleaner, transactions, defaults, policy] = &warnings[..] else {
        panic!("{warnings:?}")
    };
    assert!(
        policy.starts_with("here: log.cleanup.policy: nothing is compacted"),
        "{policy}"
    );
    assert!(
        cleaner.starts_with("here: log.cleaner.enable has no effect"),
        "{cleaner}"
    );
    assert!(
        transactions.contains("transactions are not supported"),
        "{transactions}"
    );
    assert!(
        defaults.contains(": num.io.threads, num.network.threads ("),
        "{defaults}"
    );
}

#[test]
fn no_setting_of_kafka_2_8_is_passed_over_in_silence() {
    let mut wrong = Vec::new();
    for [_, name, _, _, legal] in kafkas().filter(|row| row[0] == "broker") {
        if OF_A_FORM.contains(&name) {
            continue;
        }
        let key = keys::broker().find(|key| key.name == name).expect("a row");
        let value = other_value(key, legal);
        let path = format!("broker.{name}");
        let said = |value: &str| {
            verdict(&[
                ("zookeeper.connect", "z:1"),
                ("broker.id", "1"),
                (path.as_str(), value),
            ])
        };
        let (problems, warnings) = said(&value);
        let refused = match key.honour {
            Honour::Refused(why) => vec![format!("here: {name} cannot be set: {why}")],
            _ => Vec::new(),
        };
        let answer = format!("here: {name} has no effect: ");
        let answered = warnings.iter().any(|text| text.starts_with(&answer));
        if problems != refused || answered != key.without_effect().is_some() {
            wrong.push(format!("{name}={value}: {problems:?} {warnings:?}"));
        }
        // Saying the default of what has no effect is answered, too, and nothing else is.
        if let Some(default) = key.default.filter(|_| name != "broker.id") {
            let (problems, warnings) = said(default);
            let answer = |text: &String| text.contains("no effect") && text.contains(name);
            let answered = usize::from(key.without_effect().is_some());
            if !problems.is_empty() || warnings.len() != answered || !warnings.iter().all(answer) {
                wrong.push(format!("{name}={default}: {problems:?} {warnings:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_row_without_a_field_says_why() {
    for key in keys::REPORTED {
        assert!(key.without_effect().is_some(), "{}", key.name);
    }
    for (pattern, _) in crate::config::effects::WITHOUT_EFFECT {
        let prefix = pattern.trim_end_matches('*');
        let used = keys::broker()
            .chain(keys::TOPIC)
            .any(|key| key.name.starts_with(prefix) && key.without_effect().is_some());
        assert!(used, "{pattern}");
    }
}

#[test]
fn what_is_left_of_kraft_is_told() {
    let listeners = "here: controller.listener.names: listeners of these names are not opened, there is no KRaft here";
    let id = ("node.id", "1");
    let both = ("process.roles", "broker,controller");
    let voters = ("controller.quorum.voters", "1@a:9093");
    let zookeeper = ("zookeeper.connect", "z:1");
    for (pairs, expected) in [
        (&[id, both, voters][..], &[][..]),
        (
            &[id, both, ("controller.listener.names", "CONTROLLER")],
            &[listeners],
        ),
        (
            &[id, both, ("node.roles", "broker,coordinator")],
            &["here: process.roles has no effect: node.roles says what runs"],
        ),
        (
            &[id, both, voters, zookeeper],
            &[
                "here: process.roles has no effect: zookeeper.connect is said, and stands for a broker without KRaft",
                "here: controller.quorum.voters has no effect: zookeeper.connect says where the cluster's state is",
            ],
        ),
        (
            &[id, voters, ("node.roles", "broker")],
            &[
                "here: controller.quorum.voters names no controllers here: ZooKeeper is looked for on their hosts, at clientPort",
            ],
        ),
        (
            &[
                id,
                voters,
                ("node.roles", "coordinator"),
                ("server.1", "a:1:2"),
            ],
            &[
                "here: controller.quorum.voters has no effect: the lines server.N say who the coordinators are",
            ],
        ),
        (&[id, zookeeper, ("process.roles", "")], &[]),
    ] {
        let (problems, warnings) = verdict(pairs);
        assert_eq!(problems, Vec::<String>::new(), "{pairs:?}");
        assert_eq!(warnings, expected, "{pairs:?}");
    }
    let alone = ("process.roles", "controller");
    let (problems, _) = verdict(&[id, alone, zookeeper]);
    assert_eq!(
        problems,
        [
            "here: process.roles asks for no broker, but zookeeper.connect is said, and stands for a broker without KRaft: for a coordinator alone, run tripod serve --roles coordinator"
        ]
    );
}
