//! `kafka-producer-perf-test`: sends records as fast as it may and prints how fast that was.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::client_props::{For, Properties};
use super::java_args::{
    ArgError, Habit, NOT_AS_THERE, Options, Spec, flag, not_as_there, option, parse,
};
use super::java_help::{argparse_entry, argparse_error};
use super::print::{Refused, err, exception, metrics_table, out};
use super::run_tool;
use crate::client::World;
use crate::client::producer::{Delivery, Producer, Record};
use crate::common::clock::Clock;
use crate::common::rng::Rng;

const SPECS: &[Spec] = &[
    option("topic", "TOPIC", "produce messages to this topic"),
    option("num-records", "NUM-RECORDS", "number of messages to produce"),
    option("payload-delimiter", "PAYLOAD-DELIMITER", "provides delimiter to be used when --payload-file is provided. Defaults to new line. Note that this parameter will be ignored if --payload-file is not provided. (default: \\n)"),
    option("throughput", "THROUGHPUT", "throttle maximum message throughput to *approximately* THROUGHPUT messages/sec. Set this to -1 to disable throttling."),
    option("producer-props", "PROP-NAME=PROP-VALUE", "kafka producer related configuration properties like bootstrap.servers,client.id etc. These configs take precedence over those passed via --producer.config.").many(),
    option("producer.config", "CONFIG-FILE", "producer config properties file."),
    flag("print-metrics", "print out metrics at the end of the test. (default: false)"),
    option("transactional-id", "TRANSACTIONAL-ID", "The transactionalId to use if transaction-duration-ms is > 0. Useful when testing the performance of concurrent transactions. (default: performance-producer-default-transactional-id)").unsupported(),
    option("transaction-duration-ms", "TRANSACTION-DURATION", "The max age of each transaction. The commitTransaction will be called after this time has elapsed. Transactions are only enabled if this value is positive. (default: 0)").unsupported(),
    option("record-size", "RECORD-SIZE", "message size in bytes. Note that you must provide exactly one of --record-size or --payload-file."),
    option("payload-file", "PAYLOAD-FILE", "file to read the message payloads from. This works only for UTF-8 encoded text files. Payloads will be read from this file and a payload will be randomly selected when sending messages. Note that you must provide exactly one of --record-size or --payload-file."),
    option("bootstrap-server", "BOOTSTRAP-SERVERS", "the server(s) to connect to; takes precedence over bootstrap.servers.").beyond(),
    option("reporting-interval", "INTERVAL-MS", "interval in milliseconds at which to print progress info.").beyond(),
    option("command-config", "CONFIG-FILE", "producer config properties file.").beyond(),
    option("command-property", "PROP-NAME=PROP-VALUE", "kafka producer related configuration properties.").many().beyond(),
    flag("payload-monotonic", "payload is a monotonically increasing integer, instead of one of --record-size and --payload-file.").beyond(),
    option("warmup-records", "N", "records sent before measuring begins.").unsupported().beyond(),
];

const PROGRAM: &str = "producer-performance";

const USAGE: &str = "\
usage: producer-performance [-h] --topic TOPIC --num-records NUM-RECORDS
                            [--payload-delimiter PAYLOAD-DELIMITER]
                            --throughput THROUGHPUT
                            [--producer-props PROP-NAME=PROP-VALUE [PROP-NAME=PROP-VALUE ...]]
                            [--producer.config CONFIG-FILE]
                            [--print-metrics]
                            [--transactional-id TRANSACTIONAL-ID]
                            [--transaction-duration-ms TRANSACTION-DURATION]
                            (--record-size RECORD-SIZE |
                            --payload-file PAYLOAD-FILE)";

const ONE_OF: [&str; 3] = ["record-size", "payload-file", "payload-monotonic"];

