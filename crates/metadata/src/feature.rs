//! Features: what all nodes can run, and what the cluster has agreed to run (KIP-584).

/// Names of features, as Kafka's tools know them.
pub mod names {
    /// Which records may be written.
    pub const METADATA_VERSION: &str = "metadata.version";
    /// Eligible leader replicas (KIP-966); always on here, whatever its level says.
    pub const ELIGIBLE_LEADER_REPLICAS: &str = "eligible.leader.replicas.version";
    /// Consumer groups (KIP-848).
    pub const GROUP: &str = "group.version";
    /// Transactions (KIP-890).
    pub const TRANSACTION: &str = "transaction.version";
    /// Share groups (KIP-932).
    pub const SHARE: &str = "share.version";
    /// Streams groups (KIP-1071).
    pub const STREAMS: &str = "streams.version";
}

/// The versions of a feature that a node can run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FeatureRange {
    /// The feature's name.
    pub name: String,
    /// The lowest version.
    pub min: i16,
    /// The highest version.
    pub max: i16,
}

/// What this build can run: name, lowest and highest version, sorted by name. The features at 0
/// wait for the APIs that they promise. Level 30 is Kafka's `4.3-IV0`, level 7 its `3.3-IV3`.
pub const SUPPORTED_FEATURES: &[(&str, i16, i16)] = &[
    (names::ELIGIBLE_LEADER_REPLICAS, 0, 1),
    (names::GROUP, 0, 1),
    (names::METADATA_VERSION, 7, 30),
    (names::SHARE, 0, 0),
    (names::STREAMS, 0, 0),
    (names::TRANSACTION, 0, 0),
];

impl FeatureRange {
    /// What this build can run, as a registration carries it.
    pub fn supported() -> Vec<FeatureRange> {
        let owned = |(name, min, max): &(&str, i16, i16)| FeatureRange {
            name: (*name).to_owned(),
            min: *min,
            max: *max,
        };
        SUPPORTED_FEATURES.iter().map(owned).collect()
    }

    /// Whether `level` lies in the range.
    pub fn contains(&self, level: i16) -> bool {
        (self.min..=self.max).contains(&level)
    }
}
