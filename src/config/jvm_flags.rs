//! `-Dname=value` in the variables that start scripts hand to a JVM: ZooKeeper takes much of its
//! configuration from there.
//!
//! Pure: the caller hands the variables in. ZooKeeper's own file wins over a flag, as it does there; flags
//! that only concern a JVM are passed over in silence.

use crate::config::raw::{Origin, Said, SourceKind, Values};
use crate::config::{resolve, zoo_cfg};

/// The variables, weakest first.
const VARIABLES: &[&str] = &["KAFKA_OPTS", "JVMFLAGS", "SERVER_JVMFLAGS"];
/// System properties of ZooKeeper's that do not begin with its name.
const PLAIN: &[&str] = &[
    "jute.maxbuffer",
    "readonlymode.enabled",
    "znode.container.checkIntervalMs",
    "znode.container.maxPerMinute",
    "znode.container.maxNeverUsedIntervalMs",
];
/// Names that Java reads itself.
const JAAS: &str = "java.security.auth.login.config";

/// Takes what the variables say.
pub fn read(variables: &[(String, String)], values: &mut Values) {
    for wanted in VARIABLES {
        let Some((_, text)) = variables.iter().find(|(name, _)| name == wanted) else {
            continue;
        };
        let origin = Origin::named(SourceKind::JvmFlag, format!("variable {wanted}"));
        let mut providers = zoo_cfg::Providers::default();
        for (name, value) in words(text).iter().filter_map(|word| flag(word)) {
            if name == JAAS {
                let (path, value) = (format!("node.{JAAS}"), value.to_owned());
                let origin = origin.clone();
                resolve::say(
                    values,
                    Said {
                        path,
                        value,
                        origin,
                    },
                );
            } else if let Some(key) = key(name)
                && !providers.add(key, value, &origin)
            {
                zoo_cfg::take(key, value.to_owned(), &origin, values);
            }
        }
        providers.say(values);
    }
}

/// The key of `zoo.cfg` that a system property stands for.
fn key(name: &str) -> Option<&str> {
    match name.strip_prefix("zookeeper.") {
        Some(key) => Some(key),
        None => PLAIN.contains(&name).then_some(name),
    }
}

/// The name and the value of `-Dname=value`.
fn flag(word: &str) -> Option<(&str, &str)> {
    let rest = word.strip_prefix("-D")?;
    Some(rest.split_once('=').unwrap_or((rest, "")))
}

/// Splits as a shell does, quotes removed.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word) = (Vec::new(), None::<String>);
    let mut quote = None;
    for c in text.chars() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => word.get_or_insert_default().push(c),
            None if c == '"' || c == '\'' => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            None if c.is_whitespace() => words.extend(word.take()),
            None => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_said_and_the_file_wins() {
        let variables = [
            (
                "KAFKA_OPTS",
                "-Xmx1g -Djava.security.auth.login.config=/k.conf -Dzookeeper.superUser=a",
            ),
            (
                "SERVER_JVMFLAGS",
                " -Djava.security.auth.login.config='/z s.conf' -Dzookeeper.authProvider.1=a.B \
                 -Dzookeeper.authProvider.2=c.D -Dzookeeper.maxClientCnxns=7 -Dzookeeper.maxCnxns=9 -Dx \
                 -Dreadonlymode.enabled=true",
            ),
            ("OTHER", "-Dzookeeper.tickTime=1"),
        ];
        let variables = variables.map(|(name, text)| (name.to_owned(), text.to_owned()));
        let mut values = Values::default();
        read(&variables, &mut values);
        let file = std::sync::Arc::from("zoo.cfg");
        zoo_cfg::read(&file, "maxClientCnxns=5\n", &mut values);
        let said: Vec<_> = values
            .iter()
            .map(|said| (said.path.as_str(), said.value.as_str()))
            .collect();
        assert_eq!(
            said,
            [
                ("coordinator.authProvider", "a.B,c.D"),
                ("coordinator.maxClientCnxns", "5"),
                ("coordinator.maxCnxns", "9"),
                ("coordinator.readonlymode.enabled", "true"),
                ("coordinator.superUser", "a"),
                ("node.java.security.auth.login.config", "/z s.conf"),
            ]
        );
        assert_eq!((&values.warnings, &values.problems), (&vec![], &vec![]));
    }
}
