//! `kafka-console-consumer`: records become lines of standard output.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use super::client_props::Properties;
use super::consumer_options::{self, last, number};
use super::java_args::{ArgError, Options, Spec, Usage, flag, key_values, option};
use super::print::{Refused, err, log_error, out, throwable};
use super::run_tool;
use crate::client::World;
use crate::client::consumer::{Chunk, Start};
use crate::common::ids::TopicPartition;
use crate::kafka::record::Record;

const SPECS: &[Spec] = &[
    option("topic", "String: topic", "The topic id to consume on."),
    option(
        "whitelist",
        "String: whitelist",
        "Regular expression specifying whitelist of topics to include for consumption.",
    ),
    consumer_options::INCLUDE,
    option(
        "partition",
        "Integer: partition",
        "The partition to consume from. Consumption starts from the end of the partition unless '--offset' is specified.",
    ),
    option(
        "offset",
        "String: consume offset",
        "The offset id to consume from (a non-negative number), or 'earliest' which means from beginning, or 'latest' which means from end (default: latest)",
    ),
    option(
        "consumer-property",
        "String: consumer_prop",
        "A mechanism to pass user-defined properties in the form key=value to the consumer.",
    ),
    consumer_options::COMMAND_PROPERTY,
    consumer_options::CONSUMER_CONFIG,
    consumer_options::COMMAND_CONFIG,
    option(
        "formatter",
        "String: class",
        "The name of a class to use for formatting kafka messages for display. (default: kafka.tools.DefaultMessageFormatter)",
    ),
    option(
        "property",
        "String: prop",
        "The properties to initialize the message formatter. Default properties include: \n print.timestamp=true|false\n print.key=true|false\n print.offset=true|false\n print.partition=true|false\n print.headers=true|false\n print.value=true|false\n key.separator=<key.separator>\n line.separator=<line.separator>\n headers.separator=<line.separator>\n null.literal=<null.literal>\n key.deserializer=<key.deserializer>\n value.deserializer=<value.deserializer>\n header.deserializer=<header.deserializer>\nUsers can also pass in customized properties for their formatter; more specifically, users can pass in properties keyed with 'key.deserializer.', 'value.deserializer.' and 'headers.deserializer.' prefixes to configure their deserializers.",
    ),
    option(
        "formatter-property",
        "String: prop",
        "The same as --property.",
    )
    .beyond(),
    flag(
        "from-beginning",
        "If the consumer does not already have an established offset to consume from, start with the earliest message present in the log rather than the latest message.",
    ),
    option(
        "max-messages",
        "Integer: num_messages",
        "The maximum number of messages to consume before exiting. If not set, consumption is continual.",
    ),
    option(
        "timeout-ms",
        "Integer: timeout_ms",
        "If specified, exit if no message is available for consumption for the specified interval.",
    ),
    flag(
        "skip-message-on-error",
        "If there is an error when processing a message, skip it instead of halt.",
    ),
    consumer_options::BOOTSTRAP_SERVER,
    option("key-deserializer", "String: deserializer for key", ""),
    option("value-deserializer", "String: deserializer for values", ""),
    consumer_options::ENABLE_SYSTEST_EVENTS,
    option(
        "isolation-level",
        "String",
        "Set to read_committed in order to filter out transactional messages which are not committed. Set to read_uncommitted to read all messages. (default: read_uncommitted)",
    ),
    option(
        "group",
        "String: consumer group id",
        "The consumer group id of the consumer.",
    ),
    option(
        "formatter-config",
        "String: config file",
        "Config properties file to initialize the message formatter. Note that [formatter-property] takes precedence over this config.",
    )
    .beyond(),
];

const USAGE: Usage = Usage {
    specs: SPECS,
    about: "This tool helps to read data from Kafka topics and outputs it to standard output.",
    tried: true,
};

const LOGGER: &str = "kafka.tools.ConsoleConsumer$";

/// What is read, from where.
#[derive(Debug)]
enum Source {
    Topic(String),
    Pattern(regex_lite::Regex),
    Partition(TopicPartition, Start),
}

#[derive(Debug)]
struct Plan {
    source: Source,
    limit: Option<u64>,
    timeout: Duration,
    skip_on_error: bool,
    tells_events: bool,
    formatter: Formatter,
    properties: Properties,
}

/// Runs the tool.
pub fn run(_program: &str, arguments: Vec<String>) -> u8 {
    match prepare(&arguments) {
        Ok(plan) => run_tool(|world| consume(world, plan)),
        Err(code) => code,
    }
}

