//! ZooKeeper's AdminServer: `/commands/<name>` as JSON.
//!
//! Pure. The figures are those of the four-letter words; a command is a word's text in another dress,
//! so there is one place that counts.

use serde::Serialize;
use serde_json::{Map, Value};

/// What a command answers from.
enum Shape {
    /// No data.
    Bare,
    /// `mntr`, without its prefix.
    Monitor,
    /// `conf`, in the spelling of JSON.
    Configuration,
    /// The figures of `srvr`.
    ServerStats,
    /// `isro` as a truth value.
    ReadOnly,
    /// Who leads.
    Leader,
    /// `key=value` lines after a heading.
    Environment,
    /// `key: value` lines.
    Lines,
}

/// Name, four-letter word, shape.
const COMMANDS: &[(&str, &str, Shape)] = &[
    ("configuration", "conf", Shape::Configuration),
    ("dirs", "dirs", Shape::Lines),
    ("environment", "envi", Shape::Environment),
    ("is_read_only", "isro", Shape::ReadOnly),
    ("leader", "mntr", Shape::Leader),
    ("monitor", "mntr", Shape::Monitor),
    ("ruok", "ruok", Shape::Bare),
    ("server_stats", "mntr", Shape::ServerStats),
    ("stats", "mntr", Shape::ServerStats),
];

/// Short names that the original also takes.
const ALIASES: &[(&str, &str)] = &[
    ("conf", "configuration"),
    ("envi", "environment"),
    ("isro", "is_read_only"),
    ("lead", "leader"),
    ("mntr", "monitor"),
    ("srvr", "server_stats"),
    ("stat", "stats"),
];

/// What every word answers while nothing is served.
const NOT_SERVING: &str = "This ZooKeeper instance is not currently serving requests";

/// The page with a link to each command.
pub fn index() -> String {
    COMMANDS
        .iter()
        .map(|(name, ..)| format!("<a href=\"/commands/{name}\">{name}</a>\n<br/>\n"))
        .collect()
}

/// Runs one command; `word` gives the text of a four-letter word. The error of a member that serves
/// nothing is the original's; what it waits for stands beside it.
pub fn run(name: &str, word: &dyn Fn(&str) -> Option<String>, waits_for: Option<String>) -> Value {
    let full = ALIASES
        .iter()
        .find(|(alias, _)| *alias == name)
        .map_or(name, |(_, full)| full);
    let Some((full, source, shape)) = COMMANDS.iter().find(|(known, ..)| *known == full) else {
        let error = format!("Unknown command: {name}");
        return finish(Map::new(), name, Some(&error));
    };
    match word(source).filter(|text| !text.starts_with(NOT_SERVING)) {
        Some(text) => finish(dress(shape, &text), full, None),
        None => {
            let waits_for = waits_for.map(|text| ("waits_for".to_owned(), text.into()));
            finish(waits_for.into_iter().collect(), full, Some(NOT_SERVING))
        }
    }
}

fn finish(mut data: Map<String, Value>, command: &str, error: Option<&str>) -> Value {
    data.insert("command".into(), command.into());
    data.insert("error".into(), error.map_or(Value::Null, Value::from));
    Value::Object(data)
}

fn dress(shape: &Shape, text: &str) -> Map<String, Value> {
    match shape {
        Shape::Bare => Map::new(),
        Shape::Monitor => monitor(text).collect(),
        Shape::Configuration => text
            .lines()
            .take_while(|line| !line.starts_with("membership"))
            .filter_map(|line| line.split_once('='))
            .map(|(key, value)| (snake_case(key), typed(value)))
            .collect(),
        Shape::ServerStats => server_stats(text),
        Shape::ReadOnly => Map::from_iter([("read_only".to_owned(), (text.trim() == "ro").into())]),
        Shape::Leader => {
            let leads = monitor(text).any(|(key, value)| {
                key == "server_state" && (value == "leader" || value == "standalone")
            });
            Map::from_iter([("is_leader".to_owned(), leads.into())])
        }
        Shape::Environment => pairs(text, '='),
        Shape::Lines => pairs(text, ':'),
    }
}

fn monitor(text: &str) -> impl Iterator<Item = (String, Value)> {
    text.lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(key, value)| {
            (
                key.strip_prefix("zk_").unwrap_or(key).to_owned(),
                typed(value),
            )
        })
}

fn server_stats(text: &str) -> Map<String, Value> {
    const TOP: &[&str] = &["version"];
    const STATS: &[&str] = &[
        "packets_sent",
        "packets_received",
        "max_latency",
        "min_latency",
        "avg_latency",
        "num_alive_connections",
        "outstanding_requests",
        "server_state",
        "uptime",
    ];
    let all: Map<String, Value> = monitor(text).collect();
    let pick = |keys: &[&str]| -> Map<String, Value> {
        keys.iter()
            .filter_map(|key| Some(((*key).to_owned(), all.get(*key)?.clone())))
            .collect()
    };
    let mut data = pick(TOP);
    data.insert("read_only".into(), false.into());
    data.insert("server_stats".into(), Value::Object(pick(STATS)));
    if let Some(count) = all.get("znode_count") {
        data.insert("node_count".into(), count.clone());
    }
    data
}

