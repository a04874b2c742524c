//! `kafka-consumer-groups`: deletes groups and their offsets, and sets offsets anew.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;

use super::consumer_groups::{Failure, SCENARIOS, print_error};
use super::java_args::Options;
use super::java_text::{hash_order, immutable_order, partition_hash, scala_order, string_hash};
use super::print::{Throwable, err, exception, exception_class, out, throwable};
use super::tool_log;
use crate::client::admin::{Admin, OffsetSpec};
use crate::client::cluster::Wanted;
use crate::client::{ClientError, World};
use crate::common::ids::TopicPartition;

const LOGGER: &str = "kafka.admin.ConsumerGroupCommand$";

/// `--delete`: says of each group what became of it.
pub(super) async fn delete(admin: &Admin, ids: Vec<String>) {
    let mut deleted = Vec::new();
    let mut refused = Vec::new();
    for id in scala_order(ids, |id| string_hash(id)) {
        match admin.delete_group(&id).await {
            Ok(()) => deleted.push(format!("'{id}'")),
            Err(error) => refused.push((id, error)),
        }
    }
    let deleted = deleted.join(", ");
    if refused.is_empty() {
        out!("Deletion of requested consumer groups ({deleted}) was successful.");
        return;
    }
    print_error("Deletion of some consumer groups failed:");
    for (id, error) in refused {
        let why = Throwable::of_future(throwable(&error)).text;
        out!("* Group '{id}' could not be deleted due to: {why}");
    }
    if !deleted.is_empty() {
        out!("\nThese consumer groups were deleted successfully: {deleted}");
    }
}

/// `--delete-offsets`.
pub(super) async fn delete_offsets(admin: &Admin, options: &Options) -> Result<(), Failure> {
    let group = options.value("group")?.unwrap_or_default();
    let topics = options.values("topic");
    let mut results: BTreeMap<(String, i32), Option<String>> = BTreeMap::new();
    let mut partitions = Vec::new();
    for topic in topics {
        if topic.contains(':') {
            partitions.extend(with_partitions(topic)?);
            continue;
        }
        match all_partitions(admin, topic).await {
            Ok(found) => partitions.extend(found),
            Err(error) => {
                results.insert((topic.clone(), -1), Some(exception(&error)));
            }
        }
    }
    let mut whole = None;
    match admin.delete_group_offsets(group, &partitions).await {
        Ok(outcome) => {
            for partition in &partitions {
                let error = outcome
                    .get(partition)
                    .and_then(|result| result.as_ref().err());
                whole = whole.or(error.and_then(ClientError::code));
                let key = (partition.topic.to_string(), partition.partition);
                results.insert(key, error.map(exception));
            }
        }
        Err(error) => {
            whole = Some(error.code().unwrap_or(ResponseError::UnknownServerError));
            for partition in &partitions {
                let key = (partition.topic.to_string(), partition.partition);
                results.insert(key, Some(exception(&error)));
            }
        }
    }
    tell_of_whole(whole, group, topics);
    out!("\n{:<30} {:<15} {:<15}", "TOPIC", "PARTITION", "STATUS");
    let mut results: Vec<_> = results.into_iter().collect();
    results.sort_by_key(|((topic, partition), _)| format!("{topic}{partition}"));
    for ((topic, partition), error) in results {
        let partition = match partition {
            0.. => partition.to_string(),
            _ => "Not Provided".to_owned(),
        };
        let status = match error {
            Some(error) => format!("Error: {error}"),
            None => "Successful".to_owned(),
        };
        out!("{topic:<30} {partition:<15} {status:<15}");
    }
    Ok(())
}

fn tell_of_whole(error: Option<ResponseError>, group: &str, topics: &[String]) {
    match error {
        None => out!(
            "Request succeed for deleting offsets with topic {} group {group}",
            topics.join(", ")
        ),
        Some(ResponseError::InvalidGroupId) => print_error(&format!("'{group}' is not valid.")),
        Some(ResponseError::GroupIdNotFound) => {
            print_error(&format!("'{group}' does not exist."));
        }
        Some(ResponseError::GroupAuthorizationFailed) => {
            print_error(&format!("Access to '{group}' is not authorized."));
        }
        Some(ResponseError::NonEmptyGroup) => print_error(&format!(
            "Deleting offsets of a consumer group '{group}' is forbidden if the group is not empty."
        )),
        Some(
            ResponseError::GroupSubscribedToTopic
            | ResponseError::TopicAuthorizationFailed
            | ResponseError::UnknownTopicOrPartition,
        ) => print_error("Encounter some partition level error, see the follow-up details:"),
        Some(other) => print_error(&format!(
            "Encounter some unknown error: {}",
            exception_class(other)
        )),
    }
}

