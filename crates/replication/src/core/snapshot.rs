//! What a replica tells about itself.

use millrace_model::{BrokerId, LeaderEpoch, Offset, PartitionEpoch};

use super::{Core, Moment, State};

/// What a replica is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Not assigned, or not yet able to do what it was assigned.
    Idle,
    /// Leads; serves only if the flag says so.
    Leader {
        /// Whether it appends and answers.
        serving: bool,
    },
    /// Follows this broker, or nobody while there is no leader.
    Follower(Option<BrokerId>),
    /// Its directory has failed.
    Offline,
}

/// A follower as its leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowerState {
    /// Which broker.
    pub broker: BrokerId,
    /// Everything below is durable there; `None` before it said so.
    pub durable_end: Option<Offset>,
    /// Offsets between the leader's log end and the follower's.
    pub lag: i64,
    /// How long ago it had everything.
    pub behind_for: Moment,
    /// Whether it is in the committed ISR.
    pub in_sync: bool,
}

/// One replica at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaState {
    /// What it is.
    pub role: Role,
    /// The leader epoch it knows; `NONE` while idle.
    pub leader_epoch: LeaderEpoch,
    /// The first offset of its log.
    pub log_start: Offset,
    /// The offset the next record gets.
    pub log_end: Offset,
    /// Everything below is durable here.
    pub durable_end: Offset,
    /// The high watermark it knows.
    pub high_watermark: Offset,
    /// Consumers that read committed see no further.
    pub last_stable: Offset,
    /// On a leader: the version of the partition's registration.
    pub partition_epoch: PartitionEpoch,
    /// On a leader: every replica.
    pub replicas: Vec<BrokerId>,
    /// On a leader: the committed ISR.
    pub isr: Vec<BrokerId>,
    /// On a leader: `min.insync.replicas` as resolved for the partition.
    pub min_isr: usize,
    /// On a leader: the followers.
    pub followers: Vec<FollowerState>,
}

impl Core {
    /// Everything at once.
    pub fn snapshot(&self, now: Moment) -> ReplicaState {
        let mut state = ReplicaState {
            role: self.role(),
            leader_epoch: self.epoch(),
            log_start: self.bounds.log_start,
            log_end: self.bounds.log_end,
            durable_end: self.bounds.durable_end,
            high_watermark: self.high_watermark,
            last_stable: self.last_stable(),
            partition_epoch: PartitionEpoch(-1),
            replicas: Vec::new(),
            isr: Vec::new(),
            min_isr: 0,
            followers: Vec::new(),
        };
        if let State::Leader(leader) = &self.state {
            let follower = |follower: &super::Progress| FollowerState {
                broker: follower.id,
                durable_end: follower.durable_end,
                lag: self.bounds.log_end.0 - follower.durable_end.map_or(0, Offset::get),
                behind_for: match follower.durable_end == Some(self.bounds.log_end) {
                    true => Moment::ZERO,
                    false => now.saturating_sub(follower.caught_up),
                },
                in_sync: leader.isr.contains(&follower.id),
            };
            state.partition_epoch = leader.partition_epoch;
            state.replicas.clone_from(&leader.replicas);
            state.isr.clone_from(&leader.isr);
            state.min_isr = leader.min_isr;
            state.followers = leader.followers.iter().map(follower).collect();
        }
        state
    }

    /// What it is.
    pub fn role(&self) -> Role {
        match &self.state {
            State::Idle => Role::Idle,
            State::Leader(_) => Role::Leader {
                serving: self.serving().is_some(),
            },
            State::Follower(follower) => Role::Follower(follower.leader),
            State::Offline => Role::Offline,
        }
    }

    /// Consumers that read committed see no further; equals the high watermark until there are
    /// transactions.
    pub fn last_stable(&self) -> Offset {
        self.high_watermark
    }

    /// On a leader: whether the high watermark has passed what earlier leaders may have shown.
    pub fn is_settled(&self) -> bool {
        match &self.state {
            State::Leader(leader) => self.high_watermark >= leader.epoch_start,
            _ => true,
        }
    }

    /// On a leader: members of the committed ISR, and how many acks=all asks for.
    pub fn isr_and_min(&self) -> (usize, usize) {
        match &self.state {
            State::Leader(leader) => (leader.isr.len(), leader.min_isr),
            _ => (0, 0),
        }
    }

    /// On a leader: whether this follower is in the committed ISR.
    pub fn is_in_sync(&self, follower: BrokerId) -> bool {
        match &self.state {
            State::Leader(leader) => leader.isr.contains(&follower),
            _ => false,
        }
    }

    /// On a leader: the other members of the committed ISR.
    pub fn others_in_sync(&self) -> impl Iterator<Item = BrokerId> {
        let isr: &[BrokerId] = match &self.state {
            State::Leader(leader) => &leader.isr,
            _ => &[],
        };
        isr.iter().copied().filter(|id| *id != self.me)
    }

    /// On a leader: whether somebody else could be elected (rule 1).
    pub fn is_replaceable(&self) -> bool {
        match &self.state {
            State::Leader(leader) => leader.is_replaceable(self.me),
            _ => false,
        }
    }
}
