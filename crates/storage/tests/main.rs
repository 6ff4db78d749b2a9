//! Tests of the store from outside.

#![allow(clippy::unwrap_used)] // Helpers outside of test functions unwrap as tests do.

mod compaction;
mod crash;
mod damage;
mod failures;
mod kafka;
mod moving;
mod retention;
mod starts;
mod store;
mod support;
mod tails;
