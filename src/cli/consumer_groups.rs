//! `kafka-consumer-groups`: lists groups; describes their offsets, members and state. What changes groups
//! is in [`super::consumer_groups_change`].

use std::collections::{BTreeMap, BTreeSet};

use super::client_props::Properties;
use super::java_args::{ArgError, Options, Spec, Usage, flag, option};
use super::java_text::{immutable_order, partition_hash, scala_order};
use super::print::{Refused, Throwable, err, out, throwable};
use super::{consumer_groups_change, run_tool};
use crate::client::admin::{Admin, DescribedGroup, OffsetSpec};
use crate::client::{ClientError, World};
use crate::common::ids::TopicPartition;

const SPECS: &[Spec] = &[
    option("bootstrap-server", "String: server to connect to", "REQUIRED: The server(s) to connect to."),
    option("group", "String: consumer group", "The consumer group we wish to act on."),
    option("topic", "String: topic", "The topic whose consumer group information should be deleted or topic whose should be included in the reset offset process. In `reset-offsets` case, partitions can be specified using this format: `topic1:0,1,2`, where 0,1,2 are the partition to be included in the process. Reset-offsets also supports multiple topic inputs."),
    flag("all-topics", "Consider all topics assigned to a group in the `reset-offsets` process."),
    flag("list", "List all consumer groups."),
    flag("describe", "Describe consumer group and list offset lag (number of messages not yet processed) related to given group."),
    flag("all-groups", "Apply to all consumer groups."),
    flag("delete", "Pass in groups to delete topic partition offsets and ownership information over the entire consumer group. For instance --group g1 --group g2"),
    option("timeout", "Long: timeout (ms)", "The timeout that can be set for some use cases. For example, it can be used when describing the group to specify the maximum amount of time in milliseconds to wait before the group stabilizes (when the group is just created, or is going through some changes). (default: 5000)"),
    option("command-config", "String: command config property file", "Property file containing configs to be passed to Admin Client and Consumer."),
    flag("reset-offsets", "Reset offsets of consumer group. Supports one consumer group at the time, and instances should be inactive\nHas 2 execution options: --dry-run (the default) to plan which offsets to reset, and --execute to update the offsets. Additionally, the --export option is used to export the results to a CSV format.\nYou must choose one of the following reset specifications: --to-datetime, --by-period, --to-earliest, --to-latest, --shift-by, --from-file, --to-current.\nTo define the scope use --all-topics or --topic. One scope must be specified unless you use '--from-file'."),
    flag("delete-offsets", "Delete offsets of consumer group. Supports one consumer group at the time, and multiple topics."),
    flag("dry-run", "Only show results without executing changes on Consumer Groups. Supported operations: reset-offsets."),
    flag("execute", "Execute operation. Supported operations: reset-offsets."),
    flag("export", "Export operation execution to a CSV file. Supported operations: reset-offsets."),
    option("to-offset", "Long: offset", "Reset offsets to a specific offset."),
    option("from-file", "String: path to CSV file", "Reset offsets to values defined in CSV file."),
    option("to-datetime", "String: datetime", "Reset offsets to offset from datetime. Format: 'YYYY-MM-DDTHH:mm:SS.sss'"),
    option("by-duration", "String: duration", "Reset offsets to offset by duration from current timestamp. Format: 'PnDTnHnMnS'"),
    flag("to-earliest", "Reset offsets to earliest offset."),
    flag("to-latest", "Reset offsets to latest offset."),
    flag("to-current", "Reset offsets to current offset."),
    option("shift-by", "Long: number-of-offsets", "Reset offsets shifting current offset by 'n', where 'n' can be positive or negative."),
    flag("members", "Describe members of the group. This option may be used with '--describe' and '--bootstrap-server' options only.\nExample: --bootstrap-server localhost:9092 --describe --group group1 --members"),
    flag("verbose", "Provide additional information, if any, when describing the group. This option may be used with '--offsets'/'--members'/'--state' and '--bootstrap-server' options only.\nExample: --bootstrap-server localhost:9092 --describe --group group1 --members --verbose"),
    flag("offsets", "Describe the group and list all topic partitions in the group along with their offset lag. This is the default sub-action of and may be used with '--describe' and '--bootstrap-server' options only.\nExample: --bootstrap-server localhost:9092 --describe --group group1 --offsets"),
    option("state", "String", "When specified with '--describe', includes the state of the group.\nExample: --bootstrap-server localhost:9092 --describe --group group1 --state\nWhen specified with '--list', it displays the state of all groups. It can also be used to list groups with specific states.\nExample: --bootstrap-server localhost:9092 --list --state stable,empty\nThis option may be used with '--describe', '--list' and '--bootstrap-server' options only.").optional(),
    flag("json", "print one JSON object per line (list and describe)").beyond(),
    option("type", "String", "list groups of these types").beyond().unsupported(),
    flag("validate-regex", "validate a regular expression").beyond().unsupported(),
];

