//! A partition's registration: who holds it, who is in sync, who leads.

use millrace_model::{BrokerId, DirectoryId, Durability, LeaderEpoch, PartitionEpoch, Uuid};

use crate::record::{PartitionChange, UnknownFields};

/// The replica's broker has yet to choose a directory (Kafka's `DirectoryId.UNASSIGNED`).
pub const UNASSIGNED_DIRECTORY: DirectoryId = DirectoryId(Uuid::ZERO);

/// Whether a leader was elected cleanly, or must still mend what an unclean election broke.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Recovery {
    /// The leader holds everything that was acknowledged.
    #[default]
    Recovered,
    /// The leader was elected although it may lack acknowledged records.
    Recovering,
}

/// A partition as the quorum has agreed on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partition {
    /// The brokers that hold it; the first is the preferred leader.
    pub replicas: Vec<BrokerId>,
    /// For each of `replicas` the directory it lies in.
    pub directories: Vec<DirectoryId>,
    /// The replicas that hold everything below the high watermark and follow.
    pub isr: Vec<BrokerId>,
    /// The eligible leader replicas (KIP-966): out of the ISR, yet known to hold everything below
    /// the high watermark, because it could not move since they left.
    pub elr: Vec<BrokerId>,
    /// When ISR and ELR are empty: who led last.
    pub last_known_elr: Vec<BrokerId>,
    /// Who leads, if anybody can.
    pub leader: Option<BrokerId>,
    /// Raised by every change of leader, and when a leadership must not be mistaken for an older.
    pub leader_epoch: LeaderEpoch,
    /// Raised by every change of this registration.
    pub partition_epoch: PartitionEpoch,
    /// Whether the leader was elected cleanly.
    pub recovery: Recovery,
    /// Replicas that a reassignment brings.
    pub adding: Vec<BrokerId>,
    /// Replicas that a reassignment takes away once the added ones are in sync.
    pub removing: Vec<BrokerId>,
    /// What all acknowledgements that the ISR stands for have meant. After a change of the setting
    /// to fsync it stays at page-cache until the leader confirms that the ISR holds its log durably.
    pub durability: Durability,
    /// What a newer release wrote and this build does not understand.
    pub unknown: UnknownFields,
}

impl Partition {
    /// The directory recorded for `broker`'s replica; `None` if it holds none.
    pub fn directory(&self, broker: BrokerId) -> Option<DirectoryId> {
        let place = self.replicas.iter().position(|r| *r == broker)?;
        self.directories.get(place).copied()
    }

    /// Who should lead when all is well.
    pub fn preferred_leader(&self) -> Option<BrokerId> {
        self.replicas.first().copied()
    }

    /// Whether a reassignment is under way.
    pub fn is_reassigning(&self) -> bool {
        !self.adding.is_empty() || !self.removing.is_empty()
    }

    /// This registration after `change`; epochs are taken as they stand in it.
    #[must_use]
    pub fn changed_by(&self, change: &PartitionChange) -> Partition {
        let pick =
            |new: &Option<Vec<BrokerId>>, old: &Vec<BrokerId>| new.as_ref().unwrap_or(old).clone();
        Partition {
            replicas: pick(&change.replicas, &self.replicas),
            directories: change
                .directories
                .as_ref()
                .unwrap_or(&self.directories)
                .clone(),
            isr: pick(&change.isr, &self.isr),
            elr: pick(&change.elr, &self.elr),
            last_known_elr: pick(&change.last_known_elr, &self.last_known_elr),
            leader: change.leader.unwrap_or(self.leader),
            leader_epoch: change.leader_epoch,
            partition_epoch: change.partition_epoch,
            recovery: change.recovery.unwrap_or(self.recovery),
            adding: pick(&change.adding, &self.adding),
            removing: pick(&change.removing, &self.removing),
            durability: change.durability.unwrap_or(self.durability),
            unknown: self.unknown.merged_with(&change.unknown),
        }
    }
}
