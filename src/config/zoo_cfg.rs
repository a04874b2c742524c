//! `zoo.cfg` and `myid`: ZooKeeper's own configuration files.
//!
//! Pure. Keys that change something here become `coordinator.*` settings; keys that cannot are answered
//! with one line that says why, because a file of a real ensemble should just work.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::common::net::HostPort;
use crate::config::Member;
use crate::config::effects::lookup;
use crate::config::keys;
use crate::config::properties;
use crate::config::raw::{Origin, Problem, Said, SourceKind, Values, cut, nearest};
use crate::config::resolve;

/// Keys of ZooKeeper 3.6 that have no effect here, and why. A `*` stands for any ending.
const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("dataLogDir", "state and log live together in dataDir"),
    (
        "autopurge.*",
        "old snapshots are removed without being asked",
    ),
    ("preAllocSize", "the log is not preallocated"),
    (
        "commitLogCount",
        "a member that is behind gets what it lacks from the log",
    ),
    (
        "snapSizeLimitInKb",
        "snapCount alone decides when a snapshot is taken",
    ),
    (
        "txnLogSizeLimitInKb",
        "the log is one store, not files of a size",
    ),
    ("snapshot.*", SNAPSHOT),
    ("fsync.warningthresholdms", "slow syncs are in the metrics"),
    (
        "forceSync",
        "answers are given when they are on disk, always",
    ),
    ("electionAlg", RAFT),
    ("electionPortBindRetry", RAFT),
    ("fastleader.*", RAFT),
    ("initialConfig", RAFT),
    ("leader.*", RAFT),
    ("learner.*", RAFT),
    (
        "forward_learner_requests_to_commit_processor_disabled",
        RAFT,
    ),
    ("connectToLearnerMasterLimit", RAFT),
    (
        "cnxTimeout",
        "connections between members have limits of their own",
    ),
    (
        "quorum.cnxn.threads.size",
        "connections between members have limits of their own",
    ),
    (
        "quorumCnxnTimeoutMs",
        "connections between members have limits of their own",
    ),
    ("maxTimeToWaitForEpoch", RAFT),
    (
        "tcpKeepAlive",
        "connections between members have limits of their own",
    ),
    ("multiAddress.*", "a member has one address"),
    ("leaderServes", "the leader serves clients"),
    ("peerType", "every member votes"),
    ("group.*", "every member has one vote"),
    ("weight.*", "every member has one vote"),
    ("observerMasterPort", "there are no observers"),
    ("observer.*", "there are no observers"),
    ("syncEnabled", "there are no observers"),
    ("reconfigEnabled", "members are fixed by the configuration"),
    (
        "dynamicConfigFile",
        "members are fixed by the configuration",
    ),
    ("configFileList", "members are fixed by the configuration"),
    (
        "localSessionsEnabled",
        "every session is known to all members",
    ),
    (
        "localSessionsUpgradingEnabled",
        "every session is known to all members",
    ),
    ("emulate353TTLNodes", "no data of ZooKeeper 3.5.3 is read"),
    (
        "digest.enabled",
        "members compare checksums of the log, not digests of the tree",
    ),
    ("maxResponseCacheSize", "answers are not cached"),
    ("maxGetChildrenResponseCacheSize", "answers are not cached"),
    ("globalOutstandingLimit", LIMITS),
    ("largeRequest*", LIMITS),
    ("advancedFlowControlEnabled", LIMITS),
    ("request_throttle*", LIMITS),
    ("requestThrottle*", LIMITS),
    ("requestStale*", LIMITS),
    ("throttledOpWaitTime", LIMITS),
    ("connection*", LIMITS),
    (
        "outstandingHandshake.*",
        "a handshake counts in maxClientCnxns, and has ten seconds",
    ),
    (
        "ssl.handshakeDetectionTimeoutMillis",
        "a handshake has ten seconds",
    ),
    (
        "ssl.hostnameVerification",
        "clients are known by their certificates, not by their hosts' names",
    ),
    ("clientPortListenBacklog", "the system's backlog is used"),
    ("watchManagerName", WATCHES),
    ("watcherClean*", WATCHES),
    ("maxInProcessingDeadWatchers", WATCHES),
    ("bitHashCacheSize", WATCHES),
    ("nio.*", THREADS),
    ("nioWorkerThreads", THREADS),
    ("numWorkerThreads", THREADS),
    ("commitProcessor.*", THREADS),
    ("netty.*", THREADS),
    ("serverCnxnFactory", THREADS),
    ("maxBatchSize", "each pass to disk takes what is there"),
    ("flushDelay", "each pass to disk takes what is there"),
    (
        "maxWriteQueuePollTime",
        "each pass to disk takes what is there",
    ),
    ("jute.maxbuffer.extrasize", "jute.maxbuffer is the limit"),
    ("audit.enable", "there is no audit log"),
    (
        "metricsProvider.*",
        "metrics are on the HTTP port under /metrics",
    ),
    (
        "jmx.*",
        "JMX is not spoken; metrics are on the HTTP port under /metrics",
    ),
    (
        "admin.idleTimeout",
        "HTTP connections have a limit of their own",
    ),
    ("admin.commandURL", "the path is /commands"),
    ("sslQuorumReloadCertFiles", "members speak without TLS"),
    (
        "requireClientAuthScheme",
        "ZooKeeper 3.6 does not read it, too: sessionRequireClientSASLAuth=true turns clients away that do not prove themselves",
    ),
    ("jaasLoginRenew", "there are no tickets to renew"),
];

