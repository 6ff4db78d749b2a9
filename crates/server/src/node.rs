//! What the handlers of one broker share: its settings, its seams and the parts of the cluster.

use std::sync::Arc;

use millrace_host::Host;
use millrace_metadata::Image;
use millrace_model::{BrokerId, Uuid};

use crate::Config;
use crate::metrics::Metrics;

/// One running broker or controller, as request handlers see it.
pub struct Node {
    /// The settings it was started with.
    pub config: Config,
    /// `node.id`.
    pub id: BrokerId,
    /// The cluster it belongs to.
    pub cluster_id: Uuid,
    /// Network, disk, time, randomness and tasks.
    pub host: Host,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    image: Arc<Image>,
}

impl Node {
    /// The newest metadata this node has applied.
    pub fn image(&self) -> Arc<Image> {
        self.image.clone()
    }
}
