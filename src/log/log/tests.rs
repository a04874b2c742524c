use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::common::disk::real::RealDisk;
use crate::common::ids::{ProducerEpoch, ProducerId};
use crate::kafka::batch::Compression;
use crate::kafka::record::{BatchBuilder, Record};

const CLEAN: Start = Start {
    recovery_point: Offset(0),
    log_start_offset: Offset(0),
    clean: true,
};
const CRASHED: Start = Start {
    clean: false,
    ..CLEAN
};
const EPOCH: LeaderEpoch = LeaderEpoch(0);
const NOW: i64 = 1_700_000_000_000;

fn small() -> Options {
    Options {
        segment_bytes: 2_000,
        segment_index_bytes: 4_096,
        index_interval_bytes: 200,
        retention_ms: -1,
        ..Options::default()
    }
}

struct World {
    dir: TempDir,
    clock: Clock,
}

impl World {
    fn new() -> World {
        World {
            dir: tempfile::tempdir().expect("a directory"),
            clock: Clock::manual(NOW),
        }
    }
    fn path(&self) -> PathBuf {
        self.dir.path().join("t-0")
    }
    fn try_open(&self, options: Options, start: Start) -> Result<Log, LogError> {
        let id = TopicPartition::new("t", 0);
        let disk = Arc::new(RealDisk);
        Log::open(disk, self.path(), id, options, start, self.clock.clone())
    }
    fn open(&self, options: Options, start: Start) -> Log {
        self.try_open(options, start).expect("opens")
    }
}

/// A batch of values, one millisecond apart.
fn batch(values: &[&str], timestamp: i64) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    for (at, value) in values.iter().enumerate() {
        builder.append(timestamp + at as i64, None, Some(value.as_bytes()), &[]);
    }
    builder.build().expect("small").bytes().clone()
}

fn idempotent(id: i64, epoch: i16, sequence: i32, records: usize) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None).producer(
        ProducerId(id),
        ProducerEpoch(epoch),
        sequence,
    );
    for _ in 0..records {
        builder.append(NOW, None, Some(b"x"), &[]);
    }
    builder.build().expect("small").bytes().clone()
}

fn put(log: &Log, values: &[&str], timestamp: i64) -> Appended {
    log.append_as_leader(batch(values, timestamp), EPOCH, Origin::Client)
        .expect("appends")
}

/// Everything from `offset` on, read the way a consumer does.
fn read_all(log: &Log, mut offset: Offset) -> Vec<Record> {
    let mut all = Vec::new();
    while let Some(region) = log
        .read(offset, 500, log.log_end_offset(), true)
        .expect("reads")
    {
        let bytes = region.read().expect("bytes are there");
        let mut walk = batches(bytes);
        for batch in walk.by_ref() {
            let batch = batch.expect("whole");
            batch.check().expect("checksum");
            for record in records(&batch, 1 << 20).expect("inflates") {
                let record = record.expect("well formed");
                if record.offset >= offset {
                    all.push(record);
                }
            }
        }
        assert!(walk.rest().is_empty(), "regions hold whole batches");
        offset = all.last().expect("at least one batch").offset + 1;
    }
    all
}

fn values(records: &[Record]) -> Vec<String> {
    records
        .iter()
        .map(|record| {
            String::from_utf8(record.value.clone().expect("value").to_vec()).expect("text")
        })
        .collect()
}

