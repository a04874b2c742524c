//! A partition's log under appends, syncs, rolls, stops and faults.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tripod::common::clock::Clock;
use tripod::common::disk::Disk;
use tripod::common::disk::sim::{Faults, Operation, SimDisk};
use tripod::common::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, TopicPartition};
use tripod::common::rng::Rng;
use tripod::kafka::batch::{Compression, batches};
use tripod::kafka::record::{BatchBuilder, records};
use tripod::log::options::Options;
use tripod::log::{Log, LogError, Origin, Start};

use crate::invariants::{
    Found, offsets_dense, one_offset_one_value, recovery_idempotent, synced_records_stay,
};
use crate::seeds::Trace;

const NOW: i64 = 1_700_000_000_000;
const LIVES: u64 = 6;
const STEPS_MAX: u64 = 60;

struct World<'a> {
    rng: Rng,
    clock: Clock,
    disk: SimDisk,
    trace: &'a mut Trace,
    /// Values that were acknowledged, by offset.
    written: Vec<String>,
    /// So many of them were reported as synced.
    synced: usize,
    /// The last checkpoint.
    recovery_point: Offset,
    /// The next sequence number of the one idempotent producer.
    sequence: i32,
    serial: u64,
    /// A sync may have failed in this life. The kernel then forgets pages that it could not write, and a
    /// later process that finds them in the cache cannot know: such a life ends with the machine's.
    sync_fails: bool,
}

/// How a life ends.
enum End {
    Crash,
    Kill,
    Close,
}

/// One history.
pub fn run(seed: u64, trace: &mut Trace) {
    let rng = Rng::from_seed(seed);
    let clock = Clock::manual(NOW);
    let disk = SimDisk::new(rng.fork("disk"), clock.clone());
    disk.create_dir_all(Path::new("/d")).expect("made");
    let mut world = World {
        rng,
        clock,
        disk,
        trace,
        written: Vec::new(),
        synced: 0,
        recovery_point: Offset(0),
        sequence: 0,
        serial: 0,
        sync_fails: false,
    };
    let mut clean = true;
    for life in 0..LIVES {
        let log = world.begin(clean);
        for _ in 0..world.rng.below(STEPS_MAX) {
            if !world.step(&log) {
                break;
            }
        }
        clean = world.end(&log);
        world.trace.note(format_args!(
            "life {life} ends, clean: {clean}, {} written, {} synced",
            world.written.len(),
            world.synced
        ));
    }
    world.begin(clean);
}

