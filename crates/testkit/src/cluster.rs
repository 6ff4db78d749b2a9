//! A cluster of broker processes on 127.0.0.1, each with its own directory.

mod node;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::admin::{Admin, NodeId, PartitionState};
use crate::{Links, Properties, System, ports, wait};

pub use node::Node;

/// What cluster to start.
#[derive(Clone)]
pub struct Options {
    /// Whose brokers.
    pub system: System,
    /// How many; their ids are 1 and up.
    pub nodes: usize,
    /// Whether the connections between brokers go through proxies, so that they can be cut.
    pub proxied: bool,
    /// The first so many nodes are controllers too; all, by default.
    pub controllers: Option<usize>,
    /// Properties of every node, over those that the harness sets.
    pub properties: Properties,
    /// Where a node's data lie, when not below the cluster's directory.
    pub data: BTreeMap<NodeId, PathBuf>,
    /// Log directories that a node has beside that.
    pub more_data: BTreeMap<NodeId, Vec<PathBuf>>,
}

impl Options {
    /// Three brokers of the system that the environment names.
    pub fn three() -> Options {
        Options {
            system: System::from_environment(),
            nodes: 3,
            proxied: false,
            controllers: None,
            properties: Properties::new(),
            data: BTreeMap::new(),
            more_data: BTreeMap::new(),
        }
    }

    /// The same with proxies between the brokers.
    pub fn proxied(mut self) -> Options {
        self.proxied = true;
        self
    }

    /// The same with one property more.
    pub fn with(mut self, key: &str, value: &str) -> Options {
        self.properties.set(key, value);
        self
    }

    /// The same with only the first so many nodes as controllers.
    pub fn controllers(mut self, controllers: usize) -> Options {
        self.controllers = Some(controllers);
        self
    }

    /// The same with so many nodes.
    pub fn nodes(mut self, nodes: usize) -> Options {
        self.nodes = nodes;
        self
    }
}

/// A running cluster; ended, and its directory removed unless the test failed, when dropped.
pub struct Cluster {
    nodes: BTreeMap<NodeId, Node>,
    links: Links,
    folder: PathBuf,
    system: System,
    cluster_id: String,
    keep: bool,
}

impl Cluster {
    /// Formats and starts the brokers, and waits until every one of them knows all of them.
    ///
    /// # Panics
    /// When that does not come to be.
    pub fn start(options: &Options) -> Cluster {
        let mut cluster = Cluster::format(options);
        for node in cluster.nodes.values_mut() {
            node.start();
        }
        let ids = cluster.ids();
        for id in ids {
            cluster.wait_started(id);
        }
        cluster.wait_known();
        cluster
    }

    /// Lays out and formats the directories without starting anything.
    pub fn format(options: &Options) -> Cluster {
        let folder = fresh_folder();
        let links = Links::new();
        let cluster_id = fresh_id();
        let layout = node::Layout::of(options, &folder, &links);
        let mut nodes = BTreeMap::new();
        for id in 1..=options.nodes as NodeId {
            let node = Node::lay_out(&layout, id);
            node.format(&cluster_id);
            nodes.insert(id, node);
        }
        Cluster {
            nodes,
            links,
            folder,
            system: options.system.clone(),
            cluster_id,
            keep: false,
        }
    }

    /// Keeps the directories when the cluster is dropped, or not.
    pub fn keep_if(&mut self, keep: bool) {
        self.keep = keep;
    }

    /// Whose brokers these are.
    pub fn system(&self) -> &System {
        &self.system
    }

    /// The id that the directories were formatted with.
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// Where this cluster's directories and logs lie.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The links between brokers, if the cluster was started with proxies.
    pub fn links(&self) -> &Links {
        &self.links
    }

    /// The ids of all nodes.
    pub fn ids(&self) -> Vec<NodeId> {
        self.nodes.keys().copied().collect()
    }

    /// One node.
    pub fn node(&self, id: NodeId) -> &Node {
        self.nodes
            .get(&id)
            .unwrap_or_else(|| panic!("no node {id}"))
    }

    /// One node, to be changed.
    pub fn node_mut(&mut self, id: NodeId) -> &mut Node {
        self.nodes
            .get_mut(&id)
            .unwrap_or_else(|| panic!("no node {id}"))
    }

    /// Where clients begin, as clients want to be told.
    pub fn bootstrap(&self) -> String {
        let addresses = self
            .nodes
            .values()
            .map(|node| format!("127.0.0.1:{}", node.client_port()));
        addresses.collect::<Vec<_>>().join(",")
    }

    /// Asks the brokers that should answer now.
    pub fn admin(&self) -> Admin {
        let answering = self.nodes.values().filter(|node| node.should_answer());
        Admin::new(answering.map(Node::client_port).collect())
    }

    /// SIGKILL.
    pub fn kill(&mut self, id: NodeId) {
        self.node_mut(id).kill();
    }

    /// SIGSTOP.
    pub fn pause(&mut self, id: NodeId) {
        self.node_mut(id).pause();
    }

