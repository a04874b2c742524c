//! The two halves of a node, as this process holds them: from a [`Config`] to what each half takes, and
//! from what each half tells to what the HTTP pages show.
//!
//! The halves do not know each other. A broker reaches its coordinator as it would reach any ZooKeeper:
//! over TCP, by `zookeeper.connect`.

use std::sync::{Arc, OnceLock};

use crate::broker::status::BrokerStatus;
use crate::common::clock::Clock;
use crate::common::disk::Disk;
use crate::common::disk::real::RealDisk;
use crate::common::rng::Rng;
use crate::common::tasks::Tasks;
use crate::config::Config;
use crate::http::{CoordinatorView, Sources};

use super::process;

/// What all nodes of this process share.
#[derive(Clone, Debug)]
pub struct World {
    /// The file system.
    pub disk: Arc<dyn Disk>,
    /// The time.
    pub clock: Clock,
    /// Randomness.
    pub rng: Rng,
    /// The halves' tasks are children of these.
    pub tasks: Tasks,
}

impl World {
    /// The real one.
    pub fn real(tasks: Tasks) -> World {
        World {
            disk: Arc::new(RealDisk),
            clock: Clock::real(),
            rng: Rng::from_os(),
            tasks,
        }
    }
}

/// A coordinator that runs here; what is read of it is read through these.
#[derive(Default)]
struct CoordinatorCell {
    view: OnceLock<Arc<dyn Fn() -> CoordinatorView + Send + Sync>>,
    word: OnceLock<Arc<crate::http::Word>>,
}

/// One node.
pub struct Halves {
    /// Its configuration.
    pub config: Arc<Config>,
    coordinator: Arc<CoordinatorCell>,
    broker: Arc<OnceLock<Arc<dyn Fn() -> BrokerStatus + Send + Sync>>>,
}

impl Halves {
    /// A node of which nothing runs yet.
    pub fn new(config: Arc<Config>) -> Halves {
        Halves {
            config,
            coordinator: Arc::default(),
            broker: Arc::default(),
        }
    }

    /// Where the HTTP pages read. A half that has not started answers with nothing but zeros, which reads
    /// as "waits for everything".
    pub fn sources(&self) -> Sources {
        let mut sources = Sources {
            process: Some(Arc::new(process::figures)),
            ..Sources::default()
        };
        if self.config.roles.coordinator {
            let (cell, members) = (self.coordinator.clone(), self.config.members.len().max(1));
            sources.coordinator = Some(Arc::new(move || match cell.view.get() {
                Some(view) => view(),
                None => CoordinatorView {
                    members,
                    ..CoordinatorView::default()
                },
            }));
            let cell = self.coordinator.clone();
            sources.word = Some(Arc::new(move |word| cell.word.get()?(word)));
        }
        if self.config.roles.broker {
            let (cell, id) = (self.broker.clone(), self.config.broker_id);
            sources.broker = Some(Arc::new(move || match cell.get() {
                Some(status) => status(),
                None => BrokerStatus {
                    id,
                    ..BrokerStatus::default()
                },
            }));
        }
        sources
    }

    /// Starts the coordinator, if this node has one.
    pub async fn start_coordinator(&self, _world: &World) -> Result<(), String> {
        if self.config.roles.coordinator {
            return Err("the coordinator is not part of this build yet".to_owned());
        }
        Ok(())
    }

    /// Starts the broker, if this node has one, and says whether it does.
    pub async fn start_broker(&self, _world: &World) -> Result<bool, String> {
        if self.config.roles.broker {
            return Err("the broker is not part of this build yet".to_owned());
        }
        Ok(false)
    }

    /// Stops the broker, leaderships first.
    pub async fn stop_broker(&self) {}

    /// Stops the coordinator.
    pub async fn stop_coordinator(&self) {}
}

/// What the world waits for on standard output when a broker can be used: test libraries search for
/// these texts, in every log format.
pub fn ready_lines(config: &Config) -> Vec<String> {
    let texts = [
        format!("[KafkaServer id={}] started", config.broker_id),
        "Kafka Server started".to_owned(),
        "Transitioning from RECOVERY to RUNNING".to_owned(),
    ];
    let json = config.log.format == "json";
    texts
        .into_iter()
        .map(|text| {
            if json {
                serde_json::json!({"level": "INFO", "message": text}).to_string()
            } else {
                text
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_lines_hold_what_test_libraries_search_in_both_formats() {
        let mut config = Config::defaults();
        for format in ["text", "json"] {
            config.log.format = format.to_owned();
            let lines = ready_lines(&config).join("\n");
            for text in [
                "[KafkaServer id=1] started",
                "Kafka Server started",
                "Transitioning from RECOVERY to RUNNING",
            ] {
                assert!(lines.contains(text), "{lines}");
            }
        }
    }

    #[test]
    fn halves_that_do_not_run_yet_say_so() {
        let halves = Halves::new(Arc::new(Config::defaults()));
        let waits = crate::http::health::waits_for(&halves.sources());
        assert_eq!(
            waits,
            [
                "the coordinator sees no leader: a quorum is 1 of 1 members",
                "the broker has no ZooKeeper session",
            ]
        );
    }
}
