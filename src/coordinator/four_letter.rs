//! The four-letter words: one table, word → function → text, in the shapes of ZooKeeper 3.6.2.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

use crate::common::ids::SessionId;
use crate::coordinator::server::Server;
use crate::coordinator::status::{BUILT_ON, ConnectionStats, Mode, Status, VERSION};
use crate::zookeeper::message::op;

/// The words that only read, and tell no secrets: what is allowed unless configured otherwise.
pub const DEFAULT_WHITELIST: &str = "ruok,srvr,stat,mntr,conf,cons,envi,dirs,wchs,isro";

const NOT_SERVING: &str = "This ZooKeeper instance is not currently serving requests\n";

/// One word.
#[derive(Debug)]
pub struct Word {
    name: &'static str,
    answer: fn(&Server) -> String,
}

static WORDS: [Word; 15] = [
    Word {
        name: "ruok",
        answer: |_| "imok".to_owned(),
    },
    Word {
        name: "srvr",
        answer: srvr,
    },
    Word {
        name: "stat",
        answer: stat,
    },
    Word {
        name: "mntr",
        answer: mntr,
    },
    Word {
        name: "conf",
        answer: conf,
    },
    Word {
        name: "cons",
        answer: cons,
    },
    Word {
        name: "envi",
        answer: envi,
    },
    Word {
        name: "dirs",
        answer: dirs,
    },
    Word {
        name: "wchs",
        answer: wchs,
    },
    Word {
        name: "wchc",
        answer: wchc,
    },
    Word {
        name: "wchp",
        answer: wchp,
    },
    Word {
        name: "dump",
        answer: dump,
    },
    Word {
        name: "isro",
        answer: isro,
    },
    Word {
        name: "crst",
        answer: crst,
    },
    Word {
        name: "srst",
        answer: srst,
    },
];

/// The word that a connection begins with, if it is one.
pub fn word(head: &[u8; 4]) -> Option<&'static Word> {
    WORDS.iter().find(|word| word.name.as_bytes() == head)
}

/// Is `name` a word that can be allowed?
pub fn is_known(name: &str) -> bool {
    name == "*" || WORDS.iter().any(|word| word.name == name)
}

/// The text of a word for HTTP, which has a switch of its own instead of the list.
pub fn text(server: &Server, name: &str) -> Option<String> {
    let word = WORDS.iter().find(|word| word.name == name)?;
    Some((word.answer)(server))
}

/// The whole answer.
pub fn answer(server: &Server, word: &Word) -> String {
    let allowed = &server.options.four_letter_words;
    if allowed.iter().any(|name| name == "*" || name == word.name) {
        (word.answer)(server)
    } else {
        format!(
            "{} is not executed because it is not in the whitelist.\n",
            word.name
        )
    }
}

fn version_line() -> String {
    format!("Zookeeper version: {VERSION}, built on {BUILT_ON}\n")
}

fn srvr(server: &Server) -> String {
    let status = server.status();
    if !status.is_serving {
        return NOT_SERVING.to_owned();
    }
    version_line() + &server_lines(&status)
}

fn server_lines(status: &Status) -> String {
    let latency = &status.latency;
    let mut text = String::new();
    let _ = write!(
        text,
        "Latency min/avg/max: {}/{}/{}\nReceived: {}\nSent: {}\nConnections: {}\n\
         Outstanding: {}\nZxid: {:#x}\nMode: {}\nNode count: {}\n",
        latency.min_ms,
        latency.avg_text(),
        latency.max_ms,
        status.packets_received,
        status.packets_sent,
        status.connections,
        status.outstanding,
        status.last_zxid.0,
        status.mode.text(),
        status.counts.nodes,
    );
    if status.mode == Mode::Leader {
        let [last, min, max] = status.proposal_bytes;
        let _ = writeln!(text, "Proposal sizes last/min/max: {last}/{min}/{max}");
    }
    text
}

fn stat(server: &Server) -> String {
    let status = server.status();
    if !status.is_serving {
        return NOT_SERVING.to_owned();
    }
    let mut text = version_line() + "Clients:\n";
    for connection in server.stats.connections() {
        let _ = writeln!(text, " {}", brief(&connection));
    }
    text.push('\n');
    text + &server_lines(&status)
}

fn brief(connection: &ConnectionStats) -> String {
    // The second is what is waited for: requests, or, for a connection with a word, nothing.
    format!(
        "/{}[{}](queued={},recved={},sent={})",
        connection.peer,
        i32::from(connection.session.0 != 0),
        connection.outstanding.load(Relaxed).max(0),
        connection.received.load(Relaxed),
        connection.sent.load(Relaxed),
    )
}

