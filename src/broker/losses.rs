//! What befell the log directories of a broker that starts: emptied, or cut by a machine that went down.
//!
//! On empty directories it must not lead what it had before. When the machine went down beneath it (a power
//! cut, a crash of the system, a volume that was moved to another machine), the end of its logs may be
//! missing, acknowledged or not, and it must not pass for the replica that it was. It says either in its
//! registration, for good: at which registration that was is kept in a small file beside the logs. Before
//! it registers it writes every state that assigns replicas to it anew, so that a write which is still on its
//! way from before, and takes it for the broker that it was, fails its guard.
//!
//! A process that only died has lost nothing: the system still has what it wrote.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::{debug, info, warn};

use crate::broker::image::znode::{self, Losses, Since};
use crate::broker::image::{Image, ImageCell, PartitionImage};
use crate::client::zookeeper::{Op, ZooKeeper};
use crate::common::disk::{Disk, Open};
use crate::common::ids::{BrokerId, TopicPartition, Zxid};
use crate::log::dir::Dirs;

const BLANK_FILE: &str = "tripod.blank-since";
const CUT_FILE: &str = "tripod.cut-since";
/// Which life of the machine the logs were last used in.
const BOOT_FILE: &str = "tripod.boot-id";
/// Where Linux says which one this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Stands in a file until the registration is known.
const NOW: &[u8] = b"now";
const FILE_BYTES_MAX: u64 = 64;
/// States that others write meanwhile are written anew so often.
const FENCE_ROUNDS: usize = 5;
/// How long the image may take to show what is there.
const CATCH_UP: Duration = Duration::from_secs(5);

/// What the registration has to say. `seasoned` directories are known to have been this broker's. Comes
/// before the logs are opened. Blocks.
pub fn begin(disk: &dyn Disk, dirs: &[PathBuf], seasoned: bool) -> io::Result<Losses> {
    let Some(dir) = dirs.first() else {
        return Ok(Losses::default());
    };
    disk.create_dir_all(dir)?;
    // Somebody took meta.properties away, as people do to repair a cluster's id. Genuine Kafka takes such
    // logs as they are; how whole they are nobody says.
    let unsigned = !seasoned && Dirs::hold_partitions(disk, dirs);
    if unsigned {
        warn!(
            "meta.properties is missing beside logs: they are taken for this broker's, but other in-sync \
             replicas lead; where none is there yet, they are waited for"
        );
    }
    let blank = note(disk, &dir.join(BLANK_FILE), !seasoned && !unsigned)?;
    let (file, now) = (dir.join(BOOT_FILE), boot_id(disk));
    let before = match disk.exists(&file) {
        true => Some(disk.read(&file, FILE_BYTES_MAX)?),
        false => None,
    };
    let survived = now.is_some() && before == now;
    let was_cut = seasoned && !survived && !Dirs::stopped_cleanly(disk, dirs);
    if was_cut {
        warn!(
            "the machine went down while this broker ran: the newest records may be missing here, so other \
             in-sync replicas lead; where none is there yet, they are waited for"
        );
    }
    let cut = note(disk, &dir.join(CUT_FILE), was_cut || unsigned)?;
    if let Some(now) = now.filter(|now| before.as_ref() != Some(now)) {
        disk.replace(&file, &now)?;
    }
    Ok(Losses { blank, cut })
}

/// None where the system does not say it.
fn boot_id(disk: &dyn Disk) -> Option<Vec<u8>> {
    // Its length is told as 0.
    let file = disk.open(Path::new(BOOT_ID), Open::Read).ok()?;
    let mut bytes = [0; 36];
    let read = file.read_at(&mut bytes, 0).ok()?;
    (read == bytes.len()).then(|| bytes.to_vec())
}

