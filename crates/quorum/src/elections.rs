//! Elections sooner than by timeout: when the leader is seen to be gone, and when nobody leads at
//! the start of the whole cluster.
//!
//! Every voter keeps a connection to the leader. When it breaks and the leader cannot be reached
//! again, the voter drops the lease it gave that leader and stands for election, the voters one
//! after the other so that they do not split the vote. Pre-vote keeps this harmless: where the
//! others still hear the leader, their leases stand, and no term is wasted.

use std::future::Future;
use std::time::Duration;

use millrace_host::Host;
use millrace_rpc::{LinkFailure, Purpose};
use openraft::raft::TransferLeaderRequest;
use tokio::sync::watch;

use crate::Raft;
use crate::hello::{self, Probe};
use crate::members::Members;
use crate::standing::Standing;
use crate::types::RaftId;

/// How long a leader whose connection broke is probed before it counts as gone.
const PROBE_LIMIT: Duration = Duration::from_millis(200);

/// A voter stands this much later than the one before it.
const STAGGER_MS: u64 = 30;
const JITTER_MS: u64 = 12;

/// How long a candidacy is given before the next.
const ROUND: Duration = Duration::from_millis(120);

/// How often a voter that knows no leader asks the others at a start.
const ASK_INTERVAL: Duration = Duration::from_millis(25);

pub(crate) struct Elections {
    pub(crate) raft: Raft,
    pub(crate) host: Host,
    pub(crate) members: Members,
    pub(crate) standing: watch::Receiver<Standing>,
}

impl Elections {
    /// Runs until openraft stops.
    pub(crate) async fn run(mut self) {
        loop {
            let standing = self.standing.borrow_and_update().clone();
            if standing.stopped.is_some() {
                return;
            }
            let known = standing.leader.filter(|leader| *leader != standing.me);
            let next = match (standing.is_voter(), known) {
                (true, Some(leader)) if self.members.live_leader() == Some(leader) => {
                    self.watch_leader(leader, &standing).await
                }
                (true, _) if standing.leads().is_none() => self.seek_leader(&standing).await,
                _ => self.changed().await,
            };
            if next.is_none() {
                return;
            }
        }
    }

    async fn changed(&mut self) -> Option<()> {
        self.standing.changed().await.ok()
    }

    /// Waits for `done` unless the standing changes first.
    async fn unless_changed(&mut self, done: impl Future<Output = ()>) -> Option<bool> {
        tokio::select! {
            biased;
            changed = self.standing.changed() => changed.ok().map(|()| false),
            () = done => Some(true),
        }
    }

    /// Follows the connection to the leader; if it is gone, stands for election.
    async fn watch_leader(&mut self, leader: RaftId, standing: &Standing) -> Option<()> {
        let channel = self.members.channels.channel(leader.node, Purpose::Raft);
        // A leader that was never reached from here is left to the election timeout.
        let reached = tokio::time::timeout(PROBE_LIMIT, channel.connect()).await;
        if !matches!(reached, Ok(Ok(()))) {
            if self.unless_changed(tokio::time::sleep(PROBE_LIMIT)).await? {
                tracing::debug!(%leader, "the leader cannot be reached from here");
            }
            return Some(());
        }
        let mut link = channel.link();
        let broke = async {
            let _ = link.wait_for(|link| !link.is_up()).await;
        };
        if !self.unless_changed(broke).await? {
            return Some(());
        }
        if hello::probe(&self.members, leader.node, PROBE_LIMIT).await == Probe::Alive {
            return Some(());
        }
        tracing::info!(%leader, term = standing.term, "the leader of the quorum is gone");
        self.members.forget_leader();
        self.drop_lease(standing).await;
        self.stand(standing, leader).await
    }

    /// Takes back the promise not to vote against the leader for a while.
    async fn drop_lease(&self, standing: &Standing) {
        let leader = standing.vote.leader_id().voted_for;
        // Naming somebody else as the successor only disables the lease of this very leader.
        let request = TransferLeaderRequest::new(standing.vote, leader, None);
        if let Err(error) = self.raft.handle_transfer_leader(request).await {
            tracing::debug!(%error, "could not drop the leader's lease");
        }
    }

    /// Stands for election in turn, until there is a new leader or a new candidate.
    async fn stand(&mut self, seen: &Standing, gone: RaftId) -> Option<()> {
        let turn = self.turn(seen, Some(gone));
        loop {
            let wait = turn * STAGGER_MS + self.host.random.range(0..JITTER_MS);
            if !self
                .unless_changed(tokio::time::sleep(Duration::from_millis(wait)))
                .await?
            {
                return Some(());
            }
            if self.raft.trigger().elect(true).await.is_err() {
                return None;
            }
            if !self.unless_changed(tokio::time::sleep(ROUND)).await? {
                return Some(());
            }
        }
    }

    /// This voter's place among those that may stand.
    fn turn(&self, standing: &Standing, gone: Option<RaftId>) -> u64 {
        let others = standing
            .membership
            .voter_ids()
            .filter(|id| Some(*id) != gone);
        others.filter(|id| *id < standing.me).count() as u64
    }

    /// Nobody was heard to lead: asks the others; if no one knows a leader and enough of them are
    /// there, stands for election.
    async fn seek_leader(&mut self, standing: &Standing) -> Option<()> {
        let voters: Vec<RaftId> = standing.membership.voter_ids().collect();
        let others = voters
            .iter()
            .filter(|id| **id != standing.me)
            .map(|id| id.node);
        let asked = hello::ask_all(&self.members, others, PROBE_LIMIT).await;
        let answers: Vec<_> = asked.into_iter().flatten().collect();
        let led = answers.iter().any(|answer| answer.leader.is_some())
            || self.members.live_leader().is_some();
        if !led && 2 * (answers.len() + 1) > voters.len() {
            let turn = self.turn(standing, None);
            let wait = turn * STAGGER_MS + self.host.random.range(0..JITTER_MS);
            if self
                .unless_changed(tokio::time::sleep(Duration::from_millis(wait)))
                .await?
            {
                tracing::info!(term = standing.term, "nobody leads the quorum, standing");
                if self.raft.trigger().elect(true).await.is_err() {
                    return None;
                }
                self.unless_changed(tokio::time::sleep(ROUND)).await?;
            }
            return Some(());
        }
        self.unless_changed(tokio::time::sleep(ASK_INTERVAL))
            .await?;
        Some(())
    }
}

/// Whether a failed connection proves that nothing listens there any more.
pub(crate) fn is_refused(failure: &LinkFailure) -> bool {
    matches!(failure, LinkFailure::Refused(_))
}
