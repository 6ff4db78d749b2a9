//! Tells the controller in which directories this broker's replicas are, where it believes something
//! else (KIP-858): without that it does not know whom a failed directory takes along.

use std::collections::BTreeMap;
use std::time::Duration;

use millrace_model::{BrokerId, DirectoryId, PartitionId};
use millrace_quorum::Quorum;
use tokio::sync::mpsc;

use super::start::Strings;
use crate::node::Node;

/// Assignments that travel together at most (Kafka's `MAX_ASSIGNMENTS_PER_REQUEST`).
const MAX_ASSIGNMENTS: usize = 2250;

/// How long to wait after an attempt that failed.
const RETRY: Duration = Duration::from_millis(500);

/// What is to be told; cheap to clone.
#[derive(Clone)]
pub(super) struct Assignments(mpsc::UnboundedSender<(PartitionId, DirectoryId)>);

impl Assignments {
    /// Starts telling, as long as the node runs.
    pub(super) fn start(node: &Node, strings: &Strings) -> Assignments {
        let (sender, receiver) = mpsc::unbounded_channel();
        let telling = tell_all(node.id, node.quorum.clone(), receiver);
        let stopping = strings.stopping.clone();
        let control = &node.host.control;
        control.spawn(stopping.run_until_cancelled_owned(telling));
        Assignments(sender)
    }

    /// A replica is in this directory. What is queued is bounded by the replicas of this broker
    /// and the failures of its directories.
    pub(super) fn tell(&self, id: PartitionId, directory: DirectoryId) {
        // The receiver lives as long as the node; afterwards nobody cares.
        let _ = self.0.send((id, directory));
    }
}

async fn tell_all(
    me: BrokerId,
    quorum: Quorum,
    mut receiver: mpsc::UnboundedReceiver<(PartitionId, DirectoryId)>,
) {
    let mut waiting = BTreeMap::new();
    loop {
        if waiting.is_empty() {
            let Some((id, directory)) = receiver.recv().await else {
                return;
            };
            waiting.insert(id, directory);
        }
        // The newest word about a replica stands.
        while let Ok((id, directory)) = receiver.try_recv() {
            waiting.insert(id, directory);
        }
        let image = quorum.image();
        waiting.retain(|id, directory| {
            let known = image.partition(*id).and_then(|known| known.directory(me));
            known.is_some_and(|known| known != *directory)
        });
        let first = waiting.iter().take(MAX_ASSIGNMENTS);
        let batch: Vec<_> = first.map(|(id, directory)| (*id, *directory)).collect();
        if batch.is_empty() {
            continue;
        }
        match quorum.assign_directories(batch.clone()).await {
            Ok(_) => {
                for (id, _) in batch {
                    waiting.remove(&id);
                }
            }
            Err(error) => {
                tracing::debug!(%error, "no answer to assignments of directories");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}
