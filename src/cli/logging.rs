//! Installs the log: one line of text, or one JSON object, per event on standard output.
//!
//! Only commands that run a node install a subscriber; tools stay silent.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::config::LoggingConfig;

/// The filter of `log.level`, or what is wrong with it.
pub fn filter(level: &str) -> Result<EnvFilter, String> {
    EnvFilter::builder()
        .parse(filter_text(level))
        .map_err(|error| format!("log.level '{level}' is no filter: {error}"))
}

/// Installs the subscriber. A second call keeps the first; a bad filter is told.
pub fn install(config: &LoggingConfig) -> Result<(), String> {
    let filter = filter(&config.level)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_span_events(FmtSpan::NONE)
        .with_ansi(std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .with_writer(std::io::stdout);
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
    Ok(())
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
        let config = LoggingConfig {
            level: "a=b=c".into(),
            format: "text".into(),
        };
        assert!(install(&config).is_err_and(|text| text.contains("a=b=c")));
    }
}
