//! Loads a shard: everything in the log, replayed in order, a piece at a time.

use millrace_coordinator::{Marker, Origin, Shard};
use millrace_model::limits::MAX_DECOMPRESSED_BATCH_BYTES;
use millrace_model::{Offset, ProducerId};
use millrace_protocol::batch::{ControlType, RawBatch, batches};

use super::driver::Driver;
use super::family::Family;
use super::journal::{Journal, Lost, ReadFault};

/// Bytes replayed before other tasks of the thread get their turn.
const BYTES_IN_A_TURN: usize = 256 * 1024;

/// What was loaded so far.
#[derive(Default)]
struct Progress {
    records: u64,
    bytes: usize,
    since_turn: usize,
}

impl<F: Family, J: Journal> Driver<F, J> {
    /// Waits for the leadership to begin, and replays the log as it stands then: nobody else
    /// appends from there on.
    pub(super) async fn load(&mut self) -> Result<(), Lost> {
        let mut standing = self.journal.leading().await?;
        let began = self.clock.now();
        let mut progress = Progress::default();
        let mut at = standing.log_start;
        while at < standing.log_end {
            let parts = match self.journal.read(at, self.options.load_bytes).await {
                Ok(parts) => parts,
                Err(ReadFault::Moved) => {
                    // Compaction or retention were at work; what they took is not needed.
                    tokio::task::yield_now().await;
                    standing = self.journal.standing()?;
                    at = at.max(standing.log_start);
                    continue;
                }
                Err(ReadFault::Lost) => return Err(Lost),
                Err(ReadFault::Broken(why)) => return self.cannot_load(&why),
            };
            if parts.is_empty() {
                break;
            }
            for part in parts {
                for batch in batches(&part) {
                    let replayed = match batch {
                        Ok(batch) => self.replay(&batch, &mut progress),
                        Err(error) => Err(error.to_string()),
                    };
                    match replayed {
                        Ok(next) => at = at.max(next),
                        Err(why) => return self.cannot_load(&why),
                    }
                    if progress.since_turn >= BYTES_IN_A_TURN {
                        progress.since_turn = 0;
                        tokio::task::yield_now().await;
                    }
                }
            }
        }
        self.log_end = standing.log_end;
        tracing::info!(
            topic = self.family.topic(),
            partition = self.partition,
            records = progress.records,
            bytes = progress.bytes,
            milliseconds = (self.clock.now() - began).as_millis(),
            "loaded a coordinator's partition"
        );
        Ok(())
    }

    /// Replays a batch; returns the offset behind it.
    fn replay(&mut self, batch: &RawBatch<'_>, progress: &mut Progress) -> Result<Offset, String> {
        let told = |error: millrace_protocol::batch::BatchError| error.to_string();
        let header = batch.header().map_err(told)?;
        let next = header.next_offset();
        progress.bytes += header.size;
        progress.since_turn += header.size;
        let producer = header.is_transactional().then_some(header.producer_id);
        let records = batch.records(MAX_DECOMPRESSED_BATCH_BYTES).map_err(told)?;
        for record in records.iter() {
            let record = record.map_err(told)?;
            let Some(key) = record.key else {
                return Err(format!("the record at offset {} has no key", record.offset));
            };
            if header.is_control() {
                self.replay_control(key, header.producer_id);
                continue;
            }
            let decoded = self.family.decode(key, record.value);
            let decoded =
                decoded.map_err(|why| format!("the record at offset {}: {why}", record.offset))?;
            if let Some(decoded) = decoded {
                let origin = Origin {
                    offset: record.offset,
                    producer,
                };
                self.shard.replay(decoded, origin);
                progress.records += 1;
            }
        }
        Ok(next)
    }

    fn replay_control(&mut self, key: &[u8], producer: ProducerId) {
        let committed = match ControlType::of_key(key) {
            Some(ControlType::Commit) => true,
            Some(ControlType::Abort) => false,
            // Others concern the log, not the state in it.
            _ => return,
        };
        self.shard.replay_marker(Marker {
            producer,
            committed,
        });
    }

    fn cannot_load(&self, why: &str) -> Result<(), Lost> {
        let (topic, partition) = (self.family.topic(), self.partition);
        tracing::error!(
            topic,
            partition,
            why,
            "cannot load a coordinator's partition"
        );
        Err(Lost)
    }
}
