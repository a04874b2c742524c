//! `kafka-console-producer`: lines of standard input become records.

use std::io::{BufRead, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use super::client_props::{For, Properties};
use super::java_args::{Options, Spec, Usage, flag, option};
use super::print::{Refused, Throwable, err, log_error, throwable};
use super::run_tool;
use crate::client::World;
use crate::client::producer::{Delivery, Producer, Record};
use crate::common::net::HostPort;
use crate::common::tasks::blocking;

const SPECS: &[Spec] = &[
    option("topic", "String: topic", "REQUIRED: The topic id to produce messages to."),
    option("broker-list", "String: broker-list", "DEPRECATED, use --bootstrap-server instead; ignored if --bootstrap-server is specified.  The broker list string in the form HOST1:PORT1,HOST2:PORT2."),
    option("bootstrap-server", "String: server to connect to", "REQUIRED unless --broker-list(deprecated) is specified. The server(s) to connect to. The broker list string in the form HOST1:PORT1,HOST2:PORT2."),
    flag("sync", "If set message send requests to the brokers are synchronously, one at a time as they arrive."),
    option("compression-codec", "String: compression-codec", "The compression codec: either 'none', 'gzip', 'snappy', 'lz4', or 'zstd'. If specified without value, then it defaults to 'gzip'").optional(),
    option("batch-size", "Integer: size", "Number of messages to send in a single batch if they are not being sent synchronously. (default: 200)").idle("2.8.0 reads it and does nothing with it; --max-partition-memory-bytes is the size of a batch"),
    option("message-send-max-retries", "Integer", "Brokers can fail receiving the message for multiple reasons, and being unavailable transiently is just one of them. This property specifies the number of retries before the producer give up and drop this message. (default: 3)"),
    option("retry-backoff-ms", "Integer", "Before each retry, the producer refreshes the metadata of relevant topics. Since leader election takes a bit of time, this property specifies the amount of time that the producer waits before refreshing the metadata. (default: 100)"),
    option("timeout", "Integer: timeout_ms", "If set and the producer is running in asynchronous mode, this gives the maximum amount of time a message will queue awaiting sufficient batch size. The value is given in ms. (default: 1000)"),
    option("request-required-acks", "String: request required acks", "The required acks of the producer requests (default: 1)"),
    option("request-timeout-ms", "Integer: request timeout ms", "The ack timeout of the producer requests. Value must be non-negative and non-zero (default: 1500)"),
    option("metadata-expiry-ms", "Long: metadata expiration interval", "The period of time in milliseconds after which we force a refresh of metadata even if we haven't seen any leadership changes. (default: 300000)"),
    option("max-block-ms", "Long: max block on send", "The max time that the producer will block for during a send request (default: 60000)"),
    option("max-memory-bytes", "Long: total memory in bytes", "The total memory used by the producer to buffer records waiting to be sent to the server. (default: 33554432)"),
    option("max-partition-memory-bytes", "Long: memory in bytes per partition", "The buffer size allocated for a partition. When records are received which are smaller than this size the producer will attempt to optimistically group them together until this size is reached. (default: 16384)"),
    option("socket-buffer-size", "Integer: size", "The size of the tcp RECV size. (default: 102400)"),
    option("property", "String: prop", "A mechanism to pass user-defined properties in the form key=value to the message reader. This allows custom configuration for a user-defined message reader. Default properties include:\n\tparse.key=true|false\n\tkey.separator=<key.separator>\n\tignore.error=true|false"),
    option("reader-property", "String: prop", "The same as --property.").beyond(),
    option("producer-property", "String: producer_prop", "A mechanism to pass user-defined properties in the form key=value to the producer."),
    option("command-property", "String: producer_prop", "The same as --producer-property.").beyond(),
    option("producer.config", "String: config file", "Producer config properties file. Note that [producer-property] takes precedence over this config."),
    option("command-config", "String: config file", "The same as --producer.config.").beyond(),
    option("line-reader", "String: reader_class", "The class name of the class to use for reading lines from standard in. By default each line is read as a separate message. (default: kafka.tools.ConsoleProducer$LineMessageReader)"),
    option("reader-config", "String: config file", "Config properties file for the message reader. Note that [reader-property] takes precedence over this config.").beyond(),
];

const USAGE: Usage = Usage {
    specs: SPECS,
    about: "This tool helps to read data from standard input and publish it to Kafka.",
    tried: true,
};

const CALLBACK: &str = "org.apache.kafka.clients.producer.internals.ErrorLoggingCallback";

/// The names of the one reader there is.
const LINE_READERS: [&str; 3] = [
    "kafka.tools.ConsoleProducer$LineMessageReader",
    "kafka.tools.ConsoleProducer.LineMessageReader",
    "org.apache.kafka.tools.LineMessageReader",
];

/// Lines that may wait between the reading thread and the producer.
const LINES_MAX: usize = 64;

/// In the words of the original's parser.
const NO_SERVER: &str = "Missing required option(s) [bootstrap-server]";

/// Runs the tool.
pub fn run(_program: &str, arguments: Vec<String>) -> u8 {
    match prepare(&arguments) {
        Ok((plan, properties)) => run_tool(|world| produce(world, plan, properties)),
        Err(code) => code,
    }
}

#[derive(Debug)]
struct Plan {
    topic: String,
    sync: bool,
    reader: LineReader,
}

#[derive(Clone, Debug)]
struct LineReader {
    parse_key: bool,
    key_separator: String,
    ignore_error: bool,
}

fn prepare(arguments: &[String]) -> Result<(Plan, Properties), u8> {
    // The original's parser misses this one before anybody looks whether there is a word at all.
    if arguments.is_empty() {
        return Err(USAGE.die(NO_SERVER));
    }
    let options = USAGE.parse(arguments)?;
    if !options.has("bootstrap-server") && !options.has("broker-list") {
        return Err(USAGE.die(NO_SERVER));
    }
    USAGE.require(&options, &["topic"])?;
    // The original catches these, and prints no help.
    let wrong = |error: super::java_args::ArgError| {
        err!("{error}");
        1
    };
    let servers = match options.value("bootstrap-server").map_err(wrong)? {
        Some(servers) => Some(servers),
        None => options.value("broker-list").map_err(wrong)?,
    };
    let servers = servers.unwrap_or_default();
    if servers.is_empty() || HostPort::parse_list(servers, None).is_err() {
        return Err(USAGE.die("Please provide valid host:port like host1:9091,host2:9092\n "));
    }
    check_numbers(&options).map_err(wrong)?;
    let mut properties = producer_properties(&options).map_err(|refused| refuse(&refused))?;
    properties.set("bootstrap.servers", servers);
    let mut reader = LineReader {
        parse_key: false,
        key_separator: "\t".to_owned(),
        ignore_error: false,
    };
    if let Some(class) = options.value("line-reader").map_err(wrong)? {
        known_reader(class)?;
    }
    let given = Properties::from_options(
        &options,
        &["reader-config"],
        &["property", "reader-property"],
    );
    let given = given.map_err(|refused| refuse(&refused))?;
    for (key, value) in given.into_map() {
        let truth = value.trim().eq_ignore_ascii_case("true");
        match key.as_str() {
            "parse.key" => reader.parse_key = truth,
            "key.separator" => reader.key_separator = value,
            "ignore.error" => reader.ignore_error = truth,
            "topic" => {}
            "parse.headers"
            | "headers.delimiter"
            | "headers.separator"
            | "headers.key.separator"
            | "null.marker" => {
                err!("the reader property {key} is not supported by this tool yet");
                return Err(1);
            }
            // The original passes over what it does not know, without a word.
            other => err!("WARNING: the reader property {other} has no effect"),
        }
    }
    let topic = options.value("topic").map_err(wrong)?.unwrap_or_default();
    let plan = Plan {
        topic: topic.to_owned(),
        sync: options.has("sync"),
        reader,
    };
    Ok((plan, properties))
}

/// Refuses a reader that is none of ours; `Err` is the exit code.
fn known_reader(class: &str) -> Result<(), u8> {
    if LINE_READERS.contains(&class) {
        return Ok(());
    }
    let kafkas = ["kafka.", "org.apache.kafka."];
    if kafkas.iter().any(|package| class.starts_with(package)) {
        err!("the line reader {class} is not supported by this tool yet");
    } else {
        err!("java.lang.ClassNotFoundException: {class}");
    }
    Err(1)
}

/// Prints what a failure to begin looks like here. Gives the exit code.
fn refuse(refused: &Refused) -> u8 {
    match refused.throwable() {
        Ok(throwable) => err!("{throwable}"),
        Err(message) => err!("{message}"),
    }
    1
}

/// joptsimple's types of the options that become properties.
fn check_numbers(options: &Options) -> Result<(), super::java_args::ArgError> {
    for name in [
        "batch-size",
        "message-send-max-retries",
        "request-timeout-ms",
        "retry-backoff-ms",
        "socket-buffer-size",
        "timeout",
    ] {
        options.parsed::<i32>(name)?;
    }
    for name in [
        "max-block-ms",
        "max-memory-bytes",
        "max-partition-memory-bytes",
        "metadata-expiry-ms",
    ] {
        options.parsed::<i64>(name)?;
    }
    Ok(())
}

/// Options over properties over defaults, as `maybeMergeOptions` has it.
fn producer_properties(options: &Options) -> Result<Properties, Refused> {
    let mut properties = Properties::from_options(
        options,
        &["producer.config", "command-config"],
        &["producer-property", "command-property"],
    )?;
    let codec = match options.has("compression-codec") {
        false => "none",
        true => options
            .values("compression-codec")
            .first()
            .map_or("gzip", String::as_str),
    };
    properties.set("compression.type", codec);
    properties.set_default("client.id", "console-producer");
    let merged = [
        ("linger.ms", "timeout", "1000"),
        ("acks", "request-required-acks", "1"),
        ("request.timeout.ms", "request-timeout-ms", "1500"),
        ("retries", "message-send-max-retries", "3"),
        ("retry.backoff.ms", "retry-backoff-ms", "100"),
        ("buffer.memory", "max-memory-bytes", "33554432"),
        ("batch.size", "max-partition-memory-bytes", "16384"),
        ("metadata.max.age.ms", "metadata-expiry-ms", "300000"),
        ("max.block.ms", "max-block-ms", "60000"),
    ];
    let idempotent = properties.boolean("enable.idempotence", false)?;
    // Without it the system chooses, and chooses better than the original's 100 KiB.
    if let Some(bytes) = options.values("socket-buffer-size").last() {
        properties.set("send.buffer.bytes", bytes);
    }
    for (key, option, default) in merged {
        match options.values(option).last() {
            Some(value) => properties.set(key, value),
            // The original fails here with its own default; we let idempotence choose.
            None if key == "acks" && idempotent => {}
            None => properties.set_default(key, default),
        }
    }
    Ok(properties)
}

async fn produce(world: World, plan: Plan, properties: Properties) -> u8 {
    let made = properties.producer().and_then(|settings| {
        let cluster = properties.cluster(world.clone(), For::Producer, "console-producer")?;
        Ok((settings, cluster))
    });
    let (settings, cluster) = match made {
        Ok(made) => made,
        Err(refused) => return refuse(&refused),
    };
    let failure: Arc<Mutex<Option<Throwable>>> = Arc::default();
    let report = {
        let failure = failure.clone();
        let sync = plan.sync;
        let world = world.clone();
        Box::new(move |delivery: &Delivery<'_>| {
            let Err(error) = delivery.result else { return };
            let why = throwable(error);
            if sync {
                let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
                *failure = Some(why);
                return;
            }
            for record in delivery.records() {
                let (key, value) = (record.key.as_deref(), record.value.as_deref());
                log_failure(&world, delivery.topic, key, value, &why);
            }
        })
    };
    let producer = Producer::new(cluster, settings, report);
    let (sender, mut lines) = mpsc::channel(LINES_MAX);
    let stop = Arc::new(AtomicBool::new(false));
    let reading = blocking({
        let stop = stop.clone();
        move || read_lines(&sender, &stop)
    });
    tokio::pin!(reading);
    let mut reading_ended = false;
    let mut line_number = 0u64;
    let code = loop {
        let chunk: Option<Vec<Vec<u8>>> = tokio::select! {
            chunk = lines.recv() => chunk,
            () = &mut reading, if !reading_ended => { reading_ended = true; continue; }
            _ = tokio::signal::ctrl_c() => break 130,
        };
        let Some(chunk) = chunk else { break 0 };
        if let Err(message) =
            send_chunk(&world, &plan, &producer, &failure, &chunk, &mut line_number).await
        {
            err!("{message}");
            break 1;
        }
    };
    stop.store(true, Ordering::Relaxed);
    producer.close().await;
    code
}

