//! Keeps the replicas of partitions in sync.
//!
//! - [`core`] decides: one replica as a pure state machine, checked against the invariants by a
//!   walk over real cores;
//! - [`Replica`] is a core behind one short lock with its log: appending, reading, waiting;
//! - [`Replicas`] holds all of a broker and is told of images, durable records and time;
//! - `push` serves followers: one session a broker, batches as they arrive, from memory; what is
//!   no longer there goes by a second call with a budget of its own;
//! - `pull` follows leaders: one link a broker.
//!
//! **What must hold**
//! - No decision is taken outside the core, and none while an await is pending.
//! - The committed ISR comes from images alone.
//! - A message costs what changed, not how many partitions its stream serves.
//! - This crate does not know the metadata: it is told to lead, follow or stop, in plain words.

mod clock;
pub mod core;
mod ends;
mod failure;
mod metrics;
mod options;
mod pull;
mod push;
mod replica;
mod replicas;
mod shared;
mod throttle;
mod waiting;
mod wire;

pub use core::{FollowerState, PeerView, ReplicaState, Role};
pub use failure::{AppendFailure, ReadFailure};
pub use metrics::ReplicationMetrics;
pub use options::{
    Assignment, ControllerLink, Following, IsrChange, Leadership, ReplicaOptions, ReplicaSettings,
    Throttled, Throttles,
};
pub use replica::{Acks, DeleteFailure, OffsetsView, ReadRequest, ReadResult, Replica, Upper};
pub use replicas::{ClusterView, Events, Replicas};
pub use waiting::Waiter;
