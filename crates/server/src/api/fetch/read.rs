//! Reads all partitions of a Fetch request, waiting until there is enough.
//!
//! What is in memory is shared, not copied; what is not is loaded while reading, since only then
//! is it known how much there is.

use std::sync::Arc;

use bytes::Bytes;
use millrace_metadata::Image;
use millrace_model::{ErrorCode, LeaderEpoch, Offset, PartitionId};
use millrace_protocol::Records;
use millrace_protocol::messages::fetch_response::{EpochEndOffset, PartitionData};
use millrace_replication::{ReadRequest, Replica, Upper, Waiter};
use millrace_storage::ReadError;
use tokio::time::Instant;

use super::preferred;
use super::request::FetchWish;
use super::session::{TopicRef, Wanted};
use crate::api::Context;
use crate::api::errors::code_of_read;

/// One partition's answer.
pub struct PartitionRead {
    wanted: Wanted,
    data: PartitionData,
    bytes: usize,
}

/// A wanted partition, looked up.
struct Target {
    wanted: Wanted,
    replica: Result<Arc<Replica>, ErrorCode>,
    /// Whether the topic is unknown, so that waiting makes no sense for it but others may.
    partition: Option<PartitionId>,
}

/// Reads when there is enough, or at the deadline.
pub async fn read_when_ready(
    context: &Context,
    wish: &FetchWish,
    wanted: Vec<Wanted>,
    deadline: Instant,
) -> Vec<(Wanted, PartitionData)> {
    let image = context.node.image();
    let targets: Vec<Target> = wanted
        .into_iter()
        .map(|wanted| look_up(context, &image, wanted))
        .collect();
    let limit = context.node.config().limits.fetch_bytes;
    let max_bytes = usize::try_from(wish.max_bytes).unwrap_or(0).min(limit);
    let min_bytes = usize::try_from(wish.min_bytes).unwrap_or(0).min(max_bytes);
    let waiter = Waiter::new();
    let mut registered = false;
    loop {
        let (reads, must_answer) = read_all(context, &image, wish, &targets, max_bytes).await;
        let bytes: usize = reads.iter().map(|read| read.bytes).sum();
        let nothing_to_wait_for = targets.iter().all(|target| target.partition.is_none());
        let is_late = context.node.host.clock.now() >= deadline;
        if must_answer || nothing_to_wait_for || bytes >= min_bytes || is_late {
            context.node.metrics.batches_fetched(bytes);
            return reads
                .into_iter()
                .map(|read| (read.wanted, read.data))
                .collect();
        }
        if !registered {
            // From now on every change wakes; look once more for what came in between.
            for replica in targets
                .iter()
                .filter_map(|target| target.replica.as_ref().ok())
            {
                replica.watch(&waiter);
            }
            registered = true;
            continue;
        }
        let _ = tokio::time::timeout_at(deadline, waiter.woken()).await;
    }
}

fn look_up(context: &Context, image: &Image, wanted: Wanted) -> Target {
    let (topic, unknown) = match &wanted.topic {
        TopicRef::Name(name) => (image.topic_named(name), ErrorCode::UnknownTopicOrPartition),
        TopicRef::Id(id) => (image.topic(*id), ErrorCode::UnknownTopicId),
    };
    let Some(topic) = topic else {
        return Target {
            wanted,
            replica: Err(unknown),
            partition: None,
        };
    };
    let id = PartitionId {
        topic: topic.id,
        index: wanted.index,
    };
    let replica = match image.partition(id) {
        None => Err(ErrorCode::UnknownTopicOrPartition),
        Some(_) => {
            let replica = context.node.broker().replicas.get(id);
            replica.ok_or(ErrorCode::NotLeaderOrFollower)
        }
    };
    Target {
        wanted,
        replica,
        partition: Some(id),
    }
}

