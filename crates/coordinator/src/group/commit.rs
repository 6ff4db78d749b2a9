//! OffsetCommit, and TxnOffsetCommit, whose offsets count once the transaction commits (Kafka class
//! `OffsetMetadataManager`).
//!
//! - Before version 9 of OffsetCommit, a group that is not there is an old generation; from it on, it
//!   is GROUP_ID_NOT_FOUND.
//! - Versions 2 to 4 may say how long the offsets are to be kept.

use crate::wire;
use millrace_model::limits::{MAX_GROUP_OFFSETS, RECORD_OVERHEAD_BYTES};
use millrace_model::{ErrorCode, ProducerEpoch, ProducerId, TopicId, Uuid};

use wire::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use wire::{OffsetCommitKey, OffsetCommitRequest, OffsetCommitResponse, OffsetCommitValue};
use wire::{TxnOffsetCommitRequest, TxnOffsetCommitResponse};

use super::classic::{self, Phase, Seen};
use super::state::{Asker, Effects, Group, Replicated, Soft, Timer};
use super::topics::Context;
use super::{Call, Record, Response, refused};

/// Who commits.
pub(crate) struct Committer<'a> {
    pub group: &'a str,
    pub member: &'a str,
    pub instance: Option<&'a str>,
    /// The generation of a classic group's member, the epoch of a consumer group's.
    pub generation: i32,
    pub transactional: bool,
    pub version: i16,
    /// For which partitions; the zero id stands for a topic that is not there.
    pub partitions: &'a dyn Fn() -> Vec<(TopicId, i32)>,
}

pub(crate) fn commit(
    replicated: &Replicated,
    soft: &mut Soft,
    context: Context<'_>,
    asker: Asker,
    request: OffsetCommitRequest,
) -> Effects {
    let committer = Committer {
        group: &request.group_id,
        member: &request.member_id,
        instance: request.group_instance_id.as_deref(),
        generation: request.generation_id_or_member_epoch,
        transactional: false,
        version: asker.caller.version,
        partitions: &|| {
            let topics = request.topics.iter();
            let partitions = topics.flat_map(|topic| {
                let indexes = topic.partitions.iter();
                indexes.map(|partition| (TopicId(topic.topic_id), partition.partition_index))
            });
            partitions.collect()
        },
    };
    if let Err(code) = validate(replicated, soft, &committer) {
        return asker.answer(refused(&Call::OffsetCommit(request), code));
    }
    keep_session(replicated, soft, context, &committer);
    let expires = match request.retention_time_ms {
        -1 => -1,
        retention_ms => context.wall.get().saturating_add(retention_ms),
    };
    let mut book = Book::new(context, replicated, &request.group_id, expires);
    let mut answers = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let mut answer = OffsetCommitResponseTopic {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            ..Default::default()
        };
        for partition in &topic.partitions {
            let code = book.enter(Entry {
                topic: &topic.name,
                topic_id: topic.topic_id,
                partition: partition.partition_index,
                offset: partition.committed_offset,
                leader_epoch: partition.committed_leader_epoch,
                metadata: partition.committed_metadata.as_deref(),
            });
            answer.partitions.push(OffsetCommitResponsePartition {
                partition_index: partition.partition_index,
                error_code: code.code(),
                ..Default::default()
            });
        }
        answers.push(answer);
    }
    if book.is_too_large() {
        let call = Call::OffsetCommit(request);
        return asker.answer(refused(&call, ErrorCode::InvalidCommitOffsetSize));
    }
    soft.counters.offset_commits += book.records.len() as u64;
    Effects {
        records: book.records,
        ..asker.answer(Response::OffsetCommit(OffsetCommitResponse {
            topics: answers,
            ..Default::default()
        }))
    }
}

pub(crate) fn commit_in_transaction(
    replicated: &Replicated,
    soft: &mut Soft,
    context: Context<'_>,
    asker: Asker,
    request: TxnOffsetCommitRequest,
) -> Effects {
    use wire::txn_offset_commit_response as answered;
    let committer = Committer {
        group: &request.group_id,
        member: &request.member_id,
        instance: request.group_instance_id.as_deref(),
        generation: request.generation_id,
        transactional: true,
        version: asker.caller.version,
        partitions: &|| {
            let topics = request.topics.iter();
            let partitions = topics.flat_map(|topic| {
                let indexes = topic.partitions.iter();
                indexes.map(|partition| (id_of(context, &topic.name), partition.partition_index))
            });
            partitions.collect()
        },
    };
    if let Err(code) = validate(replicated, soft, &committer) {
        return asker.answer(refused(&Call::TxnOffsetCommit(request), code));
    }
    let mut book = Book::new(context, replicated, &request.group_id, -1);
    let mut answers = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let mut answer = answered::TxnOffsetCommitResponseTopic {
            name: topic.name.clone(),
            ..Default::default()
        };
        let topic_id = id_of(context, &topic.name).0;
        for partition in &topic.partitions {
            let code = book.enter(Entry {
                topic: &topic.name,
                topic_id,
                partition: partition.partition_index,
                offset: partition.committed_offset,
                leader_epoch: partition.committed_leader_epoch,
                metadata: partition.committed_metadata.as_deref(),
            });
            answer
                .partitions
                .push(answered::TxnOffsetCommitResponsePartition {
                    partition_index: partition.partition_index,
                    error_code: code.code(),
                    ..Default::default()
                });
        }
        answers.push(answer);
    }
    if book.is_too_large() {
        let call = Call::TxnOffsetCommit(request);
        return asker.answer(refused(&call, ErrorCode::InvalidCommitOffsetSize));
    }
    soft.counters.offset_commits += book.records.len() as u64;
    let producer = (
        ProducerId(request.producer_id),
        ProducerEpoch(request.producer_epoch),
    );
    Effects {
        records: book.records,
        producer: Some(producer),
        ..asker.answer(Response::TxnOffsetCommit(TxnOffsetCommitResponse {
            topics: answers,
            ..Default::default()
        }))
    }
}

