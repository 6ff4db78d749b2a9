//! The metadata quorum: the cluster's state, agreed on by openraft.
//!
//! - The log, the vote and checkpoints on disk: `log`, `checkpoint`; the state machine: `machine`.
//! - Calls between members: `network`, `raft_service`; becoming a member: `formation`; elections
//!   sooner than by timeout: `elections`.
//! - The active controller, one task on the leader that decides: `controller`; what brokers ask of
//!   it: `session` and `session_host`, `ask` and `control_service`.
//!
//! openraft stays inside this crate: others see [`Quorum`], images and decisions.

mod ask;
mod checkpoint;
mod control_service;
mod control_wire;
mod controller;
mod describe;
mod elections;
mod error;
mod formation;
mod hello;
mod log;
mod machine;
mod members;
mod network;
mod options;
mod pacing;
mod raft_service;
mod registering;
mod session;
mod session_host;
mod standing;
mod start;
mod types;
mod wire;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millrace_host::Host;
use millrace_metadata::decide::{DamagedReplica, IsrRequest, PartitionState, Registration};
use millrace_metadata::{Decision, Image, Sessions};
use millrace_model::{BrokerEpoch, BrokerId, DirectoryId, ErrorCode, ImageVersion, PartitionId};
use millrace_rpc::proto::control::control_server::ControlServer;
use millrace_rpc::proto::raft::raft_server::RaftServer;
use millrace_rpc::{Peer, Routes};
use tokio::sync::watch;
use tokio::time::Instant;

pub use self::describe::{QuorumDescription, ReplicaProgress};
pub use self::error::{AskError, DecideError, ForwardError, QuorumError};
pub use self::options::{
    Balance, Bootstrap, ForwardHandler, Forwarded, QuorumOptions, Timing, Voter,
};
pub use self::session::{BrokerSession, SessionState};
pub use self::types::{Place, RaftId};

use self::control_service::ControlService;
use self::controller::{Event, Handle, decision};
use self::log::LogStore;
use self::machine::{Machine, Published};
use self::members::Members;
use self::raft_service::RaftService;
use self::session_host::SessionHost;
use self::standing::Standing;
use self::types::TypeConfig;

pub(crate) type Raft = openraft::Raft<TypeConfig, Machine>;

/// This node's part in the quorum; cheap to clone.
#[derive(Clone)]
pub struct Quorum(Arc<Inner>);

pub(crate) struct Inner {
    raft: Raft,
    log: LogStore,
    host: Host,
    members: Members,
    standing: watch::Receiver<Standing>,
    published: Published,
    settings: SessionSettings,
    /// Where this node may be the active controller.
    controller: Option<Handle>,
    forward: Arc<dyn ForwardHandler>,
    membership_change: tokio::sync::Mutex<()>,
    seen: describe::Seen,
    own_epoch: watch::Sender<Option<BrokerEpoch>>,
}

/// Times of a broker's session.
pub(crate) struct SessionSettings {
    session_timeout: Duration,
    heartbeat_interval: Duration,
}

impl Inner {
    fn images(&self) -> watch::Receiver<Arc<Image>> {
        self.published.images.subscribe()
    }

    fn leader_id(&self) -> Option<RaftId> {
        self.standing.borrow().leader
    }

    fn is_active(&self) -> bool {
        self.controller
            .as_ref()
            .is_some_and(|controller| controller.active.borrow().is_some())
    }

    fn peer(&self) -> Peer {
        let identity = self.members.channels.identity();
        Peer {
            node: identity.node,
            directory: identity.directory,
            incarnation: identity.incarnation,
        }
    }

    fn session_host(&self) -> Option<SessionHost> {
        Some(SessionHost {
            controller: self.controller.clone()?,
            clock: self.host.clock.clone(),
            cluster_id: self.members.channels.identity().cluster_id.clone(),
        })
    }

