//! One replica of one partition, as a pure state machine.
//!
//! Inputs are methods: what the image says, what the log did, what a peer said, that time passed.
//! Each returns nothing and notes in [`Effects`] what is to be done. The core never touches the
//! log; it is shown it as a [`LogView`]. The rules it follows are numbered as in the design of
//! replication; the model check in `core/model.rs` runs this very code.
//!
//! - `leader`: taking over, pushing, counting acknowledgements;
//! - `isr`: the high watermark and the ISR;
//! - `follower`: joining, obeying, acknowledging;
//! - `mend`: what follows from damage on the disk.

mod effect;
mod follower;
mod isr;
mod leader;
mod mend;
pub mod message;
#[cfg(test)]
mod model;
mod progress;
mod rules;
mod snapshot;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millrace_model::{BrokerEpoch, BrokerId, LeaderEpoch, Offset, PartitionEpoch, PartitionId};

pub use effect::{Effects, IsrRequest, Job};
use follower::Follower;
pub use isr::IsrOutcome;
use leader::Leader;
pub use leader::Outgoing;
use progress::{Match, Progress};
use rules::Omit;
pub use rules::Rules;
pub use snapshot::{FollowerState, ReplicaState, Role};

/// Time that this process really ran, since its start: a process that was stopped must not hold
/// its own absence against others.
pub type Moment = Duration;

/// Where a log begins and ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogBounds {
    /// The first offset that is there.
    pub log_start: Offset,
    /// The offset the next record gets.
    pub log_end: Offset,
    /// Everything below survives what the durability promises to survive.
    pub durable_end: Offset,
}

/// What the core asks of a log.
pub trait LogView {
    /// Where it begins and ends.
    fn bounds(&self) -> LogBounds;
    /// Epoch of its last record; `NONE` where there is none.
    fn last_epoch(&self) -> LeaderEpoch;
    /// The largest epoch of the log that is not beyond `epoch`, and where it ends; `NONE` if there
    /// is none.
    fn end_offset_for(&self, epoch: LeaderEpoch) -> (LeaderEpoch, Offset);
    /// Whether what is durable is synced.
    fn synced(&self) -> bool {
        true
    }
    /// Where it begins at the earliest after a power cut.
    fn durable_start(&self) -> Offset {
        self.bounds().log_start
    }
    /// The first offset that is damaged on the disk, if that is known of any.
    fn damaged_from(&self) -> Option<Offset> {
        None
    }
}

/// A broker as the image shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerView {
    /// Its incarnation.
    pub epoch: BrokerEpoch,
    /// Whether the controller has fenced it.
    pub fenced: bool,
    /// Whether it is in a controlled shutdown.
    pub shutting_down: bool,
    /// Whether any of its disks is slow: it joins an ISR only where too few are in it.
    pub slow: bool,
}

/// The brokers as the newest image shows them, and this one as the controller registered it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// This broker's incarnation; `None` before it is registered.
    pub own_epoch: Option<BrokerEpoch>,
    /// All brokers of the image.
    pub brokers: BTreeMap<BrokerId, PeerView>,
}

impl View {
    /// Whether the image knows this very incarnation of `me`; if not, it is too old to lead from.
    fn shows(&self, me: BrokerId) -> bool {
        let own = self.brokers.get(&me).map(|own| own.epoch);
        own.is_some() && own == self.own_epoch
    }
}

/// What the image asks of this replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Lead the partition.
    Lead(Lead),
    /// Follow its leader, if there is one.
    Follow(Follow),
}

impl Part {
    fn age(&self) -> (LeaderEpoch, PartitionEpoch) {
        match self {
            Part::Lead(lead) => (lead.epoch, lead.partition_epoch),
            Part::Follow(follow) => (follow.epoch, follow.partition_epoch),
        }
    }
}

/// A leadership as the image shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lead {
    /// The leadership.
    pub epoch: LeaderEpoch,
    /// Version of the partition's registration.
    pub partition_epoch: PartitionEpoch,
    /// Every replica, this one included.
    pub replicas: Vec<BrokerId>,
    /// The committed ISR.
    pub isr: Vec<BrokerId>,
    /// Replicas outside the ISR that could still be elected.
    pub elr: Vec<BrokerId>,
    /// `min.insync.replicas` as the controller resolved it.
    pub min_isr: usize,
    /// Whether fsync is asked for and the controller still counts the partition as page-cache.
    pub confirm_fsync: bool,
}

/// A leadership of somebody else as the image shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Follow {
    /// Who leads; nobody while none can.
    pub leader: Option<BrokerId>,
    /// The leadership.
    pub epoch: LeaderEpoch,
    /// Version of the partition's registration.
    pub partition_epoch: PartitionEpoch,
    /// Whether this replica is in the ISR or the ELR: others rely on what it keeps.
    pub counted_on: bool,
}

