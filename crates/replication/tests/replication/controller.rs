//! A controller in memory: one image, told to every broker that listens.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use futures::future::BoxFuture;
use millrace_model::{
    BrokerEpoch, BrokerId, DirectoryId, Durability, LeaderEpoch, PartitionEpoch, PartitionId,
    TopicName,
};
use millrace_replication::{
    Assignment, ClusterView, ControllerLink, Following, IsrChange, Leadership, PeerView, Replicas,
    Throttled,
};
use millrace_storage::LogSettings;
use tokio::sync::watch;
use tokio::time::Instant;

/// A partition as the image holds it.
#[derive(Clone, Debug)]
pub struct Partition {
    pub replicas: Vec<BrokerId>,
    pub isr: Vec<BrokerId>,
    pub leader: BrokerId,
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: PartitionEpoch,
    pub min_isr: usize,
    pub throttled: Throttled,
    pub settings: LogSettings,
}

pub struct Controller(Mutex<Image>);

struct Image {
    in_touch: watch::Sender<bool>,
    /// Since when it gives no answers.
    silent_since: Option<Instant>,
    brokers: BTreeMap<BrokerId, PeerView>,
    partitions: BTreeMap<PartitionId, Partition>,
    listeners: BTreeMap<BrokerId, Replicas>,
    deaf: BTreeSet<BrokerId>,
    granted: Vec<IsrChange>,
}

impl Default for Controller {
    fn default() -> Controller {
        Controller(Mutex::new(Image {
            in_touch: watch::Sender::new(true),
            silent_since: None,
            brokers: BTreeMap::new(),
            partitions: BTreeMap::new(),
            listeners: BTreeMap::new(),
            deaf: BTreeSet::new(),
            granted: Vec::new(),
        }))
    }
}

pub fn topic() -> TopicName {
    TopicName::new("replicated").unwrap()
}

impl Partition {
    fn next(&mut self) {
        self.partition_epoch = self.partition_epoch.next();
    }

    fn elect(&mut self, leader: BrokerId) {
        self.leader = leader;
        self.leader_epoch = self.leader_epoch.next();
    }

    fn assignment(&self, id: PartitionId, to: BrokerId) -> Option<Assignment> {
        let partition = self.clone();
        let topic = topic();
        if self.leader == to {
            return Some(Assignment::Lead(Leadership {
                id,
                topic,
                leader_epoch: partition.leader_epoch,
                partition_epoch: partition.partition_epoch,
                replicas: partition.replicas,
                isr: partition.isr,
                elr: Vec::new(),
                min_isr: partition.min_isr,
                durability: Durability::Fsync,
                directory: None,
                throttled: partition.throttled,
                settings: partition.settings,
            }));
        }
        self.replicas.contains(&to).then_some(())?;
        Some(Assignment::Follow(Following {
            id,
            topic,
            leader: Some(partition.leader),
            leader_epoch: partition.leader_epoch,
            partition_epoch: partition.partition_epoch,
            replicas: partition.replicas,
            isr: partition.isr,
            elr: Vec::new(),
            directory: None,
            settings: partition.settings,
        }))
    }
}

impl Image {
    fn publish(&self) {
        for (id, replicas) in &self.listeners {
            if self.deaf.contains(id) {
                continue;
            }
            let view = ClusterView {
                own_epoch: Some(self.brokers[id].epoch),
                brokers: self.brokers.clone(),
            };
            let partitions = self.partitions.iter();
            let assignments = partitions.filter_map(|(p, state)| state.assignment(*p, *id));
            replicas.update(view, assignments.collect());
        }
    }

    /// Rule 10.
    fn alter(&mut self, from: BrokerId, change: IsrChange) -> bool {
        let eligible = change.isr.iter().all(|(id, epoch)| {
            let broker = self.brokers.get(id);
            broker.is_some_and(|broker| !broker.fenced && broker.epoch == *epoch)
        });
        let Some(partition) = self.partitions.get_mut(&change.id) else {
            return false;
        };
        let current = partition.leader == from
            && partition.leader_epoch == change.leader_epoch
            && partition.partition_epoch == change.partition_epoch;
        if !current || !eligible {
            return false;
        }
        partition.isr = change.isr.iter().map(|(id, _)| *id).collect();
        partition.next();
        self.granted.push(change);
        true
    }
}

