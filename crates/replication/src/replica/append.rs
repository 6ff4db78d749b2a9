//! Appending as leader, and waiting until that is committed.

use std::sync::Arc;
use std::time::Duration;

use millrace_model::{BrokerId, LeaderEpoch, Offset, Planted};
use millrace_protocol::batch::SoleBatch;
use millrace_storage::{AppendError, Appended};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Inner, Replica};
use crate::core::Role;
use crate::failure::AppendFailure;

/// Least time between two looks of one caller at whether the leader is cut off.
const LEAST_WAIT: Duration = Duration::from_millis(10);

/// What a producer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// Nothing.
    None,
    /// The leader's own disk.
    Leader,
    /// Every in-sync replica.
    All,
}

/// What else must hold for an append.
#[derive(Clone, Copy, Default)]
struct Only {
    /// It happens in this leadership.
    in_epoch: Option<LeaderEpoch>,
    /// The log knows the batch's producer.
    of_known: bool,
}

/// How a wait stands.
enum Standing {
    Ended(Result<(), AppendFailure>),
    Waiting(oneshot::Receiver<()>),
}

impl Replica {
    /// Appends a client's batch, and tells where, and in which leadership. It does not wait: call
    /// [`Replica::wait_committed`] for what the client asked for.
    ///
    /// # Errors
    /// Nothing is appended then.
    pub fn append(
        self: &Arc<Self>,
        batch: SoleBatch,
        acks: Acks,
    ) -> Result<(Appended, LeaderEpoch), AppendFailure> {
        self.append_when(Only::default(), batch, acks)
    }

    /// As [`Replica::append`], but only if the log knows the batch's producer: for a producer of
    /// whom an earlier batch was refused. A log that knows nothing of it takes any sequence, and
    /// would take this batch before that one.
    ///
    /// # Errors
    /// Nothing is appended then.
    pub fn append_if_known(
        self: &Arc<Self>,
        batch: SoleBatch,
        acks: Acks,
    ) -> Result<(Appended, LeaderEpoch), AppendFailure> {
        let only = Only {
            of_known: true,
            ..Only::default()
        };
        self.append_when(only, batch, acks)
    }

    /// As [`Replica::append`], in one leadership only: for whoever knows the log up to its end and
    /// appends what follows from that.
    ///
    /// # Errors
    /// Nothing is appended then.
    pub fn append_in(
        self: &Arc<Self>,
        epoch: LeaderEpoch,
        batch: SoleBatch,
        acks: Acks,
    ) -> Result<Appended, AppendFailure> {
        let only = Only {
            in_epoch: Some(epoch),
            ..Only::default()
        };
        let (appended, _) = self.append_when(only, batch, acks)?;
        Ok(appended)
    }

    fn append_when(
        self: &Arc<Self>,
        only: Only,
        batch: SoleBatch,
        acks: Acks,
    ) -> Result<(Appended, LeaderEpoch), AppendFailure> {
        // Outside of the lock, since a checksum takes longer than all that follows. Who may not
        // append is told that first.
        let wall = self.shared.host.clock.wall();
        let producer = batch.header().producer_id;
        let Some(opened) = self.open_log() else {
            return Err(self.lock().not_leading());
        };
        let batch = opened.validate(batch, wall);
        self.act(|inner, log, now, fx| {
            let epoch = self.may_append(inner, acks)?;
            if only.in_epoch.is_some_and(|wanted| wanted != epoch) {
                return Err(AppendFailure::NotLeader);
            }
            if only.of_known && !opened.knows_producer(producer) {
                return Err(AppendFailure::OutOfTurn);
            }
            let written = opened.append_as_leader(batch?, epoch, wall)?;
            if !written.duplicate {
                inner.core.log_moved(log, now, fx);
            }
            Ok((written, epoch))
        })
    }

    /// Rule 1, and the check that acks=all can be kept.
    fn may_append(&self, inner: &Inner, acks: Acks) -> Result<LeaderEpoch, AppendFailure> {
        let Some(epoch) = inner.core.serving() else {
            let waits = inner.core.role() == Role::Leader { serving: false };
            if waits && self.log.get().is_some_and(|log| log.lacks_space()) {
                // It is not made durable before there is space; nobody else leads either.
                return Err(AppendFailure::Log(AppendError::NoSpace));
            }
            return Err(inner.not_leading());
        };
        // What waits for the high watermark is not acknowledged in vain; a successor may be all the
        // sooner.
        let refuses = match acks {
            Acks::All => self.hears_nobody(inner),
            Acks::Leader | Acks::None => self.may_be_replaced(inner),
        };
        if refuses {
            return Err(AppendFailure::NotLeader);
        }
        let (isr, min) = inner.core.isr_and_min();
        if acks == Acks::All && isr < min {
            return Err(AppendFailure::NotEnoughReplicas { isr, min });
        }
        Ok(epoch)
    }

    /// Whether another one may lead by now, unheard. For a session this broker has not known what the
    /// controller knows, and not every other member of the ISR has been heard, of which one may have
    /// been elected. What it knows may be old then, and it acknowledges nothing on its own.
    pub fn is_cut_off(&self) -> bool {
        self.may_be_replaced(&self.lock())
    }

