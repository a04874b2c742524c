//! The rules of the house, held by a test: who imports whom, what is banned where, how large things get,
//! and that every folder is on the map. Reads the text of `src/`; takes well under a second.
//!
//! A rule is broken by changing its table here, with a reason, in review.

use std::fs;
use std::path::{Path, PathBuf};

/// Who may import whom: the longest matching prefix of a file's path decides.
const LAYERS: &[(&str, &[&str])] = &[
    ("main.rs", &["cli"]),
    ("lib.rs", &[]),
    (
        "cli/",
        &[
            "broker",
            "cli",
            "client",
            "common",
            "config",
            "coordinator",
            "http",
            "kafka",
            "log",
            "zookeeper",
        ],
    ),
    ("http/", &["http", "broker::status", "common"]),
    (
        "broker/",
        &[
            "broker",
            "client",
            "log",
            "kafka",
            "zookeeper",
            "config",
            "common",
            "route",
        ],
    ),
    ("coordinator/", &["coordinator", "zookeeper", "common"]),
    ("client/", &["client", "kafka", "zookeeper", "common"]),
    (
        "log/",
        &[
            "log",
            "kafka::batch",
            "kafka::record",
            "kafka::compression",
            "common",
        ],
    ),
    ("config/", &["config", "common"]),
    ("kafka/", &["kafka", "common::ids"]),
    ("zookeeper/", &["zookeeper", "common::ids"]),
    ("common/", &["common"]),
];

/// What is banned, and where it is allowed all the same (prefixes of paths).
const BANS: &[(&str, &[&str])] = &[
    ("SystemTime::now", &["common/clock.rs"]),
    // Clippy finds every std::time::Instant::now; tokio's Instant can be paused, so it is fine.
    ("std::time::Instant", &["common/clock.rs"]),
    ("std::fs", &["common/disk", "config/", "cli/"]),
    ("tokio::fs", &[]),
    ("tokio::net", &["common/net/sockets.rs"]),
    ("turmoil", &["common/net/simulated.rs", "common/tasks.rs"]),
    ("rand::", &["common/rng.rs"]),
    ("getrandom", &["common/rng.rs"]),
    ("tokio::spawn", &["common/tasks.rs"]),
    ("thread::spawn", &["common/tasks.rs"]),
    // Raft opens the store that stands in coordinator/store/sled.rs, by our own name for it.
    (
        "sled::",
        &[
            "coordinator/store/sled.rs",
            "coordinator/raft/node.rs",
            "coordinator/raft/examine.rs",
        ],
    ),
    ("openraft::", &["coordinator/raft/"]),
    ("println!", &["cli/", "main.rs"]),
    ("process::exit", &["cli/", "main.rs"]),
    (".unwrap()", &[]),
    ("todo!", &[]),
    ("unimplemented!", &[]),
    ("dbg!", &[]),
    ("unbounded_channel", &[]),
    ("unsafe ", &[]),
    ("serde_yaml", &["config/yaml.rs"]),
];

/// Files whose outcome must not depend on hash order, time or the world.
const PURE: &[&str] = &[
    "kafka/",
    "zookeeper/",
    "coordinator/tree/",
    "coordinator/session.rs",
    "coordinator/watch.rs",
    "broker/group/classic",
    "broker/controller/decide",
    "broker/controller/assign.rs",
    "broker/image/znode",
    "broker/fetch_session.rs",
    "broker/fetcher/session.rs",
    "broker/isr.rs",
    "broker/throttle.rs",
    "log/retention.rs",
    "config/keys.rs",
    "config/resolve.rs",
    "http/health.rs",
    "http/metrics.rs",
    "http/commands.rs",
];

/// What a pure file does without.
const IMPURE: &[&str] = &[
    "HashMap",
    "HashSet",
    "async fn",
    "use tokio",
    "common::disk",
    "common::clock",
    "common::net::Tcp",
];

/// Lines of a file without its tests, and files that may have more, with the reason.
const FILE_LINES_MAX: usize = 800;
const LARGE_FILES: &[(&str, usize, &str)] =
    &[("config/keys.rs", 950, "the table of settings is one table")];

/// Lines of a function, and functions that may have more, with the reason.
const FUNCTION_LINES_MAX: usize = 70;
const LONG_FUNCTIONS: &[(&str, &str, &str)] = &[
    (
        "cli/console_consumer.rs",
        "formatter",
        "a list of properties, one after the other",
    ),
    (
        "cli/consumer_groups.rs",
        "members",
        "the columns of one table",
    ),
    (
        "cli/console_consumer.rs",
        "consume",
        "the loop of the tool; to be cut",
    ),
    (
        "cli/console_consumer.rs",
        "properties",
        "a list of properties, one after the other",
    ),
];