fn pairs(text: &str, separator: char) -> Map<String, Value> {
    text.lines()
        .filter_map(|line| line.split_once(separator))
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| (key.trim().to_owned(), typed(value.trim())))
        .collect()
}

fn typed(value: &str) -> Value {
    let value = value.trim();
    match (value.parse::<i64>(), value.parse::<f64>()) {
        (Ok(integer), _) => integer.into(),
        (_, Ok(number)) if number.is_finite() => number.into(),
        _ => value.into(),
    }
}

fn snake_case(key: &str) -> String {
    let mut out = String::with_capacity(key.len() + 4);
    for c in key.chars() {
        if c.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// JSON as Jackson indents it: two spaces, and a space on both sides of the colon.
pub fn pretty(value: &Value) -> String {
    let mut out = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, Jackson::default());
    match value.serialize(&mut serializer) {
        Ok(()) => String::from_utf8(out).unwrap_or_default(),
        Err(_) => value.to_string(),
    }
}

#[derive(Default)]
struct Jackson(serde_json::ser::PrettyFormatter<'static>);

impl serde_json::ser::Formatter for Jackson {
    fn begin_array<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        self.0.begin_array(writer)
    }
    fn end_array<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        self.0.end_array(writer)
    }
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        self.0.begin_array_value(writer, first)
    }
    fn end_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
    ) -> std::io::Result<()> {
        self.0.end_array_value(writer)
    }
    fn begin_object<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        self.0.begin_object(writer)
    }
    fn end_object<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        self.0.end_object(writer)
    }
    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        self.0.begin_object_key(writer, first)
    }
    fn begin_object_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
    ) -> std::io::Result<()> {
        writer.write_all(b" : ")
    }
    fn end_object_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
    ) -> std::io::Result<()> {
        self.0.end_object_value(writer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(word: &str) -> Option<String> {
        let text = match word {
            "ruok" => "imok",
            "isro" => "rw",
            "mntr" => {
                "zk_version\t3.6.2--abc, built on 09/04/2020\nzk_avg_latency\t0.5\nzk_server_state\tleader\nzk_znode_count\t5\nzk_packets_sent\t7\n"
            }
            "conf" => {
                "clientPort=2181\nsecureClientPort=-1\ndataDir=/data/version-2\nserverId=3\nmembership: \nserver.1=a:2888:3888\n"
            }
            "envi" => "Environment:\nzookeeper.version=3.6.2\nhost.name=a\n",
            "dirs" => "datadir_size: 5\nlogdir_size: 6\n",
            _ => return None,
        };
        Some(text.to_owned())
    }

    #[test]
    fn commands_look_like_the_originals() {
        assert_eq!(
            pretty(&run("ruok", &words, None)),
            "{\n  \"command\" : \"ruok\",\n  \"error\" : null\n}"
        );
        assert_eq!(
            pretty(&run("mntr", &words, None)),
            "{\n  \"version\" : \"3.6.2--abc, built on 09/04/2020\",\n  \"avg_latency\" : 0.5,\n  \"server_state\" : \"leader\",\n  \"znode_count\" : 5,\n  \"packets_sent\" : 7,\n  \"command\" : \"monitor\",\n  \"error\" : null\n}"
        );
        assert_eq!(
            run("configuration", &words, None).to_string(),
            "{\"client_port\":2181,\"secure_client_port\":-1,\"data_dir\":\"/data/version-2\",\"server_id\":3,\"command\":\"configuration\",\"error\":null}"
        );
        assert_eq!(
            run("stat", &words, None).to_string(),
            "{\"version\":\"3.6.2--abc, built on 09/04/2020\",\"read_only\":false,\"server_stats\":{\"packets_sent\":7,\"avg_latency\":0.5,\"server_state\":\"leader\"},\"node_count\":5,\"command\":\"stats\",\"error\":null}"
        );
        assert_eq!(run("is_read_only", &words, None)["read_only"], false);
        assert_eq!(run("leader", &words, None)["is_leader"], true);
        assert_eq!(run("dirs", &words, None)["logdir_size"], 6);
        assert_eq!(run("environment", &words, None)["host.name"], "a");
        assert_eq!(run("nope", &words, None)["error"], "Unknown command: nope");
        let dead = |_: &str| Some(format!("{NOT_SERVING}\n"));
        let waits_for = Some("a quorum; missing: member 3".to_owned());
        assert_eq!(
            run("monitor", &dead, waits_for).to_string(),
            format!(
                "{{\"waits_for\":\"a quorum; missing: member 3\",\"command\":\"monitor\",\"error\":\"{NOT_SERVING}\"}}"
            )
        );
        assert!(index().contains("/commands/monitor"));
    }
}
