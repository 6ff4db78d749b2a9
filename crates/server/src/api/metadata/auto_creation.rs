//! Topics that are made because somebody asked about them (Kafka class
//! `DefaultAutoTopicCreationManager`).

use std::time::Duration;

use millrace_model::{ErrorCode, TopicName};
use millrace_protocol::Message;
use millrace_protocol::api::ApiKey;
use millrace_protocol::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use millrace_protocol::messages::create_topics_response::CreateTopicsResponse;

use super::super::internal::is_internal;
use super::super::{Context, create_topics, decode, encode, forward};

/// How long an answer waits for its topics; clients ask again soon.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Makes the topics among `names` that do not exist and may be made. What came of it is seen in
/// the image.
pub async fn create_missing(context: &Context, names: &[&str]) {
    let config = context.node.config();
    if !config.auto_create_topics {
        return;
    }
    let image = context.node.image();
    let missing = names.iter().filter(|name| {
        image.topic_named(name).is_none() && !is_internal(name) && TopicName::new(name).is_ok()
    });
    let topics: Vec<CreatableTopic> = missing
        .map(|name| CreatableTopic {
            name: (*name).to_owned(),
            num_partitions: config.num_partitions,
            replication_factor: config.default_replication_factor,
            ..Default::default()
        })
        .collect();
    if topics.is_empty() {
        return;
    }
    if let Err(why) = create(context, topics).await {
        tracing::warn!(%why, "cannot create the topics that a client asked about");
    }
}

/// Has topics made that clients did not ask to make, and waits for that a while.
///
/// # Errors
/// If no controller answered in time. That a topic was refused is logged only.
pub async fn create(context: &Context, topics: Vec<CreatableTopic>) -> Result<(), String> {
    let request = CreateTopicsRequest {
        topics,
        timeout_ms: i32::try_from(LONGEST_WAIT.as_millis()).unwrap_or(i32::MAX),
        ..Default::default()
    };
    let version = create_topics::VERSIONS.1;
    let key = ApiKey::CreateTopics;
    debug_assert_eq!(key.code(), CreateTopicsRequest::API_KEY);
    let body = encode(&request, version).map_err(|error| error.to_string())?;
    let answer = forward(context, key, version, body, LONGEST_WAIT).await;
    let answer = answer.map_err(|error| error.to_string())?;
    let response: CreateTopicsResponse =
        decode(&answer, version).map_err(|error| error.to_string())?;
    let benign = [ErrorCode::None, ErrorCode::TopicAlreadyExists].map(ErrorCode::code);
    for topic in &response.topics {
        if !benign.contains(&topic.error_code) {
            let why = topic.error_message.as_deref().unwrap_or_default();
            tracing::warn!(topic = topic.name, why, "a topic was not created");
        }
    }
    Ok(())
}
