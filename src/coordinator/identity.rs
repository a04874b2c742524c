//! A small checksummed file beside the Raft store: whose data this is, and what must not go back.
//!
//! sled may open with flushed entries silently missing, and a directory may be another node's. This file
//! is replaced atomically, so it is either old or new, never torn. It remembers cluster and member, the
//! vote, and the last index known durable: at least every second, exactly at shutdown and snapshots, and
//! lowered *before* the log is cut. A store behind it has lost data and must not vote. It also remembers
//! which store each peer had, so that a member that comes back empty is noticed by the others.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::common::disk::Disk;
use crate::common::ids::MemberId;
use crate::common::rng::Rng;
use crate::common::sealed;

/// The file's name inside the data directory.
pub const FILE_NAME: &str = "identity";
const FILE_BYTES_MAX: u64 = 64 * 1024;
const VERSION: u32 = 1;

/// Raft's vote in plain numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StoredVote {
    /// The term.
    pub term: u64,
    /// For whom.
    pub node: u64,
    /// Granted by a quorum.
    pub committed: bool,
}

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    version: u32,
    /// The cluster's name.
    pub cluster: String,
    /// The member whose data this is.
    pub member: MemberId,
    /// All members of the ensemble.
    pub members: Vec<MemberId>,
    /// Drawn when the directory was first used; tells an emptied directory from the old one.
    pub store_id: u64,
    /// The highest vote ever given.
    pub vote: StoredVote,
    /// Entries up to here are in the log, durably; `None` before the first.
    pub durable_index: Option<u64>,
    /// The store ids of the other members, as first met.
    pub peers: BTreeMap<MemberId, u64>,
}

/// Why the identity file stops us.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file could not be read or replaced.
    #[error("{}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was reported.
        #[source]
        source: io::Error,
    },
    /// The file is not what was written.
    #[error(
        "{} is damaged, so it cannot be known what this member voted for; restore it, or empty the \
         data directory and replace the member", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The directory is in use by somebody else.
    #[error(
        "{} belongs to {theirs}, but this is {ours}; nothing was changed: give this member its own data \
         directory, or correct its id", path.display()
    )]
    Stranger {
        /// The file.
        path: PathBuf,
        /// Whom the directory belongs to.
        theirs: Box<Owner>,
        /// Who we are.
        ours: Box<Owner>,
    },
}

/// Whom a data directory belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The cluster's name.
    pub cluster: String,
    /// The member.
    pub member: MemberId,
    /// The cluster's members.
    pub members: Vec<MemberId>,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "member {} of cluster {:?} (members",
            self.member, self.cluster
        )?;
        for member in &self.members {
            write!(f, " {member}")?;
        }
        f.write_str(")")
    }
}

/// The identity file, open. Changes are on disk when a method returns.
#[derive(Debug)]
pub struct IdentityFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    /// Held over a change, the disk write included.
    changing: Mutex<()>,
    /// What is on disk. Never held over a disk write: whoever only looks must not wait for a slow disk.
    now: Mutex<Identity>,
}

/// What was found when the file was opened.
#[derive(Debug)]
pub enum Opened {
    /// A directory that was used before.
    Existing(IdentityFile),
    /// Nothing was there. The file is written by [`Fresh::create`], once the store is.
    Fresh(Fresh),
}

/// A directory without identity yet.
#[derive(Debug)]
pub struct Fresh(IdentityFile);

impl Fresh {
    /// Writes the first identity.
    pub fn create(self) -> Result<IdentityFile, IdentityError> {
        let identity = self.0.get();
        self.0.write(&identity)?;
        Ok(self.0)
    }
}

