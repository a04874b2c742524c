//! Starts this program again in the background, for the scripts that can.
//!
//! The child gets a session of its own, so that closing the terminal does not end it, and its output
//! goes to a file. Nothing forks: the child is an ordinary process that begins at `main`.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Set for the child, which then leaves the terminal's session.
const DETACH: &str = "__TRIPOD_DETACH";

/// Leaves the terminal's session, if our parent wants that.
pub fn detach_if_asked() {
    if std::env::var_os(DETACH).is_some() {
        // Fails only for a process that leads a group already, which is as good.
        let _ = rustix::process::setsid();
    }
}

/// Starts `program arguments` in the background with its output appended to `log`.
pub fn start(program: &str, arguments: &[String], log: &Path) -> Result<Child, String> {
    let output = open_log(log)?;
    let errors = output
        .try_clone()
        .map_err(|error| format!("{} cannot be opened: {error}", log.display()))?;
    let executable = std::env::current_exe().map_err(|error| format!("who am I? {error}"))?;
    let mut command = Command::new(executable);
    let name = OsString::from(program);
    std::os::unix::process::CommandExt::arg0(&mut command, name);
    command
        .args(arguments)
        .env(DETACH, "1")
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors);
    command
        .spawn()
        .map_err(|error| format!("{program} cannot be started: {error}"))
}

fn open_log(path: &Path) -> Result<File, String> {
    let failed = |error: std::io::Error| format!("{} cannot be opened: {error}", path.display());
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(failed)
}

/// `LOG_DIR` of Kafka's scripts: where the output of a daemon goes.
pub fn kafka_log_dir() -> PathBuf {
    std::env::var_os("LOG_DIR").map_or_else(|| PathBuf::from("logs"), PathBuf::from)
}
