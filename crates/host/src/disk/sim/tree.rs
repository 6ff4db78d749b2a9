//! The files and directories of a simulated disk: how they are, and how they would be after a
//! crash.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::disk::DirectoryEntry;

/// Bytes that a disk writes wholly or not at all.
const SECTOR_BYTES: usize = 512;

/// A file or directory, also after it was renamed.
pub(super) type NodeId = u64;

const ROOT: NodeId = 0;

enum Node {
    File(File),
    Directory(Directory),
}

#[derive(Default)]
struct File {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// What happened since the last sync.
    pending: Vec<Change>,
}

enum Change {
    Write(usize, Vec<u8>),
    SetLen(usize),
}

#[derive(Default)]
struct Directory {
    now: BTreeMap<String, NodeId>,
    durable: BTreeMap<String, NodeId>,
    pending: Vec<NameChange>,
}

enum NameChange {
    Set(String, NodeId),
    Remove(String),
    Rename(String, String),
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, NodeId>) {
        match self {
            NameChange::Set(name, node) => {
                names.insert(name.clone(), *node);
            }
            NameChange::Remove(name) => {
                names.remove(name);
            }
            NameChange::Rename(from, to) => {
                if let Some(node) = names.remove(from) {
                    names.insert(to.clone(), node);
                }
            }
        }
    }
}

/// Everything on the disk.
pub(super) struct Tree {
    nodes: BTreeMap<NodeId, Node>,
    next: NodeId,
    pub(super) rng: StdRng,
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

fn put(content: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = at + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[at..end].copy_from_slice(bytes);
}

fn index(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(io::Error::other)
}

impl Tree {
    pub(super) fn new(seed: u64) -> Tree {
        let root = Node::Directory(Directory::default());
        let nodes = BTreeMap::from([(ROOT, root)]);
        Tree {
            nodes,
            next: ROOT + 1,
            rng: StdRng::seed_from_u64(seed),
        }
    }

