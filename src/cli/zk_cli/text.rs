//! What the shell prints: Stats, ACLs, dates, and the original's sentences for failures. Pure.

use std::fmt::Write as _;

use super::Refusal;
use crate::cli::java_text;
use crate::client::zookeeper::Error;
use crate::zookeeper::acl::{self, Acl, Id};
use crate::zookeeper::error::ErrorCode;
use crate::zookeeper::stat::Stat;

/// `Date.toString()`, in UTC.
fn date(ms: i64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let field = |pattern| java_text::date(ms, pattern).unwrap_or_default();
    let weekday = usize::try_from(ms.div_euclid(86_400_000).rem_euclid(7)).unwrap_or(0);
    let month = field("M").parse::<usize>().unwrap_or(1).clamp(1, 12);
    format!(
        "{} {} {}",
        DAYS[weekday],
        MONTHS[month - 1],
        field("dd HH:mm:ss 'UTC' yyyy")
    )
}

/// The block of lines that a Stat is.
pub(super) fn stat(stat: &Stat) -> String {
    format!(
        "cZxid = 0x{:x}\nctime = {}\nmZxid = 0x{:x}\nmtime = {}\npZxid = 0x{:x}\n\
         cversion = {}\ndataVersion = {}\naclVersion = {}\nephemeralOwner = 0x{:x}\n\
         dataLength = {}\nnumChildren = {}",
        stat.czxid.0,
        date(stat.ctime_ms),
        stat.mzxid.0,
        date(stat.mtime_ms),
        stat.pzxid.0,
        stat.cversion,
        stat.version,
        stat.aversion,
        stat.ephemeral_owner.0,
        stat.data_length,
        stat.num_children,
    )
}

/// Node data as a line.
pub(super) fn data(data: Option<&[u8]>) -> String {
    data.map_or_else(
        || "null".to_owned(),
        |data| String::from_utf8_lossy(data).into_owned(),
    )
}

/// `[a, b]`.
pub(super) fn list(names: &[String]) -> String {
    format!("[{}]", names.join(", "))
}

/// Permissions and their letters, in the order in which they are printed.
const PERMISSIONS: [(char, i32); 5] = [
    ('c', acl::CREATE),
    ('d', acl::DELETE),
    ('r', acl::READ),
    ('w', acl::WRITE),
    ('a', acl::ADMIN),
];

/// An ACL, two lines for each entry.
pub(super) fn acl(entries: &[Acl]) -> String {
    let mut text = String::new();
    for entry in entries {
        let letters: String = PERMISSIONS
            .iter()
            .filter(|(_, bit)| entry.perms & bit != 0)
            .map(|(letter, _)| letter)
            .collect();
        let newline = if text.is_empty() { "" } else { "\n" };
        let (scheme, id) = (&entry.id.scheme, &entry.id.id);
        let _ = write!(text, "{newline}'{scheme},'{id}\n: {letters}");
    }
    text
}

/// Reads `scheme:id:perms,...`: what is to be complained of, and the ACL if there is nothing.
///
/// The original complains of a part that it cannot read and goes on without it: with a letter mistyped
/// it takes permissions away. Here nothing is done then.
pub(super) fn parse_acl(text: &str) -> (Vec<String>, Option<Vec<Acl>>) {
    let mut entries = Vec::new();
    let mut complaints = Vec::new();
    for part in text.split(',') {
        let bounds = part.find(':').zip(part.rfind(':'));
        let Some((first, last)) = bounds.filter(|(first, last)| first != last) else {
            complaints.push(format!("{part} does not have the form scheme:id:perm"));
            continue;
        };
        let mut perms = 0;
        for letter in part[last + 1..].chars() {
            let known = PERMISSIONS.iter().find(|(known, _)| *known == letter);
            match known {
                Some((_, bit)) => perms |= bit,
                None => complaints.push(format!("Unknown perm type: {letter}")),
            }
        }
        entries.push(Acl {
            perms,
            id: Id::new(&part[..first], &part[first + 1..last]),
        });
    }
    let entries = complaints.is_empty().then_some(entries);
    (complaints, entries)
}

