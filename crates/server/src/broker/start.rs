//! Puts a node together.

use std::sync::{Arc, OnceLock};

use millrace_host::Host;
use millrace_model::Incarnation;
use millrace_model::limits::MAX_REQUEST_BYTES_IN_FLIGHT;
use millrace_quorum::{BrokerSession, Quorum};
use millrace_rpc::{Channels, Identity, PeerServer};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::forward::Forwarding;
use super::health::NodeHealth;
use super::listeners::{self, Bound, Serving};
use super::{Broker, StartError, logs, quorum, watchers};
use crate::api::{ListenerKind, TABLE};
use crate::config::Config;
use crate::connection::memory::RequestMemory;
use crate::format::{self, Formatted};
use crate::http;
use crate::listener::ConnectionCount;
use crate::metrics::Metrics;
use crate::node::Node;

/// What every part of a starting node is made with.
pub(super) struct Parts {
    pub(super) config: Config,
    pub(super) host: Host,
    pub(super) directories: Formatted,
    pub(super) identity: Identity,
    pub(super) channels: Channels,
    pub(super) bound: Vec<Bound>,
}

/// The tokens and channels that hold a running node together.
pub(super) struct Strings {
    pub(super) closing: CancellationToken,
    pub(super) stopping: CancellationToken,
    pub(super) connections: TaskTracker,
    pub(super) serving: watch::Sender<bool>,
    pub(super) failed: watch::Sender<Option<String>>,
    pub(super) settings: watch::Sender<Arc<Config>>,
    /// Set once the broker has begun to register.
    pub(super) session: Arc<OnceLock<Arc<BrokerSession>>>,
}

/// Starts a node; see [`Broker::start`].
pub(super) async fn start(config: Config, host: Host) -> Result<Broker, StartError> {
    let opening = (config.clone(), host.clone());
    let opened = host
        .control
        .blocking(move || format::open(&opening.0, &opening.1));
    let directories = opened
        .await
        .map_err(|error| StartError(error.to_string()))?;
    let bound = listeners::bind_all(&config, &host).await?;
    let http = listeners::bind_http(&config, &host).await?;
    let identity = Identity {
        cluster_id: Arc::from(directories.cluster_id.as_str()),
        node: config.node_id,
        directory: directories.metadata_directory,
        incarnation: Incarnation(host.random.uuid()),
    };
    let parts = Parts {
        channels: Channels::new(identity.clone(), host.clone()),
        config,
        host,
        directories,
        identity,
        bound,
    };
    let mut broker = run(parts).await?;
    if let Some((listener, port)) = http {
        let health = Arc::new(NodeHealth {
            node: broker.node.clone(),
            serving: broker.serving.clone(),
        });
        broker.http_port = Some(port);
        let serving = http::serve(listener, health, broker.stopping.clone());
        broker.node.host.control.spawn(serving);
    }
    Ok(broker)
}

async fn run(mut parts: Parts) -> Result<Broker, StartError> {
    let forwarding = Arc::new(Forwarding::default());
    let quorum = quorum::start(&parts, forwarding.clone()).await?;
    let (settings, config) = watch::channel(Arc::new(parts.config.clone()));
    let strings = Strings {
        closing: CancellationToken::new(),
        stopping: CancellationToken::new(),
        connections: TaskTracker::new(),
        serving: watch::Sender::new(false),
        failed: watch::Sender::new(None),
        settings,
        session: Arc::new(OnceLock::new()),
    };
    let node = Arc::new(node(&parts, quorum, config));
    // Nobody else sets it.
    let _ = forwarding.node.set(Arc::downgrade(&node));
    watchers::watch_quorum(&node, &strings);
    let serving = Serving {
        node: node.clone(),
        closing: strings.closing.clone(),
        connections: strings.connections.clone(),
        clients: strings.serving.subscribe(),
    };
    let count = ConnectionCount::new(node.config.clone());
    let ports = listeners::ports(&parts.bound);
    let (of_controllers, of_brokers): (Vec<_>, Vec<_>) = std::mem::take(&mut parts.bound)
        .into_iter()
        .partition(|bound| bound.kind == ListenerKind::Controller);
    let mut peers = vec![PeerServer::new(
        parts.identity.clone(),
        node.quorum.routes(),
    )];
    for bound in of_controllers {
        serving.accept(bound, &peers[0], &count);
    }
    let mut session = None;
    if parts.config.is_broker {
        let opened = logs::open(&parts, &node, &strings).await?;
        let server = PeerServer::new(parts.identity.clone(), opened.routes);
        for bound in of_brokers {
            serving.accept(bound, &server, &count);
        }
        peers.push(server);
        let registered = watchers::register(&parts, &node, &strings, &ports, opened.clean_shutdown);
        session = Some(registered);
    } else {
        watchers::follow_settings(&node, &strings);
        watchers::serve_when_led(&node, &strings);
    }
    Ok(Broker {
        node,
        session,
        peers,
        ports,
        http_port: None,
        serving: strings.serving.subscribe(),
        closing: strings.closing,
        stopping: strings.stopping,
        connections: strings.connections,
        failed: strings.failed.subscribe(),
    })
}

fn node(parts: &Parts, quorum: Quorum, config: watch::Receiver<Arc<Config>>) -> Node {
    Node {
        id: parts.config.node_id,
        cluster_id: parts.identity.cluster_id.clone(),
        incarnation: parts.identity.incarnation,
        host: parts.host.clone(),
        quorum,
        broker: OnceLock::new(),
        metrics: Arc::new(Metrics::new(TABLE.iter().map(|api| api.key))),
        request_memory: RequestMemory::new(queued_bytes(&parts.config)),
        config,
    }
}

/// `queued.max.request.bytes`, or the bound that stands in for none.
fn queued_bytes(config: &Config) -> usize {
    let given = config.settings.value("queued.max.request.bytes");
    let given = given.and_then(|text| text.parse::<usize>().ok());
    given.unwrap_or(MAX_REQUEST_BYTES_IN_FLIGHT)
}
