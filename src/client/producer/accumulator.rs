//! Records on their way, gathered into batches per partition. Pure: times come in as values.
//!
//! Per partition the order of batches is the order of appending, also when some must be sent again:
//! while a repeated batch is under way nothing newer of its partition leaves.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::partitioner::partition_for_key;
use crate::common::ids::{ProducerEpoch, ProducerId};
use crate::kafka::batch::{Batch, Compression, HEADER_BYTES, add_sequence};
use crate::kafka::record::{BatchBuilder, Header, RecordError};

/// What the accumulator must know of the producer's settings.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `batch.size`.
    pub batch_bytes: usize,
    /// `linger.ms`, in microseconds.
    pub linger_us: i64,
    /// `buffer.memory`.
    pub buffer_bytes: usize,
    /// `max.request.size`.
    pub request_bytes: usize,
    /// `compression.type`.
    pub compression: Compression,
}

/// One record to append.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Where to.
    pub topic: &'a str,
    /// Which partition; `None` leaves the choice to the key, or to us.
    pub partition: Option<i32>,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value.
    pub value: Option<&'a [u8]>,
    /// The headers.
    pub headers: &'a [Header],
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is in a batch; `true` if something new can be sent.
    Done(bool),
    /// There is no memory for it now.
    Full,
    /// The topic's partitions are not known yet.
    UnknownTopic,
    /// The topic has no such partition.
    UnknownPartition(usize),
}

/// What a compressed batch of our own may inflate to.
const INFLATED_MAX: usize = 256 * 1024 * 1024;

/// A batch that waits or is under way.
#[derive(Debug)]
pub struct Pending {
    /// Its topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// When each record was appended, in monotonic microseconds.
    pub appended_us: Vec<i64>,
    /// How often it was sent in vain.
    pub attempts: u32,
    /// Not to be sent again before.
    pub not_before_us: i64,
    contents: Contents,
    /// The bytes of its records before they were compressed, once it is sealed.
    plain_bytes: usize,
    reserved: usize,
    ordinal: u64,
}

#[derive(Debug)]
enum Contents {
    Open(BatchBuilder),
    Sealed(Batch),
    /// Only while the contents change.
    Taken,
}

impl Pending {
    /// The bytes to send; present in every batch that [`Accumulator::take`] gave out.
    pub fn bytes(&self) -> Bytes {
        match &self.contents {
            Contents::Sealed(batch) => batch.bytes().clone(),
            _ => Bytes::new(),
        }
    }

    /// The records of a sealed batch, as far as they can be read.
    pub fn records(&self) -> Vec<crate::kafka::record::Record> {
        let Contents::Sealed(batch) = &self.contents else {
            return Vec::new();
        };
        let records = crate::kafka::record::records(batch, INFLATED_MAX);
        records.into_iter().flatten().flatten().collect()
    }

    /// How large a sealed batch's records are, compared to what they were before they were compressed.
    pub fn compression_ratio(&self) -> f64 {
        let bytes = self.size().saturating_sub(HEADER_BYTES);
        bytes as f64 / self.plain_bytes as f64
    }

    fn size(&self) -> usize {
        match &self.contents {
            Contents::Open(builder) => builder.size(),
            Contents::Sealed(batch) => batch.bytes().len(),
            Contents::Taken => 0,
        }
    }

    fn seal(&mut self, identity: Option<Identity>, sequence: &mut i32) -> Result<(), RecordError> {
        if !matches!(self.contents, Contents::Open(_)) {
            return Ok(());
        }
        let Contents::Open(builder) = std::mem::replace(&mut self.contents, Contents::Taken) else {
            return Ok(());
        };
        let count = builder.count();
        self.plain_bytes = builder.size().saturating_sub(HEADER_BYTES);
        let builder = match identity {
            Some(identity) => {
                let first = *sequence;
                *sequence = add_sequence(first, count);
                builder.producer(identity.id, identity.epoch, first)
            }
            None => builder,
        };
        self.contents = Contents::Sealed(builder.build()?);
        Ok(())
    }
}

