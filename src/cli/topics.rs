//! `kafka-topics`: creates, lists, describes, extends and deletes topics, over Kafka's protocol.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;

use super::client_props::Properties;
use super::java_args::{Options, Spec, Usage, flag, option};
use super::java_text::hash_order;
use super::print::{CONFIG_EXCEPTION, Refused, err, log_error, message, out, throwable};
use super::{java_args, run_tool};
use crate::client::admin::{Admin, ConfigEntry, NewTopic, Reassignment, Resource};
use crate::client::cluster::{Partition, Topic, Wanted};
use crate::client::{ClientError, World};
use crate::common::ids::{TopicPartition, kafka_uuid_parse, kafka_uuid_text};
use crate::config::topic::{Fault, TopicConfig};

const SPECS: &[Spec] = &[
    option(
        "bootstrap-server",
        "String: server to connect to",
        "REQUIRED: The Kafka server to connect to. In case of providing this, a direct Zookeeper connection won't be required.",
    ),
    option(
        "command-config",
        "String: command config property file",
        "Property file containing configs to be passed to Admin Client. This is used only with --bootstrap-server option for describing and altering broker configs.",
    ),
    option(
        "zookeeper",
        "String: hosts",
        "DEPRECATED, The connection string for the zookeeper connection in the form host:port. Multiple hosts can be given to allow fail-over.",
    ),
    flag("list", "List all available topics."),
    flag("create", "Create a new topic."),
    flag("delete", "Delete a topic"),
    flag(
        "alter",
        "Alter the number of partitions, replica assignment, and/or configuration for the topic.",
    ),
    flag("describe", "List details for the given topics."),
    option(
        "topic",
        "String: topic",
        "The topic to create, alter, describe or delete. It also accepts a regular expression, except for --create option. Put topic name in double quotes and use the '\\' prefix to escape regular expression symbols; e.g. \"test\\.topic\".",
    ),
    option(
        "config",
        "String: name=value",
        "A topic configuration override for the topic being created or altered. The following is a list of valid configurations: \n\tcleanup.policy\n\tcompression.type\n\tdelete.retention.ms\n\tfile.delete.delay.ms\n\tflush.messages\n\tflush.ms\n\tfollower.replication.throttled.replicas\n\tindex.interval.bytes\n\tleader.replication.throttled.replicas\n\tmax.compaction.lag.ms\n\tmax.message.bytes\n\tmessage.downconversion.enable\n\tmessage.format.version\n\tmessage.timestamp.difference.max.ms\n\tmessage.timestamp.type\n\tmin.cleanable.dirty.ratio\n\tmin.compaction.lag.ms\n\tmin.insync.replicas\n\tpreallocate\n\tretention.bytes\n\tretention.ms\n\tsegment.bytes\n\tsegment.index.bytes\n\tsegment.jitter.ms\n\tsegment.ms\n\tunclean.leader.election.enable\nSee the Kafka documentation for full details on the topic configs. It is supported only in combination with --create if --bootstrap-server option is used (the kafka-configs CLI supports altering topic configs with a --bootstrap-server option).",
    ),
    option(
        "delete-config",
        "String: name",
        "A topic configuration override to be removed for an existing topic (see the list of configurations under the --config option). Not supported with the --bootstrap-server option.",
    ),
    option(
        "partitions",
        "Integer: # of partitions",
        "The number of partitions for the topic being created or altered (WARNING: If partitions are increased for a topic that has a key, the partition logic or ordering of the messages will be affected). If not supplied for create, defaults to the cluster default.",
    ),
    option(
        "replication-factor",
        "Integer: replication factor",
        "The replication factor for each partition in the topic being created. If not supplied, defaults to the cluster default.",
    ),
    option(
        "replica-assignment",
        "String: broker_id_for_part1_replica1 : broker_id_for_part1_replica2 , broker_id_for_part2_replica1 : broker_id_for_part2_replica2 , ...",
        "A list of manual partition-to-broker assignments for the topic being created or altered.",
    ),
    flag(
        "under-replicated-partitions",
        "if set when describing topics, only show under replicated partitions",
    ),
    flag(
        "unavailable-partitions",
        "if set when describing topics, only show partitions whose leader is not available",
    ),
    flag(
        "under-min-isr-partitions",
        "if set when describing topics, only show partitions whose isr count is less than the configured minimum. Not supported with the --zookeeper option.",
    ),
    flag(
        "at-min-isr-partitions",
        "if set when describing topics, only show partitions whose isr count is equal to the configured minimum. Not supported with the --zookeeper option.",
    ),
    flag(
        "topics-with-overrides",
        "if set when describing topics, only show topics that have overridden configs",
    ),
    flag(
        "if-exists",
        "if set when altering or deleting or describing topics, the action will only execute if the topic exists.",
    ),
    flag(
        "if-not-exists",
        "if set when creating topics, the action will only execute if the topic does not already exist.",
    ),
    flag(
        "disable-rack-aware",
        "Disable rack aware replica assignment",
    ),
    // Neither the genuine tool nor this one asks anything.
    flag("force", "Suppress console prompts"),
    flag(
        "exclude-internal",
        "exclude internal topics when running list or describe command. The internal topics will be listed by default",
    ),
    flag("json", "print one JSON object per line (list and describe)").beyond(),
    option("topic-id", "String: topic-id", "The topic-id to describe.").beyond(),
    option(
        "partition-size-limit-per-response",
        "Integer",
        "the maximum partition size to be included in one response.",
    )
    .beyond()
    .idle("all partitions come in one response"),
];