/// argparse4j's help, and below it what is not as there.
fn help() -> String {
    let mut text = format!(
        "{USAGE}\n\nThis tool is used to verify the producer performance.\n\noptional arguments:\n{}",
        argparse_entry("-h, --help", "show this help message and exit")
    );
    let entry = |spec: &Spec| {
        let title = match spec.argument {
            Some(argument) if spec.many => {
                format!("--{} {argument} [{argument} ...]", spec.name)
            }
            Some(argument) => format!("--{} {argument}", spec.name),
            None => format!("--{}", spec.name),
        };
        argparse_entry(&title, spec.help)
    };
    let (beyond, genuine): (Vec<&Spec>, Vec<&Spec>) = SPECS.iter().partition(|spec| spec.beyond);
    let (chosen, others): (Vec<&Spec>, Vec<&Spec>) = genuine
        .into_iter()
        .partition(|spec| ONE_OF.contains(&spec.name));
    text.extend(others.into_iter().map(entry));
    text.push_str("\n  either --record-size or --payload-file must be specified but not both.\n\n");
    text.extend(chosen.into_iter().map(entry));
    text.pop();
    text.push_str(NOT_AS_THERE);
    text.push_str(&not_as_there(SPECS));
    text.extend(beyond.into_iter().map(entry));
    text.pop();
    text
}

/// A mistake in the words of argparse4j.
fn worded(error: ArgError) -> String {
    match error {
        ArgError::Unrecognized { name, .. } => format!("unrecognized arguments: '{name}'"),
        ArgError::MissingArgument(name) => format!("argument --{name}: expected one argument"),
        ArgError::Unparsable { name, value, .. } => {
            let kind = if name == "num-records" {
                "Long"
            } else {
                "Integer"
            };
            format!(
                "argument --{name}: could not convert '{value}' to {kind} (For input string: \"{value}\")"
            )
        }
        other => other.to_string(),
    }
}

/// Runs the tool.
pub fn run(_program: &str, arguments: Vec<String>) -> u8 {
    let wrong = |message: String| {
        err!("{USAGE}\n{}", argparse_error(PROGRAM, &message));
        1
    };
    let options = match parse(SPECS, &arguments, Habit::Argparse) {
        Ok(options) => options,
        Err(error) => {
            let meant = match &error {
                ArgError::Unrecognized { meant, .. } => *meant,
                _ => None,
            };
            match &error {
                // Words of our own, which nobody compares: not spread over the line.
                ArgError::Unsupported(_) => err!("{USAGE}\n{PROGRAM}: error: {error}"),
                _ => {
                    wrong(worded(error));
                }
            }
            if let Some(meant) = meant {
                err!("\nDid you mean:\n\t--{meant}");
            }
            return 1;
        }
    };
    if arguments.is_empty() || options.has("help") {
        out!("{}", help());
        // The original leaves with 0 only if it was asked for nothing.
        return u8::from(!arguments.is_empty());
    }
    let plan = match plan(&options) {
        Ok(plan) => plan,
        Err(Refusal::Usage(message)) => return wrong(message),
        Err(Refusal::Value(message)) => {
            err!("Exception in thread \"main\" java.lang.IllegalArgumentException: {message}");
            return 1;
        }
        Err(Refusal::Properties(refused)) => return refused.die(),
    };
    run_tool(|world| produce(world, plan))
}

enum Refusal {
    Usage(String),
    Value(String),
    Properties(Refused),
}

enum Payload {
    Fixed(Vec<u8>),
    Chosen(Vec<Vec<u8>>),
    Monotonic,
}

struct Plan {
    topic: String,
    records: u64,
    throughput: i64,
    interval_ms: i64,
    payload: Payload,
    print_metrics: bool,
    properties: Properties,
}

