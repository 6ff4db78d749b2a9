//! Between the core's messages and those of `proto/replication.proto`.

mod pieces;

use bytes::Bytes;
use millrace_model::{BrokerEpoch, LeaderEpoch, Offset, PartitionId, TopicId, Uuid};
use millrace_rpc::proto::replication as proto;

pub(crate) use pieces::pieces;

use crate::core::message::{Ack, Address, Join, Progressed, Refuse, StreamId, Truncate, Why};

fn topic(id: PartitionId) -> Bytes {
    Bytes::copy_from_slice(&id.topic.0.0)
}

/// The partition a message is about; `None` if its topic is no id.
pub(crate) fn partition(topic: &Bytes, index: i32) -> Option<PartitionId> {
    let topic: [u8; 16] = topic.as_ref().try_into().ok()?;
    Some(PartitionId {
        topic: TopicId(Uuid(topic)),
        index,
    })
}

/// How messages name a partition.
pub(crate) fn name(id: PartitionId) -> proto::PartitionName {
    proto::PartitionName {
        topic: topic(id),
        partition: id.index,
    }
}

pub(crate) fn from_join(id: PartitionId, join: &Join) -> proto::Join {
    proto::Join {
        topic: topic(id),
        partition: id.index,
        leader_epoch: join.epoch.0,
        round: join.round,
        log_start: join.log_start.0,
        log_end: join.log_end.0,
        last_epoch: join.last_epoch.0,
    }
}

pub(crate) fn to_join(join: &proto::Join, stream: StreamId, broker_epoch: BrokerEpoch) -> Join {
    Join {
        stream,
        broker_epoch,
        epoch: LeaderEpoch(join.leader_epoch),
        round: join.round,
        log_start: Offset(join.log_start),
        log_end: Offset(join.log_end),
        last_epoch: LeaderEpoch(join.last_epoch),
    }
}

pub(crate) fn from_ack(id: PartitionId, ack: &Ack) -> proto::Ack {
    proto::Ack {
        topic: topic(id),
        partition: id.index,
        leader_epoch: ack.epoch.0,
        durable_end: ack.durable_end.0,
        synced: ack.synced,
        log_start: ack.log_start.0,
    }
}

pub(crate) fn to_ack(ack: &proto::Ack, broker_epoch: BrokerEpoch) -> Ack {
    Ack {
        broker_epoch,
        epoch: LeaderEpoch(ack.leader_epoch),
        durable_end: Offset(ack.durable_end),
        synced: ack.synced,
        log_start: Offset(ack.log_start),
    }
}

pub(crate) fn from_refuse(id: PartitionId, refuse: &Refuse) -> proto::Refuse {
    let why = match refuse.why {
        Why::WrongEpoch => proto::Why::WrongEpoch,
        Why::UnknownPartition => proto::Why::UnknownPartition,
        Why::WrongIncarnation => proto::Why::WrongIncarnation,
        Why::Storage => proto::Why::Storage,
    };
    proto::Refuse {
        topic: topic(id),
        partition: id.index,
        why: why.into(),
        leader_epoch: refuse.epoch.0,
    }
}

pub(crate) fn append(
    id: PartitionId,
    address: &Address,
    progressed: &Progressed,
    base: Offset,
    batches: Vec<Bytes>,
) -> proto::Append {
    proto::Append {
        topic: topic(id),
        partition: id.index,
        leader_epoch: address.epoch.0,
        round: address.round,
        base: base.0,
        batches,
        high_watermark: progressed.high_watermark.0,
        log_start: progressed.log_start.0,
        local_log_start: progressed.log_start.0,
    }
}

pub(crate) fn advance(
    id: PartitionId,
    address: &Address,
    progressed: &Progressed,
) -> proto::Advance {
    proto::Advance {
        topic: topic(id),
        partition: id.index,
        leader_epoch: address.epoch.0,
        round: address.round,
        high_watermark: progressed.high_watermark.0,
        log_start: progressed.log_start.0,
    }
}

pub(crate) fn from_truncate(
    id: PartitionId,
    address: &Address,
    truncate: &Truncate,
) -> proto::Truncate {
    proto::Truncate {
        topic: topic(id),
        partition: id.index,
        leader_epoch: address.epoch.0,
        round: address.round,
        epoch: truncate.epoch.0,
        end: truncate.end.0,
        log_start: truncate.log_start.0,
    }
}

pub(crate) fn to_truncate(truncate: &proto::Truncate) -> Truncate {
    Truncate {
        epoch: LeaderEpoch(truncate.epoch),
        end: Offset(truncate.end),
        log_start: Offset(truncate.log_start),
    }
}

/// Where a batch's head holds its length, and bytes before the part that the length counts.
const LENGTH_AT: usize = 8;
const UNCOUNTED: usize = 12;
/// Where the head holds the offset of the last record, relative to the first.
const LAST_OFFSET_DELTA_AT: usize = 23;

/// The offset that follows whole batches; `None` if they are none.
pub(crate) fn end_of(parts: &[Bytes]) -> Option<Offset> {
    let part = parts.iter().rfind(|part| !part.is_empty())?;
    let mut at = 0;
    loop {
        let head = part.get(at..)?;
        let number = |at: usize| {
            let bytes: Option<[u8; 4]> = head.get(at..at + 4)?.try_into().ok();
            bytes.map(i32::from_be_bytes)
        };
        let size = usize::try_from(number(LENGTH_AT)?).ok()? + UNCOUNTED;
        if at + size >= part.len() {
            let base: [u8; 8] = head.get(..8)?.try_into().ok()?;
            let last = i64::from_be_bytes(base) + i64::from(number(LAST_OFFSET_DELTA_AT)?);
            return Some(Offset(last + 1));
        }
        at += size;
    }
}
