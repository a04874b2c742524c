//! [`Disk`] in memory, with crashes and faults on demand.
//!
//! What is written is visible at once and durable after a sync, as on a real disk behind a page cache.
//! [`SimDisk::crash`] takes the machine's power: of every file, unsynced writes are kept, lost, or torn
//! at a sector's border, as the seed decides; names that were made, renamed or removed since the
//! directory's last sync come undone from some point on. Open files fail from then on. The same seed
//! and the same calls give the same bytes.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::{DirLock, Disk, DiskFile, Open};
use crate::common::clock::Clock;
use crate::common::rng::Rng;

/// Where a write may tear.
const SECTOR_BYTES: u64 = 512;
/// Granularity of storage: sparse files cost what is written.
const PAGE_BYTES: u64 = 4_096;

/// What goes wrong, until it is changed. By default nothing does.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Bytes that all files may hold; writes beyond fail with `StorageFull`, after a part.
    pub capacity: Option<u64>,
    /// So many operations from now succeed, and the one after fails; then this is empty again.
    pub fail_after: Option<(u64, Operation)>,
    /// Nothing can be opened: the process has as many files open as it may.
    pub no_descriptors: bool,
    /// A sync says that it is done, and does nothing: the drive's cache lies. This one a crash leaves as it is.
    pub lies: bool,
    /// Milliseconds that each sync moves the disk's clock (which must be a manual one).
    pub sync_ms: i64,
}

/// What fails by [`Faults::fail_after`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A read, with EIO.
    Read,
    /// A write, with EIO, after a part of it.
    Write,
    /// A sync, with EIO; what it should have synced is lost at the next crash.
    Sync,
}

/// A simulated disk. Clones share it.
#[derive(Clone, Debug)]
pub struct SimDisk(Arc<Mutex<World>>);

#[derive(Debug)]
struct World {
    rng: Rng,
    clock: Clock,
    faults: Faults,
    /// Counts crashes; handles of an older life fail.
    life: u64,
    nodes: BTreeMap<u64, Node>,
    next_node: u64,
    names: BTreeMap<PathBuf, Entry>,
    durable_names: BTreeMap<PathBuf, Entry>,
    /// Changes of names since they were last made durable, oldest first.
    renames: Vec<Change>,
    locks: BTreeMap<PathBuf, Weak<()>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    Dir,
    File(u64),
}

/// One change of a name.
#[derive(Clone, Debug)]
struct Change {
    path: PathBuf,
    entry: Option<Entry>,
}

#[derive(Clone, Debug, Default)]
struct Node {
    now: Pages,
    durable: Pages,
    unsynced: Vec<Write>,
}

#[derive(Clone, Debug)]
enum Write {
    Data { position: u64, bytes: Vec<u8> },
    Truncate(u64),
}

/// A sparse run of bytes.
#[derive(Clone, Debug, Default)]
struct Pages {
    len: u64,
    pages: BTreeMap<u64, Box<[u8]>>,
}

impl Pages {
    fn write(&mut self, mut position: u64, mut bytes: &[u8]) {
        self.len = self.len.max(position + bytes.len() as u64);
        while !bytes.is_empty() {
            let start = (position % PAGE_BYTES) as usize;
            let count = bytes.len().min(PAGE_BYTES as usize - start);
            let page = self
                .pages
                .entry(position / PAGE_BYTES)
                .or_insert_with(|| vec![0; PAGE_BYTES as usize].into());
            page[start..start + count].copy_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            position += count as u64;
        }
    }

    fn read(&self, into: &mut [u8], position: u64) -> usize {
        let len = usize::try_from(self.len.saturating_sub(position))
            .map_or(into.len(), |left| left.min(into.len()));
        let mut done = 0;
        while done < len {
            let at = position + done as u64;
            let start = (at % PAGE_BYTES) as usize;
            let count = (len - done).min(PAGE_BYTES as usize - start);
            match self.pages.get(&(at / PAGE_BYTES)) {
                Some(page) => into[done..done + count].copy_from_slice(&page[start..start + count]),
                None => into[done..done + count].fill(0),
            }
            done += count;
        }
        len
    }