    async fn decide<T, F>(
        &self,
        deadline: Instant,
        decide: F,
    ) -> Result<(T, ImageVersion), DecideError>
    where
        T: Send + 'static,
        F: FnMut(&Image, &mut Sessions, Duration) -> Decision<T> + Send + 'static,
    {
        let leader = || {
            self.leader_id()
                .filter(|l| *l != self.members.me)
                .map(|l| l.node)
        };
        let nobody = || DecideError::NotController { leader: leader() };
        let controller = self.controller.as_ref().ok_or_else(nobody)?;
        let (pending, answer) = decision(deadline, decide);
        let deciding = async {
            if !controller.send(Event::Decide(pending)).await {
                return Err(nobody());
            }
            answer.await.map_err(|_| nobody())?
        };
        let decided = tokio::time::timeout_at(deadline, deciding).await;
        decided.unwrap_or(Err(DecideError::Unconfirmed))
    }
}

impl Quorum {
    /// The services to mount on the listener for peers.
    pub fn routes(&self) -> Routes {
        let inner = &self.0;
        let limit = millrace_model::limits::MAX_PEER_MESSAGE_BYTES;
        let raft = RaftService {
            raft: inner.raft.clone(),
            members: inner.members.clone(),
            standing: inner.standing.clone(),
        };
        let raft = RaftServer::new(raft)
            .max_decoding_message_size(limit)
            .max_encoding_message_size(limit);
        let control = ControlServer::new(ControlService(inner.clone()))
            .max_decoding_message_size(limit)
            .max_encoding_message_size(limit);
        Routes::new(raft).add_service(control)
    }

    /// The cluster's state as this node has applied it, image after image.
    pub fn images(&self) -> watch::Receiver<Arc<Image>> {
        self.0.images()
    }

    /// The newest image.
    pub fn image(&self) -> Arc<Image> {
        self.0.published.images.borrow().clone()
    }

    /// The node that leads the quorum, as far as this one knows.
    pub fn leader(&self) -> Option<BrokerId> {
        self.0.leader_id().map(|leader| leader.node)
    }

    /// The quorum's term, which is the controller epoch.
    pub fn term(&self) -> u64 {
        self.0.standing.borrow().term
    }

    /// Whether this node is the active controller.
    pub fn is_active(&self) -> bool {
        self.0.is_active()
    }

    /// Whether this node is part of the quorum, as a voter or as a learner.
    pub fn is_member(&self) -> bool {
        self.0.standing.borrow().is_member()
    }

    /// The term in which this node is the active controller; for a node that never can be one the
    /// channel is closed at `None`.
    pub fn active(&self) -> watch::Receiver<Option<u64>> {
        match &self.0.controller {
            Some(controller) => controller.active.clone(),
            None => watch::channel(None).1,
        }
    }

    /// Takes a decision on the active controller, which must be this node; resolves when its
    /// records are committed and applied here. `decide` gets the image, the brokers' sessions and
    /// the moment that sessions count by; it is called again when its batch met another image.
    ///
    /// # Errors
    /// [`DecideError::NotController`] where nothing was done; [`DecideError::Unconfirmed`] where
    /// that is not known.
    pub async fn decide<T, F>(
        &self,
        deadline: Instant,
        decide: F,
    ) -> Result<(T, ImageVersion), DecideError>
    where
        T: Send + 'static,
        F: FnMut(&Image, &mut Sessions, Duration) -> Decision<T> + Send + 'static,
    {
        self.0.decide(deadline, decide).await
    }

    /// Has the active controller answer a client's request, wherever it is, and returns once this
    /// node's image holds what was done.
    ///
    /// # Errors
    /// [`ForwardError::NoController`] where nothing was done before the deadline.
    pub async fn forward(&self, request: Forwarded) -> Result<Bytes, ForwardError> {
        self.0.forward(request).await
    }