    fn names(path: &Path) -> impl Iterator<Item = String> + use<'_> {
        path.components().filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
            _ => None,
        })
    }

    pub(super) fn find(&self, path: &Path) -> io::Result<NodeId> {
        let mut node = ROOT;
        for name in Tree::names(path) {
            let Some(Node::Directory(directory)) = self.nodes.get(&node) else {
                return Err(missing());
            };
            node = *directory.now.get(&name).ok_or_else(missing)?;
        }
        Ok(node)
    }

    pub(super) fn file(&self, path: &Path) -> io::Result<NodeId> {
        let node = self.find(path)?;
        match self.nodes.get(&node) {
            Some(Node::File(_)) => Ok(node),
            Some(Node::Directory(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(missing()),
        }
    }

    pub(super) fn directory(&self, path: &Path) -> io::Result<NodeId> {
        let node = self.find(path)?;
        match self.nodes.get(&node) {
            Some(Node::Directory(_)) => Ok(node),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(missing()),
        }
    }

    fn directory_mut(&mut self, node: NodeId) -> io::Result<&mut Directory> {
        match self.nodes.get_mut(&node) {
            Some(Node::Directory(directory)) => Ok(directory),
            _ => Err(missing()),
        }
    }

    fn file_mut(&mut self, node: NodeId) -> io::Result<&mut File> {
        match self.nodes.get_mut(&node) {
            Some(Node::File(file)) => Ok(file),
            _ => Err(missing()),
        }
    }

    fn change(&mut self, directory: NodeId, change: NameChange) -> io::Result<()> {
        let directory = self.directory_mut(directory)?;
        change.apply(&mut directory.now);
        directory.pending.push(change);
        Ok(())
    }

    fn add(&mut self, parent: NodeId, name: String, node: Node) -> io::Result<NodeId> {
        let id = self.next;
        self.next += 1;
        self.nodes.insert(id, node);
        self.change(parent, NameChange::Set(name, id))?;
        Ok(id)
    }

    /// The directory that holds `path`, and its name there.
    fn parent(&self, path: &Path) -> io::Result<(NodeId, String)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let parent = self.directory(path.parent().unwrap_or_else(|| Path::new("/")))?;
        Ok((parent, name.to_string_lossy().into_owned()))
    }

    pub(super) fn create_file(&mut self, path: &Path) -> io::Result<NodeId> {
        let (parent, name) = self.parent(path)?;
        self.add(parent, name, Node::File(File::default()))
    }

    pub(super) fn create_directories(&mut self, path: &Path) -> io::Result<()> {
        let mut node = ROOT;
        for name in Tree::names(path) {
            let found = self.directory_mut(node)?.now.get(&name).copied();
            node = match found {
                Some(found) => found,
                None => self.add(node, name, Node::Directory(Directory::default()))?,
            };
        }
        Ok(())
    }

    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<DirectoryEntry>> {
        let node = self.directory(path)?;
        let Some(Node::Directory(directory)) = self.nodes.get(&node) else {
            return Err(missing());
        };
        let entry = |(name, node): (&String, &NodeId)| DirectoryEntry {
            name: name.clone(),
            is_directory: matches!(self.nodes.get(node), Some(Node::Directory(_))),
        };
        Ok(directory.now.iter().map(entry).collect())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let node = self.find(from)?;
        let ((old_parent, old), (new_parent, new)) = (self.parent(from)?, self.parent(to)?);
        if old_parent == new_parent {
            return self.change(old_parent, NameChange::Rename(old, new));
        }
        self.change(new_parent, NameChange::Set(new, node))?;
        self.change(old_parent, NameChange::Remove(old))
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        self.change(parent, NameChange::Remove(name))
    }

    pub(super) fn len(&self, node: NodeId) -> io::Result<u64> {
        match self.nodes.get(&node) {
            Some(Node::File(file)) => Ok(file.now.len() as u64),
            _ => Err(missing()),
        }
    }

    pub(super) fn read(&self, node: NodeId, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let Some(Node::File(file)) = self.nodes.get(&node) else {
            return Err(missing());
        };
        let rest = file.now.get(index(offset)?..).unwrap_or(&[]);
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    pub(super) fn write(&mut self, node: NodeId, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let at = index(offset)?;
        let file = self.file_mut(node)?;
        if !bytes.is_empty() {
            put(&mut file.now, at, bytes);
            file.pending.push(Change::Write(at, bytes.to_vec()));
        }
        Ok(())
    }

    pub(super) fn set_len(&mut self, node: NodeId, len: u64) -> io::Result<()> {
        let len = index(len)?;
        let file = self.file_mut(node)?;
        file.now.resize(len, 0);
        file.pending.push(Change::SetLen(len));
        Ok(())
    }

    /// Makes a node durable, or, if the sync fails, what happened to it lost for good.
    pub(super) fn sync(&mut self, node: NodeId, success: bool) -> io::Result<()> {
        match self.nodes.get_mut(&node).ok_or_else(missing)? {
            Node::File(file) => {
                let pending = std::mem::take(&mut file.pending);
                for change in pending.iter().filter(|_| success) {
                    match change {
                        Change::Write(at, bytes) => put(&mut file.durable, *at, bytes),
                        Change::SetLen(len) => file.durable.resize(*len, 0),
                    }
                }
            }
            Node::Directory(directory) => {
                let pending = std::mem::take(&mut directory.pending);
                for change in pending.iter().filter(|_| success) {
                    change.apply(&mut directory.durable);
                }
            }
        }
        Ok(())
    }

    /// Makes a file look as the disk has it, with what is still to be written.
    pub(super) fn forget_cache(&mut self, node: NodeId) -> io::Result<()> {
        let file = self.file_mut(node)?;
        let mut now = file.durable.clone();
        for change in &file.pending {
            match change {
                Change::Write(at, bytes) => put(&mut now, *at, bytes),
                Change::SetLen(len) => now.resize(*len, 0),
            }
        }
        file.now = now;
        Ok(())
    }

    pub(super) fn sync_all(&mut self, success: bool) {
        let nodes: Vec<NodeId> = self.nodes.keys().copied().collect();
        for node in nodes {
            let _ = self.sync(node, success);
        }
    }

    pub(super) fn used(&self) -> u64 {
        let size = |node: &Node| match node {
            Node::File(file) => file.now.len() as u64,
            Node::Directory(_) => 0,
        };
        // What was removed takes room until it is collected, at the next crash; tests that fill
        // the disk do not care.
        self.reachable()
            .iter()
            .filter_map(|id| self.nodes.get(id))
            .map(size)
            .sum()
    }

    fn reachable(&self) -> Vec<NodeId> {
        let mut found = vec![ROOT];
        let mut next = 0;
        while let Some(id) = found.get(next) {
            if let Some(Node::Directory(directory)) = self.nodes.get(id) {
                found.extend(directory.now.values());
            }
            next += 1;
        }
        found
    }

    pub(super) fn crash(&mut self) {
        let rng = &mut self.rng;
        for node in self.nodes.values_mut() {
            match node {
                Node::File(file) => file.crash(rng),
                Node::Directory(directory) => {
                    let pending = std::mem::take(&mut directory.pending);
                    let survivors = rng.random_range(0..=pending.len());
                    for change in &pending[..survivors] {
                        change.apply(&mut directory.durable);
                    }
                    directory.now = directory.durable.clone();
                }
            }
        }
        let alive: BTreeSet<NodeId> = self.reachable().into_iter().collect();
        self.nodes.retain(|id, _| alive.contains(id));
    }

    /// What a crash leaves if nothing survives that need not.
    pub(super) fn worst_case(&self) -> Tree {
        let keep = |node: &Node| match node {
            Node::File(file) => Node::File(File {
                now: file.durable.clone(),
                durable: file.durable.clone(),
                pending: Vec::new(),
            }),
            Node::Directory(directory) => Node::Directory(Directory {
                now: directory.durable.clone(),
                durable: directory.durable.clone(),
                pending: Vec::new(),
            }),
        };
        Tree {
            nodes: self
                .nodes
                .iter()
                .map(|(id, node)| (*id, keep(node)))
                .collect(),
            next: self.next,
            rng: StdRng::seed_from_u64(0),
        }
    }

    pub(super) fn rot(&mut self, path: &Path, position: u64) -> io::Result<()> {
        let (node, at) = (self.file(path)?, index(position)?);
        let file = self.file_mut(node)?;
        for content in [&mut file.now, &mut file.durable] {
            if let Some(byte) = content.get_mut(at) {
                *byte ^= 1;
            }
        }
        Ok(())
    }
}

impl File {
    fn crash(&mut self, rng: &mut StdRng) {
        let pending = std::mem::take(&mut self.pending);
        let fate = rng.random_range(0..3);
        for change in pending.iter().filter(|_| fate > 0) {
            match change {
                Change::SetLen(len) => {
                    if fate == 1 || rng.random_bool(0.5) {
                        self.durable.resize(*len, 0);
                    }
                }
                Change::Write(at, bytes) if fate == 1 => put(&mut self.durable, *at, bytes),
                Change::Write(at, bytes) => tear(&mut self.durable, *at, bytes, rng),
            }
        }
        self.now.clone_from(&self.durable);
    }
}

/// Writes some sectors of `bytes`, and perhaps the length of all.
fn tear(content: &mut Vec<u8>, at: usize, bytes: &[u8], rng: &mut StdRng) {
    let mut done = 0;
    while done < bytes.len() {
        let in_sector = SECTOR_BYTES - (at + done) % SECTOR_BYTES;
        let len = in_sector.min(bytes.len() - done);
        if rng.random_bool(0.5) {
            put(content, at + done, &bytes[done..done + len]);
        }
        done += len;
    }
    let end = at + bytes.len();
    if content.len() < end && rng.random_bool(0.5) {
        content.resize(end, 0);
    }
}
