//! The settings of the group coordinator and of its internal topic.

use std::collections::BTreeMap;
use std::time::Duration;

use millrace_coordinator::group::{self, GroupSettings, MigrationPolicy};
use millrace_metadata::{Image, Resource, ResourceKind};
use millrace_model::TopicName;
use millrace_protocol::compression::Compression;

use super::settings::Settings;
use super::{ConfigError, error, topic};
use crate::api::internal::GROUP_OFFSETS;

/// `offsets.*`: how the topic of offsets is made, written and read.
#[derive(Clone, Debug)]
pub struct OffsetsTopic {
    /// `offsets.topic.num.partitions`.
    pub partitions: i32,
    /// `offsets.topic.replication.factor`.
    pub replication_factor: i16,
    /// `offsets.topic.segment.bytes`.
    pub segment_bytes: i64,
    /// `offsets.topic.compression.codec`.
    pub compression: Compression,
    /// `offsets.commit.timeout.ms`.
    pub commit_timeout: Duration,
    /// `offsets.load.buffer.size`.
    pub load_bytes: usize,
}

impl OffsetsTopic {
    pub(super) fn of(settings: &Settings) -> OffsetsTopic {
        let codec = u8::try_from(settings.number("offsets.topic.compression.codec")).ok();
        OffsetsTopic {
            partitions: super::number(settings, "offsets.topic.num.partitions"),
            replication_factor: super::number(settings, "offsets.topic.replication.factor"),
            segment_bytes: settings.number("offsets.topic.segment.bytes"),
            compression: codec
                .and_then(|id| Compression::from_id(id).ok())
                .unwrap_or(Compression::None),
            commit_timeout: super::millis(settings, "offsets.commit.timeout.ms"),
            load_bytes: super::number(settings, "offsets.load.buffer.size"),
        }
    }
}

/// What groups go by: the broker's settings, and those of single groups in the image.
pub fn group_settings(given: &Settings, image: &Image) -> group::Settings {
    let int = |name: &str| i32::try_from(given.number(name)).unwrap_or(i32::MAX);
    let size = |name: &str| usize::try_from(given.number(name)).unwrap_or(0);
    let protocols = given.list("group.coordinator.rebalance.protocols");
    let consumer = protocols.iter().any(|name| name == "consumer");
    let minutes = given.number("offsets.retention.minutes");
    group::Settings {
        min_session_timeout_ms: int("group.min.session.timeout.ms"),
        max_session_timeout_ms: int("group.max.session.timeout.ms"),
        initial_rebalance_delay_ms: int("group.initial.rebalance.delay.ms"),
        max_size: size("group.max.size"),
        consumer_session_timeout_ms: int("group.consumer.session.timeout.ms"),
        consumer_heartbeat_interval_ms: int("group.consumer.heartbeat.interval.ms"),
        consumer_max_size: size("group.consumer.max.size"),
        consumer_assignors: assignors(given),
        consumer_migration: migration(given.text("group.consumer.migration.policy")),
        consumer_regex_refresh_interval_ms: given
            .number("group.consumer.regex.refresh.interval.ms"),
        consumer_assignment_interval_ms: int("group.consumer.assignment.interval.ms"),
        consumer_protocol: consumer && image.feature("group.version") >= 1,
        offset_metadata_max_bytes: size("offset.metadata.max.bytes"),
        offsets_retention_ms: minutes.saturating_mul(60_000),
        offsets_retention_check_interval_ms: given.number("offsets.retention.check.interval.ms"),
        max_batch_bytes: max_batch_bytes(given, image),
        groups: of_single_groups(image),
    }
}

/// The settings of consumer groups that have bounds beside them: what of a group, what of a broker.
const BOUNDED: [&str; 3] = [
    "heartbeat.interval.ms",
    "session.timeout.ms",
    "assignment.interval.ms",
];

