//! Every topic property of Kafka 4.3.1 and our own: each is enforced, or refused by its name.

use std::collections::BTreeMap;

use millrace_metadata::{Batch, Image, Record, Resource};
use millrace_model::{ImageVersion, TopicName};
use millrace_storage::LogSettings;

use super::*;
use crate::config::log_settings;
use crate::config::table::{Scope, properties};
use crate::config::topic::{TopicOverrides, check_topic};

/// What a log sees of a property.
type Seen = fn(&LogSettings) -> String;

/// What the controller sees of it.
type Decided = fn(&Image, &TopicName) -> String;

/// Enforced by each replica's log: a value that is not the default, and where it shows.
const BY_LOGS: &[(&str, &str, Seen)] = &[
    ("cleanup.policy", "compact", |s| {
        format!("{:?}", (s.compact, s.delete))
    }),
    ("compression.gzip.level", "7", |s| {
        format!("{:?}", s.compression)
    }),
    ("compression.type", "snappy", |s| {
        format!("{:?}", s.compression)
    }),
    ("compression.zstd.level", "7", |s| {
        format!("{:?}", s.compression)
    }),
    ("delete.retention.ms", "77", |s| {
        s.delete_retention_ms.to_string()
    }),
    ("file.delete.delay.ms", "77", |s| {
        s.file_delete_delay_ms.to_string()
    }),
    ("flush.messages", "1", |s| s.durability.to_string()),
    ("flush.ms", "1", |s| s.durability.to_string()),
    ("index.interval.bytes", "77", |s| {
        s.index_interval_bytes.to_string()
    }),
    ("internal.segment.bytes", "77", |s| {
        s.segment_bytes.to_string()
    }),
    ("max.compaction.lag.ms", "77", |s| {
        s.max_compaction_lag_ms.to_string()
    }),
    ("max.message.bytes", "77", |s| {
        s.max_message_bytes.to_string()
    }),
    ("message.timestamp.after.max.ms", "77", |s| {
        s.timestamp_after_max_ms.to_string()
    }),
    ("message.timestamp.before.max.ms", "77", |s| {
        s.timestamp_before_max_ms.to_string()
    }),
    ("message.timestamp.type", "LogAppendTime", |s| {
        format!("{:?}", s.timestamp_type)
    }),
    ("millrace.durability", "page-cache", |s| {
        s.durability.to_string()
    }),
    ("min.cleanable.dirty.ratio", "0.7", |s| {
        s.min_cleanable_ppm.to_string()
    }),
    ("min.compaction.lag.ms", "77", |s| {
        s.min_compaction_lag_ms.to_string()
    }),
    ("preallocate", "true", |s| s.preallocate.to_string()),
    ("retention.bytes", "77", |s| s.retention_bytes.to_string()),
    ("retention.ms", "77", |s| s.retention_ms.to_string()),
    ("segment.bytes", "1048577", |s| s.segment_bytes.to_string()),
    ("segment.index.bytes", "77", |s| {
        s.segment_index_bytes.to_string()
    }),
    ("segment.jitter.ms", "77", |s| {
        s.segment_jitter_ms.to_string()
    }),
    ("segment.ms", "77", |s| s.segment_ms.to_string()),
];

/// Enforced by the controller, which reads them from the image.
const BY_CONTROLLER: &[(&str, &str, Decided)] = &[
    ("min.insync.replicas", "2", |image, topic| {
        image.configured_min_insync(topic).to_string()
    }),
    ("unclean.leader.election.enable", "true", |image, topic| {
        image.unclean_election_allowed(topic).to_string()
    }),
];

/// Told to replication, which limits what they name; see `reconcile::throttles`.
const BY_REPLICATION: &[&str] = &[
    "follower.replication.throttled.replicas",
    "leader.replication.throttled.replicas",
];

/// Refused unless they are at their defaults: tiered storage is not there, and the packer of lz4
/// knows no levels.
const REFUSED: &[(&str, &str)] = &[
    ("compression.lz4.level", "10"),
    ("local.retention.bytes", "77"),
    ("local.retention.ms", "77"),
    ("remote.log.copy.disable", "true"),
    ("remote.log.delete.on.disable", "true"),
    ("remote.storage.enable", "true"),
];