/// Keeps that something happened, or says when it did.
fn note(disk: &dyn Disk, file: &Path, happened: bool) -> io::Result<Since> {
    if happened {
        disk.replace(file, NOW)?;
        return Ok(Since::Now);
    }
    if !disk.exists(file) {
        return Ok(Since::Never);
    }
    let bytes = disk.read(file, FILE_BYTES_MAX)?;
    if bytes == NOW {
        return Ok(Since::Now);
    }
    // Too late a registration would take the partitions away, too early a one would lose records.
    decode(&bytes).map(Since::At).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "{} is damaged, so it is not known since when the log directories hold this broker's data; \
                 nothing was changed: remove the file if they were never emptied and the machine never went \
                 down beneath the broker, or empty them to have everything fetched from other replicas",
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

/// Keeps the registration at which it happened, where it did now. Blocks.
pub fn settle(disk: &dyn Disk, dir: &Path, losses: Losses, registered: Zxid) -> io::Result<()> {
    for (since, file) in [(losses.blank, BLANK_FILE), (losses.cut, CUT_FILE)] {
        if since == Since::Now {
            disk.replace(&dir.join(file), &encode(registered))?;
        }
    }
    Ok(())
}

/// Ends what is on its way to the states of partitions that `own` shall hold. A state that somebody else
/// writes meanwhile is taken up again: only who has read ours knows that `own` was gone.
pub async fn fence(zookeeper: &ZooKeeper, cell: &ImageCell, own: BrokerId) {
    let mut left: Option<BTreeSet<TopicPartition>> = None;
    for _ in 0..FENCE_ROUNDS {
        let _ = tokio::time::timeout(CATCH_UP, cell.seen(zookeeper.mark())).await;
        let image = cell.load();
        let sets = rewrites(&image, own)
            .filter(|(id, _)| left.as_ref().is_none_or(|left| left.contains(id)));
        let (ids, sets): (Vec<_>, Vec<_>) = sets.unzip();
        if left.is_none() && !ids.is_empty() {
            info!(broker = %own, partitions = ids.len(), "partitions of this broker are fetched from other replicas");
        }
        let answers = zookeeper.multi_all(sets).await;
        let refused = ids.into_iter().zip(answers).filter_map(|(id, answer)| {
            debug!(partition = %id, error = %answer.as_ref().err()?.error, "a state is newer");
            Some(id)
        });
        let refused: BTreeSet<TopicPartition> = refused.collect();
        if refused.is_empty() {
            return;
        }
        left = Some(refused);
    }
}

/// The states of partitions that `own` shall hold, written as they are.
fn rewrites(image: &Image, own: BrokerId) -> impl Iterator<Item = (TopicPartition, Vec<Op>)> {
    let assigned = move |partition: &PartitionImage| partition.replicas.contains(&own);
    let topics = image.topics.values();
    topics.flat_map(move |topic| {
        let partitions = topic.partitions.iter();
        let partitions = partitions.filter(move |(_, partition)| assigned(partition));
        partitions.filter_map(|(index, partition)| {
            let state = partition.state.as_ref()?;
            let set = Op::Set {
                path: znode::state_path(&topic.name, *index),
                data: znode::encode_state_again(state),
                version: state.version,
            };
            Some((TopicPartition::new(topic.name.clone(), *index), vec![set]))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::disk::real::RealDisk;

    fn started(dir: &Path, seasoned: bool) -> io::Result<Losses> {
        begin(&RealDisk, &[dir.to_owned()], seasoned)
    }

    #[test]
    fn empty_directories_are_remembered_for_good() {
        let dir = tempfile::tempdir().unwrap();
        let logs = dir.path().join("logs");
        let blank = |seasoned| started(&logs, seasoned).map(|losses| losses.blank);
        assert_eq!(blank(false).unwrap(), Since::Now);
        // It died before it was registered.
        assert_eq!(blank(true).unwrap(), Since::Now);
        let losses = started(&logs, true).unwrap();
        settle(&RealDisk, &logs, losses, Zxid(77)).unwrap();
        assert_eq!(blank(true).unwrap(), Since::At(Zxid(77)));
        let file = logs.join(BLANK_FILE);
        let whole = RealDisk.read(&file, 999).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            for damaged in [&bytes[..], &whole[..at]] {
                RealDisk.replace(&file, damaged).unwrap();
                let error = blank(true).expect_err("damaged");
                assert!(error.to_string().contains("is damaged"), "{error}");
            }
        }
        // Directories of a genuine broker, or of an older release.
        let losses = started(dir.path(), true).unwrap();
        assert_eq!(losses.blank, Since::Never);
    }

    #[test]
    fn logs_without_meta_properties_are_no_empty_directories() {
        let dir = tempfile::tempdir().unwrap();
        let logs = dir.path();
        RealDisk.create_dir_all(&logs.join("t-0")).unwrap();
        let losses = started(logs, false).unwrap();
        assert_eq!((losses.blank, losses.cut), (Since::Never, Since::Now));
        settle(&RealDisk, logs, losses, Zxid(5)).unwrap();
        let losses = started(logs, true).unwrap();
        assert_eq!(
            (losses.blank, losses.cut),
            (Since::Never, Since::At(Zxid(5)))
        );
    }

    #[test]
    fn a_machine_that_went_down_beneath_the_broker_is_remembered_for_good() {
        let dir = tempfile::tempdir().unwrap();
        let logs = dir.path();
        let cut = || started(logs, true).unwrap().cut;
        let other_boot = || RealDisk.replace(&logs.join(BOOT_FILE), b"another").unwrap();
        let clean = logs.join(".kafka_cleanshutdown");
        RealDisk
            .replace(&logs.join("meta.properties"), b"")
            .unwrap();
        assert_eq!(started(logs, false).unwrap().cut, Since::Never);
        // Only the process died.
        assert_eq!(cut(), Since::Never);
        // The machine was stopped after the broker.
        other_boot();
        RealDisk.replace(&clean, b"").unwrap();
        assert_eq!(cut(), Since::Never);
        RealDisk.remove_file(&clean).unwrap();
        other_boot();
        assert_eq!(cut(), Since::Now);
        // It died before it was registered.
        assert_eq!(cut(), Since::Now);
        settle(&RealDisk, logs, started(logs, true).unwrap(), Zxid(5)).unwrap();
        assert_eq!(cut(), Since::At(Zxid(5)));
        other_boot();
        assert_eq!(cut(), Since::Now, "once more");
        // A broker of an older release, or a genuine one, whose end nobody saw.
        RealDisk.remove_file(&logs.join(BOOT_FILE)).unwrap();
        assert_eq!(cut(), Since::Now);
    }
}
