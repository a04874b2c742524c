//! `kafka-consumer-perf-test`: reads a number of records and prints how fast that was.

use std::time::Duration;

use super::client_props::Properties;
use super::consumer_options::{self, last, number};
use super::java_args::{ArgError, Options, Spec, Usage, flag, option};
use super::java_text::date;
use super::print::{err, metrics_table, out, throwable};
use super::run_tool;
use crate::client::World;
use crate::client::consumer::Consumer;
use crate::common::rng::Rng;

const SPECS: &[Spec] = &[
    option(
        "broker-list",
        "String: broker-list",
        "DEPRECATED, use --bootstrap-server instead; ignored if --bootstrap-server is specified.  The broker list string in the form HOST1:PORT1,HOST2:PORT2.",
    ),
    option(
        "bootstrap-server",
        "String: server to connect to",
        "REQUIRED unless --broker-list(deprecated) is specified. The server(s) to connect to.",
    ),
    option(
        "topic",
        "String: topic",
        "REQUIRED: The topic to consume from.",
    ),
    option(
        "group",
        "String: gid",
        "The group id to consume on. (default: perf-consumer-NUMBER)",
    ),
    option(
        "fetch-size",
        "Integer: size",
        "The amount of data to fetch in a single request. (default: 1048576)",
    ),
    flag(
        "from-latest",
        "If the consumer does not already have an established offset to consume from, start with the latest message present in the log rather than the earliest message.",
    ),
    option(
        "socket-buffer-size",
        "Integer: size",
        "The size of the tcp RECV size. (default: 2097152)",
    ),
    option(
        "threads",
        "Integer: count",
        "DEPRECATED AND IGNORED: Number of processing threads. (default: 10)",
    ),
    option(
        "num-fetch-threads",
        "Integer: count",
        "DEPRECATED AND IGNORED: Number of fetcher threads. (default: 1)",
    ),
    option(
        "consumer.config",
        "String: config file",
        "Consumer config properties file.",
    ),
    consumer_options::COMMAND_CONFIG,
    consumer_options::COMMAND_PROPERTY,
    flag("print-metrics", "Print out the metrics."),
    flag(
        "show-detailed-stats",
        "If set, stats are reported for each reporting interval as configured by reporting-interval",
    ),
    option(
        "timeout",
        "Long: milliseconds",
        "The maximum allowed time in milliseconds between returned records. (default: 10000)",
    )
    .optional(),
    option(
        "messages",
        "Long: count",
        "REQUIRED: The number of messages to send or consume",
    ),
    option("num-records", "Long: count", "The same as --messages.").beyond(),
    option(
        "reporting-interval",
        "Integer: interval_ms",
        "Interval in milliseconds at which to print progress info. (default: 5000)",
    ),
    option(
        "date-format",
        "String: date format",
        "The date format to use for formatting the time field. See java.text.SimpleDateFormat for options. (default: yyyy-MM-dd HH:mm:ss:SSS)",
    ),
    flag(
        "hide-header",
        "If set, skips printing the header for the stats",
    ),
    consumer_options::INCLUDE,
];

const USAGE: Usage = Usage {
    specs: SPECS,
    about: "This tool helps in performance test for the full zookeeper consumer",
    tried: true,
};

struct Plan {
    topic: Option<String>,
    include: Option<regex_lite::Regex>,
    print_metrics: bool,
    messages: u64,
    timeout_ms: i64,
    interval_ms: i64,
    date_format: String,
    hide_header: bool,
    detailed: bool,
    properties: Properties,
}

/// In the words of the original's parser.
const NO_SERVER: &str = "Missing required option(s) [bootstrap-server]";

/// Runs the tool.
pub fn run(_program: &str, arguments: Vec<String>) -> u8 {
    match prepare(&arguments) {
        Ok(plan) => run_tool(|world| consume(world, plan)),
        Err(code) => code,
    }
}

