//! What all replicas of this broker share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use millrace_host::Host;
use millrace_model::{BrokerId, PartitionId};
use millrace_rpc::Channels;
use millrace_storage::Store;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::clock::ActiveClock;
use crate::core::{IsrRequest, Rules, View};
use crate::options::{ControllerLink, ReplicaSettings};
use crate::pull::Link;
use crate::push::Session;
use crate::replica::Replica;
use crate::throttle::Throttle;

/// The map of replicas is split, so that data paths of different partitions seldom meet.
const SHARDS: usize = 64;

/// What all replicas share.
pub(crate) struct Shared {
    pub(crate) node: BrokerId,
    pub(crate) host: Host,
    pub(crate) store: Store,
    pub(crate) channels: Channels,
    pub(crate) link: Arc<dyn ControllerLink>,
    pub(crate) settings: ReplicaSettings,
    pub(crate) rules: Rules,
    pub(crate) clock: ActiveClock,
    pub(crate) stopping: CancellationToken,
    pub(crate) counters: Counters,
    pub(crate) stirring: Stirring,
    pub(crate) throttle: Throttle,
    view: RwLock<Arc<View>>,
    shards: Vec<RwLock<BTreeMap<PartitionId, Arc<Replica>>>>,
    /// Rings when a replica was made.
    arrivals: Notify,
    sessions: Mutex<BTreeMap<BrokerId, Arc<Session>>>,
    links: Mutex<BTreeMap<BrokerId, Arc<Link>>>,
    next_stream: AtomicU64,
    requests: mpsc::UnboundedSender<(Arc<Replica>, IsrRequest)>,
    deleting: watch::Sender<BTreeSet<PartitionId>>,
}

/// The replicas for which time matters: few of many, and none on an idle broker.
#[derive(Default)]
pub(crate) struct Stirring {
    replicas: Mutex<Vec<Arc<Replica>>>,
    first: Notify,
}

impl Stirring {
    pub(crate) fn add(&self, replica: Arc<Replica>) {
        let mut replicas = lock(&self.replicas);
        replicas.push(replica);
        if replicas.len() == 1 {
            self.first.notify_one();
        }
    }

    /// Resolves once there is one.
    pub(crate) async fn any(&self) {
        while lock(&self.replicas).is_empty() {
            self.first.notified().await;
        }
    }

    /// Takes them all out.
    pub(crate) fn take(&self) -> Vec<Arc<Replica>> {
        std::mem::take(&mut lock(&self.replicas))
    }

    /// Puts back those that still stir.
    pub(crate) fn put_back(&self, still: Vec<Arc<Replica>>) {
        lock(&self.replicas).extend(still);
    }
}

/// What happened since the start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) isr_shrinks: AtomicU64,
    pub(crate) isr_expands: AtomicU64,
}

/// What [`Shared::new`] takes over.
pub(crate) struct Parts {
    pub(crate) options: crate::options::ReplicaOptions,
    pub(crate) rules: Rules,
    pub(crate) clock: ActiveClock,
    pub(crate) requests: mpsc::UnboundedSender<(Arc<Replica>, IsrRequest)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn shard(id: PartitionId) -> usize {
    let topic = u64::from_le_bytes(
        id.topic.0.0[..8]
            .try_into()
            .expect("eight bytes of sixteen"),
    );
    (topic
        .wrapping_add(id.index as u64)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        >> 58) as usize
        % SHARDS
}

impl Shared {
    pub(crate) fn new(parts: Parts) -> Arc<Shared> {
        let Parts {
            options,
            rules,
            clock,
            requests,
        } = parts;
        Arc::new(Shared {
            node: options.node,
            host: options.host,
            store: options.store,
            channels: options.channels,
            link: options.link,
            settings: options.settings,
            rules,
            clock,
            stopping: CancellationToken::new(),
            counters: Counters::default(),
            stirring: Stirring::default(),
            throttle: Throttle::default(),
            view: RwLock::default(),
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            arrivals: Notify::new(),
            sessions: Mutex::default(),
            links: Mutex::default(),
            next_stream: AtomicU64::new(1),
            requests,
            deleting: watch::Sender::new(BTreeSet::new()),
        })
    }

