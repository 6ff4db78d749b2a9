//! Log directories: one fails, or a broker says in which it put a replica (KIP-858).

use millrace_model::{BrokerEpoch, BrokerId, DirectoryId, ErrorCode, PartitionId};

use super::{Decision, Draft, Refusal, check_broker_epoch};
use crate::broker::Broker;
use crate::image::Image;
use crate::record::Record;

/// Marks directories of a broker as failed: its replicas there leave the ISRs as if it were fenced.
///
/// Refuses with STALE_BROKER_EPOCH what does not come under the current registration.
pub fn directory_failed(
    image: &Image,
    id: BrokerId,
    epoch: BrokerEpoch,
    failed: &[DirectoryId],
) -> Decision<Result<(), Refusal>> {
    if let Err(refusal) = check_broker_epoch(image, id, epoch) {
        return Decision::unchanged(Err(refusal));
    }
    let mut draft = Draft::of(image);
    draft.fail_directories(id, failed);
    draft.finish(Ok(()))
}

/// Records in which directories a broker put its replicas; each partition has its own answer.
/// Naming a directory that has failed means that the replica is not at hand.
///
/// Refuses all with STALE_BROKER_EPOCH when it does not come under the current registration.
pub fn assign_directories(
    image: &Image,
    id: BrokerId,
    epoch: BrokerEpoch,
    assignments: &[(PartitionId, DirectoryId)],
) -> Decision<Result<Vec<ErrorCode>, Refusal>> {
    if let Err(refusal) = check_broker_epoch(image, id, epoch) {
        return Decision::unchanged(Err(refusal));
    }
    let mut draft = Draft::of(image);
    let codes = assignments.iter().map(|(partition, directory)| {
        let code = check_assignment(&draft.image, id, *partition);
        if code.is_none() {
            draft.assign_directory(id, *partition, *directory);
        }
        code
    });
    let codes = codes.collect();
    draft.finish(Ok(codes))
}

fn check_assignment(image: &Image, id: BrokerId, partition: PartitionId) -> ErrorCode {
    match image.partition(partition) {
        None if image.topic(partition.topic).is_none() => ErrorCode::UnknownTopicId,
        None => ErrorCode::UnknownTopicOrPartition,
        Some(p) if !p.replicas.contains(&id) => ErrorCode::NotLeaderOrFollower,
        Some(_) => ErrorCode::None,
    }
}

impl Draft {
    fn assign_directory(&mut self, id: BrokerId, partition: PartitionId, directory: DirectoryId) {
        let online = self
            .image
            .broker(id)
            .is_some_and(|b| b.has_online(directory));
        self.change_each(vec![partition], |change| {
            change.set_directory(id, directory);
            if !online {
                change.without(id);
            }
        });
    }

    /// Notes which directories of a broker are short of space, and which are slow. Who leads there hands
    /// over to members of the ISR that are neither, and slow replicas leave the ISR where enough others
    /// are in it; and where a directory is better again, this broker may take over. `None` if nothing
    /// changes, else whether nothing is worse now.
    pub(super) fn note_condition(
        &mut self,
        id: BrokerId,
        short: &[DirectoryId],
        slow: &[DirectoryId],
    ) -> Option<bool> {
        let broker = self.image.broker(id)?;
        let own = |told: &[DirectoryId]| -> Vec<DirectoryId> {
            let directories = broker.directories.iter().copied();
            directories.filter(|d| told.contains(d)).collect()
        };
        let (short, slow) = (own(short), own(slow));
        if broker.short == short && broker.slow == slow {
            return None;
        }
        let better = short.iter().all(|d| broker.short.contains(d))
            && slow.iter().all(|d| broker.slow.contains(d));
        self.push(Record::RegisterBroker(Broker {
            short,
            slow,
            ..(**broker).clone()
        }));
        let image = self.image.clone();
        let concerned = image.hosted_by(id).filter(|(_, partition)| {
            let is_strained =
                |member| !image.has_room(member, partition) || !image.is_quick(member, partition);
            let in_sync = partition.isr.contains(&id);
            in_sync && (is_strained(id) || partition.leader.is_some_and(is_strained))
        });
        let concerned = concerned.map(|(partition, _)| partition).collect();
        self.change_each(concerned, |change| change.without_slow(id));
        Some(better)
    }

    pub(super) fn fail_directories(&mut self, id: BrokerId, failed: &[DirectoryId]) {
        let Some(broker) = self.image.broker(id) else {
            return;
        };
        let epoch = broker.epoch;
        let (lost, left): (Vec<DirectoryId>, Vec<_>) =
            broker.directories.iter().partition(|d| failed.contains(d));
        if lost.is_empty() {
            return;
        }
        self.push(Record::BrokerDirectories {
            id,
            epoch,
            directories: left,
        });
        let hosted = self.image.hosted_by(id).filter(|(_, p)| {
            let there = p.directory(id).is_some_and(|d| lost.contains(&d));
            there && p.isr.contains(&id)
        });
        let hosted = hosted.map(|(partition, _)| partition).collect();
        self.change_each(hosted, |change| change.without(id));
    }
}
