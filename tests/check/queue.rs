//! The promises Q1 to Q6 of a log with partitions, judged over one history.
//!
//! Producers number their records: an id is `producer * 10^9 + n` with n rising in the order of sending.

use std::collections::BTreeMap;

use super::history::{Event, What};

/// A broken promise: its name, and what was seen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Breach {
    /// lost, duplicate, diverged, phantom, failed-seen, order, gap, skipped, backwards, changed.
    pub kind: &'static str,
    /// What was seen, for people.
    pub seen: String,
}

/// The record that everybody must see at (partition, offset), and who saw it first.
type Slots = BTreeMap<(i32, i64), (u64, String)>;

/// What the checker found, and how much there was to find it in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub breaches: Vec<Breach>,
    pub sent: usize,
    pub acknowledged: usize,
    pub unknown: usize,
    pub received: usize,
    pub finals: usize,
}

/// Judges a history.
pub fn judge(events: &[Event]) -> Verdict {
    let mut verdict = Verdict::default();
    let mut sent: BTreeMap<u64, i32> = BTreeMap::new();
    let mut acknowledged: BTreeMap<u64, (i32, i64)> = BTreeMap::new();
    let mut failed: BTreeMap<u64, String> = BTreeMap::new();
    let mut slots = Slots::new();
    let mut readers: BTreeMap<(String, i32), i64> = BTreeMap::new();
    let mut finals: BTreeMap<u32, BTreeMap<(i32, i64), u64>> = BTreeMap::new();
    for event in events {
        match &event.what {
            What::Send { id, partition } => {
                sent.insert(*id, *partition);
            }
            What::Ack {
                id,
                partition,
                offset,
            } => {
                verdict.acknowledged += 1;
                if let Some(before) = acknowledged.insert(*id, (*partition, *offset))
                    && before != (*partition, *offset)
                {
                    let seen = format!("{id} acknowledged at {before:?} and {partition}@{offset}");
                    verdict.breach("duplicate", seen);
                }
                verdict.slot(&mut slots, (*partition, *offset), *id, "ack", &event.p);
            }
            What::Err {
                id, definite, why, ..
            } => {
                if *definite {
                    failed.insert(*id, why.clone());
                } else {
                    verdict.unknown += 1;
                }
            }
            What::Follow { partition, offset } => {
                readers.insert((event.p.clone(), *partition), *offset);
            }
            What::Recv {
                id,
                partition,
                offset,
            } => {
                verdict.received += 1;
                verdict.slot(&mut slots, (*partition, *offset), *id, "recv", &event.p);
                let next = readers.entry((event.p.clone(), *partition));
                let next = next.or_insert(*offset);
                if *offset != *next {
                    let kind = if *offset < *next {
                        "backwards"
                    } else {
                        "skipped"
                    };
                    let seen = format!("{} got {partition}@{offset}, not {next}", event.p);
                    verdict.breach(kind, seen);
                }
                *next = offset + 1;
            }
            What::Final {
                id,
                partition,
                offset,
                pass,
            } => {
                verdict.finals += 1;
                verdict.slot(&mut slots, (*partition, *offset), *id, "final", &event.p);
                let read = finals.entry(*pass).or_default();
                read.insert((*partition, *offset), *id);
            }
            What::Fault { .. } => {}
        }
    }
    verdict.sent = sent.len();
    verdict.known_and_once(&slots, &sent, &failed);
    for (pass, read) in &finals {
        verdict.complete(*pass, read, &acknowledged);
    }
    let first = finals.values().next();
    for read in finals.values().skip(1) {
        for (slot, id) in first.into_iter().flatten() {
            if read.get(slot) != Some(id) {
                verdict.breach(
                    "changed",
                    format!("{slot:?}: {id}, then {:?}", read.get(slot)),
                );
            }
        }
    }
    verdict.breaches.sort();
    verdict.breaches.dedup();
    verdict
}

impl Verdict {
    fn breach(&mut self, kind: &'static str, seen: String) {
        self.breaches.push(Breach { kind, seen });
    }

    /// One offset has one value for everybody, for ever (Q3, Q5).
    fn slot(&mut self, slots: &mut Slots, slot: (i32, i64), id: u64, how: &str, who: &str) {
        let seen = format!("{how} of {who}");
        match slots.get(&slot) {
            Some((before, whom)) if *before != id => {
                let seen = format!("{slot:?} is {before} ({whom}) and {id} ({seen})");
                self.breach("diverged", seen);
            }
            Some(_) => {}
            None => {
                slots.insert(slot, (id, seen));
            }
        }
    }

