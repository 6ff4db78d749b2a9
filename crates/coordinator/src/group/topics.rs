//! What a decision sees of the cluster's topics.

use std::sync::Arc;

use millrace_model::{Timestamp, TopicId, TopicName};

use super::Settings;

/// A topic as subscriptions see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topic {
    /// This incarnation's identity.
    pub id: TopicId,
    /// How many partitions it has.
    pub partitions: i32,
}

/// The cluster's topics at one moment; the broker implements it over its metadata image.
pub trait Topics {
    /// Grows whenever anything below may answer differently, so that a group looks again only then.
    fn version(&self) -> u64;

    /// The topic of this name.
    fn by_name(&self, name: &str) -> Option<Topic>;

    /// The name of the topic with this identity.
    fn name_of(&self, id: TopicId) -> Option<TopicName>;

    /// The racks that hold replicas of a partition: sorted, each once, none for replicas without.
    fn racks_of(&self, id: TopicId, partition: i32) -> Vec<Arc<str>>;

    /// Calls `visit` for every topic, in the order of names.
    fn each(&self, visit: &mut dyn FnMut(&TopicName, Topic));
}

/// What a decision may look at beside the groups' own state.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The cluster's topics.
    pub topics: &'a dyn Topics,
    /// The settings.
    pub settings: &'a Settings,
}

/// A view, and the time of the decision.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    /// The steady clock: timers.
    pub now: Timestamp,
    /// The wall clock: what is written down.
    pub wall: Timestamp,
    pub topics: &'a dyn Topics,
    pub settings: &'a Settings,
}
