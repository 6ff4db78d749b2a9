//! What the handlers of one broker share: its settings, its seams and the parts of the cluster.

use millrace_host::Host;
use millrace_model::{BrokerId, Uuid};

use crate::Config;

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
}
