//! `TRIPOD_*` and `KAFKA_*` variables.
//!
//! Pure: the caller hands the variables in. `KAFKA_*` names follow Apache's image: strip the prefix,
//! lower case, `_` is `.`, `__` is `_`, `___` is `-`. An unknown `KAFKA_*` name is a warning only,
//! because images and Testcontainers set some that mean nothing here; an unknown `TRIPOD_*` is a problem.

use crate::config::keys::{self, Key};
use crate::config::raw::{Origin, Problem, Said, SourceKind, Values, cut, nearest};
use crate::config::{foreign, resolve, zoo_cfg};

/// `TRIPOD_*` names that the command line reads itself.
const OURS: &[&str] = &[
    "TRIPOD_CONFIG",
    "TRIPOD_SERVER_PROPERTIES",
    "TRIPOD_ZOO_CFG",
];

/// Takes what the variables say.
pub fn read(variables: &[(String, String)], values: &mut Values) {
    for (name, value) in variables {
        if is_service_link(name, value) {
            continue;
        }
        match name.as_str() {
            "CLUSTER_ID" | "KAFKA_CLUSTER_ID" | "KAFKA_KRAFT_CLUSTER_ID" => say(
                values,
                SourceKind::KafkaVariable,
                name,
                "node.cluster.id".into(),
                value,
            ),
            "JMX_PORT" | "KAFKA_JMX_PORT" => {
                let origin = Origin::named(SourceKind::KafkaVariable, format!("variable {name}"));
                values.warnings.push(Problem::at(
                    &origin,
                    "JMX is not spoken here; the same figures are on the HTTP port under /metrics",
                ));
            }
            "KAFKA_LOG4J_ROOT_LOGLEVEL" => log_level(name, value, values),
            _ if foreign::advice(name).is_none() && foreign::is_silent(name) => {}
            _ if OURS.contains(&name.as_str()) => {}
            _ => {
                if let Some(text) = foreign::advice(name) {
                    let origin =
                        Origin::named(SourceKind::KafkaVariable, format!("variable {name}"));
                    values.warnings.push(Problem::at(&origin, text));
                } else if let Some(rest) = name.strip_prefix("KAFKA_") {
                    kafka(name, rest, value, values);
                } else if let Some(rest) = name.strip_prefix("TRIPOD_") {
                    tripod(name, rest, value, values);
                }
            }
        }
    }
}

/// The level that Confluent's image takes for the whole log, in log4j's words.
fn log_level(name: &str, value: &str, values: &mut Values) {
    let said = value.trim().to_ascii_lowercase();
    let level = match said.as_str() {
        "all" => "trace",
        "fatal" => "error",
        "off" | "error" | "warn" | "info" | "debug" | "trace" => &said,
        _ => {
            let origin = Origin::named(SourceKind::KafkaVariable, format!("variable {name}"));
            let text = format!("no effect: '{}' is no level of log4j", cut(value));
            values.warnings.push(Problem::at(&origin, text));
            return;
        }
    };
    let path = "log.level".to_owned();
    say(values, SourceKind::KafkaVariable, name, path, level);
}

fn kafka(name: &str, rest: &str, value: &str, values: &mut Values) {
    // Bitnami's image says KAFKA_CFG_X for what Apache's calls KAFKA_X.
    let property = kafka_name(rest.strip_prefix("CFG_").unwrap_or(rest));
    let known = keys::broker().find(|key| key.name.eq_ignore_ascii_case(&property));
    match known {
        Some(key) => say(values, SourceKind::KafkaVariable, name, key.path(), value),
        None => {
            let near = nearest(&property, keys::broker().map(|key| key.name));
            let hint = near.map_or(String::new(), |near| format!("; the nearest is {near}"));
            let origin =
                Origin::named(SourceKind::KafkaVariable, format!("variable {}", cut(name)));
            let text = format!("no setting is named {}{hint}", cut(&property));
            values.warnings.push(Problem::at(&origin, text));
        }
    }
}

/// The rule of Apache's `KafkaDockerWrapper`.
pub fn kafka_name(rest: &str) -> String {
    rest.to_lowercase()
        .replace('_', ".")
        .replace("...", "-")
        .replace("..", "_")
}

fn tripod(name: &str, rest: &str, value: &str, values: &mut Values) {
    let flat = flatten(rest);
    let member = flat
        .strip_prefix("COORDINATORSERVER")
        .filter(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()));
    let path = match member {
        Some(digits) => Some(format!("coordinator.server.{digits}")),
        // TRIPOD_BROKER_ID is as good as TRIPOD_BROKER_BROKER_ID.
        None => keys::all()
            .find(|key| flatten(&key.path()) == flat)
            .or_else(|| keys::all().find(|key| flatten(&key.written()) == flat))
            .map(Key::path),
    };
    if let Some(path) = path {
        say(values, SourceKind::TripodVariable, name, path, value);
        return;
    }
    let hint = hint(name, &flat);
    let origin = Origin::named(
        SourceKind::TripodVariable,
        format!("variable {}", cut(name)),
    );
    values.problems.push(Problem::at(
        &origin,
        format!("no setting has this name{hint}"),
    ));
}