/// Reads every partition once, in turn, within `max_bytes` in all; whether the answer must not wait.
async fn read_all(
    context: &Context,
    image: &Image,
    wish: &FetchWish,
    targets: &[Target],
    max_bytes: usize,
) -> (Vec<PartitionRead>, bool) {
    let mut left = max_bytes;
    let mut must_answer = false;
    let mut at_least_one = true;
    let mut reads = Vec::with_capacity(targets.len());
    for target in targets {
        let read = match &target.replica {
            Err(error) => {
                must_answer |= target.partition.is_some();
                failed(&target.wanted, *error)
            }
            Ok(replica) => {
                let limits = (left, at_least_one);
                let read = read_one(context, image, wish, &target.wanted, replica, limits).await;
                must_answer |= read.data.error_code != 0
                    || read.data.diverging_epoch.epoch >= 0
                    || read.data.preferred_read_replica >= 0;
                read
            }
        };
        at_least_one &= read.bytes == 0;
        left = left.saturating_sub(read.bytes);
        reads.push(read);
    }
    (reads, must_answer)
}

async fn read_one(
    context: &Context,
    image: &Image,
    wish: &FetchWish,
    wanted: &Wanted,
    replica: &Arc<Replica>,
    (left, at_least_one): (usize, bool),
) -> PartitionRead {
    let from = Offset(wanted.offset);
    let preferred = match &wish.rack {
        Some(rack) => preferred::replica_near(context, image, replica, rack, from),
        None => None,
    };
    let partition_bytes = usize::try_from(wanted.max_bytes).unwrap_or(0);
    let epoch = |epoch: i32| (epoch >= 0).then_some(LeaderEpoch(epoch));
    let request = ReadRequest {
        from,
        // A client that is sent elsewhere is only told where the log stands.
        max_bytes: if preferred.is_some() {
            0
        } else {
            partition_bytes.min(left)
        },
        at_least_one: at_least_one && preferred.is_none(),
        upper: match (wish.replica_id, wish.read_committed) {
            (-2, _) => Upper::LogEnd,
            (_, true) => Upper::LastStable,
            (_, false) => Upper::HighWatermark,
        },
        current_leader_epoch: epoch(wanted.current_leader_epoch),
        last_fetched_epoch: epoch(wanted.last_fetched_epoch),
        allow_follower: wish.rack.is_some() || wish.replica_id == -2,
    };
    let read = match replica.read(&request) {
        Ok(read) => read,
        Err(failure) => return failed(wanted, code_of_read(&failure)),
    };
    // Not every client looks at checksums, and none can know that a batch lies about its offset.
    let parts = match read.plan.load_sound(&context.node.host.tasks).await {
        Ok(parts) => parts,
        // What was cut meanwhile is read anew by the client's next request.
        Err(ReadError::Changed) => Vec::new(),
        Err(error) => {
            tracing::warn!(%error, "cannot read records for a consumer");
            let code = match error {
                ReadError::Damaged { .. } => ErrorCode::CorruptMessage,
                _ => ErrorCode::KafkaStorageError,
            };
            return failed(wanted, code);
        }
    };
    let bytes = parts.iter().map(Bytes::len).sum();
    let mut data = PartitionData {
        partition_index: wanted.index,
        high_watermark: read.high_watermark.get(),
        last_stable_offset: read.last_stable.get(),
        log_start_offset: read.log_start.get(),
        aborted_transactions: wish.read_committed.then(Vec::new),
        preferred_read_replica: preferred.map_or(-1, millrace_model::BrokerId::get),
        records: Some(Records::from(parts)),
        ..Default::default()
    };
    if let Some((epoch, end)) = read.diverging {
        data.diverging_epoch = EpochEndOffset {
            epoch: epoch.get(),
            end_offset: end.get(),
            ..Default::default()
        };
    }
    PartitionRead {
        wanted: wanted.clone(),
        data,
        bytes,
    }
}

fn failed(wanted: &Wanted, error: ErrorCode) -> PartitionRead {
    PartitionRead {
        wanted: wanted.clone(),
        data: PartitionData {
            partition_index: wanted.index,
            error_code: error.code(),
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            records: Some(Records::default()),
            ..Default::default()
        },
        bytes: 0,
    }
}