/// What Kafka checks over several settings of groups when a broker starts (class
/// `GroupCoordinatorConfig`), in its words.
pub(super) fn check_broker(given: &Settings) -> Result<(), ConfigError> {
    let at_least = |more: &str, less: &str| match given.number(more) < given.number(less) {
        true => error(format!("{more} must be greater than or equal to {less}")),
        false => Ok(()),
    };
    for name in BOUNDED {
        let of = |bound: &str| format!("group.consumer.{bound}{name}");
        at_least(&of("max."), &of("min."))?;
        at_least(&of(""), &of("min."))?;
        at_least(&of("max."), &of(""))?;
    }
    at_least(
        "group.max.session.timeout.ms",
        "group.min.session.timeout.ms",
    )?;
    let (beat, session) = (
        "group.consumer.heartbeat.interval.ms",
        "group.consumer.session.timeout.ms",
    );
    if given.number(beat) >= given.number(session) {
        return error(format!("{beat} must be less than {session}"));
    }
    let protocols = given.list("group.coordinator.rebalance.protocols");
    if !protocols.iter().any(|name| name == "classic") {
        return error("Disabling the 'classic' protocol is not supported.");
    }
    let known = |name: &String| ASSIGNORS.iter().any(|(short, _)| short == name);
    match assignors(given).iter().find(|name| !known(name)) {
        Some(name) => error(format!(
            "group.consumer.assignors names {name}; there are uniform and range"
        )),
        None => Ok(()),
    }
}

/// What Kafka checks over several settings of one group (class `GroupConfig`), in its words.
///
/// # Errors
/// The message of INVALID_CONFIG.
pub fn check_group(given: &Settings, own: &BTreeMap<String, String>) -> Result<(), String> {
    let of_group = |name: &str| {
        let set = own.get(&format!("consumer.{name}"));
        let set = set.and_then(|value| value.parse::<i64>().ok());
        set.unwrap_or_else(|| given.number(&format!("group.consumer.{name}")))
    };
    for name in BOUNDED {
        let value = of_group(name);
        let bound = |kind: &str| format!("group.consumer.{kind}.{name}");
        if value < given.number(&bound("min")) {
            let least = bound("min");
            return Err(format!(
                "consumer.{name} must be greater than or equal to {least}"
            ));
        }
        if value > given.number(&bound("max")) {
            let most = bound("max");
            return Err(format!(
                "consumer.{name} must be less than or equal to {most}"
            ));
        }
    }
    match of_group("session.timeout.ms") <= of_group("heartbeat.interval.ms") {
        true => Err(
            "consumer.session.timeout.ms must be greater than consumer.heartbeat.interval.ms"
                .to_owned(),
        ),
        false => Ok(()),
    }
}

/// The assignors of brokers, by name and by Kafka's class.
const ASSIGNORS: [(&str, &str); 2] = [
    (
        "uniform",
        "org.apache.kafka.coordinator.group.assignor.UniformAssignor",
    ),
    (
        "range",
        "org.apache.kafka.coordinator.group.assignor.RangeAssignor",
    ),
];

fn assignors(given: &Settings) -> Vec<String> {
    let named = given.list("group.consumer.assignors").into_iter();
    let short = named.map(|name| {
        let known = ASSIGNORS.iter().find(|(_, class)| *class == name);
        known.map_or(name, |(short, _)| (*short).to_owned())
    });
    short.collect()
}

fn max_batch_bytes(given: &Settings, image: &Image) -> usize {
    let name = TopicName::new(GROUP_OFFSETS).expect("the name of Kafka's own topic is valid");
    let own = image.configs_of(&Resource::topic(&name));
    let own = own.map(|own| (**own).clone()).unwrap_or_default();
    let limit = topic::value(given, &own, "max.message.bytes");
    limit.and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn migration(policy: &str) -> MigrationPolicy {
    match policy.to_ascii_uppercase().as_str() {
        "DISABLED" => MigrationPolicy::Disabled,
        "DOWNGRADE" => MigrationPolicy::Downgrade,
        "UPGRADE" => MigrationPolicy::Upgrade,
        _ => MigrationPolicy::Bidirectional,
    }
}

/// What was set for single groups.
fn of_single_groups(image: &Image) -> BTreeMap<String, GroupSettings> {
    let of_groups = image
        .configs()
        .filter(|(resource, _)| resource.kind == ResourceKind::Group);
    let settings = of_groups.map(|(resource, set)| {
        let number = |name: &str| set.get(name).and_then(|value| value.parse().ok());
        let settings = GroupSettings {
            consumer_session_timeout_ms: number("consumer.session.timeout.ms"),
            consumer_heartbeat_interval_ms: number("consumer.heartbeat.interval.ms"),
            consumer_assignment_interval_ms: number("consumer.assignment.interval.ms"),
        };
        (resource.name.clone(), settings)
    });
    settings.collect()
}