/// `version client,client` out of the ensemble's configuration.
pub(super) fn client_config(config: &str) -> String {
    let mut version = "";
    let mut clients = Vec::new();
    for (key, value) in config.lines().filter_map(|line| line.split_once('=')) {
        if key == "version" {
            version = value;
        } else if key.starts_with("server.")
            && let Some((_, client)) = value.split_once(';')
        {
            clients.push(if client.contains(':') {
                client.to_owned()
            } else {
                format!("0.0.0.0:{client}")
            });
        }
    }
    format!("{version} {}", clients.join(","))
}

/// The name of an error's exception and what the original calls its code.
fn names(error: &Error) -> (String, String) {
    let code = match error {
        Error::Code(code) => *code,
        Error::SessionExpired | Error::Closed => ErrorCode::SessionExpired,
        Error::ConnectionLoss | Error::Unreachable { .. } => ErrorCode::ConnectionLoss,
        Error::Malformed => ErrorCode::MarshallingError,
    };
    let words = match code {
        ErrorCode::InvalidAcl => "InvalidACL",
        ErrorCode::NotEmpty => "Directory not empty",
        ErrorCode::SessionExpired => "Session expired",
        ErrorCode::InvalidCallback => "Invalid callback",
        ErrorCode::SessionMoved => "Session moved",
        ErrorCode::NotReadOnly => "Not a read-only call",
        ErrorCode::EphemeralOnLocalSession => "Ephemeral node on local session",
        ErrorCode::NoWatcher => "No such watcher",
        ErrorCode::ReconfigDisabled => "Reconfig is disabled",
        ErrorCode::SessionClosedRequireSaslAuth => {
            "Session closed because client failed to authenticate"
        }
        ErrorCode::Other(number) => return ("".to_owned(), format!("Unknown error {number}")),
        _ => "",
    };
    let class = match code {
        ErrorCode::InvalidAcl => "InvalidACL".to_owned(),
        other => format!("{other:?}"),
    };
    let words = if words.is_empty() { &class } else { words };
    (class.clone(), words.to_owned())
}

/// `KeeperException.getMessage()`.
pub(super) fn keeper(error: &Error, path: &str) -> String {
    let of = if path.is_empty() { "" } else { " for " };
    format!("KeeperErrorCode = {}{of}{path}", names(error).1)
}

/// What most commands say of a failure.
pub(super) fn failure(error: &Error, path: &str) -> Refusal {
    let sentence = match error {
        Error::Code(ErrorCode::NoNode) => "Node does not exist: ",
        Error::Code(ErrorCode::NoChildrenForEphemerals) => "Ephemerals cannot have children: ",
        Error::Code(ErrorCode::NodeExists) => "Node already exists: ",
        Error::Code(ErrorCode::NotEmpty) => "Node not empty: ",
        Error::Code(ErrorCode::NotReadOnly) => "Not a read-only call: ",
        Error::Code(ErrorCode::InvalidAcl) => "Acl is not valid : ",
        Error::Code(ErrorCode::NoAuth) => "Authentication is not valid : ",
        Error::Code(ErrorCode::BadArguments) => "Arguments are not valid : ",
        Error::Code(ErrorCode::BadVersion) => "version No is not valid : ",
        Error::Code(ErrorCode::ReconfigInProgress) => {
            return Refusal::new(
                "Another reconfiguration is in progress -- concurrent reconfigs not supported (yet)",
            );
        }
        Error::Code(ErrorCode::NewConfigNoQuorum) => {
            return Refusal::new(
                "No quorum of new config is connected and up-to-date with the leader of last commmitted config - try invoking reconfiguration after new servers are connected and synced",
            );
        }
        _ => return Refusal::new(keeper(error, path)),
    };
    Refusal::new(format!("{sentence}{path}"))
}

