//! The promises of a ZooKeeper ensemble (Z1 to Z6), judged over one history of sessions.
//!
//! Zxids make it cheap: nothing is searched. A history has registers (nodes that are made once, set and read, every value written
//! once), sequential nodes that nobody deletes, and ephemerals that go with their sessions only. A call without an answer is unknown:
//! it may have happened. It knows nothing of tripod.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    /// Sets a register; a version below zero is any.
    Set {
        path: String,
        value: String,
        version: i32,
    },
    /// Reads a register, and watches it.
    Get { path: String, watch: bool },
    /// Makes a sequential node below `path`.
    Sequence { path: String },
    /// Makes an ephemeral.
    Ephemeral { path: String },
    /// Lists the ephemerals below `path`.
    List { path: String },
    /// Waits until the member has what was committed before.
    Sync,
    /// Ends the session.
    Close,
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    Set {
        version: i32,
        mzxid: i64,
    },
    Value {
        value: String,
        version: i32,
        mzxid: i64,
    },
    Created {
        path: String,
    },
    Names {
        paths: BTreeSet<String>,
    },
    Done,
    BadVersion,
}

/// What happened in a session; `n` numbers its calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "e", rename_all = "lowercase")]
pub enum What {
    /// The session begins.
    Begin {
        timeout_ms: u64,
    },
    Call {
        n: u64,
        op: Op,
    },
    /// An answer, with the zxid in its header.
    Return {
        n: u64,
        zxid: i64,
        answer: Answer,
    },
    /// A watch says that the register changed.
    Event {
        path: String,
    },
    /// A register as a member holds it at the end; `pass` counts the looks.
    Final {
        path: String,
        value: String,
        version: i32,
        mzxid: i64,
        member: u32,
        pass: u32,
    },
    /// Something was done to the ensemble; for people.
    Fault {
        what: String,
    },
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Monotonic nanoseconds since the run began.
    pub t: u64,
    /// The session.
    pub p: String,
    #[serde(flatten)]
    pub what: What,
}

/// A broken promise: its name, and what was seen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Breach {
    /// twice, real-time, backwards, phantom, diverged, version, stale, future, condition, sequence, unsynced, watch-lost, watch-late,
    /// watch-twice, ephemeral-lost, ephemeral-stays, torn, early-expiry, late-expiry, after-end, lost.
    pub kind: &'static str,
    /// What was seen, for people.
    pub seen: String,
}

/// What was found, and how much there was to find it in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub breaches: Vec<Breach>,
    pub writes: usize,
    pub reads: usize,
    pub events: usize,
    pub unknown: usize,
}

/// A call with its answer.
#[derive(Clone, Debug)]
struct Done<'a> {
    session: &'a str,
    op: &'a Op,
    called: u64,
    returned: u64,
    zxid: i64,
    answer: &'a Answer,
}

/// A write of a register: its version and value, and where it stands in the order.
type Writes<'a> = BTreeMap<&'a str, BTreeMap<i64, (i32, String)>>;

/// Judges a history. A session may live on for `slack_ms` beyond its timeout, counted from the last fault: an election
/// gives all sessions their time again.
pub fn judge(events: &[Event], slack_ms: u64) -> Verdict {
    let mut verdict = Verdict::default();
    let mut calls: BTreeMap<(&str, u64), (u64, &Op)> = BTreeMap::new();
    let mut done = Vec::new();
    for event in events {
        match &event.what {
            What::Call { n, op } => {
                calls.insert((&event.p, *n), (event.t, op));
            }
            What::Return { n, zxid, answer } => {
                let Some((called, op)) = calls.remove(&(event.p.as_str(), *n)) else {
                    verdict.breach(
                        "phantom",
                        format!("{} has an answer to no call: {answer:?}", event.p),
                    );
                    continue;
                };
                let (session, returned) = (event.p.as_str(), event.t);
                done.push(Done {
                    session,
                    op,
                    called,
                    returned,
                    zxid: *zxid,
                    answer,
                });
            }
            _ => {}
        }
    }
    // What is left was not answered.
    let unknown: Vec<(&str, &Op)> = calls
        .iter()
        .map(|((session, _), (_, op))| (*session, *op))
        .collect();
    verdict.unknown = unknown.len();
    verdict.order(&done);
    verdict.sessions(&done);
    let writes = verdict.registers(&done, &unknown);
    verdict.reads(&done, &writes);
    verdict.conditions(&done, &writes);
    verdict.sequences(&done);
    verdict.syncs(&done);
    verdict.watches(events, &writes, &unknown);
    verdict.ephemerals(events, &done, &unknown, slack_ms);
    verdict.finals(events, &writes, &unknown);
    verdict.breaches.sort();
    verdict.breaches.dedup();
    verdict
}