fn mntr(server: &Server) -> String {
    let status = server.status();
    if !status.is_serving {
        return NOT_SERVING.to_owned();
    }
    let mut text = String::new();
    for (key, value) in mntr_rows(&status) {
        let _ = writeln!(text, "zk_{key}\t{value}");
    }
    text
}

/// The rows of `mntr` without their `zk_`; the HTTP command `monitor` shows the same.
pub fn mntr_rows(status: &Status) -> Vec<(&'static str, String)> {
    let latency = &status.latency;
    let [response_last, response_min, response_max] = status.response_bytes;
    let peer_state = match status.mode {
        Mode::Standalone => None,
        Mode::Leader => Some("leading - broadcast"),
        Mode::Follower => Some("following - broadcast"),
        Mode::Looking => Some("looking"),
    };
    let mut rows = vec![
        ("version", format!("{VERSION}, built on {BUILT_ON}")),
        ("server_state", status.mode.text().to_owned()),
    ];
    rows.extend(peer_state.map(|state| ("peer_state", state.to_owned())));
    rows.extend([
        ("ephemerals_count", status.counts.ephemerals.to_string()),
        ("num_alive_connections", status.connections.to_string()),
        ("avg_latency", latency.avg_text()),
        ("outstanding_requests", status.outstanding.to_string()),
        ("znode_count", status.counts.nodes.to_string()),
        ("global_sessions", status.counts.sessions.to_string()),
        ("local_sessions", "0".to_owned()),
        ("watch_count", status.counts.watches.to_string()),
        ("packets_received", status.packets_received.to_string()),
        ("packets_sent", status.packets_sent.to_string()),
        ("min_latency", latency.min_ms.to_string()),
        ("max_latency", latency.max_ms.to_string()),
        (
            "approximate_data_size",
            status.counts.data_bytes.to_string(),
        ),
        ("uptime", status.uptime_ms.to_string()),
        ("connection_drop_probability", "0.0".to_owned()),
        ("last_client_response_size", response_last.to_string()),
        ("min_client_response_size", response_min.to_string()),
        ("max_client_response_size", response_max.to_string()),
    ]);
    rows.extend(
        status
            .open_files
            .map(|n| ("open_file_descriptor_count", n.to_string())),
    );
    rows.extend(
        status
            .max_files
            .map(|n| ("max_file_descriptor_count", n.to_string())),
    );
    if status.mode == Mode::Leader {
        let [last, min, max] = status.proposal_bytes;
        rows.extend([
            ("quorum_size", status.members.to_string()),
            ("last_proposal_size", last.to_string()),
            ("min_proposal_size", min.to_string()),
            ("max_proposal_size", max.to_string()),
            ("leader_uptime", status.leading_ms.unwrap_or(0).to_string()),
        ]);
    }
    rows
}

fn conf(server: &Server) -> String {
    let options = &server.options;
    let dir = options.data_dir.display();
    let mut text = String::new();
    let _ = write!(
        text,
        "clientPort={}\nsecureClientPort=-1\ndataDir={dir}\ndataDirSize={}\n\
         dataLogDir={dir}\ndataLogSize={}\ntickTime={}\nmaxClientCnxns={}\n\
         minSessionTimeout={}\nmaxSessionTimeout={}\nclientPortListenBacklog=-1\nserverId={}\n",
        server.client_address.port(),
        server.disk_bytes(),
        server.disk_bytes(),
        options.tick_time_ms,
        options.max_client_cnxns,
        options.min_session_timeout_ms,
        options.max_session_timeout_ms,
        if options.members.is_empty() {
            0
        } else {
            options.member.0
        },
    );
    if let Some(own) = options.members.get(&options.member) {
        let _ = write!(
            text,
            "initLimit={}\nsyncLimit={}\nelectionAlg=3\nelectionPort={}\nquorumPort={}\n\
             peerType=0\nmembership: \n{}version=0",
            options.init_limit,
            options.sync_limit,
            own.election.port,
            own.quorum.port,
            options.membership(),
        );
    }
    text
}

fn cons(server: &Server) -> String {
    let mut text = String::new();
    for connection in server.stats.connections() {
        let latency = connection.latency.read();
        let line = brief(&connection);
        if connection.session.0 == 0 {
            let _ = writeln!(text, " {line}");
            continue;
        }
        let _ = writeln!(
            text,
            " {},sid={:#x},lop={},est={},to={},lcxid={:#x},lzxid={:#x},lresp={},llat={},\
             minlat={},avglat={},maxlat={})",
            line.trim_end_matches(')'),
            connection.session.0,
            op_name(i32::try_from(connection.last_op.load(Relaxed)).unwrap_or(0)),
            connection.established_ms,
            connection.timeout_ms,
            connection.last_xid.load(Relaxed),
            connection.last_zxid.load(Relaxed),
            connection.last_response_ms.load(Relaxed),
            connection.last_latency_ms.load(Relaxed),
            latency.min_ms,
            latency.avg_ms.round(),
            latency.max_ms,
        );
    }
    text + "\n"
}

