//! `kafka-leader-election`: asks the controller to elect leaders.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;

use super::client_props::Properties;
use super::java_args::{Options, Spec, Usage, flag, option};
use super::java_text::{partition_hash, scala_order};
use super::print::{Throwable, err, exception, out, throwable};
use super::{java_args, run_tool};
use crate::client::ClientError;
use crate::client::admin::{Admin, ElectionType};
use crate::common::ids::TopicPartition;

const SPECS: &[Spec] = &[
    option(
        "bootstrap-server",
        "String: host:port",
        "A hostname and port for the broker to connect to, in the form host:port. Multiple comma separated URLs can be given. REQUIRED.",
    ),
    option(
        "admin.config",
        "String: config file",
        "Configuration properties files to pass to the admin client",
    ),
    option(
        "command-config",
        "String: config file",
        "The same as --admin.config.",
    )
    .beyond(),
    option(
        "path-to-json-file",
        "String: Path to JSON file",
        "The JSON file with the list  of partition for which leader elections should be performed. This is an example format. \n{\"partitions\":\n\t[{\"topic\": \"foo\", \"partition\": 1},\n\t {\"topic\": \"foobar\", \"partition\": 2}]\n}\nNot allowed if --all-topic-partitions or --topic flags are specified.",
    ),
    option(
        "topic",
        "String: topic name",
        "Name of topic for which to perform an election. Not allowed if --path-to-json-file or --all-topic-partitions is specified.",
    ),
    option(
        "partition",
        "Integer: partition id",
        "Partition id for which to perform an election. REQUIRED if --topic is specified.",
    ),
    flag(
        "all-topic-partitions",
        "Perform election on all of the eligible topic partitions based on the type of election (see the --election-type flag). Not allowed if --topic or --path-to-json-file is specified.",
    ),
    option(
        "election-type",
        "[PREFERRED,UNCLEAN]: election type",
        "Type of election to attempt. Possible values are \"preferred\" for preferred leader election or \"unclean\" for unclean leader election. If preferred election is selection, the election is only performed if the current leader is not the preferred leader for the topic partition. If unclean election is selected, the election is only performed if there are no leader for the topic partition. REQUIRED.",
    ),
];

const USAGE: Usage = Usage {
    specs: SPECS,
    about: "This tool attempts to elect a new leader for a set of topic partitions. The type of elections supported are preferred replicas and unclean replicas.",
    tried: false,
};

/// The original's own timeouts: 30 s for the call, half of it for each request.
const TIMEOUTS: &[(&str, &str)] = &[
    ("default.api.timeout.ms", "30000"),
    ("request.timeout.ms", "15000"),
];

/// What is to be elected.
struct Plan {
    servers: String,
    file: Option<String>,
    election: ElectionType,
    partitions: Option<Vec<TopicPartition>>,
}

/// Runs the tool.
pub fn run(_program: &str, arguments: Vec<String>) -> u8 {
    let options = match USAGE.parse(&arguments) {
        Ok(options) => options,
        Err(code) => return code,
    };
    let die = |message: &str| {
        err!("Exception in thread \"main\" {message}");
        1
    };
    let plan = match plan(&options) {
        Ok(plan) => plan,
        Err(message) => return die(&message),
    };
    run_tool(|world| async move {
        let admin = Properties::admin(&world, &plan.servers, plan.file.as_deref(), TIMEOUTS);
        let admin = match admin {
            Ok(admin) => admin,
            Err(refused) => return refused.die(),
        };
        match elect(&admin, plan).await {
            Ok(()) => 0,
            Err(message) => die(&message),
        }
    })
}

fn failed(message: String) -> String {
    format!("kafka.common.AdminCommandFailedException: {message}")
}

