//! What replication is given, and what it asks of the rest of the broker.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use millrace_host::Host;
use millrace_model::{
    BrokerEpoch, BrokerId, DirectoryId, Durability, LeaderEpoch, PartitionEpoch, PartitionId,
    TopicName,
};
use millrace_rpc::Channels;
use millrace_storage::{LogSettings, Store};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::replicas::Events;

/// What [`crate::Replicas::start`] needs.
pub struct ReplicaOptions {
    /// This broker.
    pub node: BrokerId,
    /// Network, disk, time, randomness and tasks.
    pub host: Host,
    /// The logs; opened with the same `events`.
    pub store: Store,
    /// What the store tells.
    pub events: Arc<Events>,
    /// Connections to other brokers.
    pub channels: Channels,
    /// The way to the controller.
    pub link: Arc<dyn ControllerLink>,
    /// Times and sizes.
    pub settings: ReplicaSettings,
}

/// Times and sizes.
#[derive(Clone, Copy, Debug)]
pub struct ReplicaSettings {
    /// `replica.lag.time.max.ms`.
    pub lag_max: Duration,
    /// `broker.session.timeout.ms`.
    pub session_timeout: Duration,
    /// Bytes that may be on their way to a follower broker by its live stream.
    pub live_window_bytes: u64,
    /// The same for its catch-up stream.
    pub catch_up_window_bytes: u64,
    /// Bytes of one partition that go into a message before the next partition has its turn.
    pub chunk_bytes: usize,
    /// Bytes of batches after which a message leaves.
    pub message_bytes: usize,
    /// How long a moved high watermark may wait for batches to travel with.
    pub advance_delay: Duration,
}

impl Default for ReplicaSettings {
    fn default() -> ReplicaSettings {
        ReplicaSettings {
            lag_max: Duration::from_secs(30),
            session_timeout: Duration::from_secs(1),
            live_window_bytes: 32 << 20,
            catch_up_window_bytes: 8 << 20,
            chunk_bytes: 1 << 20,
            message_bytes: 1 << 20,
            advance_delay: Duration::from_millis(3),
        }
    }
}

/// A change of an ISR that a leader asks for (rules 5 and 10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsrChange {
    /// Which partition.
    pub id: PartitionId,
    /// The leadership it is made under.
    pub leader_epoch: LeaderEpoch,
    /// The state it is based on.
    pub partition_epoch: PartitionEpoch,
    /// The new ISR, each member with the incarnation that caught up. The same ISR as before asks
    /// for nothing but a new partition epoch: it withdraws an addition asked for earlier.
    pub isr: Vec<(BrokerId, BrokerEpoch)>,
    /// Every member keeps, synced, all that was there when fsync was asked for.
    pub confirms_fsync: bool,
}

/// The controller, as replication needs it.
pub trait ControllerLink: Send + Sync + 'static {
    /// Asks for changes; for each, in their order, whether it was granted. A change that nobody
    /// answered counts as not granted, although it may still be.
    fn alter_partitions(&self, changes: Vec<IsrChange>) -> BoxFuture<'static, Vec<bool>>;
    /// When this broker last knew everything that the controller knew.
    fn known_until(&self) -> Instant;
    /// Whether the controller answers this broker. As long as it does, nobody is told in vain that
    /// this broker lives: the controller knows.
    fn in_touch(&self) -> watch::Receiver<bool> {
        watch::channel(false).1
    }
    /// The log of a replica is open, and lies in this directory; the controller should know if it
    /// believes otherwise. Must be short.
    fn opened(&self, id: PartitionId, directory: DirectoryId) {
        let _ = (id, directory);
    }
    /// A log directory has become short of space or slow, or is so no more; others had better lead
    /// what is there. Must be short.
    fn condition_changed(&self) {}
    /// The log of a replica is damaged on its disk: whether it was taken out of ISR and ELR, where
    /// another one can take its place. A leader leads no more then; what follows is told by images.
    fn replica_damaged(&self, id: PartitionId, epoch: LeaderEpoch) -> BoxFuture<'static, bool> {
        let _ = (id, epoch);
        Box::pin(std::future::ready(false))
    }
    /// A log directory has failed: the controller must know.
    fn directory_failed(&self, directory: DirectoryId, why: &str);
}

/// What the image asks of one replica.
#[derive(Clone, Debug)]
pub enum Assignment {
    /// Lead it.
    Lead(Leadership),
    /// Follow its leader.
    Follow(Following),
    /// It is no longer on this broker.
    Stop {
        /// Which partition.
        id: PartitionId,
        /// Whether its log goes too.
        delete: bool,
    },
}

/// A leadership.
#[derive(Clone, Debug)]
pub struct Leadership {
    /// Which partition.
    pub id: PartitionId,
    /// Of this topic.
    pub topic: TopicName,
    /// The leadership's epoch.
    pub leader_epoch: LeaderEpoch,
    /// The version of the registration.
    pub partition_epoch: PartitionEpoch,
    /// Every replica.
    pub replicas: Vec<BrokerId>,
    /// The committed ISR.
    pub isr: Vec<BrokerId>,
    /// Eligible leader replicas.
    pub elr: Vec<BrokerId>,
    /// `min.insync.replicas` as the controller resolved it.
    pub min_isr: usize,
    /// What the controller counts the acknowledgements of the ISR as; it is told when a change to
    /// fsync has come true.
    pub durability: Durability,
    /// The directory where the replica is on record; none where this broker has yet to choose.
    pub directory: Option<DirectoryId>,
    /// Whose traffic is limited while they are not in sync.
    pub throttled: Throttled,
    /// Settings of the log.
    pub settings: LogSettings,
}

/// Following somebody else's leadership.
#[derive(Clone, Debug)]
pub struct Following {
    /// Which partition.
    pub id: PartitionId,
    /// Of this topic.
    pub topic: TopicName,
    /// Who leads, if anybody can.
    pub leader: Option<BrokerId>,
    /// The leadership's epoch.
    pub leader_epoch: LeaderEpoch,
    /// The version of the registration.
    pub partition_epoch: PartitionEpoch,
    /// Every replica.
    pub replicas: Vec<BrokerId>,
    /// The committed ISR.
    pub isr: Vec<BrokerId>,
    /// The directory where the replica is on record; none where this broker has yet to choose.
    pub directory: Option<DirectoryId>,
    /// Eligible leader replicas.
    pub elr: Vec<BrokerId>,
    /// Settings of the log.
    pub settings: LogSettings,
}

/// Which traffic of a partition is limited, as its topic's settings name it. What follows in sync
/// is never limited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Throttled {
    /// What this broker sends of it (`leader.replication.throttled.replicas`).
    pub leading: bool,
    /// What these receive of it (`follower.replication.throttled.replicas`).
    pub followers: Vec<BrokerId>,
}

/// The limits of throttled traffic, in bytes a second; what has none is not limited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Throttles {
    /// Of all that this broker sends of partitions whose leader is throttled
    /// (`leader.replication.throttled.rate`).
    pub leading: Option<u64>,
    /// Of what this broker sends each of these: its share of their limits
    /// (`follower.replication.throttled.rate`).
    pub followers: BTreeMap<BrokerId, u64>,
}
