//! A small checksummed file beside the Raft store: whose data this is, and what must not go back.
//!
//! sled may open with flushed entries silently missing, and a directory may be another node's. This file
//! is replaced atomically, so it is either old or new, never torn. It remembers cluster and member, the
//! vote, and the last index known durable: at least every second, exactly at shutdown and snapshots, and
//! lowered *before* the log is cut. A store behind it has lost data and must not vote. It also names the
//! store: raft counts stores, not members, so that a member that comes back empty is another one to it.

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
    /// Raft's name for this store, drawn when the directory was first used: an emptied directory gets
    /// another one. Its last byte is the member. Before there were such names it was the member alone.
    #[serde(default)]
    node: Option<u64>,
    /// Which ensemble this is: the store that began it. `None` before this store has heard of one.
    #[serde(default)]
    ensemble: Option<u64>,
    /// The highest vote ever given.
    pub vote: StoredVote,
    /// Entries up to here are in the log, durably; `None` before the first.
    pub durable_index: Option<u64>,
    /// How far the other stores were seen to reach, by their names.
    #[serde(default)]
    pub reaches: BTreeMap<u64, StoredReach>,
}

/// A vote's term and node, and the last entry under it.
pub type StoredReach = (u64, u64, Option<u64>);

/// The bits of a store's name that say whose it is.
const MEMBER_BITS: u64 = 0xff;

/// Whose store this is.
pub fn member_of(node: u64) -> MemberId {
    MemberId(node & MEMBER_BITS)
}

impl Identity {
    /// Raft's name for this store.
    pub fn node(&self) -> u64 {
        self.node.unwrap_or(self.member.0)
    }

    /// Which ensemble this store is of; `None` if it has not heard of one.
    pub fn ensemble(&self) -> Option<u64> {
        // What has voted was part of one, also before ensembles had names.
        let nameless = self.vote != StoredVote::default();
        self.ensemble.or(nameless.then_some(0))
    }
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
         data directory and let the member join anew", path.display()
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
                node: Some(draw_node(member, rng)),
                ensemble: None,
                vote: StoredVote::default(),
                durable_index: None,
                reaches: BTreeMap::new(),
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

    /// Notes how far the log is durable, and how far other stores were seen to reach.
    pub fn note(
        &self,
        index: Option<u64>,
        reaches: BTreeMap<u64, StoredReach>,
    ) -> Result<(), IdentityError> {
        self.update(|identity| {
            identity.durable_index = index;
            identity.reaches = reaches;
        })
    }

    /// Notes which ensemble this store is of. Once known it stays.
    pub fn set_ensemble(&self, ensemble: u64) -> Result<(), IdentityError> {
        self.update(|identity| identity.ensemble = identity.ensemble().or(Some(ensemble)))
    }

    /// Raft's name for this store.
    pub fn node(&self) -> u64 {
        self.lock().node()
    }

    /// Which ensemble this store is of, if it has heard of one.
    pub fn ensemble(&self) -> Option<u64> {
        self.lock().ensemble()
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

/// Never the name of a store from before stores had names.
fn draw_node(member: MemberId, rng: &Rng) -> u64 {
    let drawn = (rng.next_u64() & !MEMBER_BITS).max(MEMBER_BITS + 1);
    drawn | (member.0 & MEMBER_BITS)
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
        let (node, reaches) = (file.node(), BTreeMap::from([(0x702, (3, 0x702, Some(8)))]));
        assert_eq!((member_of(node), node > 0xff), (MemberId(1), true));
        file.note(Some(9), reaches.clone()).expect("written");
        assert_eq!(file.ensemble(), Some(0), "it has voted");
        let Opened::Existing(again) = open(dir.path(), "one", 1).expect("ours") else {
            panic!("it was written")
        };
        let found = again.get();
        assert_eq!(found, file.get());
        assert_eq!((found.vote, found.durable_index), (vote, Some(9)));
        assert_eq!((found.node(), found.reaches), (node, reaches));
        again.lower_durable_index(None).expect("written");
        assert_eq!(again.get().durable_index, None);
    }

    #[test]
    fn each_new_directory_is_another_store_and_the_first_ensemble_stays() {
        let dirs = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
        let rng = Rng::from_os();
        let [one, two] = dirs.each_ref().map(|dir| {
            let (disk, members) = (Arc::new(RealDisk), [MemberId(1)]);
            match IdentityFile::open(disk, dir.path(), "one", MemberId(1), &members, &rng) {
                Ok(Opened::Fresh(fresh)) => fresh.create().expect("writable"),
                other => panic!("{other:?}"),
            }
        });
        assert_ne!(one.node(), two.node());
        assert_eq!(one.ensemble(), None);
        one.set_ensemble(7).expect("written");
        one.set_ensemble(8).expect("ignored");
        assert_eq!(one.ensemble(), Some(7));
    }

    #[test]
    fn a_file_from_before_stores_had_names_is_the_members_first_store() {
        let vote = r#"{"term":4,"node":2,"committed":true}"#;
        let json = format!(
            r#"{{"version":1,"cluster":"one","member":1,"members":[1,2,3],"store_id":99,"vote":{vote},"durable_index":5,"peers":{{"2":7}}}}"#
        );
        let crc = crc32c::crc32c(json.as_bytes());
        let bytes = format!("{json}\ncrc32c={crc:08x}\n");
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(FILE_NAME);
        RealDisk.replace(&path, bytes.as_bytes()).expect("written");
        let Ok(Opened::Existing(file)) = open(dir.path(), "one", 1) else {
            panic!("it can be read")
        };
        assert_eq!((file.node(), file.ensemble()), (1, Some(0)));
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
