//! A running node: what it is made of, in which order the parts start, and how they end.
//!
//! Start: directories are checked and listeners bound first, so that what cannot work fails at once
//! with one sentence; then the quorum, so that this node is no reason for others to wait; then the
//! logs are recovered, and the broker registers. Peers are served from the moment the replicas are
//! there, clients from the first image that shows this registration unfenced.

mod assignments;
mod failed;
mod forward;
mod health;
mod link;
mod listeners;
mod logs;
mod quorum;
mod start;
mod watchers;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millrace_model::BrokerEpoch;
use millrace_quorum::BrokerSession;
use millrace_rpc::PeerServer;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Config;
use crate::node::Node;
use millrace_host::Host;

/// Why a node did not start: one sentence for whoever started it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(pub String);

/// How long a controlled shutdown may take before the broker stops anyhow: the controller has then
/// had many sessions' time to hand over.
const CONTROLLED_SHUTDOWN_LIMIT: Duration = Duration::from_secs(10);

/// After so long without a controller a stopping broker no longer waits for one; elections are
/// over much earlier.
const NO_CONTROLLER: Duration = Duration::from_secs(2);

/// How long open connections get to be answered.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);

/// A running node.
pub struct Broker {
    node: Arc<Node>,
    session: Option<Arc<BrokerSession>>,
    peers: Vec<PeerServer>,
    /// Where each listener really is.
    ports: BTreeMap<String, u16>,
    http_port: Option<u16>,
    /// Whether clients are served.
    serving: watch::Receiver<bool>,
    /// Ends listeners and connections.
    closing: CancellationToken,
    /// Ends what keeps the replicas as the images want them.
    stopping: CancellationToken,
    connections: TaskTracker,
    /// Why the node cannot go on, if so.
    failed: watch::Receiver<Option<String>>,
}

impl Broker {
    /// Starts a node; it then finds its cluster by itself.
    ///
    /// # Errors
    /// If it can never work as it is configured: a port is taken, a directory is another cluster's
    /// or not usable.
    pub async fn start(config: Config, host: Host) -> Result<Broker, StartError> {
        start::start(config, host).await
    }

    /// What request handlers share.
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// The port of a listener, also where the system chose it.
    pub fn port(&self, listener: &str) -> Option<u16> {
        self.ports.get(listener).copied()
    }

    /// The port of the HTTP listener, if there is one.
    pub fn http_port(&self) -> Option<u16> {
        self.http_port
    }

    /// Returns when clients are served; on a node that is only a controller, when it knows a
    /// leader of its quorum.
    ///
    /// # Errors
    /// If the node failed before.
    pub async fn ready(&self) -> Result<(), StartError> {
        let mut serving = self.serving.clone();
        let mut failed = self.failed.clone();
        tokio::select! {
            biased;
            why = failed.wait_for(Option::is_some) => Err(failure(why.ok().as_deref())),
            served = serving.wait_for(|serving| *serving) => match served {
                Ok(_) => Ok(()),
                Err(_) => Err(StartError("the node stopped before it was ready".to_owned())),
            },
        }
    }

    /// Returns when the node cannot go on.
    pub async fn wait(&self) -> StartError {
        let mut failed = self.failed.clone();
        match failed.wait_for(Option::is_some).await {
            Ok(why) => failure(Some(&why)),
            Err(_) => StartError("the node stopped".to_owned()),
        }
    }

    /// Has the controller give what this broker leads to others, as long as there is one: when all
    /// brokers stop together, the last ones have nobody to ask.
    async fn hand_over(&self, session: &BrokerSession) {
        let clock = &self.node.host.clock;
        let alone = async {
            while clock.now() - session.last_contact() < NO_CONTROLLER {
                tokio::time::sleep(NO_CONTROLLER / 10).await;
            }
        };
        let why = tokio::select! {
            biased;
            () = session.controlled_shutdown() => return,
            () = alone => "there is no controller",
            () = tokio::time::sleep(CONTROLLED_SHUTDOWN_LIMIT) => "the controller took too long",
        };
        tracing::warn!(why, "stopping though not everything is handed over");
    }

    /// Hands over what this broker leads, ends its connections, and closes everything in order.
    pub async fn stop(self) {
        let mut epoch = BrokerEpoch(-1);
        if let Some(session) = &self.session {
            epoch = session.epoch().unwrap_or(epoch);
            if self.node.config().controlled_shutdown && session.epoch().is_some() {
                self.hand_over(session).await;
            }
        }
        // The next controller is there before this one ends, so nobody waits for an election.
        self.node.quorum.resign().await;
        // Members that wait for others are told to look for another coordinator.
        if let Some(broker) = self.node.broker.get() {
            broker.groups.stop();
        }
        self.closing.cancel();
        self.connections.close();
        // Peers would keep their connections open for as long as this node does.
        for peers in &self.peers {
            peers.stop();
        }
        let _ = tokio::time::timeout(DRAIN_LIMIT, self.connections.wait()).await;
        self.stopping.cancel();
        if let Some(broker) = self.node.broker.get() {
            broker.replicas.stop();
            if let Err(error) = broker.store.close(epoch).await {
                tracing::error!(%error, "cannot close the logs in order");
            }
        }
        drop(self.session);
        self.node.quorum.stop().await;
    }
}

fn failure(why: Option<&Option<String>>) -> StartError {
    let why = why.and_then(Option::as_ref);
    StartError(
        why.cloned()
            .unwrap_or_else(|| "the node stopped".to_owned()),
    )
}
