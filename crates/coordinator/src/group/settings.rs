//! The settings of the group coordinator, as Kafka names and defaults them (class
//! `GroupCoordinatorConfig`). What bounds a value is checked where configurations are parsed.

use std::collections::BTreeMap;

/// Settings of the broker, and of single groups.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// `group.min.session.timeout.ms`: of classic members.
    pub min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`: of classic members.
    pub max_session_timeout_ms: i32,
    /// `group.initial.rebalance.delay.ms`: how long an empty classic group waits for more members.
    pub initial_rebalance_delay_ms: i32,
    /// `group.max.size`: members of a classic group.
    pub max_size: usize,
    /// `group.consumer.session.timeout.ms`, where the group has none of its own.
    pub consumer_session_timeout_ms: i32,
    /// `group.consumer.heartbeat.interval.ms`, where the group has none of its own.
    pub consumer_heartbeat_interval_ms: i32,
    /// `group.consumer.max.size`: members of a consumer group.
    pub consumer_max_size: usize,
    /// `group.consumer.assignors`, by name; the first is the default.
    pub consumer_assignors: Vec<String>,
    /// `group.consumer.migration.policy`.
    pub consumer_migration: MigrationPolicy,
    /// `group.consumer.regex.refresh.interval.ms`.
    pub consumer_regex_refresh_interval_ms: i64,
    /// `group.consumer.assignment.interval.ms`, where the group has none of its own: the least time
    /// between two assignments of a group; 0 computes one at once.
    pub consumer_assignment_interval_ms: i32,
    /// Whether `group.coordinator.rebalance.protocols` lists `consumer` and `group.version` is at
    /// least 1.
    pub consumer_protocol: bool,
    /// `offset.metadata.max.bytes`: of one committed offset, in characters as Kafka counts them.
    pub offset_metadata_max_bytes: usize,
    /// `offsets.retention.minutes`, in milliseconds.
    pub offsets_retention_ms: i64,
    /// `offsets.retention.check.interval.ms`.
    pub offsets_retention_check_interval_ms: i64,
    /// The largest batch that the internal topic takes (its `max.message.bytes`).
    pub max_batch_bytes: usize,
    /// What `kafka-configs.sh --entity-type groups` set, by group id.
    pub groups: BTreeMap<String, GroupSettings>,
}

/// Settings of one group; `None` where the broker's count.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupSettings {
    /// `consumer.session.timeout.ms`.
    pub consumer_session_timeout_ms: Option<i32>,
    /// `consumer.heartbeat.interval.ms`.
    pub consumer_heartbeat_interval_ms: Option<i32>,
    /// `consumer.assignment.interval.ms`.
    pub consumer_assignment_interval_ms: Option<i32>,
}

/// Which ways a group may change its protocol while members stay (`group.consumer.migration.policy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MigrationPolicy {
    /// Neither.
    Disabled,
    /// From consumer to classic, when the last member of the consumer protocol leaves.
    Downgrade,
    /// From classic to consumer, when the first member of the consumer protocol joins.
    Upgrade,
    /// Both.
    #[default]
    Bidirectional,
}

impl MigrationPolicy {
    /// Whether a classic group may turn into a consumer group.
    pub fn upgrades(self) -> bool {
        matches!(
            self,
            MigrationPolicy::Upgrade | MigrationPolicy::Bidirectional
        )
    }

    /// Whether a consumer group may turn into a classic group.
    pub fn downgrades(self) -> bool {
        matches!(
            self,
            MigrationPolicy::Downgrade | MigrationPolicy::Bidirectional
        )
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            min_session_timeout_ms: 6_000,
            max_session_timeout_ms: 1_800_000,
            initial_rebalance_delay_ms: 3_000,
            max_size: i32::MAX as usize,
            consumer_session_timeout_ms: 45_000,
            consumer_heartbeat_interval_ms: 5_000,
            consumer_max_size: i32::MAX as usize,
            consumer_assignors: vec!["uniform".to_owned(), "range".to_owned()],
            consumer_migration: MigrationPolicy::Bidirectional,
            consumer_regex_refresh_interval_ms: 600_000,
            consumer_assignment_interval_ms: 1_000,
            consumer_protocol: true,
            offset_metadata_max_bytes: 4_096,
            offsets_retention_ms: 7 * 24 * 60 * 60 * 1_000,
            offsets_retention_check_interval_ms: 600_000,
            max_batch_bytes: 1_048_588,
            groups: BTreeMap::new(),
        }
    }
}

impl Settings {
    /// The session timeout of a consumer group's members.
    pub fn consumer_session_timeout_ms(&self, group: &str) -> i32 {
        let own = self.groups.get(group);
        own.and_then(|own| own.consumer_session_timeout_ms)
            .unwrap_or(self.consumer_session_timeout_ms)
    }

    /// How often a consumer group's members are told to send heartbeats.
    pub fn consumer_heartbeat_interval_ms(&self, group: &str) -> i32 {
        let own = self.groups.get(group);
        own.and_then(|own| own.consumer_heartbeat_interval_ms)
            .unwrap_or(self.consumer_heartbeat_interval_ms)
    }

    /// The least time between two assignments of a consumer group.
    pub fn consumer_assignment_interval_ms(&self, group: &str) -> i32 {
        let own = self.groups.get(group);
        own.and_then(|own| own.consumer_assignment_interval_ms)
            .unwrap_or(self.consumer_assignment_interval_ms)
    }
}
