//! Installs the log: one line of text, or one JSON object, per event on standard output.
//!
//! Only commands that run a node install a subscriber; tools stay silent. From then on everything that
//! the node says goes through [`Output`]: nothing here blocks or fails because of who reads it.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::time::Duration;

use tracing::{Level, debug, error, warn};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{FmtSpan, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use super::output::Output;
use super::print::{err, out};
use crate::common::tasks;
use crate::config::LoggingConfig;

/// Standard output and standard error of a process that runs nodes.
static OUTPUTS: OnceLock<(Output, Output)> = OnceLock::new();
/// How long the last lines may take to be written.
const FLUSH_LIMIT: Duration = Duration::from_millis(500);

/// The filter of `log.level`, or what is wrong with it.
pub fn filter(level: &str) -> Result<EnvFilter, String> {
    if let Some(word) = levelless(level) {
        return Err(format!(
            "log.level '{level}': '{word}' is no level; there are error, warn, info, debug, trace and off, \
             and a part of the program takes one as tripod::broker=debug"
        ));
    }
    EnvFilter::builder()
        .parse(filter_text(level))
        .map_err(|error| format!("log.level '{level}' is no filter: {error}"))
}

/// Installs the subscriber. A second call keeps the first; a bad filter is told.
pub fn install(config: &LoggingConfig) -> Result<(), String> {
    let filter = filter(&config.level)?;
    let (stdout, _) = outputs().map_err(|error| format!("nothing can be logged: {error}"))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_span_events(FmtSpan::NONE)
        .with_ansi(std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .log_internal_errors(false)
        .with_writer(move || stdout);
    let installed = if config.format == "json" {
        builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .try_init()
    } else {
        builder.try_init()
    };
    // Only tests run several nodes in one process, each of which asks for a subscriber.
    let _ = installed;
    std::panic::set_hook(Box::new(tell_panic));
    Ok(())
}

fn outputs() -> io::Result<&'static (Output, Output)> {
    if let Some(outputs) = OUTPUTS.get() {
        return Ok(outputs);
    }
    // Descriptors of our own: std's have a lock that a blocked write would hold.
    let stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let stdout = Output::start("tripod stdout", stdout, |lines| {
        warn!(
            lines,
            "lines of this log were lost: standard output took no more"
        );
    })?;
    let stderr = Output::start("tripod stderr", stderr, |_| {})?;
    Ok(OUTPUTS.get_or_init(|| (stdout, stderr)))
}

/// A line that is no event of the log, on standard output.
pub fn say(text: &str) {
    match OUTPUTS.get() {
        Some((stdout, _)) => stdout.push(format!("{text}\n").as_bytes()),
        None => out!("{text}"),
    }
}

/// A line as `log.format=json` writes them, with more fields after the message.
pub fn json_line(message: &str, fields: &[(&str, &str)]) -> String {
    let mut timestamp = String::new();
    // Writing into memory does not fail; a line without its time still says something.
    let _ = SystemTime.format_time(&mut Writer::new(&mut timestamp));
    let mut line = serde_json::json!({"timestamp": timestamp, "level": "INFO", "message": message});
    for (name, value) in fields {
        line[*name] = (*value).into();
    }
    line.to_string()
}

/// The one message of a node that ends, on standard error, after everything that was logged.
pub fn complain(text: &str) {
    match OUTPUTS.get() {
        Some((stdout, stderr)) => {
            stdout.flush(FLUSH_LIMIT);
            stderr.push(format!("tripod: {text}\n").as_bytes());
        }
        None => err!("tripod: {text}"),
    }
}

/// Waits a moment for what was said to be written. For the end of the process.
pub fn finish() {
    if let Some((stdout, stderr)) = OUTPUTS.get() {
        stdout.flush(FLUSH_LIMIT);
        stderr.flush(FLUSH_LIMIT);
    }
}

/// A panic is an event of the log. One that is caught is told by whoever catches it.
fn tell_panic(info: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let cause = info.payload_as_str().unwrap_or("no text");
    if tasks::is_caught() {
        debug!("caught: thread '{thread}' panicked at {place}: {cause}");
        return;
    }
    let backtrace = Backtrace::capture();
    let backtrace = match backtrace.status() {
        BacktraceStatus::Captured => format!("\n{backtrace}"),
        _ => String::new(),
    };
    let text = format!("thread '{thread}' panicked at {place}: {cause}{backtrace}");
    if tracing::enabled!(Level::ERROR) {
        error!("{text}");
    } else if let Some((_, stderr)) = OUTPUTS.get() {
        stderr.push(format!("{text}\n").as_bytes());
    }
}

/// The first directive without a level: taken for a part of the program, it would silence all others.
fn levelless(level: &str) -> Option<&str> {
    // Fields of spans may hold commas.
    if level.contains('[') {
        return None;
    }
    let known = |word: &str| {
        let words = ["error", "warn", "info", "debug", "trace", "off"];
        words.contains(&word.to_ascii_lowercase().as_str()) || word.contains('=')
    };
    level.split(',').map(str::trim).find(|word| !known(word))
}

/// sled and hyper talk at INFO about what concerns only themselves; openraft also at ERROR, many times a
/// second while a peer is down, which the coordinator itself tells once. Who wants it names it.
fn filter_text(level: &str) -> String {
    match level.to_ascii_lowercase().as_str() {
        "off" => "off".to_owned(),
        plain @ ("info" | "debug" | "trace") => {
            format!("{plain},openraft=off,sled=warn,hyper=warn")
        }
        plain @ ("warn" | "error") => format!("{plain},openraft=off"),
        own if own.contains("openraft") => level.to_owned(),
        _ => format!("{level},openraft=off"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_filters_are_read_and_nonsense_is_told() {
        for level in ["info", "DEBUG", "error", "info,tripod::broker=debug"] {
            assert!(
                EnvFilter::builder().parse(filter_text(level)).is_ok(),
                "{level}"
            );
        }
        for (level, filter) in [
            ("info", "info,openraft=off,sled=warn,hyper=warn"),
            ("ERROR", "error,openraft=off"),
            ("off", "off"),
            ("tripod=debug", "tripod=debug,openraft=off"),
            ("info,openraft=debug", "info,openraft=debug"),
        ] {
            assert_eq!(filter_text(level), filter);
        }
        for (level, word) in [("bogus", "bogus"), ("", ""), ("info,tripod", "tripod")] {
            assert_eq!(levelless(level), Some(word));
            let told = filter(level).expect_err("no level");
            assert!(told.contains("error, warn, info, debug, trace"), "{told}");
        }
        for level in [
            "OFF",
            "tripod=debug,info",
            "info, tripod[span{a=1,b}]=debug",
        ] {
            assert_eq!(levelless(level), None);
        }
        let config = LoggingConfig {
            level: "a=b=c".into(),
            format: "text".into(),
        };
        assert!(install(&config).is_err_and(|text| text.contains("a=b=c")));
    }
}
