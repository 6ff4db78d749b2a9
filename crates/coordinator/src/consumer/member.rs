//! A member of a consumer group, as the log has it (Kafka class `ConsumerGroupMember`).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::wire;
use bytes::Bytes;
use millrace_model::TopicId;

use wire::consumer_group_current_member_assignment_value::TopicPartitions as Recorded;
use wire::consumer_group_member_metadata_value::{ClassicMemberMetadata, ClassicProtocol};

use crate::group::InstanceId;

/// The epoch with which a member joins.
pub(crate) const JOINING: i32 = 0;
/// The epoch with which a member leaves.
pub(crate) const LEAVING: i32 = -1;
/// The epoch with which a static member goes away for a while.
pub(crate) const LEAVING_FOR_A_WHILE: i32 = -2;

/// Names of topics: ascending, each once. Members that subscribe alike share one list.
pub(crate) type Names = Arc<[Arc<str>]>;

/// What a member said of itself, and what it owns.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Member {
    pub epoch: i32,
    pub previous_epoch: i32,
    pub progress: Progress,
    pub instance: Option<InstanceId>,
    pub rack: Option<String>,
    pub rebalance_timeout_ms: i32,
    pub client_id: String,
    pub client_host: String,
    pub names: Names,
    /// Topics by regular expression; empty for none.
    pub expression: Arc<str>,
    pub assignor: Option<String>,
    /// What it may consume.
    pub assigned: Arc<Held>,
    /// What it has to give up and may still own.
    pub revoking: Arc<Held>,
    /// What it said when it joined by the classic protocol, if it did.
    pub classic: Option<Arc<Classic>>,
}

/// How far a member has come towards its target (Kafka class `MemberState`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It owns what the target of its epoch gives it.
    Stable,
    /// It has to give something up before it can go on.
    Unrevoked,
    /// It waits for what others have to give up.
    Unreleased,
    /// Written by a newer version.
    Unknown,
}

/// Partitions, each with the epoch in which the member got it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Held(pub BTreeMap<TopicId, Vec<(i32, i32)>>);

/// What a member of the classic protocol joined with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Classic {
    pub session_timeout_ms: i32,
    /// Strategies with the subscription for each, best first.
    pub protocols: Vec<(String, Bytes)>,
}

impl Default for Member {
    fn default() -> Self {
        Member {
            epoch: 0,
            previous_epoch: -1,
            progress: Progress::Stable,
            instance: None,
            rack: None,
            rebalance_timeout_ms: -1,
            client_id: String::new(),
            client_host: String::new(),
            names: Arc::new([]),
            expression: Arc::from(""),
            assignor: None,
            assigned: Arc::default(),
            revoking: Arc::default(),
            classic: None,
        }
    }
}

impl Member {
    /// Whether it has reached the target of this epoch.
    pub fn has_reached(&self, assignment_epoch: i32) -> bool {
        self.progress == Progress::Stable && self.epoch == assignment_epoch
    }

    /// Whether it speaks the classic protocol.
    pub fn is_classic(&self) -> bool {
        self.classic.is_some()
    }

    /// What it says of itself takes so much memory, beside the names it subscribes to.
    pub fn text_bytes(&self) -> usize {
        let optional = [&self.rack, &self.assignor];
        let optional = optional
            .into_iter()
            .flatten()
            .map(String::len)
            .sum::<usize>();
        let instance = self.instance.as_ref().map_or(0, |instance| instance.len());
        let classic = self.classic.as_ref().map_or(0, |classic| classic.bytes());
        let client = self.client_id.len() + self.client_host.len();
        client + optional + instance + self.expression.len() + classic
    }

    /// Whether it subscribes to this topic by name.
    pub fn names_topic(&self, name: &str) -> bool {
        self.names
            .binary_search_by(|known| (**known).cmp(name))
            .is_ok()
    }