const RAFT: &str = "members elect and replicate by Raft";
const SNAPSHOT: &str = "snapshots have one form, with a checksum";
const LIMITS: &str = "each connection has a limit of its own";
const WATCHES: &str = "watches are kept in one table";
const THREADS: &str = "threads are few and shared: node.worker.threads";

/// Keys that promise security which is not there: refused rather than passed over.
pub(super) const REFUSED: &[(&str, &str)] = &[
    ("ssl.quorum.*", BETWEEN_MEMBERS),
    ("sslQuorum", BETWEEN_MEMBERS),
    ("portUnification", BETWEEN_MEMBERS),
    ("ssl.crl", "lists of revoked certificates are not looked at"),
    ("ssl.ocsp", "OCSP is not asked"),
    (
        "ssl.context.supplier.class",
        "Java classes cannot be loaded",
    ),
    (
        "client.portUnification",
        "the client port has no TLS; secureClientPort has",
    ),
    ("admin.portUnification", "HTTP has no TLS"),
    ("admin.forceHttps", "HTTP has no TLS"),
    ("kerberos.*", KERBEROS),
    ("security.auth_to_local", KERBEROS),
    ("requireKerberosConfig", KERBEROS),
    (
        "letAnySaslUserDoX",
        "an ACL means the user that it names, on every member",
    ),
    ("enforce.auth.*", AUTHENTICATION),
    ("ensembleAuthName", AUTHENTICATION),
    ("quorum.auth.*", "SASL between members is not supported"),
];

const AUTHENTICATION: &str =
    "the schemes are world, digest, ip, and by authProvider.N sasl and x509";
const BETWEEN_MEMBERS: &str =
    "members speak without TLS; coordinator.peer.secret keeps strangers away";
const KERBEROS: &str = "Kerberos is not supported: SASL is DIGEST-MD5";

/// Takes what a `zoo.cfg` says.
pub fn read(file: &Arc<str>, text: &str, values: &mut Values) {
    let mut members = BTreeMap::new();
    let mut providers = Providers::default();
    for property in properties::parse(text) {
        let origin = Origin::line(SourceKind::Properties, file, property.line);
        line(
            &property.key,
            property.value,
            &origin,
            (&mut members, &mut providers),
            values,
        );
    }
    providers.say(values);
}