fn prepare(arguments: &[String]) -> Result<Plan, u8> {
    let options = USAGE.parse(arguments)?;
    let wrong = |error: ArgError| error.die();
    let formatter = formatter(&options)?;
    let topic = options.value("topic").map_err(wrong)?;
    let pattern = last(&options, &["include", "whitelist"]);
    if topic.is_some() == pattern.is_some() {
        return Err(USAGE.die("Exactly one of whitelist/topic is required."));
    }
    let partition = number::<i32>(&options, "partition")?;
    let from_beginning = options.has("from-beginning");
    if partition.is_some() {
        if topic.is_none() {
            return Err(USAGE.die("The topic is required when partition is specified."));
        }
        if from_beginning && options.has("offset") {
            return Err(
                USAGE.die("Options from-beginning and offset cannot be specified together.")
            );
        }
    } else if options.has("offset") {
        return Err(USAGE.die("The partition is required when offset is specified."));
    }
    let start = match options.value("offset").map_err(wrong)? {
        None if from_beginning => Start::Earliest,
        None => Start::Latest,
        Some(text) => start(text)?,
    };
    USAGE.require(&options, &["bootstrap-server"])?;
    let properties = properties(&options, from_beginning)?;
    let source = match (topic, partition, pattern) {
        (Some(topic), Some(partition), _) => {
            Source::Partition(TopicPartition::new(topic, partition), start)
        }
        (Some(topic), None, _) => Source::Topic(topic.to_owned()),
        (None, _, pattern) => {
            let pattern = consumer_options::pattern(&pattern.unwrap_or_default());
            Source::Pattern(pattern.map_err(|refused| refused.die())?)
        }
    };
    let limit = number::<i64>(&options, "max-messages")?;
    let timeout = number::<i64>(&options, "timeout-ms")?;
    Ok(Plan {
        source,
        limit: limit.and_then(|limit| u64::try_from(limit).ok()),
        timeout: timeout
            .and_then(|ms| u64::try_from(ms).ok())
            .map_or(Duration::from_secs(86_400 * 365), Duration::from_millis),
        skip_on_error: options.has("skip-message-on-error"),
        tells_events: options.has("enable-systest-events"),
        formatter,
        properties,
    })
}

fn start(text: &str) -> Result<Start, u8> {
    match text.to_lowercase().as_str() {
        "earliest" => Ok(Start::Earliest),
        "latest" => Ok(Start::Latest),
        number => match number.parse::<i64>() {
            Ok(offset) if offset >= 0 => Ok(Start::Offset(offset)),
            _ => Err(USAGE.die(&format!(
                "The provided offset value '{number}' is incorrect. Valid values are 'earliest', 'latest', or a non-negative long."
            ))),
        },
    }
}

fn properties(options: &Options, from_beginning: bool) -> Result<Properties, u8> {
    let mut properties = consumer_options::properties(options).map_err(|refused| refused.die())?;
    let file = Properties::from_options(options, &["consumer.config", "command-config"], &[]);
    let file = file.map_err(|refused| refused.die())?;
    let extra = [
        options.values("consumer-property"),
        options.values("command-property"),
    ];
    let extra = key_values(&extra.concat());
    let given = |key: &str| extra.iter().find(|(name, _)| name == key).map(|(_, v)| v);
    let mut groups: Vec<String> = Vec::new();
    let ids = [
        options.values("group").first(),
        file.get("group.id").map(str::to_owned).as_ref(),
        given("group.id"),
    ]
    .map(|id| id.cloned());
    for id in ids.into_iter().flatten() {
        if !groups.contains(&id) {
            groups.push(id);
        }
    }
    match groups.as_slice() {
        [] => {
            let number = crate::common::rng::Rng::from_os().below(100_000);
            properties.set("group.id", &format!("console-consumer-{number}"));
            // Nobody could go on from there: nothing is committed.
            properties.set_default("enable.auto.commit", "false");
        }
        [group] => properties.set("group.id", group),
        many => {
            let list: Vec<String> = many.iter().map(|id| format!("'{id}'")).collect();
            return Err(USAGE.die(&format!(
                "The group ids provided in different places (directly using '--group', via '--consumer-property', or via '--consumer.config') do not match. Detected group ids: {}",
                list.join(", ")
            )));
        }
    }
    match properties.get("auto.offset.reset") {
        Some(reset) if from_beginning && reset != "earliest" => {
            err!(
                "Can't simultaneously specify --from-beginning and 'auto.offset.reset={reset}', please remove one option"
            );
            return Err(1);
        }
        Some(_) => {}
        None if from_beginning => properties.set("auto.offset.reset", "earliest"),
        None => properties.set("auto.offset.reset", "latest"),
    }
    if let Some(servers) = options.values("bootstrap-server").last() {
        properties.set("bootstrap.servers", servers);
    }
    match options.values("isolation-level").last() {
        Some(level) => properties.set("isolation.level", level),
        None => properties.set_default("isolation.level", "read_uncommitted"),
    }
    let client_id = format!(
        "consumer-{}-1",
        properties.get("group.id").unwrap_or("null")
    );
    properties.set_default("client.id", &client_id);
    Ok(properties)
}