fn plan(options: &Options) -> Result<Plan, Refusal> {
    let usage = |error: ArgError| Refusal::Usage(worded(error));
    // Values are read where they stand, and only then is anything missed.
    if let Some(word) = options.rest.first() {
        return Err(Refusal::Usage(format!("unrecognized arguments: '{word}'")));
    }
    let records = options.last_parsed("num-records").map_err(usage)?;
    let throughput = options.last_parsed("throughput").map_err(usage)?;
    let size = options.last_parsed::<i32>("record-size").map_err(usage)?;
    let given: Vec<&str> = ONE_OF
        .into_iter()
        .filter(|name| options.has(name))
        .collect();
    if let [first, second, ..] = given[..] {
        return Err(Refusal::Usage(format!(
            "argument --{second}: not allowed with argument --{first}"
        )));
    }
    for name in ["throughput", "num-records", "topic"] {
        if !options.has(name) {
            return Err(Refusal::Usage(format!("argument --{name} is required")));
        }
    }
    if given.is_empty() {
        return Err(Refusal::Usage(
            "one of the arguments --record-size --payload-file is required".to_owned(),
        ));
    }
    let properties = properties(options)?;
    let payload = if let Some(size) = size {
        // The seed makes every run send the same bytes, as the original does.
        let rng = Rng::from_seed(0);
        let size = size.max(0);
        Payload::Fixed((0..size).map(|_| b'A' + rng.below(26) as u8).collect())
    } else if let Some(path) = options.last("payload-file") {
        let delimiter = options.last("payload-delimiter");
        Payload::Chosen(payloads(path, delimiter)?)
    } else {
        Payload::Monotonic
    };
    let interval_ms = options.last_parsed("reporting-interval").map_err(usage)?;
    let records: i64 = records.unwrap_or_default();
    let throughput: i32 = throughput.unwrap_or(-1);
    Ok(Plan {
        topic: options.last("topic").unwrap_or_default().to_owned(),
        records: u64::try_from(records).unwrap_or_default(),
        throughput: i64::from(throughput),
        interval_ms: interval_ms.unwrap_or(5_000),
        payload,
        print_metrics: options.has("print-metrics"),
        properties,
    })
}

fn properties(options: &Options) -> Result<Properties, Refusal> {
    let mut properties = Properties::default();
    let file = ["producer.config", "command-config"]
        .iter()
        .find_map(|name| options.values(name).first());
    if let Some(path) = file {
        properties = Properties::load(path).map_err(Refusal::Properties)?;
    }
    let given = ["producer-props", "command-property"]
        .iter()
        .flat_map(|name| options.values(name));
    for property in given {
        match property.split_once('=') {
            Some((key, value)) if !value.is_empty() && !value.contains('=') => {
                properties.set(key, value);
            }
            _ => return Err(Refusal::Value(format!("Invalid property: {property}"))),
        }
    }
    if let Some(servers) = options.values("bootstrap-server").first() {
        properties.set("bootstrap.servers", servers);
    }
    if properties == Properties::default() {
        return Err(Refusal::Usage(
            "Either --producer-props or --producer.config must be specified.".to_owned(),
        ));
    }
    Ok(properties)
}

fn payloads(path: &str, delimiter: Option<&str>) -> Result<Vec<Vec<u8>>, Refusal> {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.into());
    out!("Reading payloads from: {}", absolute.display());
    let text = std::fs::read_to_string(path).unwrap_or_default();
    if text.is_empty() {
        return Err(Refusal::Value(
            "File does not exist or empty file provided.".to_owned(),
        ));
    }
    let delimiter = match delimiter {
        None | Some("\\n") => "\n",
        Some(delimiter) => delimiter,
    };
    let mut list: Vec<Vec<u8>> = text
        .split(delimiter)
        .map(|payload| payload.as_bytes().to_vec())
        .collect();
    // Java's split drops empty pieces at the end.
    while list.len() > 1 && list.last().is_some_and(Vec::is_empty) {
        list.pop();
    }
    out!("Number of messages read: {}", list.len());
    Ok(list)
}