    pub(crate) fn view(&self) -> Arc<View> {
        self.view
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn set_view(&self, view: Arc<View>) {
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = view;
    }

    pub(crate) fn replica(&self, id: PartitionId) -> Option<Arc<Replica>> {
        let shard = self.shards[shard(id)]
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        shard.get(&id).cloned()
    }

    /// The replica of this id, and whether it was made just now.
    pub(crate) fn replica_or(
        &self,
        id: PartitionId,
        make: impl FnOnce() -> Arc<Replica>,
    ) -> (Arc<Replica>, bool) {
        let mut shard = self.shards[shard(id)]
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(replica) = shard.get(&id) {
            return (replica.clone(), false);
        }
        let replica = make();
        shard.insert(id, replica.clone());
        drop(shard);
        self.arrivals.notify_waiters();
        (replica, true)
    }

    /// The replica of this id, once there is one.
    pub(crate) async fn made(&self, id: PartitionId) -> Arc<Replica> {
        loop {
            let mut arrival = std::pin::pin!(self.arrivals.notified());
            arrival.as_mut().enable();
            if let Some(replica) = self.replica(id) {
                return replica;
            }
            arrival.await;
        }
    }

    pub(crate) fn remove_replica(&self, id: PartitionId) -> Option<Arc<Replica>> {
        let mut shard = self.shards[shard(id)]
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        shard.remove(&id)
    }

    /// Every replica at this moment.
    pub(crate) fn replicas(&self) -> Vec<Arc<Replica>> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            all.extend(shard.values().cloned());
        }
        all
    }

    /// The stream by which a follower broker follows this one.
    pub(crate) fn session(&self, follower: BrokerId) -> Option<Arc<Session>> {
        lock(&self.sessions).get(&follower).cloned()
    }

    /// Every stream by which another broker follows this one.
    pub(crate) fn sessions(&self) -> Vec<Arc<Session>> {
        lock(&self.sessions).values().cloned().collect()
    }

    /// Registers a follower's new stream, which ends its older one. False if this one is older.
    pub(crate) fn open_session(&self, session: &Arc<Session>) -> bool {
        let mut sessions = lock(&self.sessions);
        if let Some(old) = sessions.get(&session.peer()) {
            if old.age() >= session.age() && !old.is_closed() {
                return false;
            }
            old.close();
        }
        sessions.insert(session.peer(), session.clone());
        true
    }

    pub(crate) fn close_session(&self, session: &Arc<Session>) {
        session.close();
        let mut sessions = lock(&self.sessions);
        if sessions
            .get(&session.peer())
            .is_some_and(|there| Arc::ptr_eq(there, session))
        {
            sessions.remove(&session.peer());
        }
    }

    /// The link to a leader broker, made if there is none.
    pub(crate) fn link_to(self: &Arc<Self>, leader: BrokerId) -> Arc<Link> {
        let mut links = lock(&self.links);
        let link = links
            .entry(leader)
            .or_insert_with(|| Link::start(self, leader));
        link.clone()
    }

    pub(crate) fn links(&self) -> Vec<Arc<Link>> {
        lock(&self.links).values().cloned().collect()
    }

    pub(crate) fn next_stream(&self) -> u64 {
        self.next_stream.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn ask_controller(&self, request: (Arc<Replica>, IsrRequest)) {
        // The receiver lives as long as replication; afterwards nobody cares.
        let _ = self.requests.send(request);
    }

    pub(crate) fn is_deleting(&self, id: PartitionId) -> bool {
        self.deleting.borrow().contains(&id)
    }

    /// Resolves once no deletion of this partition's log is under way.
    pub(crate) async fn deleted(&self, id: PartitionId) {
        let mut deleting = self.deleting.subscribe();
        let _ = deleting.wait_for(|ids| !ids.contains(&id)).await;
    }

    /// Deletes a log in the background.
    pub(crate) fn delete(self: &Arc<Self>, id: PartitionId) {
        self.deleting.send_modify(|ids| {
            ids.insert(id);
        });
        let shared = self.clone();
        self.host.tasks.spawn(async move {
            if let Err(error) = shared.store.delete(id).await {
                tracing::warn!(partition = %id, %error, "cannot delete a log");
            }
            shared.deleting.send_modify(|ids| {
                ids.remove(&id);
            });
        });
    }
}
