//! The settings of a topic's logs, as storage takes them.

use std::str::FromStr;

use millrace_model::Durability;
use millrace_storage::{LogSettings, TimestampType};

use super::settings::Settings;
use super::topic::{self, TopicOverrides};

/// What holds for the logs of a topic with these values of its own.
pub fn log_settings(broker: &Settings, own: &TopicOverrides) -> LogSettings {
    let value = |name: &str| topic::value(broker, own, name).unwrap_or_default();
    let long = |name: &str| i64::from_str(&value(name)).unwrap_or_default();
    let size = |name: &str| u64::from_str(&value(name)).unwrap_or_default();
    let policies = value("cleanup.policy");
    let has_policy = |name: &str| policies.split(',').any(|policy| policy == name);
    let internal = own.get("internal.segment.bytes");
    LogSettings {
        segment_bytes: internal
            .and_then(|v| v.parse().ok())
            .unwrap_or_else(|| size("segment.bytes")),
        segment_ms: long("segment.ms"),
        segment_jitter_ms: long("segment.jitter.ms"),
        index_interval_bytes: size("index.interval.bytes"),
        segment_index_bytes: size("segment.index.bytes"),
        durability: durability(broker, own),
        max_message_bytes: usize::try_from(size("max.message.bytes")).unwrap_or(usize::MAX),
        timestamp_type: match value("message.timestamp.type").as_str() {
            "LogAppendTime" => TimestampType::LogAppendTime,
            _ => TimestampType::CreateTime,
        },
        timestamp_before_max_ms: long("message.timestamp.before.max.ms"),
        timestamp_after_max_ms: long("message.timestamp.after.max.ms"),
        delete: has_policy("delete"),
        compact: has_policy("compact"),
        retention_ms: long("retention.ms"),
        retention_bytes: long("retention.bytes"),
        file_delete_delay_ms: long("file.delete.delay.ms"),
    }
}

/// What an acknowledgement means. Kafka's flush settings bound how much a power cut may lose;
/// whoever sets them gets fdatasync for each batch, which is at least as much.
fn durability(broker: &Settings, own: &TopicOverrides) -> Durability {
    let is_set = |name| topic::value(broker, own, name).is_some_and(|v| v != i64::MAX.to_string());
    if is_set("flush.messages") || is_set("flush.ms") {
        return Durability::Fsync;
    }
    let name = topic::value(broker, own, "millrace.durability");
    name.and_then(|name| name.parse().ok()).unwrap_or_default()
}