fn plan(options: &Options) -> Result<Plan, String> {
    let argument = |error: java_args::ArgError| match error.throwable() {
        Ok(why) => why.to_string(),
        Err(sentence) => sentence,
    };
    let missing: Vec<&str> = ["election-type", "bootstrap-server"]
        .into_iter()
        .filter(|name| !options.has(name))
        .collect();
    if !missing.is_empty() {
        let missing = missing.join(", ");
        return Err(failed(format!("Missing required option(s): {missing}")));
    }
    let ways = ["topic", "all-topic-partitions", "path-to-json-file"];
    if ways.iter().filter(|name| options.has(name)).count() != 1 {
        return Err(failed(format!(
            "One and only one of the following options is required: {}",
            ways.join(", ")
        )));
    }
    match (options.has("topic"), options.has("partition")) {
        (true, false) => {
            return Err(failed("Missing required option(s): partition".to_owned()));
        }
        (false, true) => {
            return Err(failed(
                "Option partition is only allowed if topic is used".to_owned(),
            ));
        }
        _ => {}
    }
    let election = match options.value("election-type").map_err(argument)? {
        Some(text) if text.eq_ignore_ascii_case("preferred") => ElectionType::Preferred,
        Some(text) if text.eq_ignore_ascii_case("unclean") => ElectionType::Unclean,
        other => {
            return Err(format!(
                "joptsimple.OptionArgumentConversionException: Cannot parse argument '{0}' of option election-type\nCaused by: joptsimple.ValueConversionException: Value [{0}] is not one of [[PREFERRED,UNCLEAN]]",
                other.unwrap_or_default()
            ));
        }
    };
    let partitions = match (
        options.value("topic").map_err(argument)?,
        options.parsed::<i32>("partition").map_err(argument)?,
        options.value("path-to-json-file").map_err(argument)?,
    ) {
        (Some(topic), Some(partition), _) => Some(vec![TopicPartition::new(topic, partition)]),
        (_, _, Some(path)) => {
            let text = std::fs::read_to_string(path)
                .map_err(|_| format!("java.io.IOException: Unable to read file {path}\nCaused by: java.nio.file.NoSuchFileException: {path}"))?;
            Some(parse_partitions(&text)?)
        }
        _ => None,
    };
    let file = ["admin.config", "command-config"]
        .iter()
        .find_map(|name| options.values(name).first().cloned());
    Ok(Plan {
        servers: options
            .value("bootstrap-server")
            .map_err(argument)?
            .unwrap_or_default()
            .to_owned(),
        file,
        election,
        partitions,
    })
}

fn parse_partitions(text: &str) -> Result<Vec<TopicPartition>, String> {
    let wrong = |message: &str| format!("kafka.admin.AdminOperationException: {message}");
    let json: serde_json::Value =
        serde_json::from_str(text).map_err(|_| wrong("Replica election data is empty"))?;
    let list = json
        .get("partitions")
        .and_then(serde_json::Value::as_array)
        .ok_or_else(|| wrong("Replica election data is missing \"partitions\" field"))?;
    let mut partitions = Vec::new();
    for item in list {
        let topic = item.get("topic").and_then(serde_json::Value::as_str);
        let partition = item
            .get("partition")
            .and_then(serde_json::Value::as_i64)
            .and_then(|partition| i32::try_from(partition).ok());
        match (topic, partition) {
            (Some(topic), Some(partition)) => {
                let partition = TopicPartition::new(topic, partition);
                if partitions.contains(&partition) {
                    return Err(wrong(&format!(
                        "Replica election data contains duplicate partitions: {partition}"
                    )));
                }
                partitions.push(partition);
            }
            _ => return Err(wrong(&format!("no topic and partition in {item}"))),
        }
    }
    Ok(partitions)
}