pub(super) const USAGE: Usage = Usage {
    specs: SPECS,
    about: "This tool helps to list all consumer groups, describe a consumer group, delete consumer group info, or reset consumer group offsets.",
    tried: false,
};

/// `ConsumerGroupState`'s names.
const STATES: [&str; 5] = [
    "PreparingRebalance",
    "CompletingRebalance",
    "Stable",
    "Dead",
    "Empty",
];

/// Runs the tool.
pub fn run(_program: &str, arguments: Vec<String>) -> u8 {
    let options = match USAGE.read(&arguments).and_then(|options| {
        check(&options)?;
        // Only now: what is missing or too much is told even above the help.
        USAGE.answer(&options)?;
        one_action(&options)?;
        Ok(options)
    }) {
        Ok(options) => options,
        Err(code) => return code,
    };
    run_tool(|world| async move {
        match execute(&world, &options).await {
            Ok(()) => 0,
            Err(Failure::Usage(text)) => USAGE.die(&text),
            Err(Failure::Refused(refused)) => refused.die(),
            Err(Failure::Client(error)) => {
                let why = throwable(&error);
                failed(&why.text.clone(), &Throwable::of_future(why))
            }
            Err(Failure::Thrown(message, why)) => failed(&message, &why),
            // The original asks all brokers, and has a sentence of its own when it finds none.
            Err(Failure::NoBrokers(error)) => {
                let why = "Failed to find brokers to send ListGroups";
                let why = Throwable::new("org.apache.kafka.common.KafkaException", why);
                let why = why.caused_by(throwable(&error));
                failed(&why.text.clone(), &Throwable::of_future(why))
            }
        }
    })
}

/// The original says so and leaves with 0.
fn failed(message: &str, why: &Throwable) -> u8 {
    print_error(&format!(
        "Executing consumer group command failed due to {message}"
    ));
    err!("{why}");
    0
}

pub(super) fn print_error(message: &str) {
    out!("\nError: {message}");
}

/// Why the command ended early.
#[derive(Debug)]
pub(super) enum Failure {
    /// `IllegalArgumentException`: told above the help.
    Usage(String),
    /// There is no beginning.
    Refused(Refused),
    /// There is nobody to ask.
    NoBrokers(ClientError),
    /// The cluster's answer.
    Client(ClientError),
    /// Another exception: its message, and how it is printed.
    Thrown(String, Throwable),
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        Failure::Client(error)
    }
}

impl From<ArgError> for Failure {
    fn from(error: ArgError) -> Failure {
        match error.throwable() {
            Ok(why) => Failure::Thrown(error.to_string(), why),
            Err(sentence) => Failure::Usage(sentence),
        }
    }
}

/// What all scenarios of `--reset-offsets` are called, in the order they are looked at.
pub(super) const SCENARIOS: [&str; 8] = [
    "to-offset",
    "to-datetime",
    "by-duration",
    "to-earliest",
    "to-latest",
    "to-current",
    "shift-by",
    "from-file",
];

const WOULD_PROMPT: &str = "WARN: No action will be performed as the --execute option is missing.In a future major release, the default behavior of this command will be to prompt the user before executing the reset rather than doing a dry run. You should add the --dry-run option explicitly if you are scripting this command and want to keep the current default behavior without prompting.";

