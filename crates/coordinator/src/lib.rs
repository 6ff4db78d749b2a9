//! Group, transaction and share coordinators as state machines over a partition of an internal
//! topic. This crate knows no log, no network and no clock.
//!
//! - [`Shard`]: the contract. A coordinator decides; its records are appended elsewhere; its
//!   replicated state changes only when they are applied.
//! - [`group`]: what consumer groups are asked and remember: [`group::Request`],
//!   [`group::Response`], [`group::Record`] (the bytes of `__consumer_offsets`),
//!   [`group::Settings`], and the cluster's topics as a [`group::View`].
//! - [`assignor`] and [`regex`]: who gets which partition, and which topics an expression means.
//! - [`Groups`]: the shard that holds every group of one partition of `__consumer_offsets`.
//!
//! # How a request flows
//!
//! 1. The broker finds the partition of the group ([`group::partition_of`]) and, if it leads it and
//!    has loaded it, gives [`Input::Request`] to its [`Groups`].
//! 2. `groups.rs` looks up what the group is, and calls the one file of the verb: `group/join.rs`,
//!    `group/commit.rs`, ... for what classic groups and offsets do, `consumer/...` for groups of the
//!    consumer protocol (KIP-848). A verb gets the replicated state read-only, soft state to change
//!    (timers, waiting callers), and a context: the time, the settings, the cluster's topics.
//! 3. It returns [`Effects`]: records, and answers. A JoinGroup may get its answer many inputs later,
//!    from the decision that completes the rebalance.
//! 4. The broker appends the records as one batch, calls [`Shard::replay`] for each with its offset,
//!    and sends the answers when the high watermark has passed the end of the log.
//! 5. It calls [`Input::Tick`] at [`Shard::next_deadline`]: sessions that end, rebalances that
//!    have waited long enough, offsets that expire.
//!
//! A new leader reads the log, gives each record to [`Shard::replay`] (and the markers of
//! transactions to [`Shard::replay_marker`]), then [`Input::Loaded`], and serves.
//!
//! # Invariants
//!
//! - **A generation or epoch of a group never goes back**, and no partition belongs to two members in
//!   one of them.
//! - **A committed offset is never lost and never rewound** but by a caller who asks for it, or by
//!   its age in a group without members.
//! - **Replaying any prefix of the log gives the state its leader had** at that point.
//! - **What a group may hold is bounded** (`model::limits`), however its members behave.

pub mod assignor;
mod consumer;
pub mod group;
mod groups;
pub mod regex;
mod shard;
mod wire;

pub use groups::Groups;
pub use shard::{Effects, Input, Marker, Now, Origin, ReplyTo, Shard};
