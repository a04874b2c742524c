//! Empty log directories: a broker that starts on them must not lead what it had before.
//!
//! It says so in its registration, for good: since which registration its directories hold anything is
//! kept in a small file beside them. Before it registers it writes every state that assigns
//! replicas to it anew, so that a write which is still on its way from before, and takes it for the
//! broker that it was, fails its guard.

use std::io;
use std::path::{Path, PathBuf};

use tracing::{debug, warn};

use crate::broker::image::znode::{self, Blank};
use crate::broker::image::{Image, PartitionImage};
use crate::client::zookeeper::{Op, ZooKeeper};
use crate::common::disk::Disk;
use crate::common::ids::{BrokerId, Zxid};

const FILE: &str = "tripod.blank-since";
/// Stands in the file until the registration is known.
const NOW: &[u8] = b"now";
const FILE_BYTES_MAX: u64 = 64;

fn file(dir: &Path) -> PathBuf {
    dir.join(FILE)
}

/// What the registration has to say. `seasoned` directories are known to have been this broker's. Blocks.
pub fn begin(disk: &dyn Disk, dir: &Path, seasoned: bool) -> io::Result<Blank> {
    let file = file(dir);
    if !seasoned {
        disk.create_dir_all(dir)?;
        disk.replace(&file, NOW)?;
        return Ok(Blank::Now);
    }
    if !disk.exists(&file) {
        return Ok(Blank::No);
    }
    let bytes = disk.read(&file, FILE_BYTES_MAX)?;
    if bytes == NOW {
        return Ok(Blank::Now);
    }
    // Too late a registration would take the partitions away, too early a one would lose records.
    decode(&bytes).map(Blank::Since).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "{} is damaged, so it is not known since when the log directories hold this broker's data; \
                 nothing was changed: remove the file if they were never emptied, or empty them to have \
                 everything fetched from other replicas",
                file.display()
            ),
        )
    })
}

fn encode(registered: Zxid) -> Vec<u8> {
    let number = registered.0.to_string();
    format!(
        "{number} crc32c={:08x}\n",
        crc32c::crc32c(number.as_bytes())
    )
    .into_bytes()
}

fn decode(bytes: &[u8]) -> Option<Zxid> {
    let number = std::str::from_utf8(bytes).ok()?.split(' ').next()?;
    let registered = Zxid(number.parse().ok()?);
    (encode(registered) == bytes).then_some(registered)
}

/// Keeps the registration that the directories have been filled since. Blocks.
pub fn settle(disk: &dyn Disk, dir: &Path, registered: Zxid) -> io::Result<()> {
    disk.replace(&file(dir), &encode(registered))
}

/// Ends what is on its way to the states of partitions that `own` shall hold.
pub async fn fence(zookeeper: &ZooKeeper, image: &Image, own: BrokerId) {
    let assigned = |partition: &PartitionImage| partition.replicas.contains(&own);
    let topics = image.topics.values();
    let sets = topics.flat_map(|topic| {
        let partitions = topic.partitions.iter();
        let partitions = partitions.filter(|(_, partition)| assigned(partition));
        partitions.filter_map(|(index, partition)| {
            let state = partition.state.as_ref()?;
            Some(vec![Op::Set {
                path: znode::state_path(&topic.name, *index),
                data: znode::encode_state_again(state),
                version: state.version,
            }])
        })
    });
    let sets: Vec<Vec<Op>> = sets.collect();
    if sets.is_empty() {
        return;
    }
    warn!(
        broker = %own, partitions = sets.len(),
        "the log directories are empty: partitions of this broker are fetched from other replicas, and those \
         that no other has stay offline"
    );
    for answer in zookeeper.multi_all(sets).await {
        if let Err(refused) = answer {
            // Newer than what we know: then nothing older is on its way either.
            debug!(error = %refused.error, "a state is newer");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::disk::real::RealDisk;

    #[test]
    fn empty_directories_are_remembered_for_good() {
        let dir = tempfile::tempdir().unwrap();
        let logs = dir.path().join("logs");
        assert_eq!(begin(&RealDisk, &logs, false).unwrap(), Blank::Now);
        // It died before it was registered.
        assert_eq!(begin(&RealDisk, &logs, true).unwrap(), Blank::Now);
        settle(&RealDisk, &logs, Zxid(77)).unwrap();
        assert_eq!(
            begin(&RealDisk, &logs, true).unwrap(),
            Blank::Since(Zxid(77))
        );
        let file = logs.join(FILE);
        let whole = RealDisk.read(&file, 999).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            for damaged in [&bytes[..], &whole[..at]] {
                RealDisk.replace(&file, damaged).unwrap();
                let error = begin(&RealDisk, &logs, true).expect_err("damaged");
                assert!(error.to_string().contains("is damaged"), "{error}");
            }
        }
        // Directories of a genuine broker, or of an older release.
        assert_eq!(begin(&RealDisk, dir.path(), true).unwrap(), Blank::No);
    }
}