fn check(options: &Options) -> Result<(), u8> {
    let describe = options.has("describe");
    let alone = ["members", "verbose", "offsets"];
    let state = (options.has("state") && !options.has("list")).then_some("state");
    let alone = alone
        .into_iter()
        .filter(|name| options.has(name))
        .chain(state);
    let alone: Vec<&str> = alone.filter(|_| !describe).collect();
    if !alone.is_empty() {
        err!(
            "Exception in thread \"main\" joptsimple.UnavailableOptionException: Option(s) [{}] are unavailable given other options on the command line",
            alone.join(", ")
        );
        return Err(1);
    }
    USAGE.require(options, &["bootstrap-server"])?;
    let scoped = options.has("group") || options.has("all-groups");
    let scope = |action: &str| {
        USAGE.die(&format!(
            "Option [{action}] takes one of these options: [group], [all-groups]"
        ))
    };
    if describe {
        if !scoped {
            return Err(scope("describe"));
        }
        let subjects = ["members", "offsets", "state"];
        if subjects.iter().filter(|name| options.has(name)).count() > 1 {
            return Err(USAGE.die(
                "Option [describe] takes at most one of these options: [members], [offsets], [state]",
            ));
        }
        if !options.values("state").is_empty() {
            return Err(USAGE.die("Option [describe] does not take a value for [state]"));
        }
    }
    if options.has("delete") {
        if !scoped {
            return Err(scope("delete"));
        }
        if options.has("topic") {
            return Err(USAGE.die("The consumer does not support topic-specific offset deletion from a consumer group."));
        }
    }
    if options.has("delete-offsets") && !(options.has("group") && options.has("topic")) {
        return Err(
            USAGE.die("Option [delete-offsets] takes the following options: [group], [topic]")
        );
    }
    if options.has("reset-offsets") {
        check_reset(options, scoped)?;
    }
    USAGE.exclude(options, "group", &["all-groups", "list"])?;
    USAGE.exclude(options, "topic", &["list", "describe"])
}

fn check_reset(options: &Options, scoped: bool) -> Result<(), u8> {
    match (options.has("dry-run"), options.has("execute")) {
        (true, true) => {
            return Err(
                USAGE.die("Option [reset-offsets] only accepts one of [execute] and [dry-run]")
            );
        }
        (false, false) => err!("{WOULD_PROMPT}"),
        _ => {}
    }
    if !scoped {
        return Err(
            USAGE.die("Option [reset-offsets] takes one of these options: [group], [all-groups]")
        );
    }
    for scenario in SCENARIOS {
        let others = SCENARIOS.into_iter().filter(|other| *other != scenario);
        USAGE.exclude(options, scenario, &others.collect::<Vec<_>>())?;
    }
    Ok(())
}

fn one_action(options: &Options) -> Result<(), u8> {
    let actions = [
        "list",
        "describe",
        "delete",
        "reset-offsets",
        "delete-offsets",
    ];
    if actions.iter().filter(|name| options.has(name)).count() != 1 {
        return Err(USAGE.die(
            "Command must include exactly one action: --list, --describe, --delete, --reset-offsets, --delete-offsets",
        ));
    }
    Ok(())
}

async fn execute(world: &World, options: &Options) -> Result<(), Failure> {
    let argument = |error: ArgError| Failure::Usage(error.to_string());
    let servers = options.value("bootstrap-server").map_err(argument)?;
    let file = options.value("command-config").map_err(argument)?;
    let timeout: i64 = options.parsed("timeout")?.unwrap_or(5_000);
    let timeout = timeout.to_string();
    let timeouts = [
        ("default.api.timeout.ms", timeout.as_str()),
        ("request.timeout.ms", timeout.as_str()),
    ];
    let admin = Properties::admin(world, servers.unwrap_or_default(), file, &timeouts)
        .map_err(Failure::Refused)?;
    if options.has("list") {
        return list(&admin, options).await;
    }
    let mut ids: Vec<String> = if options.has("all-groups") {
        let groups = consumer_groups(&admin, &[]).await?;
        groups.into_iter().map(|(id, _)| id).collect()
    } else {
        options.values("group").to_vec()
    };
    if options.has("delete-offsets") {
        return consumer_groups_change::delete_offsets(&admin, options).await;
    }
    let mut seen = BTreeSet::new();
    ids.retain(|id| seen.insert(id.clone()));
    if options.has("delete") {
        consumer_groups_change::delete(&admin, ids).await;
        return Ok(());
    }
    if options.has("reset-offsets") {
        return consumer_groups_change::reset(world, &admin, options, ids).await;
    }
    ids.sort();
    let mut groups = Vec::new();
    for id in &ids {
        groups.push(admin.describe_group(id).await?);
    }
    for group in &groups {
        if options.has("members") {
            members(group, options);
        } else if options.has("state") {
            state(group, options);
        } else {
            offsets(&admin, group, options).await?;
        }
    }
    Ok(())
}

