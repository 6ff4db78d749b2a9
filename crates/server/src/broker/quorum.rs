//! Starts this node's part in the metadata quorum.

use std::sync::Arc;
use std::time::Duration;

use millrace_metadata::{Controller, FeatureRange, Listener, config_names};
use millrace_quorum::{
    Balance, Bootstrap, ForwardHandler, Place, Quorum, QuorumOptions, Timing, Voter,
};

use super::StartError;
use super::start::Parts;
use crate::config::{Config, Endpoint};

/// The number of PLAINTEXT among Kafka's security protocols.
const PLAINTEXT: i16 = 0;

/// Starts it; it finds the others by itself.
///
/// # Errors
/// If the metadata on disk is damaged or another cluster's.
pub(super) async fn start(
    parts: &Parts,
    forward: Arc<dyn ForwardHandler>,
) -> Result<Quorum, StartError> {
    let config = &parts.config;
    let servers = config.quorum_bootstrap_servers.iter();
    let options = QuorumOptions {
        voters: voters(parts),
        bootstrap_servers: servers
            .map(|(host, port)| Place {
                host: host.clone(),
                port: *port,
            })
            .collect(),
        is_controller: config.is_controller,
        place: place(parts),
        metadata_dir: config.metadata_log_dir.clone(),
        host: parts.host.clone(),
        channels: parts.channels.clone(),
        timing: Timing::default(),
        session_timeout: config.session_timeout,
        heartbeat_interval: config.heartbeat_interval,
        balance: config
            .leader_rebalance_interval
            .map(|interval| balance(config, interval)),
        bootstrap: bootstrap(parts),
        registration: config.is_controller.then(|| registration(parts)),
        forward,
    };
    let started = Quorum::start(options).await;
    started.map_err(|error| StartError(error.to_string()))
}

/// The voters that the configuration names, else those the quorum was formatted with.
fn voters(parts: &Parts) -> Vec<Voter> {
    let configured = parts.config.quorum_voters.iter().map(|voter| Voter {
        id: voter.id,
        place: Place {
            host: voter.host.clone(),
            port: voter.port,
        },
        directory: None,
    });
    let formatted = &parts.directories.bootstrap.controllers;
    let formatted = formatted.iter().map(|controller| Voter {
        id: controller.id,
        place: Place {
            host: controller.host.clone(),
            port: controller.port,
        },
        directory: Some(controller.directory),
    });
    match parts.config.quorum_voters.is_empty() {
        true => formatted.collect(),
        false => configured.collect(),
    }
}

fn balance(config: &Config, interval: Duration) -> Balance {
    let percentage = config
        .settings
        .value("leader.imbalance.per.broker.percentage");
    Balance {
        interval,
        percentage: percentage.and_then(|text| text.parse().ok()).unwrap_or(10),
    }
}

/// What a new cluster begins with: the features it was formatted with, and the settings of
/// replication that must hold for all brokers alike.
fn bootstrap(parts: &Parts) -> Bootstrap {
    let settings = &parts.config.settings;
    let names = [
        config_names::MIN_INSYNC_REPLICAS,
        config_names::UNCLEAN_LEADER_ELECTION,
        config_names::DURABILITY,
        config_names::LOG_FLUSH_INTERVAL_MESSAGES,
    ];
    let given = names.into_iter().filter_map(|name| {
        let (value, _) = settings.given(name)?;
        Some((name.to_owned(), value.to_owned()))
    });
    Bootstrap {
        features: parts.directories.bootstrap.features.clone(),
        settings: given.collect(),
    }
}

/// Where the others of the quorum reach this node.
fn place(parts: &Parts) -> Place {
    let config = &parts.config;
    let is_controllers = |e: &&Endpoint| config.controller_listeners.contains(&e.name);
    let of_brokers = |e: &&Endpoint| e.name == config.inter_broker_listener;
    let mut all = config.advertised_listeners.iter();
    let endpoint = match config.is_controller {
        true => all.find(is_controllers),
        false => all.find(of_brokers),
    };
    let name = endpoint.map(|e| e.name.as_str()).unwrap_or_default();
    let host = endpoint.map(|e| e.host.as_str()).unwrap_or_default();
    let port = endpoint.map_or(0, |endpoint| match endpoint.port {
        0 => bound_port(parts, name),
        port => port,
    });
    Place {
        host: reachable(host),
        port,
    }
}

fn bound_port(parts: &Parts, listener: &str) -> u16 {
    let bound = parts.bound.iter().find(|bound| bound.name == listener);
    bound.map_or(0, |bound| bound.port)
}

/// A host that others can connect to; an address of all interfaces is reached as this machine.
pub(super) fn reachable(host: &str) -> String {
    match host {
        "" | "0.0.0.0" | "::" => "localhost".to_owned(),
        host => host.to_owned(),
    }
}

fn registration(parts: &Parts) -> Controller {
    let config = &parts.config;
    let listeners = config
        .advertised_listeners
        .iter()
        .filter(|endpoint| config.controller_listeners.contains(&endpoint.name))
        .map(|endpoint| listener(endpoint, place(parts).port));
    Controller {
        id: config.node_id,
        incarnation: parts.identity.incarnation,
        listeners: listeners.collect(),
        features: FeatureRange::supported(),
        unknown: Default::default(),
    }
}

/// A listener as the image knows it; `port` stands for one that the system chose.
pub(super) fn listener(endpoint: &Endpoint, port: u16) -> Listener {
    Listener {
        name: endpoint.name.clone(),
        host: reachable(&endpoint.host),
        port: match endpoint.port {
            0 => port,
            port => port,
        },
        security_protocol: PLAINTEXT,
    }
}