/// Takes one line of a `zoo.cfg`. `before` are the members and the providers of the lines before it.
pub(super) fn line(
    key: &str,
    value: String,
    origin: &Origin,
    before: (&mut BTreeMap<u8, Origin>, &mut Providers),
    values: &mut Values,
) {
    // ZooKeeper makes a system property zookeeper.x of a key x, and understands both.
    let key = key.strip_prefix("zookeeper.").unwrap_or(key);
    if let Some(id) = key.strip_prefix("server.")
        && let Err(text) = new_member(id, origin, before.0)
    {
        values.problems.push(Problem::at(origin, text));
    } else if !before.1.add(key, &value, origin) {
        take(key, value, origin, values);
    }
}

/// The lines `authProvider.N`, which are one setting here.
#[derive(Debug, Default)]
pub(super) struct Providers {
    classes: Vec<String>,
    origin: Option<Origin>,
}

impl Providers {
    /// Notes a line, if it is one of these.
    pub(super) fn add(&mut self, key: &str, class: &str, origin: &Origin) -> bool {
        let is_one = key.starts_with("authProvider.");
        if is_one {
            self.classes.push(class.to_owned());
            self.origin.get_or_insert(origin.clone());
        }
        is_one
    }

    /// Says them all.
    pub(super) fn say(self, values: &mut Values) {
        if let Some(origin) = self.origin {
            let (path, value) = ("coordinator.authProvider".into(), self.classes.join(","));
            resolve::say(
                values,
                Said {
                    path,
                    value,
                    origin,
                },
            );
        }
    }
}

/// Takes one key without its `zookeeper.`, or says what becomes of it.
pub(super) fn take(key: &str, value: String, origin: &Origin, values: &mut Values) {
    let path = match key {
        "admin.serverPort" => Some("http.port".to_owned()),
        "admin.serverAddress" => Some("http.host".to_owned()),
        _ if key.starts_with("server.") => Some(format!("coordinator.{key}")),
        _ => keys::COORDINATOR
            .iter()
            .find(|row| row.name == key)
            .map(keys::Key::path),
    };
    if let Some(path) = path {
        let origin = origin.clone();
        resolve::say(
            values,
            Said {
                path,
                value,
                origin,
            },
        );
    } else if let Some(why) = lookup(WITHOUT_EFFECT, key) {
        values
            .warnings
            .push(Problem::at(origin, format!("{key} has no effect: {why}")));
    } else if let Some(why) = lookup(REFUSED, key) {
        refuse(key, &value, why, origin, values);
    } else {
        let near = nearest(key, keys::COORDINATOR.iter().map(|row| row.name));
        let hint = near.map_or(String::new(), |near| format!("; the nearest is {near}"));
        let text = format!("{} is unknown and has no effect{hint}", cut(key));
        values.warnings.push(Problem::at(origin, text));
    }
}

/// Notes the line of a member. One that cannot be told apart, or is passed over, would leave an ensemble
/// of fewer members than the file means: of one, which begins a cluster of its own.
fn new_member(id: &str, origin: &Origin, members: &mut BTreeMap<u8, Origin>) -> Result<(), String> {
    let number = id.parse::<u8>().ok().filter(|_| !id.starts_with('+'));
    let number = number.ok_or_else(|| {
        let id = cut(id);
        format!("server.{id} is no member: N of server.N is a number from 0 to 255")
    })?;
    match members.insert(number, origin.clone()) {
        None => Ok(()),
        Some(first) if first.line > 0 => Err(format!(
            "server.{number} is there twice, in line {}, too: each member has one line",
            first.line
        )),
        Some(_) => Err(format!(
            "server.{number} is there twice: each member is named once"
        )),
    }
}

fn refuse(key: &str, value: &str, why: &str, origin: &Origin, values: &mut Values) {
    // Off is what we do anyway.
    if matches!(value.to_ascii_lowercase().as_str(), "" | "false" | "no") {
        return;
    }
    let text = format!("{} cannot be set to {}: {why}", cut(key), cut(value));
    values.problems.push(Problem::at(origin, text));
}

