//! The settings of one broker.

use std::path::PathBuf;

use millrace_model::BrokerId;

/// What one broker was told at its start.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// `node.id`.
    pub node_id: BrokerId,
    /// Whether `process.roles` names `broker`.
    pub is_broker: bool,
    /// Whether `process.roles` names `controller`.
    pub is_controller: bool,
    /// `listeners`, in their order.
    pub listeners: Vec<Endpoint>,
    /// `advertised.listeners`, or what stands for it.
    pub advertised_listeners: Vec<Endpoint>,
    /// `inter.broker.listener.name`.
    pub inter_broker_listener: String,
    /// `controller.listener.names`.
    pub controller_listeners: Vec<String>,
    /// `log.dirs`.
    pub log_dirs: Vec<PathBuf>,
}

/// A listener's name and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// For instance `PLAINTEXT` or `CONTROLLER`.
    pub name: String,
    /// A name or an address; empty for all addresses of the machine.
    pub host: String,
    /// 0 lets the system choose.
    pub port: u16,
}
