//! Names of directories and files as Kafka's `LogFileUtils` and `UnifiedLog` make them.

use millrace_model::{Offset, TopicName, Uuid};

/// Longest name of a file on the file systems we know.
const MAX_NAME_LENGTH: usize = 255;
/// Digits of an offset in a file name.
const OFFSET_DIGITS: usize = 20;

/// Held while a store uses a directory.
pub(crate) const LOCK: &str = ".lock";
/// Present exactly while a directory was closed in order.
pub(crate) const CLEAN_SHUTDOWN: &str = ".kafka_cleanshutdown";
/// Present unless the directory failed: without it, what its files show may be in the cache alone.
/// A failure is noted by removing a file, because that works on a full disk too.
pub(crate) const SOUND: &str = ".millrace-sound";
/// Where the scrub stands.
pub(crate) const SCRUB: &str = ".millrace-scrub";
/// The directory's identity.
pub(crate) const META_PROPERTIES: &str = "meta.properties";
/// Below these offsets logs are compacted.
pub(crate) const CLEANED: &str = "cleaner-offset-checkpoint";
/// Below these offsets everything is durable.
pub(crate) const RECOVERY_POINTS: &str = "recovery-point-offset-checkpoint";
/// First offsets.
pub(crate) const LOG_STARTS: &str = "log-start-offset-checkpoint";
/// High watermarks.
pub(crate) const HIGH_WATERMARKS: &str = "replication-offset-checkpoint";
/// A partition's identity.
pub(crate) const PARTITION_METADATA: &str = "partition.metadata";
/// A partition's leader epochs.
pub(crate) const LEADER_EPOCHS: &str = "leader-epoch-checkpoint";
/// The quorum's own log, which is not the store's.
pub(crate) const CLUSTER_METADATA: &str = "__cluster_metadata-0";
/// Suffix of partition directories that are being deleted.
pub(crate) const DELETED_DIRECTORY: &str = "-delete";
/// Suffix of partition directories that are being filled, to take the place of others.
pub(crate) const FUTURE_DIRECTORY: &str = "-future";
/// Suffix of partition directories that nobody claims.
pub(crate) const STRAY_DIRECTORY: &str = "-stray";

/// The kinds of files that belong to a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FileKind {
    /// Batches.
    Log,
    /// Positions by offset.
    Index,
    /// Offsets by time.
    TimeIndex,
    /// Aborted transactions.
    TxnIndex,
    /// Producers before the segment.
    Snapshot,
}

impl FileKind {
    pub(crate) const ALL: [FileKind; 5] = [
        FileKind::Log,
        FileKind::Index,
        FileKind::TimeIndex,
        FileKind::TxnIndex,
        FileKind::Snapshot,
    ];

    fn suffix(self) -> &'static str {
        match self {
            FileKind::Log => ".log",
            FileKind::Index => ".index",
            FileKind::TimeIndex => ".timeindex",
            FileKind::TxnIndex => ".txnindex",
            FileKind::Snapshot => ".snapshot",
        }
    }
}

/// The name of a segment's file.
pub(crate) fn file(base: Offset, kind: FileKind) -> String {
    format!("{:020}{}", base.get(), kind.suffix())
}

/// The name of a segment's file that is to be removed before long.
pub(crate) fn deleted_file(base: Offset, kind: FileKind) -> String {
    format!("{}.deleted", file(base, kind))
}

/// The segment and kind of a file name; `None` for any other name.
pub(crate) fn parse_file(name: &str) -> Option<(Offset, FileKind)> {
    let (digits, suffix) = name.split_at_checked(OFFSET_DIGITS)?;
    let kind = FileKind::ALL
        .into_iter()
        .find(|kind| kind.suffix() == suffix)?;
    if !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    Some((Offset(digits.parse().ok()?), kind))
}

/// The name of a partition's directory.
pub(crate) fn partition(topic: &TopicName, index: i32) -> String {
    format!("{topic}-{index}")
}

/// The topic and partition of a directory name; `None` for any other name.
pub(crate) fn parse_partition(name: &str) -> Option<(TopicName, i32)> {
    let (topic, index) = name.rsplit_once('-')?;
    if index.is_empty() || !index.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    Some((TopicName::new(topic).ok()?, index.parse().ok()?))
}

/// The name of a partition's directory that is on its way out, `<topic>-<n>.<unique><suffix>`.
pub(crate) fn retired(topic: &TopicName, index: i32, unique: Uuid, suffix: &str) -> String {
    let unique: String = unique.0.iter().map(|byte| format!("{byte:02x}")).collect();
    let rest = format!("-{index}.{unique}{suffix}");
    let room = MAX_NAME_LENGTH.saturating_sub(rest.len());
    let topic = topic.as_str();
    format!("{}{rest}", &topic[..topic.len().min(room)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_are_kafkas() {
        assert_eq!(file(Offset(42), FileKind::Log), "00000000000000000042.log");
        for kind in FileKind::ALL {
            let name = file(Offset(i64::MAX), kind);
            assert_eq!(parse_file(&name), Some((Offset(i64::MAX), kind)));
        }
        for other in [
            "",
            "1.log",
            "00000000000000000042.log.deleted",
            LEADER_EPOCHS,
        ] {
            assert_eq!(parse_file(other), None, "{other}");
        }
    }

    #[test]
    fn partition_directories_are_kafkas() {
        let topic = TopicName::new("a-b.c").unwrap();
        assert_eq!(partition(&topic, 7), "a-b.c-7");
        assert_eq!(parse_partition("a-b.c-7"), Some((topic.clone(), 7)));
        for other in ["x", "x-", "-1", "x-1.0123-delete", "x-+1"] {
            assert_eq!(parse_partition(other), None, "{other}");
        }
        let long = TopicName::new(&"x".repeat(249)).unwrap();
        let name = retired(&long, 123, Uuid::ONE, DELETED_DIRECTORY);
        assert_eq!(name.len(), 255);
        assert!(name.ends_with("-123.00000000000000000000000000000001-delete"));
    }
}
