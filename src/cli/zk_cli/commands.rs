//! The commands that talk to the ensemble: one function each. What they print is collected, because
//! watch events that came before an answer are printed before it.

use super::session::Session;
use super::text;
use super::watches::Kind;
use super::words::{Parsed, parse, validate_path};
use super::{Output, Refusal};
use crate::client::zookeeper::Error;
use crate::zookeeper::error::ErrorCode;
use crate::zookeeper::message::{
    AddWatchRequest, Children2Reply, DataReply, Request, Response, WatchedPath, WatchesRequest,
    watch_mode, watcher_type,
};
use crate::zookeeper::path::join;
use crate::zookeeper::stat::Stat;

mod quotas;
mod writes;

/// Where the ensemble's configuration is, whatever the chroot.
const CONFIG: &str = "/zookeeper/config";

/// What a command takes: its name, options for [`parse`], how few words are enough, its usage.
pub(super) struct Usage {
    pub(super) name: &'static str,
    options: &'static str,
    words: usize,
    pub(super) text: &'static str,
}

const fn usage(
    name: &'static str,
    options: &'static str,
    words: usize,
    text: &'static str,
) -> Usage {
    Usage {
        name,
        options,
        words,
        text,
    }
}

/// All commands, in the order in which they are listed.
#[rustfmt::skip]
pub(super) const USAGES: &[Usage] = &[
    usage("addWatch", "m:", 2, "[-m mode] path # optional mode is one of [PERSISTENT, PERSISTENT_RECURSIVE] - default is PERSISTENT_RECURSIVE"),
    usage("addauth", "", 2, "scheme auth"),
    usage("close", "", 1, ""),
    usage("config", "c w s", 1, "[-c] [-w] [-s]"),
    usage("connect", "", 1, "host:port"),
    usage("create", "s e c t:", 2, "[-s] [-e] [-c] [-t ttl] path [data] [acl]"),
    usage("delete", "v:", 2, "[-v version] path"),
    usage("deleteall", "b:", 2, "path [-b batch size]"),
    usage("delquota", "b n", 2, "[-n|-b] path"),
    usage("get", "s w", 2, "[-s] [-w] path"),
    usage("getAcl", "s", 2, "[-s] path"),
    usage("getAllChildrenNumber", "", 2, "path"),
    usage("getEphemerals", "", 1, "path"),
    usage("history", "", 1, ""),
    usage("listquota", "", 2, "path"),
    usage("ls", "s w R ?", 1, "[-s] [-w] [-R] path"),
    usage("printwatches", "", 1, "on|off"),
    usage("quit", "", 1, ""),
    usage("reconfig", "s v: members: add: remove: file:", 1, "[-s] [-v version] [[-file path] | [-members serverID=host:port1:port2;port3[,...]*]] | [-add serverId=host:port1:port2;port3[,...]]* [-remove serverId[,...]*]"),
    usage("redo", "", 1, "cmdno"),
    usage("removewatches", "c d a l", 2, "path [-c|-d|-a] [-l]"),
    usage("set", "s v:", 3, "[-s] [-v version] path data"),
    usage("setAcl", "s v: R", 3, "[-s] [-v version] [-R] path acl"),
    usage("setquota", "b: n:", 2, "-n|-b val path"),
    usage("stat", "w", 2, "[-w] path"),
    usage("sync", "", 2, "path"),
    usage("version", "", 1, ""),
];

/// The row of a command.
pub(super) fn find(name: &str) -> Option<&'static Usage> {
    USAGES.iter().find(|usage| usage.name == name)
}

fn misused(usage: &Usage) -> Refusal {
    Refusal::new(format!("{} {}", usage.name, usage.text))
}

/// Runs one of the commands that need a session.
pub(super) async fn run(
    usage: &'static Usage,
    words: &[String],
    session: &mut Session,
    output: &mut Output,
) -> Result<(), Refusal> {
    let parsed = parse(usage.options, words)?;
    quotas::check_options(words)?;
    if parsed.words.len() < usage.words {
        return Err(misused(usage));
    }
    let path = parsed.word(1).unwrap_or("/").to_owned();
    let mut shell = Shell {
        session,
        output,
        parsed,
        path,
    };
    match usage.name {
        "addWatch" => shell.add_watch(usage).await,
        "addauth" => shell.add_auth().await,
        "config" => shell.config().await,
        "create" => shell.create().await,
        "delete" => shell.delete().await,
        "deleteall" => shell.delete_all().await,
        "delquota" => shell.delete_quota().await,
        "get" => shell.get().await,
        "getAcl" => shell.get_acl().await,
        "getAllChildrenNumber" => shell.all_children_number().await,
        "getEphemerals" => shell.ephemerals().await,
        "listquota" => shell.list_quota().await,
        "ls" => shell.ls(usage).await,
        "reconfig" => shell.reconfig(usage).await,
        "removewatches" => shell.remove_watches().await,
        "set" => shell.set().await,
        "setAcl" => shell.set_acl().await,
        "setquota" => shell.set_quota().await,
        "stat" => shell.stat().await,
        "sync" => shell.sync().await,
        other => Err(Refusal::new(format!("{other} does not run here"))),
    }
}