/// Reads the value of `server.N`: `host:quorum:election[:participant][;[host:]port]`.
pub fn member(id: &str, text: &str) -> Result<Member, String> {
    let bad = || {
        format!(
            "'{}' does not have the form server.N=host:port:port or host:port:port:participant",
            cut(text)
        )
    };
    let id = id
        .parse::<u8>()
        .map_err(|_| format!("server.{} is no number from 0 to 255", cut(id)))?;
    // Those are of ZooKeeper 3.6, too.
    if text.contains('|') {
        return Err(format!(
            "server.{id} has several addresses, which is not supported: say one"
        ));
    }
    let (servers, client) = match text.split_once(';') {
        Some((servers, client)) => (servers, Some(client)),
        None => (text, None),
    };
    let (host, rest) = match servers.strip_prefix('[') {
        Some(rest) => rest.split_once("]:").ok_or_else(bad)?,
        None => servers.split_once(':').ok_or_else(bad)?,
    };
    let mut parts = rest.split(':');
    let mut port = || {
        parts
            .next()
            .and_then(|port| port.trim().parse::<u16>().ok())
    };
    let (Some(quorum_port), Some(election_port)) = (port(), port()) else {
        return Err(bad());
    };
    if quorum_port == 0 || election_port == 0 {
        return Err(format!(
            "server.{id} needs ports that the others know, not 0"
        ));
    }
    match (parts.next().map(str::trim), parts.next()) {
        (None | Some("participant"), None) => {}
        (Some("observer"), None) => {
            return Err(format!(
                "server.{id} is an observer, which is not supported: every member votes"
            ));
        }
        _ => return Err(bad()),
    }
    let client = client.map(parse_client).transpose()?;
    let host_port = format!("[{}]:1", host.trim());
    if host.trim().is_empty() || HostPort::parse(&host_port, None).is_err() {
        return Err(bad());
    }
    Ok(Member {
        id: crate::common::ids::MemberId(u64::from(id)),
        host: host.trim().to_owned(),
        quorum_port,
        election_port,
        client,
    })
}

fn parse_client(text: &str) -> Result<HostPort, String> {
    let text = text.trim();
    match text.parse::<u16>() {
        Ok(port) => Ok(HostPort::new("", port)),
        Err(_) => HostPort::parse(text, None),
    }
}