    /// Nothing that nobody sent (phantom), nothing that was refused (Q6), nothing twice, in order (Q2).
    fn known_and_once(
        &mut self,
        slots: &Slots,
        sent: &BTreeMap<u64, i32>,
        failed: &BTreeMap<u64, String>,
    ) {
        let mut places: BTreeMap<u64, (i32, i64)> = BTreeMap::new();
        let mut last: BTreeMap<(u64, i32), (u64, i64)> = BTreeMap::new();
        for (slot, (id, _)) in slots {
            if sent.get(id) != Some(&slot.0) {
                self.breach(
                    "phantom",
                    format!("{id} at {slot:?}, sent to {:?}", sent.get(id)),
                );
            }
            if let Some(why) = failed.get(id) {
                self.breach(
                    "failed-seen",
                    format!("{id} at {slot:?}, refused with {why}"),
                );
            }
            if let Some(before) = places.insert(*id, *slot) {
                self.breach("duplicate", format!("{id} at {before:?} and {slot:?}"));
            }
            let producer = id / 1_000_000_000;
            if let Some(before) = last.insert((producer, slot.0), (*id, slot.1))
                && before.0 > *id
            {
                self.breach("order", format!("{} before {id} in {}", before.0, slot.0));
            }
        }
    }

    /// Every acknowledged record is there, at its offset (Q1); no holes (Q3).
    fn complete(
        &mut self,
        pass: u32,
        read: &BTreeMap<(i32, i64), u64>,
        acknowledged: &BTreeMap<u64, (i32, i64)>,
    ) {
        for (id, slot) in acknowledged {
            if read.get(slot) != Some(id) {
                let seen = format!(
                    "{id} acknowledged at {slot:?}, pass {pass} has {:?} there",
                    read.get(slot)
                );
                self.breach("lost", seen);
            }
        }
        let mut next: BTreeMap<i32, i64> = BTreeMap::new();
        for (partition, offset) in read.keys() {
            let expected = next.entry(*partition).or_insert(*offset);
            if expected != offset {
                self.breach(
                    "gap",
                    format!("{partition}: {expected} is followed by {offset}, pass {pass}"),
                );
            }
            *expected = offset + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(t: u64, p: &str, what: What) -> Event {
        Event {
            t,
            p: p.to_owned(),
            what,
        }
    }

    /// Two producers, two partitions, 20 records each, one reader, two full reads.
    fn good() -> Vec<Event> {
        let mut events = vec![
            at(
                0,
                "r",
                What::Follow {
                    partition: 0,
                    offset: 0,
                },
            ),
            at(
                0,
                "r",
                What::Follow {
                    partition: 1,
                    offset: 0,
                },
            ),
        ];
        let mut slots = Vec::new();
        let mut next = [0_i64; 2];
        for n in 0..20_u64 {
            for producer in 0..2_u64 {
                let id = producer * 1_000_000_000 + n;
                let partition = i32::try_from(n % 2).expect("small");
                let p = format!("p{producer}");
                events.push(at(n, &p, What::Send { id, partition }));
                let offset = next[n as usize % 2];
                next[n as usize % 2] += 1;
                if n == 7 {
                    let why = "timed out".to_owned();
                    events.push(at(
                        n,
                        &p,
                        What::Err {
                            id,
                            partition,
                            definite: false,
                            why,
                        },
                    ));
                } else {
                    events.push(at(
                        n,
                        &p,
                        What::Ack {
                            id,
                            partition,
                            offset,
                        },
                    ));
                }
                events.push(at(
                    n,
                    "r",
                    What::Recv {
                        id,
                        partition,
                        offset,
                    },
                ));
                slots.push((id, partition, offset));
            }
        }
        let why = "too large".to_owned();
        let refused = What::Send {
            id: 99,
            partition: 0,
        };
        events.push(at(30, "p0", refused));
        events.push(at(
            30,
            "p0",
            What::Err {
                id: 99,
                partition: 0,
                definite: true,
                why,
            },
        ));
        for pass in 0..2 {
            for (id, partition, offset) in &slots {
                let (id, partition, offset) = (*id, *partition, *offset);
                events.push(at(
                    40,
                    "f",
                    What::Final {
                        id,
                        partition,
                        offset,
                        pass,
                    },
                ));
            }
        }
        events
    }

    fn kinds(events: &[Event]) -> Vec<&'static str> {
        let mut kinds: Vec<_> = judge(events)
            .breaches
            .iter()
            .map(|breach| breach.kind)
            .collect();
        kinds.dedup();
        kinds
    }

    /// The good history with the first event for which `other` has something else.
    fn spoilt(other: impl Fn(&What) -> Option<What>) -> Vec<Event> {
        let mut events = good();
        let found = events
            .iter_mut()
            .find_map(|event| other(&event.what).map(|what| (event, what)));
        let (event, what) = found.expect("the spoiling found its event");
        event.what = what;
        events
    }

    #[test]
    fn a_good_history_passes() {
        let verdict = judge(&good());
        assert_eq!(verdict.breaches, vec![]);
        assert_eq!(
            (verdict.sent, verdict.acknowledged, verdict.unknown),
            (41, 38, 2)
        );
        assert_eq!((verdict.received, verdict.finals), (40, 80));
    }

    #[test]
    fn every_way_to_spoil_it_is_noticed() {
        let gone = |id: u64| {
            let mut events = good();
            events.retain(
                |event| !matches!(event.what, What::Final { id: found, .. } if found == id),
            );
            events
        };
        assert!(kinds(&gone(4)).contains(&"lost"));
        // An unknown outcome may be missing, but leaves no hole behind where others follow.
        assert_eq!(kinds(&gone(7)), ["gap"]);
        let twice = spoilt(|what| match *what {
            What::Final {
                partition,
                offset: 5,
                pass: 0,
                ..
            } => Some(What::Final {
                id: 2,
                partition,
                offset: 5,
                pass: 0,
            }),
            _ => None,
        });
        assert!(kinds(&twice).contains(&"diverged"));
        let other = spoilt(|what| match *what {
            What::Recv {
                id,
                partition,
                offset: 3,
            } => Some(What::Recv {
                id: id + 1_000_000_000,
                partition,
                offset: 3,
            }),
            _ => None,
        });
        assert!(kinds(&other).contains(&"diverged"));
        let nothing = || {
            Some(What::Fault {
                what: String::new(),
            })
        };
        let unsent = spoilt(|what| match what {
            What::Send { id: 6, .. } => nothing(),
            _ => None,
        });
        assert_eq!(kinds(&unsent), ["phantom"]);
        let elsewhere = spoilt(|what| match what {
            What::Send { id: 6, .. } => Some(What::Send {
                id: 6,
                partition: 1,
            }),
            _ => None,
        });
        assert_eq!(kinds(&elsewhere), ["phantom"]);
        let refused = spoilt(|what| match what {
            What::Err {
                definite: true,
                partition,
                why,
                ..
            } => Some(What::Err {
                id: 8,
                partition: *partition,
                definite: true,
                why: why.clone(),
            }),
            _ => None,
        });
        assert_eq!(kinds(&refused), ["failed-seen"]);
        let skipped = spoilt(|what| match what {
            What::Recv { offset: 4, .. } => nothing(),
            _ => None,
        });
        assert_eq!(kinds(&skipped), ["skipped"]);
        let back = spoilt(|what| match what {
            What::Follow { partition, .. } => Some(What::Follow {
                partition: *partition,
                offset: 1,
            }),
            _ => None,
        });
        assert!(kinds(&back).contains(&"backwards"));
        let changed = spoilt(|what| match *what {
            What::Final {
                partition,
                offset: 6,
                pass: 1,
                ..
            } => Some(What::Final {
                id: 3,
                partition,
                offset: 6,
                pass: 1,
            }),
            _ => None,
        });
        assert!(kinds(&changed).contains(&"changed"));
        let moved = spoilt(|what| match *what {
            What::Ack {
                id: 10,
                partition,
                offset,
            } => Some(What::Ack {
                id: 10,
                partition,
                offset: offset + 1,
            }),
            _ => None,
        });
        assert!(kinds(&moved).contains(&"lost"));
        // A repetition that nobody noticed: the same record once more at the end.
        let mut again = good();
        let what = What::Final {
            id: 2,
            partition: 0,
            offset: 20,
            pass: 1,
        };
        again.push(at(50, "f", what));
        assert!(kinds(&again).contains(&"duplicate"));
    }

    #[test]
    fn order_is_per_producer_and_partition() {
        let mut events = good();
        for event in &mut events {
            let id = match &mut event.what {
                What::Ack { id, .. } | What::Recv { id, .. } | What::Final { id, .. } => id,
                _ => continue,
            };
            *id = match *id {
                2 => 4,
                4 => 2,
                id => id,
            };
        }
        assert_eq!(kinds(&events), ["order"]);
    }
}