/// What a replica is at the moment.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) enum State {
    /// Nothing was asked of it yet, or no longer.
    Idle,
    /// Leads, or is about to.
    Leader(Box<Leader>),
    /// Follows.
    Follower(Follower),
    /// Its directory has failed; until the process starts again.
    Offline,
}

/// One replica.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub struct Core {
    id: PartitionId,
    me: BrokerId,
    rules: Rules,
    view: Arc<View>,
    bounds: LogBounds,
    /// Whether what is durable here is synced.
    synced: bool,
    high_watermark: Offset,
    state: State,
    /// The log must not be touched by anything else while a job that changes it runs.
    job: Option<Job>,
    /// What the image asked while that was not possible yet.
    waiting: Option<Part>,
    /// Joins of this replica so far; never reset while the process lives.
    rounds: u32,
}

impl Core {
    /// A replica whose log is yet to be opened.
    pub fn new(id: PartitionId, me: BrokerId, rules: Rules, view: Arc<View>) -> Core {
        Core {
            id,
            me,
            rules,
            view,
            bounds: LogBounds::default(),
            synced: false,
            high_watermark: Offset::ZERO,
            state: State::Idle,
            job: Some(Job::Open),
            waiting: None,
            rounds: 0,
        }
    }

    /// The log is open; `checkpoint` is the high watermark it remembers.
    pub fn opened(&mut self, log: &dyn LogView, checkpoint: Offset, now: Moment, fx: &mut Effects) {
        assert_eq!(self.job, Some(Job::Open), "a log is opened once");
        self.job = None;
        self.bounds = log.bounds();
        self.high_watermark = checkpoint
            .min(self.bounds.log_end)
            .max(self.bounds.log_start);
        self.take_waiting(log, now, fx);
        self.validate();
    }

    /// The image asks for this; older news than what is known are ignored (rule 16).
    pub fn assign(&mut self, part: Part, log: &dyn LogView, now: Moment, fx: &mut Effects) {
        if part.age() < self.age() {
            return;
        }
        self.waiting = Some(part);
        self.take_waiting(log, now, fx);
        self.validate();
    }

    /// Other brokers, or this one, changed in the image.
    pub fn set_view(&mut self, view: Arc<View>, log: &dyn LogView, now: Moment, fx: &mut Effects) {
        let own_changed = self.view.own_epoch != view.own_epoch;
        self.view = view;
        if own_changed && let State::Follower(follower) = &mut self.state {
            // The streams of the old incarnation are of no use.
            follower.detach();
        }
        let forget = !self.rules.omits(Omit::ForgetOnNewIncarnation);
        if let State::Leader(leader) = &mut self.state {
            fx.low_watermark_moved |= leader.see_peers(&self.view, forget);
        }
        self.take_waiting(log, now, fx);
        self.ask_for_isr(now, fx);
        self.validate();
    }

    /// The partition is gone from this broker. A job that runs is left to end.
    pub fn stop(&mut self, fx: &mut Effects) {
        self.waiting = None;
        self.become_state(State::Idle, fx);
    }

    /// The log's directory has failed.
    pub fn fail(&mut self, fx: &mut Effects) {
        self.waiting = None;
        self.become_state(State::Offline, fx);
    }

    /// The job ended well and the log is what `log` shows.
    pub fn job_done(&mut self, job: Job, log: &dyn LogView, now: Moment, fx: &mut Effects) {
        match job {
            Job::Open => unreachable!("a log that opens ends in `opened`"),
            Job::MakeDurable(epoch) => self.serve(epoch, log, now, fx),
            Job::Cut(_) | Job::Restart(_) => {
                assert_eq!(self.job, Some(job), "one job at a time");
                self.job = None;
                self.look_at(log);
                self.high_watermark = self.high_watermark.min(self.bounds.log_end);
                self.take_waiting(log, now, fx);
                self.rejoin_after_cut(log, fx);
            }
        }
        self.validate();
    }

    /// The log grew, or more of it is durable, or its start moved.
    pub fn log_moved(&mut self, log: &dyn LogView, now: Moment, fx: &mut Effects) {
        if matches!(self.job, Some(Job::Cut(_) | Job::Restart(_) | Job::Open)) {
            return;
        }
        let before = self.bounds;
        self.look_at(log);
        self.synced = log.synced();
        fx.durable_moved |= before.durable_end != self.bounds.durable_end;
        match &mut self.state {
            State::Leader(_) => self.leader_log_moved(before, now, fx),
            State::Follower(_) => self.acknowledge(log, fx),
            State::Idle | State::Offline => {}
        }
        self.validate();
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Moment, fx: &mut Effects) {
        self.ask_for_isr(now, fx);
    }

