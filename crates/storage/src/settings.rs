//! Settings of the store and of each log, with Kafka's defaults.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use millrace_host::Host;
pub use millrace_protocol::batch::TimestampType;
use millrace_protocol::compression::Compression;

use millrace_model::{DirectoryId, Durability, Offset, PartitionId};

/// The settings of one topic that its logs obey; Kafka's names and defaults (class `LogConfig`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// `segment.bytes`: a segment does not grow beyond this.
    pub segment_bytes: u64,
    /// `segment.ms`: a segment does not span more time than this, by the records' timestamps.
    pub segment_ms: i64,
    /// `segment.jitter.ms`: up to this is taken off `segment_ms`, at random for each segment.
    pub segment_jitter_ms: i64,
    /// `index.interval.bytes`: an index entry each time more than this was appended.
    pub index_interval_bytes: u64,
    /// `segment.index.bytes`: a full index rolls the segment.
    pub segment_index_bytes: u64,
    /// `millrace.durability`: what must have happened before the log calls a batch durable.
    pub durability: Durability,
    /// `max.message.bytes`: the largest batch a leader takes.
    pub max_message_bytes: usize,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`: how far a timestamp may lie in the past.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`: how far a timestamp may lie in the future.
    pub timestamp_after_max_ms: i64,
    /// `compression.type`, unless it is `producer`: how the broker packs batches.
    pub compression: Option<Packing>,
    /// `preallocate`: room for a whole segment is set aside when it begins.
    pub preallocate: bool,
    /// Whether `cleanup.policy` has `delete`: retention by time and size is in force.
    pub delete: bool,
    /// Whether `cleanup.policy` has `compact`: of each key the newest record is kept.
    pub compact: bool,
    /// `retention.ms`: a segment whose records are all older goes; below zero none does.
    pub retention_ms: i64,
    /// `retention.bytes`: the oldest segments beyond it go; below zero none do.
    pub retention_bytes: i64,
    /// `min.cleanable.dirty.ratio`, in parts per million.
    pub min_cleanable_ppm: u32,
    /// `min.compaction.lag.ms`: a segment with a younger record is not compacted.
    pub min_compaction_lag_ms: i64,
    /// `max.compaction.lag.ms`: a segment with an older record is compacted, however little is
    /// dirty.
    pub max_compaction_lag_ms: i64,
    /// `delete.retention.ms`: how long tombstones and markers stay once nothing else needs them.
    pub delete_retention_ms: i64,
    /// `file.delete.delay.ms`: how long the files of what was deleted stay, under another name.
    pub file_delete_delay_ms: i64,
}

/// How a broker packs batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packing {
    /// The codec.
    pub codec: Compression,
    /// `compression.*.level` of that codec; its default if it has none.
    pub level: Option<i32>,
}

impl LogSettings {
    /// What a segment may span: a compacted log must close it in time to compact it (Kafka method
    /// `LogConfig.maxSegmentMs`).
    pub(crate) fn max_segment_ms(&self) -> i64 {
        match self.compact && self.max_compaction_lag_ms > 0 {
            true => self.segment_ms.min(self.max_compaction_lag_ms),
            false => self.segment_ms,
        }
    }
}

/// How logs are compacted (Kafka class `CleanerConfig`).
#[derive(Clone, Debug, PartialEq)]
pub struct CleanerOptions {
    /// `log.cleaner.enable`.
    pub enabled: bool,
    /// `log.cleaner.threads`: logs compacted at once.
    pub threads: usize,
    /// `log.cleaner.dedupe.buffer.size`: memory for keys, over all threads.
    pub dedupe_buffer_bytes: u64,
    /// `log.cleaner.io.buffer.load.factor`: how full that memory may become.
    pub load_factor: f64,
    /// `log.cleaner.io.buffer.size`: bytes read at once, over all threads.
    pub io_buffer_bytes: usize,
    /// `log.cleaner.io.max.bytes.per.second`: reads and writes together.
    pub max_bytes_per_second: f64,
    /// `log.cleaner.backoff.ms`: the pause when there is nothing to compact.
    pub backoff: Duration,
}

impl Default for CleanerOptions {
    fn default() -> Self {
        CleanerOptions {
            enabled: true,
            threads: 1,
            dedupe_buffer_bytes: 128 << 20,
            load_factor: 0.9,
            io_buffer_bytes: 512 << 10,
            max_bytes_per_second: f64::MAX,
            backoff: Duration::from_secs(15),
        }
    }
}

impl Default for LogSettings {
    fn default() -> Self {
        LogSettings {
            segment_bytes: 1 << 30,
            segment_ms: 604_800_000,
            segment_jitter_ms: 0,
            index_interval_bytes: 4096,
            segment_index_bytes: 10 << 20,
            durability: Durability::Fsync,
            max_message_bytes: 1_048_588,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
            compression: None,
            preallocate: false,
            delete: true,
            compact: false,
            retention_ms: 604_800_000,
            retention_bytes: -1,
            min_cleanable_ppm: 500_000,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            delete_retention_ms: 86_400_000,
            file_delete_delay_ms: 60_000,
        }
    }
}