/// Consumers' groups with their states.
async fn consumer_groups(
    admin: &Admin,
    states: &[String],
) -> Result<Vec<(String, String)>, Failure> {
    let groups = match admin.list_groups(states).await {
        Err(ClientError::NoBroker { at_ms, source, .. }) => {
            return Err(Failure::NoBrokers(ClientError::NoBroker {
                call: "findAllBrokers",
                at_ms,
                source,
            }));
        }
        groups => groups?,
    };
    // Groups without a protocol type have only ever committed offsets.
    Ok(groups
        .into_iter()
        .filter(|group| group.protocol_type == "consumer" || group.protocol_type.is_empty())
        .map(|group| (group.id, group.state))
        .collect())
}

async fn list(admin: &Admin, options: &Options) -> Result<(), Failure> {
    let mut states = Vec::new();
    for text in options.values("state") {
        for name in text.split(',').map(str::trim) {
            let known = STATES.iter().find(|known| known.eq_ignore_ascii_case(name));
            states.push(known.map(|known| (*known).to_owned()).ok_or_else(|| {
                Failure::Usage(format!(
                    "Invalid state list '{text}'. Valid states are: {}",
                    STATES.join(", ")
                ))
            })?);
        }
    }
    let groups = consumer_groups(admin, &states).await?;
    if options.has("json") {
        for (id, state) in groups {
            out!("{}", serde_json::json!({ "group": id, "state": state }));
        }
    } else if options.has("state") {
        let mut rows = vec![vec!["GROUP".to_owned(), "STATE".to_owned()]];
        rows.extend(groups.into_iter().map(|(id, state)| vec![id, state]));
        print_rows(&rows, &[15, 0]);
    } else {
        for (id, _) in groups {
            out!("{id}");
        }
    }
    Ok(())
}

/// Prints rows whose columns are as wide as their widest cell and at least `least`; the last column
/// is not padded.
fn print_rows(rows: &[Vec<String>], least: &[usize]) {
    let widths: Vec<usize> = least
        .iter()
        .enumerate()
        .map(|(column, least)| {
            let widest = rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(String::len);
            widest.max().unwrap_or(0).max(*least)
        })
        .collect();
    for row in rows {
        out!("{}", row_text(row, &widths));
    }
}

fn row_text(row: &[String], widths: &[usize]) -> String {
    let mut text = String::new();
    for (column, cell) in row.iter().enumerate() {
        if column + 1 == row.len() {
            text.push_str(cell);
        } else {
            let width = widths.get(column).copied().unwrap_or(0);
            text.push_str(&format!("{cell:<width$} "));
        }
    }
    text
}

/// Says what a group's state means; is there anything to show?
fn shown(group: &DescribedGroup, rows: usize) -> bool {
    let id = &group.id;
    match group.state.as_str() {
        "Dead" => out!("\nError: Consumer group '{id}' does not exist."),
        "Empty" => err!("\nConsumer group '{id}' has no active members."),
        "PreparingRebalance" | "CompletingRebalance" => {
            err!("\nWarning: Consumer group '{id}' is rebalancing.");
        }
        _ => {}
    }
    group.state != "Dead" && rows > 0
}

/// One line of `--offsets`: what is not known is a dash.
#[derive(Debug, Default)]
struct OffsetRow {
    partition: Option<TopicPartition>,
    committed: Option<i64>,
    consumer: Option<(String, String, String)>,
}

fn offset_rows(
    group: &DescribedGroup,
    committed: &BTreeMap<TopicPartition, i64>,
) -> Vec<OffsetRow> {
    let mut members: Vec<_> = group
        .members
        .iter()
        .filter(|member| !member.assignment.is_empty())
        .collect();
    members.sort_by_key(|member| std::cmp::Reverse(member.assignment.len()));
    let mut rows = Vec::new();
    let mut assigned = Vec::new();
    for member in members {
        let mut partitions = member.assignment.clone();
        partitions.sort_by_key(|partition| partition.partition);
        for partition in immutable_order(partitions, partition_hash) {
            rows.push(OffsetRow {
                committed: committed.get(&partition).copied(),
                partition: Some(partition.clone()),
                consumer: Some((
                    member.id.clone(),
                    member.host.clone(),
                    member.client_id.clone(),
                )),
            });
            assigned.push(partition);
        }
    }
    let left = committed.iter().filter(|(id, _)| !assigned.contains(id));
    for (partition, offset) in scala_order(left.collect(), |(id, _)| partition_hash(id)) {
        rows.push(OffsetRow {
            partition: Some(partition.clone()),
            committed: Some(*offset),
            consumer: None,
        });
    }
    rows
}

