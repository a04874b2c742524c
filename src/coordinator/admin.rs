//! ZooKeeper's AdminServer: what `/commands/<name>` answers, as JSON with the keys of 3.6.2. The HTTP half
//! only asks and prints.
//!
//! Figures that do not exist here are left out, as in `monitor`.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use serde_json::{Map, Value, json};

use crate::common::ids::{SessionId, Zxid};
use crate::coordinator::server::Server;
use crate::coordinator::status::{BUILT_ON, ConnectionStats, Mode, NO_OP, VERSION};
use crate::coordinator::{four_letter, monitor};

/// What every command that needs a server answers while there is none.
const NOT_SERVING: &str = "This ZooKeeper instance is not currently serving requests";
/// `DigestCalculator.DIGEST_VERSION`.
const DIGEST_VERSION: i32 = 2;

type Data = Map<String, Value>;
type Arguments = [(String, String)];

struct Command {
    /// The first is shown.
    names: &'static [&'static str],
    /// Only while this member serves clients?
    needs_server: bool,
    run: fn(&Server, &Arguments) -> Data,
}

const fn command(
    names: &'static [&'static str],
    needs_server: bool,
    run: fn(&Server, &Arguments) -> Data,
) -> Command {
    Command {
        names,
        needs_server,
        run,
    }
}

static COMMANDS: [Command; 26] = [
    command(&["configuration", "conf", "config"], true, configuration),
    command(&["connection_stat_reset", "crst"], true, |server, _| {
        four_letter::text(server, "crst");
        Data::new()
    }),
    command(&["connections", "cons"], true, |server, _| {
        connections(server, false)
    }),
    command(&["dirs"], true, dirs),
    command(&["dump"], true, dump),
    command(&["environment", "env", "envi"], false, environment),
    command(&["get_trace_mask", "gtmk"], false, |server, _| {
        object(json!({ "tracemask": server.trace.get() }))
    }),
    command(&["hash"], true, hash),
    command(&["initial_configuration", "icfg"], true, |_, _| {
        object(json!({ "initial_configuration": null }))
    }),
    command(&["is_read_only", "isro"], true, |server, _| {
        object(json!({ "read_only": server.is_read_only() }))
    }),
    command(&["last_snapshot", "lsnp"], true, last_snapshot),
    command(&["leader", "lead"], true, leader),
    command(&["monitor", "mntr"], true, monitor),
    command(&["observer_connection_stat_reset", "orst"], true, |_, _| {
        Data::new()
    }),
    command(&["observers", "obsr"], true, |_, _| {
        object(json!({ "synced_observers": 0, "observers": [] }))
    }),
    command(&["ruok"], true, |_, _| Data::new()),
    command(&["server_stats", "srvr"], true, |server, _| {
        server_stats(server)
    }),
    command(&["set_trace_mask", "stmk"], false, set_trace_mask),
    command(&["stat_reset", "srst"], true, |server, _| {
        server.reset_stats();
        Data::new()
    }),
    command(&["stats", "stat"], true, |server, _| {
        let mut data = server_stats(server);
        data.extend(connections(server, true));
        data
    }),
    // A JVM's.
    command(&["system_properties", "sysp"], false, |_, _| Data::new()),
    command(&["voting_view"], true, voting_view),
    command(&["watch_summary", "wchs"], true, |server, _| {
        let (connections, paths, watches) = server.replica.watch_summary();
        object(json!({
            "num_connections": connections,
            "num_paths": paths,
            "num_total_watches": watches,
        }))
    }),
    command(&["watches", "wchc"], true, watches),
    command(&["watches_by_path", "wchp"], true, watches_by_path),
    command(&["zabstate"], false, zab_state),
];

/// The names that the page with a link to each command shows, in order.
pub fn names() -> Vec<&'static str> {
    COMMANDS.iter().map(|command| command.names[0]).collect()
}

/// Runs a command. `server` is none until this member has started.
pub fn run(server: Option<&Server>, name: &str, arguments: &Arguments) -> Value {
    let found = COMMANDS
        .iter()
        .find(|command| command.names.contains(&name));
    let Some(command) = found else {
        let error = format!("Unknown command: {name}");
        return finish(Data::new(), name, error.into());
    };
    match server {
        Some(server) if server.is_running() || !command.needs_server => finish(
            (command.run)(server, arguments),
            command.names[0],
            Value::Null,
        ),
        _ => {
            // The original's error; what is waited for stands beside it.
            let waits_for = server.and_then(|server| server.status().waits_for);
            let waits_for = waits_for.map(|text| ("waits_for".to_owned(), text.into()));
            finish(waits_for.into_iter().collect(), name, NOT_SERVING.into())
        }
    }
}