    /// Whether time alone may change something here, so that [`Core::tick`] must be called now and
    /// then: a leader has followers that lack something, or a request to repeat.
    pub fn needs_time(&self, now: Moment) -> bool {
        match &self.state {
            State::Leader(leader) => {
                leader.needs_time(self.bounds.log_end, self.high_watermark, now)
            }
            _ => false,
        }
    }

    /// Takes over where the log stands; what was deleted was committed.
    fn look_at(&mut self, log: &dyn LogView) {
        self.bounds = log.bounds();
        self.high_watermark = self.high_watermark.max(self.bounds.log_start);
    }

    fn age(&self) -> (LeaderEpoch, PartitionEpoch) {
        let current = match &self.state {
            State::Leader(leader) => (leader.epoch, leader.partition_epoch),
            State::Follower(follower) => (follower.epoch, follower.partition_epoch),
            State::Idle | State::Offline => (LeaderEpoch::NONE, PartitionEpoch(-1)),
        };
        let waiting = self.waiting.as_ref().map(Part::age);
        waiting.map_or(current, |waiting| waiting.max(current))
    }

    /// Does what the image asked, once nothing stands against it.
    fn take_waiting(&mut self, log: &dyn LogView, now: Moment, fx: &mut Effects) {
        if self.job.is_some() || matches!(self.state, State::Offline) {
            return;
        }
        // A broker that has restarted does not lead from the image on its disk (rule 1).
        if matches!(self.waiting, Some(Part::Lead(_))) && !self.view.shows(self.me) {
            return;
        }
        match self.waiting.take() {
            None => {}
            Some(Part::Lead(lead)) => match &mut self.state {
                State::Leader(leader) if leader.epoch == lead.epoch => {
                    self.leader_image(lead, now, fx);
                }
                _ => self.lead(lead, log, now, fx),
            },
            Some(Part::Follow(follow)) => match &mut self.state {
                State::Follower(follower)
                    if (follower.epoch, follower.leader) == (follow.epoch, follow.leader) =>
                {
                    follower.partition_epoch = follow.partition_epoch;
                    follower.counted_on = follow.counted_on;
                }
                _ => self.become_state(State::Follower(Follower::new(follow)), fx),
            },
        }
        self.mend(log, fx);
    }

    fn become_state(&mut self, next: State, fx: &mut Effects) {
        let legal = match (&self.state, &next) {
            (State::Offline, _) => false,
            (State::Leader(now), State::Leader(next)) => now.epoch < next.epoch,
            (State::Leader(now), State::Follower(next)) => now.epoch <= next.epoch,
            (State::Follower(now), State::Leader(next)) => now.epoch <= next.epoch,
            (State::Follower(now), State::Follower(next)) => now.epoch <= next.epoch,
            (State::Idle, _) | (_, State::Idle | State::Offline) => true,
        };
        if legal {
            self.state = next;
            fx.role_changed = true;
        }
    }

    /// This replica's partition.
    pub fn id(&self) -> PartitionId {
        self.id
    }

    /// Where its log begins and ends, as far as the core was told.
    pub fn bounds(&self) -> LogBounds {
        self.bounds
    }

    /// The high watermark: truth on a leader, a hint elsewhere.
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// Whom it follows, and at which epoch.
    pub fn following(&self) -> Option<(BrokerId, LeaderEpoch)> {
        match &self.state {
            State::Follower(follower) => follower.leader.map(|leader| (leader, follower.epoch)),
            _ => None,
        }
    }

    /// Whether its directory has failed.
    pub fn is_offline(&self) -> bool {
        matches!(self.state, State::Offline)
    }

    /// The epoch it knows, as leader or follower.
    pub fn epoch(&self) -> LeaderEpoch {
        match &self.state {
            State::Leader(leader) => leader.epoch,
            State::Follower(follower) => follower.epoch,
            State::Idle | State::Offline => LeaderEpoch::NONE,
        }
    }

    /// Whether a job keeps the log.
    pub fn is_busy(&self) -> bool {
        self.job.is_some()
    }

    /// What must always hold; checked after every change in debug builds and simulation.
    pub fn validate(&self) {
        if !cfg!(debug_assertions) || matches!(self.job, Some(Job::Open)) {
            return;
        }
        let LogBounds {
            log_start,
            log_end,
            durable_end,
        } = self.bounds;
        assert!(
            log_start <= log_end,
            "{}: log start beyond its end",
            self.id
        );
        assert!(
            durable_end <= log_end,
            "{}: more is durable than there is",
            self.id
        );
        assert!(
            self.high_watermark <= log_end,
            "{}: high watermark beyond the log",
            self.id
        );
        assert!(
            self.high_watermark >= log_start,
            "{}: high watermark below the log",
            self.id
        );
        if let State::Leader(leader) = &self.state {
            leader.validate(self.me, &self.bounds);
        }
        if let State::Follower(follower) = &self.state {
            follower.validate(&self.bounds, self.job);
        }
    }
}
