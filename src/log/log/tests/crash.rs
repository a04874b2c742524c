//! Power cuts, full disks and I/O errors on the simulated disk.

use super::*;
use crate::common::disk::sim::{Faults, Operation, SimDisk};
use crate::common::rng::Rng;

fn open_on(disk: &SimDisk, clock: &Clock, start: Start) -> Log {
    let id = TopicPartition::new("t", 0);
    let dir = PathBuf::from("/d/t-0");
    Log::open(
        Arc::new(disk.clone()),
        dir,
        id,
        small(),
        start,
        clock.clone(),
    )
    .expect("opens")
}

/// A disk with an empty "/d", and the randomness and the clock of one run.
fn seeded_disk(seed: u64) -> (Rng, Clock, SimDisk) {
    let rng = Rng::from_seed(seed);
    let clock = Clock::manual(NOW);
    let disk = SimDisk::new(rng.fork("disk"), clock.clone());
    disk.create_dir_all(std::path::Path::new("/d"))
        .expect("made");
    (rng, clock, disk)
}

/// What was synced is there after a power cut, and what is there is a prefix of what was written.
#[test]
fn a_power_cut_leaves_a_prefix_that_holds_what_was_synced() {
    for seed in 0..150 {
        let (rng, clock, disk) = seeded_disk(seed);
        let mut written: Vec<String> = Vec::new();
        let mut synced = 0;
        let mut recovery_point = Offset(0);
        for life in 0..4 {
            let start = Start {
                recovery_point,
                ..CRASHED
            };
            let log = open_on(&disk, &clock, start);
            let found = values(&read_all(&log, Offset(0)));
            assert!(
                found.len() >= synced,
                "seed {seed}: {} of {synced}",
                found.len()
            );
            assert!(written[..found.len()] == found, "seed {seed}, life {life}");
            written.truncate(found.len());
            let producers = log.active_producers();
            let known = producers
                .first()
                .map_or(-1, |producer| producer.last_offset.0);
            assert_eq!(
                known,
                found.len() as i64 - 1,
                "seed {seed}: producers follow the log"
            );
            for _ in 0..rng.below(60) {
                let value = format!("value {} of life {life}", written.len());
                let mut builder = BatchBuilder::new(Compression::None).producer(
                    ProducerId(1),
                    ProducerEpoch(0),
                    written.len() as i32,
                );
                builder.append(NOW, None, Some(value.as_bytes()), &[]);
                let bytes = builder.build().expect("small").bytes().clone();
                assert!(!appended(&log, bytes).expect("appends").duplicate);
                written.push(value);
                if rng.below(20) == 0 {
                    log.flush(log.log_end_offset()).expect("syncs");
                    recovery_point = log.recovery_point();
                    synced = written.len();
                }
            }
            disk.crash();
        }
    }
}

/// Q6: an append that failed is not in the log, now or after a restart; the log goes on when it can.
#[test]
fn a_failed_append_leaves_nothing() {
    for seed in 0..60 {
        let (rng, clock, disk) = seeded_disk(seed);
        let log = open_on(&disk, &clock, CLEAN);
        let mut written = Vec::new();
        for at in 0..80 {
            let value = format!("value {at}");
            match rng.below(8) {
                0 => disk.set_faults(Faults {
                    fail_after: Some((rng.below(3), Operation::Write)),
                    ..Faults::default()
                }),
                1 => disk.set_faults(Faults {
                    capacity: Some(0),
                    ..Faults::default()
                }),
                _ => disk.set_faults(Faults::default()),
            }
            if appended(&log, batch(&[&value], NOW)).is_ok() {
                written.push(value);
            }
        }
        disk.set_faults(Faults::default());
        assert_eq!(values(&read_all(&log, Offset(0))), written, "seed {seed}");
        if rng.below(2) == 0 {
            log.close().expect("closes");
        }
        disk.kill();
        let start = Start {
            clean: false,
            ..CLEAN
        };
        let log = open_on(&disk, &clock, start);
        assert_eq!(values(&read_all(&log, Offset(0))), written, "seed {seed}");
    }
}

/// A sync that failed is not tried again: a second one may succeed without having written anything.
#[test]
fn a_failed_sync_ends_writing() {
    let (_, clock, disk) = seeded_disk(1);
    let log = open_on(&disk, &clock, CLEAN);
    put(&log, &["a"], NOW);
    disk.set_faults(Faults {
        fail_after: Some((0, Operation::Sync)),
        ..Faults::default()
    });
    assert!(log.flush(Offset(1)).is_err());
    assert!(matches!(log.flush(Offset(1)), Err(LogError::Closed { .. })));
    assert!(matches!(
        appended(&log, batch(&["b"], NOW)),
        Err(AppendError::Storage(LogError::Closed { .. }))
    ));
    assert!(log.close().is_err());
    assert_eq!(log.recovery_point(), Offset(0));
}