fn prepare(arguments: &[String]) -> Result<Plan, u8> {
    // The original's parser misses this one before anybody looks whether there is a word at all.
    if arguments.is_empty() {
        return Err(USAGE.die(NO_SERVER));
    }
    let options = USAGE.parse(arguments)?;
    if !options.has("bootstrap-server") && !options.has("broker-list") {
        return Err(USAGE.die(NO_SERVER));
    }
    if options.has("threads") || options.has("num-fetch-threads") {
        out!(
            "WARNING: option [threads] and [num-fetch-threads] have been deprecated and will be ignored by the test"
        );
    }
    let count = if options.has("num-records") {
        "num-records"
    } else {
        "messages"
    };
    if options.has("topic") && options.has("include") {
        return Err(USAGE.die("Exactly one of topic/include is required."));
    }
    let subject = if options.has("include") {
        "include"
    } else {
        "topic"
    };
    USAGE.require(&options, &[subject, count])?;
    let wrong = |error: ArgError| error.die();
    let include = options
        .value("include")
        .map_err(wrong)?
        .map(consumer_options::pattern);
    let include = include.transpose().map_err(|refused| refused.die())?;
    let interval_ms = number(&options, "reporting-interval")?;
    let interval_ms = interval_ms.unwrap_or(5_000);
    let refuse = |message: &str| {
        err!("Exception in thread \"main\" java.lang.IllegalArgumentException: {message}");
        1
    };
    if interval_ms <= 0 {
        return Err(refuse("Reporting interval must be greater than 0."));
    }
    let date_format = options.value("date-format").map_err(wrong)?;
    let date_format = date_format.unwrap_or("yyyy-MM-dd HH:mm:ss:SSS").to_owned();
    date(0, &date_format).map_err(|message| refuse(&message))?;
    Ok(Plan {
        topic: options.value("topic").map_err(wrong)?.map(str::to_owned),
        include,
        print_metrics: options.has("print-metrics"),
        messages: number(&options, count)?.unwrap_or_default(),
        timeout_ms: number(&options, "timeout")?.unwrap_or(10_000),
        interval_ms,
        date_format,
        hide_header: options.has("hide-header"),
        detailed: options.has("show-detailed-stats"),
        properties: properties(&options)?,
    })
}

fn properties(options: &Options) -> Result<Properties, u8> {
    let mut properties = consumer_options::properties(options).map_err(|refused| refused.die())?;
    number::<i32>(options, "fetch-size")?;
    number::<i32>(options, "socket-buffer-size")?;
    let servers = last(options, &["bootstrap-server", "broker-list"]);
    properties.set("bootstrap.servers", &servers.unwrap_or_default());
    // Without it the system chooses, and may choose more than the original's 2 MiB.
    if let Some(bytes) = last(options, &["socket-buffer-size"]) {
        properties.set("receive.buffer.bytes", &bytes);
    }
    properties.set("check.crcs", "false");
    let group = last(options, &["group"])
        .unwrap_or_else(|| format!("perf-consumer-{}", Rng::from_os().below(100_000)));
    properties.set("group.id", &group);
    properties.set_default("client.id", &format!("consumer-{group}-1"));
    let fetch_size = last(options, &["fetch-size"]).unwrap_or_else(|| "1048576".to_owned());
    properties.set("max.partition.fetch.bytes", &fetch_size);
    let reset = if options.has("from-latest") {
        "latest"
    } else {
        "earliest"
    };
    properties.set("auto.offset.reset", reset);
    Ok(properties)
}

/// The original's `poll(Duration.ofMillis(100))`.
const POLL: Duration = Duration::from_millis(100);
/// How long the last commit and the farewell to the group may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// What has been read, and when it was last reported.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    messages: u64,
    bytes: u64,
    at_ms: i64,
}

async fn consume(world: World, plan: Plan) -> u8 {
    if !plan.hide_header {
        let first = if plan.detailed {
            "time, threadId"
        } else {
            "start.time, end.time"
        };
        out!(
            "{first}, data.consumed.in.MB, MB.sec, data.consumed.in.nMsg, nMsg.sec, rebalance.time.ms, fetch.time.ms, fetch.MB.sec, fetch.nMsg.sec"
        );
    }
    let made = consumer_options::consumer(&world, &plan.properties, "consumer-perf");
    let mut consumer = match made {
        Ok(consumer) => consumer,
        Err(refused) => return refused.die(),
    };
    let start_wall_ms = world.clock.wall_ms();
    let start_ms = world.clock.monotonic_ms();
    match &plan.include {
        Some(pattern) => consumer.subscribe_pattern(pattern.clone()),
        None => consumer.subscribe(plan.topic.iter().cloned().collect()),
    }
    let read = match read(&world, &plan, &mut consumer).await {
        Ok(read) => read,
        Err(message) => {
            err!("Exception in thread \"main\" {message}");
            return 1;
        }
    };
    let elapsed_ms = world.clock.monotonic_ms() - start_ms;
    let rebalance_ms = consumer.rebalance_ms();
    match tokio::time::timeout(CLOSE_LIMIT, consumer.close()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "the last commit failed"),
        Err(_) => tracing::debug!("the last commit took too long"),
    }
    if read.messages < plan.messages {
        out!(
            "WARNING: Exiting before consuming the expected number of messages: timeout ({} ms) exceeded. You can use the --timeout option to increase the timeout.",
            plan.timeout_ms
        );
    }
    if !plan.detailed {
        let at = |ms| date(ms, &plan.date_format).unwrap_or_default();
        out!(
            "{}, {}, {}",
            at(start_wall_ms),
            at(start_wall_ms + elapsed_ms),
            summary(read, elapsed_ms, rebalance_ms)
        );
    }
    if plan.print_metrics {
        out!("{}", metrics_table(&consumer.metrics()));
    }
    0
}

