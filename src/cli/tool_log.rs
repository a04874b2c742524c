//! The log of Kafka's tools: warnings and errors on standard error, in the shape that the originals'
//! `tools-log4j.properties` gives them: `[time] LEVEL text (logger)`.
//!
//! A client's warnings come as `tracing` events; their target is the logger's name.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::java_text;
use crate::common::clock::Clock;

/// Sends warnings and errors to standard error from now on. A second call keeps the first.
pub fn install(clock: Clock) {
    let installed = tracing_subscriber::fmt()
        .with_max_level(Level::WARN)
        .with_writer(std::io::stderr)
        .event_format(Log4j { clock })
        .try_init();
    // Only tests run several tools in one process.
    let _ = installed;
}

/// One line of the log.
pub fn line(now_ms: i64, level: &str, text: &str, logger: &str) -> String {
    let now = java_text::date(now_ms, "yyyy-MM-dd HH:mm:ss,SSS").unwrap_or_default();
    format!("[{now}] {level} {text} ({logger})")
}

struct Log4j {
    clock: Clock,
}

impl<S, N> FormatEvent<S, N> for Log4j
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut text = Text::default();
        event.record(&mut text);
        let metadata = event.metadata();
        let level = metadata.level().as_str();
        let all = format!("{}{}", text.message, text.fields);
        let logger = text.logger.as_deref().unwrap_or(metadata.target());
        writeln!(
            writer,
            "{}",
            line(self.clock.wall_ms(), level, &all, logger)
        )
    }
}

/// An event's message, and its other fields behind it; the field `logger` is more than its target.
#[derive(Default)]
struct Text {
    logger: Option<String>,
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "logger" => self.logger = Some(value.to_owned()),
            _ => self.record_debug(field, &value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let written = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.fields, " {}={value:?}", field.name())
        };
        debug_assert!(written.is_ok(), "memory takes every text");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line of a genuine 2.8.0 console producer.
    #[test]
    fn lines_have_the_originals_shape() {
        assert_eq!(
            line(
                1_795_372_718_571,
                "WARN",
                "[Producer clientId=console-producer] Bootstrap broker 127.0.0.1:29999 (id: -1 rack: null) disconnected",
                "org.apache.kafka.clients.NetworkClient",
            ),
            "[2026-11-22 18:38:38,571] WARN [Producer clientId=console-producer] Bootstrap broker 127.0.0.1:29999 (id: -1 rack: null) disconnected (org.apache.kafka.clients.NetworkClient)"
        );
    }
}
