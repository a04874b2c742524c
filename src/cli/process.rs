//! What the operating system knows about processes: this one's figures, and which ones are ours.
//!
//! Reads `/proc`. The stop scripts find their targets here: a process is only ever stopped when it runs
//! this very program under the right command, so a stale pid file or a stranger is never hit.

use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, setrlimit};
use tokio::runtime::{Handle, RuntimeMetrics};
use tokio::time::Instant;

use crate::common::metrics::IdleShare;
use crate::config::Config;
use crate::http::ProcessFigures;

/// Clock ticks of a second in `/proc/self/stat`; the kernel's interface fixes it.
const TICKS_PER_SECOND: f64 = 100.0;

/// This process in figures; what cannot be read is 0.
pub fn figures() -> ProcessFigures {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat_fields(&stat);
    let field = |index: usize| -> f64 {
        fields
            .get(index)
            .and_then(|text| text.parse().ok())
            .unwrap_or(0.0)
    };
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident_kib: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|text| text.trim().trim_end_matches("kB").trim().parse().ok())
        .unwrap_or(0);
    let boot = fs::read_to_string("/proc/stat").unwrap_or_default();
    let boot_seconds: f64 = boot
        .lines()
        .find_map(|line| line.strip_prefix("btime "))
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0.0);
    ProcessFigures {
        cpu_seconds: (field(11) + field(12)) / TICKS_PER_SECOND,
        resident_bytes: resident_kib.saturating_mul(1024),
        open_fds: fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64),
        max_fds: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
        start_seconds: boot_seconds + field(19) / TICKS_PER_SECOND,
        idle_share: None,
    }
}

/// How idle the runtime's workers are. Blocking work (syncs, directory walks) runs on other threads
/// and is not in it.
#[derive(Debug)]
pub struct Workers {
    runtime: RuntimeMetrics,
    began: Instant,
    share: Mutex<IdleShare>,
}

impl Workers {
    /// Those of the runtime that calls; none outside of one.
    pub fn current() -> Option<Workers> {
        let runtime = Handle::try_current().ok()?.metrics();
        Some(Workers {
            share: Mutex::new(IdleShare::new(0, busy_us(&runtime))),
            runtime,
            began: Instant::now(),
        })
    }

    /// The share of the last minute, 0 to 1, in which they were idle.
    pub fn idle_share(&self) -> f64 {
        let now_us = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mut share = self.share.lock().unwrap_or_else(PoisonError::into_inner);
        share.look(now_us, busy_us(&self.runtime), self.runtime.num_workers())
    }
}

/// With fewer descriptors a node cannot even open its data.
const FILES_MIN: u64 = 64;
/// With fewer, connections and partitions are soon refused.
const FILES_FEW: u64 = 512;
/// With less address space a node does not get as far as its first client: allocators and threads
/// reserve more than they use.
const ADDRESS_BYTES_MIN: u64 = 1 << 30;

/// What the settings make of one file.
#[derive(Clone, Copy, Debug)]
pub struct FileSizes {
    /// A log's index is made at this length (`log.index.size.max.bytes`).
    pub index_bytes: u64,
    /// A log's segment grows to this (`log.segment.bytes`).
    pub segment_bytes: u64,
}

impl FileSizes {
    /// Those of a broker; without one there are none.
    pub fn of(config: &Config) -> Option<FileSizes> {
        let bytes = |bytes: i32| u64::try_from(bytes).unwrap_or(0);
        config.roles.broker.then(|| FileSizes {
            index_bytes: bytes(config.broker.log_index_size_max_bytes),
            segment_bytes: bytes(config.broker.log_segment_bytes),
        })
    }
}

/// With less for a file a node's own state, of which a snapshot is one file, soon has no room.
const FILE_BYTES_MIN: u64 = 1 << 20;

