//! Could the directories be used that a configuration names? Looks, and changes nothing.
//!
//! What can only be known by opening (whose data it is, damage, space) is for those who open it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use crate::config::raw::{Problem, Values};
use crate::config::{Config, Roles};

/// Adds what is wrong with the directories. As in Kafka, a log directory that cannot be used is a problem
/// only when no other is left.
pub fn look(config: &Config, values: &mut Values) {
    let Roles {
        coordinator,
        broker,
    } = config.roles;
    if coordinator && let Err(text) = usable(&config.coordinator_dir) {
        let problem = place(values, &["coordinator.dataDir", "node.data.dir"], text);
        values.problems.push(problem);
    }
    if !broker {
        return;
    }
    let paths = ["broker.log.dirs", "broker.log.dir", "node.data.dir"];
    let unusable = config.log_dirs.iter().filter_map(|dir| usable(dir).err());
    let unusable: Vec<Problem> = unusable.map(|text| place(values, &paths, text)).collect();
    if unusable.len() == config.log_dirs.len() {
        values.problems.extend(unusable);
    } else {
        values.warnings.extend(unusable);
    }
    let twice = |(at, dir): &(usize, &PathBuf)| config.log_dirs[..*at].contains(dir);
    if let Some((_, dir)) = config.log_dirs.iter().enumerate().find(twice) {
        let text = format!("Duplicate log directory found: {}", dir.display());
        let problem = place(values, &paths, text);
        values.problems.push(problem);
    }
    if coordinator && config.log_dirs.contains(&config.coordinator_dir) {
        let dir = config.coordinator_dir.display();
        let text = format!("{dir} cannot be both dataDir and a log directory");
        let problem = place(values, &paths, text);
        values.problems.push(problem);
    }
}

/// A problem at the first of the settings that was said.
fn place(values: &Values, paths: &[&str], text: String) -> Problem {
    let origin = paths.iter().find_map(|path| values.said(path));
    Problem {
        origin: origin.map(|said| said.origin.clone()),
        text,
    }
}

/// Below `/proc` and `/sys` even root makes nothing, though its rights say that it may.
#[cfg(target_os = "linux")]
fn keeps_files(dir: &Path) -> bool {
    use rustix::fs::{FsWord, PROC_SUPER_MAGIC, statfs};
    /// sysfs, cgroup, cgroup2, debugfs, tracefs, securityfs, devpts.
    const OTHERS: [FsWord; 7] = [
        0x6265_6572,
        0x0027_e0eb,
        0x6367_7270,
        0x6462_6720,
        0x7472_6163,
        0x7363_6673,
        0x1cd1,
    ];
    !statfs(dir)
        .is_ok_and(|found| found.f_type == PROC_SUPER_MAGIC || OTHERS.contains(&found.f_type))
}

#[cfg(not(target_os = "linux"))]
fn keeps_files(_: &Path) -> bool {
    true
}

/// It is a directory that can be read and written, or the nearest one above lets us make it.
fn usable(dir: &Path) -> Result<(), String> {
    let shown = dir.display();
    let mut above: &Path = dir;
    loop {
        match std::fs::metadata(above) {
            Ok(found) if !found.is_dir() && above == dir => {
                return Err(format!("{shown} is not a directory"));
            }
            Ok(found) if !found.is_dir() => {
                let above = above.display();
                return Err(format!(
                    "{shown} cannot be made: {above} is not a directory"
                ));
            }
            Ok(_) => break,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                above = match above.parent() {
                    Some(parent) if parent != Path::new("") => parent,
                    _ => Path::new("."),
                };
            }
            // A file is in the way further above.
            Err(error) if error.kind() == ErrorKind::NotADirectory => match above.parent() {
                Some(parent) => above = parent,
                None => return Err(format!("{shown} cannot be used: {error}")),
            },
            Err(error) => return Err(format!("{shown} cannot be used: {error}")),
        }
    }
    let wanted = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
    match access(above, wanted) {
        Ok(()) if !keeps_files(above) => Err(format!(
            "{shown} cannot be used: {} is a file system of the kernel, which keeps no files",
            above.display()
        )),
        Ok(()) => Ok(()),
        Err(error) if above == dir => Err(format!("{shown} cannot be read and written: {error}")),
        Err(error) => Err(format!(
            "{shown} cannot be made in {}: {error}",
            above.display()
        )),
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_file_systems_keep_nothing_not_even_for_root() {
        for dir in ["/proc/kafka", "/proc/kafka/logs", "/sys/kafka"] {
            assert!(usable(Path::new(dir)).is_err(), "{dir}");
        }
        let place = tempfile::tempdir().expect("a directory");
        assert_eq!(usable(&place.path().join("a/b")), Ok(()));
        assert!(!place.path().join("a").exists());
    }
}
