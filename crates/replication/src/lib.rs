//! Keeps the replicas of partitions in sync.
//!
//! - [`core`] decides: one replica as a pure state machine, checked against the invariants.

pub mod core;