/// All of Kafka 4.3.1's, as its class `TopicConfig` and `LogConfig` define them.
const KAFKAS: &str = "cleanup.policy compression.gzip.level compression.lz4.level \
    compression.type compression.zstd.level delete.retention.ms file.delete.delay.ms \
    flush.messages flush.ms follower.replication.throttled.replicas index.interval.bytes \
    internal.segment.bytes leader.replication.throttled.replicas local.retention.bytes \
    local.retention.ms max.compaction.lag.ms max.message.bytes message.timestamp.after.max.ms \
    message.timestamp.before.max.ms message.timestamp.type min.cleanable.dirty.ratio \
    min.compaction.lag.ms min.insync.replicas preallocate remote.log.copy.disable \
    remote.log.delete.on.disable remote.storage.enable retention.bytes retention.ms segment.bytes \
    segment.index.bytes segment.jitter.ms segment.ms unclean.leader.election.enable";

/// What must be set beside a property for it to mean anything.
fn beside(name: &str) -> Option<(&'static str, &'static str)> {
    match name {
        "compression.gzip.level" => Some(("compression.type", "gzip")),
        "compression.zstd.level" => Some(("compression.type", "zstd")),
        _ => None,
    }
}

fn checked(config: &Config, pairs: &[(&str, &str)]) -> Result<TopicOverrides, String> {
    let pairs = pairs.iter();
    let pairs = pairs.map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned())));
    check_topic(&config.settings, &pairs.collect::<BTreeMap<_, _>>())
}

#[test]
fn every_topic_property_is_known_here() {
    let logs = BY_LOGS.iter().map(|(name, ..)| *name);
    let controller = BY_CONTROLLER.iter().map(|(name, ..)| *name);
    let refused = REFUSED.iter().map(|(name, _)| *name);
    let replication = BY_REPLICATION.iter().copied();
    let mut ours: Vec<&str> = logs.chain(controller).chain(replication).collect();
    ours.extend(refused);
    ours.sort_unstable();
    let rows = properties(Scope::Topic);
    let mut rows: Vec<&str> = rows.map(|row| row.name).collect();
    rows.sort_unstable();
    assert_eq!(ours, rows);
    let kafkas: Vec<&str> = KAFKAS.split_whitespace().collect();
    rows.retain(|name| !name.starts_with("millrace."));
    assert_eq!(rows, kafkas);
}

#[test]
fn a_property_of_a_topic_reaches_its_logs() {
    let (config, _) = load(&format!("{BASE}{LISTENERS}"));
    // Under page-cache, so that what asks for a flush shows.
    let relaxed = [("millrace.durability".to_owned(), "page-cache".to_owned())];
    let relaxed = relaxed.into_iter().collect();
    let relaxed = config.settings.with_dynamic(&relaxed, &BTreeMap::new());
    for (name, value, seen) in BY_LOGS {
        let broker = match name.starts_with("flush.") {
            true => &relaxed,
            false => &config.settings,
        };
        let beside: Vec<(&str, &str)> = beside(name).into_iter().collect();
        let plain = checked(&config, &beside).expect("these are right");
        let both = [&beside[..], &[(*name, *value)]].concat();
        let set = checked(&config, &both).unwrap_or_else(|why| panic!("{name}: {why}"));
        let [plain, set] = [plain, set].map(|own| seen(&log_settings(broker, &own)));
        assert_ne!(plain, set, "{name}={value} changes nothing");
    }
}

#[test]
fn a_property_of_replication_reaches_the_controller() {
    let (config, _) = load(&format!("{BASE}{LISTENERS}"));
    let topic = TopicName::new("t").expect("a name");
    for (name, value, seen) in BY_CONTROLLER {
        checked(&config, &[(name, value)]).unwrap_or_else(|why| panic!("{name}: {why}"));
        let before = Image::default();
        let record = Record::Config {
            resource: Resource::topic(&topic),
            name: (*name).to_owned(),
            value: Some((*value).to_owned()),
        };
        let records = vec![Record::Cluster { id: "test".into() }, record];
        let batch = Batch {
            based_on: before.version(),
            records,
        };
        let after = before.apply(&batch, ImageVersion(1)).expect("it fits");
        assert_ne!(seen(&before, &topic), seen(&after, &topic), "{name}");
    }
}

#[test]
fn what_is_not_enforced_is_refused_by_its_name() {
    let (config, _) = load(&format!("{BASE}{LISTENERS}"));
    for (name, value) in REFUSED {
        let why = checked(&config, &[(name, value)]).expect_err(name);
        let said = format!("The topic config {name}={value} has no effect in Millrace yet");
        assert!(why.starts_with(&said), "{why}");
        let row = crate::config::table::property(Scope::Topic, name).expect("it is known");
        let default = row.default.expect("all of these have one");
        assert!(
            checked(&config, &[(name, default)]).is_ok(),
            "{name}={default}"
        );
    }
}
