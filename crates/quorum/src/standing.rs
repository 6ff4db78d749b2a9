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
        let last_log = raft.data_metrics().borrow_watched().last_log;
        let server = raft.server_metrics();
        let server = server.borrow_watched();
        Standing {
            me: server.id,
            term: server.vote.leader_id().term,
            vote: server.vote,
            leader: server.current_leader,
            last_log: last_log.map(|last| last.index),
            membership: server.membership_config.clone(),
            stopped: None,
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

/// Follows openraft's metrics; ends with it. Those of the server change with the standing only, and
/// not, as the others do, with every message.
pub(crate) fn follow(raft: &Raft, tasks: &Tasks) -> watch::Receiver<Standing> {
    let (sender, receiver) = watch::channel(Standing::of(raft));
    let raft = raft.clone();
    tasks.spawn(async move {
        let (mut server, mut data) = (raft.server_metrics(), raft.data_metrics());
        loop {
            let now = Standing::of(&raft);
            let empty = now.last_log.is_none();
            sender.send_if_modified(|standing| {
                let changed = standing.differs(&now);
                *standing = now;
                changed
            });
            // Whether there is a log at all matters once.
            let changed = match empty {
                false => server.changed().await,
                true => tokio::select! {
                    biased;
                    changed = server.changed() => changed,
                    changed = data.changed() => changed,
                },
            };
            if changed.is_err() {
                break;
            }
        }
        let why = raft.metrics().borrow_watched().running_state.clone().err();
        sender.send_modify(|standing| {
            *standing = Standing::of(&raft);
            standing.stopped = Some(match why {
                Some(fatal) => fatal.to_string(),
                None => "it was shut down".to_owned(),
            });
        });
    });
    receiver
}