/// One of `log.dirs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogDirectory {
    /// Where it is.
    pub path: PathBuf,
    /// `directory.id` of its `meta.properties`.
    pub id: DirectoryId,
}

/// What the store tells whoever cares; called from a directory's writer thread, so it must be
/// short and must not block.
pub trait StoreEvents: Send + Sync + 'static {
    /// The new `durable_end` of each log that a group commit moved.
    fn durable(&self, progress: &[(PartitionId, Offset)]);
    /// The log start of these moved without anybody's asking, or became durable.
    fn start_moved(&self, _logs: &[PartitionId]) {}
    /// A log has moved to another directory.
    fn relocated(&self, _id: PartitionId, _directory: DirectoryId) {}
    /// A directory has become short of space or slow, or is so no more: look at
    /// [`crate::DirectoryState::full`] and [`crate::DirectoryState::slow`] of all.
    fn condition_changed(&self) {}
    /// More of a log is damaged on its disk than was known; see [`crate::Log::damaged_from`].
    fn damaged(&self, _log: PartitionId) {}
    /// A directory failed: nothing in it is read or written any more.
    fn offline(&self, directory: DirectoryId, why: &str);
}

/// What a [`crate::Store`] needs.
#[derive(Clone)]
pub struct StoreOptions {
    /// `log.dirs` that are to be used; at least one.
    pub directories: Vec<LogDirectory>,
    /// Those that are known to have failed before the store is opened, and why.
    pub unusable: Vec<(PathBuf, String)>,
    /// Disk, tasks, clock and random numbers.
    pub host: Host,
    /// Who is told of durable records and failed directories.
    pub events: Arc<dyn StoreEvents>,
    /// Bytes of newest batches kept in memory, over all logs. What is not written yet is kept
    /// beyond it.
    pub tail_budget_bytes: usize,
    /// Bytes of the newest batches that came from leaders which stay in the page cache, in each
    /// directory.
    pub followed_cache_bytes: u64,
    /// Files of idle and cold segments kept open, over all logs.
    pub max_open_files: usize,
    /// `num.recovery.threads.per.data.dir`.
    pub recovery_threads: usize,
    /// `num.replica.alter.log.dirs.threads`: how many logs are copied to other directories at a
    /// time; as many as there are directories if there is no number.
    pub moves_at_a_time: Option<usize>,
    /// Settings of a log found on disk, until [`crate::Log::reconfigure`] gives it its own.
    pub default_settings: LogSettings,
    /// `producer.id.expiration.ms`: an idempotent producer silent for longer is forgotten.
    pub producer_expiration: Duration,
    /// `log.flush.offset.checkpoint.interval.ms`.
    pub recovery_checkpoint_interval: Duration,
    /// `replica.high.watermark.checkpoint.interval.ms`.
    pub high_watermark_checkpoint_interval: Duration,
    /// `log.retention.check.interval.ms`.
    pub retention_check_interval: Duration,
    /// `millrace.disk.reserve.bytes`: appends stop when less is free; a share of the file system if
    /// there is no number.
    pub reserve_bytes: Option<u64>,
    /// `log.initial.task.delay.ms`: how long after the start retention and the scrub begin.
    pub initial_task_delay: Duration,
    /// How logs are compacted, until [`crate::Store::set_cleaner`] says otherwise.
    pub cleaner: CleanerOptions,
    /// `millrace.scrub.bytes.per.second`: how much of closed segments is read and checked; nothing
    /// if it is 0. Until [`crate::Store::set_scrub_rate`] says otherwise.
    pub scrub_bytes_per_second: u64,
    /// `millrace.scrub.interval.ms`: from the beginning of one such check of everything to that of
    /// the next, at least.
    pub scrub_interval: Duration,
}

impl StoreOptions {
    /// Options with Kafka's defaults where it has any.
    pub fn new(
        directories: Vec<LogDirectory>,
        host: Host,
        events: Arc<dyn StoreEvents>,
    ) -> StoreOptions {
        StoreOptions {
            directories,
            unusable: Vec::new(),
            host,
            events,
            tail_budget_bytes: 64 << 20,
            followed_cache_bytes: 128 << 20,
            max_open_files: 4096,
            recovery_threads: 2,
            moves_at_a_time: None,
            default_settings: LogSettings::default(),
            producer_expiration: Duration::from_secs(86_400),
            recovery_checkpoint_interval: Duration::from_secs(60),
            high_watermark_checkpoint_interval: Duration::from_secs(5),
            retention_check_interval: Duration::from_secs(300),
            reserve_bytes: None,
            initial_task_delay: Duration::from_secs(30),
            cleaner: CleanerOptions::default(),
            scrub_bytes_per_second: 8 << 20,
            scrub_interval: Duration::from_secs(86_400),
        }
    }
}