/// `topic:0,1,2`
fn with_partitions(text: &str) -> Result<Vec<TopicPartition>, Failure> {
    let parts: Vec<&str> = text.split(':').collect();
    let [topic, partitions] = parts[..] else {
        return Err(Failure::Usage(format!(
            "Invalid topic arg '{text}', expected topic name and partitions"
        )));
    };
    let number = |partition: &str| {
        let wrong = || Failure::Usage(format!("For input string: \"{partition}\""));
        let parsed = partition.parse().map_err(|_| wrong())?;
        Ok(TopicPartition::new(topic, parsed))
    };
    partitions.split(',').map(number).collect()
}

async fn all_partitions(admin: &Admin, topic: &str) -> Result<Vec<TopicPartition>, ClientError> {
    let names = [topic.to_owned()];
    let metadata = admin.metadata(Wanted::Named(&names, false)).await?;
    let unknown = ClientError::Answer {
        error: ResponseError::UnknownTopicOrPartition,
        message: None,
    };
    let found = metadata.topics.get(topic).ok_or(unknown)?;
    ClientError::check(found.error_code, None)?;
    let partitions = found.partitions.iter();
    Ok(partitions
        .map(|partition| TopicPartition::new(topic, partition.index))
        .collect())
}

/// New offsets of one group, in the order in which they are told.
type Prepared = Vec<(TopicPartition, i64)>;

/// `--reset-offsets`.
pub(super) async fn reset(
    world: &World,
    admin: &Admin,
    options: &Options,
    ids: Vec<String>,
) -> Result<(), Failure> {
    let single = options.values("group").len() == 1;
    let reset = Reset {
        world,
        admin,
        options,
    };
    let mut all = Vec::new();
    // The admin client's futures: a set and a map of the usual size, then a copy as large as it must be.
    let copied = ids.len() * 4 / 3 + 1;
    let ids = hash_order(ids, 16, |id| id);
    for id in hash_order(ids, copied, |id| id) {
        let group = admin.describe_group(&id).await?;
        let mut prepared = Vec::new();
        if matches!(group.state.as_str(), "Empty" | "Dead") {
            let partitions = reset.partitions(&id).await?;
            prepared = reset.prepare(&id, partitions).await?;
            if options.has("execute") {
                let offsets = prepared.iter().cloned().collect();
                admin.alter_group_offsets(&id, &offsets).await?;
            }
        } else {
            print_error(&format!(
                "Assignments can only be reset if the group '{id}' is inactive, but the current state is {}.",
                group.state
            ));
        }
        all.push((id, prepared));
    }
    let all = immutable_order(all, |(id, _)| string_hash(id));
    if options.has("export") {
        let mut text = String::new();
        for (id, prepared) in &all {
            for (partition, offset) in prepared {
                let (topic, partition) = (&partition.topic, partition.partition);
                if !single {
                    text.push_str(&format!("{},", quoted(id)));
                }
                text.push_str(&format!("{topic},{partition},{offset}\n"));
            }
        }
        out!("{text}");
        return Ok(());
    }
    let row = |group: &str, topic: &str, partition: &str, offset: &str| {
        format!("{group:<30} {topic:<30} {partition:<10} {offset:<15}")
    };
    if !all.is_empty() {
        out!("\n{}", row("GROUP", "TOPIC", "PARTITION", "NEW-OFFSET"));
    }
    for (id, prepared) in &all {
        for (partition, offset) in prepared {
            let number = partition.partition.to_string();
            let line = row(id, &partition.topic, &number, &offset.to_string());
            out!("{line}");
        }
    }
    Ok(())
}

/// A cell of a CSV file.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

struct Reset<'a> {
    world: &'a World,
    admin: &'a Admin,
    options: &'a Options,
}