async fn produce(world: World, plan: Plan) -> u8 {
    let made = plan.properties.producer().and_then(|settings| {
        let cluster = plan
            .properties
            .cluster(world.clone(), For::Producer, "producer-1")?;
        Ok((settings, cluster))
    });
    let (settings, cluster) = match made {
        Ok(made) => made,
        Err(refused) => return refused.die(),
    };
    let bytes = match &plan.payload {
        Payload::Fixed(payload) => Some(payload.len() as u64),
        _ => None,
    };
    let stats = Arc::new(Mutex::new(Stats::new(
        plan.records,
        plan.interval_ms,
        world.clock.clone(),
        bytes,
    )));
    let report = {
        let stats = stats.clone();
        Box::new(move |delivery: &Delivery<'_>| {
            let mut stats = stats.lock().unwrap_or_else(PoisonError::into_inner);
            for appended_us in delivery.appended_us {
                stats.record((delivery.done_us - appended_us).max(0) / 1_000);
            }
            if let Err(error) = delivery.result {
                err!("{}", exception(error));
            }
        })
    };
    let producer = Producer::new(cluster, settings, report);
    send_all(&world, &plan, &producer, &stats).await;
    producer.close().await;
    let mut stats = stats.lock().unwrap_or_else(PoisonError::into_inner);
    out!("{}", stats.total());
    if plan.print_metrics {
        out!("{}", metrics_table(&producer.metrics()));
    }
    0
}

async fn send_all(world: &World, plan: &Plan, producer: &Producer, stats: &Mutex<Stats>) {
    let started_us = world.clock.monotonic_us();
    let chooser = Rng::from_seed(0);
    for sent in 0..plan.records {
        let number;
        let payload: &[u8] = match &plan.payload {
            Payload::Fixed(payload) => payload,
            Payload::Chosen(list) => &list[chooser.below(list.len() as u64) as usize],
            Payload::Monotonic => {
                number = sent.to_string();
                number.as_bytes()
            }
        };
        let began_us = world.clock.monotonic_us();
        let result = producer
            .send(&Record {
                topic: &plan.topic,
                partition: None,
                timestamp: world.clock.wall_ms(),
                key: None,
                value: Some(payload),
                headers: &[],
            })
            .await;
        match result {
            Ok(()) => {
                if !matches!(plan.payload, Payload::Fixed(_)) {
                    let mut stats = stats.lock().unwrap_or_else(PoisonError::into_inner);
                    stats.bytes_appended(payload.len() as u64);
                }
            }
            Err(error) => {
                err!("{}", exception(&error));
                let mut stats = stats.lock().unwrap_or_else(PoisonError::into_inner);
                // The original's callback counts from before the call.
                stats.record((world.clock.monotonic_us() - began_us) / 1_000);
            }
        }
        if plan.throughput > 0 {
            throttle(world, started_us, sent + 1, plan.throughput).await;
        }
    }
}

/// Waits until `sent` records are due.
async fn throttle(world: &World, started_us: i64, sent: u64, per_second: i64) {
    let due_us = sent.saturating_mul(1_000_000) / per_second.unsigned_abs();
    let due_us = started_us.saturating_add(i64::try_from(due_us).unwrap_or(i64::MAX));
    let ahead_us = due_us - world.clock.monotonic_us();
    // Timers are good to a millisecond: shorter waits are left to the next record.
    if ahead_us > 1_000 {
        tokio::time::sleep(Duration::from_micros(ahead_us.unsigned_abs())).await;
    }
}

struct Stats {
    clock: Clock,
    interval_ms: i64,
    /// Bytes of each record, if all are alike; otherwise `waiting_bytes` is the sum not yet counted.
    record_bytes: Option<u64>,
    waiting_bytes: u64,
    started_ms: i64,
    window_started_ms: i64,
    sampling: u64,
    latencies: Vec<i64>,
    count: u64,
    bytes: u64,
    latency_max: i64,
    latency_sum: i64,
    window_count: u64,
    window_bytes: u64,
    window_latency_max: i64,
    window_latency_sum: i64,
}

impl Stats {
    fn new(records: u64, interval_ms: i64, clock: Clock, record_bytes: Option<u64>) -> Stats {
        let now_ms = clock.monotonic_ms();
        Stats {
            clock,
            interval_ms,
            record_bytes,
            waiting_bytes: 0,
            started_ms: now_ms,
            window_started_ms: now_ms,
            sampling: (records / records.clamp(1, 500_000)).max(1),
            latencies: Vec::new(),
            count: 0,
            bytes: 0,
            latency_max: 0,
            latency_sum: 0,
            window_count: 0,
            window_bytes: 0,
            window_latency_max: 0,
            window_latency_sum: 0,
        }
    }