impl World<'_> {
    fn open(&self, clean: bool) -> Result<Log, LogError> {
        let options = Options {
            segment_bytes: 2_000,
            segment_index_bytes: 4_096,
            index_interval_bytes: 200,
            retention_ms: -1,
            ..Options::default()
        };
        let start = Start {
            recovery_point: self.recovery_point,
            log_start_offset: Offset(0),
            clean,
        };
        Log::open(
            Arc::new(self.disk.clone()),
            PathBuf::from("/d/t-0"),
            TopicPartition::new("t", 0),
            options,
            start,
            self.clock.clone(),
        )
    }

    /// Opens the log and judges what is in it.
    fn begin(&mut self, clean: bool) -> Log {
        self.disk.set_faults(Faults::default());
        if !clean && self.rng.below(3) == 0 {
            // A fault while it recovers is an error, and no harm: the next attempt finds the same.
            self.fault(4);
            let opened = self.open(clean).is_ok();
            self.trace.note(format_args!("a faulty start: {opened}"));
            self.die();
            self.disk.set_faults(Faults::default());
        }
        self.sync_fails = false;
        let log = self.open(clean).expect("recovers");
        let found = self.found(&log);
        self.trace.note(format_args!("found {found:?}"));
        synced_records_stay::check(&found, &self.written, self.synced);
        offsets_dense::check(&found);
        one_offset_one_value::check(&found, &self.written);
        if clean {
            assert_eq!(found.records.len(), self.written.len(), "a clean stop");
        }
        self.written.truncate(found.records.len());
        let last = found.producers.first().map(|(_, last)| *last);
        if let Some(last) = last {
            assert!(last < found.log_end_offset, "a producer ahead of the log");
        }
        let log = if !clean && self.rng.below(2) == 0 {
            drop(log);
            self.disk.kill();
            let again = self.open(false).expect("recovers");
            recovery_idempotent::check(&found, &self.found(&again));
            again
        } else {
            log
        };
        self.sequence = self.next_sequence(&log);
        log
    }

    /// The process dies.
    fn die(&self) {
        if self.sync_fails {
            self.disk.crash();
        } else {
            self.disk.kill();
        }
    }

    fn found(&self, log: &Log) -> Found {
        let mut offset = log.log_start_offset();
        let mut found = Found {
            log_start_offset: offset.0,
            log_end_offset: log.log_end_offset().0,
            records: Vec::new(),
            producers: log
                .active_producers()
                .iter()
                .map(|producer| (producer.producer_id.0, producer.last_offset.0))
                .collect(),
        };
        while let Some(region) = log
            .read(offset, 700, log.log_end_offset(), true)
            .expect("reads")
        {
            for batch in batches(region.read().expect("bytes")) {
                let batch = batch.expect("whole batches");
                batch.check().expect("the checksum");
                for record in records(&batch, 1 << 20).expect("inflates") {
                    let record = record.expect("well formed");
                    if record.offset >= offset {
                        let value = record.value.expect("a value").to_vec();
                        let value = String::from_utf8(value).expect("text");
                        found.records.push((record.offset.0, value));
                    }
                }
            }
            let last = found.records.last().expect("a region holds a record").0;
            assert!(last >= offset.0, "reading goes on");
            offset = Offset(last + 1);
        }
        found
    }

    fn next_sequence(&self, log: &Log) -> i32 {
        let producers = log.active_producers();
        producers
            .iter()
            .find(|producer| producer.producer_id == ProducerId(1))
            .map_or(0, |producer| producer.last_sequence + 1)
    }

    /// Does one thing; `false` when the log takes no more writes.
    fn step(&mut self, log: &Log) -> bool {
        match self.rng.below(20) {
            0 => {
                let end = log.log_end_offset();
                let flushed = log.flush(end);
                self.trace
                    .note(format_args!("flush to {end}: {}", flushed.is_ok()));
                if flushed.is_err() {
                    return false;
                }
                self.synced = self.written.len();
                assert_eq!(log.recovery_point(), end);
            }
            1 => {
                let rolled = log.roll().is_ok();
                self.trace.note(format_args!("roll: {rolled}"));
            }
            2 => self.recovery_point = log.recovery_point(),
            3 => self.fault(3),
            4 | 5 => self.disk.set_faults(Faults::default()),
            _ => return self.append(log),
        }
        true
    }

    fn fault(&mut self, bound: u64) {
        let fail = |operation| (self.rng.below(bound), operation);
        let faults = match self.rng.below(4) {
            0 => Faults {
                capacity: Some(self.rng.below(40_000)),
                ..Faults::default()
            },
            1 => {
                self.sync_fails = true;
                Faults {
                    fail_after: Some(fail(Operation::Sync)),
                    ..Faults::default()
                }
            }
            _ => Faults {
                fail_after: Some(fail(Operation::Write)),
                ..Faults::default()
            },
        };
        self.trace.note(format_args!("{faults:?}"));
        self.disk.set_faults(faults);
    }

    fn batch(&mut self) -> (Vec<String>, Bytes, bool) {
        let codecs = [Compression::None, Compression::Lz4, Compression::Gzip];
        let codec = codecs[self.rng.below(3) as usize];
        let mut builder = BatchBuilder::new(codec);
        let idempotent = self.rng.below(2) == 0;
        if idempotent {
            builder = builder.producer(ProducerId(1), ProducerEpoch(0), self.sequence);
        }
        let values: Vec<String> = (0..=self.rng.below(4))
            .map(|_| {
                self.serial += 1;
                let filler = "x".repeat(self.rng.below(200) as usize);
                format!("value {} {filler}", self.serial)
            })
            .collect();
        for value in &values {
            builder.append(NOW, None, Some(value.as_bytes()), &[]);
        }
        let bytes = builder.build().expect("small").bytes().clone();
        (values, bytes, idempotent)
    }

    fn append(&mut self, log: &Log) -> bool {
        let (values, bytes, idempotent) = self.batch();
        let appended = log.append_as_leader(bytes.clone(), LeaderEpoch(0), Origin::Client);
        self.trace.note(format_args!(
            "append {} records: {:?}",
            values.len(),
            appended.as_ref().map(|a| a.first_offset.0).ok()
        ));
        match appended {
            Ok(appended) => {
                assert_eq!(appended.first_offset, Offset(self.written.len() as i64));
                assert!(!appended.duplicate, "it is new");
                self.written.extend(values);
                if idempotent {
                    self.sequence = self.next_sequence(log);
                    // The same bytes again are the same records.
                    let again = log.append_as_leader(bytes, LeaderEpoch(0), Origin::Client);
                    let again = again.expect("a duplicate needs no disk");
                    assert!(again.duplicate && again.first_offset == appended.first_offset);
                }
                true
            }
            // Either this one alone failed, or the log is closed and says so to everything.
            Err(_) => log.roll().is_ok() || self.rng.below(2) == 0,
        }
    }

    /// Ends a life; answers whether the stop was clean.
    fn end(&mut self, log: &Log) -> bool {
        let end = match self.rng.below(6) {
            0..3 => End::Crash,
            3 | 4 => End::Kill,
            _ => End::Close,
        };
        if self.rng.below(2) == 0 {
            self.recovery_point = log.recovery_point();
        }
        match end {
            End::Crash => self.disk.crash(),
            End::Kill => self.die(),
            End::Close => {
                let closed = log.close().is_ok();
                if closed {
                    self.synced = self.written.len();
                    self.recovery_point = log.recovery_point();
                }
                // The power may go right behind it.
                if self.rng.below(2) == 0 {
                    self.disk.crash();
                } else {
                    self.die();
                }
                return closed;
            }
        }
        false
    }
}