/// How often the consumer looks whether somebody still reads what it prints.
const PIPE_LOOK: Duration = Duration::from_millis(500);
/// How long the last commit and the farewell to the group may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

async fn consume(world: World, plan: Plan) -> u8 {
    let made = consumer_options::consumer(&world, &plan.properties, "console-consumer");
    let mut consumer = match made {
        Ok(consumer) => consumer,
        Err(refused) => return not_begun(&world, &refused),
    };
    match &plan.source {
        Source::Topic(topic) => consumer.subscribe(vec![topic.clone()]),
        Source::Pattern(pattern) => consumer.subscribe_pattern(pattern.clone()),
        Source::Partition(partition, start) => {
            consumer.assign(vec![(partition.clone(), *start)]);
        }
    }
    let mut printer = Printer {
        output: std::io::BufWriter::with_capacity(64 * 1024, std::io::stdout()),
        formatter: &plan.formatter,
        printed: 0,
        limit: plan.limit,
        skip_on_error: plan.skip_on_error,
        check: plan.properties.boolean("check.crcs", true).unwrap_or(true),
    };
    let stopped = stop_signal();
    tokio::pin!(stopped);
    let mut code = 0;
    let mut failed = None;
    let mut quiet_until = tokio::time::Instant::now() + plan.timeout;
    loop {
        if printer.limit == Some(printer.printed) {
            break;
        }
        // A look at the pipe now and then: its reader may go while nothing arrives to be written.
        let look = quiet_until.min(tokio::time::Instant::now() + PIPE_LOOK);
        let polled = tokio::select! {
            polled = consumer.poll(look - tokio::time::Instant::now()) => polled,
            // Without a broker even asking who leads takes longer than this tool may wait.
            () = tokio::time::sleep_until(quiet_until + PIPE_LOOK) => Ok(None),
            signal_code = &mut stopped => {
                code = signal_code;
                break;
            }
        };
        match polled {
            Ok(Some(chunk)) => match printer.print(&world, &chunk) {
                Done::All => quiet_until = tokio::time::Instant::now() + plan.timeout,
                Done::Until(offset) => {
                    consumer.seek(&chunk.partition, offset);
                    break;
                }
                Done::NoReader => {
                    err!("Unable to write to standard out, closing consumer.");
                    break;
                }
                Done::Undecodable(message) => {
                    failed = Some(message);
                    break;
                }
            },
            Ok(None) if reader_is_gone() => {
                err!("Unable to write to standard out, closing consumer.");
                break;
            }
            Ok(None) if tokio::time::Instant::now() < quiet_until => {}
            Ok(None) => {
                log_error(&world, ENDS, LOGGER);
                err!("org.apache.kafka.common.errors.TimeoutException");
                break;
            }
            Err(error) => {
                log_error(&world, ENDS, LOGGER);
                err!("{}", throwable(&error));
                break;
            }
        }
    }
    let printed = printer.printed;
    let _ = printer.output.flush();
    match tokio::time::timeout(CLOSE_LIMIT, consumer.close()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "the last commit failed"),
        Err(_) => tracing::debug!("the last commit took too long"),
    }
    err!("Processed a total of {printed} messages");
    if let Some(message) = failed {
        log_error(&world, UNKNOWN, LOGGER);
        err!("org.apache.kafka.common.errors.SerializationException: {message}");
        code = 1;
    }
    if plan.tells_events {
        out!("shutdown_complete");
    }
    code
}

/// What the original logs above an exception that ends its reading, or its whole run.
const ENDS: &str = "Error processing message, terminating consumer process: ";
const UNKNOWN: &str = "Unknown error when running consumer: ";