    /// SIGCONT.
    pub fn resume(&mut self, id: NodeId) {
        self.node_mut(id).resume();
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(&mut self, id: NodeId) {
        self.node_mut(id).stop();
    }

    /// Starts a node that does not run, on what its directory holds, and waits until it serves.
    pub fn restart(&mut self, id: NodeId) {
        self.node_mut(id).start();
        self.wait_started(id);
    }

    /// Waits until a node has said that it serves.
    pub fn wait_started(&mut self, id: NodeId) {
        self.node_mut(id).wait_started();
    }

    /// Waits until every broker that should answer tells clients of every such broker.
    pub fn wait_known(&self) {
        let expected: BTreeSet<NodeId> = self
            .nodes
            .values()
            .filter(|node| node.should_answer())
            .map(Node::id)
            .collect();
        for node in self.nodes.values().filter(|node| node.should_answer()) {
            let admin = Admin::new(vec![node.client_port()]);
            let what = format!("node {} to know of {expected:?}", node.id());
            wait::until(&what, Duration::from_secs(60), || match admin.brokers() {
                Ok(known) if known.is_superset(&expected) => Ok(()),
                other => Err(format!("{other:?}")),
            });
        }
    }

    /// Waits until every broker that answers describes the topic in a way that `good` accepts.
    ///
    /// # Panics
    /// When that does not come to be within `limit`.
    pub fn wait_partitions(
        &self,
        topic: &str,
        what: &str,
        limit: Duration,
        good: impl Fn(&[PartitionState]) -> bool,
    ) {
        let admin = self.admin();
        wait::until(what, limit, || {
            for (port, partitions) in admin.partitions_by_broker(topic) {
                match partitions {
                    Ok(partitions) if good(&partitions) => {}
                    other => return Err(format!("by port {port}: {other:?}")),
                }
            }
            Ok(())
        });
    }

    /// Waits until all replicas of the topic are in sync.
    pub fn wait_in_sync(&self, topic: &str, limit: Duration) {
        self.wait_partitions(topic, "all replicas in sync", limit, |partitions| {
            let in_sync =
                |of: &PartitionState| of.leader.is_some() && of.isr.len() == of.replicas.len();
            !partitions.is_empty() && partitions.iter().all(in_sync)
        });
    }

    /// Waits until every voter of the metadata quorum holds what its leader held at the call.
    pub fn wait_voters_caught_up(&self, limit: Duration) {
        let admin = self.admin();
        let target = wait::until("a quorum", limit, || {
            let quorum = admin.quorum()?;
            let mut voters = quorum.voters.iter();
            let leader = voters.find(|voter| voter.node == quorum.leader);
            leader
                .map(|voter| voter.log_end)
                .ok_or_else(|| format!("{quorum:?}"))
        });
        wait::until(&format!("all voters at {target}"), limit, || {
            let quorum = admin.quorum()?;
            if quorum.voters.iter().all(|voter| voter.log_end >= target) {
                Ok(())
            } else {
                Err(format!("{quorum:?}"))
            }
        });
    }

    /// The first node that is not this one.
    pub fn other_than(&self, id: NodeId) -> NodeId {
        let other = self.nodes.keys().find(|other| **other != id);
        *other.unwrap_or_else(|| panic!("there is only node {id}"))
    }

    /// All nodes but this one.
    pub fn all_but(&self, id: NodeId) -> Vec<NodeId> {
        let others = self.nodes.keys().filter(|other| **other != id);
        others.copied().collect()
    }

    /// Removes a stopped node's data, formats it as a new disk would be and starts it again.
    pub fn restart_wiped(&mut self, id: NodeId) {
        let cluster_id = self.cluster_id.clone();
        let node = self.node_mut(id);
        node.wipe();
        node.format(&cluster_id);
        self.restart(id);
    }

    /// The leader of a partition now; waits for there to be one.
    pub fn leader_of(&self, topic: &str, partition: i32) -> NodeId {
        let admin = self.admin();
        wait::until("a leader", Duration::from_secs(30), || {
            let partitions = admin.partitions(topic)?;
            let found = partitions.iter().find(|of| of.index == partition);
            found
                .and_then(|of| of.leader)
                .ok_or_else(|| format!("{partitions:?}"))
        })
    }

    /// The active controller now; waits for there to be one that a live broker names.
    pub fn controller(&self) -> NodeId {
        let admin = self.admin();
        wait::until("a controller", Duration::from_secs(30), || {
            admin.quorum().map(|quorum| quorum.leader)
        })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.links.close();
        for node in self.nodes.values_mut() {
            node.kill_if_running();
        }
        if self.keep || std::thread::panicking() || std::env::var_os("MILLRACE_TEST_KEEP").is_some()
        {
            keep(&self.folder);
        } else {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// A failed test's directory stays, and its name is said.
#[allow(
    clippy::print_stderr,
    reason = "it is for whoever reads the failed test's output"
)]
fn keep(folder: &Path) {
    eprintln!(
        "the cluster's logs and data are kept in {}",
        folder.display()
    );
}

fn fresh_folder() -> PathBuf {
    let parent =
        std::env::var_os("MILLRACE_TEST_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = tempfile::Builder::new()
        .prefix("millrace-cluster-")
        .tempdir_in(&parent)
        .unwrap_or_else(|error| panic!("a directory in {}: {error}", parent.display()));
    folder.keep()
}

/// 16 bytes in URL-safe base64; the first letter is fixed, since a dash would read as an option.
fn fresh_id() -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bytes = [0; 21];
    let file = std::fs::File::open("/dev/urandom");
    let read = file.and_then(|mut file| std::io::Read::read_exact(&mut file, &mut bytes));
    read.expect("/dev/urandom can be read");
    let mut id: String = bytes
        .iter()
        .map(|byte| LETTERS[usize::from(byte & 63)] as char)
        .collect();
    id.insert(0, 'M');
    // The last letter carries two bits only.
    id.pop();
    id.push('A');
    id
}

/// A port for each of the three listeners of each node, and for the proxies before them.
fn listener_port() -> u16 {
    ports::free()
}
