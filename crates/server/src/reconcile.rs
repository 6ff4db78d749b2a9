//! From images of the cluster to what this broker's replicas shall do.
//!
//! One task takes every image, looks at what changed, and tells `replication` in plain words: lead,
//! follow or stop this partition, at these epochs, with these settings. An image that a snapshot
//! brought is a change like any other. What no image names is judged only once: after the first
//! image that shows this broker's own registration, and then it is set aside as stray, not deleted.

mod throttles;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millrace_metadata::{Delta, Image, Partition, Resource, ResourceKind, UNASSIGNED_DIRECTORY};
use millrace_model::{BrokerEpoch, BrokerId, Durability, PartitionId, TopicId};
use millrace_quorum::{Quorum, SessionState};
use millrace_replication::{Assignment, ClusterView, Following, Leadership, PeerView, Replicas};
use millrace_rpc::{Channels, PeerListener};
use millrace_storage::Store;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, cleaner_options, leader_rate, log_settings, move_rate};
use crate::coordinator::{Coordinator, Groups};

/// Keeps the replicas of this broker as the newest image wants them.
pub struct Reconciler {
    /// This broker.
    pub id: BrokerId,
    /// The settings of this moment.
    pub config: Arc<Config>,
    /// New images.
    pub images: watch::Receiver<Arc<Image>>,
    /// This broker's registration.
    pub session: watch::Receiver<SessionState>,
    /// What leads and follows.
    pub replicas: Replicas,
    /// Coordinates the groups whose partitions this broker leads.
    pub groups: Arc<Coordinator<Groups>>,
    /// The logs.
    pub store: Store,
    /// The controller.
    pub quorum: Quorum,
    /// Where the peers are.
    pub channels: Channels,
    /// Where changed settings are told.
    pub settings: watch::Sender<Arc<Config>>,
}

/// What was done so far.
struct Applied {
    image: Arc<Image>,
    own_epoch: Option<BrokerEpoch>,
    strays_judged: bool,
}

impl Reconciler {
    /// Follows the images until told to stop.
    pub async fn run(mut self, stopping: CancellationToken) {
        let mut applied = Applied {
            image: Arc::new(Image::default()),
            own_epoch: None,
            strays_judged: false,
        };
        loop {
            let image = self.images.borrow_and_update().clone();
            let own_epoch = self.session.borrow_and_update().epoch;
            self.apply(&mut applied, image, own_epoch).await;
            tokio::select! {
                biased;
                () = stopping.cancelled() => return,
                changed = self.images.changed() => if changed.is_err() { return },
                changed = self.session.changed() => if changed.is_err() { return },
            }
        }
    }

    async fn apply(
        &mut self,
        applied: &mut Applied,
        image: Arc<Image>,
        own_epoch: Option<BrokerEpoch>,
    ) {
        let delta = Delta::between(&applied.image, &image);
        if delta.is_empty() && applied.own_epoch == own_epoch {
            return;
        }
        self.set_addresses(&delta);
        if touches_brokers(&delta, self.id) {
            self.reconfigure(&image);
        }
        let assignments = self.assignments(&delta, &image);
        let limits = throttles::of(&image, self.id, leader_rate(&self.config.settings));
        self.replicas.throttle(limits);
        self.replicas.update(view(&image, own_epoch), assignments);
        self.groups.update(&image, &delta);
        let is_own = |epoch| image.broker(self.id).is_some_and(|own| own.epoch == epoch);
        if !applied.strays_judged && own_epoch.is_some_and(is_own) {
            self.set_strays_aside(&image).await;
            applied.strays_judged = true;
        }
        applied.image = image;
        applied.own_epoch = own_epoch;
    }

    /// Takes over what was set for this broker and for all brokers.
    fn reconfigure(&mut self, image: &Image) {
        match self.config.at_image(image) {
            Ok(config) => {
                for (name, here, holds) in config.settings.overruled() {
                    tracing::warn!(
                        "{name}={here} of this node's properties does not hold: it is {holds} for \
                         the whole cluster; change that by kafka-configs.sh --entity-type brokers \
                         --entity-default"
                    );
                }
                self.store.set_cleaner(cleaner_options(&config.settings));
                self.store.set_move_rate(move_rate(&config.settings));
                self.store.set_scrub_rate(config.scrub_bytes_per_second);
                self.store
                    .set_producer_expiration(config.producer_expiration);
                self.config = Arc::new(config);
                self.settings.send_replace(self.config.clone());
            }
            Err(error) => tracing::error!(%error, "cannot take over changed settings"),
        }
    }

    /// Tells where brokers are that came or moved.
    fn set_addresses(&self, delta: &Delta) {
        for change in &delta.brokers {
            let listener = change
                .after
                .as_ref()
                .and_then(|broker| broker.listener(&self.config.inter_broker_listener));
            if let Some(at) = listener {
                self.channels
                    .set_address(change.id, PeerListener::Broker, &at.host, at.port);
            }
        }
    }

