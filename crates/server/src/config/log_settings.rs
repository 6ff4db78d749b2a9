//! The settings of a topic's logs, as storage takes them.

use std::str::FromStr;
use std::time::Duration;

use millrace_model::Durability;
use millrace_protocol::compression::Compression;
use millrace_storage::{CleanerOptions, LogSettings, Packing, TimestampType};

use super::settings::Settings;
use super::topic::{self, TopicOverrides};

/// The least memory for keys that a thread needs, as in Kafka.
const MIN_DEDUPE_BYTES: u64 = 1 << 20;

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
        compression: packing(&value),
        preallocate: value("preallocate") == "true",
        delete: has_policy("delete"),
        compact: has_policy("compact"),
        retention_ms: long("retention.ms"),
        retention_bytes: long("retention.bytes"),
        min_cleanable_ppm: parts_per_million(&value("min.cleanable.dirty.ratio")),
        min_compaction_lag_ms: long("min.compaction.lag.ms"),
        max_compaction_lag_ms: long("max.compaction.lag.ms"),
        delete_retention_ms: long("delete.retention.ms"),
        file_delete_delay_ms: long("file.delete.delay.ms"),
    }
}

/// How the broker packs batches, unless it leaves that to producers.
fn packing(value: &dyn Fn(&str) -> String) -> Option<Packing> {
    let codec = match value("compression.type").as_str() {
        "uncompressed" => Compression::None,
        name => Compression::from_name(name)?,
    };
    let level = match codec {
        Compression::Gzip => value("compression.gzip.level").parse().ok(),
        Compression::Zstd => value("compression.zstd.level").parse().ok(),
        Compression::None | Compression::Snappy | Compression::Lz4 => None,
    };
    // -1 is gzip's own default.
    let level = level.filter(|level| codec != Compression::Gzip || *level > 0);
    Some(Packing { codec, level })
}

/// How this broker compacts logs.
pub fn cleaner_options(broker: &Settings) -> CleanerOptions {
    let number = |name: &str| broker.number(name);
    let double = |name: &str| broker.text(name).parse().unwrap_or(f64::MAX);
    let threads = usize::try_from(number("log.cleaner.threads")).unwrap_or(1);
    let buffer = u64::try_from(number("log.cleaner.dedupe.buffer.size")).unwrap_or(0);
    CleanerOptions {
        enabled: broker.boolean("log.cleaner.enable"),
        threads,
        dedupe_buffer_bytes: buffer.max(MIN_DEDUPE_BYTES * threads as u64),
        load_factor: double("log.cleaner.io.buffer.load.factor"),
        io_buffer_bytes: usize::try_from(number("log.cleaner.io.buffer.size")).unwrap_or(0),
        max_bytes_per_second: double("log.cleaner.io.max.bytes.per.second"),
        backoff: Duration::from_millis(
            u64::try_from(number("log.cleaner.backoff.ms")).unwrap_or(0),
        ),
    }
}

/// What moves between log directories may take, in bytes a second; none is no limit.
pub fn move_rate(broker: &Settings) -> Option<u64> {
    rate(broker.number("replica.alter.log.dirs.io.max.bytes.per.second"))
}

/// Bytes a second that a broker may send as throttled leader; `None` for as many as it can.
pub fn leader_rate(broker: &Settings) -> Option<u64> {
    rate(broker.number("leader.replication.throttled.rate"))
}

/// A setting of bytes a second; `None` where it limits nothing.
pub fn rate(setting: i64) -> Option<u64> {
    let limit = u64::try_from(setting).ok().filter(|_| setting < i64::MAX);
    limit.map(|limit| limit.max(1))
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the table keeps the ratio between 0 and 1"
)]
fn parts_per_million(ratio: &str) -> u32 {
    (ratio.parse().unwrap_or(0.5_f64) * 1e6).round() as u32
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
