//! The checker against a good history, and against that history spoilt in every way that it claims to notice.

use super::*;

const MS: u64 = 1_000_000;
const SLACK_MS: u64 = 4_000;

/// A history as it grows: every line a millisecond after the one before.
#[derive(Default)]
struct Story {
    events: Vec<Event>,
    calls: u64,
}

impl Story {
    fn note(&mut self, session: &str, what: What) {
        let t = (self.events.len() as u64 + 1) * MS;
        let p = session.to_owned();
        self.events.push(Event { t, p, what });
    }

    fn call(&mut self, session: &str, op: Op) -> u64 {
        self.calls += 1;
        let n = self.calls;
        self.note(session, What::Call { n, op });
        n
    }

    fn answer(&mut self, session: &str, n: u64, zxid: i64, answer: Answer) {
        self.note(session, What::Return { n, zxid, answer });
    }

    fn done(&mut self, session: &str, op: Op, zxid: i64, answer: Answer) {
        let n = self.call(session, op);
        self.answer(session, n, zxid, answer);
    }
}

fn set(value: &str, version: i32) -> Op {
    let (path, value) = ("/r".to_owned(), value.to_owned());
    Op::Set {
        path,
        value,
        version,
    }
}

fn get(watch: bool) -> Op {
    Op::Get {
        path: "/r".to_owned(),
        watch,
    }
}

fn stat(version: i32, mzxid: i64) -> Answer {
    Answer::Set { version, mzxid }
}

fn value(value: &str, version: i32, mzxid: i64) -> Answer {
    Answer::Value {
        value: value.to_owned(),
        version,
        mzxid,
    }
}

fn created(path: &str) -> Answer {
    Answer::Created {
        path: path.to_owned(),
    }
}

fn names(names: &[&str]) -> Answer {
    Answer::Names {
        paths: names.iter().map(|name| (*name).to_owned()).collect(),
    }
}

fn sequence() -> Op {
    Op::Sequence {
        path: "/s/n-".to_owned(),
    }
}

fn ephemeral(path: &str) -> Op {
    Op::Ephemeral {
        path: path.to_owned(),
    }
}

fn list() -> Op {
    Op::List {
        path: "/e".to_owned(),
    }
}

/// Two sessions at work on a register, numbers and ephemerals; "c" is closed, "d" falls silent and expires.
fn good() -> Vec<Event> {
    let mut story = Story::default();
    for session in ["a", "b", "c", "d"] {
        story.note(session, What::Begin { timeout_ms: 10 });
    }
    story.done("a", set("one", -1), 10, stat(1, 10));
    story.done("b", get(true), 10, value("one", 1, 10));
    story.done("a", set("two", 1), 11, stat(2, 11));
    story.note(
        "b",
        What::Event {
            path: "/r".to_owned(),
        },
    );
    story.done("b", get(false), 11, value("two", 2, 11));
    story.done("b", set("no", 0), 12, Answer::BadVersion);
    story.call("a", set("maybe", -1));
    story.done("b", get(false), 13, value("maybe", 3, 13));
    story.done("a", sequence(), 14, created("/s/n-0000000000"));
    story.done("b", sequence(), 15, created("/s/n-0000000001"));
    story.done("c", ephemeral("/e/c1"), 16, created("/e/c1"));
    story.done("c", ephemeral("/e/c2"), 17, created("/e/c2"));
    story.done("d", ephemeral("/e/d"), 18, created("/e/d"));
    story.done("b", Op::Sync, 18, Answer::Done);
    story.done("b", list(), 18, names(&["/e/c1", "/e/c2", "/e/d"]));
    story.done("c", Op::Close, 19, Answer::Done);
    story.done("b", list(), 19, names(&["/e/d"]));
    for n in 0..4 {
        let version = 4 + n;
        let zxid = 20 + i64::from(n);
        story.done(
            "a",
            set(&format!("more-{n}"), version - 1),
            zxid,
            stat(version, zxid),
        );
    }
    story.done("b", Op::Sync, 25, Answer::Done);
    story.done("b", list(), 25, names(&[]));
    story.done("b", get(false), 25, value("more-3", 7, 23));
    for (pass, member) in [(0, 1), (0, 2), (1, 1), (1, 2)] {
        let (path, value) = ("/r".to_owned(), "more-3".to_owned());
        story.note(
            "end",
            What::Final {
                path,
                value,
                version: 7,
                mzxid: 23,
                member,
                pass,
            },
        );
    }
    story.events
}

fn kinds(events: &[Event]) -> Vec<&'static str> {
    let mut kinds: Vec<_> = judge(events, SLACK_MS)
        .breaches
        .iter()
        .map(|breach| breach.kind)
        .collect();
    kinds.dedup();
    kinds
}

