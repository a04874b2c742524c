//! `setquota`, `listquota`, `delquota`: nodes below /zookeeper/quota, as ZooKeeper 3.6 lays them out.
//! The limits are advice: 3.6 only warns of what is beyond them.

use std::fmt;

use bytes::Bytes;

use super::Shell;
use crate::cli::zk_cli::words::validate_path;
use crate::cli::zk_cli::{Refusal, text};
use crate::client::zookeeper::Error;
use crate::zookeeper::acl::Acl;
use crate::zookeeper::error::ErrorCode;
use crate::zookeeper::message::{
    CreateKind, CreateRequest, Request, SetDataRequest, VersionedPath, flags,
};

/// Where quotas are.
const QUOTA: &str = "/zookeeper/quota";
const LIMITS: &str = "zookeeper_limits";
const STATS: &str = "zookeeper_stats";

/// What both nodes of a quota hold: `count=5,bytes=-1`. −1 is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Track {
    count: i32,
    bytes: i64,
}

impl Track {
    fn parse(text: &str) -> Option<Track> {
        let (count, bytes) = text.split_once(',')?;
        Some(Track {
            count: count.split_once('=')?.1.parse().ok()?,
            bytes: bytes.split_once('=')?.1.parse().ok()?,
        })
    }
}

impl fmt::Display for Track {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "count={},bytes={}", self.count, self.bytes)
    }
}

/// At most one of `-n` and `-b`, in the words of commons-cli.
fn one_of_group(words: &[String], is_required: bool) -> Result<(), Refusal> {
    let mut given = words.iter().filter_map(|word| {
        let name = word.strip_prefix('-')?;
        let letter = name.chars().next().filter(|c| matches!(c, 'n' | 'b'))?;
        Some(letter)
    });
    match (given.next(), given.next()) {
        (Some(first), Some(second)) if first != second => Err(Refusal::new(format!(
            "org.apache.commons.cli.AlreadySelectedException: The option '{second}' was specified but \
             an option from this group has already been selected: '{first}'"
        ))),
        (None, _) if is_required => Err(Refusal::new(
            "org.apache.commons.cli.MissingOptionException: Missing required option: [-b bytes quota, -n num quota]",
        )),
        _ => Ok(()),
    }
}

/// Looks at the words of `setquota` and `delquota` before they are counted.
pub(super) fn check_options(words: &[String]) -> Result<(), Refusal> {
    match words.first().map(String::as_str) {
        Some("setquota") => one_of_group(words, true),
        Some("delquota") => one_of_group(words, false),
        _ => Ok(()),
    }
}

