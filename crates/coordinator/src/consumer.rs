//! Groups of the consumer protocol (KIP-848): the coordinator computes who owns what, and members
//! move towards it one heartbeat at a time.
//!
//! A heartbeat goes through these steps, each in its file:
//!
//! 1. `heartbeat`: is the request sound, and who speaks? (`find`; `upgrade` where the group is still
//!    a classic one)
//! 2. What the member says of itself becomes a record; expressions are resolved (`expressions`); the
//!    group's epoch grows if subscriptions or topics changed (`work`, `epoch`).
//! 3. The target of that epoch is computed (`target`, [`crate::assignor`]).
//! 4. The member takes one step towards its target (`reconcile`).
//!
//! Members of the classic protocol take the same steps by JoinGroup (`classic_join`), and ask by
//! Heartbeat and SyncGroup how things stand (`classic_member`). When none but they are left, the group
//! becomes a classic one (`downgrade`).
//!
//! Epochs, as in Kafka: the *group's* grows with each change of what a target depends on; the
//! *assignment's* says which of them the target was computed for; a *member's* says which target it
//! has reached, or is on the way to.

mod classic_join;
mod classic_member;
mod describe;
mod downgrade;
mod embedded;
mod epoch;
mod expire;
mod expressions;
mod find;
mod heartbeat;
mod leave;
mod member;
mod offsets;
mod reconcile;
mod records;
mod replay;
mod soft;
mod state;
mod target;
#[cfg(test)]
mod tests;
mod upgrade;
mod work;

pub(crate) use classic_join::join;
pub(crate) use classic_member::{heartbeat as classic_heartbeat, sync};
pub(crate) use describe::describe;
pub(crate) use epoch::TopicHashes;
pub(crate) use expire::{expire, loaded};
pub(crate) use heartbeat::heartbeat;
pub(crate) use leave::leave;
pub(crate) use replay::replay;
pub(crate) use soft::Soft;
pub(crate) use state::State;
