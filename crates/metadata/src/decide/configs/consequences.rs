//! What a change of settings means for partitions; goes into the same batch.

use std::collections::BTreeSet;

use millrace_model::{Durability, PartitionId, TopicId};

use crate::config::Resource;
use crate::decide::{Change, Draft};
use crate::image::{Image, Topic};
use crate::record::Record;

/// The settings of a topic that partitions depend upon.
#[derive(PartialEq, Eq)]
struct Settings {
    min_insync: usize,
    unclean: bool,
    durability: Durability,
}

impl Settings {
    fn of(image: &Image, topic: &Topic) -> Settings {
        Settings {
            min_insync: image.configured_min_insync(&topic.name),
            unclean: image.unclean_election_allowed(&topic.name),
            durability: image.configured_durability(&topic.name),
        }
    }
}

impl Draft {
    /// Brings partitions in line with the settings that the records so far have changed.
    pub(super) fn settle_consequences(&mut self, before: &Image) {
        let mut records = Vec::new();
        for topic in self.topics_concerned() {
            let topic = self
                .image
                .topic(topic)
                .expect("settings are of topics that exist");
            let (was, is) = (
                Settings::of(before, topic),
                Settings::of(&self.image, topic),
            );
            if was == is {
                continue;
            }
            let partitions = self.image.partitions_of(topic.id);
            let changes = partitions.filter_map(|(id, _)| self.follow(id, &was, &is));
            records.extend(changes);
        }
        self.extend(records);
    }

    fn topics_concerned(&self) -> BTreeSet<TopicId> {
        let mut topics = BTreeSet::new();
        for record in &self.records {
            let Record::Config { resource, .. } = record else {
                continue;
            };
            if *resource == Resource::cluster() {
                return self.image.topics().map(|topic| topic.id).collect();
            }
            let topic = self.image.topic_named(&resource.name);
            topics.extend(
                topic
                    .filter(|t| Resource::topic(&t.name) == *resource)
                    .map(|t| t.id),
            );
        }
        topics
    }

    fn follow(&self, id: PartitionId, was: &Settings, is: &Settings) -> Option<Record> {
        let mut change = Change::of(&self.image, id);
        let replicas = change.next.replicas.len();
        if was.min_insync.min(replicas) != is.min_insync.min(replicas) {
            change.forget_elr();
        }
        match (was.durability, is.durability) {
            (Durability::Fsync, Durability::PageCache) => {
                change.next.durability = Durability::PageCache;
            }
            // What was acknowledged so far may be in page caches only. Under a new epoch every
            // acknowledgement comes from who knows of fsync; when that covers what the log held at
            // the epoch's start, the leader confirms.
            (Durability::PageCache, Durability::Fsync) => change.raise_epoch(),
            _ => {}
        }
        change.record()
    }
}
