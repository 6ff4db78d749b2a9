//! What must hold, one file each: some all the time, some in the end.

pub mod durable_survives;
mod groups_keep_their_place;
mod history_is_sound;
mod images_agree;
mod isr_has_what_is_committed;
mod one_leader_an_epoch;
mod replicas_are_identical;
mod stays_within_limits;
mod watermarks_rise;

use std::sync::Arc;

use millrace_metadata::Image;
use millrace_model::PartitionId;
use millrace_replication::ReplicaState;
use millrace_server::node::Node;

use crate::book::Book;
use crate::cluster::Cluster;

/// One broker at one moment.
pub struct BrokerView {
    /// Its number.
    pub id: i32,
    /// What its request handlers share.
    pub node: Arc<Node>,
    /// Its metadata.
    pub image: Arc<Image>,
    /// Its replicas.
    pub replicas: Vec<(PartitionId, ReplicaState)>,
    /// Whether its disk may have lost what it had.
    pub damaged: bool,
}

/// The cluster at one moment.
pub struct View {
    /// Those that run.
    pub brokers: Vec<BrokerView>,
    /// Connections between all machines.
    pub connections: usize,
}

impl View {
    /// The cluster as it is now.
    pub fn of(cluster: &Cluster) -> View {
        let brokers = cluster.nodes().into_iter().map(|(id, node)| BrokerView {
            id,
            image: node.image(),
            replicas: replicas(&node),
            node,
            damaged: cluster.is_damaged(id),
        });
        View {
            brokers: brokers.collect(),
            connections: cluster.network.connections(),
        }
    }

    /// The newest metadata that any broker has.
    pub fn newest(&self) -> Option<&Arc<Image>> {
        let images = self.brokers.iter().map(|broker| &broker.image);
        images.max_by_key(|image| image.version())
    }
}

fn replicas(node: &Node) -> Vec<(PartitionId, ReplicaState)> {
    let all = node.broker().replicas.all();
    all.iter()
        .map(|replica| (replica.id(), replica.state()))
        .collect()
}

/// Something that must hold.
pub trait Invariant {
    /// Looks at the cluster while everything goes on; a sentence for each thing that is wrong.
    fn watch(&mut self, _: &View) -> Vec<String> {
        Vec::new()
    }

    /// Judges when all is over: nothing is written any more, and everything was read back.
    fn judge(&mut self, _: &Cluster, _: &Book) -> Vec<String> {
        Vec::new()
    }
}

/// All of them, by name.
pub fn all() -> Vec<(&'static str, Box<dyn Invariant>)> {
    vec![
        ("history is sound", Box::new(history_is_sound::Check)),
        (
            "groups keep their place",
            Box::new(groups_keep_their_place::Check),
        ),
        (
            "one leader an epoch",
            Box::<one_leader_an_epoch::Check>::default(),
        ),
        (
            "the ISR has what is committed",
            Box::new(isr_has_what_is_committed::Check),
        ),
        (
            "high watermarks rise",
            Box::<watermarks_rise::Check>::default(),
        ),
        ("images agree", Box::<images_agree::Check>::default()),
        (
            "replicas are identical",
            Box::new(replicas_are_identical::Check),
        ),
        (
            "everything stays within its limits",
            Box::new(stays_within_limits::Check),
        ),
    ]
}
