//! Consumer groups: their vocabulary, and one file for each verb.

pub(crate) mod classic;
pub(crate) mod commit;
pub(crate) mod delete;
pub(crate) mod describe;
pub(crate) mod expire;
pub(crate) mod fetch;
pub(crate) mod heartbeat;
mod id;
pub(crate) mod join;
pub(crate) mod leave;
pub(crate) mod list;
pub(crate) mod offsets;
mod record;
mod refuse;
mod request;
mod settings;
pub(crate) mod state;
pub(crate) mod sync;
mod tally;
pub(crate) mod timers;
pub(crate) mod topics;

pub use id::{GroupId, InstanceId, MemberId};
pub use offsets::Committed;
pub use record::{Record, RecordError};
pub use refuse::{append_failure, refused};
pub use request::{Call, Caller, Notice, Request, Response};
pub use settings::{GroupSettings, MigrationPolicy, Settings};
pub use tally::{Counters, States};
pub use topics::{Topic, Topics, View};

/// The partition of `__consumer_offsets` that a group belongs to, among `partitions`.
///
/// # Panics
/// If there are no partitions.
pub fn partition_of(group: &str, partitions: i32) -> i32 {
    millrace_protocol::hash::partition_for_group(group, partitions)
}