/// What `get` says: it shows the exception itself.
pub(super) fn exception(error: &Error, path: &str) -> Refusal {
    let class = names(error).0;
    Refusal::new(format!(
        "org.apache.zookeeper.KeeperException${class}Exception: {}",
        keeper(error, path)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::ids::{SessionId, Zxid};

    /// A block that the genuine tool printed.
    #[test]
    fn a_stat_is_eleven_lines() {
        let printed = stat(&Stat {
            czxid: Zxid(0x2),
            mzxid: Zxid(0x1b),
            pzxid: Zxid(0x21),
            ctime_ms: 1_795_366_507_123,
            mtime_ms: 0,
            version: 4,
            cversion: -1,
            aversion: 2,
            ephemeral_owner: SessionId(0x0100_0053_9695_0002),
            data_length: 2,
            num_children: 3,
        });
        assert_eq!(
            printed,
            "cZxid = 0x2\nctime = Sun Nov 22 16:55:07 UTC 2026\nmZxid = 0x1b\n\
             mtime = Thu Jan 01 00:00:00 UTC 1970\npZxid = 0x21\ncversion = -1\ndataVersion = 4\n\
             aclVersion = 2\nephemeralOwner = 0x100005396950002\ndataLength = 2\nnumChildren = 3"
        );
    }

    #[test]
    fn acls_are_read_and_printed() {
        let entries = parse_acl("world:anyone:awrdc,ip:127.0.0.1:r,digest:u:hash=:");
        let entries = entries.1.expect("good");
        assert_eq!(
            acl(&entries),
            "'world,'anyone\n: cdrwa\n'ip,'127.0.0.1\n: r\n'digest,'u:hash=\n: "
        );
        assert_eq!(
            parse_acl("world,ip:1.2.3.4:r"),
            (
                vec!["world does not have the form scheme:id:perm".to_owned()],
                None
            )
        );
        let (complaints, none) = parse_acl("world:anyone:rxy");
        assert_eq!(complaints, ["Unknown perm type: x", "Unknown perm type: y"]);
        assert_eq!(none, None);
    }

    /// Sentences of the genuine tool.
    #[test]
    fn failures_are_worded_as_the_originals() {
        for (code, sentence) in [
            (ErrorCode::NoNode, "Node does not exist: /x"),
            (ErrorCode::NodeExists, "Node already exists: /x"),
            (ErrorCode::NotEmpty, "Node not empty: /x"),
            (ErrorCode::BadVersion, "version No is not valid : /x"),
            (ErrorCode::NoAuth, "Authentication is not valid : /x"),
            (
                ErrorCode::Unimplemented,
                "KeeperErrorCode = Unimplemented for /x",
            ),
            (
                ErrorCode::NoWatcher,
                "KeeperErrorCode = No such watcher for /x",
            ),
        ] {
            assert_eq!(failure(&Error::Code(code), "/x"), Refusal::new(sentence));
        }
        assert_eq!(
            failure(&Error::ConnectionLoss, "/"),
            Refusal::new("KeeperErrorCode = ConnectionLoss for /")
        );
        assert_eq!(
            failure(&Error::Code(ErrorCode::ReconfigDisabled), ""),
            Refusal::new("KeeperErrorCode = Reconfig is disabled")
        );
        assert_eq!(
            exception(&Error::Code(ErrorCode::NoNode), "/none"),
            Refusal::new(
                "org.apache.zookeeper.KeeperException$NoNodeException: KeeperErrorCode = NoNode for /none"
            )
        );
    }

    #[test]
    fn the_client_part_of_a_configuration() {
        let config =
            "server.1=a:2888:3888:participant;0.0.0.0:2181\nserver.2=b:1:2;2182\nversion=100000000";
        assert_eq!(client_config(config), "100000000 0.0.0.0:2181,0.0.0.0:2182");
        assert_eq!(client_config(""), " ");
    }
}
