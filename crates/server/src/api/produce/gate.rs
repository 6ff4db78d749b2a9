//! What a Produce request waits for before anything of it is appended.

use std::sync::Arc;

use millrace_metadata::Image;
use millrace_model::PartitionId;
use millrace_model::limits::LEADERSHIP_WAIT;
use millrace_storage::Log;
use tokio::time::Instant;

use super::append::find_topic;
use super::request::ProduceBatches;
use crate::api::Context;

/// Why a batch cannot be appended at the moment, though it may well be before long.
pub enum Obstacle {
    /// Too much waits to be written to the log.
    NoRoom(Arc<Log>),
    /// The image wants this broker to lead the partition, and it does not yet.
    NotLeading(PartitionId),
}

/// What stands in the way of the request.
pub fn obstacles(context: &Context, produce: &ProduceBatches) -> Vec<Obstacle> {
    let image = context.node.image();
    let replicas = &context.node.broker().replicas;
    let mut obstacles = Vec::new();
    for topic in &produce.topics {
        let Some(known) = find_topic(context, &image, topic) else {
            continue;
        };
        for partition in &topic.partitions {
            let id = PartitionId {
                topic: known.id,
                index: partition.index,
            };
            let replica = replicas.get(id).filter(|replica| replica.serves());
            match replica.as_ref().and_then(|replica| replica.open_log()) {
                Some(log) if log.has_room() => {}
                Some(log) => obstacles.push(Obstacle::NoRoom(log.clone())),
                None if leads(context, &image, id) => obstacles.push(Obstacle::NotLeading(id)),
                None => {}
            }
        }
    }
    obstacles
}

fn leads(context: &Context, image: &Image, id: PartitionId) -> bool {
    let partition = image.partition(id);
    partition.is_some_and(|partition| partition.leader == Some(context.node.id))
}

impl Obstacle {
    /// Resolves once it is gone, or has lasted too long.
    pub async fn wait(self, context: &Context, deadline: Instant) {
        match self {
            Obstacle::NoRoom(log) => log.wait_for_room().await,
            Obstacle::NotLeading(id) => until_leading(context, id, deadline).await,
        }
    }
}

/// Waits for this broker to take up its leadership, as long as the image wants it to.
async fn until_leading(context: &Context, id: PartitionId, deadline: Instant) {
    let deadline = deadline.min(context.node.host.clock.now() + LEADERSHIP_WAIT);
    let mut images = context.node.quorum.images();
    loop {
        let image = images.borrow_and_update().clone();
        let wanted = image.partition(id);
        let Some(partition) = wanted.filter(|wanted| wanted.leader == Some(context.node.id)) else {
            return;
        };
        let replicas = &context.node.broker().replicas;
        let epoch = partition.leader_epoch;
        tokio::select! {
            biased;
            () = replicas.until_serving(id, epoch, LEADERSHIP_WAIT, deadline) => return,
            changed = images.changed() => if changed.is_err() { return },
        }
    }
}