/// An idempotent producer's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its id.
    pub id: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
}

#[derive(Debug, Default)]
struct Queue {
    batches: VecDeque<Pending>,
    in_flight: usize,
    repeated_in_flight: usize,
    next_sequence: i32,
    usable: bool,
}

#[derive(Debug, Default)]
struct Topic {
    queues: Vec<Queue>,
    sticky: usize,
}

/// When to look again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wait {
    /// At this monotonic time, if nothing happens before.
    pub until_us: Option<i64>,
    /// A ready batch has no leader: metadata is wanted.
    pub leaderless: bool,
}

/// All batches of one producer.
#[derive(Debug)]
pub struct Accumulator {
    limits: Limits,
    topics: BTreeMap<String, Topic>,
    reserved: usize,
    outstanding: usize,
    ordinal: u64,
    starved: bool,
}

impl Accumulator {
    /// An empty one.
    pub fn new(limits: Limits) -> Accumulator {
        Accumulator {
            limits,
            topics: BTreeMap::new(),
            reserved: 0,
            outstanding: 0,
            ordinal: 0,
            starved: false,
        }
    }

    /// Tells which partitions a topic has and which of them have leaders.
    pub fn set_partitions(&mut self, topic: &str, usable: &[bool]) {
        let topic = self.topics.entry(topic.to_owned()).or_default();
        while topic.queues.len() < usable.len() {
            topic.queues.push(Queue::default());
        }
        for (queue, usable) in topic.queues.iter_mut().zip(usable) {
            queue.usable = *usable;
        }
    }

    /// Topics that records were sent to.
    pub fn topics(&self) -> Vec<String> {
        self.topics.keys().cloned().collect()
    }

    /// Batches that wait or are under way.
    pub fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Memory that is not spoken for.
    pub fn available(&self) -> usize {
        self.limits.buffer_bytes.saturating_sub(self.reserved)
    }

    /// Takes in a record. `random` moves records without a key to another partition when a batch is full.
    pub fn append(
        &mut self,
        record: &Record<'_>,
        now_us: i64,
        random: impl Fn() -> u64,
    ) -> Appended {
        let Some(topic) = self
            .topics
            .get_mut(record.topic)
            .filter(|t| !t.queues.is_empty())
        else {
            return Appended::UnknownTopic;
        };
        let size = BatchBuilder::size_of(record.key, record.value, record.headers);
        let count = topic.queues.len();
        let keyed = match (record.partition, record.key) {
            (Some(partition), _) => match usize::try_from(partition) {
                Ok(index) if index < count => Some(index),
                _ => return Appended::UnknownPartition(count),
            },
            (None, Some(key)) => Some(partition_for_key(key, count)),
            (None, None) => None,
        };
        let index = keyed.unwrap_or(topic.sticky.min(count - 1));
        if let Some(open) = topic.queues[index].batches.back_mut()
            && let Contents::Open(builder) = &mut open.contents
            && builder.size() + size <= self.limits.batch_bytes
        {
            builder.append(record.timestamp, record.key, record.value, record.headers);
            open.appended_us.push(now_us);
            return Appended::Done(false);
        }
        let reserve = size.max(self.limits.batch_bytes);
        if self.reserved > 0 && self.reserved + reserve > self.limits.buffer_bytes {
            self.starved = true;
            return Appended::Full;
        }
        // A record without a key goes on to another partition whenever it needs a new batch.
        let index = match keyed {
            Some(index) => index,
            None => topic.move_on(random()),
        };
        let queue = &mut topic.queues[index];
        let mut builder = BatchBuilder::new(self.limits.compression);
        builder.append(record.timestamp, record.key, record.value, record.headers);
        self.ordinal += 1;
        self.reserved += reserve;
        self.outstanding += 1;
        queue.batches.push_back(Pending {
            topic: record.topic.to_owned(),
            partition: i32::try_from(index).unwrap_or(i32::MAX),
            appended_us: vec![now_us],
            attempts: 0,
            not_before_us: 0,
            contents: Contents::Open(builder),
            plain_bytes: 0,
            reserved: reserve,
            ordinal: self.ordinal,
        });
        Appended::Done(true)
    }