/// Takes as many open files as this process may, and looks whether its limits let a node run: what no
/// allocation and no thread can tell any more has to be told before. Gives warnings, or a refusal.
pub fn take_limits(sizes: Option<FileSizes>) -> Result<Vec<String>, String> {
    let files = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: files.maximum,
        maximum: files.maximum,
    };
    // Not worth a start; what is there is looked at below.
    let files = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => files.maximum,
        Err(_) => files.current,
    };
    let mut warnings = limits(files, getrlimit(Resource::As).current)?;
    warnings.extend(file_size(getrlimit(Resource::Fsize).current, sizes)?);
    Ok(warnings)
}

/// Looks whether files may become as large as the settings make them.
fn file_size(limit: Option<u64>, sizes: Option<FileSizes>) -> Result<Option<String>, String> {
    let Some(limit) = limit else {
        return Ok(None);
    };
    let told = format!("the limit of a file's size (ulimit -f, LimitFSIZE) is {limit} bytes");
    if limit < FILE_BYTES_MIN {
        return Err(format!(
            "{told}, and a node needs {FILE_BYTES_MIN} at least: raise it; nothing was touched"
        ));
    }
    match sizes {
        Some(sizes) if limit < sizes.index_bytes => Err(format!(
            "{told}, and the index of every log segment is made with {} (log.index.size.max.bytes): raise \
             the limit, or lower the setting; nothing was touched",
            sizes.index_bytes
        )),
        Some(sizes) if limit < sizes.segment_bytes => Ok(Some(format!(
            "{told}, and a log segment grows to {} (log.segment.bytes): writes will fail there; raise the \
             limit, or lower the setting",
            sizes.segment_bytes
        ))),
        _ => Ok(None),
    }
}

fn limits(files: Option<u64>, address_bytes: Option<u64>) -> Result<Vec<String>, String> {
    if let Some(bytes) = address_bytes.filter(|bytes| *bytes < ADDRESS_BYTES_MIN) {
        return Err(format!(
            "the limit of the address space (ulimit -v, LimitAS) is {} MiB, and a node needs {} MiB at \
             least: raise it, or limit memory by a control group; nothing was touched",
            bytes >> 20,
            ADDRESS_BYTES_MIN >> 20
        ));
    }
    match files {
        Some(files) if files < FILES_MIN => Err(format!(
            "the limit of open files (ulimit -n, LimitNOFILE) is {files}, and a node needs {FILES_MIN} at \
             least; nothing was touched"
        )),
        Some(files) if files < FILES_FEW => Ok(vec![format!(
            "the limit of open files (ulimit -n, LimitNOFILE) is only {files}: connections will be \
             refused, and partitions may find none; Kafka's advice is 100000"
        )]),
        _ => Ok(Vec::new()),
    }
}

fn busy_us(runtime: &RuntimeMetrics) -> u64 {
    let workers = 0..runtime.num_workers();
    let busy = workers.map(|worker| runtime.worker_total_busy_duration(worker).as_micros());
    u64::try_from(busy.sum::<u128>()).unwrap_or(u64::MAX)
}

/// The fields after the program's name, which may hold spaces: the first is field 3 of the manual.
fn stat_fields(stat: &str) -> Vec<&str> {
    let after_name = stat.rfind(')').map_or("", |at| &stat[at + 1..]);
    after_name.split_whitespace().collect()
}

/// A running process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// Its id.
    pub pid: i32,
    /// Its arguments, the program's name first.
    pub arguments: Vec<String>,
}

impl Running {
    /// The command it runs: the name it was started as, or its subcommand, without `kafka-` and `.sh`.
    pub fn command(&self) -> &str {
        let base = |text: &'_ str| -> usize { text.rfind('/').map_or(0, |at| at + 1) };
        let first = self.arguments.first().map_or("", String::as_str);
        let mut name = &first[base(first)..];
        if name == "tripod" {
            let second = self.arguments.get(1).map_or("", String::as_str);
            name = &second[base(second)..];
        }
        let name = name.strip_suffix(".sh").unwrap_or(name);
        name.strip_prefix("kafka-").unwrap_or(name)
    }
}

/// Processes of this program under `command`, this one aside.
pub fn running(command: &str) -> Vec<Running> {
    let own = std::process::id();
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let mut found: Vec<Running> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| u32::try_from(*pid) != Ok(own))
        .filter_map(ours)
        .filter(|process| process.command() == command)
        .collect();
    found.sort_by_key(|process| process.pid);
    found
}