impl Shell<'_> {
    pub(super) async fn set_quota(&mut self) -> Result<(), Refusal> {
        let path = self.path.clone();
        if path.starts_with(QUOTA) {
            let sentence = format!("cannot set a quota under the path: {QUOTA}");
            self.output.error(sentence);
            return Ok(());
        }
        let limits = Track {
            count: self.parsed.number("n")?,
            bytes: self.parsed.number("b")?,
        };
        validate_path(&path)?;
        let exists = self.data(&path, false).await;
        match exists {
            // A quota may be set on what cannot be read.
            Ok(_) | Err(Error::Code(ErrorCode::NoAuth)) => {}
            Err(error) if error.is(ErrorCode::NoNode) => {
                return Err(Refusal::new(format!("{path} does not exist.")));
            }
            Err(error) => return Err(text::failure(&error, &path)),
        }
        let quota = format!("{QUOTA}{path}");
        validate_path(&quota)?;
        self.refuse_quota_below(&path, &quota).await?;
        self.refuse_quota_above(&path).await?;
        self.write_quota(&quota, limits).await
    }

    async fn refuse_quota_below(&mut self, path: &str, quota: &str) -> Result<(), Refusal> {
        let mut pending = vec![quota.to_owned()];
        while let Some(node) = pending.pop() {
            let names = self.names_or_none(&node).await?;
            if node != quota && names.iter().any(|name| name == LIMITS) {
                let child = &node[QUOTA.len()..];
                return Err(Refusal::new(format!(
                    "{path} has a child {child} which has a quota"
                )));
            }
            pending.extend(names.iter().rev().map(|name| format!("{node}/{name}")));
        }
        Ok(())
    }

    async fn refuse_quota_above(&mut self, path: &str) -> Result<(), Refusal> {
        let ends = path.match_indices('/').map(|(at, _)| at).skip(1);
        for end in ends {
            let parent = &path[..end];
            let names = self.names_or_none(&format!("{QUOTA}{parent}")).await?;
            if names.iter().any(|name| name == LIMITS) {
                return Err(Refusal::new(format!(
                    "{path} has a parent {parent} which has a quota"
                )));
            }
        }
        Ok(())
    }

    /// The children's names; none if there is no such node.
    async fn names_or_none(&mut self, node: &str) -> Result<Vec<String>, Refusal> {
        match self.children(node, false).await {
            Ok(reply) => Ok(reply.children),
            Err(error) if error.is(ErrorCode::NoNode) => Ok(Vec::new()),
            Err(error) => Err(text::failure(&error, node)),
        }
    }

    async fn write_quota(&mut self, quota: &str, limits: Track) -> Result<(), Refusal> {
        let ends = quota.match_indices('/').map(|(at, _)| at).skip(1);
        for end in ends.chain([quota.len()]) {
            self.create_unless_there(&quota[..end], None).await?;
        }
        let node = format!("{quota}/{LIMITS}");
        if self
            .create_unless_there(&node, Some(limits.to_string()))
            .await?
        {
            let stats = Track { count: 0, bytes: 0 }.to_string();
            self.create_unless_there(&format!("{quota}/{STATS}"), Some(stats))
                .await?;
            return Ok(());
        }
        let mut now = self.track(&node).await?;
        if limits.bytes != -1 {
            now.bytes = limits.bytes;
        }
        if limits.count != -1 {
            now.count = limits.count;
        }
        self.set_track(&node, now).await
    }

    /// Creates a node; says whether it was missing.
    async fn create_unless_there(
        &mut self,
        path: &str,
        data: Option<String>,
    ) -> Result<bool, Refusal> {
        let record = CreateRequest {
            path: self.session.rooted(path),
            data: data.map(Bytes::from),
            acl: Acl::open(),
            flags: flags::PERSISTENT,
        };
        let request = Request::Create(CreateKind::Create, record);
        match self.session.call(request).await {
            Ok(_) => Ok(true),
            Err(error) if error.is(ErrorCode::NodeExists) => Ok(false),
            Err(error) => Err(text::failure(&error, path)),
        }
    }

    async fn track(&mut self, node: &str) -> Result<Track, Refusal> {
        let reply = self.data(node, false).await;
        let reply = reply.map_err(|error| text::failure(&error, node))?;
        let content = text::data(reply.data.as_deref());
        Track::parse(&content).ok_or_else(|| Refusal::new(format!("invalid string {content}")))
    }

    async fn set_track(&mut self, node: &str, track: Track) -> Result<(), Refusal> {
        let request = Request::SetData(SetDataRequest {
            path: self.session.rooted(node),
            data: Some(Bytes::from(track.to_string())),
            version: -1,
        });
        let answer = self.session.call(request).await;
        answer.map_err(|error| text::failure(&error, node))?;
        Ok(())
    }

    pub(super) async fn list_quota(&mut self) -> Result<(), Refusal> {
        let path = self.path.clone();
        let quota = format!("{QUOTA}{path}");
        let limits = format!("{quota}/{LIMITS}");
        self.output.error(format!("absolute path is {limits}"));
        validate_path(&limits)?;
        for (what, node) in [("quota", limits), ("stat", format!("{quota}/{STATS}"))] {
            match self.data(&node, false).await {
                Ok(reply) => {
                    let track = text::data(reply.data.as_deref());
                    let line = format!("Output {what} for {path} {track}");
                    self.output.line(line);
                }
                Err(error) if error.is(ErrorCode::NoNode) => {
                    let sentence = format!("quota for {path} does not exist.");
                    self.output.error(sentence);
                    break;
                }
                Err(error) => return Err(text::failure(&error, &node)),
            }
        }
        Ok(())
    }

    pub(super) async fn delete_quota(&mut self) -> Result<(), Refusal> {
        let quota = format!("{QUOTA}{}", self.path);
        let limits = format!("{quota}/{LIMITS}");
        validate_path(&limits)?;
        match self.data(&limits, false).await {
            Ok(_) => {}
            Err(error) if error.is(ErrorCode::NoNode) => {
                let line = format!("Quota does not exist for {}", self.path);
                self.output.line(line);
                return Ok(());
            }
            Err(error) => return Err(text::failure(&error, &limits)),
        }
        let (bytes, count) = (self.parsed.has("b"), self.parsed.has("n"));
        if bytes || count {
            let mut track = self.track(&limits).await?;
            if bytes {
                track.bytes = -1;
            } else {
                track.count = -1;
            }
            return self.set_track(&limits, track).await;
        }
        for name in self.names_or_none(&quota).await? {
            self.delete_node(&format!("{quota}/{name}")).await?;
        }
        // Whatever of the way to it leads nowhere else goes, too.
        let mut node = quota.as_str();
        while node != QUOTA && self.names_or_none(node).await?.is_empty() {
            self.delete_node(node).await?;
            node = node.rsplit_once('/').map_or(QUOTA, |(parent, _)| parent);
        }
        Ok(())
    }

    async fn delete_node(&mut self, path: &str) -> Result<(), Refusal> {
        let request = Request::Delete(VersionedPath {
            path: self.session.rooted(path),
            version: -1,
        });
        let answer = self.session.call(request).await;
        answer.map_err(|error| text::failure(&error, path))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_and_written() {
        let track = Track::parse("count=5,bytes=-1").expect("good");
        assert_eq!((track.count, track.bytes), (5, -1));
        assert_eq!(track.to_string(), "count=5,bytes=-1");
        for text in ["", "count=5", "count=x,bytes=1", "5,6", "null"] {
            assert_eq!(Track::parse(text), None, "{text}");
        }
    }

    /// Sentences of the genuine tool.
    #[test]
    fn one_kind_of_limit_at_a_time() {
        let check = |line: &str| {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            check_options(&words).map_err(|refusal| refusal.message)
        };
        let both = "org.apache.commons.cli.AlreadySelectedException: The option 'b' was specified but an option from this group has already been selected: 'n'";
        let none = "org.apache.commons.cli.MissingOptionException: Missing required option: [-b bytes quota, -n num quota]";
        for (line, refused) in [
            ("setquota -n 2 /a", None),
            ("setquota -n 2 -b 3 /a", Some(both)),
            ("setquota /a", Some(none)),
            ("delquota /a", None),
            ("delquota -n -b /a", Some(both)),
            ("ls -n -b", None),
        ] {
            assert_eq!(check(line).err().as_deref(), refused, "{line}");
        }
    }
}