impl IdentityFile {
    /// Reads the identity of the directory `dir` and checks that it is ours. Writes nothing.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        cluster: &str,
        member: MemberId,
        members: &[MemberId],
        rng: &Rng,
    ) -> Result<Opened, IdentityError> {
        let path = dir.join(FILE_NAME);
        if !disk.exists(&path) {
            let identity = Identity {
                version: VERSION,
                cluster: cluster.to_owned(),
                member,
                members: members.to_vec(),
                store_id: rng.next_u64(),
                vote: StoredVote::default(),
                durable_index: None,
                peers: BTreeMap::new(),
            };
            let file = IdentityFile::new(disk, path, identity);
            return Ok(Opened::Fresh(Fresh(file)));
        }
        let bytes = disk
            .read(&path, FILE_BYTES_MAX)
            .map_err(|source| IdentityError::Io {
                path: path.clone(),
                source,
            })?;
        let Some(identity) = decode(&bytes) else {
            return Err(IdentityError::Damaged { path });
        };
        if identity.cluster != cluster || identity.member != member || identity.members != members {
            return Err(IdentityError::Stranger {
                path,
                theirs: Box::new(Owner {
                    cluster: identity.cluster,
                    member: identity.member,
                    members: identity.members,
                }),
                ours: Box::new(Owner {
                    cluster: cluster.to_owned(),
                    member,
                    members: members.to_vec(),
                }),
            });
        }
        Ok(Opened::Existing(IdentityFile::new(disk, path, identity)))
    }

    fn new(disk: Arc<dyn Disk>, path: PathBuf, identity: Identity) -> IdentityFile {
        IdentityFile {
            disk,
            path,
            changing: Mutex::default(),
            now: Mutex::new(identity),
        }
    }

    /// What the file says now. Never waits for the disk.
    pub fn get(&self) -> Identity {
        self.lock().clone()
    }

    /// Notes a vote. A lower one than the noted is ignored.
    pub fn set_vote(&self, vote: StoredVote) -> Result<(), IdentityError> {
        self.update(|identity| identity.vote = identity.vote.max(vote))
    }

    /// Notes how far the log is durable.
    pub fn set_durable_index(&self, index: Option<u64>) -> Result<(), IdentityError> {
        self.update(|identity| identity.durable_index = index)
    }

    /// Lowers the durable index to at most `index`; to be called before the log is cut there.
    pub fn lower_durable_index(&self, index: Option<u64>) -> Result<(), IdentityError> {
        self.update(|identity| identity.durable_index = identity.durable_index.min(index))
    }

    /// Notes the store of a peer.
    pub fn set_peer(&self, peer: MemberId, store_id: u64) -> Result<(), IdentityError> {
        self.update(|identity| {
            identity.peers.insert(peer, store_id);
        })
    }

    /// Changes the identity; writes only when something changed. Writers come one after the other, and
    /// wait for the disk: callers are on blocking threads.
    fn update(&self, change: impl FnOnce(&mut Identity)) -> Result<(), IdentityError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.get();
        let mut next = now.clone();
        change(&mut next);
        if next != now {
            self.write(&next)?;
            *self.lock() = next;
        }
        Ok(())
    }

    fn write(&self, identity: &Identity) -> Result<(), IdentityError> {
        self.disk
            .replace(&self.path, &encode(identity))
            .map_err(|source| IdentityError::Io {
                path: self.path.clone(),
                source,
            })
    }

    fn lock(&self) -> MutexGuard<'_, Identity> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn encode(identity: &Identity) -> Vec<u8> {
    sealed::seal(identity).expect("numbers, strings and maps by string keys")
}

fn decode(bytes: &[u8]) -> Option<Identity> {
    sealed::unseal(bytes).filter(|identity: &Identity| identity.version == VERSION)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::disk::real::RealDisk;

    fn open(dir: &Path, cluster: &str, member: u64) -> Result<Opened, IdentityError> {
        let members = [MemberId(1), MemberId(2), MemberId(3)];
        let rng = Rng::from_seed(1);
        IdentityFile::open(
            Arc::new(RealDisk),
            dir,
            cluster,
            MemberId(member),
            &members,
            &rng,
        )
    }

    fn create(dir: &Path) -> IdentityFile {
        match open(dir, "one", 1).expect("a new directory") {
            Opened::Fresh(fresh) => fresh.create().expect("writable"),
            Opened::Existing(_) => panic!("nothing was there"),
        }
    }

    #[test]
    fn what_was_noted_is_found_again_and_votes_never_fall() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = create(dir.path());
        let vote = StoredVote {
            term: 3,
            node: 2,
            committed: true,
        };
        file.set_vote(vote).expect("written");
        file.set_vote(StoredVote { term: 2, ..vote })
            .expect("ignored");
        file.set_durable_index(Some(9)).expect("written");
        file.lower_durable_index(Some(12)).expect("not lower");
        file.set_peer(MemberId(2), 77).expect("written");
        let Opened::Existing(again) = open(dir.path(), "one", 1).expect("ours") else {
            panic!("it was written")
        };
        let found = again.get();
        assert_eq!(found, file.get());
        assert_eq!((found.vote, found.durable_index), (vote, Some(9)));
        again.lower_durable_index(None).expect("written");
        assert_eq!(again.get().durable_index, None);
    }

    #[test]
    fn a_write_that_fails_leaves_nothing_of_its_own() {
        let dir = tempfile::tempdir().expect("a directory");
        let Opened::Fresh(fresh) = open(dir.path(), "one", 1).expect("a new directory") else {
            panic!("nothing was there")
        };
        // A directory in its place ends the last step; a full disk, an earlier one.
        std::fs::create_dir(dir.path().join(FILE_NAME)).expect("made");
        assert!(fresh.create().is_err());
        assert_eq!(RealDisk.list(dir.path()).expect("a directory").len(), 1);
    }

    #[test]
    fn a_strangers_directory_is_refused_by_both_names_and_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        create(dir.path());
        let before = RealDisk
            .read(&dir.path().join(FILE_NAME), 9999)
            .expect("there");
        for (cluster, member) in [("one", 2), ("two", 1)] {
            let error = open(dir.path(), cluster, member).expect_err("not ours");
            let text = error.to_string();
            for part in [
                "member 1 of cluster \"one\"",
                &format!("member {member} of cluster {cluster:?}"),
            ] {
                assert!(text.contains(part), "{text}");
            }
        }
        let after = RealDisk
            .read(&dir.path().join(FILE_NAME), 9999)
            .expect("there");
        assert_eq!(before, after);
        assert_eq!(RealDisk.list(dir.path()).expect("a directory").len(), 1);
    }
}
