//! What differs between two images; cheap, since images share what did not change.

use std::sync::Arc;

use imbl::ordmap::DiffItem;
use millrace_model::{BrokerId, ImageVersion, PartitionId};

use crate::broker::{Broker, Controller};
use crate::config::Resource;
use crate::image::{Image, Topic};
use crate::partition::Partition;

/// One partition that is not in both images alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionDelta {
    /// Which partition.
    pub id: PartitionId,
    /// As it was; `None` when it is new.
    pub before: Option<Arc<Partition>>,
    /// As it is; `None` when it is gone.
    pub after: Option<Arc<Partition>>,
}

/// One broker that is not in both images alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerDelta {
    /// Which broker.
    pub id: BrokerId,
    /// As it was; `None` when it is new.
    pub before: Option<Arc<Broker>>,
    /// As it is; `None` when it is gone.
    pub after: Option<Arc<Broker>>,
}

/// The differences, each list sorted by what it is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// The older version.
    pub from: ImageVersion,
    /// The newer version.
    pub to: ImageVersion,
    /// Brokers registered, changed or gone.
    pub brokers: Vec<BrokerDelta>,
    /// Controllers registered, changed or gone: as they are.
    pub controllers: Vec<(BrokerId, Option<Arc<Controller>>)>,
    /// Topics that are new.
    pub topics_created: Vec<Arc<Topic>>,
    /// Topics that are gone. One deleted and created again is in both lists, under two ids.
    pub topics_deleted: Vec<Arc<Topic>>,
    /// Partitions that are new, changed or gone.
    pub partitions: Vec<PartitionDelta>,
    /// Whose settings changed.
    pub configs: Vec<Resource>,
    /// Features whose finalized version changed, with that version, 0 for none.
    pub features: Vec<(String, i16)>,
}

impl Delta {
    /// What differs from `old` to `new`; also between an image and one that a snapshot brought.
    pub fn between(old: &Image, new: &Image) -> Delta {
        let mut delta = Delta {
            from: old.version(),
            to: new.version(),
            ..Delta::default()
        };
        let (before, after) = (old.maps(), new.maps());
        for (id, was, now) in sides(before.brokers.diff(after.brokers)) {
            delta.brokers.push(BrokerDelta {
                id: *id,
                before: was.cloned(),
                after: now.cloned(),
            });
        }
        for (id, _, now) in sides(before.controllers.diff(after.controllers)) {
            delta.controllers.push((*id, now.cloned()));
        }
        for (_, was, now) in sides(before.topics.diff(after.topics)) {
            match (was, now) {
                (None, Some(topic)) => delta.topics_created.push(topic.clone()),
                (Some(topic), None) => delta.topics_deleted.push(topic.clone()),
                _ => {}
            }
        }
        for (id, was, now) in sides(before.partitions.diff(after.partitions)) {
            delta.partitions.push(PartitionDelta {
                id: *id,
                before: was.cloned(),
                after: now.cloned(),
            });
        }
        for (resource, _, _) in sides(before.configs.diff(after.configs)) {
            delta.configs.push(resource.clone());
        }
        for (name, _, now) in sides(before.features.diff(after.features)) {
            delta
                .features
                .push((name.clone(), now.copied().unwrap_or(0)));
        }
        delta
    }

    /// Whether the images hold the same.
    pub fn is_empty(&self) -> bool {
        self.brokers.is_empty()
            && self.controllers.is_empty()
            && self.topics_created.is_empty()
            && self.topics_deleted.is_empty()
            && self.partitions.is_empty()
            && self.configs.is_empty()
            && self.features.is_empty()
    }
}

/// Each difference as key, old value and new value.
fn sides<'a, K: 'a, V: 'a>(
    differences: impl Iterator<Item = DiffItem<'a, 'a, K, V>>,
) -> impl Iterator<Item = (&'a K, Option<&'a V>, Option<&'a V>)> {
    differences.map(|difference| match difference {
        DiffItem::Add(key, new) => (key, None, Some(new)),
        DiffItem::Update { old, new } => (new.0, Some(old.1), Some(new.1)),
        DiffItem::Remove(key, old) => (key, Some(old), None),
    })
}