/// A command's own error is the one that counts.
fn finish(mut data: Data, name: &str, error: Value) -> Value {
    data.insert("command".into(), name.into());
    data.entry("error").or_insert(error);
    Value::Object(data)
}

fn object(value: Value) -> Data {
    match value {
        Value::Object(data) => data,
        _ => Data::new(),
    }
}

fn failed(text: impl Into<String>) -> Data {
    object(json!({ "error": text.into() }))
}

fn configuration(server: &Server, _: &Arguments) -> Data {
    let options = &server.options;
    let dir = options.data_dir.display().to_string();
    object(json!({
        "client_port": server.client_address.port(),
        "data_dir": dir,
        "data_log_dir": dir,
        "tick_time": options.tick_time_ms,
        "max_client_cnxns": options.max_client_cnxns,
        "min_session_timeout": options.min_session_timeout_ms,
        "max_session_timeout": options.max_session_timeout_ms,
        "server_id": options.shown_id(),
        "client_port_listen_backlog": -1,
    }))
}

fn connections(server: &Server, is_brief: bool) -> Data {
    let all = server.stats.connections();
    let shown: Vec<Value> = all.iter().map(|one| connection(one, is_brief)).collect();
    object(json!({ "connections": shown, "secure_connections": [] }))
}

fn connection(connection: &ConnectionStats, is_brief: bool) -> Value {
    let mut data = object(json!({
        "remote_socket_address": connection.peer.to_string(),
        "interest_ops": i32::from(connection.session.0 != 0),
        "outstanding_requests": connection.outstanding.load(Relaxed).max(0),
        "packets_received": connection.received.load(Relaxed),
        "packets_sent": connection.sent.load(Relaxed),
    }));
    if !is_brief {
        let latency = connection.latency.read();
        let last_op = i32::try_from(connection.last_op.load(Relaxed)).unwrap_or(NO_OP);
        data.extend(object(json!({
            "session_id": connection.session.0,
            "last_operation": four_letter::op_name(last_op),
            "established": connection.established_ms,
            "session_timeout": connection.timeout_ms,
            "last_cxid": connection.last_xid.load(Relaxed),
            "last_zxid": connection.last_zxid.load(Relaxed),
            "last_response_time": connection.last_response_ms.load(Relaxed),
            "last_latency": connection.last_latency_ms.load(Relaxed),
            "min_latency": latency.min_ms,
            "avg_latency": latency.avg_ms.round() as i64,
            "max_latency": latency.max_ms,
        })));
    }
    Value::Object(data)
}

fn dirs(server: &Server, _: &Arguments) -> Data {
    let bytes = server.disk_bytes();
    object(json!({ "datadir_size": bytes, "logdir_size": bytes }))
}

/// Who expires when is the leader's business, and not told here: a follower of ZooKeeper shows no times either.
fn dump(server: &Server, _: &Arguments) -> Data {
    object(json!({
        "expiry_time_to_session_ids": {},
        "session_id_to_ephemeral_paths": by_session(server.replica.ephemerals()),
    }))
}

fn by_session(paths: BTreeMap<SessionId, Vec<String>>) -> Value {
    let paths = paths.into_iter();
    Value::Object(
        paths
            .map(|(session, paths)| (session.0.to_string(), paths.into()))
            .collect(),
    )
}

fn environment(server: &Server, _: &Arguments) -> Data {
    let text = four_letter::text(server, "envi").unwrap_or_default();
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs
        .map(|(key, value)| (key.to_owned(), value.into()))
        .collect()
}

fn hash(server: &Server, _: &Arguments) -> Data {
    let digests = server.replica.digests().into_iter();
    let digests: Vec<Value> = digests
        .map(|(zxid, digest)| {
            json!({
                "zxid": zxid.0,
                "digest": digest.cast_signed(),
                "digest_version": DIGEST_VERSION,
            })
        })
        .collect();
    object(json!({ "digests": digests }))
}

/// When it was written is not known here; ZooKeeper says −1 for that.
fn last_snapshot(server: &Server, _: &Arguments) -> Data {
    let zxid = server.raft.snapshot_zxid().unwrap_or(Zxid(-1));
    object(json!({ "zxid": format!("{:x}", zxid.0), "timestamp": -1 }))
}

fn leader(server: &Server, _: &Arguments) -> Data {
    if server.options.members.is_empty() {
        return failed("server is not initialized");
    }
    let status = server.status();
    let leader = status.leader;
    let member = leader.and_then(|leader| server.options.members.get(&leader));
    object(json!({
        "is_leader": status.mode == Mode::Leader,
        "leader_id": leader.map_or(-1, |leader| leader.0.cast_signed()),
        "leader_ip": member.map_or("", |member| &member.quorum.host),
    }))
}

fn monitor(server: &Server, _: &Arguments) -> Data {
    let rows = monitor::rows(&server.status()).into_iter();
    rows.map(|(key, value)| (key, typed(&value))).collect()
}