struct Source {
    /// Below `src/`, with slashes.
    path: String,
    /// Line number and text, without tests.
    lines: Vec<(usize, String)>,
    /// The first line of the file.
    first: String,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn walk(dir: &Path, into: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(dir)
        .expect("src is readable")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            walk(&path, into);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            into.push(path);
        }
    }
}

/// Read once, for all rules.
fn sources() -> &'static [Source] {
    static SOURCES: std::sync::OnceLock<Vec<Source>> = std::sync::OnceLock::new();
    SOURCES.get_or_init(read_sources)
}

fn read_sources() -> Vec<Source> {
    let src = root().join("src");
    let mut paths = Vec::new();
    walk(&src, &mut paths);
    paths
        .iter()
        .map(|path| {
            let text = fs::read_to_string(path).expect("UTF-8 text");
            let path = path.strip_prefix(&src).expect("below src");
            let path = path.to_str().expect("UTF-8 name").replace('\\', "/");
            Source {
                first: text.lines().next().unwrap_or("").to_owned(),
                lines: if is_test(&path) {
                    Vec::new()
                } else {
                    without_tests(&text)
                },
                path,
            }
        })
        .collect()
}

fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/") || path.ends_with("/testing.rs")
}

/// Cuts what follows `#[cfg(test)] mod … {`, which stands at the end of a file.
fn without_tests(text: &str) -> Vec<(usize, String)> {
    let lines: Vec<&str> = text.lines().collect();
    let end = lines
        .windows(2)
        .position(|pair| {
            pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{')
        })
        .unwrap_or(lines.len());
    lines[..end]
        .iter()
        .enumerate()
        .map(|(index, line)| (index + 1, (*line).to_owned()))
        .collect()
}

/// The code of a line: no comment, no text in quotes.
fn code(line: &str) -> String {
    let mut out = String::new();
    let mut chars = line.trim_start().chars().peekable();
    let mut quoted = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' if quoted => {
                chars.next();
            }
            // A quote as a character is no text.
            '\'' if !quoted && chars.peek() == Some(&'"') => {
                chars.next();
            }
            '"' => quoted = !quoted,
            '/' if !quoted && chars.peek() == Some(&'/') => break,
            c if !quoted => out.push(c),
            _ => {}
        }
    }
    out
}

fn report(rule: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

/// The module paths after `crate::` in a line, as far as they are written there.
fn imports(code: &str) -> Vec<String> {
    code.match_indices("crate::")
        .filter(|(at, _)| {
            !code[..*at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '$'))
        })
        .map(|(at, found)| {
            let rest = &code[at + found.len()..];
            let end = rest.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | ':')));
            rest[..end.unwrap_or(rest.len())]
                .trim_end_matches(':')
                .to_owned()
        })
        .collect()
}

#[test]
fn arrows_point_down() {
    let mut broken = Vec::new();
    for source in sources() {
        let allowed = LAYERS
            .iter()
            .filter(|(prefix, _)| source.path.starts_with(prefix))
            .max_by_key(|(prefix, _)| prefix.len());
        let Some((_, allowed)) = allowed else {
            broken.push(format!("src/{} is in no layer", source.path));
            continue;
        };
        for (number, line) in &source.lines {
            for import in imports(&code(line)) {
                let fits =
                    |layer: &&str| import == **layer || import.starts_with(&format!("{layer}::"));
                if !allowed.iter().any(fits) {
                    broken.push(format!(
                        "src/{}:{number} imports crate::{import}",
                        source.path
                    ));
                }
            }
        }
    }
    report("an import goes against the layers", &broken);
}

#[test]
fn the_world_comes_in_through_its_seams() {
    let mut broken = Vec::new();
    for source in sources() {
        for (number, line) in &source.lines {
            let code = code(line);
            for (banned, allowed) in BANS {
                let here = allowed.iter().any(|prefix| source.path.starts_with(prefix));
                if !here && has_word(&code, banned) {
                    broken.push(format!("src/{}:{number} has {banned}", source.path));
                }
            }
            if PURE.iter().any(|prefix| source.path.starts_with(prefix)) {
                for banned in IMPURE.iter().filter(|banned| has_word(&code, banned)) {
                    broken.push(format!(
                        "src/{}:{number} is pure but has {banned}",
                        source.path
                    ));
                }
            }
        }
    }
    report("something banned is used outside its place", &broken);
}

