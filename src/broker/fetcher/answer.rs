//! What becomes of a leader's answer: records into logs, cuts, pauses.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{FetchResponse, ListOffsetsRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use tracing::{debug, error, warn};

use super::session::Asked;
use super::task::Task;
use crate::broker::partition::{FollowError, Sent, Truncation};
use crate::client::ClientError;
use crate::common::ids::{LeaderEpoch, Offset, TopicPartition};
use crate::common::tasks;

/// ListOffsets: the end of the log, and its beginning.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;

/// The leader's log took another way than ours.
fn diverging(data: &PartitionData) -> Option<Truncation> {
    let theirs = &data.diverging_epoch;
    let told = data.error_code == 0 && (theirs.end_offset >= 0 || theirs.epoch >= 0);
    let why = Truncation::Diverging(LeaderEpoch(theirs.epoch), Offset(theirs.end_offset));
    told.then_some(why)
}

impl Task {
    pub(super) async fn take_topics(&mut self, response: FetchResponse) {
        if !self.keep_cuts().await {
            tokio::time::sleep(self.backoff()).await;
            return;
        }
        let image = self.deps.image.load();
        let mut taken = Vec::new();
        for topic in response.responses {
            let name = if topic.topic_id.is_nil() {
                Some(Arc::from(topic.topic.as_str()))
            } else {
                image.topic_names.get(&topic.topic_id).cloned()
            };
            // Of what is not followed any more nothing is taken.
            let Some(name) = name else { continue };
            for data in topic.partitions {
                let id = TopicPartition::new(name.clone(), data.partition_index);
                taken.push((id, data));
            }
        }
        self.announce_cuts(&taken).await;
        for (id, data) in taken {
            self.take_partition(&id, data).await;
        }
        self.keep_cuts().await;
    }

    /// Has the checkpoints know of all cuts of this answer before the first is made, so that a process that
    /// dies in between leaves none that speak of more than there is.
    async fn announce_cuts(&mut self, taken: &[(TopicPartition, PartitionData)]) {
        let mut cuts = Vec::new();
        for (id, data) in taken {
            let asked = self.session.asked(id).map(|asked| asked.epoch);
            let one = self.followed.get(id);
            if let (Some(why), Some(one)) = (diverging(data), one)
                && asked.is_some_and(|epoch| one.partition.following() == Some(epoch))
            {
                cuts.push((one.partition.log(), one.partition.cut(why)));
            }
        }
        self.cut = cuts.iter().map(|(log, _)| log.clone()).collect();
        for (log, cut) in cuts {
            // The cut itself tells what is wrong.
            let _ = log.announce_cut(cut);
        }
        self.keep_cuts().await;
    }

    /// Has the checkpoints know what was cut. Says whether they do: if not, nothing may be appended.
    async fn keep_cuts(&mut self) -> bool {
        if self.cut.is_empty() {
            return true;
        }
        let (dirs, logs) = (self.deps.dirs.clone(), self.cut.clone());
        let kept = tasks::blocking(move || dirs.keep_cuts(&logs)).await;
        match kept {
            Ok(()) => self.cut.clear(),
            Err(error) => warn!(%error, "cuts are not in the checkpoints yet"),
        }
        self.cut.is_empty()
    }

    async fn take_partition(&mut self, id: &TopicPartition, data: PartitionData) {
        let Some(asked) = self.session.asked(id).copied() else {
            return;
        };
        let Some(one) = self.followed.get_mut(id) else {
            return;
        };
        // The same name may be another topic's by now.
        if one.asked.topic_id != asked.topic_id {
            return;
        }
        if one.asked.epoch != asked.epoch {
            // It follows under a newer epoch already.
            return;
        }
        one.caught_up = false;
        let taken = match ResponseError::try_from_code(data.error_code) {
            None if let Some(why) = diverging(&data) => self.truncate(id, &asked, why).await,
            None => {
                let sent = Sent {
                    records: data.records.unwrap_or_default(),
                    high_watermark: Offset(data.high_watermark),
                    log_start_offset: Offset(data.log_start_offset),
                };
                let taken = one.partition.follow(asked.epoch, asked.offset, sent);
                let end = one.partition.log_end_offset();
                one.caught_up = taken.is_ok() && end.0 >= data.high_watermark;
                let throttled = one.partition.role().throttled_as_follower;
                taken.map(|bytes| {
                    self.deps.metrics.replication_bytes_in.add(bytes as u64);
                    if throttled && bytes > 0 {
                        let now_ms = self.deps.world.clock.monotonic_ms();
                        self.deps.throttles.follower.record(now_ms, bytes as u64);
                    }
                    true
                })
            }
            Some(ResponseError::OffsetOutOfRange) => match self.out_of_range(id, &asked).await {
                Ok(why) => match why {
                    Some(why) => self.truncate(id, &asked, why).await,
                    None => Ok(false),
                },
                Err(error) => {
                    debug!(partition = %id, %error, "the leader does not say where its log is");
                    Ok(false)
                }
            },
            Some(error) => {
                debug!(partition = %id, leader = %self.place.0, ?error, "not fetched");
                Ok(false)
            }
        };
        self.settle(id, taken);
    }