    fn truncate(&mut self, len: u64) {
        if len < self.len {
            self.pages.split_off(&len.div_ceil(PAGE_BYTES));
            if let Some(page) = self.pages.get_mut(&(len / PAGE_BYTES)) {
                page[(len % PAGE_BYTES) as usize..].fill(0);
            }
        }
        self.len = len;
    }

    fn apply(&mut self, write: &Write) {
        match write {
            Write::Data { position, bytes } => self.write(*position, bytes),
            Write::Truncate(len) => self.truncate(*len),
        }
    }

    fn used(&self) -> u64 {
        self.pages.len() as u64 * PAGE_BYTES
    }
}

impl Node {
    fn change(&mut self, write: Write) {
        self.now.apply(&write);
        self.unsynced.push(write);
    }

    fn sync(&mut self) {
        for write in self.unsynced.drain(..) {
            self.durable.apply(&write);
        }
    }

    /// What the disk holds after the power went.
    fn crash(&mut self, rng: &Rng) {
        for write in std::mem::take(&mut self.unsynced) {
            match (rng.below(4), &write) {
                (0, _) => {}
                (1, Write::Data { position, bytes }) => self.tear(*position, bytes, rng),
                _ => self.durable.apply(&write),
            }
        }
        self.now = self.durable.clone();
    }

    /// Some sectors of a write arrive, others do not; the length may have come without them.
    fn tear(&mut self, position: u64, bytes: &[u8], rng: &Rng) {
        let end = position + bytes.len() as u64;
        if rng.below(2) == 0 {
            self.durable.len = self.durable.len.max(end);
        }
        let mut at = position;
        while at < end {
            let next = ((at / SECTOR_BYTES + 1) * SECTOR_BYTES).min(end);
            if rng.below(2) == 0 {
                let part = (at - position) as usize..(next - position) as usize;
                self.durable.write(at, &bytes[part]);
            }
            at = next;
        }
    }
}

fn eio() -> io::Error {
    io::Error::other("simulated I/O error")
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{}", path.display()))
}

impl World {
    /// Is it this operation's turn to fail?
    fn fails(&mut self, operation: Operation) -> bool {
        match &mut self.faults.fail_after {
            Some((left, which)) if *which == operation => {
                if *left == 0 {
                    self.faults.fail_after = None;
                    return true;
                }
                *left -= 1;
                false
            }
            _ => false,
        }
    }

    fn set_name(&mut self, path: &Path, entry: Option<Entry>) {
        match entry {
            Some(entry) => self.names.insert(path.to_owned(), entry),
            None => self.names.remove(path),
        };
        self.renames.push(Change {
            path: path.to_owned(),
            entry,
        });
    }

    fn file(&self, path: &Path) -> Option<u64> {
        match self.names.get(path) {
            Some(Entry::File(node)) => Some(*node),
            _ => None,
        }
    }

    fn take_descriptor(&self) -> io::Result<()> {
        if self.faults.no_descriptors {
            let code = rustix::io::Errno::MFILE.raw_os_error();
            return Err(io::Error::from_raw_os_error(code));
        }
        Ok(())
    }

    fn parent_exists(&self, path: &Path) -> bool {
        path.parent().is_none_or(|parent| {
            parent.as_os_str().is_empty()
                || parent == Path::new("/")
                || self.names.get(parent) == Some(&Entry::Dir)
        })
    }

    fn below(&self, dir: &Path) -> Vec<(PathBuf, Entry)> {
        let names = self.names.iter();
        names
            .filter(|(path, _)| path.starts_with(dir))
            .map(|(path, entry)| (path.clone(), *entry))
            .collect()
    }