/// After a failed sync the page cache shows what the disk does not have. A restarted process takes it
/// for the log, so it has to bring it to the disk before a recovery point may stand above it.
#[test]
fn what_a_failed_sync_left_in_the_page_cache_is_written_again() {
    for seed in 0..40 {
        let (rng, clock, disk) = seeded_disk(seed);
        let log = open_on(&disk, &clock, CLEAN);
        put(&log, &["a"], NOW);
        log.flush(Offset(1)).expect("syncs");
        let recovery_point = log.recovery_point();
        for at in 0..rng.below(60) {
            put(&log, &[&format!("value {at}")], NOW);
            if rng.below(20) == 0 {
                log.roll().expect("rolls");
            }
        }
        put(&log, &["z"], NOW);
        disk.set_faults(Faults {
            fail_after: Some((rng.below(3), Operation::Sync)),
            ..Faults::default()
        });
        let failed = match rng.below(2) {
            0 => log.flush(log.log_end_offset()),
            _ => log.close(),
        };
        disk.set_faults(Faults::default());
        let marker = std::path::Path::new("/d/t-0/sync-failed");
        assert_eq!(disk.exists(marker), failed.is_err(), "seed {seed}");
        let written = values(&read_all(&log, Offset(0)));
        drop(log);
        disk.kill();
        let start = Start {
            recovery_point,
            ..CRASHED
        };
        let log = open_on(&disk, &clock, start);
        assert!(!disk.exists(marker), "seed {seed}");
        assert_eq!(values(&read_all(&log, Offset(0))), written, "seed {seed}");
        put(&log, &["after"], NOW);
        log.flush(log.log_end_offset()).expect("syncs");
        let start = Start {
            recovery_point: log.recovery_point(),
            ..CRASHED
        };
        drop(log);
        disk.crash();
        let log = open_on(&disk, &clock, start);
        let found = values(&read_all(&log, Offset(0)));
        assert_eq!(found.len(), written.len() + 1, "seed {seed}");
        assert!(found.starts_with(&written), "seed {seed}");
    }
}

#[test]
fn an_error_while_reading_is_an_error_for_that_read() {
    let (_, clock, disk) = seeded_disk(1);
    let log = open_on(&disk, &clock, CLEAN);
    // The newest batches need no read.
    for _ in 0..10 {
        put(&log, &["a"], NOW);
    }
    disk.set_faults(Faults {
        fail_after: Some((0, Operation::Read)),
        ..Faults::default()
    });
    assert!(matches!(
        log.read(Offset(0), 1, Offset(1), true),
        Err(ReadError::Storage(_))
    ));
    assert!(
        log.read(Offset(0), 1, Offset(1), true)
            .expect("reads")
            .is_some()
    );
}

#[test]
fn readers_at_the_end_are_told_from_memory_where_a_batch_lies() {
    let (_, clock, disk) = seeded_disk(5);
    let log = open_on(&disk, &clock, CLEAN);
    for index in 0..12 {
        put(&log, &["one", "two"], NOW + index);
    }
    let no_reads = || {
        disk.set_faults(Faults {
            fail_after: Some((0, Operation::Read)),
            ..Faults::default()
        });
    };
    let read = |offset| log.read(Offset(offset), 1 << 20, Offset(i64::MAX), true);
    no_reads();
    let last = read(22).expect("no disk is needed").expect("there");
    let inside = read(23).expect("no disk is needed").expect("there");
    assert_eq!((inside.position, inside.len), (last.position, last.len));
    let fourth = read(16).expect("no disk is needed").expect("there");
    assert_eq!(
        fourth.position + fourth.len as u64,
        last.position + last.len as u64
    );
    assert!(read(0).is_err(), "the first one has to be looked for");
    log.truncate_to(Offset(22)).expect("cut");
    put(&log, &["another"], NOW);
    disk.set_faults(Faults::default());
    let bytes = read(22)
        .expect("reads")
        .expect("there")
        .read()
        .expect("reads");
    let batch = Batch::parse(&bytes).expect("a batch");
    assert_eq!(
        batch.header().last_offset(),
        Offset(22),
        "not the one that was cut"
    );
}