/// Reads a `myid` file.
pub fn myid(text: &str) -> Result<i32, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("the file is empty: it has to hold this server's number, from 0 to 255".into());
    }
    text.parse::<u8>()
        .map(i32::from)
        .map_err(|_| format!("serverid '{}' is not a number from 0 to 255", cut(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_a_real_ensemble_is_taken_or_answered() {
        let text = "tickTime=2000\ninitLimit=10\nsyncLimit=5\ndataDir=/data\nclientPort=2181\n\
                    server.1=node1:2888:3888\nserver.2=node2:2888:3888:participant;2181\n\
                    autopurge.snapRetainCount=3\nadmin.serverPort=9999\ntickTiem=1\nsslQuorum=true\n";
        let mut values = Values::default();
        read(&Arc::from("zoo.cfg"), text, &mut values);
        let paths: Vec<_> = values.iter().map(|said| said.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "coordinator.clientPort",
                "coordinator.dataDir",
                "coordinator.initLimit",
                "coordinator.server.1",
                "coordinator.server.2",
                "coordinator.syncLimit",
                "coordinator.tickTime",
                "http.port",
            ]
        );
        let shown = |list: &[Problem]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            shown(&values.warnings),
            [
                "zoo.cfg:8: autopurge.snapRetainCount has no effect: old snapshots are removed without being asked",
                "zoo.cfg:10: tickTiem is unknown and has no effect; the nearest is tickTime",
            ]
        );
        assert_eq!(
            shown(&values.problems),
            [
                "zoo.cfg:11: sslQuorum cannot be set to true: members speak without TLS; coordinator.peer.secret keeps strangers away"
            ]
        );
    }

    /// The keys of ZooKeeper 3.6's administrator's guide and of `QuorumPeerConfig`, beside those of our table.
    const KEYS_OF_3_6: &str = "tickTime dataDir clientPort dataLogDir globalOutstandingLimit preAllocSize snapCount \
        commitLogCount snapSizeLimitInKb txnLogSizeLimitInKb maxCnxns maxClientCnxns clientPortAddress \
        minSessionTimeout maxSessionTimeout fsync.warningthresholdms maxResponseCacheSize \
        maxGetChildrenResponseCacheSize autopurge.snapRetainCount autopurge.purgeInterval syncEnabled \
        extendedTypesEnabled emulate353TTLNodes watchManagerName watcherCleanThreadsNum watcherCleanThreshold \
        watcherCleanIntervalInSeconds maxInProcessingDeadWatchers bitHashCacheSize \
        fastleader.minNotificationInterval fastleader.maxNotificationInterval connectionMaxTokens \
        connectionTokenFillTime connectionTokenFillCount connectionFreezeTime connectionDropIncrease \
        connectionDropDecrease connectionDecreaseRatio zookeeper.connection_throttle_tokens electionAlg \
        maxTimeToWaitForEpoch initLimit connectToLearnerMasterLimit leaderServes server.1 group.1 weight.1 \
        syncLimit cnxTimeout quorumCnxnTimeoutMs standaloneEnabled reconfigEnabled 4lw.commands.whitelist \
        tcpKeepAlive electionPortBindRetry observer.reconnectDelayMs observer.election.DelayMs \
        localSessionsEnabled localSessionsUpgradingEnabled zookeeper.request_throttle_max_requests \
        requestThrottleLimit requestThrottleStallTime requestThrottleDropStale requestStaleLatencyCheck \
        requestStaleConnectionCheck zookeeper.request_throttler.shutdownTimeout advancedFlowControlEnabled \
        learner.closeSocketAsync leader.closeSocketAsync learner.asyncSending leader.maxConcurrentSnapSyncs \
        forward_learner_requests_to_commit_processor_disabled serverCnxnFactory skipACL forceSync \
        jute.maxbuffer jute.maxbuffer.extrasize multiAddress.enabled multiAddress.reachabilityCheckTimeoutMs \
        multiAddress.reachabilityCheckEnabled nio.sessionlessCnxnTimeout nio.numSelectorThreads \
        nio.numWorkerThreads nio.directBufferBytes netty.advancedFlowControl.enabled \
        commitProcessor.numWorkerThreads znode.container.checkIntervalMs znode.container.maxPerMinute \
        snapshot.compression.method snapshot.trust.empty audit.enable largeRequestMaxBytes \
        largeRequestThreshold outstandingHandshake.limit digest.enabled flushDelay maxWriteQueuePollTime \
        maxBatchSize readonlymode.enabled peerType dynamicConfigFile quorumListenOnAllIPs observerMasterPort \
        clientPortListenBacklog admin.enableServer admin.serverAddress admin.serverPort admin.idleTimeout \
        admin.commandURL metricsProvider.className metricsProvider.httpPort \
        DigestAuthenticationProvider.superDigest sslQuorumReloadCertFiles requireClientAuthScheme \
        sasl.serverconfig authProvider.1 sessionRequireClientSASLAuth allowSaslFailedClients superUser \
        SASLAuthenticationProvider.superPassword jaasLoginRenew secureClientPort secureClientPortAddress \
        ssl.keyStore.location ssl.keyStore.password ssl.keyStore.type ssl.trustStore.location \
        ssl.trustStore.password ssl.trustStore.type ssl.clientAuth ssl.protocol ssl.enabledProtocols \
        ssl.ciphersuites ssl.authProvider ssl.hostnameVerification ssl.handshakeDetectionTimeoutMillis \
        X509AuthenticationProvider.superUser quorum.cnxn.threads.size zookeeper.jmx.log4j.disable throttledOpWaitTime";
    /// Those that promise security; off is what we do anyway.
    const SECURITY_OF_3_6: &str = "ssl.crl ssl.ocsp ssl.context.supplier.class \
        ssl.quorum.trustStore.location sslQuorum portUnification \
        client.portUnification admin.portUnification admin.forceHttps \
        enforce.auth.enabled ensembleAuthName letAnySaslUserDoX kerberos.removeHostFromPrincipal \
        quorum.auth.enableSasl \
        quorum.auth.learnerRequireSasl";

    #[test]
    fn every_key_of_zookeeper_3_6_acts_or_is_answered() {
        let answer = |key: &str, value: &str| {
            let mut values = Values::default();
            read(
                &Arc::from("zoo.cfg"),
                &format!("{key}={value}"),
                &mut values,
            );
            (values.iter().count(), values.warnings, values.problems)
        };
        for key in KEYS_OF_3_6.split_whitespace() {
            let (said, warnings, problems) = answer(key, "a:1:2");
            assert_eq!(
                (said + warnings.len(), problems.len()),
                (1, 0),
                "{key}: {warnings:?}"
            );
            for warning in warnings {
                let plain = key.strip_prefix("zookeeper.").unwrap_or(key);
                assert!(
                    warning
                        .text
                        .starts_with(&format!("{plain} has no effect: ")),
                    "{warning}"
                );
            }
        }
        for key in SECURITY_OF_3_6.split_whitespace() {
            let (said, warnings, problems) = answer(key, "x");
            assert_eq!((said, warnings.len(), problems.len()), (0, 0, 1), "{key}");
            let (_, warnings, problems) = answer(key, "false");
            assert_eq!((warnings.len(), problems.len()), (0, 0), "{key}");
        }
    }

    #[test]
    fn members_are_read_in_every_form() {
        let read = |text: &str| {
            member("3", text).map(|m| {
                format!(
                    "{} {} {} {} {:?}",
                    m.id,
                    m.host,
                    m.quorum_port,
                    m.election_port,
                    m.client.map(|c| c.to_string())
                )
            })
        };
        assert_eq!(
            read("node1:2888:3888").as_deref(),
            Ok("3 node1 2888 3888 None")
        );
        assert_eq!(
            read("[::1]:1:2:participant;[::]:2181").as_deref(),
            Ok("3 ::1 1 2 Some(\"[::]:2181\")")
        );
        assert_eq!(read("a:1:2;2181").as_deref(), Ok("3 a 1 2 Some(\":2181\")"));
        for bad in [
            "",
            "a",
            "a:1",
            ":1:2",
            "a:1:2:3",
            "a:1:2:observer",
            "a:x:2",
            "a:1:99999",
            "[::1:1:2",
            "a:1:2;x",
            "a b:1:2",
            "a:0:2",
            "a:1:2|b:1:2",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(member("256", "a:1:2").is_err());
        assert_eq!(myid(" 3\n"), Ok(3));
        assert_eq!(
            myid("three").unwrap_err(),
            "serverid 'three' is not a number from 0 to 255"
        );
        assert!(myid(" \n").unwrap_err().starts_with("the file is empty: "));
    }

    #[test]
    fn members_that_would_be_lost_are_refused_by_their_line() {
        let text = "clientPort=2181\nserver.1=a:1:2\nserver.1=b:1:2\nserver.x=c:1:2\n\
                    server.=d:1:2\nserver.256=e:1:2\nserver.01=f:1:2\nserver.2=g:1:2\n";
        let mut values = Values::default();
        read(&Arc::from("zoo.cfg"), text, &mut values);
        let problems: Vec<_> = values.problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            problems,
            [
                "zoo.cfg:3: server.1 is there twice, in line 2, too: each member has one line",
                "zoo.cfg:4: server.x is no member: N of server.N is a number from 0 to 255",
                "zoo.cfg:5: server. is no member: N of server.N is a number from 0 to 255",
                "zoo.cfg:6: server.256 is no member: N of server.N is a number from 0 to 255",
                "zoo.cfg:7: server.1 is there twice, in line 3, too: each member has one line",
            ]
        );
        assert_eq!(values.iter().count(), 3);
    }
}
