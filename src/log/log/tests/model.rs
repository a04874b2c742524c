//! The log against a list: any sequence of operations gives the same answers.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Op {
    Append(usize, i64),
    Truncate(u64),
    DeleteBefore(u64),
    Retain,
    Roll,
    Reopen(bool),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (1..6usize, 0..500i64).prop_map(|(count, time)| Op::Append(count, time)),
        1 => any::<u64>().prop_map(Op::Truncate),
        1 => any::<u64>().prop_map(Op::DeleteBefore),
        1 => Just(Op::Retain),
        1 => Just(Op::Roll),
        1 => any::<bool>().prop_map(Op::Reopen),
    ]
}

/// What must be there: records from `start` on, with values that never repeat.
#[derive(Default)]
struct Model {
    start: i64,
    records: Vec<(String, i64)>,
    serial: usize,
}

impl Model {
    fn end(&self) -> i64 {
        self.start + self.records.len() as i64
    }
}

fn apply(world: &World, mut log: Log, model: &mut Model, op: &Op) -> Log {
    match op {
        Op::Append(count, time) => {
            let names: Vec<String> = (0..*count)
                .map(|at| format!("{}", model.serial + at))
                .collect();
            let refs: Vec<&str> = names.iter().map(String::as_str).collect();
            let appended = put(&log, &refs, NOW + time);
            assert_eq!(appended.first_offset, Offset(model.end()));
            model.serial += count;
            for (at, name) in names.into_iter().enumerate() {
                model.records.push((name, NOW + time + at as i64));
            }
        }
        Op::Truncate(at) => {
            // Only where a batch begins: what a batch holds goes as one.
            let offset = model.start + (at % (model.records.len() as u64 + 1)) as i64;
            let before = log.log_end_offset();
            let region = log.read(Offset(offset), 1, before, true).expect("reads");
            let base = region.map_or(offset, |region| {
                let bytes = region.read().expect("bytes");
                Batch::parse(&bytes).expect("whole").header().base_offset.0
            });
            let base = base.max(model.start);
            log.truncate_to(Offset(base)).expect("cuts");
            model.records.truncate((base - model.start) as usize);
        }
        Op::DeleteBefore(at) => {
            let offset = model.start + (at % (model.records.len() as u64 + 1)) as i64;
            log.delete_records_before(Offset(offset), log.log_end_offset())
                .expect("deletes");
            model.records.drain(..(offset - model.start) as usize);
            model.start = offset;
        }
        Op::Retain => {
            log.apply_retention(NOW, log.log_end_offset())
                .expect("retains");
            let start = log.log_start_offset().0;
            assert_eq!(start, model.start, "only what was deleted before goes");
        }
        Op::Roll => log.roll().expect("rolls"),
        Op::Reopen(clean) => {
            if *clean {
                log.close().expect("closes");
            }
            let start = Start {
                recovery_point: log.recovery_point(),
                log_start_offset: log.log_start_offset(),
                clean: *clean,
            };
            drop(log);
            log = world.open(small(), start);
        }
    }
    log
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_history_gives_the_answers_of_a_list(ops in prop::collection::vec(op(), 1..60)) {
        let world = World::new();
        let mut model = Model::default();
        let mut log = world.open(small(), CLEAN);
        for op in &ops {
            log = apply(&world, log, &mut model, op);
            prop_assert_eq!(log.log_start_offset(), Offset(model.start));
            prop_assert_eq!(log.log_end_offset(), Offset(model.end()));
        }
        let all = read_all(&log, Offset(model.start));
        let expected: Vec<&String> = model.records.iter().map(|(value, _)| value).collect();
        prop_assert!(values(&all).iter().eq(expected));
        for time in [0i64, 1, 100, 250, 400, 503, 600] {
            let found = log.offset_for_timestamp(NOW + time).expect("reads");
            let first = model.records.iter().position(|(_, timestamp)| *timestamp >= NOW + time);
            prop_assert_eq!(
                found.map(|found| found.offset),
                first.map(|at| Offset(model.start + at as i64))
            );
        }
        let max = model.records.iter().map(|(_, timestamp)| *timestamp).max();
        prop_assert_eq!(log.max_timestamp().expect("reads").map(|found| found.timestamp), max);
    }
}
