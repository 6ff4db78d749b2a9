//! Starts, breaks and inspects clusters of real processes; only tests use it.
//!
//! The same harness drives Millrace and stock Kafka ([`System`]), so that a scenario, and the
//! checker that judges it, can be shown to work before it is pointed at our own brokers. Nothing
//! here waits for time to pass where it can wait for a state ([`wait`]). Failures panic with what
//! was expected, since the caller is always a test.

pub mod admin;
pub mod batch;
pub mod cluster;
pub mod guardian;
pub mod history;
pub mod links;
pub mod ports;
pub mod process;
pub mod properties;
pub mod replicas;
pub mod resources;
pub mod system;
pub mod wait;
pub mod wire;

pub use cluster::{Cluster, Options};
pub use links::Links;
pub use process::Process;
pub use properties::Properties;
pub use system::System;
pub use wire::Wire;