async fn offsets(admin: &Admin, group: &DescribedGroup, options: &Options) -> Result<(), Failure> {
    let committed: BTreeMap<TopicPartition, i64> = admin
        .group_offsets(&group.id, None)
        .await?
        .into_iter()
        .map(|(partition, committed)| (partition, committed.offset))
        .collect();
    let rows = offset_rows(group, &committed);
    let wanted = rows
        .iter()
        .filter_map(|row| Some((row.partition.clone()?, OffsetSpec::Latest)))
        .collect();
    let ends = admin.list_offsets(&wanted, false).await?;
    if options.has("json") {
        for row in &rows {
            out!("{}", offset_json(group, row, &ends));
        }
        return Ok(());
    }
    if !shown(group, rows.len()) {
        return Ok(());
    }
    let header = [
        "GROUP",
        "TOPIC",
        "PARTITION",
        "CURRENT-OFFSET",
        "LOG-END-OFFSET",
        "LAG",
        "CONSUMER-ID",
        "HOST",
        "CLIENT-ID",
    ];
    let mut table = vec![header.map(str::to_owned).to_vec()];
    for row in &rows {
        let end = end_of(row, &ends);
        let dash = || "-".to_owned();
        let number = |value: Option<i64>| value.map_or_else(dash, |value| value.to_string());
        let partition = row.partition.as_ref();
        let lag = row.committed.zip(end).map(|(offset, end)| end - offset);
        let (id, host, client) = row
            .consumer
            .clone()
            .unwrap_or_else(|| (dash(), dash(), dash()));
        table.push(vec![
            group.id.clone(),
            partition.map_or_else(dash, |partition| partition.topic.to_string()),
            number(partition.map(|partition| i64::from(partition.partition))),
            number(row.committed),
            number(end),
            number(lag),
            id,
            host,
            client,
        ]);
    }
    out!();
    print_rows(&table, &[15, 15, 10, 15, 15, 15, 15, 15, 0]);
    Ok(())
}

type Ends = BTreeMap<TopicPartition, Result<crate::client::admin::ListedOffset, ClientError>>;

fn end_of(row: &OffsetRow, ends: &Ends) -> Option<i64> {
    let listed = ends.get(row.partition.as_ref()?)?.as_ref().ok()?;
    Some(listed.offset)
}

fn offset_json(group: &DescribedGroup, row: &OffsetRow, ends: &Ends) -> serde_json::Value {
    let end = end_of(row, ends);
    serde_json::json!({
        "group": group.id,
        "state": group.state,
        "topic": row.partition.as_ref().map(|partition| partition.topic.to_string()),
        "partition": row.partition.as_ref().map(|partition| partition.partition),
        "current_offset": row.committed,
        "log_end_offset": end,
        "lag": row.committed.zip(end).map(|(offset, end)| end - offset),
        "consumer_id": row.consumer.as_ref().map(|(id, _, _)| id),
        "host": row.consumer.as_ref().map(|(_, host, _)| host),
        "client_id": row.consumer.as_ref().map(|(_, _, client)| client),
    })
}

/// `t1(0,1), t2(3)`
fn assignment_text(partitions: &[TopicPartition]) -> String {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for partition in partitions {
        topics
            .entry(&partition.topic)
            .or_default()
            .push(partition.partition);
    }
    if topics.is_empty() {
        return "-".to_owned();
    }
    let parts = topics.into_iter().map(|(topic, mut list)| {
        list.sort_unstable();
        let list: Vec<String> = list.iter().map(i32::to_string).collect();
        format!("{topic}({})", list.join(","))
    });
    parts.collect::<Vec<_>>().join(", ")
}

