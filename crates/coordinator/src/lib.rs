//! Group, transaction and share coordinators as state machines over a partition of an internal
//! topic.
//!
//! This crate knows no log, no network and no clock. A coordinator is a [`Shard`]: it decides, its
//! records are appended elsewhere, and its replicated state changes only when they are applied.
//! So far it holds the contract alone; brokers answer COORDINATOR_NOT_AVAILABLE.

pub mod assignor;
pub mod regex;
mod shard;

pub use shard::{Effects, Input, ReplyTo, Shard};
