//! The broker: the only crate that knows both Kafka's clients and the cluster.
//!
//! - [`api`]: the table of Kafka APIs, one file each, and what a handler is given;
//! - [`config`]: every property Kafka knows, as one table;
//! - [`connection`], [`listener`]: from sockets to requests and back;
//! - [`mod@format`]: a directory learns which cluster and node it belongs to;
//! - [`http`], [`metrics`]: what operators look at;
//! - [`node`]: what the handlers of one broker share.

pub mod api;
pub mod config;
pub mod connection;
pub mod format;
pub mod http;
pub mod listener;
pub mod metrics;
pub mod node;

pub use config::Config;