impl Controller {
    fn lock(&self) -> MutexGuard<'_, Image> {
        self.0.lock().unwrap()
    }

    fn change(&self, change: impl FnOnce(&mut Image)) {
        let mut image = self.lock();
        change(&mut image);
        image.publish();
    }

    pub fn register(&self, broker: BrokerId, replicas: Replicas) {
        let view = PeerView {
            epoch: BrokerEpoch(100 + i64::from(broker.get())),
            fenced: false,
            shutting_down: false,
            slow: false,
        };
        self.change(|image| {
            image.brokers.insert(broker, view);
            image.listeners.insert(broker, replicas);
        });
    }

    pub fn create(&self, id: PartitionId, partition: Partition) {
        self.change(|image| {
            image.partitions.insert(id, partition);
        });
    }

    pub fn partition(&self, id: PartitionId) -> Partition {
        self.lock().partitions[&id].clone()
    }

    /// The numbers of the ISR's members, in order.
    pub fn isr(&self, id: PartitionId) -> Vec<i32> {
        let mut isr: Vec<i32> = self.partition(id).isr.iter().map(|id| id.get()).collect();
        isr.sort_unstable();
        isr
    }

    /// What leaders asked for and got.
    pub fn granted(&self) -> Vec<IsrChange> {
        self.lock().granted.clone()
    }

    /// Whether the brokers get answers; they are heard all the same.
    pub fn answers(&self, answers: bool) {
        let mut image = self.lock();
        image.in_touch.send_replace(answers);
        image.silent_since = (!answers).then(Instant::now);
    }

    /// The broker gets no further image until [`Controller::tell`].
    pub fn keep_from(&self, broker: i32) {
        self.lock().deaf.insert(BrokerId(broker));
    }

    pub fn tell(&self, broker: i32) {
        self.change(|image| {
            image.deaf.remove(&BrokerId(broker));
        });
    }

    /// Another leader for one partition, with this ISR.
    pub fn elect(&self, id: PartitionId, leader: i32, isr: &[i32]) {
        self.change(|image| {
            let partition = image.partitions.get_mut(&id).unwrap();
            partition.isr = isr.iter().copied().map(BrokerId).collect();
            partition.elect(BrokerId(leader));
            partition.next();
        });
    }

    /// The broker leaves every ISR, and leads nothing any more where somebody else can.
    pub fn fence(&self, broker: i32) {
        let broker = BrokerId(broker);
        self.change(|image| {
            image.brokers.get_mut(&broker).unwrap().fenced = true;
            for partition in image.partitions.values_mut() {
                if partition.isr.len() > 1 && partition.isr.contains(&broker) {
                    partition.isr.retain(|id| *id != broker);
                    if partition.leader == broker {
                        partition.elect(partition.isr[0]);
                    }
                    partition.next();
                }
            }
        });
    }

    pub fn unfence(&self, broker: i32) {
        self.change(|image| image.brokers.get_mut(&BrokerId(broker)).unwrap().fenced = false);
    }

    /// Forgets the brokers.
    pub fn stop(&self) {
        self.lock().listeners.clear();
    }
}

/// One broker's way to the controller; always open.
pub struct Link(pub Arc<Controller>, pub BrokerId);

impl ControllerLink for Link {
    fn alter_partitions(&self, changes: Vec<IsrChange>) -> BoxFuture<'static, Vec<bool>> {
        let (controller, from) = (self.0.clone(), self.1);
        Box::pin(async move {
            let mut granted = Vec::new();
            controller.change(|image| {
                let changes = changes.into_iter();
                granted = changes.map(|change| image.alter(from, change)).collect();
            });
            granted
        })
    }

    fn known_until(&self) -> Instant {
        self.0.lock().silent_since.unwrap_or_else(Instant::now)
    }

    fn in_touch(&self) -> watch::Receiver<bool> {
        self.0.lock().in_touch.subscribe()
    }

    fn directory_failed(&self, directory: DirectoryId, why: &str) {
        panic!("log directory {directory} failed: {why}");
    }
}