fn not_begun(world: &World, refused: &Refused) -> u8 {
    match refused.throwable() {
        Ok(throwable) => {
            log_error(world, UNKNOWN, LOGGER);
            err!("{throwable}");
        }
        Err(message) => err!("{message}"),
    }
    1
}

/// Has whoever read our standard output closed it? (`consumer | head`)
fn reader_is_gone() -> bool {
    use rustix::event::{PollFd, PollFlags, poll};
    let stdout = std::io::stdout();
    let mut ends = [PollFd::new(&stdout, PollFlags::empty())];
    let now = rustix::event::Timespec::default();
    poll(&mut ends, Some(&now)).is_ok() && ends[0].revents().contains(PollFlags::ERR)
}

/// Waits for Ctrl-C or SIGTERM; gives the exit code that belongs to it.
async fn stop_signal() -> u8 {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => 130,
        _ = terminate.recv() => 143,
    }
}

struct Printer<'a> {
    output: std::io::BufWriter<std::io::Stdout>,
    formatter: &'a Formatter,
    printed: u64,
    limit: Option<u64>,
    skip_on_error: bool,
    check: bool,
}

/// How far a chunk was printed.
enum Done {
    All,
    Until(i64),
    NoReader,
    /// A field is not what its deserializer expects.
    Undecodable(String),
}

impl Printer<'_> {
    fn print(&mut self, world: &World, chunk: &Chunk) -> Done {
        for record in chunk.records(self.check) {
            let (record, log_append_time) = match record {
                Ok(record) => record,
                Err(error) => {
                    log_error(
                        world,
                        "Error processing message, skipping this message: ",
                        LOGGER,
                    );
                    err!("{}", throwable(&error));
                    if self.skip_on_error {
                        continue;
                    }
                    return Done::Until(chunk.next_offset);
                }
            };
            if self.limit == Some(self.printed) {
                return Done::Until(record.offset.0);
            }
            self.printed += 1;
            let partition = &chunk.partition;
            let written =
                self.formatter
                    .write(partition, &record, log_append_time, &mut self.output);
            match written {
                Ok(()) => {}
                // Only our own formatter's errors have a text of their own.
                Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                    if !self.skip_on_error {
                        return Done::Undecodable(error.to_string());
                    }
                    log_error(
                        world,
                        "Error processing message, skipping this message: ",
                        LOGGER,
                    );
                    err!("org.apache.kafka.common.errors.SerializationException: {error}");
                }
                Err(_) => return Done::NoReader,
            }
        }
        match self.output.flush() {
            Ok(()) => Done::All,
            Err(_) => Done::NoReader,
        }
    }
}

/// How a field's bytes are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    /// As they are.
    Bytes,
    /// As text, with replacement characters.
    Text,
    Integer,
    Long,
    Short,
    Double,
    Float,
}

/// `DefaultMessageFormatter`.
#[derive(Clone, Debug)]
struct Formatter {
    silent: bool,
    /// `ChecksumMessageFormatter`, whose sums have long been 0.
    checksum: bool,
    timestamp: bool,
    key: bool,
    value: bool,
    partition: bool,
    offset: bool,
    headers: bool,
    key_separator: String,
    line_separator: String,
    headers_separator: String,
    null_literal: String,
    key_shown: Shown,
    value_shown: Shown,
    headers_shown: Shown,
}

