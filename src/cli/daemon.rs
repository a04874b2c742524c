//! Starts this program again in the background, for the scripts that can.
//!
//! The child gets a session of its own, so that closing the terminal does not end it, and its output
//! goes to a file. Nothing forks: the child is an ordinary process that begins at `main`.

use std::ffi::{OsStr, OsString};
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

/// Where the output of a daemon goes, as in `kafka-run-class.sh`: `LOG_DIR`, else `logs` of the
/// installation that the called name belongs to. A name that belongs to none (a lone binary, a link in
/// /usr/local/bin) has only the working directory to offer.
pub fn kafka_log_dir() -> PathBuf {
    log_dir("LOG_DIR", &["config"])
}

/// The same for `zkServer.sh`, as in `zkEnv.sh`: `ZOO_LOG_DIR`, else `logs` of the installation, whose
/// configuration is in `conf`; where both halves share one, in `config`.
pub fn zookeeper_log_dir() -> PathBuf {
    log_dir("ZOO_LOG_DIR", &["conf", "config"])
}

fn log_dir(variable: &str, beside: &[&str]) -> PathBuf {
    if let Some(dir) = std::env::var_os(variable).filter(|dir| !dir.is_empty()) {
        return PathBuf::from(dir);
    }
    let called = std::env::args_os().next().unwrap_or_default();
    let path = std::env::var_os("PATH").unwrap_or_default();
    installation(Path::new(&called), &path, beside)
        .map_or_else(|| PathBuf::from("logs"), |dir| dir.join("logs"))
}

/// The directory with `bin`, in which the called name stands, and one of the names beside it. A name without a
/// directory was found by the shell in `PATH`.
fn installation(called: &Path, path: &OsStr, beside: &[&str]) -> Option<PathBuf> {
    let bin = match called.parent() {
        Some(dir) if dir != Path::new("") => dir.to_owned(),
        _ => std::env::split_paths(path).find(|dir| dir.join(called).is_file())?,
    };
    let bin = std::path::absolute(bin).ok()?;
    let top = bin.parent().filter(|_| bin.ends_with("bin"))?;
    let found = beside.iter().any(|name| top.join(name).is_dir());
    found.then(|| top.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_installation_has_bin_and_config() {
        let dir = tempfile::tempdir().expect("a directory");
        let (top, lone) = (dir.path().join("kafka"), dir.path().join("lone/bin"));
        for made in ["bin", "config"] {
            fs::create_dir_all(top.join(made)).expect("made");
        }
        fs::create_dir_all(&lone).expect("made");
        let name = Path::new("kafka-server-start.sh");
        for bin in [&top.join("bin"), &lone] {
            fs::write(bin.join(name), "").expect("written");
        }
        let none = OsStr::new("");
        let installation =
            |called: &Path, path: &OsStr| installation(called, path, &["conf", "config"]);
        assert_eq!(
            installation(&top.join("bin").join(name), none),
            Some(top.clone())
        );
        assert_eq!(installation(&lone.join(name), none), None);
        assert_eq!(installation(name, none), None);
        let path = std::env::join_paths([dir.path().join("none"), top.join("bin")]).expect("legal");
        assert_eq!(installation(name, &path), Some(top));
        assert_eq!(installation(name, lone.as_os_str()), None);
    }
}