    /// Takes what may leave now, per leader, at most one batch per partition and one request per
    /// leader. `leader` names the leader if it can take a request, [`Leader`] says why not otherwise.
    pub fn take(
        &mut self,
        now_us: i64,
        flush: bool,
        identity: Option<Identity>,
        leader: impl Fn(&str, i32) -> Leader,
    ) -> (BTreeMap<i32, Vec<Pending>>, Wait) {
        let mut taken: BTreeMap<i32, Vec<Pending>> = BTreeMap::new();
        let mut bytes: BTreeMap<i32, usize> = BTreeMap::new();
        let mut wait = Wait::default();
        let hurry = flush || self.starved;
        for (name, topic) in &mut self.topics {
            for (index, queue) in topic.queues.iter_mut().enumerate() {
                match queue.ready_at(&self.limits, hurry) {
                    None => continue,
                    Some(at) if at > now_us => {
                        wait.until_us = Some(wait.until_us.map_or(at, |until| until.min(at)));
                        continue;
                    }
                    Some(_) => {}
                }
                let node = match leader(name, i32::try_from(index).unwrap_or(i32::MAX)) {
                    Leader::Ready(node) => node,
                    Leader::Busy => continue,
                    Leader::Unknown => {
                        wait.leaderless = true;
                        continue;
                    }
                };
                let total = bytes.entry(node).or_default();
                let size = queue.batches.front().map_or(0, Pending::size);
                if *total > 0 && *total + size > self.limits.request_bytes {
                    wait.until_us = Some(now_us);
                    continue;
                }
                *total += size;
                if let Some(mut batch) = queue.batches.pop_front() {
                    if batch.seal(identity, &mut queue.next_sequence).is_err() {
                        // Only a batch above 2 GiB cannot be built, and none grows above its limit.
                        self.reserved = self.reserved.saturating_sub(batch.reserved);
                        self.outstanding = self.outstanding.saturating_sub(1);
                        continue;
                    }
                    queue.in_flight += 1;
                    queue.repeated_in_flight += usize::from(batch.attempts > 0);
                    taken.entry(node).or_default().push(batch);
                }
            }
        }
        (taken, wait)
    }

    /// A batch came back for good: its memory is free.
    pub fn done(&mut self, batch: &Pending) {
        self.landed(batch);
        self.reserved = self.reserved.saturating_sub(batch.reserved);
        self.outstanding = self.outstanding.saturating_sub(1);
        self.starved = false;
    }

    /// A batch has to be sent again, not before `at_us`.
    pub fn again(&mut self, mut batch: Pending, at_us: i64) {
        self.landed(&batch);
        batch.attempts += 1;
        batch.not_before_us = at_us;
        let Some(queue) = self.queue(&batch.topic, batch.partition) else {
            return;
        };
        let place = queue
            .batches
            .iter()
            .position(|other| other.ordinal > batch.ordinal)
            .unwrap_or(queue.batches.len());
        queue.batches.insert(place, batch);
    }

    /// Starts all sequences anew under another identity. Nothing may be in flight.
    pub fn rename(&mut self, identity: Identity) -> Result<(), RecordError> {
        for queue in self.topics.values_mut().flat_map(|topic| &mut topic.queues) {
            queue.next_sequence = 0;
            for pending in &mut queue.batches {
                if let Contents::Sealed(batch) = &pending.contents {
                    let mut header = *batch.header();
                    header.producer_id = identity.id;
                    header.producer_epoch = identity.epoch;
                    header.base_sequence = queue.next_sequence;
                    queue.next_sequence = add_sequence(queue.next_sequence, header.record_count);
                    let batch = Batch::assemble(header, &batch.payload())?;
                    pending.contents = Contents::Sealed(batch);
                }
            }
        }
        Ok(())
    }