/// The place of the call for which `wanted` holds, and that of its answer.
fn place(events: &[Event], wanted: impl Fn(&str, &Op) -> bool) -> (usize, usize) {
    let found = events
        .iter()
        .enumerate()
        .find_map(|(at, event)| match &event.what {
            What::Call { n, op } if wanted(&event.p, op) => Some((at, *n)),
            _ => None,
        });
    let (call, number) = found.expect("the spoiling finds its call");
    let answer = events
        .iter()
        .position(|event| matches!(event.what, What::Return { n, .. } if n == number));
    (call, answer.expect("it was answered"))
}

/// The good history with another answer to one call.
fn spoilt(wanted: impl Fn(&str, &Op) -> bool, zxid: i64, answer: Answer) -> Vec<Event> {
    let mut events = good();
    let (_, at) = place(&events, wanted);
    let What::Return { n, .. } = events[at].what else {
        unreachable!()
    };
    events[at].what = What::Return { n, zxid, answer };
    events
}

/// The nth read of the register.
fn spoilt_get(nth: usize, zxid: i64, answer: Answer) -> Vec<Event> {
    spoilt_nth(|op| matches!(op, Op::Get { .. }), nth, zxid, answer)
}

fn spoilt_nth(wanted: impl Fn(&Op) -> bool, nth: usize, zxid: i64, answer: Answer) -> Vec<Event> {
    let seen = std::cell::Cell::new(0);
    spoilt(
        |_, op| {
            seen.set(seen.get() + usize::from(wanted(op)));
            wanted(op) && seen.get() == nth + 1
        },
        zxid,
        answer,
    )
}

fn has(op: &Op, wanted: &str) -> bool {
    matches!(op, Op::Set { value, .. } if value == wanted)
}

#[test]
fn a_good_history_passes() {
    let verdict = judge(&good(), SLACK_MS);
    assert_eq!(verdict.breaches, vec![]);
    assert_eq!(
        (
            verdict.writes,
            verdict.reads,
            verdict.events,
            verdict.unknown
        ),
        (12, 4, 1, 1)
    );
}

#[test]
fn a_history_survives_the_file() {
    let mut file = Vec::new();
    write(&good(), &mut file).expect("written");
    let lines = std::str::from_utf8(&file).expect("text").lines();
    let read: Vec<Event> = lines
        .map(|line| serde_json::from_str(line).expect("an event"))
        .collect();
    assert_eq!(read, good());
}

#[test]
fn every_way_to_spoil_the_writes_is_noticed() {
    let one = |_: &str, op: &Op| has(op, "one");
    let cases: Vec<(&str, Vec<Event>)> = vec![
        (
            "twice",
            spoilt(|_, op| *op == sequence(), 16, created("/s/n-0000000000")),
        ),
        ("real-time", spoilt(one, 11, stat(1, 11))),
        (
            "backwards",
            spoilt(
                |who, op| who == "b" && *op == sequence(),
                9,
                created("/s/n-0000000001"),
            ),
        ),
        ("diverged", spoilt(one, 10, stat(1, 9))),
        ("version", spoilt(|_, op| has(op, "two"), 11, stat(1, 11))),
        (
            "version",
            spoilt(|_, op| has(op, "more-3"), 23, stat(9, 23)),
        ),
        (
            "condition",
            spoilt(|_, op| has(op, "more-1"), 21, stat(6, 21)),
        ),
        (
            "sequence",
            spoilt(
                |who, op| who == "b" && *op == sequence(),
                15,
                created("/s/n-0000000000"),
            ),
        ),
        ("after-end", {
            let mut events = good();
            let (_, at) = place(&events, |who, op| {
                who == "d" && matches!(op, Op::Ephemeral { .. })
            });
            let call = What::Call {
                n: 999,
                op: sequence(),
            };
            let answer = What::Return {
                n: 999,
                zxid: 26,
                answer: created("/s/n-0000000002"),
            };
            let t = events[at].t;
            events.insert(
                at + 1,
                Event {
                    t,
                    p: "d".to_owned(),
                    what: call,
                },
            );
            // Its answer was under way for very long.
            let t = events.last().expect("some").t;
            events.push(Event {
                t,
                p: "d".to_owned(),
                what: answer,
            });
            events
        }),
    ];
    for (kind, events) in cases {
        assert!(
            kinds(&events).contains(&kind),
            "{kind}: {:?}",
            judge(&events, SLACK_MS).breaches
        );
    }
}