/// The short names of `Request.op2String`.
fn op_name(code: i32) -> &'static str {
    match code {
        op::CREATE => "CREA",
        op::CREATE2 => "CRE2",
        op::CREATE_CONTAINER => "CREC",
        op::CREATE_TTL => "CRET",
        op::DELETE => "DELE",
        op::EXISTS => "EXIS",
        op::GET_DATA => "GETD",
        op::SET_DATA => "SETD",
        op::GET_ACL => "GETA",
        op::SET_ACL => "SETA",
        op::GET_CHILDREN => "GETC",
        op::GET_CHILDREN2 => "GET2",
        op::SYNC => "SYNC",
        op::PING => "PING",
        op::MULTI => "MULT",
        op::SET_WATCHES | op::SET_WATCHES2 => "SETW",
        op::CLOSE_SESSION => "CLOS",
        0 => "SESS",
        _ => "UNKN",
    }
}

fn envi(_: &Server) -> String {
    let mut text = String::from("Environment:\n");
    let _ = writeln!(text, "zookeeper.version={VERSION}, built on {BUILT_ON}");
    let system = rustix::system::uname();
    let _ = writeln!(text, "host.name={}", system.nodename().to_string_lossy());
    let _ = writeln!(text, "tripod.version={}", env!("CARGO_PKG_VERSION"));
    let _ = writeln!(text, "os.name={}", system.sysname().to_string_lossy());
    // Java's names.
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        other => other,
    };
    let _ = writeln!(text, "os.arch={arch}");
    let _ = writeln!(text, "os.version={}", system.release().to_string_lossy());
    text
}

fn dirs(server: &Server) -> String {
    let bytes = server.disk_bytes();
    format!("datadir_size: {bytes}\nlogdir_size: {bytes}\n")
}

fn wchs(server: &Server) -> String {
    let (connections, paths, watches) = server.replica.watch_summary();
    format!("{connections} connections watching {paths} paths\nTotal watches:{watches}\n")
}

/// Watches by session.
fn wchc(server: &Server) -> String {
    let mut text = String::new();
    for (session, paths) in server.replica.data_watches() {
        let _ = writeln!(text, "{:#x}", session.0);
        for path in paths {
            let _ = writeln!(text, "\t{path}");
        }
    }
    text + "\n"
}

/// Watches by path.
fn wchp(server: &Server) -> String {
    let mut by_path: BTreeMap<String, Vec<SessionId>> = BTreeMap::new();
    for (session, paths) in server.replica.data_watches() {
        for path in paths {
            by_path.entry(path).or_default().push(session);
        }
    }
    let mut text = String::new();
    for (path, sessions) in by_path {
        let _ = writeln!(text, "{path}");
        for session in sessions {
            let _ = writeln!(text, "\t{:#x}", session.0);
        }
    }
    text + "\n"
}

/// Sessions as a follower of 3.6.2 lists them, on every member: who expires when is the leader's alone.
fn dump(server: &Server) -> String {
    let sessions = server.replica.session_timeouts();
    let mut text = format!(
        "SessionTracker dump:\nGlobal Sessions({}):\n",
        sessions.len()
    );
    for (session, timeout_ms) in sessions {
        let _ = writeln!(text, "{:#x}\t{timeout_ms}ms", session.0);
    }
    let ephemerals = server.replica.ephemerals();
    let _ = write!(
        text,
        "ephemeral nodes dump:\nSessions with Ephemerals ({}):\n",
        ephemerals.len()
    );
    for (session, paths) in ephemerals {
        let _ = writeln!(text, "{:#x}:", session.0);
        for path in paths {
            let _ = writeln!(text, "\t{path}");
        }
    }
    text.push_str("Connections dump:\n");
    for connection in server.stats.connections() {
        let (peer, session) = (connection.peer, connection.session.0);
        let _ = writeln!(text, "\tip: /{peer} sessionId: {session:#x}");
    }
    text
}

fn isro(_: &Server) -> String {
    "rw".to_owned()
}

fn crst(server: &Server) -> String {
    for connection in server.stats.connections() {
        connection.reset();
    }
    "Connection stats reset.\n".to_owned()
}

fn srst(server: &Server) -> String {
    server.stats.reset();
    "Server stats reset.\n".to_owned()
}