async fn read(world: &World, plan: &Plan, consumer: &mut Consumer) -> Result<Progress, String> {
    let mut read = Progress::default();
    let mut reported = Progress {
        at_ms: world.clock.monotonic_ms(),
        ..read
    };
    let mut reported_rebalance_ms = 0;
    let mut last_ms = reported.at_ms;
    while read.messages < plan.messages {
        // Without a broker even joining the group takes longer than this tool may wait.
        let left_ms = plan.timeout_ms - (world.clock.monotonic_ms() - last_ms) + 1;
        let left = Duration::from_millis(u64::try_from(left_ms).unwrap_or(0)).max(POLL);
        let Ok(polled) = tokio::time::timeout(left, consumer.poll(POLL)).await else {
            break;
        };
        let chunk = polled.map_err(|error| throwable(&error).to_string())?;
        read.at_ms = world.clock.monotonic_ms();
        if let Some(chunk) = chunk {
            last_ms = read.at_ms;
            for record in chunk.records(false) {
                let (record, _) = record.map_err(|error| throwable(&error).to_string())?;
                read.messages += 1;
                let key = record.key.map_or(0, |key| key.len());
                read.bytes += (key + record.value.map_or(0, |value| value.len())) as u64;
            }
            if read.at_ms - reported.at_ms >= plan.interval_ms {
                let rebalance_ms = consumer.rebalance_ms();
                if plan.detailed {
                    let now = date(world.clock.wall_ms(), &plan.date_format).unwrap_or_default();
                    let line = progress(reported, read, rebalance_ms - reported_rebalance_ms);
                    out!("{now}, 0, {line}");
                }
                reported_rebalance_ms = rebalance_ms;
                reported = read;
            }
        } else if read.at_ms - last_ms > plan.timeout_ms {
            break;
        }
    }
    Ok(read)
}

const MB: f64 = 1024.0 * 1024.0;

/// Java's `%.4f` of a quotient, its names for what is no number included.
fn quotient(numerator: f64, denominator: f64) -> String {
    let value = numerator / denominator;
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        "Infinity".to_owned()
    } else {
        format!("{value:.4}")
    }
}

fn summary(read: Progress, elapsed_ms: i64, rebalance_ms: i64) -> String {
    let seconds = elapsed_ms as f64 / 1_000.0;
    let fetch_ms = elapsed_ms - rebalance_ms;
    let fetch_seconds = fetch_ms as f64 / 1_000.0;
    let mb = read.bytes as f64 / MB;
    let messages = read.messages as f64;
    format!(
        "{mb:.4}, {}, {}, {}, {rebalance_ms}, {fetch_ms}, {}, {}",
        quotient(mb, seconds),
        read.messages,
        quotient(messages, seconds),
        quotient(mb, fetch_seconds),
        quotient(messages, fetch_seconds),
    )
}

/// One line of `--show-detailed-stats`, behind time and thread.
fn progress(before: Progress, now: Progress, rebalance_ms: i64) -> String {
    let seconds = (now.at_ms - before.at_ms) as f64 / 1_000.0;
    let mb = (now.bytes - before.bytes) as f64 / MB;
    let messages = (now.messages - before.messages) as f64;
    let fetch_ms = now.at_ms - before.at_ms - rebalance_ms;
    let (fetch_mb, fetch_messages) = if fetch_ms <= 0 {
        (0.0, 0.0)
    } else {
        let seconds = fetch_ms as f64 / 1_000.0;
        (mb / seconds, messages / seconds)
    };
    format!(
        "{:.4}, {}, {}, {}, {rebalance_ms}, {fetch_ms}, {fetch_mb:.4}, {fetch_messages:.4}",
        now.bytes as f64 / MB,
        quotient(mb, seconds),
        now.messages,
        quotient(messages, seconds),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The options of the genuine 2.8.0 and 4.3.1 tools, from their help.
    #[test]
    fn every_option_of_the_originals_is_known() {
        let names = "bootstrap-server broker-list command-config command-property consumer.config date-format fetch-size from-latest group hide-header include messages num-fetch-threads num-records print-metrics reporting-interval show-detailed-stats socket-buffer-size threads timeout topic";
        for name in names.split(' ') {
            assert!(SPECS.iter().any(|spec| spec.name == name), "{name}");
        }
    }

    #[test]
    fn columns_are_the_originals() {
        let read = Progress {
            messages: 5_000_000,
            bytes: 5_000_000_000,
            at_ms: 10_000,
        };
        assert_eq!(
            summary(read, 10_000, 400),
            "4768.3716, 476.8372, 5000000, 500000.0000, 400, 9600, 496.7054, 520833.3333"
        );
        assert_eq!(
            progress(Progress::default(), read, 0),
            "4768.3716, 476.8372, 5000000, 500000.0000, 0, 10000, 476.8372, 500000.0000"
        );
        assert_eq!(quotient(0.0, 0.0), "NaN");
    }
}