pub(super) const USAGE: Usage = Usage {
    specs: SPECS,
    about: "This tool helps to create, delete, describe, or change a topic.",
    tried: false,
};

const ACTIONS: [&str; 5] = ["create", "list", "alter", "describe", "delete"];
const REPORTS: [&str; 4] = [
    "under-replicated-partitions",
    "under-min-isr-partitions",
    "at-min-isr-partitions",
    "unavailable-partitions",
];
const LOGGER: &str = "kafka.admin.TopicCommand$";

/// Why the command ended early.
#[derive(Debug)]
pub(super) enum Failure {
    /// A sentence of the tool's own, and the Java class it is thrown as.
    Own(&'static str, String),
    /// A misused option.
    Argument(java_args::ArgError),
    /// The cluster's answer.
    Client(ClientError),
    /// There is no beginning.
    Refused(Refused),
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        Failure::Client(error)
    }
}

/// A misused option, under its own class.
pub(super) fn argument(error: java_args::ArgError) -> Failure {
    Failure::Argument(error)
}

pub(super) fn illegal(message: impl Into<String>) -> Failure {
    Failure::Own("java.lang.IllegalArgumentException", message.into())
}

/// Runs the tool.
pub fn run(_program: &str, arguments: Vec<String>) -> u8 {
    if arguments.is_empty() {
        return USAGE.die("Create, delete, describe, or change a topic.");
    }
    let options = match USAGE.parse(&arguments).and_then(|options| {
        check(&options)?;
        Ok(options)
    }) {
        Ok(options) => options,
        Err(code) => return code,
    };
    run_tool(|world| async move {
        let (text, detail) = match execute(&world, &options).await {
            Ok(()) => return 0,
            Err(Failure::Refused(refused)) => return refused.die(),
            Err(Failure::Own(class, text)) => (text.clone(), format!("{class}: {text}")),
            Err(Failure::Argument(error)) => match error.throwable() {
                Ok(throwable) => (error.to_string(), throwable.to_string()),
                Err(sentence) => (sentence.clone(), sentence),
            },
            Err(Failure::Client(error)) => (message(&error), throwable(&error).to_string()),
        };
        out!("Error while executing topic command : {text}");
        // The original logs a stack trace, which ends its last line.
        log_error(&world, &format!("{detail}\n"), LOGGER);
        1
    })
}