    /// Records of differing sizes are counted when they are appended.
    fn bytes_appended(&mut self, bytes: u64) {
        self.waiting_bytes += bytes;
    }

    fn record(&mut self, latency_ms: i64) {
        if self.count.is_multiple_of(self.sampling) {
            self.latencies.push(latency_ms);
        }
        let bytes = match self.record_bytes {
            Some(bytes) => bytes,
            None => std::mem::take(&mut self.waiting_bytes),
        };
        self.count += 1;
        self.bytes += bytes;
        self.latency_sum += latency_ms;
        self.latency_max = self.latency_max.max(latency_ms);
        self.window_count += 1;
        self.window_bytes += bytes;
        self.window_latency_sum += latency_ms;
        self.window_latency_max = self.window_latency_max.max(latency_ms);
        // The clock is asked now and then only: it costs as much as all the rest.
        if self.window_count.is_multiple_of(16) || self.window_count == 1 {
            let now_ms = self.clock.monotonic_ms();
            if now_ms - self.window_started_ms >= self.interval_ms {
                out!("{}", self.window(now_ms - self.window_started_ms));
                self.window_started_ms = now_ms;
                self.window_count = 0;
                self.window_bytes = 0;
                self.window_latency_sum = 0;
                self.window_latency_max = 0;
            }
        }
    }

    fn window(&self, elapsed_ms: i64) -> String {
        let seconds = elapsed_ms as f64 / 1_000.0;
        format!(
            "{} records sent, {:.1} records/sec ({:.2} MB/sec), {:.1} ms avg latency, {:.1} ms max latency.",
            self.window_count,
            self.window_count as f64 / seconds,
            self.window_bytes as f64 / seconds / (1024.0 * 1024.0),
            self.window_latency_sum as f64 / self.window_count as f64,
            self.window_latency_max as f64,
        )
    }

    fn total(&mut self) -> String {
        let elapsed_ms = self.clock.monotonic_ms() - self.started_ms;
        self.latencies.sort_unstable();
        let percentile = |p: f64| {
            let index = (p * self.latencies.len() as f64) as usize;
            self.latencies.get(index).copied().unwrap_or(0)
        };
        total_line(
            self.count,
            self.bytes,
            elapsed_ms,
            self.latency_sum,
            self.latency_max,
            [0.5, 0.95, 0.99, 0.999].map(percentile),
        )
    }
}

fn total_line(
    count: u64,
    bytes: u64,
    elapsed_ms: i64,
    latency_sum: i64,
    latency_max: i64,
    percentiles: [i64; 4],
) -> String {
    let seconds = elapsed_ms.max(1) as f64 / 1_000.0;
    let [p50, p95, p99, p999] = percentiles;
    format!(
        "{count} records sent, {:.6} records/sec ({:.2} MB/sec), {:.2} ms avg latency, {:.2} ms max latency, {p50} ms 50th, {p95} ms 95th, {p99} ms 99th, {p999} ms 99.9th.",
        count as f64 / seconds,
        bytes as f64 / seconds / (1024.0 * 1024.0),
        latency_sum as f64 / count.max(1) as f64,
        latency_max as f64,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_has_the_originals_words_and_digits() {
        assert_eq!(
            total_line(
                5_000_000,
                5_000_000_000,
                69_299,
                2_250_000_000,
                2_808,
                [1, 2, 3, 4]
            ),
            "5000000 records sent, 72151.113292 records/sec (68.81 MB/sec), 450.00 ms avg latency, 2808.00 ms max latency, 1 ms 50th, 2 ms 95th, 3 ms 99th, 4 ms 99.9th."
        );
    }

    #[test]
    fn latencies_are_sampled_and_counted() {
        let mut stats = Stats::new(1_000_000, 5_000, Clock::manual(0), Some(10));
        for latency in 0..1_000 {
            stats.record(latency);
        }
        assert_eq!(stats.sampling, 2);
        assert_eq!(stats.latencies.len(), 500);
        assert_eq!(stats.bytes, 10_000);
        assert_eq!(stats.latency_max, 999);
    }
}
