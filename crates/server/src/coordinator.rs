//! Drives coordinators: shards that decide, over partitions of an internal topic that remember.
//!
//! - [`Family`] says what one kind of coordinator is made of;
//! - a [`Coordinator`] runs a driver for each partition of the topic that this broker leads, and
//!   hands requests to them;
//! - a `driver` loads the shard from the log, takes decisions in turn, appends what they remember,
//!   and answers when the high watermark covers it;
//! - at its `desk` it meets its task and callers: most requests go by a queue to the task, brief ones
//!   are decided by whoever brings them;
//! - a [`Journal`] is the partition as a driver sees it.
//!
//! **What must hold**
//! - One shard for a leadership: a record is appended only in the epoch that the shard was loaded
//!   in, so no other leader's records lie between what it knows and what it writes.
//! - A record changes the shard only once the log has given it an offset; nobody is answered before
//!   the high watermark covers what the answer was decided on.
//! - A driver waits for no batch before it takes the next decision.

mod batch;
mod desk;
mod driver;
mod family;
mod groups;
mod journal;
mod load;
mod running;

#[cfg(test)]
mod tests;

pub use driver::DriverOptions;
pub use family::{Encoded, Family};
pub use groups::{GroupMeasures, Groups};
pub use journal::{Journal, Lost, ReadFault, ReplicaJournal, Standing};
pub use running::{Coordinator, CoordinatorParts};