/// Does the word occur, and not as the end of a longer one?
fn has_word(code: &str, word: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word)
        .any(|(at, _)| word.starts_with('.') || !code[..at].ends_with(inside))
}

#[test]
fn files_say_what_they_are_for_and_stay_small() {
    let mut broken = Vec::new();
    for source in sources() {
        let is_tests = is_test(&source.path);
        if !is_tests && !source.first.starts_with("//!") {
            broken.push(format!("src/{} does not begin with //!", source.path));
        }
        let known = LARGE_FILES.iter().find(|(path, ..)| *path == source.path);
        let limit = known.map_or(FILE_LINES_MAX, |(_, lines, _)| *lines);
        if source.lines.len() > limit {
            let lines = source.lines.len();
            broken.push(format!(
                "src/{} has {lines} lines, more than {limit}",
                source.path
            ));
        }
    }
    report(
        "a file is too large or does not say what it is for",
        &broken,
    );
}

#[test]
fn functions_fit_on_a_screen() {
    let mut broken = Vec::new();
    for source in sources() {
        for (from, name, lines) in functions(&source.lines) {
            let excused = LONG_FUNCTIONS
                .iter()
                .any(|(path, function, _)| *path == source.path && *function == name);
            if lines > FUNCTION_LINES_MAX && !excused {
                broken.push(format!(
                    "src/{}:{from} {name} has {lines} lines",
                    source.path
                ));
            }
        }
    }
    report("a function is longer than a screen", &broken);
}

/// First line, name and length of every function, as rustfmt indents them.
fn functions(lines: &[(usize, String)]) -> Vec<(usize, String, usize)> {
    let mut found = Vec::new();
    let mut open: Option<(usize, usize, String)> = None;
    for (number, line) in lines {
        let indent = line.len() - line.trim_start().len();
        match &open {
            // It has no depth of its own.
            _ if line.trim().is_empty() => {}
            Some((from, depth, name)) if indent == *depth && line.trim() == "}" => {
                found.push((*from, name.clone(), number - from + 1));
                open = None;
            }
            Some((_, depth, _)) if indent > *depth => {}
            // The rest of a signature that takes several lines.
            Some((_, depth, _))
                if indent == *depth && line.trim_start().starts_with([')', '{']) => {}
            Some((_, depth, _)) if indent == *depth && line.trim() == "where" => {}
            // A signature without a body ends where the next line at its depth begins.
            _ => open = function_name(line).map(|name| (*number, indent, name)),
        }
    }
    found
}

fn function_name(line: &str) -> Option<String> {
    let line = line.trim_start();
    let starts = [
        "fn ",
        "pub fn ",
        "pub(crate) fn ",
        "pub(super) fn ",
        "async fn ",
        "pub async fn ",
        "pub(crate) async fn ",
        "pub(super) async fn ",
        "const fn ",
        "pub const fn ",
    ];
    let rest = starts.iter().find_map(|start| line.strip_prefix(start))?;
    if line.ends_with(';') || line.ends_with('}') {
        return None;
    }
    rest.split(['(', '<']).next().map(str::to_owned)
}

#[test]
fn every_folder_is_on_the_map() {
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let mut folders: Vec<String> = sources()
        .iter()
        .filter(|source| !is_test(&source.path))
        .filter_map(|source| Some(format!("src/{}/", source.path.rsplit_once('/')?.0)))
        .collect();
    folders.sort();
    folders.dedup();
    folders.retain(|folder| !map.contains(&format!("`{folder}`")));
    report("ARCHITECTURE.md does not name a folder", &folders);
}

#[test]
fn the_rules_see_what_they_look_for() {
    assert_eq!(code("let a = \"std::fs\"; // std::fs"), "let a = ; ");
    assert!(code("x == '\"' && std::fs").contains("std::fs"));
    assert_eq!(
        imports("use crate::common::net::{self, X};"),
        ["common::net"]
    );
    assert!(has_word("rand::rng()", "rand::"));
    assert!(!has_word("operand::x", "rand::"));
    assert_eq!(
        function_name("    pub async fn run(self) {").as_deref(),
        Some("run")
    );
    assert_eq!(function_name("    fn len(&self) -> usize;"), None);
    let text = "fn a(\n    b: u8,\n) -> u8\nwhere\n    u8: Copy,\n{\n    let c = b;\n\n    c\n}\n\nfn d() {\n}";
    let lines = text
        .lines()
        .enumerate()
        .map(|(at, line)| (at + 1, line.to_owned()));
    assert_eq!(
        functions(&lines.collect::<Vec<_>>()),
        [(1, "a".to_owned(), 10), (12, "d".to_owned(), 2)]
    );
}