fn members(group: &DescribedGroup, options: &Options) {
    if options.has("json") {
        for member in &group.members {
            out!(
                "{}",
                serde_json::json!({
                    "group": group.id,
                    "consumer_id": member.id,
                    "group_instance_id": member.instance_id,
                    "host": member.host,
                    "client_id": member.client_id,
                    "partitions": member.assignment.iter().map(ToString::to_string).collect::<Vec<_>>(),
                })
            );
        }
        return;
    }
    if !shown(group, group.members.len()) {
        return;
    }
    let verbose = options.has("verbose");
    let fixed = group
        .members
        .iter()
        .any(|member| member.instance_id.is_some());
    let mut table = Vec::new();
    let row = |cells: [&str; 6], last: &str| {
        let mut row: Vec<String> = Vec::new();
        for (place, cell) in cells.iter().enumerate() {
            if place != 2 || fixed {
                row.push((*cell).to_owned());
            }
        }
        // The original ends its lines with a blank where nothing more follows.
        row.push(if verbose {
            last.to_owned()
        } else {
            String::new()
        });
        row
    };
    table.push(row(
        [
            "GROUP",
            "CONSUMER-ID",
            "GROUP-INSTANCE-ID",
            "HOST",
            "CLIENT-ID",
            "#PARTITIONS",
        ],
        "ASSIGNMENT",
    ));
    for member in &group.members {
        table.push(row(
            [
                &group.id,
                &member.id,
                member.instance_id.as_deref().unwrap_or_default(),
                &member.host,
                &member.client_id,
                &member.assignment.len().to_string(),
            ],
            &assignment_text(&member.assignment),
        ));
    }
    out!();
    let least: &[usize] = if fixed {
        &[15, 15, 17, 15, 15, 15, 0]
    } else {
        &[15, 15, 15, 15, 15, 0]
    };
    print_rows(&table, least);
}

fn state(group: &DescribedGroup, options: &Options) {
    let (id, address) = &group.coordinator;
    let coordinator = format!("{address} ({id})");
    if options.has("json") {
        out!(
            "{}",
            serde_json::json!({
                "group": group.id,
                "coordinator": coordinator,
                "assignment_strategy": group.protocol,
                "state": group.state,
                "members": group.members.len(),
            })
        );
        return;
    }
    if !shown(group, 1) {
        return;
    }
    let widths = [coordinator.len().max(25), 25, 20, 15, 0];
    let header = [
        "GROUP",
        "COORDINATOR (ID)",
        "ASSIGNMENT-STRATEGY",
        "STATE",
        "#MEMBERS",
    ];
    out!("\n{}", row_text(&header.map(str::to_owned), &widths));
    let row = [
        group.id.clone(),
        coordinator,
        group.protocol.clone(),
        group.state.clone(),
        group.members.len().to_string(),
    ];
    out!("{}", row_text(&row, &widths));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::admin::GroupMember;

    fn member(id: &str, partitions: &[i32]) -> GroupMember {
        GroupMember {
            id: id.to_owned(),
            instance_id: None,
            client_id: "c".to_owned(),
            host: "/127.0.0.1".to_owned(),
            assignment: partitions
                .iter()
                .map(|p| TopicPartition::new("t", *p))
                .collect(),
        }
    }

    #[test]
    fn assigned_partitions_come_first_then_what_was_only_committed() {
        let group = DescribedGroup {
            id: "g".to_owned(),
            state: "Stable".to_owned(),
            protocol_type: "consumer".to_owned(),
            protocol: "range".to_owned(),
            members: vec![member("a", &[2]), member("b", &[1, 0]), member("idle", &[])],
            coordinator: (1, "h:9092".to_owned()),
        };
        let committed = [
            (TopicPartition::new("t", 0), 5),
            (TopicPartition::new("u", 0), 7),
        ];
        let rows = offset_rows(&group, &committed.into_iter().collect());
        let shown: Vec<String> = rows
            .iter()
            .map(|row| {
                let partition = row.partition.as_ref().map(ToString::to_string);
                let member = row.consumer.as_ref().map_or("-", |(id, _, _)| id);
                format!(
                    "{} {:?} {member}",
                    partition.unwrap_or_default(),
                    row.committed
                )
            })
            .collect();
        assert_eq!(
            shown,
            ["t-0 Some(5) b", "t-1 None b", "t-2 None a", "u-0 Some(7) -"]
        );
        assert_eq!(assignment_text(&group.members[1].assignment), "t(0,1)");
        assert_eq!(assignment_text(&[]), "-");
    }

    #[test]
    fn columns_are_padded_but_the_last() {
        let cells = ["a", "b", "c"].map(str::to_owned);
        assert_eq!(row_text(&cells, &[3, 2, 9]), "a   b  c");
    }
}