/// What may be meant by a variable that names no setting.
fn hint(name: &str, flat: &str) -> String {
    let refused = flat.strip_prefix("COORDINATOR").and_then(|rest| {
        let same = |pattern: &str| match pattern.strip_suffix('*') {
            Some(prefix) => rest.starts_with(&flatten(prefix)),
            None => flatten(pattern) == rest,
        };
        let row = zoo_cfg::REFUSED.iter().find(|(pattern, _)| same(pattern));
        row.map(|(_, why)| *why)
    });
    if let Some(why) = refused {
        return format!(": {why}");
    }
    // The section is easily forgotten.
    let sectionless = keys::all().find(|key| flatten(key.name) == flat);
    let names: Vec<String> = keys::all().map(variable).collect();
    let near = || nearest(name, names.iter().map(String::as_str)).map(str::to_owned);
    let meant = sectionless.map(variable).or_else(near);
    meant.map_or(String::new(), |meant| format!("; did you mean {meant}?"))
}

fn say(values: &mut Values, kind: SourceKind, name: &str, path: String, value: &str) {
    resolve::say(
        values,
        Said {
            path,
            value: value.to_owned(),
            origin: Origin::named(kind, format!("variable {name}")),
        },
    );
}

/// The `TRIPOD_*` name of a setting.
pub fn variable(key: &Key) -> String {
    let mut name = String::from("TRIPOD_");
    for c in key.path().chars() {
        if c.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(if c.is_ascii_alphanumeric() {
            c.to_ascii_uppercase()
        } else {
            '_'
        });
    }
    name
}

fn flatten(name: &str) -> String {
    name.chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_uppercase())
        .collect()
}

