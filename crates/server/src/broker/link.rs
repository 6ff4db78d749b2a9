//! How the replicas reach the controller.

use std::sync::{Arc, OnceLock};

use futures::future::BoxFuture;
use millrace_host::Clock;
use millrace_metadata::{Recovery, decide};
use millrace_model::{BrokerId, DirectoryId};
use millrace_quorum::{BrokerSession, Quorum};
use millrace_replication::{ControllerLink, IsrChange};
use tokio::sync::watch;
use tokio::time::Instant;

/// The quorum, and this broker's session with it.
pub struct Link {
    id: BrokerId,
    quorum: Quorum,
    clock: Clock,
    session: Arc<OnceLock<Arc<BrokerSession>>>,
}

impl Link {
    /// A link for broker `id`; `session` is filled in when it has registered.
    pub fn new(
        id: BrokerId,
        quorum: Quorum,
        clock: Clock,
        session: Arc<OnceLock<Arc<BrokerSession>>>,
    ) -> Link {
        Link {
            id,
            quorum,
            clock,
            session,
        }
    }
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

    fn last_contact(&self) -> Instant {
        match self.session.get() {
            Some(session) => session.last_contact(),
            None => self.clock.now(),
        }
    }

    fn in_touch(&self) -> watch::Receiver<bool> {
        match self.session.get() {
            Some(session) => session.in_touch(),
            None => watch::channel(false).1,
        }
    }

    fn directory_failed(&self, directory: DirectoryId, why: &str) {
        tracing::error!(%directory, why, "a log directory has failed");
        if let Some(session) = self.session.get() {
            session.directory_failed(&[directory]);
        }
    }
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