impl Reset<'_> {
    async fn committed(&self, group: &str) -> Result<BTreeMap<TopicPartition, i64>, Failure> {
        let found = self.admin.group_offsets(group, None).await?;
        let found = found.into_iter();
        Ok(found
            .map(|(id, committed)| (id, committed.offset))
            .collect())
    }

    /// The scope: `--all-topics`, `--topic`, or what a file says.
    async fn partitions(&self, group: &str) -> Result<Vec<TopicPartition>, Failure> {
        if self.options.has("all-topics") {
            let committed = self.committed(group).await?;
            return Ok(scala_order(committed.into_keys().collect(), partition_hash));
        }
        let (listed, whole): (Vec<String>, Vec<String>) = self
            .options
            .values("topic")
            .iter()
            .cloned()
            .partition(|topic| topic.contains(':'));
        if listed.is_empty() && whole.is_empty() && !self.options.has("from-file") {
            return Err(Failure::Usage(
                "One of the reset scopes should be defined: --all-topics, --topic.".to_owned(),
            ));
        }
        let mut partitions = Vec::new();
        for topic in listed {
            partitions.extend(with_partitions(&topic)?);
        }
        let count = whole.len();
        for topic in hash_order(whole, count, |topic| topic) {
            partitions.extend(all_partitions(self.admin, &topic).await?);
        }
        Ok(partitions)
    }

    async fn prepare(
        &self,
        group: &str,
        partitions: Vec<TopicPartition>,
    ) -> Result<Prepared, Failure> {
        let scenario = SCENARIOS.into_iter().find(|name| self.options.has(name));
        let prepared = match scenario {
            Some("to-offset") => {
                let offset = self.options.parsed("to-offset")?.unwrap_or_default();
                let wanted = partitions.into_iter().map(|id| (id, offset));
                self.in_range(wanted.collect()).await?
            }
            Some("to-earliest") => self.listed(partitions, OffsetSpec::Earliest).await?,
            Some("to-latest") => self.listed(partitions, OffsetSpec::Latest).await?,
            Some("shift-by") => self.shifted(group, partitions).await?,
            Some("to-datetime") => {
                let text = self.options.value("to-datetime")?.unwrap_or_default();
                let at_ms = date_time(text).map_err(parse_exception)?;
                self.at(partitions, at_ms).await?
            }
            Some("by-duration") => {
                let text = self.options.value("by-duration")?.unwrap_or_default();
                let ms = duration_ms(text).ok_or_else(|| {
                    let message = "Text cannot be parsed to a Duration";
                    let class = "java.time.format.DateTimeParseException";
                    Failure::Thrown(message.to_owned(), Throwable::new(class, message))
                })?;
                let at_ms = self.world.clock.wall_ms().saturating_sub(ms);
                self.at(partitions, at_ms).await?
            }
            Some("from-file") => self.planned(group).await?,
            Some("to-current") => self.current(group, partitions).await?,
            _ => {
                return Err(Failure::Usage(format!(
                    "Option '[reset-offsets]' requires one of the following scenarios: HashSet({ALL_SCENARIOS})"
                )));
            }
        };
        Ok(immutable_order(prepared, |(id, _)| partition_hash(id)))
    }

    async fn listed(
        &self,
        partitions: Vec<TopicPartition>,
        spec: OffsetSpec,
    ) -> Result<Prepared, Failure> {
        let wanted = partitions.iter().map(|id| (id.clone(), spec)).collect();
        let mut found = self.admin.list_offsets(&wanted, false).await?;
        let mut prepared = Vec::new();
        for partition in partitions {
            if let Some(listed) = found.remove(&partition) {
                prepared.push((partition, listed?.offset));
            }
        }
        Ok(prepared)
    }

    /// Where records of that time or later begin; the end where there are none.
    async fn at(&self, partitions: Vec<TopicPartition>, ms: i64) -> Result<Prepared, Failure> {
        let mut prepared = self.listed(partitions, OffsetSpec::Timestamp(ms)).await?;
        for (partition, offset) in &mut prepared {
            if *offset < 0 {
                let end = self
                    .listed(vec![partition.clone()], OffsetSpec::Latest)
                    .await?;
                *offset = end.first().map_or(*offset, |(_, end)| *end);
            }
        }
        Ok(prepared)
    }

    async fn shifted(
        &self,
        group: &str,
        partitions: Vec<TopicPartition>,
    ) -> Result<Prepared, Failure> {
        let committed = self.committed(group).await?;
        let by: i64 = self.options.parsed("shift-by")?.unwrap_or_default();
        let mut wanted = Vec::new();
        for partition in partitions {
            let Some(offset) = committed.get(&partition) else {
                return Err(Failure::Usage(format!(
                    "Cannot shift offset for partition {partition} since there is no current committed offset"
                )));
            };
            wanted.push((partition, offset.saturating_add(by)));
        }
        self.in_range(wanted).await
    }

    async fn current(
        &self,
        group: &str,
        partitions: Vec<TopicPartition>,
    ) -> Result<Prepared, Failure> {
        let committed = self.committed(group).await?;
        let (with, without): (Vec<_>, Vec<_>) = partitions
            .into_iter()
            .partition(|id| committed.contains_key(id));
        let with = with.into_iter().filter_map(|id| {
            let offset = *committed.get(&id)?;
            Some((id, offset))
        });
        let mut prepared: Prepared = with.collect();
        prepared.extend(self.listed(without, OffsetSpec::Latest).await?);
        Ok(prepared)
    }

    /// Offsets moved into what their partitions hold, with a warning.
    async fn in_range(&self, wanted: Prepared) -> Result<Prepared, Failure> {
        let partitions: Vec<TopicPartition> = wanted.iter().map(|(id, _)| id.clone()).collect();
        let starts = self
            .listed(partitions.clone(), OffsetSpec::Earliest)
            .await?;
        let starts: BTreeMap<_, _> = starts.into_iter().collect();
        let ends = self.listed(partitions, OffsetSpec::Latest).await?;
        let ends: BTreeMap<_, _> = ends.into_iter().collect();
        let wanted = immutable_order(wanted, |(id, _)| partition_hash(id));
        let moved = wanted.into_iter().map(|(id, offset)| {
            let warn = |what: &str, kept: i64| {
                let text = format!(
                    "New offset ({offset}) is {what} offset for topic partition {id}. Value will be set to {kept}"
                );
                err!("{}", tool_log::line(self.world.clock.wall_ms(), "WARN", &text, LOGGER));
                kept
            };
            let kept = match (starts.get(&id), ends.get(&id)) {
                (_, Some(end)) if offset > *end => warn("higher than latest", *end),
                (Some(start), _) if offset < *start => warn("lower than earliest", *start),
                _ => offset,
            };
            (id, kept)
        });
        Ok(moved.collect())
    }

    async fn planned(&self, group: &str) -> Result<Prepared, Failure> {
        let path = self.options.value("from-file")?.unwrap_or_default();
        let text = std::fs::read_to_string(path).map_err(|_| {
            let message = format!("Unable to read file {path}");
            let why = Throwable::new("java.io.IOException", &message)
                .caused_by(Throwable::new("java.nio.file.NoSuchFileException", path));
            Failure::Thrown(message, why)
        })?;
        let single = (self.options.values("group").len() == 1).then_some(group);
        let plan = parse_plan(&text, single).map_err(Failure::Usage)?;
        match plan.get(group) {
            Some(wanted) => self.in_range(wanted.clone()).await,
            None => {
                print_error(&format!("No reset plan for group {group} found"));
                Ok(Vec::new())
            }
        }
    }
}

