//! Accepts connections on one listener, within the bounds on their number.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use millrace_host::{BoxListener, BoxStream, Tasks};
use millrace_rpc::{PeerServer, Rewound, is_peer_connection};
use tokio::io::AsyncReadExt;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::{Caller, ListenerKind, RequestError};
use crate::config::Config;
use crate::connection::{self, ConnectionLimits, Ended, Service};
use crate::metrics::Metrics;

/// Pause after an accept that failed, for instance for want of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// The connections of all listeners of a broker, counted by address.
pub struct ConnectionCount {
    /// `max.connections`, `max.connections.per.ip` and its overrides as they are at the moment.
    config: watch::Receiver<Arc<Config>>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    total: usize,
    by_address: BTreeMap<IpAddr, usize>,
}

impl ConnectionCount {
    /// Nothing counted yet.
    pub fn new(config: watch::Receiver<Arc<Config>>) -> Arc<ConnectionCount> {
        Arc::new(ConnectionCount {
            config,
            open: Mutex::default(),
        })
    }

    /// Counts one more connection of `address`; `None` if that is one too many.
    fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Admission> {
        let address = address.to_canonical();
        let (max, max_of_one) = {
            let limits = &self.config.borrow().limits;
            let own = limits.connections_per_ip_overrides.get(&address).copied();
            (limits.connections, own.unwrap_or(limits.connections_per_ip))
        };
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let of_address = open.by_address.get(&address).copied().unwrap_or(0);
        if of_address >= max_of_one || open.total >= max {
            return None;
        }
        open.total += 1;
        open.by_address.insert(address, of_address + 1);
        Some(Admission {
            count: self.clone(),
            address,
        })
    }
}

/// A counted connection, until dropped.
struct Admission {
    count: Arc<ConnectionCount>,
    address: IpAddr,
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut open = self
            .count
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        open.total -= 1;
        if let Some(of_address) = open.by_address.get_mut(&self.address) {
            *of_address -= 1;
            if *of_address == 0 {
                open.by_address.remove(&self.address);
            }
        }
    }
}

/// Makes the service of one connection; cheap to clone.
pub type ServiceFactory = Arc<dyn Fn(Caller) -> Box<dyn Service> + Send + Sync>;

impl Service for Box<dyn Service> {
    fn begin(
        &mut self,
        frame: bytes::BytesMut,
    ) -> Result<connection::Begun, crate::api::RequestError> {
        (**self).begin(frame)
    }
}

/// One listener's connections.
#[derive(Clone)]
pub struct Acceptor {
    /// Its name, for instance `PLAINTEXT`.
    pub name: Arc<str>,
    /// For clients and brokers, or for controllers.
    pub kind: ListenerKind,
    /// Serves nodes of the cluster, if they come here.
    pub peers: Option<PeerServer>,
    /// Where peers' calls run.
    pub peer_tasks: Tasks,
    /// Where Kafka's requests run.
    pub tasks: Tasks,
    /// Answers Kafka's requests,
    pub services: ServiceFactory,
    /// from the moment this says so; until then clients wait.
    pub clients: watch::Receiver<bool>,
    /// Bounds on each connection.
    pub limits: ConnectionLimits,
    /// Bounds on their number.
    pub count: Arc<ConnectionCount>,
    /// What is counted for operators.
    pub metrics: Arc<Metrics>,
    /// Ends every connection when cancelled.
    pub stopping: CancellationToken,
    /// The connections that are open.
    pub open: TaskTracker,
}