fn typed(value: &str) -> Value {
    match (value.parse::<i64>(), value.parse::<f64>()) {
        (Ok(integer), _) => integer.into(),
        (_, Ok(number)) if number.is_finite() => number.into(),
        _ => value.into(),
    }
}

fn server_stats(server: &Server) -> Data {
    let status = server.status();
    let sizes = |[last, min, max]: [i64; 3]| json!({ "last_buffer_size": last, "min_buffer_size": min, "max_buffer_size": max });
    let bytes = server.disk_bytes();
    let mut data = object(json!({
        "version": format!("{VERSION}, built on {BUILT_ON}"),
        "read_only": status.is_read_only,
        "server_stats": {
            "packets_sent": status.packets_sent,
            "packets_received": status.packets_received,
            "client_response_stats": sizes(status.response_bytes),
            "data_dir_size": bytes,
            "log_dir_size": bytes,
            "provider_null": false,
            "last_processed_zxid": status.last_zxid.0,
            "outstanding_requests": status.outstanding,
            "server_state": status.mode.text(),
            "avg_latency": typed(&status.latency.avg_text()),
            "max_latency": status.latency.max_ms,
            "min_latency": status.latency.min_ms,
            "num_alive_client_connections": status.connections,
            "uptime": status.uptime_ms,
        },
        "client_response": sizes(status.response_bytes),
    }));
    if status.mode == Mode::Leader {
        data.insert("proposal_stats".into(), sizes(status.proposal_bytes));
    }
    data.insert("node_count".into(), status.counts.nodes.into());
    data
}

fn set_trace_mask(server: &Server, arguments: &Arguments) -> Data {
    const WANTED: &str = "setTraceMask requires long traceMask argument";
    let Some((_, text)) = arguments.iter().find(|(name, _)| name == "traceMask") else {
        return failed(WANTED);
    };
    match text.parse::<i64>() {
        Ok(mask) => {
            server.trace.set(mask);
            object(json!({ "tracemask": mask }))
        }
        Err(_) => failed(format!("{WANTED}, got {text}")),
    }
}

fn voting_view(server: &Server, _: &Arguments) -> Data {
    let members = server.options.members.iter();
    let view: Data = members
        .map(|(id, member)| {
            let client = member.client.as_ref().map(ToString::to_string);
            let shown = json!({
                "server_addresses": [member.quorum.to_string()],
                "election_addresses": [member.election.to_string()],
                "client_address": client.unwrap_or_default(),
                "learner_type": "participant",
            });
            (id.to_string(), shown)
        })
        .collect();
    object(json!({ "current_config": view }))
}

fn watches(server: &Server, _: &Arguments) -> Data {
    object(json!({ "session_id_to_watched_paths": by_session(server.replica.data_watches()) }))
}

fn watches_by_path(server: &Server, _: &Arguments) -> Data {
    let mut by_path: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for (session, paths) in server.replica.data_watches() {
        for path in paths {
            by_path.entry(path).or_default().push(session.0);
        }
    }
    object(json!({ "path_to_session_ids": by_path }))
}

fn zab_state(server: &Server, _: &Arguments) -> Data {
    let Some(own) = server.options.members.get(&server.options.member) else {
        return object(json!({ "voting": false, "zabstate": "" }));
    };
    let status = server.status();
    let zxid = status.last_zxid.0;
    object(json!({
        "myid": server.options.member.0,
        "is_leader": status.mode == Mode::Leader,
        "quorum_address": own.quorum.to_string(),
        "election_address": own.election.to_string(),
        "client_address": server.client_address.to_string(),
        "voting": true,
        "last_zxid": format!("{zxid:#x}"),
        "zab_epoch": zxid >> 32,
        "zab_counter": zxid & 0xffff_ffff,
        "zabstate": match status.mode {
            Mode::Leader | Mode::Follower | Mode::Standalone => "broadcast",
            Mode::Looking | Mode::ReadOnly => "election",
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the genuine page lists them.
    #[test]
    fn every_command_of_3_6_is_there() {
        assert_eq!(
            names().join(" "),
            "configuration connection_stat_reset connections dirs dump environment get_trace_mask hash \
             initial_configuration is_read_only last_snapshot leader monitor observer_connection_stat_reset \
             observers ruok server_stats set_trace_mask stat_reset stats system_properties voting_view \
             watch_summary watches watches_by_path zabstate"
        );
        assert!(names().is_sorted());
    }

    #[test]
    fn who_does_not_serve_says_so() {
        assert_eq!(
            run(None, "srvr", &[]).to_string(),
            format!("{{\"command\":\"srvr\",\"error\":\"{NOT_SERVING}\"}}")
        );
        assert_eq!(run(None, "nope", &[])["error"], "Unknown command: nope");
    }
}