    fn may_be_replaced(&self, inner: &Inner) -> bool {
        let others = inner.core.others_in_sync();
        let followed = others.map(|id| inner.last_heard(id)).min().flatten();
        self.is_over(inner, followed)
    }

    /// Whether for a session no other member of the ISR was heard either. It sends away whoever waits
    /// then: somebody else is more likely to answer.
    fn hears_nobody(&self, inner: &Inner) -> bool {
        self.is_over(inner, inner.last_heard_of_any())
    }

    fn is_over(&self, inner: &Inner, followed: Option<Instant>) -> bool {
        inner.core.is_replaceable() && self.shared.host.clock.now() > self.in_touch_until(followed)
    }

    /// A session after this broker knew what the controller knows, or was followed.
    fn in_touch_until(&self, followed: Option<Instant>) -> Instant {
        let known = self.shared.link.known_until();
        followed.map_or(known, |followed| followed.max(known))
            + self.shared.settings.session_timeout
    }

    /// Waits until everything up to `last`, appended in the leadership of `epoch`, is what `acks`
    /// asks for. Whoever is cut off meanwhile sends its callers away: they find the leader that there
    /// is by then.
    ///
    /// # Errors
    /// The batches stay appended, and may still be committed.
    pub async fn wait_committed(
        &self,
        last: Offset,
        epoch: LeaderEpoch,
        acks: Acks,
        deadline: Instant,
    ) -> Result<(), AppendFailure> {
        let needed = last.next();
        // Nearly every wait ends long before that.
        let mut look = self.shared.host.clock.now() + self.shared.settings.session_timeout;
        loop {
            let standing = self.lock().standing(needed, epoch, acks);
            let woken = match standing {
                Standing::Ended(outcome) => return outcome,
                Standing::Waiting(woken) => woken,
            };
            if tokio::time::timeout_at(deadline.min(look), woken)
                .await
                .is_ok()
            {
                continue;
            }
            let inner = self.lock();
            if deadline <= look {
                return inner.too_late(needed, epoch, acks);
            }
            if self.hears_nobody(&inner) {
                return Err(AppendFailure::NotLeader);
            }
            let until = self.in_touch_until(inner.last_heard_of_any());
            look = until.max(look) + LEAST_WAIT;
        }
    }
}

impl Inner {
    /// When this follower was heard last, if it follows at all.
    fn last_heard(&self, follower: BrokerId) -> Option<Instant> {
        let mut lanes = self.lanes.iter();
        let lane = lanes.find(|lane| lane.follower == follower);
        lane.map(|lane| lane.session.last_heard())
    }

    fn last_heard_of_any(&self) -> Option<Instant> {
        let others = self.core.others_in_sync();
        others.filter_map(|id| self.last_heard(id)).max()
    }

    pub(super) fn not_leading(&self) -> AppendFailure {
        match self.core.role() {
            Role::Offline => AppendFailure::Offline,
            _ => AppendFailure::NotLeader,
        }
    }

    fn standing(&mut self, needed: Offset, epoch: LeaderEpoch, acks: Acks) -> Standing {
        if let Some(outcome) = self.outcome(needed, epoch, acks) {
            return Standing::Ended(outcome);
        }
        Standing::Waiting(match acks {
            Acks::All if Planted::AckFromLeaderAlone.is_here() => self.durables.wait_for(needed),
            Acks::All => self.commits.wait_for(needed),
            Acks::None | Acks::Leader => self.durables.wait_for(needed),
        })
    }

    fn outcome(
        &self,
        needed: Offset,
        epoch: LeaderEpoch,
        acks: Acks,
    ) -> Option<Result<(), AppendFailure>> {
        if acks == Acks::None {
            return Some(Ok(()));
        }
        if self.core.serving() != Some(epoch) && !Planted::NoEpochCheck.is_here() {
            return Some(Err(self.not_leading()));
        }
        let reached = match acks {
            Acks::All if Planted::AckFromLeaderAlone.is_here() => self.core.bounds().durable_end,
            Acks::All => self.core.high_watermark(),
            Acks::None | Acks::Leader => self.core.bounds().durable_end,
        };
        (reached >= needed).then_some(Ok(()))
    }

    /// The answer at the deadline.
    fn too_late(
        &self,
        needed: Offset,
        epoch: LeaderEpoch,
        acks: Acks,
    ) -> Result<(), AppendFailure> {
        if let Some(outcome) = self.outcome(needed, epoch, acks) {
            return outcome;
        }
        let (isr, min) = self.core.isr_and_min();
        if acks == Acks::All && isr < min {
            return Err(AppendFailure::NotEnoughReplicasAfterAppend { isr, min });
        }
        Err(AppendFailure::TimedOut)
    }

    /// Whether no caller waits for the log to get anywhere.
    pub(crate) fn nobody_waits(&self) -> bool {
        self.commits.is_empty() && self.durables.is_empty()
    }

    /// Forgets callers that have given up.
    pub(crate) fn tidy(&mut self) {
        self.commits.tidy();
        self.durables.tidy();
    }
}