/// Kubernetes tells every pod about Services by variables: a Service named `kafka` makes
/// `KAFKA_PORT=tcp://…`, which is nobody's setting.
fn is_service_link(name: &str, value: &str) -> bool {
    let link = value.starts_with("tcp://") || value.starts_with("udp://");
    (link && name.ends_with("_PORT"))
        || name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || name.split("_PORT_").nth(1).is_some_and(|rest| {
            let mut parts = rest.split('_');
            parts.next().is_some_and(|port| port.parse::<u16>().is_ok())
                && parts
                    .next()
                    .is_some_and(|protocol| matches!(protocol, "TCP" | "UDP"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(variables: &[(&str, &str)]) -> Values {
        let mut values = Values::default();
        let variables: Vec<_> = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        read(&variables, &mut values);
        values
    }

    #[test]
    fn kafka_names_follow_apaches_image() {
        assert_eq!(
            kafka_name("OFFSETS_TOPIC_NUM_PARTITIONS"),
            "offsets.topic.num.partitions"
        );
        assert_eq!(kafka_name("A__B___C"), "a_b-c");
        let values = read_all(&[
            ("KAFKA_ZOOKEEPER_CONNECT", "z:2181"),
            ("KAFKA_CONFLUENT_SUPPORT_METRICS_ENABLE", "0"),
            ("KAFKA_OPTS", "-Xmx1g"),
            ("KAFKA_PORT", "tcp://10.0.0.1:9092"),
            ("KAFKA_PORT_9092_TCP_ADDR", "10.0.0.1"),
            ("KAFKA_SERVICE_HOST", "10.0.0.1"),
            ("TRIPOD_NODE1_SERVICE_PORT_KAFKA", "9092"),
            ("JMX_PORT", "9988"),
            ("PATH", "/bin"),
        ]);
        assert_eq!(
            values
                .said("broker.zookeeper.connect")
                .map(|s| s.value.as_str()),
            Some("z:2181")
        );
        assert_eq!(values.iter().count(), 1);
        assert_eq!(values.problems, []);
        let warnings: Vec<_> = values.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings[0].contains("KAFKA_CONFLUENT_SUPPORT_METRICS_ENABLE"));
        assert!(warnings[1].starts_with("variable JMX_PORT: ") && warnings[1].contains("/metrics"));
    }

    #[test]
    fn variables_of_other_images_are_taken_or_answered() {
        let values = read_all(&[
            ("KAFKA_CFG_NUM_PARTITIONS", "5"),
            ("KAFKA_KRAFT_CLUSTER_ID", "5L6g3nShT-eMCtK--X86sw"),
            ("ALLOW_PLAINTEXT_LISTENER", "yes"),
            ("KAFKA_LOG4J_ROOT_LOGLEVEL", "WARN"),
            ("KAFKA_OPTS", "-Dx=y"),
            ("ZOOKEEPER_UNHEARD_OF", "1"),
        ]);
        let said: Vec<_> = values.iter().map(|said| said.path.as_str()).collect();
        assert_eq!(
            said,
            ["broker.num.partitions", "log.level", "node.cluster.id"]
        );
        assert_eq!(
            values.said("log.level").map(|said| said.value.as_str()),
            Some("warn")
        );
        assert_eq!((&values.warnings, &values.problems), (&vec![], &vec![]));
        for (name, instead) in [
            ("KAFKA_CREATE_TOPICS", "kafka-topics --create"),
            ("KAFKA_CLIENT_USERS", "authentication is not supported"),
            ("KAFKA_ZOOKEEPER_PROTOCOL", "plain text"),
            ("KAFKA_TLS_TYPE", "TLS is not supported"),
            ("KAFKA_SSL_KEYSTORE_FILENAME", "TLS is not supported"),
            ("KAFKA_HEAP_OPTS", "no JVM"),
            ("KAFKA_LOG4J_LOGGERS", "TRIPOD_LOG_LEVEL"),
            ("KAFKA_LOG4J_ROOT_LOGLEVEL", "'x' is no level"),
            ("BROKER_ID_COMMAND", "KAFKA_BROKER_ID"),
            ("KAFKA_CFG_NUM_PARTITION", "num.partitions"),
            ("ZOOKEEPER_CLIENT_PORT", "TRIPOD_COORDINATOR_CLIENT_PORT"),
        ] {
            let values = read_all(&[(name, "x")]);
            assert_eq!(
                (values.iter().count(), values.problems.len()),
                (0, 0),
                "{name}"
            );
            let warnings: Vec<_> = values.warnings.iter().map(ToString::to_string).collect();
            let [warning] = &warnings[..] else {
                panic!("{name}: {warnings:?}")
            };
            assert!(
                warning.starts_with(&format!("variable {name}: ")),
                "{warning}"
            );
            assert!(warning.contains(instead), "{warning}");
        }
    }

    #[test]
    fn advice_names_variables_that_exist() {
        let names: Vec<String> = keys::all().map(variable).collect();
        for name in [
            "ZOOKEEPER_SERVER_ID",
            "ZOOKEEPER_TICK_TIME",
            "ZOOKEEPER_CLIENT_PORT",
            "KAFKA_VOLUME_DIR",
        ] {
            let advice = foreign::advice(name).expect("answered");
            let named = advice
                .split([' ', ','])
                .find(|word| word.starts_with("TRIPOD_"));
            assert!(
                names.iter().any(|known| Some(known.as_str()) == named),
                "{advice}"
            );
        }
    }

    #[test]
    fn our_own_names_are_strict() {
        let values = read_all(&[
            ("TRIPOD_BROKER_NUM_PARTITIONS", "3"),
            ("TRIPOD_COORDINATOR_TICK_TIME", "1s"),
            ("TRIPOD_BROKER_ID", "4"),
            ("TRIPOD_COORDINATOR_SERVER_2", "b:2888:3888"),
            ("TRIPOD_BROKER_NUM_PARTITION", "3"),
            ("TRIPOD_DATA_DIR", "/d"),
            ("TRIPOD_COORDINATOR_SSL_QUORUM", "true"),
        ]);
        assert_eq!(
            values
                .said("coordinator.tickTime")
                .map(|s| s.value.as_str()),
            Some("1000")
        );
        assert!(values.said("coordinator.server.2").is_some());
        assert!(values.said("broker.broker.id").is_some());
        assert_eq!(
            values
                .problems
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>(),
            [
                "variable TRIPOD_BROKER_NUM_PARTITION: no setting has this name; did you mean TRIPOD_BROKER_NUM_PARTITIONS?",
                "variable TRIPOD_DATA_DIR: no setting has this name; did you mean TRIPOD_NODE_DATA_DIR?",
                "variable TRIPOD_COORDINATOR_SSL_QUORUM: no setting has this name: members speak without TLS; coordinator.peer.secret keeps strangers away",
            ]
        );
    }

    #[test]
    fn no_two_settings_share_a_variable() {
        let mut seen = std::collections::BTreeSet::new();
        for key in keys::all() {
            assert!(seen.insert(flatten(&key.path())), "{}", key.path());
            assert!(flatten(&variable(key)).ends_with(&flatten(&key.path())));
        }
    }
}