    /// Takes every batch that waits, to give it up.
    pub fn drain(&mut self) -> Vec<Pending> {
        let queues = self.topics.values_mut().flat_map(|topic| &mut topic.queues);
        let drained: Vec<Pending> = queues.flat_map(|queue| queue.batches.drain(..)).collect();
        for batch in &drained {
            self.reserved = self.reserved.saturating_sub(batch.reserved);
        }
        self.outstanding = self.outstanding.saturating_sub(drained.len());
        drained
    }

    /// Takes the batches whose oldest record was appended before `limit_us`.
    pub fn expired(&mut self, limit_us: i64) -> Vec<Pending> {
        let mut expired = Vec::new();
        for queue in self.topics.values_mut().flat_map(|topic| &mut topic.queues) {
            while let Some(front) = queue.batches.front()
                && front.appended_us.first().is_some_and(|at| *at < limit_us)
            {
                expired.extend(queue.batches.pop_front());
            }
        }
        for batch in &expired {
            self.reserved = self.reserved.saturating_sub(batch.reserved);
        }
        self.outstanding = self.outstanding.saturating_sub(expired.len());
        expired
    }

    fn landed(&mut self, batch: &Pending) {
        if let Some(queue) = self.queue(&batch.topic, batch.partition) {
            queue.in_flight = queue.in_flight.saturating_sub(1);
            if batch.attempts > 0 {
                queue.repeated_in_flight = queue.repeated_in_flight.saturating_sub(1);
            }
        }
    }

    fn queue(&mut self, topic: &str, partition: i32) -> Option<&mut Queue> {
        let index = usize::try_from(partition).ok()?;
        self.topics.get_mut(topic)?.queues.get_mut(index)
    }
}

/// May a leader take a request?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leader {
    /// Yes.
    Ready(i32),
    /// It has enough to do, or is being dialled; someone wakes us later.
    Busy,
    /// Nobody knows the leader.
    Unknown,
}

impl Queue {
    /// When the first batch may leave; `None` if there is none or others must come back first.
    fn ready_at(&self, limits: &Limits, hurry: bool) -> Option<i64> {
        let front = self.batches.front()?;
        if self.repeated_in_flight > 0 || (front.attempts > 0 && self.in_flight > 0) {
            return None;
        }
        if front.attempts > 0 {
            return Some(front.not_before_us);
        }
        if hurry || self.batches.len() > 1 || front.size() >= limits.batch_bytes {
            return Some(i64::MIN);
        }
        let created_us = front.appended_us.first().copied().unwrap_or(i64::MIN);
        Some(created_us.saturating_add(limits.linger_us))
    }
}

impl Topic {
    /// Chooses another partition that has a leader, if there is one.
    fn move_on(&mut self, random: u64) -> usize {
        let usable: Vec<usize> = (0..self.queues.len())
            .filter(|index| self.queues[*index].usable)
            .collect();
        let others: Vec<usize> = usable
            .iter()
            .copied()
            .filter(|index| *index != self.sticky)
            .collect();
        let pool = if !others.is_empty() { others } else { usable };
        if !pool.is_empty() {
            self.sticky = pool[(random % pool.len() as u64) as usize];
        } else {
            self.sticky = (random % self.queues.len() as u64) as usize;
        }
        self.sticky
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accumulator(batch_bytes: usize, linger_us: i64) -> Accumulator {
        let mut accumulator = Accumulator::new(Limits {
            batch_bytes,
            linger_us,
            buffer_bytes: 10 * batch_bytes,
            request_bytes: 1 << 20,
            compression: Compression::None,
        });
        accumulator.set_partitions("t", &[true]);
        accumulator
    }

    fn record(value: &[u8]) -> Record<'_> {
        Record {
            topic: "t",
            partition: None,
            timestamp: 1,
            key: None,
            value: Some(value),
            headers: &[],
        }
    }

    fn take_one(accumulator: &mut Accumulator, now_us: i64) -> Option<Pending> {
        let (taken, _) = accumulator.take(now_us, false, None, |_, _| Leader::Ready(1));
        taken.into_values().flatten().next()
    }