fn is_write(done: &Done<'_>) -> bool {
    matches!(
        done.op,
        Op::Set { .. } | Op::Sequence { .. } | Op::Ephemeral { .. } | Op::Close
    ) && *done.answer != Answer::BadVersion
}

/// A value that an unanswered call may have written to `path`.
fn may_be(unknown: &[(&str, &Op)], path: &str, wanted: Option<&str>) -> bool {
    unknown.iter().any(|(_, op)| {
        matches!(op, Op::Set { path: set, value, .. } if set == path && wanted.is_none_or(|wanted| wanted == value))
    })
}

/// The writes behind one zxid, up to another, which may be below it.
fn between(
    writes: &BTreeMap<i64, (i32, String)>,
    behind: i64,
    up_to: i64,
) -> impl Iterator<Item = (&i64, &(i32, String))> {
    let from = writes.range(behind + 1..);
    from.take_while(move |(at, _)| **at <= up_to)
}

impl Verdict {
    fn breach(&mut self, kind: &'static str, seen: String) {
        self.breaches.push(Breach { kind, seen });
    }

    /// Z1: one zxid, one write; what returned before another was called has the lower zxid.
    fn order(&mut self, done: &[Done<'_>]) {
        let mut writes: Vec<_> = done.iter().filter(|done| is_write(done)).collect();
        self.writes = writes.len();
        let mut seen = BTreeMap::new();
        for write in &writes {
            if let Some(other) = seen.insert(write.zxid, write.op) {
                self.breach(
                    "twice",
                    format!("{:?} and {other:?} are both {:#x}", write.op, write.zxid),
                );
            }
        }
        let mut returned = writes.clone();
        returned.sort_by_key(|write| write.returned);
        writes.sort_by_key(|write| write.called);
        let (mut before, mut highest) = (returned.into_iter().peekable(), 0);
        for write in writes {
            while let Some(other) = before.next_if(|other| other.returned < write.called) {
                highest = highest.max(other.zxid);
            }
            if write.zxid <= highest {
                let seen = format!(
                    "{:?} is {:#x}, called after {highest:#x} had returned",
                    write.op, write.zxid
                );
                self.breach("real-time", seen);
            }
        }
    }

    /// Z2: the zxids of a session's answers do not fall.
    fn sessions(&mut self, done: &[Done<'_>]) {
        let mut last: BTreeMap<&str, i64> = BTreeMap::new();
        for done in done {
            let last = last.entry(done.session).or_default();
            if done.zxid < *last {
                let seen = format!(
                    "{} was at {last:#x}, then {:#x} answers {:?}",
                    done.session, done.zxid, done.op
                );
                self.breach("backwards", seen);
            }
            *last = done.zxid.max(*last);
        }
    }

    /// The writes of each register, as answers and reads show them: versions rise with zxids, and one of them is one value.
    fn registers<'a>(&mut self, done: &[Done<'a>], unknown: &[(&str, &Op)]) -> Writes<'a> {
        let mut writes = Writes::new();
        let mut asked: BTreeSet<(&str, &str)> = BTreeSet::new();
        for done in done {
            // What was refused must not show.
            if let Op::Set { path, value, .. } = done.op
                && *done.answer != Answer::BadVersion
            {
                asked.insert((path, value));
            }
        }
        for done in done {
            let (path, found, at) = match (done.op, done.answer) {
                (Op::Set { path, value, .. }, Answer::Set { version, mzxid }) => {
                    if *mzxid != done.zxid {
                        self.breach(
                            "diverged",
                            format!(
                                "{path}: the answer is {:#x}, its Stat {mzxid:#x}",
                                done.zxid
                            ),
                        );
                    }
                    (path, (*version, value.clone()), *mzxid)
                }
                (
                    Op::Get { path, .. },
                    Answer::Value {
                        value,
                        version,
                        mzxid,
                    },
                ) => {
                    let asked = *version == 0
                        || asked.contains(&(path.as_str(), value.as_str()))
                        || may_be(unknown, path, Some(value));
                    if !asked {
                        self.breach(
                            "phantom",
                            format!("{path} is {value:?}, which nobody wrote"),
                        );
                    }
                    (path, (*version, value.clone()), *mzxid)
                }
                _ => continue,
            };
            let known = writes
                .entry(path.as_str())
                .or_default()
                .entry(at)
                .or_insert_with(|| found.clone());
            if *known != found {
                let seen = format!("{path} at {at:#x} is {known:?} and {found:?}");
                self.breach("diverged", seen);
            }
        }
        for (path, writes) in &writes {
            let unanswered = unknown
                .iter()
                .filter(|(_, op)| matches!(op, Op::Set { path: set, .. } if set == path))
                .count();
            let mut holes = 0;
            for ((before, (version, _)), (at, (next, _))) in
                writes.iter().zip(writes.iter().skip(1))
            {
                if next <= version {
                    self.breach(
                        "version",
                        format!("{path}: {version} at {before:#x}, {next} at {at:#x}"),
                    );
                }
                holes += usize::try_from(next - version - 1).unwrap_or(0);
            }
            if holes > unanswered {
                self.breach(
                    "version",
                    format!(
                        "{path}: {holes} versions that nobody wrote, {unanswered} without an answer"
                    ),
                );
            }
        }
        writes
    }

    /// Z2: a read shows what was the newest write at its own zxid.
    fn reads(&mut self, done: &[Done<'_>], writes: &Writes<'_>) {
        for done in done {
            let (Op::Get { path, .. }, Answer::Value { mzxid, .. }) = (done.op, done.answer) else {
                continue;
            };
            self.reads += 1;
            if *mzxid > done.zxid {
                self.breach(
                    "future",
                    format!("{path} at {:#x} shows {mzxid:#x}", done.zxid),
                );
            }
            let newer = writes
                .get(path.as_str())
                .and_then(|writes| between(writes, *mzxid, done.zxid).next());
            if let Some((newer, _)) = newer {
                let seen = format!(
                    "{} read {path} at {:#x} as of {mzxid:#x}: {newer:#x} is missing",
                    done.session, done.zxid
                );
                self.breach("stale", seen);
            }
        }
    }

    /// A conditional set goes through exactly when the version is the one it names.
    fn conditions(&mut self, done: &[Done<'_>], writes: &Writes<'_>) {
        for one in done {
            let Op::Set {
                path,
                version: wanted @ 0..,
                ..
            } = one.op
            else {
                continue;
            };
            match one.answer {
                Answer::Set { version, .. } if *version != wanted + 1 => {
                    self.breach(
                        "condition",
                        format!("{path}: set at version {wanted}, now {version}"),
                    );
                }
                // Refused although it stood at that version all the while: known to have been reached before, and left after.
                Answer::BadVersion => {
                    let of = |version: i32| {
                        let mut writes = writes.get(path.as_str()).into_iter().flatten();
                        writes
                            .find(|(_, (found, _))| *found == version)
                            .map(|(at, _)| *at)
                    };
                    let time = |at: Option<i64>| {
                        done.iter()
                            .find(|done| is_write(done) && Some(done.zxid) == at)
                    };
                    let (reached, left) = (time(of(*wanted)), time(of(wanted + 1)));
                    let there = reached.is_some_and(|write| write.returned < one.called);
                    if there && left.is_some_and(|write| write.called > one.returned) {
                        self.breach(
                            "condition",
                            format!("{path}: refused at version {wanted}, which it had"),
                        );
                    }
                }
                _ => {}
            }
        }
    }

    /// Numbers of sequential nodes are unique and rise with the zxids.
    fn sequences(&mut self, done: &[Done<'_>]) {
        let mut made: BTreeMap<&str, BTreeMap<i64, &str>> = BTreeMap::new();
        for done in done {
            if let (Op::Sequence { path }, Answer::Created { path: name }) = (done.op, done.answer)
            {
                made.entry(path).or_default().insert(done.zxid, name);
            }
        }
        for names in made.values() {
            for ((_, before), (at, name)) in names.iter().zip(names.iter().skip(1)) {
                if name <= before {
                    self.breach(
                        "sequence",
                        format!("{name} at {at:#x} comes after {before}"),
                    );
                }
            }
        }
    }

    /// Z6: what a session reads after its sync has all that anybody had been told before the sync.
    fn syncs(&mut self, done: &[Done<'_>]) {
        let mut synced: BTreeMap<&str, i64> = BTreeMap::new();
        for one in done {
            match one.op {
                Op::Sync => {
                    let before = done
                        .iter()
                        .filter(|done| is_write(done) && done.returned < one.called);
                    synced.insert(one.session, before.map(|done| done.zxid).max().unwrap_or(0));
                }
                Op::Get { .. } | Op::List { .. } => {
                    if let Some(least) = synced.get(one.session)
                        && one.zxid < *least
                    {
                        let seen = format!(
                            "{} read at {:#x} after a sync behind {least:#x}",
                            one.session, one.zxid
                        );
                        self.breach("unsynced", seen);
                    }
                }
                _ => {}
            }
        }
    }

    /// Z3: a watch set at z1 fires once for a change at z2 > z1, before any answer of that session with a zxid of z2 or more.
    fn watches(&mut self, events: &[Event], writes: &Writes<'_>, unknown: &[(&str, &Op)]) {
        let mut calls: BTreeMap<(&str, u64), &Op> = BTreeMap::new();
        // Since which zxid a session watches a register.
        let mut watched: BTreeMap<(&str, &str), i64> = BTreeMap::new();
        for event in events {
            let session = event.p.as_str();
            match &event.what {
                What::Call { n, op } => {
                    calls.insert((session, *n), op);
                }
                What::Event { path } => {
                    self.events += 1;
                    let Some(since) = watched.remove(&(session, path.as_str())) else {
                        self.breach(
                            "watch-twice",
                            format!("{session} hears of {path} without a watch"),
                        );
                        continue;
                    };
                    let changed = writes
                        .get(path.as_str())
                        .is_some_and(|writes| writes.range(since + 1..).next().is_some());
                    if !changed && !may_be(unknown, path, None) {
                        self.breach(
                            "phantom",
                            format!("{session} hears of {path}, unchanged since {since:#x}"),
                        );
                    }
                }
                What::Return { n, zxid, answer } => {
                    let late = watched.iter().filter(|((who, path), since)| {
                        let writes = writes
                            .get(path)
                            .into_iter()
                            .flat_map(|writes| between(writes, **since, *zxid));
                        *who == session && writes.count() > 0
                    });
                    let late: Vec<_> = late
                        .map(|((_, path), since)| ((*path).to_owned(), *since))
                        .collect();
                    for (path, since) in late {
                        let seen = format!(
                            "{session} is answered at {zxid:#x} and has not heard of {path}, watched since {since:#x}"
                        );
                        self.breach("watch-late", seen);
                        watched.retain(|(who, watched), _| *who != session || *watched != path);
                    }
                    if let (Some(Op::Get { path, watch: true }), Answer::Value { .. }) =
                        (calls.get(&(session, *n)), answer)
                    {
                        watched.insert((session, path), *zxid);
                    }
                }
                _ => {}
            }
        }
    }

    /// Z4, Z5: ephemerals live as long as their session and go all at once; an ended session does nothing more.
    fn ephemerals(
        &mut self,
        events: &[Event],
        done: &[Done<'_>],
        unknown: &[(&str, &Op)],
        slack_ms: u64,
    ) {
        let faults = events
            .iter()
            .filter(|event| matches!(event.what, What::Fault { .. }));
        let faults: BTreeSet<u64> = faults.map(|event| event.t).collect();
        for owner in owners(events, done) {
            let begun = |path: &str| owner.made.get(path).copied();
            let maybe: BTreeSet<&str> = unknown
                .iter()
                .filter_map(|(session, op)| match op {
                    Op::Ephemeral { path } if *session == owner.name => Some(path.as_str()),
                    _ => None,
                })
                .collect();
            let mut gone: Option<i64> = owner.closed;
            let mut lists: Vec<_> = done
                .iter()
                .filter(|done| matches!(done.op, Op::List { .. }))
                .collect();
            lists.sort_by_key(|list| list.zxid);
            for list in lists {
                let Answer::Names { paths } = list.answer else {
                    continue;
                };
                let there: Vec<_> = owner
                    .made
                    .keys()
                    .filter(|path| paths.contains(**path))
                    .collect();
                let due = owner
                    .made
                    .keys()
                    .filter(|path| begun(path).is_some_and(|at| at <= list.zxid))
                    .count();
                let ghost = maybe.iter().any(|path| paths.contains(*path));
                let who = owner.name;
                if gone.is_some_and(|gone| gone <= list.zxid) {
                    if !there.is_empty() || ghost {
                        self.breach(
                            "ephemeral-stays",
                            format!(
                                "{there:?} of {who} at {:#x}, ended at {gone:#x?}",
                                list.zxid
                            ),
                        );
                    }
                    continue;
                }
                if due > 0 && there.is_empty() {
                    gone = Some(list.zxid);
                    if list.zxid <= owner.last_zxid {
                        self.breach(
                            "ephemeral-lost",
                            format!(
                                "none of {who}'s at {:#x}; it lived at {:#x}",
                                list.zxid, owner.last_zxid
                            ),
                        );
                    } else if owner.closing.is_none_or(|closing| list.returned < closing)
                        && list.returned < owner.last_sign + owner.timeout
                    {
                        self.breach(
                            "early-expiry",
                            format!("{who} has expired within its timeout, at {:#x}", list.zxid),
                        );
                    }
                } else if there.len() < due {
                    self.breach(
                        "torn",
                        format!("{there:?} of {due} of {who} at {:#x}", list.zxid),
                    );
                }
                let fault = faults.range(..list.called).next_back().copied();
                let quiet_since = owner.last_call.max(fault.unwrap_or(0));
                let limit = quiet_since + owner.timeout + slack_ms * 1_000_000;
                if !there.is_empty() && list.called > limit {
                    self.breach(
                        "late-expiry",
                        format!(
                            "{there:?} of {who}, which has been silent for longer than its timeout"
                        ),
                    );
                }
            }
            for done in done.iter().filter(|done| {
                done.session == owner.name && is_write(done) && *done.op != Op::Close
            }) {
                if gone.is_some_and(|gone| done.zxid > gone) {
                    self.breach(
                        "after-end",
                        format!(
                            "{:?} of {} at {:#x}, ended by {gone:#x?}",
                            done.op, owner.name, done.zxid
                        ),
                    );
                }
            }
        }
    }

    /// At the end all members agree, at every look, and nothing acknowledged is missing.
    fn finals(&mut self, events: &[Event], writes: &Writes<'_>, unknown: &[(&str, &Op)]) {
        let mut finals: BTreeMap<&str, (&str, i32, i64)> = BTreeMap::new();
        for event in events {
            let What::Final {
                path,
                value,
                version,
                mzxid,
                member,
                pass,
            } = &event.what
            else {
                continue;
            };
            let found = (value.as_str(), *version, *mzxid);
            let first = *finals.entry(path).or_insert(found);
            if first != found {
                self.breach(
                    "diverged",
                    format!(
                        "{path} at the end is {first:?}, and {found:?} on {member} in look {pass}"
                    ),
                );
            }
        }
        for (path, (value, version, mzxid)) in &finals {
            let Some((at, newest)) = writes.get(path).and_then(|writes| writes.last_key_value())
            else {
                continue;
            };
            let same = (newest.0, newest.1.as_str()) == (*version, *value) && at == mzxid;
            if !same && (mzxid <= at || !may_be(unknown, path, Some(value))) {
                self.breach("lost", format!("{path} at the end is {value:?} of {mzxid:#x}; {newest:?} of {at:#x} was acknowledged"));
            }
        }
    }
}

/// A session that made ephemerals.
struct Owner<'a> {
    name: &'a str,
    timeout: u64,
    made: BTreeMap<&'a str, i64>,
    /// The zxid of its own end.
    closed: Option<i64>,
    /// When it called for that, answered or not.
    closing: Option<u64>,
    /// The newest zxid that it was answered before.
    last_zxid: i64,
    /// When the newest of its calls that was answered began: the ensemble has heard of it no earlier.
    last_sign: u64,
    /// When the newest of its calls began, answered or not.
    last_call: u64,
}

fn owners<'a>(events: &'a [Event], done: &[Done<'a>]) -> Vec<Owner<'a>> {
    let mut owners: BTreeMap<&str, Owner<'_>> = BTreeMap::new();
    for event in events {
        if let What::Begin { timeout_ms } = event.what {
            let name = event.p.as_str();
            let owner = Owner {
                name,
                timeout: timeout_ms * 1_000_000,
                made: BTreeMap::new(),
                closed: None,
                closing: None,
                last_zxid: 0,
                last_sign: event.t,
                last_call: event.t,
            };
            owners.insert(name, owner);
        }
        if let What::Call { op, .. } = &event.what
            && let Some(owner) = owners.get_mut(event.p.as_str())
        {
            owner.last_call = event.t;
            if *op == Op::Close {
                owner.closing = Some(event.t);
            }
        }
    }
    for done in done {
        let Some(owner) = owners.get_mut(done.session) else {
            continue;
        };
        if *done.op == Op::Close {
            owner.closed = Some(done.zxid);
            continue;
        }
        owner.last_zxid = owner.last_zxid.max(done.zxid);
        owner.last_sign = owner.last_sign.max(done.called);
        if let (Op::Ephemeral { path }, Answer::Created { .. }) = (done.op, done.answer) {
            owner.made.insert(path, done.zxid);
        }
    }
    owners.into_values().collect()
}

/// Writes one line per event.
pub fn write(events: &[Event], mut to: impl std::io::Write) -> std::io::Result<()> {
    for event in events {
        serde_json::to_writer(&mut to, event)?;
        to.write_all(b"\n")?;
    }
    to.flush()
}

#[cfg(test)]
mod tests;