impl Acceptor {
    /// Accepts until told to stop.
    pub async fn run(self, mut listener: BoxListener) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.stopping.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok(stream) => self.accept(stream),
                Err(error) => {
                    tracing::warn!(listener = %self.name, %error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }

    fn accept(&self, stream: BoxStream) {
        let Ok(address) = stream.peer_address() else {
            return;
        };
        let Some(admission) = self.count.admit(address.ip()) else {
            self.metrics.connection_refused(&self.name);
            tracing::debug!(listener = %self.name, %address, "refused a connection: too many");
            return;
        };
        let mut acceptor = self.clone();
        let caller = Caller {
            client_id: None,
            principal: ANONYMOUS.into(),
            address,
            listener: self.name.clone(),
            listener_kind: self.kind,
            forwarded: false,
        };
        let task = self.open.track_future(async move {
            acceptor.metrics.connection_opened(&acceptor.name);
            if let Err(ended) = acceptor.serve(stream, caller).await {
                let listener = &acceptor.name;
                match ended {
                    // The client gets nothing at all, so nobody else would tell of it.
                    Ended::Request(RequestError::Encode(_)) => {
                        tracing::error!(%listener, %address, %ended, "closed a connection");
                    }
                    _ => tracing::debug!(%listener, %address, %ended, "a connection ended"),
                }
            }
            acceptor.metrics.connection_closed(&acceptor.name);
            drop(admission);
        });
        self.tasks.spawn(task);
    }

    /// Looks at the first bytes and serves what speaks.
    async fn serve(&mut self, mut stream: BoxStream, caller: Caller) -> Result<(), Ended> {
        let mut first = [0; 4];
        tokio::select! {
            biased;
            read = stream.read_exact(&mut first) => match read {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                read => read?,
            },
            () = self.stopping.cancelled() => return Err(Ended::Stopping),
            () = connection::idle(self.limits.max_idle) => return Err(Ended::Idle),
        };
        if let Some(peers) = &self.peers
            && is_peer_connection(first)
        {
            let stream = Rewound::new(Bytes::copy_from_slice(&first), stream);
            let (peers, tasks) = (peers.clone(), self.peer_tasks.clone());
            let serving = async move { peers.serve(Box::new(stream), &tasks).await };
            let _ = self.peer_tasks.spawn(serving).await;
            return Ok(());
        }
        tokio::select! {
            biased;
            ready = self.clients.wait_for(|ready| *ready) => if ready.is_err() {
                return Err(Ended::Stopping);
            },
            () = self.stopping.cancelled() => return Err(Ended::Stopping),
        };
        let service = (self.services)(caller);
        let (limits, stopping) = (self.limits.clone(), self.stopping.clone());
        match connection::serve(stream, &first, service, limits, stopping).await {
            Ended::ByClient => Ok(()),
            ended => Err(ended),
        }
    }
}

/// Who a client is on a listener without authentication.
const ANONYMOUS: &str = "User:ANONYMOUS";

/// Listens for `name` at `host:port`.
///
/// # Errors
/// A sentence for whoever started the broker.
pub async fn bind(
    network: &dyn millrace_host::Network,
    name: &str,
    host: &str,
    port: u16,
) -> Result<BoxListener, String> {
    let listening = network.listen(host, port).await;
    listening
        .map_err(|error| format!("cannot listen at {host}:{port} for listener {name}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(limits: &str) -> Arc<Config> {
        let text = format!(
            "process.roles=broker,controller\nnode.id=1\nlisteners=PLAINTEXT://:0,CONTROLLER://:0\n\
             controller.listener.names=CONTROLLER\ncontroller.quorum.voters=1@localhost:1\n{limits}"
        );
        Arc::new(Config::parse(&text).unwrap())
    }

    #[test]
    fn connections_are_counted_in_all_and_by_address() {
        let (settings, config_of_now) =
            watch::channel(config("max.connections=3\nmax.connections.per.ip=2\n"));
        let count = ConnectionCount::new(config_of_now);
        let (one, other): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let first = count.admit(one).unwrap();
        let _second = count.admit(one).unwrap();
        assert!(count.admit(one).is_none());
        let _third = count.admit(other).unwrap();
        assert!(count.admit(other).is_none());
        drop(first);
        let fourth = count.admit(other);
        assert!(fourth.is_some());
        let text = "max.connections.per.ip=2\nmax.connections.per.ip.overrides=10.0.0.2:3\n";
        settings.send_replace(config(text));
        let _fifth = count.admit(other).unwrap();
        assert!(count.admit(other).is_none());
    }
}
