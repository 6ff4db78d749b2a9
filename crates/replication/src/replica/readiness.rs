//! Whether a replica that the image names leader leads already.

use std::time::Duration;

use millrace_model::{LeaderEpoch, PartitionId};
use tokio::time::{Instant, timeout_at};

use super::Replica;
use crate::core::Role;
use crate::replicas::Replicas;
use crate::waiting::Waiter;

/// How a replica stands to leading, for whoever knows that the image wants it to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readiness {
    /// It leads and serves.
    Serves,
    /// It will not: its directory has failed.
    Failed,
    /// Its log is being opened or made durable, or it was not told yet; and since when it has been
    /// told.
    NotYet(Option<Instant>),
}

impl Replica {
    /// Whether it leads and serves.
    pub fn serves(&self) -> bool {
        self.lock().core.serving().is_some()
    }

    /// It is to lead.
    pub(crate) fn told_to_lead(&self, epoch: LeaderEpoch) {
        let mut inner = self.lock();
        if inner.told_to_lead.is_none_or(|(known, _)| known < epoch) {
            inner.told_to_lead = Some((epoch, self.shared.host.clock.now()));
        }
    }

    fn readiness(&self, epoch: LeaderEpoch) -> Readiness {
        let inner = self.lock();
        if inner.core.serving().is_some() {
            return Readiness::Serves;
        }
        if inner.core.role() == Role::Offline {
            return Readiness::Failed;
        }
        let told = inner.told_to_lead.filter(|(known, _)| *known >= epoch);
        Readiness::NotYet(told.map(|(_, since)| since))
    }
}

impl Replicas {
    /// Waits until the replica of a partition leads and serves, or has failed; until `deadline` at
    /// most, and no longer than `patience` after it was told to lead, so that a replica that cannot
    /// take up its leadership (a full disk) makes callers wait only once. The image wants this
    /// broker to lead in `epoch`: the caller sees to that, and to what follows when that changes.
    pub async fn until_serving(
        &self,
        id: PartitionId,
        epoch: LeaderEpoch,
        patience: Duration,
        deadline: Instant,
    ) {
        let Ok(replica) = timeout_at(deadline, self.0.made(id)).await else {
            return;
        };
        let waiter = Waiter::new();
        replica.watch(&waiter);
        while let Readiness::NotYet(since) = replica.readiness(epoch) {
            let until = since.map_or(deadline, |since| deadline.min(since + patience));
            if timeout_at(until, waiter.woken()).await.is_err() {
                return;
            }
        }
    }
}