fn formatter(options: &Options) -> Result<Formatter, u8> {
    let fail = |message: String| {
        err!("{message}");
        1
    };
    let mut formatter = Formatter {
        silent: false,
        checksum: false,
        timestamp: false,
        key: false,
        value: true,
        partition: false,
        offset: false,
        headers: false,
        key_separator: "\t".to_owned(),
        line_separator: "\n".to_owned(),
        headers_separator: ",".to_owned(),
        null_literal: "null".to_owned(),
        key_shown: Shown::Bytes,
        value_shown: Shown::Bytes,
        headers_shown: Shown::Bytes,
    };
    match options.values("formatter").last().map(String::as_str) {
        None
        | Some(
            // The second logs below what the tools' log shows, and prints the same.
            "kafka.tools.DefaultMessageFormatter"
            | "kafka.tools.LoggingMessageFormatter"
            | "org.apache.kafka.tools.consumer.DefaultMessageFormatter",
        ) => {}
        Some(
            "kafka.tools.NoOpMessageFormatter"
            | "org.apache.kafka.tools.consumer.NoOpMessageFormatter",
        ) => formatter.silent = true,
        Some("kafka.tools.ChecksumMessageFormatter") => formatter.checksum = true,
        Some(other) => {
            let known = ["kafka.", "org.apache.kafka."];
            if !known.iter().any(|package| other.starts_with(package)) {
                err!("Exception in thread \"main\" java.lang.ClassNotFoundException: {other}");
                return Err(1);
            }
            return Err(fail(format!(
                "the formatter {other} is not supported by this tool yet"
            )));
        }
    }
    let given = [
        options.values("property"),
        options.values("formatter-property"),
    ];
    let mut properties: BTreeMap<String, String> = match last(options, &["formatter-config"]) {
        Some(path) => Properties::load(&path)
            .map_err(|refused| refused.die())?
            .into_map(),
        None => BTreeMap::new(),
    };
    properties.extend(key_values(&given.concat()));
    for field in ["key", "value"] {
        if let Some(class) = options.values(&format!("{field}-deserializer")).last() {
            properties.insert(format!("{field}.deserializer"), class.clone());
        }
    }
    for (key, value) in properties {
        let truth = value.trim().eq_ignore_ascii_case("true");
        match key.as_str() {
            "print.timestamp" => formatter.timestamp = truth,
            "print.key" => formatter.key = truth,
            "print.value" => formatter.value = truth,
            "print.partition" => formatter.partition = truth,
            "print.offset" => formatter.offset = truth,
            "print.headers" => formatter.headers = truth,
            "key.separator" => formatter.key_separator = value,
            "line.separator" => formatter.line_separator = value,
            "headers.separator" => formatter.headers_separator = value,
            "null.literal" => formatter.null_literal = value,
            "key.deserializer" => formatter.key_shown = shown(&value).map_err(fail)?,
            "value.deserializer" => formatter.value_shown = shown(&value).map_err(fail)?,
            "headers.deserializer" => formatter.headers_shown = shown(&value).map_err(fail)?,
            "header.deserializer" => formatter.headers_shown = shown(&value).map_err(fail)?,
            // The original passes over what it does not know, without a word.
            other => err!("WARNING: the formatter property {other} has no effect"),
        }
    }
    Ok(formatter)
}

/// By the class of one of Kafka's own deserializers.
fn shown(class: &str) -> Result<Shown, String> {
    let name = class
        .strip_prefix("org.apache.kafka.common.serialization.")
        .unwrap_or(class);
    Ok(match name {
        "ByteArrayDeserializer" | "BytesDeserializer" => Shown::Bytes,
        "StringDeserializer" => Shown::Text,
        "IntegerDeserializer" => Shown::Integer,
        "LongDeserializer" => Shown::Long,
        "ShortDeserializer" => Shown::Short,
        "DoubleDeserializer" => Shown::Double,
        "FloatDeserializer" => Shown::Float,
        _ => {
            return Err(format!(
                "the deserializer {class} is not supported by this tool yet"
            ));
        }
    })
}

impl Shown {
    fn write(self, bytes: &[u8], output: &mut impl Write) -> std::io::Result<()> {
        let wrong = |wanted: usize| {
            // The sentences of Kafka's own deserializers.
            let text = match self {
                Shown::Long | Shown::Integer | Shown::Short | Shown::Float => {
                    format!("Size of data received by {self:?}Deserializer is not {wanted}")
                }
                _ => "Size of data received by Deserializer is not 8".to_owned(),
            };
            std::io::Error::new(std::io::ErrorKind::InvalidData, text)
        };
        match self {
            Shown::Bytes => output.write_all(bytes),
            Shown::Text => output.write_all(String::from_utf8_lossy(bytes).as_bytes()),
            Shown::Integer => {
                let value = bytes.try_into().map_err(|_| wrong(4))?;
                write!(output, "{}", i32::from_be_bytes(value))
            }
            Shown::Long => {
                let value = bytes.try_into().map_err(|_| wrong(8))?;
                write!(output, "{}", i64::from_be_bytes(value))
            }
            Shown::Short => {
                let value = bytes.try_into().map_err(|_| wrong(2))?;
                write!(output, "{}", i16::from_be_bytes(value))
            }
            Shown::Double => {
                let value = bytes.try_into().map_err(|_| wrong(8))?;
                write!(output, "{:?}", f64::from_be_bytes(value))
            }
            Shown::Float => {
                let value = bytes.try_into().map_err(|_| wrong(4))?;
                write!(output, "{:?}", f32::from_be_bytes(value))
            }
        }
    }
}

