//! Deleting records on behalf of a client (DeleteRecords, KIP-107).

use std::sync::Arc;

use millrace_model::Offset;
use tokio::time::Instant;

use super::{LogRef, Replica};
use crate::failure::AppendFailure;
use crate::waiting::Waiter;

/// Why records were not deleted, or are not known to be deleted everywhere.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DeleteFailure {
    /// This broker does not lead, or its disk has failed.
    #[error(transparent)]
    Leadership(#[from] AppendFailure),
    /// What is not committed cannot be deleted.
    #[error(
        "cannot increment the log start offset to {to} since it is larger than the high watermark \
         {high_watermark}"
    )]
    OutOfRange {
        /// The offset asked for.
        to: Offset,
        /// What is committed.
        high_watermark: Offset,
    },
    /// The topic is compacted and nothing else.
    #[error("records can not be deleted due to the configured policy")]
    Policy,
}

impl Replica {
    /// Moves the start of the log to `to`, or to the high watermark if that is `None`, and waits
    /// until every live replica has done so, durably. Returns the offset before which none of them
    /// has records.
    ///
    /// # Errors
    /// Deleted are they nevertheless where the deadline has passed.
    pub async fn delete_records(
        self: &Arc<Self>,
        to: Option<Offset>,
        deadline: Instant,
    ) -> Result<Offset, DeleteFailure> {
        let waiter = Waiter::new();
        self.watch(&waiter);
        let to = self.advance_log_start(to)?;
        loop {
            let low = {
                let inner = self.lock();
                if inner.core.serving().is_none() {
                    return Err(inner.not_leading().into());
                }
                let log = LogRef {
                    log: self.log.get(),
                    synced: inner.synced,
                };
                inner.core.low_watermark(&log)
            };
            match low {
                Some(low) if low >= to => return Ok(low),
                _ if tokio::time::timeout_at(deadline, waiter.woken())
                    .await
                    .is_ok() => {}
                _ => return Err(AppendFailure::TimedOut.into()),
            }
        }
    }

    /// Moves the start of the log forward; returns where it was to go.
    fn advance_log_start(self: &Arc<Self>, to: Option<Offset>) -> Result<Offset, DeleteFailure> {
        self.act(|inner, log, now, fx| {
            if inner.core.serving().is_none() {
                return Err(inner.not_leading().into());
            }
            let settings = self.log().settings();
            if settings.compact && !settings.delete {
                return Err(DeleteFailure::Policy);
            }
            let high_watermark = inner.core.high_watermark();
            let to = to.unwrap_or(high_watermark);
            if to > high_watermark {
                return Err(DeleteFailure::OutOfRange { to, high_watermark });
            }
            self.log().advance_log_start(to);
            inner.core.log_moved(log, now, fx);
            Ok(to)
        })
    }
}