    /// Registers this broker and keeps its session with the active controller. The registration's
    /// incarnation must be that of the channels' identity.
    pub fn start_session(&self, registration: Registration) -> BrokerSession {
        let session = BrokerSession::start(self.0.clone(), registration);
        let (mut state, inner) = (session.state(), Arc::downgrade(&self.0));
        self.0.host.control.spawn(async move {
            while state.changed().await.is_ok() {
                let Some(inner) = inner.upgrade() else { return };
                inner
                    .own_epoch
                    .send_replace(state.borrow_and_update().epoch);
            }
        });
        session
    }

    /// Asks the controller for changes of ISRs; the answers are in the order of the request.
    ///
    /// # Errors
    /// [`AskError::Unavailable`] where it is not known whether anything was done.
    pub async fn alter_partitions(
        &self,
        request: IsrRequest,
    ) -> Result<Vec<Result<PartitionState, ErrorCode>>, AskError> {
        self.0.alter_partitions(request).await
    }

    /// Tells the controller in which directories this broker put its replicas.
    ///
    /// # Errors
    /// As [`Quorum::alter_partitions`].
    pub async fn assign_directories(
        &self,
        assignments: Vec<(PartitionId, DirectoryId)>,
    ) -> Result<Vec<ErrorCode>, AskError> {
        let epoch = self.own_epoch().await?;
        self.0.assign_directories(epoch, assignments).await
    }

    /// Tells the controller which replicas of this broker are damaged, each in the leadership that
    /// this broker knows; see [`millrace_metadata::decide::replicas_damaged`] for the answers.
    ///
    /// # Errors
    /// As [`Quorum::alter_partitions`].
    pub async fn replicas_damaged(
        &self,
        damaged: Vec<DamagedReplica>,
    ) -> Result<Vec<ErrorCode>, AskError> {
        let epoch = self.own_epoch().await?;
        self.0.replicas_damaged(epoch, damaged).await
    }

    /// A block of producer ids for this broker, which must have a session.
    ///
    /// # Errors
    /// As [`Quorum::alter_partitions`].
    pub async fn allocate_producer_ids(&self) -> Result<Range<i64>, AskError> {
        let epoch = self.own_epoch().await?;
        self.0.allocate_producer_ids(epoch).await
    }

    async fn own_epoch(&self) -> Result<BrokerEpoch, AskError> {
        let epoch = *self.0.own_epoch.borrow();
        epoch.ok_or_else(|| AskError::Unavailable("this broker is not registered".to_owned()))
    }

    /// The state of the quorum, as its leader sees it.
    ///
    /// # Errors
    /// Where no leader answers.
    pub async fn describe(&self) -> Result<QuorumDescription, AskError> {
        if let Some(description) = describe::local(&self.0) {
            return Ok(description);
        }
        let reply = self.0.describe_remote().await?;
        describe::decode(reply).map_err(|error| AskError::Unavailable(error.to_string()))
    }

    /// Resolves when the quorum cannot go on here (a failed disk, metadata of a newer release); the
    /// process must stop then.
    pub async fn failed(&self) -> QuorumError {
        let mut standing = self.0.standing.clone();
        let stopped = standing
            .wait_for(|standing| standing.stopped.is_some())
            .await;
        let why = stopped.ok().and_then(|standing| standing.stopped.clone());
        QuorumError::Stopped(why.unwrap_or_else(|| "it was dropped".to_owned()))
    }

    /// Hands the leadership of the quorum over, if this node has it and another voter can take it,
    /// and waits a moment for the new leader.
    pub async fn resign(&self) {
        start::resign(&self.0).await;
    }

    /// Stops taking part; what was confirmed is durable already.
    pub async fn stop(&self) {
        self.0.log.stop_waiting();
        let raft = self.0.raft.clone();
        let stopping = self
            .0
            .host
            .control
            .spawn(async move { raft.shutdown().await });
        if let Ok(Err(error)) = stopping.await {
            tracing::debug!(%error, "the quorum stopped in a panic");
        }
    }
}