    fn used(&self) -> u64 {
        self.nodes.values().map(|node| node.now.used()).sum()
    }

    /// Drops files that no name leads to any more.
    fn sweep(&mut self) {
        let named: Vec<u64> = self
            .names
            .values()
            .filter_map(|entry| match entry {
                Entry::File(node) => Some(*node),
                Entry::Dir => None,
            })
            .collect();
        self.nodes.retain(|node, _| named.contains(node));
    }
}

impl SimDisk {
    /// An empty disk whose accidents follow from `rng`.
    pub fn new(rng: Rng, clock: Clock) -> SimDisk {
        SimDisk(Arc::new(Mutex::new(World {
            rng,
            clock,
            faults: Faults::default(),
            life: 0,
            nodes: BTreeMap::new(),
            next_node: 0,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            renames: Vec::new(),
            locks: BTreeMap::new(),
        })))
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.world().faults = faults;
    }

    /// The power goes. Handles and locks of this life are void; faults are cleared.
    pub fn crash(&self) {
        let mut world = self.world();
        world.life += 1;
        world.faults = Faults {
            lies: world.faults.lies,
            ..Faults::default()
        };
        world.locks.clear();
        let rng = world.rng.clone();
        let changes = std::mem::take(&mut world.renames);
        // A journal: what is kept of names is a prefix of what was done.
        let kept = rng.below(changes.len() as u64 + 1) as usize;
        for change in changes.into_iter().take(kept) {
            match change.entry {
                Some(entry) => world.durable_names.insert(change.path, entry),
                None => world.durable_names.remove(&change.path),
            };
        }
        world.names = world.durable_names.clone();
        for node in world.nodes.values_mut() {
            node.crash(&rng);
        }
        world.sweep();
    }