/// The process with this id, if it runs this program.
pub fn ours(pid: i32) -> Option<Running> {
    let program = |path: PathBuf| {
        let name = fs::read_link(path).ok()?.file_name()?.to_str()?.to_owned();
        // A binary that was replaced by a newer one while it runs.
        Some(name.trim_end_matches(" (deleted)").to_owned())
    };
    let own = program(PathBuf::from("/proc/self/exe"))?;
    let its = program(PathBuf::from(format!("/proc/{pid}/exe")))?;
    if own != its || is_zombie(pid) {
        return None;
    }
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let arguments = line
        .split(|byte| *byte == 0)
        .filter(|part| !part.is_empty())
        .map(|part| String::from_utf8_lossy(part).into_owned())
        .collect();
    Some(Running { pid, arguments })
}

fn is_zombie(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    matches!(stat_fields(&stat).first(), Some(&("Z" | "X")) | None)
}

/// Asks a process to stop.
pub fn terminate(pid: i32) -> Result<(), String> {
    let target = Pid::from_raw(pid).ok_or_else(|| format!("{pid} is no process id"))?;
    rustix::process::kill_process(target, Signal::TERM)
        .map_err(|error| format!("process {pid} cannot be stopped: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_are_too_small_are_told() {
        for (files, address_bytes, is_ok, warnings) in [
            (None, None, true, 0),
            (Some(100_000), Some(8 << 30), true, 0),
            (Some(256), None, true, 1),
            (Some(63), None, false, 0),
            (None, Some(500 << 20), false, 0),
        ] {
            let told = limits(files, address_bytes);
            assert_eq!(told.is_ok(), is_ok, "{told:?}");
            assert_eq!(told.map_or(0, |told| told.len()), warnings, "{files:?}");
        }
    }

    #[test]
    fn files_have_room_for_what_the_settings_make_of_them() {
        let mut config = Config::defaults();
        let sizes = FileSizes::of(&config);
        config.roles.broker = false;
        assert!(FileSizes::of(&config).is_none());
        for (limit, sizes, said) in [
            (None, sizes, Ok(None)),
            (Some(2 << 30), sizes, Ok(None)),
            (Some(100 << 20), sizes, Ok(Some("log.segment.bytes"))),
            (Some(9 << 20), sizes, Err("log.index.size.max.bytes")),
            (Some(9 << 20), None, Ok(None)),
            (Some(9 << 10), None, Err("a node needs")),
        ] {
            let told = file_size(limit, sizes);
            let fits = match (&told, said) {
                (Ok(Some(told)), Ok(Some(said))) | (Err(told), Err(said)) => told.contains(said),
                (Ok(None), Ok(None)) => true,
                _ => false,
            };
            assert!(fits, "{limit:?}: {told:?}");
        }
    }

    #[test]
    fn this_process_has_figures() {
        let figures = figures();
        assert!(figures.resident_bytes > 100_000, "{figures:?}");
        assert!(figures.open_fds >= 3 && figures.max_fds >= figures.open_fds);
        assert!(figures.start_seconds > 1e9, "{figures:?}");
    }

    #[test]
    fn commands_are_told_by_name_or_subcommand() {
        let command = |arguments: &[&str]| {
            let arguments = arguments.iter().map(|text| (*text).to_owned()).collect();
            Running { pid: 1, arguments }.command().to_owned()
        };
        assert_eq!(
            command(&["/opt/kafka/bin/kafka-server-start.sh", "x"]),
            "server-start"
        );
        assert_eq!(
            command(&["/usr/bin/tripod", "kafka-server-start", "x"]),
            "server-start"
        );
        assert_eq!(command(&["tripod", "serve"]), "serve");
        assert_eq!(command(&[]), "");
        assert!(ours(i32::try_from(std::process::id()).expect("small")).is_some());
        assert!(ours(1).is_none(), "a stranger");
        assert!(running("no-such-command").is_empty());
    }
}