fn id_of(context: Context<'_>, topic: &str) -> TopicId {
    let known = context.topics.by_name(topic);
    known.map(|known| known.id).unwrap_or_default()
}

fn validate(
    replicated: &Replicated,
    soft: &Soft,
    committer: &Committer<'_>,
) -> Result<(), ErrorCode> {
    if committer.transactional && committer.group.is_empty() {
        return Err(ErrorCode::InvalidGroupId);
    }
    if let Some(Group::Consumer(state)) = replicated.group(committer.group) {
        return match state.validate_commit(committer) {
            Err(ErrorCode::StaleMemberEpoch) if committer.transactional => {
                Err(ErrorCode::IllegalGeneration)
            }
            other => other,
        };
    }
    match classic::seen(replicated, soft, committer.group) {
        Some(group) => validate_classic(group, committer),
        // An administrator, or a consumer that manages its partitions itself: a simple group.
        None if committer.generation < 0 => Ok(()),
        None if committer.version >= 9 && !committer.transactional => {
            Err(ErrorCode::GroupIdNotFound)
        }
        None => Err(ErrorCode::IllegalGeneration),
    }
}

/// Kafka method `ClassicGroup.validateOffsetCommit`.
fn validate_classic(group: Seen<'_>, committer: &Committer<'_>) -> Result<(), ErrorCode> {
    if committer.generation < 0 && group.is_empty() {
        return Ok(());
    }
    let speaks_as_member =
        committer.generation >= 0 || !committer.member.is_empty() || committer.instance.is_some();
    if speaks_as_member {
        match group {
            Seen::Live(live) => live.validate(committer.member, committer.instance)?,
            Seen::Resting(_) => return Err(ErrorCode::UnknownMemberId),
        }
        if committer.generation != group.generation() {
            return Err(ErrorCode::IllegalGeneration);
        }
    } else if !committer.transactional && !group.is_empty() {
        return Err(ErrorCode::UnknownMemberId);
    }
    match group.phase() {
        // The member has the new generation, and commits what it had in the old one.
        Phase::CompletingRebalance if !committer.transactional => {
            Err(ErrorCode::RebalanceInProgress)
        }
        _ => Ok(()),
    }
}

/// A commit shows that a classic member is alive.
fn keep_session(
    replicated: &Replicated,
    soft: &mut Soft,
    context: Context<'_>,
    committer: &Committer<'_>,
) {
    if replicated.consumer(committer.group).is_some() {
        return;
    }
    let Some(group) = soft.groups.get_mut(committer.group) else {
        return;
    };
    let live = group.classic.as_ref();
    if let Some(member) = live.and_then(|live| live.members.get(committer.member)) {
        let due = member.session_due(context.now);
        group.timers.set(Timer::Session(member.id.clone()), due);
    }
}

/// The records of one request, and how large they are.
struct Book<'a> {
    context: Context<'a>,
    replicated: &'a Replicated,
    /// How many partitions the group may have offsets for beside those it has.
    room: usize,
    group: &'a str,
    expires: i64,
    records: Vec<Record>,
    bytes: usize,
}

/// One partition's offset.
struct Entry<'a> {
    topic: &'a str,
    topic_id: Uuid,
    partition: i32,
    offset: i64,
    leader_epoch: i32,
    metadata: Option<&'a str>,
}

impl<'a> Book<'a> {
    fn new(
        context: Context<'a>,
        replicated: &'a Replicated,
        group: &'a str,
        expires: i64,
    ) -> Book<'a> {
        Book {
            context,
            replicated,
            room: MAX_GROUP_OFFSETS.saturating_sub(replicated.offsets.count_of(group)),
            group,
            expires,
            records: Vec::new(),
            bytes: 0,
        }
    }

    /// The code for this partition. Each record repeats the names of group and topic, so a request
    /// can ask for far more than its own size: what no batch could hold is not even built.
    fn enter(&mut self, entry: Entry<'_>) -> ErrorCode {
        let metadata = entry.metadata.unwrap_or_default();
        if metadata.encode_utf16().count() > self.context.settings.offset_metadata_max_bytes {
            return ErrorCode::OffsetMetadataTooLarge;
        }
        let texts = self.group.len() + entry.topic.len() + metadata.len();
        self.bytes = self.bytes.saturating_add(texts + RECORD_OVERHEAD_BYTES);
        let offsets = &self.replicated.offsets;
        let is_new = offsets
            .get(self.group, entry.topic, entry.partition)
            .is_none();
        if self.is_too_large() || (is_new && self.room == 0) {
            return ErrorCode::InvalidCommitOffsetSize;
        }
        self.room -= usize::from(is_new);
        let key = OffsetCommitKey {
            group: self.group.to_owned(),
            topic: entry.topic.to_owned(),
            partition: entry.partition,
        };
        let value = OffsetCommitValue {
            offset: entry.offset,
            leader_epoch: entry.leader_epoch,
            metadata: metadata.to_owned(),
            commit_timestamp: self.context.wall.get(),
            expire_timestamp: self.expires,
            topic_id: entry.topic_id,
            ..Default::default()
        };
        self.records.push(Record::OffsetCommit(key, Some(value)));
        ErrorCode::None
    }

    fn is_too_large(&self) -> bool {
        self.bytes > self.context.settings.max_batch_bytes
    }
}
