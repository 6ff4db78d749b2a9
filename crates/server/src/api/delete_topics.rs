//! DeleteTopics (key 20), versions 1 to 6; the active controller answers.
//!
//! - 3: TOPIC_DELETION_DISABLED; 4: flexible; 5: messages, quotas (none here); 6: by id (KIP-516).
//!
//! A topic that is named twice, by name or by id or by both, is refused. The order of the answers
//! means nothing; Kafka shuffles them.

use std::collections::{BTreeMap, BTreeSet};

use millrace_metadata::decide::delete_topics;
use millrace_metadata::{Decision, Image};
use millrace_model::{ErrorCode, TopicId, Uuid};
use millrace_protocol::messages::delete_topics_request::DeleteTopicsRequest;
use millrace_protocol::messages::delete_topics_response::{
    DeletableTopicResult, DeleteTopicsResponse,
};

use super::{Context, decide, limit_of};

/// The versions that are served.
pub const VERSIONS: (i16, i16) = (1, 6);

/// Deletes topics with their partitions and settings.
pub async fn handle(context: &Context, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    if !context.node.config().delete_topics {
        let error = match context.api_version {
            ..3 => ErrorCode::InvalidRequest,
            _ => ErrorCode::TopicDeletionDisabled,
        };
        return refuse(&request, error, Some("Topic deletion is disabled."));
    }
    let asked = Asked::of(&request);
    let delete = move |image: &_| asked.clone().decide(image);
    match decide(context, limit_of(request.timeout_ms), delete).await {
        Ok(responses) => DeleteTopicsResponse {
            responses,
            ..Default::default()
        },
        Err(why) => refuse(&request, why.code, why.message.as_deref()),
    }
}

/// The answer when no controller gave one.
pub fn refuse(
    request: &DeleteTopicsRequest,
    error: ErrorCode,
    message: Option<&str>,
) -> DeleteTopicsResponse {
    let named = request.topic_names.iter();
    let named = named.map(|name| result(Some(name), Uuid::ZERO, error, message));
    let topics = request.topics.iter();
    let topics = topics.map(|t| result(t.name.as_deref(), t.topic_id, error, message));
    DeleteTopicsResponse {
        responses: named.chain(topics).collect(),
        ..Default::default()
    }
}

fn result(
    name: Option<&str>,
    topic_id: Uuid,
    error: ErrorCode,
    message: Option<&str>,
) -> DeletableTopicResult {
    DeletableTopicResult {
        name: name.map(str::to_owned),
        topic_id,
        error_code: error.code(),
        error_message: message.map(str::to_owned),
        ..Default::default()
    }
}

/// What a request names, looked at without an image (Kafka method `ControllerApis.deleteTopics`).
#[derive(Clone, Default)]
struct Asked {
    names: BTreeSet<String>,
    ids: BTreeSet<Uuid>,
    ids_twice: BTreeSet<Uuid>,
    responses: Vec<DeletableTopicResult>,
}

impl Asked {
    fn of(request: &DeleteTopicsRequest) -> Asked {
        let mut asked = Asked::default();
        let mut names_twice = BTreeSet::new();
        let mut names: Vec<&str> = request.topic_names.iter().map(String::as_str).collect();
        for topic in &request.topics {
            match (topic.name.as_deref(), topic.topic_id) {
                (Some(name), id) if id.is_zero() => names.push(name),
                (Some(name), id) => {
                    let why = "You may not specify both topic name and topic id.";
                    asked.refuse(Some(name), id, why);
                }
                (None, id) if id.is_zero() => {
                    asked.refuse(None, id, "Neither topic name nor id were specified.");
                }
                (None, id) => {
                    if !asked.ids.insert(id) {
                        asked.ids_twice.insert(id);
                    }
                }
            }
        }
        for name in names {
            if !asked.names.insert(name.to_owned()) {
                names_twice.insert(name.to_owned());
            }
        }
        for name in &names_twice {
            asked.names.remove(name);
            asked.refuse(Some(name), Uuid::ZERO, "Duplicate topic name.");
        }
        for id in asked.ids_twice.clone() {
            asked.ids.remove(&id);
            asked.refuse(None, id, "Duplicate topic id.");
        }
        asked
    }

    fn refuse(&mut self, name: Option<&str>, id: Uuid, why: &str) {
        self.respond(name, id, ErrorCode::InvalidRequest, Some(why));
    }

    fn respond(&mut self, name: Option<&str>, id: Uuid, error: ErrorCode, why: Option<&str>) {
        self.responses.push(result(name, id, error, why));
    }

    fn decide(mut self, image: &Image) -> Decision<Vec<DeletableTopicResult>> {
        let mut found = self.find_ids(image);
        self.find_names(image, &mut found);
        let ids: Vec<TopicId> = found.keys().copied().map(TopicId).collect();
        delete_topics(image, &ids).map(|deleted| {
            for ((id, name), deleted) in found.iter().zip(deleted) {
                let (error, why) = match deleted {
                    Ok(()) => (ErrorCode::None, None),
                    Err(why) => (why.code, why.message),
                };
                self.respond(Some(name), *id, error, why.as_deref());
            }
            self.responses
        })
    }

    /// The topics that are meant by their ids.
    fn find_ids(&mut self, image: &Image) -> BTreeMap<Uuid, String> {
        let mut found = BTreeMap::new();
        for id in std::mem::take(&mut self.ids) {
            match image.topic(TopicId(id)) {
                Some(topic) => {
                    found.insert(id, topic.name.as_str().to_owned());
                }
                None => {
                    let why = "This server does not host this topic ID.";
                    self.respond(None, id, ErrorCode::UnknownTopicId, Some(why));
                }
            }
        }
        found
    }

    /// Adds those that are meant by their names.
    fn find_names(&mut self, image: &Image, found: &mut BTreeMap<Uuid, String>) {
        for name in std::mem::take(&mut self.names) {
            let Some(topic) = image.topic_named(&name) else {
                let (error, why) = (
                    ErrorCode::UnknownTopicOrPartition,
                    "This server does not host this topic-partition.",
                );
                self.respond(Some(&name), Uuid::ZERO, error, Some(why));
                continue;
            };
            let id = topic.id.0;
            let is_known = found.contains_key(&id) || self.ids_twice.contains(&id);
            if is_known {
                found.remove(&id);
                let why = "The provided topic name maps to an ID that was already supplied.";
                self.refuse(Some(&name), id, why);
            } else {
                found.insert(id, name);
            }
        }
    }
}