/// As the original prints its set of them.
const ALL_SCENARIOS: &str = "[by-duration], [to-offset], [from-file], [to-datetime], [to-earliest], [to-current], [shift-by], [to-latest]";

/// `topic,partition,offset` lines for one group, or `group,topic,partition,offset`.
fn parse_plan(text: &str, single: Option<&str>) -> Result<BTreeMap<String, Prepared>, String> {
    let mut plan: BTreeMap<String, Prepared> = BTreeMap::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.split(',').map(|cell| cell.trim_matches('"')).collect();
        let (group, topic, partition, offset) = match (cells.as_slice(), single) {
            ([topic, partition, offset], Some(group)) => (group, topic, partition, offset),
            ([group, topic, partition, offset], _) => (*group, topic, partition, offset),
            _ => return Err(format!("Invalid line of a reset plan: {line}")),
        };
        let (Ok(partition), Ok(offset)) = (partition.parse(), offset.parse()) else {
            return Err(format!("Invalid line of a reset plan: {line}"));
        };
        let entry = (TopicPartition::new(*topic, partition), offset);
        plan.entry(group.to_owned()).or_default().push(entry);
    }
    Ok(plan)
}

fn parse_exception(message: String) -> Failure {
    let why = Throwable::new("java.text.ParseException", &message);
    Failure::Thrown(message, why)
}

/// `2021-05-03T00:00:00.000`, with a zone behind it or in UTC, as milliseconds since 1970.
fn date_time(text: &str) -> Result<i64, String> {
    if !text.contains('T') {
        return Err(
            "Error parsing timestamp. It does not contain a 'T' according to ISO8601 format"
                .to_owned(),
        );
    }
    let pattern = regex_lite::Regex::new(
        r"^(\d+)-(\d{1,2})-(\d{1,2})T(\d{1,2}):(\d{1,2}):(\d{1,2})\.(\d{1,3})(?:Z|([+-])(\d{2}):?(\d{2})?)?$",
    )
    .expect("a constant");
    let zoned = text
        .split('T')
        .nth(1)
        .is_some_and(|time| time.contains(['+', '-', 'Z']));
    let wrong = || {
        format!(
            "Unparseable date: \"{text}{}\"",
            if zoned { "" } else { "Z" }
        )
    };
    let found = pattern.captures(text).ok_or_else(wrong)?;
    let part = |index: usize| -> i64 {
        let digits = found.get(index).map_or("0", |part| part.as_str());
        digits.parse().unwrap_or(0)
    };
    let (year, month, day) = (part(1), part(2), part(3));
    let (hour, minute, second) = (part(4), part(5), part(6));
    let in_day = hour < 24 && minute < 60 && second < 60;
    if !in_day || !(1..=12).contains(&month) || !(1..=31).contains(&day) || year > 9_999 {
        return Err(wrong());
    }
    let zone = part(9) * 60 + part(10);
    let zone = match found.get(8).map(|sign| sign.as_str()) {
        Some("-") => -zone,
        _ => zone,
    };
    let days = super::java_text::days(year, month, day);
    Ok((((days * 24 + hour) * 60 + minute - zone) * 60 + second) * 1_000 + part(7))
}