    /// The process dies and the machine lives on: nothing is lost, handles are void.
    pub fn kill(&self) {
        let mut world = self.world();
        world.life += 1;
        world.locks.clear();
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    node: u64,
    life: u64,
    writable: bool,
}

#[derive(Debug)]
struct SimLock {
    _held: Arc<()>,
}

impl DirLock for SimLock {}

impl Disk for SimDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let mut world = self.world();
        world.take_descriptor()?;
        let node = match (world.file(path), how) {
            (Some(_), Open::CreateNew) => {
                return Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    format!("{}", path.display()),
                ));
            }
            (Some(node), _) => node,
            (None, Open::Read | Open::Write) => return Err(not_found(path)),
            (None, Open::Create | Open::CreateNew) => {
                if !world.parent_exists(path) {
                    return Err(not_found(path));
                }
                let node = world.next_node;
                world.next_node += 1;
                world.nodes.insert(node, Node::default());
                world.set_name(path, Some(Entry::File(node)));
                node
            }
        };
        Ok(Arc::new(SimFile {
            disk: self.clone(),
            node,
            life: world.life,
            writable: how != Open::Read,
        }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        let mut missing: Vec<&Path> = path
            .ancestors()
            .take_while(|dir| {
                !dir.as_os_str().is_empty()
                    && *dir != Path::new("/")
                    && !world.names.contains_key(*dir)
            })
            .collect();
        while let Some(dir) = missing.pop() {
            world.set_name(dir, Some(Entry::Dir));
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let world = self.world();
        world.take_descriptor()?;
        if world.names.get(dir) != Some(&Entry::Dir) {
            return Err(not_found(dir));
        }
        let names = world.names.keys();
        Ok(names
            .filter(|path| path.parent() == Some(dir))
            .cloned()
            .collect())
    }

    fn exists(&self, path: &Path) -> bool {
        self.world().names.contains_key(path)
    }

    fn is_dir(&self, path: &Path) -> bool {
        self.world().names.get(path) == Some(&Entry::Dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.world();
        if !world.names.contains_key(from) || !world.parent_exists(to) {
            return Err(not_found(from));
        }
        for (path, entry) in world.below(from) {
            let rest = path.strip_prefix(from).map_err(io::Error::other)?;
            let target = if rest.as_os_str().is_empty() {
                to.to_owned()
            } else {
                to.join(rest)
            };
            world.set_name(&target, Some(entry));
            world.set_name(&path, None);
        }
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.file(path).ok_or_else(|| not_found(path))?;
        world.set_name(path, None);
        Ok(())
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        for (path, _) in world.below(path).into_iter().rev() {
            world.set_name(&path, None);
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.take_descriptor()?;
        if world.fails(Operation::Sync) {
            return Err(eio());
        }
        if world.names.get(dir) != Some(&Entry::Dir) {
            return Err(not_found(dir));
        }
        // One journal for all directories, as on ext4: a sync of one commits what came before.
        for change in std::mem::take(&mut world.renames) {
            match change.entry {
                Some(entry) => world.durable_names.insert(change.path, entry),
                None => world.durable_names.remove(&change.path),
            };
        }
        Ok(())
    }

    fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        let world = self.world();
        let capacity = world.faults.capacity.unwrap_or(u64::MAX);
        Ok(capacity.saturating_sub(world.used()))
    }

    fn lock(&self, lock_file: &Path) -> io::Result<Box<dyn DirLock>> {
        self.open(lock_file, Open::Create)?;
        let mut world = self.world();
        if world.locks.get(lock_file).and_then(Weak::upgrade).is_some() {
            return Err(io::Error::new(
                io::ErrorKind::WouldBlock,
                format!("{} is locked by another process", lock_file.display()),
            ));
        }
        let held = Arc::new(());
        world
            .locks
            .insert(lock_file.to_owned(), Arc::downgrade(&held));
        Ok(Box::new(SimLock { _held: held }))
    }
}

impl SimFile {
    fn with<T>(&self, f: impl FnOnce(&mut World, &mut Node) -> io::Result<T>) -> io::Result<T> {
        let mut world = self.disk.world();
        if world.life != self.life {
            return Err(eio());
        }
        // A file whose name is gone stays usable for those who have it open.
        let mut node = world.nodes.remove(&self.node).ok_or_else(eio)?;
        let result = f(&mut world, &mut node);
        world.nodes.insert(self.node, node);
        result
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        self.with(|_, node| Ok(node.now.len))
    }

    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        self.with(|world, node| {
            let mut error = None;
            let mut count = bytes.len();
            if world.fails(Operation::Write) {
                count = world.rng.below(count as u64 + 1) as usize;
                error = Some(eio());
            } else if let Some(capacity) = world.faults.capacity {
                let before = node.now.clone();
                node.now.write(position, &bytes);
                let used = world.used() + node.now.used();
                node.now = before;
                if used > capacity {
                    // What fits into pages that are there already.
                    let room = PAGE_BYTES - position % PAGE_BYTES;
                    let mapped = node.now.pages.contains_key(&(position / PAGE_BYTES));
                    count = count.min(if mapped { room as usize } else { 0 });
                    error = Some(io::ErrorKind::StorageFull.into());
                }
            }
            if count > 0 {
                node.change(Write::Data {
                    position,
                    bytes: bytes[..count].to_vec(),
                });
            }
            error.map_or(Ok(()), Err)
        })
    }

    fn read_at(&self, into: &mut [u8], position: u64) -> io::Result<usize> {
        self.with(|world, node| {
            if world.fails(Operation::Read) {
                return Err(eio());
            }
            Ok(node.now.read(into, position))
        })
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.with(|_, node| {
            node.change(Write::Truncate(len));
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|world, node| {
            world.clock.advance_ms(world.faults.sync_ms);
            if world.fails(Operation::Sync) {
                // The kernel forgets dirty pages that it could not write.
                node.unsynced.clear();
                return Err(eio());
            }
            if !world.faults.lies {
                node.sync();
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests;