    /// The next epoch; remembers this one, with which the member may ask once more.
    pub fn set_epoch(&mut self, epoch: i32) {
        self.previous_epoch = self.epoch;
        self.epoch = epoch;
    }
}

impl Progress {
    pub fn code(self) -> i8 {
        match self {
            Progress::Stable => 0,
            Progress::Unrevoked => 1,
            Progress::Unreleased => 2,
            Progress::Unknown => 127,
        }
    }

    pub fn from_code(code: i8) -> Progress {
        match code {
            0 => Progress::Stable,
            1 => Progress::Unrevoked,
            2 => Progress::Unreleased,
            _ => Progress::Unknown,
        }
    }
}

impl Held {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The epoch in which this partition was got; `None` if it is not held.
    pub fn since(&self, topic: TopicId, partition: i32) -> Option<i32> {
        let partitions = self.0.get(&topic)?;
        let place = partitions.binary_search_by_key(&partition, |(known, _)| *known);
        place.ok().map(|place| partitions[place].1)
    }

    /// Adds partitions, got in these epochs.
    pub fn add(&mut self, topic: TopicId, partitions: impl IntoIterator<Item = (i32, i32)>) {
        let known = self.0.entry(topic).or_default();
        known.extend(partitions);
        known.sort_unstable();
        known.dedup_by_key(|(partition, _)| *partition);
        if known.is_empty() {
            self.0.remove(&topic);
        }
    }

    /// The same partitions, all got in this epoch.
    pub fn all_since(&self, epoch: i32) -> Held {
        let mut held = self.clone();
        for (_, since) in held.0.values_mut().flatten() {
            *since = epoch;
        }
        held
    }

    /// As a record has it; one without epochs means `default` for all.
    pub fn from_record(recorded: &[Recorded], default: i32) -> Held {
        let default = default.max(0);
        let mut held = Held::default();
        for topic in recorded {
            let epochs = topic
                .assignment_epochs
                .as_ref()
                .filter(|epochs| epochs.len() == topic.partitions.len());
            let partitions = topic.partitions.iter().enumerate();
            held.add(
                TopicId(topic.topic_id),
                partitions.map(|(place, partition)| {
                    let since = epochs.map_or(default, |epochs| epochs[place]);
                    (*partition, since)
                }),
            );
        }
        held
    }

    pub fn to_record(&self) -> Vec<Recorded> {
        let topics = self.0.iter().map(|(topic, partitions)| Recorded {
            topic_id: topic.0,
            partitions: partitions.iter().map(|(partition, _)| *partition).collect(),
            assignment_epochs: Some(partitions.iter().map(|(_, since)| *since).collect()),
            ..Default::default()
        });
        topics.collect()
    }
}

impl Classic {
    pub fn from_record(recorded: &ClassicMemberMetadata) -> Classic {
        let protocols = recorded.supported_protocols.iter();
        Classic {
            session_timeout_ms: recorded.session_timeout_ms,
            protocols: protocols
                .map(|protocol| (protocol.name.clone(), protocol.metadata.clone()))
                .collect(),
        }
    }

    pub fn to_record(&self) -> ClassicMemberMetadata {
        let protocols = self
            .protocols
            .iter()
            .map(|(name, metadata)| ClassicProtocol {
                name: name.clone(),
                metadata: metadata.clone(),
                ..Default::default()
            });
        ClassicMemberMetadata {
            session_timeout_ms: self.session_timeout_ms,
            supported_protocols: protocols.collect(),
            ..Default::default()
        }
    }

    fn bytes(&self) -> usize {
        let sizes = self
            .protocols
            .iter()
            .map(|(name, metadata)| name.len() + metadata.len());
        sizes.sum()
    }

    /// The strategy that counts, which is the one it likes best, and the subscription for it.
    pub fn preferred(&self) -> Option<(&str, &Bytes)> {
        let first = self.protocols.first();
        first.map(|(name, metadata)| (name.as_str(), metadata))
    }
}
