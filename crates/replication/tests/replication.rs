//! Whole replicas of a few brokers in one process: real logs, real sockets over loopback, and a
//! controller in memory. Covered is what the core's own tests cannot see: streams, lanes,
//! catching up from the disk, and the order in which all of it happens.

#![allow(clippy::unwrap_used)] // Helpers outside of test functions unwrap as tests do.

#[path = "replication/catching_up.rs"]
mod catching_up;
#[path = "replication/cluster.rs"]
mod cluster;
#[path = "replication/committing.rs"]
mod committing;
#[path = "replication/controller.rs"]
mod controller;
#[path = "replication/deleting.rs"]
mod deleting;
#[path = "replication/disk.rs"]
mod disk;
#[path = "replication/leaders.rs"]
mod leaders;
#[path = "replication/network.rs"]
mod network;
#[path = "replication/records.rs"]
mod records;
