//! What the handlers of one broker share: its settings, its seams and the parts of the cluster.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use millrace_host::Host;
use millrace_metadata::{Broker, Image, Listener};
use millrace_model::{BrokerId, Incarnation};
use millrace_quorum::{BrokerSession, Quorum};
use millrace_replication::Replicas;
use millrace_storage::Store;
use tokio::sync::watch;

use crate::Config;
use crate::api::fetch::SessionCache;
use crate::api::produce::RefusedBatches;
use crate::connection::memory::RequestMemory;
use crate::coordinator::{Coordinator, Groups};
use crate::metrics::Metrics;
use crate::producer_ids::ProducerIds;

/// One running broker or controller, as request handlers see it.
pub struct Node {
    /// `node.id`.
    pub id: BrokerId,
    /// The cluster it belongs to.
    pub cluster_id: Arc<str>,
    /// This run of the process.
    pub incarnation: Incarnation,
    /// Network, disk, time, randomness and tasks.
    pub host: Host,
    /// The metadata quorum: images, decisions, forwarding.
    pub quorum: Quorum,
    /// The part that only brokers have, once it is there.
    pub(crate) broker: OnceLock<BrokerParts>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What requests of all connections hold.
    pub request_memory: Arc<RequestMemory>,
    pub(crate) config: watch::Receiver<Arc<Config>>,
}

/// What a node has that is a broker.
pub struct BrokerParts {
    /// The logs.
    pub store: Store,
    /// The replicas.
    pub replicas: Replicas,
    /// Incremental fetch sessions.
    pub fetch_sessions: SessionCache,
    /// The block of producer ids this broker hands out from.
    pub producer_ids: ProducerIds,
    /// Batches that were refused, and must come before those behind them.
    pub(crate) refused_batches: RefusedBatches,
    /// Groups of consumers.
    pub groups: Arc<Coordinator<Groups>>,
    /// Held while an internal topic is being made.
    pub(crate) making_internal_topics: tokio::sync::Mutex<()>,
    /// The session with the controller, once it has begun.
    pub(crate) session: Arc<OnceLock<Arc<BrokerSession>>>,
}

impl Node {
    /// The newest metadata this node has applied.
    pub fn image(&self) -> Arc<Image> {
        self.quorum.image()
    }

    /// The settings of this moment: those it was started with, and what was changed since.
    pub fn config(&self) -> Arc<Config> {
        self.config.borrow().clone()
    }

    /// The brokers that hang, as far as this one knows: not fenced yet, but clients are not sent
    /// there ([`BrokerSession::silent`]).
    pub fn silent_brokers(&self) -> BTreeSet<BrokerId> {
        let session = self.broker.get().and_then(|broker| broker.session.get());
        session.map(|session| session.silent()).unwrap_or_default()
    }

    /// The broker's part; APIs that need it are served on broker listeners only.
    ///
    /// # Panics
    /// On a node that is only a controller, and before its logs are open.
    pub fn broker(&self) -> &BrokerParts {
        self.broker
            .get()
            .expect("this API is served on listeners of brokers only, once the logs are open")
    }
}

/// A live broker as clients reach it through a listener.
pub fn endpoint<'a>(
    image: &'a Image,
    id: BrokerId,
    listener: &str,
) -> Option<(&'a Broker, &'a Listener)> {
    let broker = image.broker(id).filter(|broker| !broker.fenced)?;
    Some((broker, broker.listener(listener)?))
}