/// What the original's `ErrorLoggingCallback` logs of one record.
fn log_failure(
    world: &World,
    topic: &str,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    why: &Throwable,
) {
    let length = |bytes: Option<&[u8]>| {
        bytes.map_or_else(
            || "null".to_owned(),
            |bytes| format!("{} bytes", bytes.len()),
        )
    };
    let text = format!(
        "Error when sending message to topic {topic} with key: {}, value: {} with error:",
        length(key),
        length(value)
    );
    log_error(world, &text, CALLBACK);
    err!("{why}");
}

async fn send_chunk(
    world: &World,
    plan: &Plan,
    producer: &Producer,
    failure: &Mutex<Option<Throwable>>,
    chunk: &[Vec<u8>],
    line_number: &mut u64,
) -> Result<(), String> {
    for line in chunk {
        *line_number += 1;
        let (key, value) = plan.reader.split(line, *line_number)?;
        let sent = producer
            .send(&Record {
                topic: &plan.topic,
                partition: None,
                timestamp: world.clock.wall_ms(),
                key,
                value: Some(value),
                headers: &[],
            })
            .await;
        if let Err(error) = sent {
            if plan.sync {
                return Err(Throwable::of_future(throwable(&error)).to_string());
            }
            log_failure(world, &plan.topic, key, Some(value), &throwable(&error));
        } else if plan.sync {
            producer.flush().await;
            let failed = failure
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            if let Some(failed) = failed {
                return Err(Throwable::of_future(failed).to_string());
            }
        }
    }
    Ok(())
}

