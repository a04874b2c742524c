//! A controller epoch belongs to one broker.

use std::collections::BTreeMap;

use serde_json::Value;

/// Who was seen to hold the office.
#[derive(Debug, Default)]
pub struct Controllers(BTreeMap<i64, Value>);

impl Controllers {
    /// The office and the epoch, as one member has them at one moment.
    pub fn governs(&mut self, epoch: i64, broker: &Value) {
        let known = self.0.entry(epoch).or_insert_with(|| broker.clone());
        assert_eq!(known, broker, "two controllers have epoch {epoch}");
    }

    /// How many there were.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

#[test]
#[should_panic(expected = "epoch 2")]
fn a_second_controller_is_noticed() {
    let mut controllers = Controllers::default();
    controllers.governs(1, &Value::from(0));
    controllers.governs(2, &Value::from(0));
    controllers.governs(2, &Value::from(1));
}
