//! A log that is damaged on its disk, or could not be opened: the controller is told until another
//! replica holds what this one should, and the log is fetched anew.

use std::sync::Arc;
use std::time::Duration;

use millrace_model::{Durability, LeaderEpoch};
use millrace_storage::{Flaw, Log, StorageError};

use super::{LogRef, Replica};
use crate::core::Part;

/// The pause before the controller is told once more; where no other replica can take over, it
/// grows.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The longest pause of a replica that takes no part meanwhile.
const LONGEST_LOOK: Duration = Duration::from_secs(2);

impl Replica {
    /// The log is damaged: sees to it that it is mended, unless somebody does.
    pub(crate) fn damaged(self: &Arc<Self>) {
        let Some(log) = self.log.get() else { return };
        if log.damaged_from().is_none() || std::mem::replace(&mut self.lock().mending, true) {
            return;
        }
        let replica = self.clone();
        let stopping = self.shared.stopping.clone();
        self.shared.host.tasks.spawn(async move {
            let _ = stopping.run_until_cancelled(replica.be_mended()).await;
        });
    }

    async fn be_mended(self: &Arc<Self>) {
        let mut pause = FIRST_PAUSE;
        loop {
            if !self.is_current() || !self.is_damaged() {
                break;
            }
            if let Some(epoch) = self.wants_relief() {
                self.tell_of_damage(epoch).await;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        self.lock().mending = false;
        // It may have been damaged again just before.
        if self.is_current() && self.is_damaged() {
            self.damaged();
        }
    }

    fn is_damaged(&self) -> bool {
        let damaged = self.log.get().and_then(|log| log.damaged_from());
        damaged.is_some() && !self.lock().core.is_offline()
    }

    fn wants_relief(&self) -> Option<LeaderEpoch> {
        let inner = self.lock();
        let log = LogRef {
            log: self.log.get(),
            synced: inner.synced,
        };
        inner.core.wants_relief(&log)
    }

    async fn tell_of_damage(&self, epoch: LeaderEpoch) {
        let relieved = self.shared.link.replica_damaged(self.id, epoch).await;
        let partition = self.id;
        match relieved {
            true => tracing::warn!(%partition, %epoch, "this replica is damaged and left the ISR"),
            false => tracing::warn!(
                %partition, %epoch,
                "this replica is damaged and no other one can take its place yet"
            ),
        }
    }

    /// A directory of this partition is there and cannot be opened. Looks whether it can be set
    /// aside, so that the log is fetched anew, and does it; else tells the controller.
    pub(super) async fn look_at_unusable(
        self: &Arc<Self>,
        flaw: Flaw,
        pause: &mut Duration,
    ) -> Result<(), StorageError> {
        let (asked, durability) = {
            let inner = self.lock();
            let part = inner.core.asked_of_closed().cloned();
            (part, inner.settings.durability)
        };
        let Some(part) = asked else {
            tokio::time::sleep(FIRST_PAUSE).await;
            return Ok(());
        };
        // Who leads with a log that a power cut took begins anew, if nothing was promised by it.
        let promised = match flaw {
            Flaw::Unborn => false,
            Flaw::Nameless => durability == Durability::Fsync,
            Flaw::Damaged => true,
        };
        if part.is_expendable() || (matches!(part, Part::Lead(_)) && !promised) {
            let store = &self.shared.store;
            return store.set_unusable_aside(&self.topic, self.id.index).await;
        }
        self.tell_of_damage(part.epoch()).await;
        tokio::time::sleep(*pause).await;
        *pause = (*pause * 2).min(LONGEST_PAUSE);
        Ok(())
    }

    /// The log ends before the high watermark that its directory remembers, as when the end of a log
    /// that was not checked yet rots and the power goes. Waits until nobody counts on it, or nobody
    /// else could have what is missing: as a leader, it would have all others cut it off.
    pub(super) async fn look_at_end(self: &Arc<Self>, log: &Log) {
        let (Some(committed), end) = (log.committed_beyond(), log.bounds().log_end) else {
            return;
        };
        let (partition, mut pause) = (self.id, FIRST_PAUSE);
        tracing::error!(
            %partition, %end, %committed,
            "records that were committed are missing at the end of this log; waiting until another \
             replica leads, or is known not to have them. To go on with what is here, stop the broker \
             and remove replication-offset-checkpoint from the log directory"
        );
        while self.is_current() && !log.is_offline() {
            let asked = self.lock().core.asked_of_closed().cloned();
            let Some(part) = asked else {
                tokio::time::sleep(FIRST_PAUSE).await;
                continue;
            };
            if !part.is_relied_on(self.shared.node) {
                break;
            }
            self.tell_of_damage(part.epoch()).await;
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_LOOK);
        }
        log.accept_end();
    }

    /// The first pause for [`Replica::look_at_unusable`].
    pub(super) fn first_pause() -> Duration {
        FIRST_PAUSE
    }
}