impl LineReader {
    /// A line as key and value.
    fn split<'a>(
        &self,
        line: &'a [u8],
        number: u64,
    ) -> Result<(Option<&'a [u8]>, &'a [u8]), String> {
        if !self.parse_key {
            return Ok((None, line));
        }
        let separator = self.key_separator.as_bytes();
        let found = if separator.is_empty() {
            Some(0)
        } else {
            line.windows(separator.len())
                .position(|window| window == separator)
        };
        match found {
            Some(at) => Ok((Some(&line[..at]), &line[at + separator.len()..])),
            None if self.ignore_error => Ok((None, line)),
            None => Err(format!(
                "org.apache.kafka.common.KafkaException: No key found on line {number}: {}",
                String::from_utf8_lossy(line)
            )),
        }
    }
}

/// Reads standard input to its end, a bufferful of whole lines at a time.
fn read_lines(sender: &mpsc::Sender<Vec<Vec<u8>>>, stop: &AtomicBool) {
    let prompt = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let mut input = std::io::BufReader::with_capacity(64 * 1024, std::io::stdin());
    let mut chunk = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        if prompt {
            let mut output = std::io::stdout();
            let _ = output.write_all(b">").and_then(|()| output.flush());
        }
        let mut line = Vec::new();
        match input.read_until(b'\n', &mut line) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => {
                err!("reading standard input: {error}");
                break;
            }
        }
        if line.last() == Some(&b'\n') {
            line.pop();
            if line.last() == Some(&b'\r') {
                line.pop();
            }
        }
        chunk.push(line);
        let more = input.buffer().contains(&b'\n');
        if !more && sender.blocking_send(std::mem::take(&mut chunk)).is_err() {
            return;
        }
    }
    if !chunk.is_empty() {
        let _ = sender.blocking_send(chunk);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_split_off_at_the_first_separator() {
        let reader = LineReader {
            parse_key: true,
            key_separator: "::".to_owned(),
            ignore_error: false,
        };
        assert_eq!(
            reader.split(b"k::v::w", 1),
            Ok((Some(&b"k"[..]), &b"v::w"[..]))
        );
        assert_eq!(reader.split(b"k::", 1), Ok((Some(&b"k"[..]), &b""[..])));
        assert_eq!(
            reader.split(b"none", 7),
            Err("org.apache.kafka.common.KafkaException: No key found on line 7: none".to_owned())
        );
        let lenient = LineReader {
            ignore_error: true,
            ..reader
        };
        assert_eq!(lenient.split(b"none", 7), Ok((None, &b"none"[..])));
    }

    #[test]
    fn options_win_over_properties_and_those_over_defaults() {
        let words: Vec<String> = "--broker-list a:1 --topic t --producer-property linger.ms=7 --request-required-acks all --compression-codec --sync"
            .split(' ')
            .map(str::to_owned)
            .collect();
        let (plan, properties) = prepare(&words).expect("well formed");
        assert!(plan.sync);
        assert_eq!(properties.get("linger.ms"), Some("7"));
        assert_eq!(properties.get("acks"), Some("all"));
        assert_eq!(properties.get("retries"), Some("3"));
        assert_eq!(properties.get("compression.type"), Some("gzip"));
        assert_eq!(properties.get("bootstrap.servers"), Some("a:1"));
    }
}
