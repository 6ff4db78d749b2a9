//! What can go wrong, by what a caller can do about it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use millrace_model::{LeaderEpoch, Offset, PartitionId};
use millrace_protocol::batch::Refusal;
use thiserror::Error;

use crate::store::Flaw;

/// Why the store, or a change of one log, failed.
#[derive(Clone, Debug, Error)]
pub enum StorageError {
    /// Another process holds the directory's lock.
    #[error("log directory {} is used by another process", .0.display())]
    Locked(PathBuf),
    /// No directory is left that works.
    #[error("no log directory is usable: {0}")]
    NoDirectory(String),
    /// The log's directory failed earlier; nothing in it can be trusted any more.
    #[error("the log directory is offline: {0}")]
    Offline(String),
    /// The file system is full; the same call works again once there is space.
    #[error("no space is left in the log directory")]
    NoSpace,
    /// The log was deleted meanwhile.
    #[error("the log was deleted")]
    Deleted,
    /// A directory of this name exists and is not this partition's, or could not be opened.
    #[error("{} exists and is not usable: {why}", path.display())]
    Occupied {
        /// The directory in question.
        path: PathBuf,
        /// What is the matter with it.
        why: String,
    },
    /// Another truncation or restart of the log is under way.
    #[error("the log is being truncated")]
    Busy,
    /// What is on the disk contradicts itself where it should have been durable.
    #[error("{what} is damaged: {why}")]
    Corrupt {
        /// The file or directory.
        what: String,
        /// What was found.
        why: String,
    },
    /// The disk refused.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// What the system said.
        source: Arc<io::Error>,
    },
}

/// Why batches were not appended. Each variant names the code that Kafka answers with.
#[derive(Clone, Debug, Error)]
pub enum AppendError {
    /// The batch is not one that a leader takes; it names the code itself.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// What a follower got are no batches, or a checksum does not match (CORRUPT_MESSAGE).
    #[error("{0}")]
    Corrupt(String),
    /// The batch is larger than a segment (RECORD_LIST_TOO_LARGE).
    #[error(
        "message batch size is {size} bytes, which exceeds the maximum configured segment size of {limit}"
    )]
    LargerThanSegment {
        /// Bytes of the batch.
        size: usize,
        /// `segment.bytes`.
        limit: u64,
    },
    /// A batch of this producer is missing before this one (OUT_OF_ORDER_SEQUENCE_NUMBER).
    #[error("{0}")]
    OutOfOrderSequence(String),
    /// A newer instance of the producer has written (INVALID_PRODUCER_EPOCH).
    #[error("{0}")]
    InvalidProducerEpoch(String),
    /// A leadership older than the newest in the log wants to write (NOT_LEADER_OR_FOLLOWER).
    #[error("epoch {epoch} is older than {newest}, the newest in the log")]
    FencedEpoch {
        /// The caller's epoch.
        epoch: LeaderEpoch,
        /// The newest in the log.
        newest: LeaderEpoch,
    },
    /// A follower got batches that do not begin at its log end.
    #[error("batches for offset {base} do not continue the log, which ends at {log_end}")]
    NotContiguous {
        /// Where the batches begin.
        base: Offset,
        /// Where the log ends.
        log_end: Offset,
    },
    /// A truncation is under way (NOT_LEADER_OR_FOLLOWER).
    #[error("the log is being truncated")]
    Busy,
    /// No space is left; heals by itself (KAFKA_STORAGE_ERROR).
    #[error("no space is left in the log directory")]
    NoSpace,
    /// The directory is offline (KAFKA_STORAGE_ERROR).
    #[error("the log directory is offline")]
    Offline,
    /// The log was deleted (UNKNOWN_TOPIC_OR_PARTITION).
    #[error("the log was deleted")]
    Deleted,
}

/// Why nothing was read.
#[derive(Clone, Debug, Error)]
pub enum ReadError {
    /// The offset is not in the log (OFFSET_OUT_OF_RANGE).
    #[error("offset {from} is outside of the log, which holds {log_start} to {log_end}")]
    OutOfRange {
        /// The offset asked for.
        from: Offset,
        /// First offset of the log.
        log_start: Offset,
        /// The offset the next record will get.
        log_end: Offset,
    },
    /// These batches are damaged on the disk; others are not (CORRUPT_MESSAGE).
    #[error("the log is damaged on its disk from offset {from} to {to}")]
    Damaged {
        /// The first offset that cannot be read.
        from: Offset,
        /// The first one behind it that can.
        to: Offset,
    },
    /// The log was cut or restarted while it was read; ask again.
    #[error("the log changed while it was read")]
    Changed,
    /// The directory is offline (KAFKA_STORAGE_ERROR).
    #[error("the log directory is offline")]
    Offline,
    /// The log was deleted (UNKNOWN_TOPIC_OR_PARTITION).
    #[error("the log was deleted")]
    Deleted,
    /// The disk refused, or gave back something else than was written (KAFKA_STORAGE_ERROR).
    #[error("{0}")]
    Storage(StorageError),
}

/// The file system has no room, by size or by quota.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

impl StorageError {
    /// An error of the disk, with what was being done to which file.
    pub(crate) fn io(what: &str, path: &Path, source: io::Error) -> StorageError {
        if is_full(&source) {
            return StorageError::NoSpace;
        }
        StorageError::Io {
            what: format!("{what} {}", path.display()),
            source: Arc::new(source),
        }
    }

    pub(crate) fn corrupt(path: &Path, why: impl Into<String>) -> StorageError {
        StorageError::Corrupt {
            what: path.display().to_string(),
            why: why.into(),
        }
    }

    /// The disk itself failed, rather than that it holds what nobody can make sense of.
    pub fn is_of_disk(&self) -> bool {
        let of_content = |kind| {
            let unreadable = [io::ErrorKind::InvalidData, io::ErrorKind::UnexpectedEof];
            unreadable.contains(&kind)
        };
        matches!(self, StorageError::Io { source, .. } if !of_content(source.kind()))
    }

    pub(crate) fn is_missing_file(&self) -> bool {
        matches!(self, StorageError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Adds what was being done to an error of the disk.
pub(crate) trait While<T> {
    /// `what` is a verb, such as "writing".
    fn doing(self, what: &str, path: &Path) -> Result<T, StorageError>;
}

impl<T> While<T> for io::Result<T> {
    fn doing(self, what: &str, path: &Path) -> Result<T, StorageError> {
        self.map_err(|error| StorageError::io(what, path, error))
    }
}

/// A partition that was found on disk but could not be opened.
#[derive(Clone, Debug)]
pub struct FailedLog {
    /// The partition, where `partition.metadata` could be read.
    pub id: Option<PartitionId>,
    /// Its directory, which is left as it is.
    pub path: PathBuf,
    /// What kind of flaw it has; nothing if its disk did not answer, or had no space.
    pub flaw: Option<Flaw>,
    /// What is the matter.
    pub why: String,
}
