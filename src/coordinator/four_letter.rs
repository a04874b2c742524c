//! The four-letter words: one table, word → function → text, in the shapes of ZooKeeper 3.6.2.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

use crate::common::ids::SessionId;
use crate::coordinator::monitor;
use crate::coordinator::server::Server;
use crate::coordinator::status::{
    BUILT_ON, ConnectionStats, Mode, NO_OP, OP_OF_CONNECT, Status, VERSION,
};
use crate::zookeeper::message::op;

/// The words that only read, and tell no secrets: what is allowed unless configured otherwise.
pub const DEFAULT_WHITELIST: &str = "ruok,srvr,stat,mntr,conf,cons,envi,dirs,wchs,isro";

/// What no list forbids.
const ALWAYS_ALLOWED: &str = "srvr";

const SET_TRACE_MASK: &str = "stmk";

const NOT_SERVING: &str = "This ZooKeeper instance is not currently serving requests\n";

/// One word.
#[derive(Debug)]
pub struct Word {
    name: &'static str,
    when: When,
    answer: fn(&Server) -> String,
}

/// When a word is answered, if it is allowed at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Always,
    /// While this member serves clients.
    Serving,
}

impl Word {
    const fn new(name: &'static str, when: When, answer: fn(&Server) -> String) -> Word {
        Word { name, when, answer }
    }

    /// Do eight bytes follow it?
    pub fn sets_trace_mask(&self) -> bool {
        self.name == SET_TRACE_MASK
    }

    /// Does the list allow it? `zkServer.sh status` needs srvr, so no list forbids that.
    pub fn is_allowed(&self, server: &Server) -> bool {
        let allowed = &server.options.four_letter_words;
        self.name == ALWAYS_ALLOWED || allowed.iter().any(|name| name == "*" || name == self.name)
    }
}

