//! Where this node stands in the quorum, for everybody who waits for a change of it.

use std::sync::Arc;

use millrace_host::Tasks;
use openraft::async_runtime::watch::WatchReceiver;
use tokio::sync::watch;

use crate::Raft;
use crate::types::{RaftId, StoredMembership, Vote};

#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub(crate) me: RaftId,
    pub(crate) term: u64,
    /// Its vote is that of whoever leads or wants to.
    pub(crate) vote: Vote,
    pub(crate) leader: Option<RaftId>,
    pub(crate) last_log: Option<u64>,
    pub(crate) membership: Arc<StoredMembership>,
    /// Why openraft stopped, if it did.
    pub(crate) stopped: Option<String>,
}

impl Standing {
    fn of(raft: &Raft) -> Standing {
        let metrics = raft.metrics();
        let metrics = metrics.borrow_watched();
        Standing {
            me: metrics.id,
            term: metrics.current_term,
            vote: metrics.vote,
            leader: metrics.current_leader,
            last_log: metrics.last_log_index,
            membership: metrics.membership_config.clone(),
            stopped: metrics
                .running_state
                .as_ref()
                .err()
                .map(|fatal| fatal.to_string()),
        }
    }

    fn differs(&self, other: &Standing) -> bool {
        self.term != other.term
            || self.vote != other.vote
            || self.leader != other.leader
            || self.last_log.is_some() != other.last_log.is_some()
            || self.membership.log_id() != other.membership.log_id()
            || self.stopped != other.stopped
    }

    /// The term in which this node leads, if it does.
    pub(crate) fn leads(&self) -> Option<u64> {
        (self.leader == Some(self.me) && self.vote.is_committed()).then_some(self.term)
    }

    pub(crate) fn is_voter(&self) -> bool {
        self.membership.voter_ids().any(|id| id == self.me)
    }

    pub(crate) fn is_member(&self) -> bool {
        self.membership.get_node(&self.me).is_some()
    }
}

/// Follows openraft's metrics; ends with it.
pub(crate) fn follow(raft: &Raft, tasks: &Tasks) -> watch::Receiver<Standing> {
    let (sender, receiver) = watch::channel(Standing::of(raft));
    let raft = raft.clone();
    tasks.spawn(async move {
        let mut metrics = raft.metrics();
        while metrics.changed().await.is_ok() {
            let now = Standing::of(&raft);
            sender.send_if_modified(|standing| {
                let changed = standing.differs(&now);
                *standing = now;
                changed
            });
        }
        sender.send_modify(|standing| {
            standing
                .stopped
                .get_or_insert_with(|| "it was shut down".to_owned());
        });
    });
    receiver
}