/// An answer of another kind than the request's.
fn malformed<T>() -> Result<T, Error> {
    Err(Error::Malformed)
}

/// One command under way.
struct Shell<'a> {
    session: &'a mut Session,
    output: &'a mut Output,
    parsed: Parsed,
    path: String,
}

impl Shell<'_> {
    fn watched(&self, path: &str, watch: bool) -> WatchedPath {
        let path = self.session.rooted(path);
        WatchedPath { path, watch }
    }

    async fn data(&mut self, path: &str, watch: bool) -> Result<DataReply, Error> {
        let request = Request::GetData(self.watched(path, watch));
        match self.session.call(request).await? {
            Response::Data(reply) => {
                if watch {
                    self.session.watches.add(path, Kind::Data);
                }
                Ok(reply)
            }
            _ => malformed(),
        }
    }

    async fn children(&mut self, path: &str, watch: bool) -> Result<Children2Reply, Error> {
        let request = Request::GetChildren2(self.watched(path, watch));
        match self.session.call(request).await? {
            Response::Children2(mut reply) => {
                reply.children.sort();
                if watch {
                    self.session.watches.add(path, Kind::Child);
                }
                Ok(reply)
            }
            _ => malformed(),
        }
    }

    /// `-w`, or the word after the path as older versions had it.
    fn wants_watch(&mut self, current: &str) -> bool {
        let old = self.parsed.words.len() > 2;
        if old {
            let name = self.parsed.word(0).unwrap_or_default();
            let sentence = format!(
                "'{name} path [watch]' has been deprecated. Please use '{name} {current} path' instead."
            );
            self.output.error(sentence);
        }
        old || self.parsed.has("w")
    }

    fn say_stat(&mut self, stat: &Stat) {
        self.output.line(text::stat(stat));
    }

    async fn add_watch(&mut self, usage: &Usage) -> Result<(), Refusal> {
        let mode = match self.parsed.value("m") {
            None | Some("PERSISTENT_RECURSIVE") => watch_mode::PERSISTENT_RECURSIVE,
            Some("PERSISTENT") => watch_mode::PERSISTENT,
            Some(_) => return Err(misused(usage)),
        };
        validate_path(&self.path)?;
        let path = self.session.rooted(&self.path);
        let request = Request::AddWatch(AddWatchRequest { path, mode });
        let answer = self.session.call(request).await;
        answer.map_err(|error| text::failure(&error, &self.path))?;
        let kind = match mode {
            watch_mode::PERSISTENT => Kind::Persistent,
            _ => Kind::Recursive,
        };
        self.session.watches.add(&self.path, kind);
        Ok(())
    }

    async fn config(&mut self) -> Result<(), Refusal> {
        let request = Request::GetData(WatchedPath {
            path: CONFIG.to_owned(),
            watch: self.parsed.has("w"),
        });
        let reply = match self.session.call(request).await {
            Ok(Response::Data(reply)) => reply,
            Ok(_) => return Err(text::failure(&Error::Malformed, CONFIG)),
            Err(error) => return Err(text::failure(&error, CONFIG)),
        };
        if self.parsed.has("w") {
            self.session.watches.add(CONFIG, Kind::Data);
        }
        let config = text::data(reply.data.as_deref());
        self.output.line(if self.parsed.has("c") {
            text::client_config(&config)
        } else {
            config
        });
        if self.parsed.has("s") {
            self.say_stat(&reply.stat);
        }
        Ok(())
    }

    async fn get(&mut self) -> Result<(), Refusal> {
        let watch = self.wants_watch("[-s] [-w]");
        let path = self.path.clone();
        validate_path(&path)?;
        let reply = self.data(&path, watch).await;
        let reply = reply.map_err(|error| text::exception(&error, &path))?;
        self.output.line(text::data(reply.data.as_deref()));
        if self.parsed.has("s") {
            self.say_stat(&reply.stat);
        }
        Ok(())
    }

    async fn get_acl(&mut self) -> Result<(), Refusal> {
        validate_path(&self.path)?;
        let request = Request::GetAcl(self.session.rooted(&self.path));
        let reply = match self.session.call(request).await {
            Ok(Response::Acl(reply)) => reply,
            Ok(_) => return Err(text::failure(&Error::Malformed, &self.path)),
            Err(error) => return Err(text::failure(&error, &self.path)),
        };
        self.output.line(text::acl(&reply.acl));
        if self.parsed.has("s") {
            self.say_stat(&reply.stat);
        }
        Ok(())
    }

    async fn all_children_number(&mut self) -> Result<(), Refusal> {
        validate_path(&self.path)?;
        let request = Request::GetAllChildrenNumber(self.session.rooted(&self.path));
        match self.session.call(request).await {
            Ok(Response::Number(count)) => self.output.line(count.to_string()),
            Ok(_) => return Err(text::failure(&Error::Malformed, &self.path)),
            Err(error) => return Err(text::failure(&error, &self.path)),
        }
        Ok(())
    }

    /// The original takes and prints whole paths here, chroot or not.
    async fn ephemerals(&mut self) -> Result<(), Refusal> {
        validate_path(&self.path)?;
        let request = Request::GetEphemerals(self.path.clone());
        match self.session.call(request).await {
            Ok(Response::Children(paths)) => self.output.line(text::list(&paths)),
            Ok(_) => return Err(text::failure(&Error::Malformed, &self.path)),
            Err(error) => return Err(text::failure(&error, &self.path)),
        }
        Ok(())
    }

    async fn ls(&mut self, usage: &Usage) -> Result<(), Refusal> {
        if self.parsed.has("?") {
            self.output.line(
                "usage: ls [options] path\n -?   help\n -R   recurse\n -s   stat\n -w   watch",
            );
        }
        if self.parsed.words.len() < 2 {
            return Err(misused(usage));
        }
        let watch = self.wants_watch("[-w]");
        let path = self.path.clone();
        validate_path(&path)?;
        if self.parsed.has("R") {
            return self.ls_tree(path, watch).await;
        }
        let reply = self.children(&path, watch).await;
        let reply = reply.map_err(|error| text::failure(&error, &path))?;
        self.output.line(text::list(&reply.children));
        if self.parsed.has("s") {
            self.say_stat(&reply.stat);
        }
        Ok(())
    }

    /// A node's children all come before the children of the first.
    async fn ls_tree(&mut self, root: String, watch: bool) -> Result<(), Refusal> {
        let found = self.data(&root, watch).await;
        found.map_err(|error| text::failure(&error, &root))?;
        self.output.line(root.clone());
        let mut pending = vec![root];
        while let Some(parent) = pending.pop() {
            let listed = self.children(&parent, watch).await;
            let names = match listed {
                Ok(listed) => listed.children,
                // Deleted meanwhile.
                Err(error) if error.is(ErrorCode::NoNode) => continue,
                Err(error) => return Err(text::failure(&error, &parent)),
            };
            let paths: Vec<String> = names.iter().map(|name| join(&parent, name)).collect();
            for path in &paths {
                self.output.line(path.clone());
            }
            pending.extend(paths.into_iter().rev());
        }
        Ok(())
    }

    async fn remove_watches(&mut self) -> Result<(), Refusal> {
        let kind = match () {
            () if self.parsed.has("c") => watcher_type::CHILDREN,
            () if self.parsed.has("d") => watcher_type::DATA,
            () => watcher_type::ANY,
        };
        validate_path(&self.path)?;
        if !self.session.watches.has(&self.path, kind) {
            let error = Error::Code(ErrorCode::NoWatcher);
            return Err(text::failure(&error, &self.path));
        }
        let path = self.session.rooted(&self.path);
        let request = Request::RemoveWatches(WatchesRequest { path, kind });
        match self.session.call(request).await {
            Ok(_) => {}
            Err(Error::ConnectionLoss) if self.parsed.has("l") => {}
            Err(error) => return Err(text::failure(&error, &self.path)),
        }
        for event in self.session.watches.remove(&self.path, kind) {
            self.output.event("SyncConnected", event, Some(&self.path));
        }
        Ok(())
    }

    async fn stat(&mut self) -> Result<(), Refusal> {
        let watch = self.wants_watch("[-w]");
        validate_path(&self.path)?;
        let request = Request::Exists(self.watched(&self.path, watch));
        let answer = self.session.call(request).await;
        let missing = Err(Error::Code(ErrorCode::NoNode));
        if watch && answer.is_ok() {
            self.session.watches.add(&self.path, Kind::Data);
        } else if watch && answer == missing {
            self.session.watches.add(&self.path, Kind::Exist);
        }
        match answer {
            Ok(Response::Stat(stat)) => self.say_stat(&stat),
            Ok(_) => return Err(text::failure(&Error::Malformed, &self.path)),
            Err(error) => return Err(text::failure(&error, &self.path)),
        }
        Ok(())
    }

    async fn sync(&mut self) -> Result<(), Refusal> {
        validate_path(&self.path)?;
        let request = Request::Sync(self.session.rooted(&self.path));
        match self.session.call(request).await {
            Ok(_) => self.output.line("Sync is OK"),
            Err(Error::Code(code)) => {
                self.output
                    .line(format!("Sync has failed. rc={}", code.code()));
            }
            Err(error) => return Err(text::failure(&error, &self.path)),
        }
        Ok(())
    }
}
