//! Who may commit and fetch a consumer group's offsets.

use millrace_model::{ErrorCode, TopicId};

use super::member::Member;
use super::state::State;
use crate::group::commit::Committer;

/// First version of OffsetCommit whose generation is known to be an epoch.
const FIRST_COMMIT_WITH_EPOCH: i16 = 9;

impl State {
    /// Whether this caller may commit offsets of these partitions (Kafka method
    /// `ConsumerGroup.validateOffsetCommit`). A member may do so in an older epoch, as long as it has
    /// had the partition since then: its next heartbeat need not come first (KIP-1251).
    pub fn validate_commit(&self, committer: &Committer<'_>) -> Result<(), ErrorCode> {
        // An administrator, or a consumer that manages its partitions itself.
        if committer.generation < 0 && self.is_empty() {
            return Ok(());
        }
        if committer.transactional
            && committer.generation == -1
            && committer.member.is_empty()
            && committer.instance.is_none()
        {
            return Ok(());
        }
        let member = self.members.get(committer.member);
        let member = member.ok_or(ErrorCode::UnknownMemberId)?;
        if !committer.transactional
            && !member.is_classic()
            && committer.version < FIRST_COMMIT_WITH_EPOCH
        {
            return Err(ErrorCode::UnsupportedVersion);
        }
        let has_had = |&(topic, partition): &(TopicId, i32)| {
            let since = member.assigned.since(topic, partition);
            let since = since.or_else(|| member.revoking.since(topic, partition));
            since.is_some_and(|since| committer.generation >= since)
        };
        let may = committer.generation == member.epoch
            || (committer.generation < member.epoch
                && (committer.partitions)().iter().all(has_had));
        if may { Ok(()) } else { Err(stale(member)) }
    }

    /// Whether this caller may fetch offsets (Kafka method `ConsumerGroup.validateOffsetFetch`).
    pub fn validate_fetch(&self, member: Option<&str>, epoch: i32) -> Result<(), ErrorCode> {
        let Some(member) = member.or_else(|| (epoch >= 0).then_some("")) else {
            return Ok(());
        };
        let member = self.members.get(member).ok_or(ErrorCode::UnknownMemberId)?;
        if epoch == member.epoch {
            Ok(())
        } else {
            Err(stale(member))
        }
    }
}

/// What each protocol calls an epoch that is not the member's.
fn stale(member: &Member) -> ErrorCode {
    match member.is_classic() {
        true => ErrorCode::IllegalGeneration,
        false => ErrorCode::StaleMemberEpoch,
    }
}