/// What goes with what; `Err` is the exit code.
fn check(options: &Options) -> Result<(), u8> {
    let actions = ACTIONS.iter().filter(|name| options.has(name)).count();
    if actions != 1 {
        return Err(USAGE.die(
            "Command must include exactly one action: --list, --describe, --create, --alter or --delete",
        ));
    }
    if options.has("bootstrap-server") == options.has("zookeeper") {
        err!(
            "Exception in thread \"main\" java.lang.IllegalArgumentException: Only one of --bootstrap-server or --zookeeper must be specified"
        );
        return Err(1);
    }
    if options.has("describe") && options.has("if-exists")
        || !options.has("list") && !options.has("describe")
    {
        USAGE.require(options, &["topic"])?;
    }
    let zookeeper = options.has("zookeeper");
    if options.has("create") && !options.has("replica-assignment") && zookeeper {
        USAGE.require(options, &["partitions", "replication-factor"])?;
    }
    if !zookeeper && options.has("alter") {
        if options.has("config") {
            return Err(USAGE.die(
                "Option combination \"[bootstrap-server],[config]\" can't be used with option \"[alter]\" (the kafka-configs CLI supports altering topic configs with a --bootstrap-server option)",
            ));
        }
        USAGE.require(options, &["partitions"])?;
    }
    let but = |kept: &[&str]| -> Vec<&'static str> {
        ACTIONS
            .into_iter()
            .filter(|action| !kept.contains(action))
            .collect()
    };
    USAGE.exclude(options, "config", &but(&["alter", "create"]))?;
    USAGE.exclude(options, "delete-config", &but(&["alter"]))?;
    USAGE.exclude(options, "delete-config", &["bootstrap-server"])?;
    USAGE.exclude(options, "partitions", &but(&["alter", "create"]))?;
    USAGE.exclude(options, "replication-factor", &but(&["create"]))?;
    USAGE.exclude(options, "replica-assignment", &but(&["alter", "create"]))?;
    if options.has("create") {
        USAGE.exclude(
            options,
            "replica-assignment",
            &["partitions", "replication-factor"],
        )?;
    }
    for report in REPORTS {
        let mut others = but(&["describe"]);
        others.extend(REPORTS.iter().filter(|other| **other != report));
        others.push("topics-with-overrides");
        if report.contains("min-isr") {
            others.push("zookeeper");
        }
        USAGE.exclude(options, report, &others)?;
    }
    let mut others = but(&["describe"]);
    others.extend(REPORTS);
    USAGE.exclude(options, "topics-with-overrides", &others)?;
    USAGE.exclude(options, "if-exists", &but(&["alter", "delete", "describe"]))?;
    USAGE.exclude(options, "if-not-exists", &but(&["create"]))?;
    USAGE.exclude(options, "exclude-internal", &but(&["list", "describe"]))
}

async fn execute(world: &World, options: &Options) -> Result<(), Failure> {
    if let Some(servers) = options.value("zookeeper").map_err(argument)? {
        return super::topics_zookeeper::execute(world, servers, options).await;
    }
    let servers = options.value("bootstrap-server").map_err(argument)?;
    let file = options.value("command-config").map_err(argument)?;
    // Values are read before anybody is dialled, as the original does it.
    let topic = if options.has("create") {
        warn_of_collision(options);
        Some(new_topic(options)?)
    } else {
        None
    };
    options.value("topic").map_err(argument)?;
    let admin = Properties::admin(world, servers.unwrap_or_default(), file, &[]);
    let admin = admin.map_err(Failure::Refused)?;
    if let Some(topic) = topic {
        create(&admin, options, topic).await
    } else if options.has("alter") {
        alter(&admin, options).await
    } else if options.has("list") {
        let names = matching(&admin, options).await?;
        if options.has("json") {
            for name in names {
                out!("{}", serde_json::json!({ "topic": name }));
            }
        } else {
            out!("{}", names.join("\n"));
        }
        Ok(())
    } else if options.has("describe") {
        describe(&admin, options).await
    } else {
        let topics = expected(&admin, options).await?;
        if topics.is_empty() {
            return Ok(());
        }
        Ok(admin.delete_topics(&topics).await?)
    }
}

/// The warning about names that collide in metric names.
pub(super) fn warn_of_collision(options: &Options) {
    let topic = options.value("topic").ok().flatten();
    if topic.is_some_and(|topic| topic.contains(['.', '_'])) {
        out!(
            "WARNING: Due to limitations in metric names, topics with a period ('.') or underscore ('_') could collide. To avoid issues it is best to use either, but not both."
        );
    }
}

