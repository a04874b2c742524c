//! What was said, by which source, on which line; and the report of all that is wrong with it.
//!
//! Pure: the readers of files and variables make [`Said`] values, `resolve` chooses among them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::config::keys::{Honour, Key};
use crate::config::value::{Kind, Setting, invalid};

/// The kinds of sources, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SourceKind {
    /// What `tripod dev` and the roles imply; anything said wins.
    Implied,
    /// `-Dname=value` in `KAFKA_OPTS`, `SERVER_JVMFLAGS` or `JVMFLAGS`; ZooKeeper's file wins over them.
    JvmFlag,
    /// A variable of ZooKeeper's image, which makes a `zoo.cfg` of them where there is none.
    ZooVariable,
    /// `server.properties`, `zoo.cfg`, `myid`.
    Properties,
    /// Our own YAML file.
    Yaml,
    /// A `KAFKA_*` variable.
    KafkaVariable,
    /// A `TRIPOD_*` variable.
    TripodVariable,
    /// A flag.
    Flag,
}

/// Where something was said.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// The kind, which decides who wins.
    pub kind: SourceKind,
    /// The file, the variable or the flag.
    pub place: Arc<str>,
    /// The line in a file; 0 elsewhere.
    pub line: usize,
}

impl Origin {
    /// A line in a file.
    pub fn line(kind: SourceKind, file: &Arc<str>, line: usize) -> Origin {
        Origin {
            kind,
            place: file.clone(),
            line,
        }
    }

    /// A variable or a flag.
    pub fn named(kind: SourceKind, place: impl Into<Arc<str>>) -> Origin {
        Origin {
            kind,
            place: place.into(),
            line: 0,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "{}:{}", self.place, self.line)
        } else {
            f.write_str(&self.place)
        }
    }
}

/// One `name = value` from one source. The name is `section.name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The full path.
    pub path: String,
    /// The value as text.
    pub value: String,
    /// Where.
    pub origin: Origin,
}

/// One thing that is wrong, or odd.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where, if it has one place.
    pub origin: Option<Origin>,
    /// What.
    pub text: String,
}

impl Problem {
    /// A problem at one place.
    pub fn at(origin: &Origin, text: impl Into<String>) -> Problem {
        Problem {
            origin: Some(origin.clone()),
            text: text.into(),
        }
    }

    /// A problem between several settings.
    pub fn general(text: impl Into<String>) -> Problem {
        Problem {
            origin: None,
            text: text.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Some(origin) => write!(f, "{origin}: {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// Everything that is wrong with a configuration, in one piece.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Report {
    /// At least one.
    pub problems: Vec<Problem>,
    /// What is odd besides; it often explains a problem.
    pub warnings: Vec<Problem>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.as_slice() {
            [one] => write!(f, "the configuration has a problem: {one}")?,
            many => {
                write!(f, "the configuration has {} problems:", many.len())?;
                for problem in many {
                    write!(f, "\n  {problem}")?;
                }
            }
        }
        for warning in &self.warnings {
            write!(f, "\n  warning: {warning}")?;
        }
        Ok(())
    }
}

/// The chosen value of each setting, and the problems met so far.
#[derive(Debug, Default)]
pub struct Values {
    chosen: BTreeMap<String, Said>,
    /// What makes the configuration unusable.
    pub problems: Vec<Problem>,
    /// What is odd, but does not stop anybody.
    pub warnings: Vec<Problem>,
}

impl Values {
    /// Notes what a source said about a known setting; the strongest source, and in it the last word, wins.
    pub fn say(&mut self, said: Said) {
        match self.chosen.get(&said.path) {
            Some(before) if before.origin.kind > said.origin.kind => {}
            _ => {
                self.chosen.insert(said.path.clone(), said);
            }
        }
    }

    /// What was said about a path, if anything.
    pub fn said(&self, path: &str) -> Option<&Said> {
        self.chosen.get(path)
    }

    /// All that was said, by path.
    pub fn iter(&self) -> impl Iterator<Item = &Said> {
        self.chosen.values()
    }

    /// The typed value of a row; a bad one is noted and the default stands in for it.
    pub fn take<T: Setting>(&mut self, key: &Key) -> T {
        let default = || key.default.and_then(T::read).unwrap_or_else(T::absent);
        let Some(said) = self.chosen.get(&key.path()) else {
            return default();
        };
        match check(key, &said.value) {
            Ok(text) => T::read(&text).unwrap_or_else(default),
            Err(text) => {
                let problem = Problem::at(&said.origin, text);
                self.problems.push(problem);
                default()
            }
        }
    }
}

/// The canonical text of a value, or Kafka's sentence about what is wrong with it.
pub fn check(key: &Key, text: &str) -> Result<String, String> {
    let shown = if key.kind == Kind::Password {
        "[hidden]"
    } else {
        text
    };
    let name = key.shown();
    let canonical = key
        .kind
        .canonical(text)
        .map_err(|message| invalid(&name, &cut(shown), &message))?;
    key.valid
        .check(&name, key.kind, &canonical)
        .map_err(|(blamed, message)| invalid(&name, &cut(&blamed), &message))?;
    if let Honour::Refused(why) = key.honour
        && !canonical.is_empty()
        && Some(canonical.as_str()) != key.default
    {
        return Err(format!("{} cannot be set: {why}", key.name));
    }
    Ok(canonical)
}

/// At most 200 characters of a text from outside, control characters escaped.
pub fn cut(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(200)
        .flat_map(|c| {
            if c.is_control() {
                c.escape_default().collect::<Vec<_>>()
            } else {
                vec![c]
            }
        })
        .collect();
    if text.chars().count() > 200 {
        shown.push('…');
    }
    shown
}

/// The known name nearest to a wrong one, if one is near enough to be meant.
pub fn nearest<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let wrong: Vec<char> = wrong.to_ascii_lowercase().chars().take(80).collect();
    let limit = |name: &str| 1 + wrong.len().min(name.len()) / 5;
    known
        .filter(|name| wrong.len().abs_diff(name.len()) <= limit(name))
        .map(|name| (distance(&wrong, name), name))
        .min()
        .filter(|(distance, name)| *distance <= limit(name))
        .map(|(_, name)| name)
}

/// Levenshtein's distance, without regard to case.
fn distance(left: &[char], right: &str) -> usize {
    let right: Vec<char> = right.to_ascii_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (diagonal + usize::from(a != b))
                .min(above + 1)
                .min(row[j] + 1);
            diagonal = above;
        }
    }
    row[right.len()]
}
