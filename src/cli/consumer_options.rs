//! What the console consumer and the consumer's performance test have in common: options, the
//! properties they come to, and the consumer made of them.

use super::client_props::{For, Properties};
use super::java_args::{ArgError, Options, Spec, flag, option};
use super::print::Refused;
use crate::client::World;
use crate::client::consumer::Consumer;

/// `--bootstrap-server`.
pub const BOOTSTRAP_SERVER: Spec = option(
    "bootstrap-server",
    "String: server to connect to",
    "REQUIRED: The server(s) to connect to.",
);
/// `--consumer.config`.
pub const CONSUMER_CONFIG: Spec = option(
    "consumer.config",
    "String: config file",
    "Consumer config properties file. Note that [consumer-property] takes precedence over this config.",
);
/// `--command-config`, its name in 4.x.
pub const COMMAND_CONFIG: Spec = option(
    "command-config",
    "String: config file",
    "The same as --consumer.config.",
)
.beyond();
/// `--command-property`, 4.x's name of `--consumer-property`.
pub const COMMAND_PROPERTY: Spec = option(
    "command-property",
    "String: prop1=val1",
    "Consumer properties in the form key=value.",
)
.beyond();
/// `--include`.
pub const INCLUDE: Spec = option(
    "include",
    "String: Java regex (String)",
    "Regular expression specifying list of topics to include for consumption.",
)
.beyond();
/// `--enable-systest-events`.
pub const ENABLE_SYSTEST_EVENTS: Spec = flag(
    "enable-systest-events",
    "Log lifecycle events of the consumer in addition to logging consumed messages. (This is specific for system tests.)",
);

/// The properties of a file and of options; later options win over earlier ones.
pub fn properties(options: &Options) -> Result<Properties, Refused> {
    Properties::from_options(
        options,
        &["consumer.config", "command-config"],
        &["consumer-property", "command-property"],
    )
}

/// The last value of the first of these options that was given.
pub fn last(options: &Options, names: &[&str]) -> Option<String> {
    names
        .iter()
        .find_map(|name| options.values(name).last().cloned())
}

/// An option's number, where one was given: joptsimple reads each while it is used.
pub fn number<T: std::str::FromStr>(options: &Options, name: &str) -> Result<Option<T>, u8> {
    options.parsed(name).map_err(|error: ArgError| error.die())
}

/// A regular expression for whole names of topics.
pub fn pattern(text: &str) -> Result<regex_lite::Regex, Refused> {
    regex_lite::Regex::new(&format!("^(?:{text})$")).map_err(|error| {
        Refused::Construct(super::print::Throwable::new(
            "java.util.regex.PatternSyntaxException",
            &error.to_string(),
        ))
    })
}

/// A consumer of these properties.
pub fn consumer(world: &World, properties: &Properties, tool: &str) -> Result<Consumer, Refused> {
    let settings = properties.consumer()?;
    let group = properties.group()?;
    let cluster = properties.cluster(world.clone(), For::Consumer, tool)?;
    Ok(Consumer::new(cluster, settings, group))
}
