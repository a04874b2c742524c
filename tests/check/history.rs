//! One event of a run, as a line of JSON: `{"t":ns,"p":process,"e":event,...}`.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};

use serde::{Deserialize, Serialize};

/// Which full read of the end state: 0 right after the run, 1 after leaderships moved.
pub type Pass = u32;

/// What happened. An `err` that is not definite is an unknown outcome, never a failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "e", rename_all = "lowercase")]
pub enum What {
    /// A producer handed over a record.
    Send { id: u64, partition: i32 },
    /// It was acknowledged.
    Ack {
        id: u64,
        partition: i32,
        offset: i64,
    },
    /// It was not.
    Err {
        id: u64,
        partition: i32,
        definite: bool,
        why: String,
    },
    /// A reader begins to follow a partition at an offset.
    Follow { partition: i32, offset: i64 },
    /// It saw a record.
    Recv {
        id: u64,
        partition: i32,
        offset: i64,
    },
    /// A record in a full read at the end.
    Final {
        id: u64,
        partition: i32,
        offset: i64,
        pass: Pass,
    },
    /// Something was done to the cluster; for people who read the history.
    Fault { what: String },
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Monotonic nanoseconds since the run began.
    pub t: u64,
    /// Who saw it.
    pub p: String,
    #[serde(flatten)]
    pub what: What,
}

/// Reads lines until the end; a torn last line is an error, too.
pub fn read(lines: impl BufRead) -> Result<Vec<Event>, String> {
    let mut events = Vec::new();
    for (number, line) in lines.lines().enumerate() {
        let line = line.map_err(|error| format!("line {}: {error}", number + 1))?;
        let event = serde_json::from_str(&line);
        events.push(event.map_err(|error| format!("line {}: {error}", number + 1))?);
    }
    Ok(events)
}

/// Writes one line per event.
pub fn write(events: &[Event], mut to: impl Write) -> std::io::Result<()> {
    for event in events {
        serde_json::to_writer(&mut to, event)?;
        to.write_all(b"\n")?;
    }
    to.flush()
}

/// The longest time between two acknowledgements, and when it began, in nanoseconds; per partition.
pub fn longest_gaps(events: &[Event]) -> BTreeMap<i32, (u64, u64)> {
    let mut last: BTreeMap<i32, u64> = BTreeMap::new();
    let mut longest: BTreeMap<i32, (u64, u64)> = BTreeMap::new();
    for event in events {
        if let What::Ack { partition, .. } = event.what {
            let before = last.insert(partition, event.t).unwrap_or(event.t);
            let gap = event.t.saturating_sub(before);
            let known = longest.entry(partition).or_default();
            if gap > known.0 {
                *known = (gap, before);
            }
        }
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_survives_the_file() {
        let what = [
            What::Send {
                id: 1,
                partition: 0,
            },
            What::Ack {
                id: 1,
                partition: 0,
                offset: 7,
            },
            What::Fault {
                what: "kill -9".to_owned(),
            },
        ];
        let events = what.map(|what| Event {
            t: 5,
            p: "p".to_owned(),
            what,
        });
        let mut file = Vec::new();
        write(&events, &mut file).expect("written");
        assert_eq!(read(file.as_slice()), Ok(events.to_vec()));
        assert!(read(&file[..file.len() - 4]).is_err(), "a torn line");
    }
}
