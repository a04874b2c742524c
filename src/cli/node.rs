//! Runs nodes in this process: starts their halves in order, says when they are ready, stops them.
//!
//! Start: HTTP (so that health can be asked from the first moment), what may refuse a broker,
//! coordinators, brokers. Stop, at the
//! first signal: brokers, coordinators, HTTP; at the second one, at once. Every task is joined, or the
//! end says what was left over. Only `cli` installs signal handlers; [`super::watch`] hears them.

use std::sync::Arc;
use std::time::Duration;

use tracing::{error, info, warn};

use super::halves::{self, Halves, World};
use super::logging;
use super::watch::{self, Watch};
use crate::common::net::{self, HostPort};
use crate::common::shutdown::Shutdown;
use crate::common::tasks::{Failed, Tasks};
use crate::config::Config;
use crate::http::server::{Options, serve};

/// What a busy HTTP port means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpPolicy {
    /// The node does not start.
    Required,
    /// The node starts without HTTP and says so, unless the port was asked for by name.
    Optional,
}

/// What `tripod dev` says when everything listens.
#[derive(Clone, Debug)]
pub struct Banner {
    /// Where the data is, and whether it stays.
    pub data: String,
    /// One JSON object instead of lines for people.
    pub json: bool,
}

impl Banner {
    fn text(&self, nodes: &[Halves]) -> String {
        let list = |port: fn(&Halves) -> Option<u16>| {
            let ports = nodes.iter().filter_map(port);
            let places: Vec<String> = ports.map(|port| format!("localhost:{port}")).collect();
            places.join(",")
        };
        let kafka = list(Halves::kafka_port);
        let zookeeper = list(Halves::zookeeper_port);
        let http = list(Halves::http_port);
        if self.json {
            let fields: [(&str, &str); 4] = [
                ("kafka", &kafka),
                ("zookeeper", &zookeeper),
                ("http", &http),
                ("data", &self.data),
            ];
            return logging::json_line("the cluster is up", &fields);
        }
        let http = if http.is_empty() {
            "not served".to_owned()
        } else {
            format!("{http}  (/readyz /metrics /commands)")
        };
        format!(
            "  Kafka      {kafka}\n  ZooKeeper  {zookeeper}\n  HTTP       {http}\n  data       {}\n  Ctrl-C stops.",
            self.data
        )
    }
}

/// How long HTTP connections and other rests may take at the very end.
const REST_LIMIT: Duration = Duration::from_secs(2);

/// How long to wait for the cause of a broker's failure in its own process.
const CAUSE_LIMIT: Duration = Duration::from_millis(500);

/// Why a process that ran nodes ends otherwise than well.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub code: u8,
    /// The one message for standard error.
    pub text: String,
}

impl From<String> for Failure {
    fn from(text: String) -> Failure {
        Failure { code: 1, text }
    }
}

/// Runs until a signal or a failure.
pub async fn run(
    configs: Vec<Config>,
    http: HttpPolicy,
    banner: Option<Banner>,
    watch: &Watch,
) -> Result<(), Failure> {
    let tasks = &watch.tasks;
    let world = World::real(tasks.clone());
    let nodes: Vec<Halves> = configs
        .into_iter()
        .map(|config| Halves::new(Arc::new(config)))
        .collect();
    let work = async {
        // The signal only ends the waiting: the halves stop in order, each by its own means.
        let result = start_and_wait(&nodes, &world, tasks, http, banner, &watch.asked).await;
        watch.begun.stop();
        let stopped = stop(&nodes, tasks, watch.limit).await;
        if result.is_ok() && stopped.is_ok() {
            info!("stopped");
        }
        // What went wrong first is what the user has to know.
        result.map_err(Failure::from).and(stopped)
    };
    tokio::select! {
        result = work => result,
        () = watch.at_once.stopped() => Err(watch::STOPPED_AT_ONCE.to_owned().into()),
    }
}

async fn start_and_wait(
    nodes: &[Halves],
    world: &World,
    tasks: &Tasks,
    http: HttpPolicy,
    banner: Option<Banner>,
    shutdown: &Shutdown,
) -> Result<(), String> {
    let start = async {
        for node in nodes {
            node.tidy(world).await;
        }
        for node in nodes {
            start_http(node, tasks, http).await?;
        }
        for node in nodes {
            node.prepare_broker(world).await?;
        }
        for node in nodes {
            node.start_coordinator(world).await?;
        }
        let brokers = nodes.iter().map(|node| start_broker(node, world));
        for started in join_all(brokers).await {
            if let Err(text) = started {
                // A broker whose own coordinator failed only hears that its connection was lost.
                let failed = tokio::time::timeout(CAUSE_LIMIT, tasks.failed()).await;
                return Err(failed.map_or(text, failure));
            }
        }
        // Not before: who reads it may connect.
        if let Some(banner) = banner {
            logging::say(&banner.text(nodes));
        }
        Ok::<(), String>(())
    };
    tokio::select! {
        started = start => started?,
        // A broker may wait long for its ZooKeeper; a signal ends the wait.
        () = shutdown.stopped() => return Ok(()),
        failed = tasks.failed() => return Err(failure(failed)),
    }
    tokio::select! {
        () = shutdown.stopped() => Ok(()),
        failed = tasks.failed() => Err(failure(failed)),
    }
}

fn failure(failed: Failed) -> String {
    failed.why.unwrap_or_else(|| {
        format!(
            "the task '{}' failed, and a half-dead node is worse than a stopped one; the log says why",
            failed.task
        )
    })
}

