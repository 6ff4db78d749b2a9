//! Cluster state: the facts, the image they add up to, and the controller's decisions.
//!
//! Everything changes in one way. A *decision* (`decide`) is a pure function of an [`Image`] that
//! returns [`Record`]s and a reply. The records travel through the quorum's log as a [`Batch`], and
//! every node applies it with [`Image::apply`], the only writer of this state. Two images make a
//! [`Delta`], which is what a node acts upon.
//!
//! **A batch states the image it was decided on.** One decided on any other image than the one it
//! meets changes nothing, alike on every node, so a deposed controller's late proposal is harmless.
//! **The maps are persistent**: an image is a pointer to copy, and a batch costs what it changes.
//! No clock, no randomness, no I/O: decisions take them as arguments.

mod broker;
mod config;
pub mod decide;
mod delta;
mod feature;
mod image;
mod partition;
pub mod record;
mod sessions;

pub use broker::{Broker, Controller, Listener};
pub use config::{Resource, ResourceKind, names as config_names};
pub use decide::{Decision, Refusal};
pub use delta::{BrokerDelta, Delta, PartitionDelta};
pub use feature::{FeatureRange, SUPPORTED_FEATURES, names as feature_names};
pub use image::{ApplyError, Image, Load, SnapshotDecoder, SnapshotError, Topic};
pub use partition::{Partition, Recovery, UNASSIGNED_DIRECTORY};
pub use record::{Batch, DecodeError, PartitionChange, Record, UnknownFields};
pub use sessions::{Session, Sessions, silence};
