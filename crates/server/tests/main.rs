//! Tests of a whole node from outside, over its sockets.

#![allow(clippy::unwrap_used)] // Helpers outside of test functions unwrap as tests do.

mod configs;
mod consumer_groups;
mod describe_cluster;
mod groups;
mod log_dirs;
mod metadata;
mod producing;
mod quorum;
mod records;
mod support;
mod topics;
mod versions;
