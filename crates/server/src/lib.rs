//! The broker: the only crate that knows both Kafka's clients and the cluster.
//!
//! - [`api`]: the table of Kafka APIs, one file each, and what a handler is given;
//! - [`config`]: every property Kafka knows, as one table;
//! - [`node`]: what the handlers of one broker share.

pub mod api;
pub mod config;
pub mod node;

pub use config::Config;
