//! How the replicas reach the controller.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use futures::future::BoxFuture;
use millrace_host::Clock;
use millrace_metadata::{Recovery, decide};
use millrace_model::{BrokerId, DirectoryId, ErrorCode, LeaderEpoch, PartitionId};
use millrace_quorum::{BrokerSession, Quorum};
use millrace_replication::{ControllerLink, IsrChange};
use millrace_storage::{DirectoryState, Store};
use tokio::sync::watch;
use tokio::time::Instant;

use super::assignments::Assignments;
use super::failed;

/// The quorum, and this broker's session with it.
pub(super) struct Link {
    /// This broker.
    pub(super) id: BrokerId,
    pub(super) quorum: Quorum,
    pub(super) clock: Clock,
    /// Filled in when the broker registers.
    pub(super) session: Arc<OnceLock<Arc<BrokerSession>>>,
    pub(super) store: Store,
    pub(super) assignments: Assignments,
    /// Where the metadata of the cluster is kept.
    pub(super) metadata_directory: PathBuf,
    /// Why the node cannot go on, if so.
    pub(super) failed: watch::Sender<Option<String>>,
}

impl ControllerLink for Link {
    fn alter_partitions(&self, changes: Vec<IsrChange>) -> BoxFuture<'static, Vec<bool>> {
        let (id, quorum) = (self.id, self.quorum.clone());
        let epoch = self.session.get().and_then(|session| session.epoch());
        Box::pin(async move {
            let count = changes.len();
            let Some(broker_epoch) = epoch else {
                return vec![false; count];
            };
            let request = decide::IsrRequest {
                broker: id,
                broker_epoch,
                changes: changes.into_iter().map(asked).collect(),
            };
            match quorum.alter_partitions(request).await {
                Ok(answers) => answers.iter().map(Result::is_ok).collect(),
                Err(error) => {
                    tracing::debug!(%error, "no answer to a change of ISRs");
                    vec![false; count]
                }
            }
        })
    }

    fn known_until(&self) -> Instant {
        match self.session.get() {
            Some(session) => session.known_until(),
            None => self.clock.now(),
        }
    }

    fn in_touch(&self) -> watch::Receiver<bool> {
        match self.session.get() {
            Some(session) => session.in_touch(),
            None => watch::channel(false).1,
        }
    }

    fn opened(&self, id: PartitionId, directory: DirectoryId) {
        let image = self.quorum.image();
        let known = image
            .partition(id)
            .and_then(|known| known.directory(self.id));
        if known != Some(directory) {
            self.assignments.tell(id, directory);
        }
    }

    fn condition_changed(&self) {
        if let Some(session) = self.session.get() {
            tell_condition(session, &self.store);
        }
    }

    fn replica_damaged(&self, id: PartitionId, epoch: LeaderEpoch) -> BoxFuture<'static, bool> {
        let quorum = self.quorum.clone();
        Box::pin(async move {
            match quorum.replicas_damaged(vec![(id, epoch)]).await {
                Ok(codes) => codes == [ErrorCode::None],
                Err(error) => {
                    tracing::debug!(%error, "no answer to news of a damaged replica");
                    false
                }
            }
        })
    }

    fn directory_failed(&self, directory: DirectoryId, _why: &str) {
        if let Some(why) = failed::beyond_use(&self.store.directories(), &self.metadata_directory) {
            tracing::error!("{why}");
            self.failed.send_replace(Some(why));
        }
        if let Some(session) = self.session.get() {
            session.directory_failed(&[directory]);
        }
        // The controller may not have heard yet of all that was there.
        for log in self.store.logs() {
            if log.directory_id() == directory {
                self.opened(log.id(), directory);
            }
        }
    }
}

/// Tells the controller which directories are short of space, and which are slow.
pub(super) fn tell_condition(session: &BrokerSession, store: &Store) {
    let mut directories = store.directories();
    directories.retain(|directory| directory.offline.is_none());
    let these = |which: fn(&DirectoryState) -> bool| {
        let those = directories.iter().filter(|directory| which(directory));
        those.map(|directory| directory.id).collect()
    };
    session.directories_are(these(|d| d.full), these(|d| d.slow));
}

/// The change as the controller knows it. A leader that asks for anything has taken over, so what
/// an unclean election broke is mended.
fn asked(change: IsrChange) -> decide::IsrChange {
    decide::IsrChange {
        id: change.id,
        leader_epoch: change.leader_epoch,
        partition_epoch: change.partition_epoch,
        isr: change
            .isr
            .into_iter()
            .map(|(broker, epoch)| decide::IsrMember { broker, epoch })
            .collect(),
        recovery: Recovery::Recovered,
        confirms_fsync: change.confirms_fsync,
    }
}