impl Formatter {
    fn write(
        &self,
        partition: &TopicPartition,
        record: &Record,
        log_append_time: bool,
        output: &mut impl Write,
    ) -> std::io::Result<()> {
        if self.silent {
            return Ok(());
        }
        if self.checksum {
            return output.write_all(b"checksum:0\n");
        }
        let separator = |more: bool| {
            let text = if more {
                &self.key_separator
            } else {
                &self.line_separator
            };
            text.as_bytes()
        };
        let null = self.null_literal.as_bytes();
        if self.timestamp {
            match (record.timestamp, log_append_time) {
                (..=-1, _) => output.write_all(b"NO_TIMESTAMP")?,
                (at, true) => write!(output, "LogAppendTime:{at}")?,
                (at, false) => write!(output, "CreateTime:{at}")?,
            }
            let more = self.offset || self.partition || self.headers || self.key || self.value;
            output.write_all(separator(more))?;
        }
        if self.partition {
            write!(output, "Partition:{}", partition.partition)?;
            let more = self.offset || self.headers || self.key || self.value;
            output.write_all(separator(more))?;
        }
        if self.offset {
            write!(output, "Offset:{}", record.offset)?;
            output.write_all(separator(self.headers || self.key || self.value))?;
        }
        if self.headers {
            if record.headers.is_empty() {
                output.write_all(b"NO_HEADERS")?;
            }
            for (place, (key, value)) in record.headers.iter().enumerate() {
                if place > 0 {
                    output.write_all(self.headers_separator.as_bytes())?;
                }
                output.write_all(key)?;
                output.write_all(b":")?;
                self.headers_shown
                    .write(value.as_deref().unwrap_or(null), output)?;
            }
            output.write_all(separator(self.key || self.value))?;
        }
        if self.key {
            self.key_shown
                .write(record.key.as_deref().unwrap_or(null), output)?;
            output.write_all(separator(self.value))?;
        }
        if self.value {
            self.value_shown
                .write(record.value.as_deref().unwrap_or(null), output)?;
            output.write_all(self.line_separator.as_bytes())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::ids::Offset;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    fn line(text: &str) -> String {
        let plan = prepare(&words(&format!("--bootstrap-server a:1 --topic t {text}")))
            .expect("well formed");
        let record = Record {
            offset: Offset(5),
            timestamp: 1_620_000_000_000,
            sequence: -1,
            key: None,
            value: Some("你好".into()),
            headers: vec![("h".into(), Some("1".into())), ("i".into(), None)],
        };
        let mut output = Vec::new();
        plan.formatter
            .write(&TopicPartition::new("t", 3), &record, false, &mut output)
            .expect("memory");
        String::from_utf8(output).expect("text")
    }

    #[test]
    fn lines_look_as_the_original_prints_them() {
        assert_eq!(line("--from-beginning"), "你好\n");
        assert_eq!(
            line("--property print.key=true --property key.separator=::"),
            "null::你好\n"
        );
        assert_eq!(
            line(
                "--property print.timestamp=true --property print.partition=true --property print.offset=true --property print.headers=true --property print.key=true"
            ),
            "CreateTime:1620000000000\tPartition:3\tOffset:5\th:1,i:null\tnull\t你好\n"
        );
        assert_eq!(
            line("--property print.offset=true --property print.value=false"),
            "Offset:5\n"
        );
    }

    #[test]
    fn groups_and_positions_come_from_the_options() {
        let plan = prepare(&words("--bootstrap-server a:1 --topic t")).expect("well formed");
        assert_eq!(plan.properties.get("enable.auto.commit"), Some("false"));
        assert_eq!(plan.properties.get("auto.offset.reset"), Some("latest"));
        let plan = prepare(&words(
            "--bootstrap-server a:1 --topic t --group g --from-beginning",
        ))
        .expect("well formed");
        assert_eq!(plan.properties.get("group.id"), Some("g"));
        assert_eq!(plan.properties.get("enable.auto.commit"), None);
        assert_eq!(plan.properties.get("auto.offset.reset"), Some("earliest"));
        let plan = prepare(&words(
            "--bootstrap-server a:1 --topic t --partition 0 --offset 7",
        ))
        .expect("well formed");
        assert!(matches!(
            plan.source,
            Source::Partition(_, Start::Offset(7))
        ));
        for bad in [
            "--bootstrap-server a:1",
            "--bootstrap-server a:1 --topic t --offset 7",
            "--bootstrap-server a:1 --topic t --partition 0 --offset -7",
            "--topic t",
        ] {
            assert_eq!(prepare(&words(bad)).err(), Some(1), "{bad}");
        }
    }
}