    /// What is to be done for every partition of this broker that is new, changed or gone, or
    /// whose settings changed.
    fn assignments(&self, delta: &Delta, image: &Image) -> Vec<Assignment> {
        let mut assignments = Vec::new();
        let mut seen = BTreeSet::new();
        for change in &delta.partitions {
            seen.insert(change.id);
            let was_here = change.before.as_ref().is_some_and(|p| self.hosts(p));
            match &change.after {
                Some(partition) if self.hosts(partition) => {
                    assignments.extend(self.assignment(image, change.id, partition));
                }
                _ if was_here => assignments.push(Assignment::Stop {
                    id: change.id,
                    delete: true,
                }),
                _ => {}
            }
        }
        for id in self.reconfigured(delta, image) {
            if let Some(partition) = image.partition(id)
                && self.hosts(partition)
                && !seen.contains(&id)
            {
                assignments.extend(self.assignment(image, id, partition));
            }
        }
        assignments
    }

    fn hosts(&self, partition: &Partition) -> bool {
        partition.replicas.contains(&self.id)
    }

    /// The partitions of this broker whose settings may have changed.
    fn reconfigured(&self, delta: &Delta, image: &Image) -> Vec<PartitionId> {
        if touches_brokers(delta, self.id) {
            return image.hosted_by(self.id).map(|(id, _)| id).collect();
        }
        let topics = delta
            .configs
            .iter()
            .filter(|resource| resource.kind == ResourceKind::Topic)
            .filter_map(|resource| image.topic_named(&resource.name));
        let ids: BTreeSet<TopicId> = topics.map(|topic| topic.id).collect();
        let partitions = ids.into_iter().flat_map(|id| image.partitions_of(id));
        partitions.map(|(id, _)| id).collect()
    }

    fn assignment(
        &self,
        image: &Image,
        id: PartitionId,
        partition: &Partition,
    ) -> Option<Assignment> {
        let topic = &image.topic(id.topic)?.name;
        let own = image.configs_of(&Resource::topic(topic));
        let own = own.map_or(&*NO_OVERRIDES, Arc::as_ref);
        let mut settings = log_settings(&self.config.settings, own);
        if image.configured_durability(topic) == Durability::Fsync {
            // What the controller counts on holds, whatever else is set.
            settings.durability = Durability::Fsync;
        }
        let directory = partition.directory(self.id);
        let directory = directory.filter(|id| *id != UNASSIGNED_DIRECTORY);
        if partition.leader == Some(self.id) {
            return Some(Assignment::Lead(Leadership {
                id,
                topic: topic.clone(),
                leader_epoch: partition.leader_epoch,
                partition_epoch: partition.partition_epoch,
                replicas: partition.replicas.clone(),
                isr: partition.isr.clone(),
                elr: partition.elr.clone(),
                min_isr: image.min_insync(topic, partition),
                durability: partition.durability,
                directory,
                throttled: throttles::throttled(own, self.id, id.index, partition),
                settings,
            }));
        }
        Some(Assignment::Follow(Following {
            id,
            topic: topic.clone(),
            leader: partition.leader,
            leader_epoch: partition.leader_epoch,
            partition_epoch: partition.partition_epoch,
            replicas: partition.replicas.clone(),
            isr: partition.isr.clone(),
            elr: partition.elr.clone(),
            directory,
            settings,
        }))
    }

    /// Sets aside what lies on the disks and belongs to no partition of this broker.
    async fn set_strays_aside(&self, image: &Image) {
        let open = self.store.logs().into_iter().map(|log| log.id());
        for id in open.chain(self.store.unopened()) {
            if image
                .partition(id)
                .is_some_and(|partition| self.hosts(partition))
            {
                continue;
            }
            tracing::warn!(partition = %id, "found a stray log; set it aside");
            if let Err(error) = self.store.rename_stray(id).await {
                tracing::error!(partition = %id, %error, "cannot set a stray log aside");
            }
        }
        // What cannot be opened waits for its replica, if there is one.
        for (topic, index) in self.store.all_unusable() {
            let named = image.topic_named(topic.as_str()).map(|topic| topic.id);
            let partition = named.and_then(|topic| image.partition(PartitionId { topic, index }));
            if partition.is_some_and(|partition| self.hosts(partition)) {
                continue;
            }
            if let Err(error) = self.store.set_unusable_aside(&topic, index).await {
                tracing::error!(%topic, index, %error, "cannot set a stray log aside");
            }
        }
    }
}

static NO_OVERRIDES: std::sync::LazyLock<BTreeMap<String, String>> =
    std::sync::LazyLock::new(BTreeMap::new);

/// Whether settings of this broker, or of all brokers, changed.
pub(crate) fn touches_brokers(delta: &Delta, id: BrokerId) -> bool {
    let (own, all) = (Resource::broker(id), Resource::cluster());
    let mut changed = delta.configs.iter();
    changed.any(|resource| *resource == own || *resource == all)
}

fn view(image: &Image, own_epoch: Option<BrokerEpoch>) -> ClusterView {
    let peer = |broker: &Arc<millrace_metadata::Broker>| {
        let view = PeerView {
            epoch: broker.epoch,
            fenced: broker.fenced,
            shutting_down: broker.shutting_down,
            slow: !broker.slow.is_empty(),
        };
        (broker.id, view)
    };
    ClusterView {
        own_epoch,
        brokers: image.brokers().map(peer).collect(),
    }
}
