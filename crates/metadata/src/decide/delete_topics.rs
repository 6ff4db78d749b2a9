//! Deletion of topics, by id.

use millrace_model::{ErrorCode, TopicId};

use super::{Decision, Draft, Refusal};
use crate::image::Image;
use crate::record::Record;

/// Deletes topics with their partitions and configurations; each has its own answer, in order.
pub fn delete_topics(image: &Image, topics: &[TopicId]) -> Decision<Vec<Result<(), Refusal>>> {
    let mut draft = Draft::of(image);
    let results = topics.iter().map(|id| {
        if draft.image.topic(*id).is_none() {
            return Err(Refusal::new(
                ErrorCode::UnknownTopicId,
                "This server does not host this topic ID.",
            ));
        }
        draft.push(Record::RemoveTopic { id: *id });
        Ok(())
    });
    let results = results.collect();
    draft.finish(results)
}