#[test]
fn what_was_appended_is_read_back_also_after_a_restart() {
    for start in [CLEAN, CRASHED] {
        let world = World::new();
        let log = world.open(small(), CLEAN);
        let mut expected = Vec::new();
        for i in 0..200i64 {
            let names = [format!("a{i}"), format!("b{i}")];
            let appended = put(&log, &[&names[0], &names[1]], NOW + i * 10);
            assert_eq!(appended.first_offset, Offset(i * 2));
            assert_eq!(appended.last_offset, Offset(i * 2 + 1));
            expected.extend(names);
        }
        assert!(log.status().segments > 5);
        assert_eq!(values(&read_all(&log, Offset(0))), expected);
        for offset in [1i64, 2, 57, 199, 398, 399] {
            let read = read_all(&log, Offset(offset));
            assert_eq!(values(&read), expected[offset as usize..]);
        }
        let by_time = log.offset_for_timestamp(NOW + 501).expect("reads");
        assert_eq!(
            by_time.map(|found| (found.offset, found.timestamp)),
            Some((Offset(101), NOW + 501))
        );
        if start.clean {
            log.close().expect("closes");
        }
        drop(log);
        let log = world.open(small(), start);
        assert_eq!(log.log_end_offset(), Offset(400));
        assert_eq!(values(&read_all(&log, Offset(0))), expected);
        for i in 0..200 {
            for ms in 0..2 {
                let found = log.offset_for_timestamp(NOW + i * 10 + ms).expect("reads");
                assert_eq!(found.map(|found| found.offset), Some(Offset(i * 2 + ms)));
            }
        }
        assert_eq!(log.offset_for_timestamp(NOW + 5_000).expect("reads"), None);
        let newest = log.max_timestamp().expect("reads").expect("some");
        assert_eq!(
            (newest.offset, newest.timestamp),
            (Offset(399), NOW + 1_991)
        );
        put(&log, &["more"], NOW);
        assert_eq!(values(&read_all(&log, Offset(399))), ["b199", "more"]);
    }
}

#[test]
fn idempotent_producers_are_remembered_over_restarts() {
    for start in [CLEAN, CRASHED] {
        let world = World::new();
        let mut log = world.open(small(), CLEAN);
        let append = |log: &Log, bytes: Bytes| log.append_as_leader(bytes, EPOCH, Origin::Client);
        for sequence in 0..40 {
            append(&log, idempotent(7, 0, sequence * 3, 3)).expect("in order");
        }
        for round in 0..3 {
            let again = append(&log, idempotent(7, 0, 117, 3)).expect("a duplicate");
            assert!(again.duplicate, "{round}");
            assert_eq!(again.first_offset, Offset(117));
            assert_eq!(again.last_offset, Offset(119));
            assert_eq!(log.log_end_offset(), Offset(120));
            assert!(matches!(
                append(&log, idempotent(7, 0, 123, 1)),
                Err(AppendError::OutOfOrderSequence { last: 119, .. })
            ));
            if start.clean {
                log.close().expect("closes");
            }
            drop(log);
            log = world.open(small(), start);
        }
        append(&log, idempotent(7, 0, 120, 1)).expect("goes on");
        append(&log, idempotent(7, 2, 0, 1)).expect("a new epoch");
        assert!(matches!(
            append(&log, idempotent(7, 1, 0, 1)),
            Err(AppendError::InvalidProducerEpoch { .. })
        ));
        // Cutting the log takes the memory back, too.
        log.truncate_to(Offset(117)).expect("cuts");
        let status = log.active_producers();
        assert_eq!(status[0].last_sequence, 116);
        assert!(
            !append(&log, idempotent(7, 0, 117, 3))
                .expect("new")
                .duplicate
        );
    }
}

#[test]
fn a_torn_tail_is_cut_at_every_byte() {
    let world = World::new();
    let log = world.open(Options::default(), CLEAN);
    put(&log, &["one", "two"], NOW);
    put(&log, &["three"], NOW + 5);
    let path = world.path().join("00000000000000000000.log");
    let keep = fs::metadata(&path).expect("there").len();
    put(&log, &["four", "five"], NOW + 9);
    drop(log);
    let whole = fs::read(&path).expect("reads");
    for len in keep..whole.len() as u64 {
        for filler in [None, Some(0u8), Some(0xff)] {
            let mut bytes = whole[..len as usize].to_vec();
            // A file system may have extended the file before the data came.
            bytes.resize(
                if filler.is_some() {
                    whole.len() + 100
                } else {
                    bytes.len()
                },
                filler.unwrap_or(0),
            );
            if bytes[..whole.len().min(bytes.len())] == whole[..] {
                continue;
            }
            fs::write(&path, &bytes).expect("writes");
            let log = world.open(Options::default(), CRASHED);
            assert_eq!(
                log.log_end_offset(),
                Offset(3),
                "cut at {len}, then {filler:?}"
            );
            assert_eq!(values(&read_all(&log, Offset(0))), ["one", "two", "three"]);
            drop(log);
            assert_eq!(fs::metadata(&path).expect("there").len(), keep);
        }
    }
    let log = world.open(Options::default(), CRASHED);
    assert_eq!(put(&log, &["again"], NOW).first_offset, Offset(3));
}
