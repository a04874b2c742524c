//! The commands that change something: nodes, ACLs, the ensemble, who we are.

use std::{fs, io};

use bytes::Bytes;

use super::{Shell, Usage, misused};
use crate::cli::zk_cli::words::{number, validate_path};
use crate::cli::zk_cli::{Refusal, text};
use crate::client::zookeeper::{Error, Op};
use crate::config::{properties, zoo_cfg};
use crate::zookeeper::acl::Acl;
use crate::zookeeper::error::ErrorCode;
use crate::zookeeper::message::{
    AuthRequest, CreateKind, CreateRequest, CreateTtlRequest, ReconfigRequest, Request, Response,
    SetAclRequest, SetDataRequest, VersionedPath, flags,
};
use crate::zookeeper::path::join;

/// The longest life that a node can be given.
const TTL_MAX_MS: i64 = 1_099_511_627_775;

impl Shell<'_> {
    pub(super) async fn add_auth(&mut self) -> Result<(), Refusal> {
        let auth = self.parsed.word(2).map(str::to_owned).map(Bytes::from);
        let record = AuthRequest {
            kind: 0,
            scheme: self.path.clone(),
            auth,
        };
        self.session.add_auth(record, self.output).await;
        Ok(())
    }

    pub(super) async fn create(&mut self) -> Result<(), Refusal> {
        let has = |name| self.parsed.has(name);
        let (ephemeral, sequential) = (has("e"), has("s"));
        let (container, timed) = (has("c"), has("t"));
        if container && (ephemeral || sequential) {
            return Err(Refusal::new(
                "-c cannot be combined with -s or -e. Containers cannot be ephemeral or sequential.",
            ));
        }
        let ttl_ms = match self.parsed.value("t") {
            None => 0,
            Some(text) => text
                .parse::<i64>()
                .map_err(|_| Refusal::new("-t argument must be a long value"))?,
        };
        if timed && (ephemeral || container) {
            let kind = if ephemeral { "Ephemeral" } else { "Container" };
            return Err(Refusal::new(format!(
                "TTLs cannot be used with {kind} znodes"
            )));
        }
        if timed && !(1..=TTL_MAX_MS).contains(&ttl_ms) {
            return Err(Refusal::new(format!(
                "ttl must be positive and cannot be larger than: {TTL_MAX_MS}"
            )));
        }
        // The number that follows makes a name of what ends in a slash.
        let number = if sequential { "1" } else { "" };
        validate_path(&format!("{}{number}", self.path))?;
        let acl = match self.parsed.word(3).map(str::to_owned) {
            Some(text) => self.parse_acl(&text, true)?,
            None => Acl::open(),
        };
        let data = self.parsed.word(2).map(str::to_owned).map(Bytes::from);
        let record = CreateRequest {
            path: self.session.rooted(&self.path),
            data,
            acl,
            flags: 0,
        };
        let request = if timed {
            create_timed(record, sequential, ttl_ms)
        } else {
            create_kind(record, container, ephemeral, sequential)
        };
        let created = match self.session.call(request).await {
            Ok(Response::Path(path)) => path,
            Ok(Response::Create2(reply)) => reply.path,
            Ok(_) => return Err(text::failure(&Error::Malformed, &self.path)),
            Err(Error::Code(ErrorCode::EphemeralOnLocalSession)) => {
                return Err(Refusal::new(
                    "Unable to create ephemeral node on a local session",
                ));
            }
            Err(error) => {
                if error.is(ErrorCode::InvalidAcl) {
                    self.output.error(text::keeper(&error, &self.path));
                }
                return Err(text::failure(&error, &self.path));
            }
        };
        self.session.has_ephemerals |= ephemeral;
        let created = self.session.unrooted(&created);
        self.output.error(format!("Created {created}"));
        Ok(())
    }

    pub(super) async fn delete(&mut self) -> Result<(), Refusal> {
        let version = match self.parsed.word(2) {
            Some(text) => {
                self.output.error(
                    "'delete path [version]' has been deprecated. Please use 'delete [-v version] path' instead.",
                );
                number(text)?
            }
            None => self.parsed.number("v")?,
        };
        validate_path(&self.path)?;
        // The root of a chroot cannot be deleted from within, as the original has it.
        let path = match self.path.as_str() {
            "/" => "/".to_owned(),
            path => self.session.rooted(path),
        };
        let request = Request::Delete(VersionedPath { path, version });
        let answer = self.session.call(request).await;
        answer.map_err(|error| text::failure(&error, &self.path))?;
        Ok(())
    }

    pub(super) async fn delete_all(&mut self) -> Result<(), Refusal> {
        let batch = match self.parsed.value("b") {
            None => 1000,
            Some(text) => text
                .parse::<usize>()
                .ok()
                .filter(|size| *size > 0)
                .ok_or_else(|| Refusal::new("-b argument must be an int value"))?,
        };
        validate_path(&self.path)?;
        if self.path == "/" {
            // The original trips over the first child's path.
            let listed = self.children("/", false).await;
            let listed = listed.map_err(|error| text::failure(&error, "/"))?;
            if let Some(child) = listed.children.first() {
                validate_path(&format!("//{child}"))?;
            }
            let error = Error::Code(ErrorCode::BadArguments);
            return Err(text::failure(&error, &self.path));
        }
        let mut found = vec![self.path.clone()];
        let mut level = found.clone();
        while !level.is_empty() {
            let mut below = Vec::new();
            let listed = self.session.children_all(&level).await;
            for (parent, names) in level.iter().zip(listed) {
                let names = names.map_err(|error| text::failure(&error, parent))?;
                below.extend(names.iter().map(|name| join(parent, name)));
            }
            found.extend(below.iter().cloned());
            level = below;
        }
        found.reverse();
        let batches = found.chunks(batch).map(|paths| {
            let deletions = paths.iter().map(|path| Op::Delete {
                path: path.clone(),
                version: -1,
            });
            deletions.collect()
        });
        let failed = self.session.multi_all(batches.collect()).await;
        if failed {
            // The original's exit code is 0 then, too.
            self.output
                .error("Failed to delete some node(s) in the subtree!");
        }
        Ok(())
    }

    pub(super) async fn reconfig(&mut self, usage: &Usage) -> Result<(), Refusal> {
        let has = |name| self.parsed.has(name);
        let value = |name| self.parsed.value(name).unwrap_or_default().to_lowercase();
        let incremental = has("add") || has("remove");
        let whole = has("file") || has("members");
        if !incremental && !whole {
            return Err(misused(usage));
        }
        let version = self.parsed.value("v").map_or(Ok(-1), |text| {
            i64::from_str_radix(text, 16)
                .map_err(|_| Refusal::new("-v must be followed by a long (configuration version)"))
        })?;
        if incremental && whole {
            return Err(Refusal::new(
                "Can't use -file or -members together with -add or -remove (mixing incremental and non-incremental modes is not allowed)",
            ));
        }
        if has("file") && has("members") {
            return Err(Refusal::new(
                "Can't use -file and -members together (conflicting non-incremental modes)",
            ));
        }
        let (joining, leaving) = (value("add"), value("remove"));
        let new_members = match self.parsed.value("file") {
            Some(file) => members_of(file)?,
            None => value("members"),
        };
        let request = Request::Reconfig(ReconfigRequest {
            joining,
            leaving,
            new_members,
            version,
        });
        let reply = match self.session.call(request).await {
            Ok(Response::Data(reply)) => reply,
            Ok(_) => return Err(text::failure(&Error::Malformed, "")),
            Err(error) => return Err(text::failure(&error, "")),
        };
        let config = text::data(reply.data.as_deref());
        self.output
            .line(format!("Committed new configuration:\n{config}"));
        if self.parsed.has("s") {
            self.say_stat(&reply.stat);
        }
        Ok(())
    }

    pub(super) async fn set(&mut self) -> Result<(), Refusal> {
        let version = self.parsed.number("v")?;
        validate_path(&self.path)?;
        let data = self.parsed.word(2).map(str::to_owned).map(Bytes::from);
        let path = self.session.rooted(&self.path);
        let request = Request::SetData(SetDataRequest {
            path,
            data,
            version,
        });
        self.answer_stat(request, &self.path.clone()).await
    }

    /// Sends what is answered by a Stat, and prints that if asked to.
    pub(super) async fn answer_stat(
        &mut self,
        request: Request,
        path: &str,
    ) -> Result<(), Refusal> {
        let stat = match self.session.call(request).await {
            Ok(Response::Stat(stat)) => stat,
            Ok(_) => return Err(text::failure(&Error::Malformed, path)),
            Err(error) => return Err(text::failure(&error, path)),
        };
        if self.parsed.has("s") {
            self.say_stat(&stat);
        }
        Ok(())
    }

    pub(super) async fn set_acl(&mut self) -> Result<(), Refusal> {
        let text = self.parsed.word(2).unwrap_or_default().to_owned();
        let acl = self.parse_acl(&text, false)?;
        let version = self.parsed.number("v")?;
        validate_path(&self.path)?;
        let mut pending = vec![self.path.clone()];
        while let Some(path) = pending.pop() {
            if self.parsed.has("R") {
                // Before the new ACL forbids it.
                let listed = self.children(&path, false).await;
                let names = listed
                    .map_err(|error| text::failure(&error, &path))?
                    .children;
                pending.extend(names.iter().rev().map(|name| join(&path, name)));
            }
            let request = Request::SetAcl(SetAclRequest {
                path: self.session.rooted(&path),
                acl: acl.clone(),
                version,
            });
            if !self.parsed.has("R") {
                return self.answer_stat(request, &path).await;
            }
            // One node's failure does not keep the others from being set.
            if let Err(error) = self.session.call(request).await {
                self.output.line(text::keeper(&error, &path));
            }
        }
        Ok(())
    }

    /// Reads an ACL; the original sends nothing if no part of it can be read, and calls that invalid.
    fn parse_acl(&mut self, text: &str, tell: bool) -> Result<Vec<Acl>, Refusal> {
        let (complaints, entries) = text::parse_acl(text);
        for complaint in complaints {
            self.output.error(complaint);
        }
        let invalid = Error::Code(ErrorCode::InvalidAcl);
        entries.ok_or_else(|| {
            if tell {
                self.output.error(text::keeper(&invalid, ""));
            }
            text::failure(&invalid, "null")
        })
    }
}