async fn elect(admin: &Admin, plan: Plan) -> Result<(), String> {
    let outcome = admin
        .elect_leaders(plan.election, plan.partitions.as_deref())
        .await
        .map_err(|error| match &error {
            ClientError::NoBroker { .. } | ClientError::TimedOut { .. } => {
                out!("Timeout waiting for election results");
                let why = "Timeout waiting for election results";
                Throwable::new("kafka.common.AdminCommandFailedException", why)
                    .caused_by(throwable(&error))
                    .to_string()
            }
            error if error.code() == Some(ResponseError::ClusterAuthorizationFailed) => {
                out!("Not authorized to perform leader election");
                failed("Not authorized to perform leader election".to_owned())
            }
            error => {
                out!("Error while making request");
                Throwable::of_future(throwable(error)).to_string()
            }
        })?;
    report(plan.election, outcome)
}

fn report(
    election: ElectionType,
    outcome: BTreeMap<TopicPartition, Result<(), ClientError>>,
) -> Result<(), String> {
    let kind = match election {
        ElectionType::Preferred => "PREFERRED",
        ElectionType::Unclean => "UNCLEAN",
    };
    let mut elected = Vec::new();
    let mut unchanged = Vec::new();
    let mut refused = Vec::new();
    for (partition, result) in outcome {
        match result {
            Ok(()) => elected.push(partition),
            Err(error) if error.code() == Some(ResponseError::ElectionNotNeeded) => {
                unchanged.push(partition);
            }
            Err(error) => refused.push((partition, error)),
        }
    }
    let elected_now = !elected.is_empty();
    let elected = scala_order(elected, partition_hash);
    let elected: Vec<String> = elected.iter().map(ToString::to_string).collect();
    let elected = elected.join(", ");
    if elected_now {
        out!("Successfully completed leader election ({kind}) for partitions {elected}");
    }
    if !unchanged.is_empty() {
        // 2.8.0 names the partitions that have just got a leader here, too: mostly none.
        out!("Valid replica already elected for partitions {elected}");
    }
    let refused = scala_order(refused, |(partition, _)| partition_hash(partition));
    for (partition, error) in &refused {
        out!(
            "Error completing leader election ({kind}) for partition: {partition}: {}",
            exception(error)
        );
    }
    if refused.is_empty() {
        Ok(())
    } else {
        let mut text = failed(format!("{} replica(s) could not be elected", refused.len()));
        for (_, error) in &refused {
            text.push_str(&format!("\n\tSuppressed: {}", exception(error)));
        }
        Err(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan_of(text: &str) -> Result<Option<Vec<TopicPartition>>, String> {
        let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
        let options = java_args::parse(SPECS, &words, java_args::Habit::Joptsimple)
            .map_err(|error| error.to_string())?;
        plan(&options).map(|plan| plan.partitions)
    }

    #[test]
    fn exactly_one_way_to_name_partitions() {
        assert_eq!(
            plan_of("--bootstrap-server a:1 --topic test --partition=2 --election-type preferred"),
            Ok(Some(vec![TopicPartition::new("test", 2)]))
        );
        assert_eq!(
            plan_of("--bootstrap-server a:1 --all-topic-partitions --election-type UNCLEAN"),
            Ok(None)
        );
        let refused = [
            (
                "--topic t",
                "kafka.common.AdminCommandFailedException: Missing required option(s): election-type, bootstrap-server",
            ),
            (
                "--bootstrap-server a:1 --election-type preferred",
                "kafka.common.AdminCommandFailedException: One and only one of the following options is required: topic, all-topic-partitions, path-to-json-file",
            ),
            (
                "--bootstrap-server a:1 --election-type preferred --topic t",
                "kafka.common.AdminCommandFailedException: Missing required option(s): partition",
            ),
        ];
        for (text, message) in refused {
            assert_eq!(plan_of(text), Err(message.to_owned()), "{text}");
        }
    }

    #[test]
    fn partitions_come_from_json() {
        let text = r#"{"partitions": [{"topic": "foo", "partition": 1}]}"#;
        assert_eq!(
            parse_partitions(text),
            Ok(vec![TopicPartition::new("foo", 1)])
        );
        assert!(parse_partitions("{}").is_err());
        assert!(parse_partitions("").is_err());
    }
}
