//! One broker's partition logs on local disks, byte for byte as Kafka lays them out.
//!
//! A [`Store`] owns the log directories, a [`Log`] is one replica of one partition. Storage knows
//! no peers, no in-sync replicas and no consumers: it takes batches, tells when they are durable,
//! and gives them back.
//!
//! How a batch travels: [`Log::validate`] checks it by the topic's rules; [`Log::append_as_leader`]
//! (or `append_as_follower`, which checks for itself) gives it its place in a segment and puts it into the in-memory tail, all under one short lock and without a
//! system call. The directory's writer takes whatever has queued up over all its logs, writes it,
//! makes it durable in one group commit and tells [`StoreEvents`]. So a segment's layout is decided
//! in memory, and the writer only carries it out.
//!
//! **What must hold**
//! - What is not in a file yet is in the tail; what is in the tail is never read from a file.
//! - `log_start <= durable_end <= written_end <= log_end`, and `synced_end <= durable_end`, where
//!   only page-cache durability lets `durable_end` be ahead of `synced_end`.
//! - A recovery point on disk is never above what is synced: it is lowered, durably, before a
//!   truncation touches a file.
//! - After an error of a write or a sync nothing of its directory is ever acknowledged again. A
//!   full disk is no such error: nothing of a refused write was promised, so it waits and is
//!   written when there is room.
//! - What is known to be damaged on the disk is given to nobody, and nothing that is read for a
//!   follower goes out without its checksum being looked at.
//! - No thread that serves sockets waits for a disk: what touches one runs on the writer or in
//!   `Tasks::blocking`.

mod batch;
mod checkpoint;
mod cleaner;
mod damage;
mod directory;
mod epochs;
mod error;
mod examine;
mod handles;
mod index;
mod log;
mod meta;
mod names;
mod plan;
mod producers;
mod recover;
mod scan;
mod segment;
mod settings;
mod slow;
mod space;
mod store;
mod tail;
mod trash;
mod trusted_clock;
mod writer;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use error::{AppendError, FailedLog, ReadError, StorageError};
pub use log::{Appended, Bounds, FoundByTime, Log};
pub use meta::MetaProperties;
pub use plan::{Part, ReadPlan};
pub use producers::ProducerInfo;
pub use settings::{
    CleanerOptions, LogDirectory, LogSettings, Packing, StoreEvents, StoreOptions, TimestampType,
};
pub use store::moving::{FutureLog, MoveRefusal};
pub use store::{DirectoryState, Flaw, RecoveryReport, Scrubbed, Store};

/// Locks, also after a panic elsewhere: what is behind our locks is changed in one go.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
