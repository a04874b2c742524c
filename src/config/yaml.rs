//! Our own YAML file: nested mappings become paths, each with its file and line.
//!
//! The only file that names serde_yaml. It does not tell lines, so a small scan of the text finds them;
//! inside `{flow: style}` the line is that of the enclosing key.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_yaml::Value;

use crate::config::keys;
use crate::config::raw::{Origin, Problem, Said, SourceKind};
use crate::config::value::Kind;

/// How deep brackets may be nested; our settings need two.
const NESTING_MAX: usize = 64;
/// How many brackets a file may open. Quotes and comments are not told apart here, so that brackets
/// which close only inside them could hide a deep nesting; this bounds what hiding can win.
const BRACKETS_MAX: usize = 4096;
/// Lists to everybody but Kafka, for which they are texts.
const COMMA_TEXTS: &[&str] = &[
    "advertised.listeners",
    "controller.listener.names",
    "level",
    "listener.security.protocol.map",
    "listeners",
    "log.dirs",
    "max.connections.per.ip.overrides",
    "zookeeper.connect",
];

/// The parser's effort grows with the square of the nesting, so that is looked at before.
fn nesting(text: &str) -> Result<(), (usize, String)> {
    let (mut depth, mut opened, mut line) = (0_usize, 0_usize, 1);
    for byte in text.bytes() {
        match byte {
            b'\n' => line += 1,
            b'[' | b'{' => (depth, opened) = (depth + 1, opened + 1),
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > NESTING_MAX {
            let text = format!("brackets are nested more than {NESTING_MAX} deep");
            return Err((line, text));
        }
        if opened > BRACKETS_MAX {
            return Err((line, format!("more than {BRACKETS_MAX} brackets")));
        }
    }
    Ok(())
}

/// Reads a whole file.
pub fn parse(file: &Arc<str>, text: &str) -> (Vec<Said>, Vec<Problem>) {
    let mut said = Vec::new();
    let mut problems = Vec::new();
    if let Err((line, text)) = nesting(text) {
        let origin = Origin::line(SourceKind::Yaml, file, line);
        problems.push(Problem::at(&origin, text));
        return (said, problems);
    }
    match serde_yaml::from_str::<Value>(text) {
        Ok(value) => {
            let lines = key_lines(text);
            walk(file, &lines, "", &value, &mut said, &mut problems);
        }
        Err(error) => {
            let line = error.location().map_or(1, |location| location.line());
            let origin = Origin::line(SourceKind::Yaml, file, line);
            problems.push(Problem::at(&origin, format!("not YAML: {error}")));
        }
    }
    (said, problems)
}

fn walk(
    file: &Arc<str>,
    lines: &BTreeMap<String, usize>,
    path: &str,
    value: &Value,
    said: &mut Vec<Said>,
    problems: &mut Vec<Problem>,
) {
    let origin = Origin::line(SourceKind::Yaml, file, line_of(lines, path));
    match value {
        Value::Null => {}
        Value::Mapping(mapping) => {
            for (key, value) in mapping {
                match scalar(key) {
                    Some(key) => {
                        let path = if path.is_empty() {
                            key
                        } else {
                            format!("{path}.{key}")
                        };
                        walk(file, lines, &path, value, said, problems);
                    }
                    None => problems.push(Problem::at(&origin, "a key has to be plain text")),
                }
            }
        }
        _ if path.is_empty() => problems.push(Problem::at(
            &origin,
            "the file has to hold sections: node, broker, coordinator, http, log",
        )),
        Value::Sequence(_) if !takes_list(path) => problems.push(Problem::at(
            &origin,
            format!("{path}: one value is wanted here, not a list"),
        )),
        Value::Sequence(items) => {
            let items: Option<Vec<String>> = items.iter().map(scalar).collect();
            match items {
                Some(items) => said.push(Said {
                    path: path.to_owned(),
                    value: items.join(","),
                    origin,
                }),
                None => problems.push(Problem::at(
                    &origin,
                    format!("{path}: a list may hold plain values only"),
                )),
            }
        }
        Value::Tagged(_) => problems.push(Problem::at(
            &origin,
            format!("{path}: tags have no meaning here"),
        )),
        plain => said.push(Said {
            path: path.to_owned(),
            value: scalar(plain).unwrap_or_default(),
            origin,
        }),
    }
}

/// May the value of a setting be written as a list? What is unknown is told elsewhere.
fn takes_list(path: &str) -> bool {
    let known = keys::all().find(|key| key.path() == path || key.name == path);
    let member = path
        .strip_prefix("coordinator.")
        .unwrap_or(path)
        .starts_with("server.");
    !member && known.is_none_or(|key| key.kind == Kind::List || COMMA_TEXTS.contains(&key.name))
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The line of a path, else of the nearest key around it.
fn line_of(lines: &BTreeMap<String, usize>, path: &str) -> usize {
    let mut path = path;
    loop {
        if let Some(line) = lines.get(path) {
            return *line;
        }
        match path.rsplit_once('.') {
            Some((parent, _)) => path = parent,
            None => return 1,
        }
    }
}

/// Where each key of the block mappings stands.
fn key_lines(text: &str) -> BTreeMap<String, usize> {
    let mut lines = BTreeMap::new();
    let mut open: Vec<(usize, String)> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let content = line.trim_start();
        let indent = line.len() - content.len();
        let Some(key) = block_key(content) else {
            continue;
        };
        while open.last().is_some_and(|(depth, _)| *depth >= indent) {
            open.pop();
        }
        let path = match open.last() {
            Some((_, parent)) => format!("{parent}.{key}"),
            None => key.to_owned(),
        };
        lines.entry(path.clone()).or_insert(index + 1);
        // Deeper than any configuration goes; a bound on what a hostile file costs.
        if open.len() < 16 {
            open.push((indent, path));
        }
    }
    lines
}

fn block_key(content: &str) -> Option<&str> {
    if content.is_empty() || content.starts_with(['#', '-', '{', '[', '%']) {
        return None;
    }
    if let Some(quote) = content.chars().next().filter(|c| matches!(c, '"' | '\'')) {
        let rest = &content[1..];
        let end = rest.find(quote)?;
        return rest[end + 1..]
            .trim_start()
            .starts_with(':')
            .then(|| &rest[..end]);
    }
    let end = content
        .match_indices(':')
        .map(|(at, _)| at)
        .find(|at| content[at + 1..].is_empty() || content[at + 1..].starts_with([' ', '\t']))?;
    Some(content[..end].trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<String> {
        let (said, problems) = parse(&Arc::from("f.yaml"), text);
        said.iter()
            .map(|said| format!("{} {}={}", said.origin, said.path, said.value))
            .chain(problems.iter().map(|problem| format!("! {problem}")))
            .collect()
    }

    #[test]
    fn paths_values_and_lines() {
        let text = "# ours\nnode:\n  id: 3\nbroker:\n  num.partitions: 2 # two\n  'log.dirs': [/a, /b]\n  log:\n    retention:\n      ms: -1\n  listeners: PLAINTEXT://:9092\ncoordinator:\n  server:\n    1: node1:2888:3888\n  {}\n".replace("  {}\n", "http: {port: 1}\n");
        assert_eq!(
            read(&text),
            [
                "f.yaml:3 node.id=3",
                "f.yaml:5 broker.num.partitions=2",
                "f.yaml:6 broker.log.dirs=/a,/b",
                "f.yaml:9 broker.log.retention.ms=-1",
                "f.yaml:10 broker.listeners=PLAINTEXT://:9092",
                "f.yaml:13 coordinator.server.1=node1:2888:3888",
                "f.yaml:14 http.port=1",
            ]
        );
    }

    #[test]
    fn what_is_not_a_configuration_is_told_with_its_line() {
        assert!(
            read("a: [\n")[0].starts_with("! f.yaml:"),
            "{:?}",
            read("a: [\n")
        );
        assert!(read("- a\n")[0].contains("sections"));
        assert!(read("node:\n  id: [[1]]\n")[0].starts_with("! f.yaml:2: node.id"));
        assert!(read("node:\n  id: 1\n  id: 2\n")[0].contains("duplicate"));
        assert!(read("").is_empty());
    }

    #[test]
    fn deep_nesting_is_refused_at_once() {
        let file: Arc<str> = Arc::from("f.yaml");
        for (text, problem) in [
            (
                format!("\na: {}", "[".repeat(100_000)),
                "f.yaml:2: brackets are nested more than 64 deep",
            ),
            (
                "{a: ".repeat(100_000),
                "f.yaml:1: brackets are nested more than 64 deep",
            ),
            (
                format!("a:\n- {}", "[\"]\",\n".repeat(100_000)),
                "f.yaml:4098: more than 4096 brackets",
            ),
        ] {
            let (said, problems) = parse(&file, &text);
            assert!(said.is_empty());
            let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
            assert_eq!(problems, [problem]);
        }
        for text in ["- ".repeat(100_000), "? ".repeat(100_000)] {
            assert_eq!(parse(&file, &text).1.len(), 1);
        }
    }
}
