//! The partition of an internal topic, as the driver of its coordinator sees it.

use std::future::Future;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use millrace_host::Tasks;
use millrace_model::{LeaderEpoch, Offset};
use millrace_protocol::batch::{Origin, SoleBatch};
use millrace_replication::{Acks, AppendFailure, ReadFailure, ReadRequest, Replica, Upper, Waiter};
use millrace_storage::{AppendError, ReadError};

/// Where a log stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The first offset.
    pub log_start: Offset,
    /// The offset the next record gets.
    pub log_end: Offset,
    /// Everything below is committed.
    pub high_watermark: Offset,
    /// Whether somebody else may lead by now, unheard: what is known here may be old.
    pub is_cut_off: bool,
}

/// This broker does not lead the partition in this epoch, or its disk has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost;

/// Why nothing was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadFault {
    /// The log has changed below the reader: it looks again where the log begins.
    Moved,
    /// This broker does not lead any more.
    Lost,
    /// The log cannot be read.
    Broken(String),
}

/// A partition that this broker leads, in one leadership.
pub trait Journal: Send + Sync + 'static {
    /// Returns when the leadership has begun.
    fn leading(&self) -> impl Future<Output = Result<Standing, Lost>> + Send;

    /// Where the log stands.
    ///
    /// # Errors
    /// When the leadership is over.
    fn standing(&self) -> Result<Standing, Lost>;

    /// Resolves when the high watermark, the role or the epoch may have changed.
    fn changed(&self) -> impl Future<Output = ()> + Send;

    /// Returns when the log's writer has caught up enough for more.
    fn room(&self) -> impl Future<Output = ()> + Send;

    /// Whether it has caught up so far.
    fn has_room(&self) -> bool;

    /// Appends a batch that shall be on every in-sync replica; returns where the log ends then.
    ///
    /// # Errors
    /// Nothing is appended then.
    fn append(&self, batch: BytesMut) -> Result<Offset, AppendFailure>;

    /// The largest batch the log takes.
    fn max_batch_bytes(&self) -> usize;

    /// Batches from the one on that holds `from`.
    fn read(
        &self,
        from: Offset,
        max_bytes: usize,
    ) -> impl Future<Output = Result<Vec<Bytes>, ReadFault>> + Send;
}

/// A replica in one leadership.
pub struct ReplicaJournal {
    replica: Arc<Replica>,
    epoch: LeaderEpoch,
    waiter: Waiter,
    tasks: Tasks,
}

impl ReplicaJournal {
    /// The replica from `epoch` on; it need not lead yet.
    pub fn new(replica: Arc<Replica>, epoch: LeaderEpoch, tasks: Tasks) -> ReplicaJournal {
        let waiter = Waiter::new();
        replica.watch(&waiter);
        ReplicaJournal {
            replica,
            epoch,
            waiter,
            tasks,
        }
    }

    fn look(&self) -> Result<Standing, ReadFailure> {
        let view = self.replica.offsets(Some(self.epoch), false)?;
        Ok(Standing {
            log_start: view.log_start,
            log_end: view.log_end,
            high_watermark: view.high_watermark,
            is_cut_off: self.replica.is_cut_off(),
        })
    }
}

impl Journal for ReplicaJournal {
    async fn leading(&self) -> Result<Standing, Lost> {
        loop {
            match self.look() {
                Ok(standing) => return Ok(standing),
                Err(ReadFailure::NotLeader | ReadFailure::UnknownEpoch { .. }) => {}
                Err(_) => return Err(Lost),
            }
            self.changed().await;
        }
    }

    fn standing(&self) -> Result<Standing, Lost> {
        self.look().map_err(|_| Lost)
    }

    async fn changed(&self) {
        self.waiter.woken().await;
    }

    async fn room(&self) {
        self.replica.log().wait_for_room().await;
    }

    fn has_room(&self) -> bool {
        self.replica.log().has_room()
    }

    fn append(&self, batch: BytesMut) -> Result<Offset, AppendFailure> {
        let batch = SoleBatch::of(batch, Origin::Coordinator).map_err(AppendError::Refused)?;
        let appended = self.replica.append_in(self.epoch, batch, Acks::All)?;
        Ok(appended.last.next())
    }

    fn max_batch_bytes(&self) -> usize {
        self.replica.log().settings().max_message_bytes
    }

    async fn read(&self, from: Offset, max_bytes: usize) -> Result<Vec<Bytes>, ReadFault> {
        let request = ReadRequest {
            from,
            max_bytes,
            at_least_one: true,
            upper: Upper::LogEnd,
            current_leader_epoch: Some(self.epoch),
            last_fetched_epoch: None,
            allow_follower: false,
        };
        let read = self
            .replica
            .read(&request)
            .map_err(|failure| match failure {
                ReadFailure::OutOfRange { .. } => ReadFault::Moved,
                ReadFailure::Storage(why) => ReadFault::Broken(why),
                damaged @ ReadFailure::Damaged { .. } => ReadFault::Broken(damaged.to_string()),
                _ => ReadFault::Lost,
            })?;
        read.plan
            .load(&self.tasks)
            .await
            .map_err(|error| match error {
                ReadError::Changed | ReadError::OutOfRange { .. } => ReadFault::Moved,
                ReadError::Deleted => ReadFault::Lost,
                ReadError::Offline | ReadError::Damaged { .. } | ReadError::Storage(_) => {
                    ReadFault::Broken(error.to_string())
                }
            })
    }
}