/// How many ports are tried for HTTP where none was asked for.
const HTTP_PORTS: u16 = 10;

async fn start_http(node: &Halves, tasks: &Tasks, policy: HttpPolicy) -> Result<(), String> {
    let config = &node.config;
    if !config.http.enable {
        return Ok(());
    }
    let port = u16::try_from(config.http.port).unwrap_or(8080);
    let address = HostPort::new(config.http.host.clone(), port);
    let options = Options {
        connections_max: usize::try_from(config.http.max_connections).unwrap_or(1),
        commands: config.roles.coordinator && config.coordinator.admin_enable_server,
    };
    let mut bound = net::bind(&address).await;
    if policy == HttpPolicy::Optional && !config.http_port_said {
        // A ZooKeeper and a Kafka process on one host, as the tutorial has them, share the default port:
        // the later one takes one of the next.
        for next in 1..HTTP_PORTS {
            if bound.is_ok() {
                break;
            }
            let other = HostPort::new(config.http.host.clone(), port.saturating_add(next));
            bound = net::bind(&other).await;
            if bound.is_ok() {
                warn!(taken = %address, address = %other, "{}", moved(&other));
            }
        }
    }
    let served = match bound {
        Ok(listener) => serve(listener, node.sources(), options, tasks),
        Err(error) => Err(error),
    };
    match served {
        Ok(address) => {
            node.serves_http(address);
            Ok(())
        }
        Err(error) if policy == HttpPolicy::Optional && !config.http_port_said => {
            warn!(%address, %error, "no HTTP here: health, metrics and commands are not served");
            Ok(())
        }
        Err(error) => Err(format!(
            "cannot listen for HTTP on {address}: {error} (http.port; http.enable=false does without)"
        )),
    }
}

/// What is said when HTTP is not where people look for it: whoever has the usual port answers there.
fn moved(address: &HostPort) -> String {
    let host = match address.host.as_str() {
        "" | "0.0.0.0" | "::" => "localhost",
        host => host,
    };
    let asked = HostPort::new(host, address.port);
    format!(
        "health, metrics and commands are served on another port: ask with tripod health --address {asked}"
    )
}

async fn start_broker(node: &Halves, world: &World) -> Result<(), String> {
    if node.start_broker(world).await? {
        for line in halves::ready_lines(&node.config, node.broker_id()) {
            logging::say(&line);
        }
    }
    Ok(())
}

/// Stops brokers, then coordinators, then the rest, which has a share of the limit of its own.
async fn stop(nodes: &[Halves], tasks: &Tasks, limit: Duration) -> Result<(), Failure> {
    let rest = REST_LIMIT.min(limit / 4);
    let mut halves = std::pin::pin!(async {
        // Together: each broker hands its partitions to those that are still there, and waits for none.
        join_all(nodes.iter().map(Halves::stop_broker)).await;
        join_all(nodes.iter().map(Halves::stop_coordinator)).await;
    });
    let in_time = tokio::select! {
        () = &mut halves => true,
        () = tokio::time::sleep(limit.saturating_sub(rest)) => false,
    };
    if in_time && tasks.stop(rest).await {
        return Ok(());
    }
    // The phases that have not ended are known as long as their futures live.
    let text = watch::overrun(tasks, limit);
    error!("{text}");
    Err(Failure {
        code: watch::OVERRUN,
        text,
    })
}

/// Runs futures side by side, without a task for each.
async fn join_all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        let mut pending = false;
        for (future, output) in &mut running {
            if output.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(value) => *output = Some(value),
                    std::task::Poll::Pending => pending = true,
                }
            }
        }
        if pending {
            std::task::Poll::Pending
        } else {
            std::task::Poll::Ready(())
        }
    })
    .await;
    running
        .into_iter()
        .filter_map(|(_, output)| output)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_banner_is_lines_for_people_or_one_json_object() {
        let nodes = [Halves::new(Arc::new(Config::defaults()))];
        nodes[0].serves_http(([127, 0, 0, 1], 8081).into());
        let mut banner = Banner {
            data: "/d (kept)".into(),
            json: false,
        };
        let text = banner.text(&nodes);
        assert!(text.contains("HTTP       localhost:8081 "), "{text}");
        banner.json = true;
        let text = banner.text(&nodes);
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(json["http"], "localhost:8081");
        assert_eq!(json["data"], "/d (kept)");
    }

    #[test]
    fn a_moved_port_names_the_command_that_asks_it() {
        for (host, asked) in [
            ("0.0.0.0", "localhost:8081"),
            ("::", "localhost:8081"),
            ("node1", "node1:8081"),
            ("::1", "[::1]:8081"),
        ] {
            let text = moved(&HostPort::new(host, 8081));
            assert!(
                text.ends_with(&format!("health --address {asked}")),
                "{text}"
            );
        }
    }

    #[tokio::test]
    async fn futures_run_side_by_side() {
        let (send, receive) = tokio::sync::oneshot::channel::<u8>();
        let mut parts: Vec<std::pin::Pin<Box<dyn Future<Output = u8>>>> = Vec::new();
        parts.push(Box::pin(async { receive.await.unwrap_or(0) }));
        parts.push(Box::pin(async {
            let _ = send.send(7);
            1
        }));
        assert_eq!(join_all(parts.into_iter()).await, [7, 1]);
    }
}