    #[test]
    fn a_batch_leaves_when_it_is_full_or_has_lingered() {
        let mut accumulator = accumulator(1_000, 5_000);
        assert_eq!(
            accumulator.append(&record(&[0; 500]), 0, || 0),
            Appended::Done(true)
        );
        assert!(take_one(&mut accumulator, 4_999).is_none());
        assert!(take_one(&mut accumulator, 5_000).is_some());
        accumulator.append(&record(&[0; 500]), 10_000, || 0);
        accumulator.append(&record(&[0; 500]), 10_000, || 0);
        assert!(
            take_one(&mut accumulator, 10_000).is_some(),
            "a second batch began"
        );
        assert!(take_one(&mut accumulator, 10_000).is_none());
    }

    #[test]
    fn memory_is_bounded_and_comes_back() {
        let mut accumulator = accumulator(100, 0);
        let mut appended = 0;
        while accumulator.append(&record(&[0; 60]), 0, || 0) != Appended::Full {
            appended += 1;
            assert!(appended <= 10);
        }
        let batch = take_one(&mut accumulator, 0).expect("ready");
        assert_eq!(
            accumulator.append(&record(&[0; 60]), 0, || 0),
            Appended::Full
        );
        accumulator.done(&batch);
        assert_eq!(
            accumulator.append(&record(&[0; 60]), 0, || 0),
            Appended::Done(true)
        );
    }

    #[test]
    fn a_repeated_batch_keeps_its_place_and_travels_alone() {
        let mut accumulator = accumulator(100, 0);
        for value in [[1u8; 60], [2; 60], [3; 60]] {
            accumulator.append(&record(&value), 0, || 0);
        }
        let first = take_one(&mut accumulator, 0).expect("first");
        let second = take_one(&mut accumulator, 0).expect("second");
        let (first_bytes, second_bytes) = (first.bytes(), second.bytes());
        accumulator.again(second, 10);
        accumulator.again(first, 10);
        assert!(
            take_one(&mut accumulator, 9).is_none(),
            "not before its time"
        );
        let again = take_one(&mut accumulator, 10).expect("first again");
        assert_eq!(again.bytes(), first_bytes);
        assert!(take_one(&mut accumulator, 10).is_none(), "it travels alone");
        accumulator.done(&again);
        let again = take_one(&mut accumulator, 10).expect("second again");
        assert_eq!(again.bytes(), second_bytes);
    }

    #[test]
    fn sequences_follow_one_another_and_start_anew_under_another_identity() {
        let identity = |id| Identity {
            id: ProducerId(id),
            epoch: ProducerEpoch(0),
        };
        let mut accumulator = accumulator(100, 0);
        for _ in 0..2 {
            accumulator.append(&record(&[0; 60]), 0, || 0);
        }
        let mut sequences = Vec::new();
        let mut batches = Vec::new();
        for _ in 0..2 {
            let (taken, _) = accumulator.take(0, false, Some(identity(5)), |_, _| Leader::Ready(1));
            for batch in taken.into_values().flatten() {
                let parsed = Batch::parse(&batch.bytes()).expect("a batch");
                sequences.push((parsed.header().producer_id.0, parsed.header().base_sequence));
                batches.push(batch);
            }
        }
        assert_eq!(sequences, [(5, 0), (5, 1)]);
        let second = batches.pop().expect("two");
        accumulator.done(&batches.pop().expect("one"));
        accumulator.again(second, 0);
        accumulator.rename(identity(6)).expect("small");
        let (taken, _) = accumulator.take(0, false, Some(identity(6)), |_, _| Leader::Ready(1));
        let batch = taken.into_values().flatten().next().expect("again");
        let parsed = Batch::parse(&batch.bytes()).expect("a batch");
        parsed.check().expect("checksum");
        assert_eq!(
            (parsed.header().producer_id.0, parsed.header().base_sequence),
            (6, 0)
        );
    }
}
