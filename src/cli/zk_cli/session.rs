//! The shell's session: where it is connected, what it has to renew, which events it heard.

use std::sync::Arc;
use std::time::Duration;

use super::Output;
use super::watches::Watches;
use crate::client::World;
use crate::client::zookeeper::{Error, Event, Events, MultiError, Op, Options, State, ZooKeeper};
use crate::common::ids::SessionId;
use crate::common::net::HostPort;
use crate::zookeeper::error::ErrorCode;
use crate::zookeeper::message::{AuthRequest, Request, Response};

/// How long a server that refuses connections is tried before a command fails: the original does not
/// wait either, but a server may be about to start.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it is looked whether every server refused.
const LOOK: Duration = Duration::from_millis(100);

/// `host:port,host:port/chroot`, taken apart.
pub(super) fn parse_servers(text: &str) -> Result<(Vec<HostPort>, String), String> {
    let (hosts, chroot) = match text.find('/') {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let servers = HostPort::parse_list(hosts, Some(2181))?;
    if servers.is_empty() {
        return Err(format!("A HostProvider may not be empty! ('{text}')"));
    }
    let chroot = if chroot == "/" { "" } else { chroot };
    if !chroot.is_empty() {
        super::words::validate_path(chroot).map_err(|refusal| refusal.message)?;
    }
    Ok((servers, chroot.to_owned()))
}

/// One session, from `connect` to `close`.
pub(super) struct Session {
    zookeeper: Arc<ZooKeeper>,
    events: Events,
    chroot: String,
    timeout: Duration,
    /// The session that was told of.
    told: Option<SessionId>,
    connected: bool,
    /// The prompt's word for why there is no session any more.
    over: Option<&'static str>,
    /// Has it made ephemerals?
    pub(super) has_ephemerals: bool,
    /// What the client says as long as it has tried nothing.
    untried: String,
    /// How much longer a command waits for servers that refuse; less after one that waited in vain.
    patience: Duration,
    /// What was left on the server.
    pub(super) watches: Watches,
    /// Who we said we are.
    auths: Vec<AuthRequest>,
}

impl Session {
    /// Starts to connect.
    pub(super) fn start(
        world: &World,
        servers: &str,
        timeout: Duration,
    ) -> Result<Session, String> {
        let (servers, chroot) = parse_servers(servers)?;
        let options = Options {
            servers,
            chroot: chroot.clone(),
            session_timeout: timeout,
            connection_timeout: None,
        };
        let (zookeeper, events) = ZooKeeper::start(options, world);
        Ok(Session {
            untried: zookeeper.last_problem(),
            patience: PATIENCE,
            zookeeper,
            events,
            chroot,
            timeout,
            told: None,
            connected: false,
            over: None,
            has_ephemerals: false,
            watches: Watches::default(),
            auths: Vec::new(),
        })
    }

    /// The word in the prompt.
    pub(super) fn state(&self) -> &'static str {
        match self.over {
            Some(word) => word,
            None if self.connected => "CONNECTED",
            None => "CONNECTING",
        }
    }

    /// May commands still use it?
    pub(super) fn is_alive(&self) -> bool {
        self.over.is_none()
    }

    /// Waits until it is connected: long while servers are silent, not long when they refuse.
    pub(super) async fn wait(&mut self) -> Result<(), Error> {
        let mut state = self.zookeeper.state();
        let mut waited = Duration::ZERO;
        loop {
            let wait = state.wait_for(|state| !matches!(state, State::Disconnected { .. }));
            if let Ok(reached) = tokio::time::timeout(LOOK, wait).await {
                let connected = reached.map(|state| matches!(*state, State::Connected { .. }));
                self.patience = PATIENCE;
                return match connected {
                    Ok(true) => Ok(()),
                    _ => Err(Error::Closed),
                };
            }
            waited += LOOK;
            let refused = self.zookeeper.last_problem() != self.untried || self.told.is_some();
            if waited >= self.timeout || (refused && waited >= self.patience) {
                self.patience = LOOK;
                return Err(Error::ConnectionLoss);
            }
        }
    }

    /// Did a command wait in vain for a connection?
    pub(super) fn failed(&self) -> bool {
        self.patience == LOOK && !self.connected
    }

    /// Why it is not connected.
    pub(super) fn problem(&self) -> String {
        format!("not connected: {}", self.zookeeper.last_problem())
    }

    /// A path as the server knows it.
    pub(super) fn rooted(&self, path: &str) -> String {
        self.zookeeper.rooted(path)
    }

    /// Says who we are, now and after each reconnection. As in the original a refusal is no failure of
    /// the command: the session is over.
    pub(super) async fn add_auth(&mut self, record: AuthRequest, output: &mut Output) {
        self.auths.push(record.clone());
        if self.wait().await.is_ok() {
            self.authenticate(record, output).await;
        }
    }

    async fn authenticate(&mut self, record: AuthRequest, output: &mut Output) {
        let answer = self.zookeeper.call(Request::Auth(record)).await;
        if answer == Err(Error::Code(ErrorCode::AuthFailed)) {
            self.end("AUTH_FAILED").await;
            output.event("AuthFailed", "None", None);
        }
    }

    async fn end(&mut self, word: &'static str) {
        self.over = Some(word);
        self.connected = false;
        self.zookeeper.close().await;
    }

    /// A server's path as the user knows it.
    pub(super) fn unrooted<'a>(&self, path: &'a str) -> &'a str {
        match path.strip_prefix(&self.chroot) {
            Some("") => "/",
            Some(rest) => rest,
            None => path,
        }
    }

    /// Sends a request and waits for its answer.
    pub(super) async fn call(&mut self, request: Request) -> Result<Response, Error> {
        self.wait().await?;
        self.zookeeper.call(request).await
    }

    /// The children of many nodes.
    pub(super) async fn children_all(
        &mut self,
        paths: &[String],
    ) -> Vec<Result<Vec<String>, Error>> {
        if let Err(error) = self.wait().await {
            return paths.iter().map(|_| Err(error.clone())).collect();
        }
        self.zookeeper.children_all(paths).await
    }

    /// Many multis. Says whether any failed.
    pub(super) async fn multi_all(&self, multis: Vec<Vec<Op>>) -> bool {
        let answers: Vec<Result<_, MultiError>> = self.zookeeper.multi_all(multis).await;
        answers.iter().any(Result::is_err)
    }

    /// Waits until there is something to tell.
    pub(super) async fn news(&mut self, output: &mut Output) {
        let mut state = self.zookeeper.state();
        let connected = self.connected;
        let lost = state.wait_for(|state| {
            *state == State::Closed || (connected && matches!(state, State::Disconnected { .. }))
        });
        tokio::select! {
            event = self.events.next() => match event {
                Some(event) => self.hear(event, output).await,
                // Nothing more will come; whoever waits with this has something else to wait for.
                None => std::future::pending().await,
            },
            ended = lost => if ended.is_err() || !connected {
                std::future::pending::<()>().await;
            },
        }
        self.settle(output).await;
    }

    /// Tells what has happened so far.
    pub(super) async fn settle(&mut self, output: &mut Output) {
        while let Some(event) = self.events.ready() {
            self.hear(event, output).await;
        }
        if self.is_alive() && self.connected && self.zookeeper.session().is_none() {
            self.connected = false;
            output.event("Disconnected", "None", None);
        }
    }

    async fn hear(&mut self, event: Event, output: &mut Output) {
        match event {
            Event::Node(kind, path) => {
                self.watches.fired(kind, &path);
                output.event("SyncConnected", &format!("{kind:?}"), Some(&path));
            }
            Event::Connected(session) => {
                if self.connected {
                    output.event("Disconnected", "None", None);
                }
                if self.told.is_some_and(|told| told != session) {
                    // The original starts no other session by itself, either.
                    self.end("CLOSED").await;
                    output.event("Expired", "None", None);
                    return;
                }
                self.connected = true;
                output.event("SyncConnected", "None", None);
                if self.told.replace(session).is_some() {
                    self.renew(output).await;
                }
            }
            Event::Lost => output.error("more watch events came than could be kept"),
            Event::Mark(_) => {}
        }
    }

    /// After a connection was lost: identities are told again, then watches are set again.
    async fn renew(&mut self, output: &mut Output) {
        for auth in self.auths.clone() {
            self.authenticate(auth, output).await;
        }
        let requests = self
            .watches
            .again(self.zookeeper.seen_zxid(), |path| self.rooted(path));
        for request in requests {
            // Fails only with the connection; the next one sets them again.
            let _ = self.zookeeper.call(request).await;
        }
    }

    /// The program ends without `close`. The original leaves the session to expire, which is seen by
    /// its ephemerals only.
    pub(super) async fn leave(&mut self) {
        if self.has_ephemerals && self.is_alive() {
            self.zookeeper.leave().await;
        } else {
            self.zookeeper.close().await;
        }
    }

    /// Ends the session.
    pub(super) async fn close(&mut self, output: &mut Output) {
        if self.is_alive() {
            self.end("CLOSED").await;
            output.event("Closed", "None", None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_may_end_in_a_chroot() {
        for (text, count, chroot) in [
            ("localhost:2181", 1, ""),
            ("a,b:2182", 2, ""),
            ("a:1,b:2/kafka/x", 2, "/kafka/x"),
            ("a:1/", 1, ""),
        ] {
            let (servers, found) = parse_servers(text).expect(text);
            assert_eq!((servers.len(), found.as_str()), (count, chroot), "{text}");
        }
        assert_eq!(
            parse_servers("a:1/x/").err().as_deref(),
            Some("Path must not end with / character")
        );
        assert!(parse_servers("/x").is_err());
        assert!(parse_servers("a:port").is_err());
    }
}