/// The topic that options describe.
pub(super) fn new_topic(options: &Options) -> Result<NewTopic, Failure> {
    let replication_factor = options
        .parsed::<i32>("replication-factor")
        .map_err(argument)?;
    let replication_factor = match replication_factor.map(i16::try_from) {
        None => None,
        Some(Ok(factor)) if factor >= 1 => Some(factor),
        Some(_) => {
            return Err(illegal(format!(
                "The replication factor must be between 1 and {} inclusive",
                i16::MAX
            )));
        }
    };
    let partitions = options.parsed::<i32>("partitions").map_err(argument)?;
    if partitions.is_some_and(|partitions| partitions < 1) {
        return Err(illegal("The partitions must be greater than 0"));
    }
    let mut configs = Vec::new();
    for config in options.values("config") {
        match config.split('=').map(str::trim).collect::<Vec<_>>()[..] {
            [key, value] if !value.is_empty() => configs.push((key.to_owned(), value.to_owned())),
            _ => {
                return Err(illegal(
                    "requirement failed: Invalid topic config: all configs to be added must be in the format \"key=val\".",
                ));
            }
        }
    }
    check_configs(&configs)?;
    let topic = options.value("topic").map_err(argument)?;
    Ok(NewTopic {
        name: topic.unwrap_or_default().to_owned(),
        partitions,
        replication_factor,
        assignment: match options.value("replica-assignment").map_err(argument)? {
            Some(text) if !text.is_empty() => parse_assignment(text)?,
            _ => Vec::new(),
        },
        configs,
    })
}

/// `LogConfig.validate`: names and values are checked here, before any broker sees them.
fn check_configs(configs: &[(String, String)]) -> Result<(), Failure> {
    TopicConfig::validate(&configs.iter().cloned().collect()).map_err(|fault| {
        let class = match fault {
            Fault::Value(_) => CONFIG_EXCEPTION,
            Fault::Settings(_) => "org.apache.kafka.common.errors.InvalidConfigurationException",
        };
        Failure::Own(class, fault.to_string())
    })
}

fn parse_assignment(text: &str) -> Result<Vec<Vec<i32>>, Failure> {
    let mut partitions: Vec<Vec<i32>> = Vec::new();
    for (index, item) in text.split(',').enumerate() {
        let mut replicas: Vec<i32> = Vec::new();
        for id in item.split(':').map(str::trim) {
            let number = id.parse().map_err(|_| {
                Failure::Own(
                    "java.lang.NumberFormatException",
                    format!("For input string: \"{id}\""),
                )
            })?;
            if replicas.contains(&number) {
                return Err(Failure::Own(
                    "kafka.common.AdminCommandFailedException",
                    format!("Partition replica lists may not contain duplicate entries: {number}"),
                ));
            }
            replicas.push(number);
        }
        if partitions
            .first()
            .is_some_and(|first| first.len() != replicas.len())
        {
            return Err(Failure::Own(
                "kafka.admin.AdminOperationException",
                format!("Partition {index} has different replication factor: {item}"),
            ));
        }
        partitions.push(replicas);
    }
    Ok(partitions)
}