#[test]
fn a_set_that_is_refused_at_the_version_that_it_names_is_noticed() {
    let events = spoilt(|_, op| has(op, "two"), 11, Answer::BadVersion);
    assert!(
        kinds(&events).contains(&"phantom"),
        "what was refused is read"
    );
    let mut events = good();
    let (call, _) = place(&events, |_, op| has(op, "no"));
    events[call].what = What::Call {
        n: 6,
        op: set("no", 2),
    };
    let Some(What::Return { n, .. }) = events.get(call + 1).map(|event| event.what.clone()) else {
        unreachable!()
    };
    events[call].what = What::Call {
        n,
        op: set("no", 2),
    };
    // Version 3 was written without an answer, so nobody can say; with one, somebody can.
    assert_eq!(kinds(&events), Vec::<&str>::new());
    let maybe = events
        .iter()
        .position(|event| matches!(&event.what, What::Call { op, .. } if has(op, "maybe")));
    let maybe = maybe.expect("there");
    let What::Call { n, .. } = events[maybe].what else {
        unreachable!()
    };
    let t = events[maybe].t;
    events.insert(
        maybe + 1,
        Event {
            t,
            p: "a".to_owned(),
            what: What::Return {
                n,
                zxid: 13,
                answer: stat(3, 13),
            },
        },
    );
    assert_eq!(kinds(&events), ["condition"]);
}

#[test]
fn every_way_to_spoil_the_reads_is_noticed() {
    let lists = |op: &Op| matches!(op, Op::List { .. });
    let cases: Vec<(&str, Vec<Event>)> = vec![
        ("stale", spoilt_get(1, 11, value("one", 1, 10))),
        ("future", spoilt_get(1, 10, value("two", 2, 11))),
        ("phantom", spoilt_get(1, 11, value("three", 2, 11))),
        ("diverged", spoilt_get(1, 11, value("one", 2, 11))),
        (
            "unsynced",
            spoilt_nth(lists, 0, 17, names(&["/e/c1", "/e/c2"])),
        ),
        (
            "ephemeral-stays",
            spoilt_nth(lists, 1, 19, names(&["/e/c1", "/e/d"])),
        ),
        ("torn", spoilt_nth(lists, 0, 18, names(&["/e/c1", "/e/d"]))),
        ("early-expiry", spoilt_nth(lists, 1, 19, names(&[]))),
        (
            "ephemeral-lost",
            spoilt_nth(lists, 0, 18, names(&["/e/c1", "/e/c2"])),
        ),
    ];
    for (kind, events) in cases {
        assert!(
            kinds(&events).contains(&kind),
            "{kind}: {:?}",
            judge(&events, SLACK_MS).breaches
        );
    }
    let mut events = spoilt_nth(lists, 2, 25, names(&["/e/d"]));
    let (call, _) = place(&events, |_, op| has(op, "more-0"));
    for event in &mut events[call..] {
        event.t += 10 * SLACK_MS * MS;
    }
    assert_eq!(kinds(&events), ["late-expiry"]);
}

#[test]
fn every_way_to_spoil_the_watches_is_noticed() {
    let at = |events: &[Event]| {
        events
            .iter()
            .position(|event| matches!(event.what, What::Event { .. }))
            .expect("there")
    };
    let mut lost = good();
    lost.remove(at(&lost));
    assert_eq!(kinds(&lost), ["watch-late"]);
    let mut late = good();
    let place = at(&late);
    let event = late.remove(place);
    late.insert(place + 2, event);
    assert!(kinds(&late).contains(&"watch-late"));
    let mut twice = good();
    twice.insert(at(&twice), twice[at(&twice)].clone());
    assert_eq!(kinds(&twice), ["watch-twice"]);
}

#[test]
fn an_event_without_a_change_is_noticed() {
    let mut story = Story::default();
    for session in ["a", "b"] {
        story.note(session, What::Begin { timeout_ms: 10 });
    }
    story.done("a", set("one", -1), 10, stat(1, 10));
    story.done("b", get(true), 10, value("one", 1, 10));
    story.note(
        "b",
        What::Event {
            path: "/r".to_owned(),
        },
    );
    assert_eq!(kinds(&story.events), ["phantom"]);
}

#[test]
fn every_way_to_spoil_the_end_is_noticed() {
    let other = |found: &str, at: i64, all: bool| {
        let mut events = good();
        for event in &mut events {
            if let What::Final {
                value,
                mzxid,
                member,
                ..
            } = &mut event.what
                && (all || *member == 2)
            {
                *value = found.to_owned();
                *mzxid = at;
            }
        }
        events
    };
    assert!(kinds(&other("more-2", 23, false)).contains(&"diverged"));
    assert_eq!(kinds(&other("more-2", 22, true)), ["lost"]);
}

#[test]
fn an_answer_to_no_call_is_noticed() {
    let mut events = good();
    let (call, _) = place(&events, |_, op| has(op, "more-2"));
    events.remove(call);
    assert!(kinds(&events).contains(&"phantom"));
}