    /// `Ok(true)` is progress; `Ok(false)` is nothing that may be tried again at once.
    fn settle(&mut self, id: &TopicPartition, taken: Result<bool, FollowError>) {
        let backoff = self.backoff();
        self.touched.insert(id.clone());
        let Some(one) = self.followed.get_mut(id) else {
            return;
        };
        one.refresh();
        match taken {
            Ok(true) => one.goes_well(),
            Ok(false) | Err(FollowError::Outdated) => one.pause(backoff),
            Err(FollowError::Storage(failure)) if one.partition.log().takes_writes() => {
                // A full disk, or no descriptors: that may pass.
                one.pause(backoff);
                one.partition
                    .tell_failure(&*failure, "its log takes nothing for now");
            }
            Err(FollowError::Storage(failure)) => {
                one.failed = true;
                error!(
                    partition = %id, error = &*failure as &dyn std::error::Error,
                    "its log takes no more: it is followed no more"
                );
            }
            Err(FollowError::Unfit(reason)) => {
                one.pause(backoff);
                warn!(
                    partition = %id, leader = %self.place.0,
                    error = &*reason as &dyn std::error::Error, "records that cannot be taken"
                );
            }
        }
    }

    async fn truncate(
        &mut self,
        id: &TopicPartition,
        asked: &Asked,
        why: Truncation,
    ) -> Result<bool, FollowError> {
        let Some(one) = self.followed.get(id) else {
            return Ok(false);
        };
        let (partition, epoch) = (one.partition.clone(), asked.epoch);
        self.cut.push(partition.log());
        tasks::blocking(move || partition.truncate(epoch, why)).await
    }

    /// The leader's log does not have what was asked for: where does it begin and end?
    async fn out_of_range(
        &mut self,
        id: &TopicPartition,
        asked: &Asked,
    ) -> Result<Option<Truncation>, ClientError> {
        let end = self.list_offset(id, asked, LATEST).await?;
        if end < asked.offset {
            warn!(
                partition = %id, leader_end = %end, ours = %asked.offset,
                "the leader's log ends before ours"
            );
            return Ok(Some(Truncation::Behind(end)));
        }
        let start = self.list_offset(id, asked, EARLIEST).await?;
        Ok((start > asked.offset).then_some(Truncation::Restart(start)))
    }

    async fn list_offset(
        &self,
        id: &TopicPartition,
        asked: &Asked,
        timestamp: i64,
    ) -> Result<Offset, ClientError> {
        let unanswered = || ClientError::Answer {
            error: ResponseError::UnknownServerError,
            message: None,
        };
        let connection = self.connection.as_ref().ok_or_else(unanswered)?;
        let partition = ListOffsetsPartition::default()
            .with_partition_index(id.partition)
            .with_current_leader_epoch(asked.epoch.0)
            .with_timestamp(timestamp);
        let topic = ListOffsetsTopic::default()
            .with_name(TopicName(StrBytes::from_string(id.topic.to_string())))
            .with_partitions(vec![partition]);
        let request = ListOffsetsRequest::default()
            .with_replica_id(self.deps.id.0.into())
            .with_topics(vec![topic]);
        let response = connection.send(&request).await?;
        let mut topics = response.topics.into_iter();
        let answer = topics.next().and_then(|mut topic| topic.partitions.pop());
        let answer = answer.ok_or_else(unanswered)?;
        ClientError::check(answer.error_code, None)?;
        Ok(Offset(answer.offset))
    }
}
