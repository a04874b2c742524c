//! Configuration files and variables: any text ends in a value or in a report.

use std::sync::Arc;

use tripod::config::raw::Values;
use tripod::config::{env, properties, resolve, yaml, zoo_cfg};

use super::Fuzz;

const SAMPLES: &[&str] = &[
    "node:\n  roles: [coordinator, broker]\nbroker:\n  num.partitions: 3\n",
    "broker.id=0\nlisteners=PLAINTEXT://node1:9092\nlog.dirs=/tmp/a,/tmp/b\nzookeeper.connect=node1:2181/chroot\n",
    "tickTime=2000\ninitLimit=10\ndataDir=/tmp/zk\nclientPort=2181\nserver.1=node1:2888:3888\n",
];

#[test]
fn any_text_ends_in_a_value_or_a_report() {
    let fuzz = Fuzz::new("configuration");
    let file: Arc<str> = "fuzz".into();
    for _ in 0..fuzz.rounds / 4 {
        let mut bytes = SAMPLES[fuzz.rng.below(3) as usize].as_bytes().to_vec();
        fuzz.mutate(&mut bytes);
        let text = String::from_utf8_lossy(&bytes);
        let mut values = Values::default();
        let (said, problems) = yaml::parse(&file, &text);
        for said in said {
            resolve::say(&mut values, said);
        }
        values.problems.extend(problems);
        properties::parse(&text);
        resolve::server_properties(&file, &text, &mut values);
        zoo_cfg::read(&file, &text, &mut values);
        let name = format!("KAFKA_{}", String::from_utf8_lossy(&fuzz.bytes(12)));
        env::read(&[(name, text.into_owned())], &mut values);
        resolve::resolve(&mut values, &resolve::Facts::default());
    }
}