/// `Duration.parse`: `PnDTnHnMn.nS`.
fn duration_ms(text: &str) -> Option<i64> {
    let pattern = regex_lite::Regex::new(
        r"(?i)^([-+]?)P(?:([-+]?\d+)D)?(T(?:([-+]?\d+)H)?(?:([-+]?\d+)M)?(?:([-+]?\d+)(?:[.,](\d{0,9}))?S)?)?$",
    )
    .expect("a constant");
    let found = pattern.captures(text)?;
    let given = |index: usize| found.get(index).is_some();
    // Something has to be there, and something behind a T.
    if ![2, 4, 5, 6].into_iter().any(given) || given(3) && ![4, 5, 6].into_iter().any(given) {
        return None;
    }
    let part = |index: usize| -> Option<i64> {
        let digits = found.get(index).map_or("0", |part| part.as_str());
        digits.trim_start_matches('+').parse().ok()
    };
    let seconds = part(2)?.checked_mul(86_400)?;
    let seconds = seconds.checked_add(part(4)?.checked_mul(3_600)?)?;
    let seconds = seconds.checked_add(part(5)?.checked_mul(60)?)?;
    let seconds = seconds.checked_add(part(6)?)?;
    let fraction = found.get(7).map_or("", |part| part.as_str());
    let millis: i64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    let negative = found
        .get(6)
        .is_some_and(|part| part.as_str().starts_with('-'));
    let millis = if negative { -millis } else { millis };
    let ms = seconds.checked_mul(1_000)?.checked_add(millis)?;
    let sign = found.get(1).map_or("", |part| part.as_str());
    Some(if sign == "-" { -ms } else { ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_java_reads_them() {
        let cases = [
            ("2021-05-03T00:00:00.123", Ok(1_620_000_000_123)),
            ("2021-05-03T02:00:00.123+02:00", Ok(1_620_000_000_123)),
            ("2021-05-02T23:00:00.123-01:00", Ok(1_620_000_000_123)),
            ("2021-05-03T00:00:00.000Z", Ok(1_620_000_000_000)),
            ("2021-13-03T00:00:00.000", Err(())),
            ("2021-05-03", Err(())),
            ("tomorrow", Err(())),
        ];
        for (text, expected) in cases {
            assert_eq!(date_time(text).map_err(|_| ()), expected, "{text}");
        }
        let cases = [
            ("PT1H", Some(3_600_000)),
            ("P1DT2H3M4.5S", Some(93_784_500)),
            ("-PT1M", Some(-60_000)),
            ("pt0.001s", Some(1)),
            ("PT", None),
            ("P", None),
            ("1H", None),
        ];
        for (text, expected) in cases {
            assert_eq!(duration_ms(text), expected, "{text}");
        }
    }

    #[test]
    fn plans_come_for_one_group_or_many() {
        let entry = |partition, offset| (TopicPartition::new("t", partition), offset);
        let one = parse_plan("t,0,5\nt,1,6\n", Some("g")).expect("a plan");
        assert_eq!(one["g"], [entry(0, 5), entry(1, 6)]);
        let many = parse_plan("g,t,0,5\nh,t,1,6\n", None).expect("a plan");
        assert_eq!(many["h"], [entry(1, 6)]);
        assert!(parse_plan("t,0\n", Some("g")).is_err());
        assert!(parse_plan("t,0,5\n", None).is_err());
        assert!(parse_plan("t,zero,5\n", Some("g")).is_err());
    }

    #[test]
    fn partitions_stand_behind_a_colon() {
        let found = with_partitions("t:0,2").ok();
        let wanted = [TopicPartition::new("t", 0), TopicPartition::new("t", 2)];
        assert_eq!(found.as_deref(), Some(&wanted[..]));
        assert!(with_partitions("t:x").is_err());
        assert!(with_partitions("t:1:2").is_err());
    }
}
