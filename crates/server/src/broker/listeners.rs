//! The sockets of a node: bound before anything else starts, served when there is somebody to serve.

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_host::{BoxListener, Host, Tasks};
use millrace_rpc::PeerServer;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::StartError;
use crate::Config;
use crate::api::{ClientService, ListenerKind};
use crate::connection::ConnectionLimits;
use crate::listener::{Acceptor, ConnectionCount, bind};
use crate::node::Node;

/// A socket that listens, and what it is for.
pub struct Bound {
    /// The listener's name.
    pub name: String,
    /// What it is for.
    pub kind: ListenerKind,
    /// Whether nodes of the cluster come here.
    pub for_peers: bool,
    /// The port, also where the system chose it.
    pub port: u16,
    listener: BoxListener,
}

/// Binds every listener of `config`.
///
/// # Errors
/// If an address cannot be listened at.
pub async fn bind_all(config: &Config, host: &Host) -> Result<Vec<Bound>, StartError> {
    let mut all = Vec::new();
    for endpoint in &config.listeners {
        let name = endpoint.name.clone();
        let is_controllers = config.controller_listeners.contains(&name);
        let tasks = if is_controllers {
            &host.control
        } else {
            &host.tasks
        };
        let at = (endpoint.host.as_str(), endpoint.port);
        let listener = listen(host, tasks, &name, at).await?;
        all.push(Bound {
            kind: match is_controllers {
                true => ListenerKind::Controller,
                false => ListenerKind::Broker,
            },
            for_peers: is_controllers || name == config.inter_broker_listener,
            port: port_of(&listener)?,
            name,
            listener,
        });
    }
    Ok(all)
}

/// Binds the HTTP listener, if there is one.
///
/// # Errors
/// If the address cannot be listened at.
pub async fn bind_http(
    config: &Config,
    host: &Host,
) -> Result<Option<(BoxListener, u16)>, StartError> {
    let Some((address, port)) = &config.http_listener else {
        return Ok(None);
    };
    let at = (address.as_str(), *port);
    let listener = listen(host, &host.control, "millrace.http.listener", at).await?;
    let port = port_of(&listener)?;
    Ok(Some((listener, port)))
}

/// Listens on the runtime that accepts: sockets belong to the runtime they are made on.
async fn listen(
    host: &Host,
    tasks: &Tasks,
    name: &str,
    (at, port): (&str, u16),
) -> Result<BoxListener, StartError> {
    let (network, name, at) = (host.network.clone(), name.to_owned(), at.to_owned());
    let bound = tasks.spawn(async move { bind(&*network, &name, &at, port).await });
    let bound = bound.await;
    bound
        .map_err(|error| StartError(error.to_string()))?
        .map_err(StartError)
}

fn port_of(listener: &BoxListener) -> Result<u16, StartError> {
    let address = listener.local_address();
    let address =
        address.map_err(|error| StartError(format!("a socket has no address: {error}")))?;
    Ok(address.port())
}

/// What all listeners of a node share.
pub struct Serving {
    /// The node.
    pub node: Arc<Node>,
    /// Ends listeners and connections.
    pub closing: CancellationToken,
    /// The connections that are open.
    pub connections: TaskTracker,
    /// Whether clients may be served.
    pub clients: watch::Receiver<bool>,
}

impl Serving {
    /// Accepts connections on `bound`, serving nodes of the cluster by `peers`.
    pub fn accept(&self, bound: Bound, peers: &PeerServer, count: &Arc<ConnectionCount>) {
        let node = self.node.clone();
        let host = &self.node.host;
        let config = self.node.config();
        let is_controllers = bound.kind == ListenerKind::Controller;
        let tasks = match is_controllers {
            true => host.control.clone(),
            false => host.tasks.clone(),
        };
        let acceptor = Acceptor {
            name: Arc::from(bound.name.as_str()),
            kind: bound.kind,
            peers: bound.for_peers.then(|| peers.clone()),
            peer_tasks: tasks.clone(),
            tasks: tasks.clone(),
            services: Arc::new(move |caller| Box::new(ClientService::new(node.clone(), caller))),
            clients: match is_controllers {
                true => watch::channel(true).1,
                false => self.clients.clone(),
            },
            limits: ConnectionLimits {
                max_frame_bytes: config.limits.request_bytes,
                max_idle: config.limits.idle,
                memory: self.node.request_memory.clone(),
            },
            count: count.clone(),
            metrics: self.node.metrics.clone(),
            stopping: self.closing.clone(),
            open: self.connections.clone(),
        };
        tasks.spawn(acceptor.run(bound.listener));
    }
}

/// The ports of all listeners.
pub fn ports(bound: &[Bound]) -> BTreeMap<String, u16> {
    let ports = bound.iter().map(|bound| (bound.name.clone(), bound.port));
    ports.collect()
}
