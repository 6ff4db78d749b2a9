//! What a node's part in the quorum depends on.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use millrace_host::Host;
use millrace_metadata::Controller;
use millrace_model::{BrokerId, DirectoryId, ImageVersion};
use millrace_rpc::Channels;

use crate::error::ForwardError;
use crate::types::Place;

/// A voter, as the configuration names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voter {
    /// `node.id`.
    pub id: BrokerId,
    /// Where its controller listener is.
    pub place: Place,
    /// Its metadata directory, where the quorum was formatted with it
    /// (`format --initial-controllers`); `controller.quorum.voters` does not tell.
    pub directory: Option<DirectoryId>,
}

/// Everything that [`crate::Quorum::start`] needs; this node's identity is that of `channels`.
pub struct QuorumOptions {
    /// `controller.quorum.voters`, or the initial controllers of a formatted quorum.
    pub voters: Vec<Voter>,
    /// `controller.quorum.bootstrap.servers`: whom to ask where no voters are configured.
    pub bootstrap_servers: Vec<Place>,
    /// Whether `process.roles` holds `controller`.
    pub is_controller: bool,
    /// Where the others of the quorum reach this node: its controller listener, or the
    /// inter-broker listener of a node without one.
    pub place: Place,
    /// `metadata.log.dir`; the quorum keeps its files in `__millrace_metadata` within.
    pub metadata_dir: PathBuf,
    /// The machine.
    pub host: Host,
    /// Channels to the peers.
    pub channels: Channels,
    /// Election and heartbeat times of the quorum.
    pub timing: Timing,
    /// `broker.session.timeout.ms`.
    pub session_timeout: Duration,
    /// `broker.heartbeat.interval.ms`.
    pub heartbeat_interval: Duration,
    /// Automatic preferred leaders; `None` where `auto.leader.rebalance.enable` is false.
    pub balance: Option<Balance>,
    /// The first records of a new cluster.
    pub bootstrap: Bootstrap,
    /// This controller's registration (KIP-919), written when it becomes the active one.
    pub registration: Option<Controller>,
    /// Handles admin requests where the controller is active.
    pub forward: Arc<dyn ForwardHandler>,
}

/// What a cluster begins with; of no effect in one that exists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bootstrap {
    /// Finalized features.
    pub features: Vec<(String, i16)>,
    /// Cluster-wide settings.
    pub settings: Vec<(String, String)>,
}

/// Times of the quorum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    /// The leader says this often that it lives.
    pub heartbeat: Duration,
    /// A silent leader is replaced after this at the earliest,
    pub election_min: Duration,
    /// and after this at the latest.
    pub election_max: Duration,
    /// How long a proposal may take.
    pub proposal: Duration,
    /// A checkpoint is made after this many entries.
    pub entries_per_checkpoint: u64,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_millis(650),
            election_max: Duration::from_millis(800),
            proposal: Duration::from_secs(2),
            entries_per_checkpoint: 5_000,
        }
    }
}

impl Timing {
    /// How long a leader counts on not being replaced after a majority has heard it.
    pub(crate) fn lease(&self) -> Duration {
        self.election_max / 2
    }
}

/// Automatic preferred-leader election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Balance {
    /// `leader.imbalance.check.interval.seconds`.
    pub interval: Duration,
    /// `leader.imbalance.per.broker.percentage`.
    pub percentage: u32,
}

/// A client's request on its way to the active controller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// The API's number.
    pub api_key: i16,
    /// The version that `body` is in.
    pub api_version: i16,
    /// Who asks, for instance `User:ANONYMOUS`.
    pub principal: String,
    /// `client.id`.
    pub client_id: String,
    /// The client's address.
    pub client_address: String,
    /// The request without its header.
    pub body: Bytes,
    /// Within how many milliseconds the client wants its answer.
    pub deadline_ms: u64,
}

/// Answers forwarded requests on the node where the controller is active.
pub trait ForwardHandler: Send + Sync + 'static {
    /// The response without its header, and the version of the image that holds what was done.
    fn handle(
        &self,
        request: Forwarded,
    ) -> BoxFuture<'_, Result<(Bytes, ImageVersion), ForwardError>>;
}
