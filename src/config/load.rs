//! Reads the files and puts all sources together.
//!
//! The only file of this module that touches the disk. It reads, never writes.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::raw::{Origin, Problem, Report, Said, SourceKind, Values};
use crate::config::resolve::{self, Facts};
use crate::config::{Config, env, jvm_flags, logins, places, yaml, zoo_cfg, zoo_env};

/// The largest configuration file that is read.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// One value from the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// As the user wrote it, for messages.
    pub shown: String,
    /// The setting's path.
    pub path: String,
    /// The value.
    pub value: String,
    /// Is it a pair of `server.properties`, as `--override` takes them? What is unknown is a warning then.
    pub property: bool,
}

impl Flag {
    /// A setting by its path.
    pub fn new(shown: impl Into<String>, path: impl Into<String>, value: String) -> Flag {
        Flag {
            shown: shown.into(),
            path: path.into(),
            value,
            property: false,
        }
    }
}

/// Where to look.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Our YAML file.
    pub yaml: Option<PathBuf>,
    /// A Kafka broker's file.
    pub server_properties: Option<PathBuf>,
    /// A ZooKeeper's file.
    pub zoo_cfg: Option<PathBuf>,
    /// The environment.
    pub variables: Vec<(String, String)>,
    /// The command line.
    pub flags: Vec<Flag>,
    /// What the command implies unless anybody says otherwise: path and value.
    pub implied: Vec<(String, String)>,
    /// What the reader of the command line could not make sense of.
    pub problems: Vec<Problem>,
    /// This machine's name.
    pub hostname: String,
}

/// A configuration, and what is odd about it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Complete and checked.
    pub config: Config,
    /// Worth a line in the log.
    pub warnings: Vec<Problem>,
}

/// A configuration with everything that is known against it.
#[derive(Clone, Debug)]
pub struct Examined {
    /// Complete; to be used only when there is no problem.
    pub config: Config,
    /// What makes it unusable.
    pub problems: Vec<Problem>,
    /// What is odd about it.
    pub warnings: Vec<Problem>,
}

impl Examined {
    /// The configuration, or the report of all that is wrong.
    pub fn verdict(self) -> Result<Loaded, Report> {
        let Examined {
            config,
            mut problems,
            mut warnings,
        } = self;
        warnings.sort();
        warnings.dedup();
        if problems.is_empty() {
            return Ok(Loaded { config, warnings });
        }
        problems.sort();
        problems.dedup();
        Err(Report { problems, warnings })
    }
}

/// Reads every source and resolves them; all problems in one report.
pub fn load(sources: &Sources) -> Result<Loaded, Report> {
    examine(sources).verdict()
}

/// As [`load`], for those who have more to say before the verdict.
pub fn examine(sources: &Sources) -> Examined {
    let mut values = Values::default();
    values.problems.extend(sources.problems.iter().cloned());
    for (path, value) in &sources.implied {
        let (path, value) = (path.clone(), value.clone());
        let origin = Origin::named(SourceKind::Implied, "this command");
        resolve::say(
            &mut values,
            Said {
                path,
                value,
                origin,
            },
        );
    }
    jvm_flags::read(&sources.variables, &mut values);
    let before = values.problems.len();
    let server_properties = open(sources.server_properties.as_deref(), &mut values);
    let zoo_cfg = open(sources.zoo_cfg.as_deref(), &mut values);
    let yaml = open(sources.yaml.as_deref(), &mut values);
    let mut unread = values.problems.len() > before;
    if let Some((file, text)) = server_properties {
        resolve::server_properties(&file, &text, &mut values);
    }
    if let Some((file, text)) = zoo_cfg {
        zoo_cfg::read(&file, &text, &mut values);
    }
    if let Some((file, text)) = yaml {
        let (said, problems) = yaml::parse(&file, &text);
        // What is not YAML holds nothing, whatever its author put there.
        unread |= said.is_empty() && !problems.is_empty();
        values.problems.extend(problems);
        for said in said {
            resolve::say(&mut values, said);
        }
    }
    env::read(&sources.variables, &mut values);
    zoo_env::read(&sources.variables, sources.zoo_cfg.is_some(), &mut values);
    for flag in &sources.flags {
        let (path, value) = (flag.path.clone(), flag.value.clone());
        let origin = Origin::named(SourceKind::Flag, flag.shown.as_str());
        let said = Said {
            path,
            value,
            origin,
        };
        if flag.property {
            resolve::say_property(&mut values, said);
        } else {
            resolve::say(&mut values, said);
        }
    }
    let facts = Facts {
        hostname: sources.hostname.clone(),
        zoo_cfg: sources.zoo_cfg.is_some(),
        server_properties: sources.server_properties.is_some(),
        unread,
        myid: read_myid(&values),
    };
    let mut config = resolve::resolve(&mut values, &facts);
    config.logins = logins::read(&mut values, config.roles, &config.node, &config.coordinator);
    places::look(&config, &mut values);
    Examined {
        config,
        problems: values.problems,
        warnings: values.warnings,
    }
}

fn open(path: Option<&Path>, values: &mut Values) -> Option<(Arc<str>, String)> {
    let path = path?;
    let file: Arc<str> = Arc::from(path.display().to_string());
    match read(path) {
        Ok(text) => Some((file, text)),
        Err(text) => {
            let origin = Origin::line(SourceKind::Properties, &file, 0);
            values.problems.push(Problem::at(&origin, text));
            None
        }
    }
}

/// The text of a file of configuration.
pub(super) fn read(path: &Path) -> Result<String, String> {
    let file = std::fs::File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("is larger than {FILE_BYTES_MAX} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "is not UTF-8 text".to_owned())
}

/// The text of `myid` in the directory that was said, if it is there; one that is there has to be read.
fn read_myid(values: &Values) -> Option<(Origin, Result<String, String>)> {
    let directory = match values.said("coordinator.dataDir") {
        Some(said) => PathBuf::from(said.value.trim()),
        None => PathBuf::from(values.said("node.data.dir")?.value.trim()).join("coordinator"),
    };
    let path = directory.join("myid");
    // Without the directory there is no file; what is wrong with the directory is told elsewhere.
    if !std::fs::metadata(&directory).is_ok_and(|found| found.is_dir()) {
        return None;
    }
    match std::fs::metadata(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        _ => {
            let file: Arc<str> = Arc::from(path.display().to_string());
            Some((Origin::line(SourceKind::Properties, &file, 1), read(&path)))
        }
    }
}

#[cfg(test)]
mod tests;
