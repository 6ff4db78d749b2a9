//! The broker: the only crate that knows both Kafka's clients and the cluster.
//!
//! - [`api`]: the table of Kafka APIs, one file each, and what a handler is given;
//! - [`config`]: every property Kafka knows, as one table;
//! - [`connection`], [`listener`]: from sockets to requests and back;
//! - [`mod@format`]: a directory learns which cluster and node it belongs to;
//! - [`http`], [`metrics`]: what operators look at;
//! - [`node`]: what the handlers of one broker share;
//! - [`reconcile`]: from images of the cluster to what the replicas here shall do;
//! - [`broker`]: how a node starts and ends.

pub mod api;
pub mod broker;
pub mod config;
pub mod connection;
pub mod coordinator;
pub mod format;
pub mod http;
pub mod listener;
pub mod metrics;
pub mod node;
mod producer_ids;
pub mod reconcile;

pub use broker::{Broker, StartError};
pub use config::Config;
pub use millrace_host::{Host, Tasks};
