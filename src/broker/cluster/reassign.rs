//! Moving replicas on request: checked in Kafka's words, and written into the topic's znode. The controller
//! does the rest.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;

use super::{ATTEMPTS_MAX, Cluster, Refusal};
use crate::broker::controller::decide::{self, Write, reassign};
use crate::broker::image::znode;
use crate::broker::image::{Image, TopicImage};
use crate::client::zookeeper::Op;
use crate::common::ids::{BrokerId, TopicPartition};
use crate::zookeeper::error::ErrorCode;

/// Where the replicas of one partition shall be; none ends what is being done.
pub type Wish = (i32, Option<Vec<BrokerId>>);

impl Cluster {
    /// Begins, replaces or cancels moves of one topic's partitions. They are on their way when this
    /// returns.
    pub async fn reassign(&self, topic: &str, wishes: &[Wish]) -> Vec<Result<(), Refusal>> {
        for _ in 0..ATTEMPTS_MAX {
            let image = self.image.load();
            let (results, ops) = planned(&image, topic, wishes);
            if ops.is_empty() {
                return results;
            }
            match self.zookeeper.multi(ops).await {
                Ok(_) => {
                    self.settle().await;
                    return results;
                }
                // The controller or a leader wrote the same nodes.
                Err(refused)
                    if refused.error.is(ErrorCode::BadVersion)
                        || refused.error.is(ErrorCode::NoNode) =>
                {
                    self.settle().await;
                }
                Err(refused) => {
                    let refusal = Refusal::from(refused.error);
                    let failed = results.into_iter();
                    return failed
                        .map(|result| result.and(Err(refusal.clone())))
                        .collect();
                }
            }
        }
        let late = || Err(ResponseError::RequestTimedOut.into());
        wishes.iter().map(|_| late()).collect()
    }
}

/// What each wish gets for an answer, and the one multi that grants those that can be granted.
fn planned(image: &Image, name: &str, wishes: &[Wish]) -> (Vec<Result<(), Refusal>>, Vec<Op>) {
    let unknown = || {
        let message = "The partition does not exist.";
        Refusal::because(ResponseError::UnknownTopicOrPartition, message)
    };
    let topic = image.topics.get(name);
    let Some(topic) = topic.filter(|topic| !image.deleting.contains(&topic.name)) else {
        return (wishes.iter().map(|_| Err(unknown())).collect(), Vec::new());
    };
    let mut next = TopicImage::clone(topic);
    let mut states = BTreeMap::new();
    let mut granted = Vec::new();
    let results = wishes
        .iter()
        .map(|(index, wanted)| {
            let partition = next.partitions.get_mut(index).ok_or_else(unknown)?;
            let step = match wanted {
                Some(wanted) => {
                    if let Some(reason) = reassign::refusal(image, partition, wanted) {
                        let error = ResponseError::InvalidReplicaAssignment;
                        return Err(Refusal::because(error, reason));
                    }
                    reassign::begin(image, partition, wanted)
                }
                None => reassign::cancel(image, partition)
                    .ok_or(ResponseError::NoReassignmentInProgress)?,
            };
            *partition = step.0;
            states.extend(step.1.map(|state| (*index, state)));
            granted.push(TopicPartition::new(topic.name.clone(), *index));
            Ok(())
        })
        .collect();
    (results, writes(image, topic, &next, states, &granted))
}

fn writes(
    image: &Image,
    topic: &Arc<TopicImage>,
    next: &TopicImage,
    states: BTreeMap<i32, crate::broker::image::PartitionState>,
    granted: &[TopicPartition],
) -> Vec<Op> {
    let mut writes = Vec::new();
    if next != &**topic {
        let mut znode = decide::topic_znode(next, topic.id);
        znode.id = znode.id.filter(|id| !id.is_nil());
        writes.push(Write::Set {
            path: znode::topic_path(&topic.name),
            data: znode.encode(),
            version: topic.version,
        });
    }
    for (index, state) in states {
        writes.push(Write::Set {
            path: znode::state_path(&topic.name, index),
            data: znode::encode_state(&state),
            version: state.version,
        });
    }
    // The latest wish counts: an older one of the znode is struck out, as in Kafka.
    if let Some(wishes) = &image.reassignment {
        let mut left = wishes.partitions.clone();
        left.retain(|(id, _)| !granted.contains(id));
        if left.len() != wishes.partitions.len() {
            writes.push(decide::reassignment(&left, wishes.version));
        }
    }
    writes.into_iter().map(Op::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::image::Reassignment;
    use crate::broker::testing;

    #[test]
    fn each_partition_gets_its_own_answer_and_all_go_in_one_write() {
        let mut image = testing::image(vec![testing::topic("t", 3, 1)]);
        for id in [2, 3] {
            let mut other = image.brokers[&BrokerId(1)].clone();
            other.id = BrokerId(id);
            image.brokers.insert(other.id, other);
        }
        let older = |index| (TopicPartition::new("t", index), vec![BrokerId(3)]);
        image.reassignment = Some(Reassignment {
            partitions: vec![older(0), older(2)],
            version: 8,
        });
        let to = |id| Some(vec![BrokerId(id)]);
        let wishes = [(0, to(2)), (1, None), (9, to(2)), (2, to(7)), (1, to(1))];
        let (results, ops) = planned(&image, "t", &wishes);
        let codes: Vec<i16> = results
            .iter()
            .map(|result| {
                result
                    .as_ref()
                    .err()
                    .map_or(0, |refusal| refusal.error.code())
            })
            .collect();
        assert_eq!(codes, [0, 85, 3, 39, 0]);
        let texts: Vec<String> = ops
            .iter()
            .map(|op| match op {
                Op::Set {
                    path,
                    data,
                    version,
                } => {
                    format!("{path}@{version} {}", String::from_utf8_lossy(data))
                }
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(texts.len(), 2);
        assert!(
            texts[0].contains(r#""partitions":{"0":[2,1],"1":[1],"2":[1]}"#),
            "{texts:?}"
        );
        assert!(texts[0].contains(r#""adding_replicas":{"0":[2]},"removing_replicas":{"0":[1]}"#));
        assert_eq!(
            texts[1],
            r#"/admin/reassign_partitions@8 {"version":1,"partitions":[{"topic":"t","partition":2,"replicas":[3]}]}"#
        );
        let (results, ops) = planned(&image, "none", &wishes[..1]);
        assert_eq!(
            results[0].as_ref().unwrap_err().error,
            ResponseError::UnknownTopicOrPartition
        );
        assert!(ops.is_empty());
    }
}