static WORDS: [Word; 18] = [
    Word::new("ruok", When::Always, |_| "imok".to_owned()),
    Word::new("srvr", When::Serving, srvr),
    Word::new("stat", When::Serving, stat),
    Word::new("mntr", When::Serving, mntr),
    Word::new("conf", When::Serving, conf),
    Word::new("cons", When::Serving, cons),
    Word::new("envi", When::Always, envi),
    Word::new("dirs", When::Serving, dirs),
    Word::new("wchs", When::Serving, wchs),
    Word::new("wchc", When::Serving, wchc),
    Word::new("wchp", When::Serving, wchp),
    Word::new("dump", When::Serving, dump),
    Word::new("isro", When::Always, isro),
    Word::new("crst", When::Serving, crst),
    Word::new("srst", When::Serving, srst),
    Word::new("gtmk", When::Always, gtmk),
    Word::new(SET_TRACE_MASK, When::Always, gtmk),
    Word::new("hash", When::Serving, hash),
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
pub(super) fn text(server: &Server, name: &str) -> Option<String> {
    let word = WORDS.iter().find(|word| word.name == name)?;
    Some((word.answer)(server))
}

/// The whole answer.
pub fn answer(server: &Server, word: &Word) -> String {
    if !word.is_allowed(server) {
        return format!(
            "{} is not executed because it is not in the whitelist.\n",
            word.name
        );
    }
    if word.when == When::Serving && !server.is_running() {
        return NOT_SERVING.to_owned();
    }
    (word.answer)(server)
}

fn version_line() -> String {
    format!("Zookeeper version: {VERSION}, built on {BUILT_ON}\n")
}

fn heading(status: &Status) -> String {
    let mut text = version_line();
    if status.is_read_only {
        text.push_str("READ-ONLY mode; serving only read-only clients\n");
    }
    text
}

fn srvr(server: &Server) -> String {
    let status = server.status();
    if !status.is_running() {
        return NOT_SERVING.to_owned();
    }
    heading(&status) + &server_lines(&status)
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
    if !status.is_running() {
        return NOT_SERVING.to_owned();
    }
    let mut text = heading(&status) + "Clients:\n";
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
    if !status.is_running() {
        return NOT_SERVING.to_owned();
    }
    let mut text = String::new();
    for (key, value) in monitor::rows(&status) {
        let _ = writeln!(text, "zk_{key}\t{value}");
    }
    text
}

fn conf(server: &Server) -> String {
    let options = &server.options;
    let dir = options.data_dir.display();
    let mut text = String::new();
    let _ = write!(
        text,
        "clientPort={}\nsecureClientPort={}\ndataDir={dir}\ndataDirSize={}\n\
         dataLogDir={dir}\ndataLogSize={}\ntickTime={}\nmaxClientCnxns={}\n\
         minSessionTimeout={}\nmaxSessionTimeout={}\nclientPortListenBacklog=-1\nserverId={}\n",
        server.client_address.port(),
        server
            .secure_address
            .map_or(-1, |address| i32::from(address.port())),
        server.disk_bytes(),
        server.disk_bytes(),
        options.tick_time_ms,
        options.max_client_cnxns,
        options.min_session_timeout_ms,
        options.max_session_timeout_ms,
        options.shown_id(),
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
        let last_xid = connection.last_xid.load(Relaxed);
        let last_xid = match last_xid >= 0 {
            true => format!(",lcxid={last_xid:#x}"),
            false => String::new(),
        };
        let _ = writeln!(
            text,
            " {},sid={:#x},lop={},est={},to={}{last_xid},lzxid={:#x},lresp={},llat={},\
             minlat={},avglat={},maxlat={})",
            line.trim_end_matches(')'),
            connection.session.0,
            op_name(i32::try_from(connection.last_op.load(Relaxed)).unwrap_or(NO_OP)),
            connection.established_ms,
            connection.timeout_ms,
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

/// `lastOp` of `FinalRequestProcessor`.
pub(super) fn op_name(code: i32) -> &'static str {
    match code {
        OP_OF_CONNECT => "SESS",
        op::CREATE | op::CREATE2 | op::CREATE_CONTAINER | op::CREATE_TTL => "CREA",
        op::DELETE => "DELE",
        op::EXISTS => "EXIS",
        op::GET_DATA => "GETD",
        op::SET_DATA => "SETD",
        op::GET_ACL => "GETA",
        op::SET_ACL => "SETA",
        op::GET_CHILDREN | op::GET_CHILDREN2 => "GETC",
        op::GET_ALL_CHILDREN_NUMBER => "GETACN",
        op::GET_EPHEMERALS => "GETE",
        op::SYNC => "SYNC",
        op::PING => "PING",
        op::MULTI => "MULT",
        op::MULTI_READ => "MLTR",
        op::RECONFIG => "RECO",
        op::SET_WATCHES => "SETW",
        op::SET_WATCHES2 => "STW2",
        op::ADD_WATCH => "ADDW",
        op::CHECK_WATCHES => "CHKW",
        op::REMOVE_WATCHES => "REMW",
        op::CLOSE_SESSION => "CLOS",
        _ => "NA",
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

fn isro(server: &Server) -> String {
    let shown = match (server.raft.serving(), server.is_read_only()) {
        (true, _) => "rw",
        (false, true) => "ro",
        (false, false) => "null",
    };
    shown.to_owned()
}

/// Which kinds of messages ZooKeeper would trace (`ZooTrace`).
fn gtmk(server: &Server) -> String {
    server.trace.get().to_string()
}

/// The tree's digests of late: those that a member counts by itself from its start.
fn hash(server: &Server) -> String {
    let mut text = String::new();
    for (zxid, digest) in server.replica.digests() {
        let _ = writeln!(text, "{:x}: {}", zxid.0, digest.cast_signed());
    }
    text
}

fn crst(server: &Server) -> String {
    for connection in server.stats.connections() {
        connection.reset();
    }
    "Connection stats reset.\n".to_owned()
}

fn srst(server: &Server) -> String {
    server.reset_stats();
    "Server stats reset.\n".to_owned()
}