/// The members that a file of `server.N=…` lines names.
fn members_of(file: &str) -> Result<String, Refusal> {
    let unreadable = |reason: &str| Refusal::new(format!("Error processing {file}{reason}"));
    let text = fs::read_to_string(file).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => unreadable(&format!("{file} (No such file or directory)")),
        io::ErrorKind::PermissionDenied => unreadable(&format!("{file} (Permission denied)")),
        _ => unreadable(&error.to_string()),
    })?;
    let mut members = Vec::new();
    for property in properties::parse(&text) {
        if let Some(id) = property.key.strip_prefix("server.") {
            zoo_cfg::member(id, &property.value).map_err(|reason| unreadable(&reason))?;
            members.push(format!("{}={}", property.key, property.value));
        }
    }
    Ok(members.join("\n"))
}

fn create_timed(record: CreateRequest, sequential: bool, ttl_ms: i64) -> Request {
    Request::CreateTtl(CreateTtlRequest {
        path: record.path,
        data: record.data,
        acl: record.acl,
        flags: if sequential {
            flags::PERSISTENT_SEQUENTIAL_WITH_TTL
        } else {
            flags::PERSISTENT_WITH_TTL
        },
        ttl_ms,
    })
}

fn create_kind(
    record: CreateRequest,
    container: bool,
    ephemeral: bool,
    sequential: bool,
) -> Request {
    let (kind, flags) = match (container, ephemeral, sequential) {
        (true, _, _) => (CreateKind::Container, flags::CONTAINER),
        (_, true, true) => (CreateKind::Create, flags::EPHEMERAL_SEQUENTIAL),
        (_, true, false) => (CreateKind::Create, flags::EPHEMERAL),
        (_, false, true) => (CreateKind::Create, flags::PERSISTENT_SEQUENTIAL),
        (_, false, false) => (CreateKind::Create, flags::PERSISTENT),
    };
    Request::Create(kind, CreateRequest { flags, ..record })
}