async fn create(admin: &Admin, options: &Options, topic: NewTopic) -> Result<(), Failure> {
    match admin.create_topic(&topic).await {
        Ok(()) => {
            out!("Created topic {}.", topic.name);
            Ok(())
        }
        Err(error)
            if error.code() == Some(ResponseError::TopicAlreadyExists)
                && options.has("if-not-exists") =>
        {
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

async fn alter(admin: &Admin, options: &Options) -> Result<(), Failure> {
    let wanted = new_topic(options)?;
    let topics = expected(admin, options).await?;
    if topics.is_empty() {
        return Ok(());
    }
    let metadata = admin.metadata(Wanted::Named(&topics, false)).await?;
    let changes: Vec<_> = topics
        .iter()
        .map(|topic| {
            let existing = metadata
                .topics
                .get(topic)
                .map_or(0, |topic| topic.partitions.len());
            let added = wanted.assignment.iter().skip(existing).cloned().collect();
            (topic.clone(), wanted.partitions.unwrap_or(1), added)
        })
        .collect();
    Ok(admin.create_partitions(&changes).await?)
}

/// Topics that match `--topic`, sorted; all if it was not given.
async fn matching(admin: &Admin, options: &Options) -> Result<Vec<String>, Failure> {
    let names = admin.topic_names(!options.has("exclude-internal")).await?;
    filter(names, options)
}

/// Applies `--topic` and `--exclude-internal` to a list of names.
pub(super) fn filter(names: Vec<String>, options: &Options) -> Result<Vec<String>, Failure> {
    let pattern = options.value("topic").map_err(argument)?;
    let pattern = pattern.map(topic_filter).transpose()?;
    let exclude = options.has("exclude-internal");
    Ok(names
        .into_iter()
        .filter(|name| {
            pattern
                .as_ref()
                .is_none_or(|pattern| pattern.is_match(name))
        })
        .filter(|name| !(exclude && is_internal(name)))
        .collect())
}

pub(super) fn is_internal(topic: &str) -> bool {
    matches!(topic, "__consumer_offsets" | "__transaction_state")
}

/// `kafka.utils.IncludeList`: a regular expression for whole names, where a comma means "or".
pub(super) fn topic_filter(text: &str) -> Result<regex_lite::Regex, Failure> {
    let quotes = ['"', '\''];
    let text = text.trim().replace(',', "|").replace(' ', "");
    let text = text.trim_start_matches(quotes).trim_end_matches(quotes);
    regex_lite::Regex::new(&format!("^(?:{text})$")).map_err(|_| {
        Failure::Own(
            "java.lang.RuntimeException",
            format!("{text} is an invalid regex."),
        )
    })
}

/// Like [`matching`], but the topic named has to be there unless `--if-exists` was given.
async fn expected(admin: &Admin, options: &Options) -> Result<Vec<String>, Failure> {
    let topics = matching(admin, options).await?;
    ensure_exists(&topics, options)?;
    Ok(topics)
}

pub(super) fn ensure_exists(topics: &[String], options: &Options) -> Result<(), Failure> {
    match options.values("topic").first() {
        Some(topic) if topics.is_empty() && !options.has("if-exists") => Err(illegal(format!(
            "Topic '{topic}' does not exist as expected"
        ))),
        _ => Ok(()),
    }
}

/// Which lines `--describe` prints.
pub(super) struct Filters {
    under_replicated: bool,
    unavailable: bool,
    under_min_isr: bool,
    at_min_isr: bool,
    overridden: bool,
}

/// One partition, from whichever source.
pub(super) struct PartitionLine<'a> {
    /// The partition.
    pub partition: &'a Partition,
    /// How many replicas it should have.
    pub replication_factor: usize,
    /// `min.insync.replicas`, where known.
    pub min_isr: Option<usize>,
    /// Is the leader alive?
    pub leader_alive: bool,
    /// A reassignment under way.
    pub reassignment: Option<&'a Reassignment>,
    /// Is the topic about to go?
    pub deleted: bool,
}

impl Filters {
    pub(super) fn new(options: &Options) -> Filters {
        Filters {
            under_replicated: options.has("under-replicated-partitions"),
            unavailable: options.has("unavailable-partitions"),
            under_min_isr: options.has("under-min-isr-partitions"),
            at_min_isr: options.has("at-min-isr-partitions"),
            overridden: options.has("topics-with-overrides"),
        }
    }

    /// Is a line per topic wanted?
    pub(super) fn topics(&self) -> bool {
        !(self.under_replicated || self.unavailable || self.under_min_isr || self.at_min_isr)
    }

    /// Is a line for this topic wanted, given whether it has settings of its own?
    pub(super) fn topic(&self, overridden: bool) -> bool {
        self.topics() && (!self.overridden || overridden)
    }

    /// Is a line for this partition wanted?
    pub(super) fn partition(&self, line: &PartitionLine<'_>) -> bool {
        if self.overridden {
            return false;
        }
        let isr = line.partition.isr.len();
        let has_leader = line.partition.leader.is_some();
        self.topics()
            || self.under_replicated && line.replication_factor > isr
            || self.unavailable && !(has_leader && line.leader_alive)
            || self.under_min_isr && (!has_leader || line.min_isr.is_some_and(|least| isr < least))
            || self.at_min_isr && line.min_isr == Some(isr)
    }
}

/// `Topic: …`
pub(super) fn topic_line(
    name: &str,
    id: Option<uuid::Uuid>,
    partitions: usize,
    replication_factor: usize,
    configs: &[String],
    deleted: bool,
) -> String {
    let mut line = format!("Topic: {name}");
    if let Some(id) = id.filter(|id| !id.is_nil()) {
        line.push_str(&format!("\tTopicId: {}", kafka_uuid_text(id)));
    }
    line.push_str(&format!(
        "\tPartitionCount: {partitions}\tReplicationFactor: {replication_factor}\tConfigs: {}",
        configs.join(",")
    ));
    if deleted {
        line.push_str("\tMarkedForDeletion: true");
    }
    line
}

/// The line of one partition, indented below its topic.
pub(super) fn partition_line(topic: &str, line: &PartitionLine<'_>) -> String {
    let ids = |list: &[i32]| {
        list.iter()
            .map(i32::to_string)
            .collect::<Vec<_>>()
            .join(",")
    };
    let partition = line.partition;
    let leader = partition
        .leader
        .map_or_else(|| "none".to_owned(), |leader| leader.to_string());
    let mut text = format!(
        "\tTopic: {topic}\tPartition: {}\tLeader: {leader}\tReplicas: {}\tIsr: {}",
        partition.index,
        ids(&partition.replicas),
        ids(&partition.isr)
    );
    if let Some(reassignment) = line.reassignment {
        text.push_str(&format!(
            "\tAdding Replicas: {}\tRemoving Replicas: {}",
            ids(&reassignment.adding),
            ids(&reassignment.removing)
        ));
    }
    if line.deleted {
        text.push_str("\tMarkedForDeletion: true");
    }
    text
}

async fn describe(admin: &Admin, options: &Options) -> Result<(), Failure> {
    let names = match options.value("topic-id").map_err(argument)? {
        Some(id) => vec![named(admin, id).await?],
        None => expected(admin, options).await?,
    };
    if names.is_empty() {
        return Ok(());
    }
    let metadata = admin.metadata(Wanted::Named(&names, false)).await?;
    let mut partitions = Vec::new();
    for (name, topic) in &metadata.topics {
        ClientError::check(topic.error_code, None)?;
        let list = topic.partitions.iter();
        partitions.extend(list.map(|p| TopicPartition::new(name.as_str(), p.index)));
    }
    let reassignments = match admin.reassignments(&partitions).await {
        Ok(found) => found,
        Err(ClientError::Unsupported { .. }) => BTreeMap::new(),
        Err(error) if error.code() == Some(ResponseError::ClusterAuthorizationFailed) => {
            BTreeMap::new()
        }
        Err(error) => return Err(error.into()),
    };
    let filters = Filters::new(options);
    let count = names.len();
    for name in hash_order(names, count, |name| name) {
        let Some(topic) = metadata.topics.get(&name) else {
            continue;
        };
        let configs = admin
            .describe_configs(&Resource::Topic(name.clone()))
            .await?;
        let lines = TopicLines {
            name: &name,
            topic,
            configs,
            reassignments: &reassignments,
            alive: metadata.brokers.keys().copied().collect(),
        };
        if options.has("json") {
            out!("{}", lines.json());
        } else {
            lines.print(&filters);
        }
    }
    Ok(())
}

/// The topic with this id.
async fn named(admin: &Admin, text: &str) -> Result<String, Failure> {
    let metadata = admin.metadata(Wanted::All).await?;
    let id = kafka_uuid_parse(text);
    let mut topics = metadata.topics.iter();
    let found = topics.find(|(_, topic)| id.is_some_and(|id| !id.is_nil() && topic.id == id));
    found
        .map(|(name, _)| name.clone())
        .ok_or_else(|| illegal(format!("TopicId '{text}' does not exist as expected")))
}

struct TopicLines<'a> {
    name: &'a str,
    topic: &'a Topic,
    configs: Vec<ConfigEntry>,
    reassignments: &'a BTreeMap<TopicPartition, Reassignment>,
    alive: Vec<i32>,
}

impl TopicLines<'_> {
    fn reassignment(&self, partition: i32) -> Option<&Reassignment> {
        self.reassignments
            .get(&TopicPartition::new(self.name, partition))
    }

    /// Without the replicas that a reassignment only adds.
    fn replication_factor(&self, partition: &Partition) -> usize {
        let Some(moving) = self.reassignment(partition.index) else {
            return partition.replicas.len();
        };
        let changing = |id: &i32| moving.adding.contains(id) || moving.removing.contains(id);
        if !partition.replicas.iter().any(changing) {
            return partition.replicas.len();
        }
        let kept = moving
            .replicas
            .iter()
            .filter(|id| !moving.adding.contains(id));
        kept.count()
    }

    fn overrides(&self) -> Vec<String> {
        let count = self.configs.len();
        let mut capacity = 16;
        while count * 4 > capacity * 3 {
            capacity *= 2;
        }
        let own = self.configs.iter().filter(|config| !config.is_default());
        hash_order(own.collect(), capacity, |config| &config.name)
            .into_iter()
            .map(|config| {
                // Java prints a null as such.
                let value = config.value.as_deref().unwrap_or("null");
                format!("{}={value}", config.name)
            })
            .collect()
    }

    fn print(&self, filters: &Filters) {
        let overrides = self.overrides();
        let first = self.topic.partitions.first();
        if filters.topic(!overrides.is_empty()) {
            out!(
                "{}",
                topic_line(
                    self.name,
                    Some(self.topic.id),
                    self.topic.partitions.len(),
                    first.map_or(0, |partition| self.replication_factor(partition)),
                    &overrides,
                    false,
                )
            );
        }
        let min_isr = self
            .configs
            .iter()
            .find(|config| config.name == "min.insync.replicas")
            .and_then(|config| config.value.as_deref()?.parse().ok());
        for partition in &self.topic.partitions {
            let line = PartitionLine {
                partition,
                replication_factor: self.replication_factor(partition),
                min_isr,
                leader_alive: partition.leader.is_some_and(|id| self.alive.contains(&id)),
                reassignment: self.reassignment(partition.index),
                deleted: false,
            };
            if filters.partition(&line) {
                out!("{}", partition_line(self.name, &line));
            }
        }
    }

    fn json(&self) -> serde_json::Value {
        let configs: serde_json::Map<String, serde_json::Value> = self
            .configs
            .iter()
            .filter(|config| !config.is_default())
            .map(|config| (config.name.clone(), config.value.clone().into()))
            .collect();
        let partitions = self.topic.partitions.iter().map(|partition| {
            serde_json::json!({
                "partition": partition.index,
                "leader": partition.leader,
                "replicas": partition.replicas,
                "isr": partition.isr,
            })
        });
        serde_json::json!({
            "topic": self.name,
            "topic_id": kafka_uuid_text(self.topic.id),
            "configs": configs,
            "partitions": partitions.collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition() -> Partition {
        Partition {
            index: 0,
            error_code: 0,
            leader: Some(1),
            leader_epoch: 0,
            replicas: vec![1, 2],
            isr: vec![1],
        }
    }

    #[test]
    fn describe_lines_are_the_originals() {
        let id = crate::common::ids::kafka_uuid_parse("LF0GG-jhSf6papDs6yeTsA");
        assert_eq!(
            topic_line(
                "perf",
                id,
                1,
                1,
                &["segment.bytes=1073741824".to_owned()],
                false
            ),
            "Topic: perf\tTopicId: LF0GG-jhSf6papDs6yeTsA\tPartitionCount: 1\tReplicationFactor: 1\tConfigs: segment.bytes=1073741824"
        );
        let partition = partition();
        let line = PartitionLine {
            partition: &partition,
            replication_factor: 2,
            min_isr: Some(1),
            leader_alive: true,
            reassignment: None,
            deleted: false,
        };
        assert_eq!(
            partition_line("perf", &line),
            "\tTopic: perf\tPartition: 0\tLeader: 1\tReplicas: 1,2\tIsr: 1"
        );
        let filters = |text: &str| {
            let words = [text.to_owned()];
            let options = java_args::parse(SPECS, &words, java_args::Habit::Joptsimple);
            Filters::new(&options.expect("known")).partition(&line)
        };
        assert!(filters("--describe"));
        assert!(filters("--under-replicated-partitions"));
        assert!(filters("--at-min-isr-partitions"));
        assert!(!filters("--under-min-isr-partitions"));
        assert!(!filters("--unavailable-partitions"));
        assert!(!filters("--topics-with-overrides"));
    }

    #[test]
    fn a_topic_filter_matches_whole_names() {
        let matches = |filter: &str, name: &str| {
            topic_filter(filter).is_ok_and(|filter| filter.is_match(name))
        };
        assert!(matches("test", "test"));
        assert!(!matches("test", "test2"));
        assert!(matches("a,b", "b"));
        assert!(matches("\"te.*\"", "test2"));
    }

    #[test]
    fn assignments_are_checked() {
        assert!(matches!(parse_assignment("0:1,1:2"), Ok(list) if list == [[0, 1], [1, 2]]));
        assert!(parse_assignment("0:0").is_err());
        assert!(parse_assignment("0:1,2").is_err());
        assert!(parse_assignment("x").is_err());
    }
}
