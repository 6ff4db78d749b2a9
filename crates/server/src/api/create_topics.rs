//! CreateTopics (key 19), versions 2 to 7; the active controller answers.
//!
//! - 4: -1 for the default number of partitions and replicas (KIP-464); 5: flexible, the settings of
//!   what was created (KIP-525); 6: quotas (none here); 7: topic ids (KIP-516).
//!
//! A name that stands twice in a request is refused, the others are not; where two names differ only
//! in dots and underscores the second is refused, which Kafka overlooks within one request. The
//! defaults and the settings that a topic inherits are those of the controller, as in Kafka. Create
//! topic policies (`create.topic.policy.class.name`) are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millrace_metadata::Refusal;
use millrace_metadata::decide::{CreatedTopic, NewTopic, TopicDefaults, create_topics};
use millrace_model::{BrokerId, ErrorCode};
use millrace_protocol::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use millrace_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult, CreateTopicsResponse,
};

use super::internal::CLUSTER_METADATA;
use super::{Context, decide, limit_of};
use crate::config::Settings;
use crate::config::describe;
use crate::config::rules::TableRules;

/// The versions that are served.
pub const VERSIONS: (i16, i16) = (2, 7);

/// Creates topics, or says whether it could.
pub async fn handle(context: &Context, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let (topics, refused) = sort_out(&request.topics);
    let config = context.node.config();
    let defaults = TopicDefaults {
        partitions: config.num_partitions,
        replication_factor: config.default_replication_factor,
    };
    let wanted = Arc::new(topics);
    let (topics, settings) = (wanted.clone(), config.settings.clone());
    let random = context.node.host.random.clone();
    let validate_only = request.validate_only;
    let create = move |image: &_| {
        let settings = &config.settings;
        let rules = TableRules { settings };
        let mut random = || random.u64();
        create_topics(image, &rules, &topics, defaults, validate_only, &mut random)
    };
    let created = match decide(context, limit_of(request.timeout_ms), create).await {
        Ok(created) => created,
        Err(why) => return refuse(&request, why.code, why.message.as_deref()),
    };
    let mut topics: Vec<CreatableTopicResult> = wanted
        .iter()
        .zip(created)
        .map(|(topic, created)| respond(&settings, topic, created))
        .collect();
    topics.extend(refused);
    CreateTopicsResponse {
        topics,
        ..Default::default()
    }
}

/// The answer when no controller gave one.
pub fn refuse(
    request: &CreateTopicsRequest,
    error: ErrorCode,
    message: Option<&str>,
) -> CreateTopicsResponse {
    let topics = request.topics.iter();
    let topics = topics.map(|topic| refusal(&topic.name, error, message.map(str::to_owned)));
    CreateTopicsResponse {
        topics: topics.collect(),
        ..Default::default()
    }
}

fn refusal(name: &str, error: ErrorCode, message: Option<String>) -> CreatableTopicResult {
    CreatableTopicResult {
        name: name.to_owned(),
        error_code: error.code(),
        error_message: message,
        ..Default::default()
    }
}

/// The topics to decide upon, and the answers for those that need no decision (Kafka method
/// `ControllerApis.createTopics`).
fn sort_out(asked: &[CreatableTopic]) -> (Vec<NewTopic>, Vec<CreatableTopicResult>) {
    let mut once = BTreeSet::new();
    let names = asked.iter().map(|topic| topic.name.clone());
    let twice: BTreeSet<String> = names.filter(|name| !once.insert(name.clone())).collect();
    let invalid =
        |name: &str, why: &str| refusal(name, ErrorCode::InvalidRequest, Some(why.to_owned()));
    let mut refused: Vec<CreatableTopicResult> = twice
        .iter()
        .map(|name| invalid(name, "Duplicate topic name."))
        .collect();
    let mut topics = Vec::with_capacity(asked.len());
    for topic in asked {
        if twice.contains(&topic.name) {
            continue;
        }
        if topic.name == CLUSTER_METADATA {
            let why = format!("Creation of internal topic {CLUSTER_METADATA} is prohibited.");
            refused.push(invalid(&topic.name, &why));
            continue;
        }
        topics.push(wanted(topic));
    }
    (topics, refused)
}

fn wanted(topic: &CreatableTopic) -> NewTopic {
    let assignments = topic.assignments.iter().map(|assignment| {
        let brokers = assignment.broker_ids.iter().copied().map(BrokerId);
        (assignment.partition_index, brokers.collect())
    });
    let configs = topic.configs.iter();
    NewTopic {
        name: topic.name.clone(),
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: assignments.collect(),
        configs: configs
            .map(|config| (config.name.clone(), config.value.clone()))
            .collect(),
    }
}

fn respond(
    settings: &Settings,
    topic: &NewTopic,
    created: Result<CreatedTopic, Refusal>,
) -> CreatableTopicResult {
    let created = match created {
        Ok(created) => created,
        Err(why) => return refusal(&topic.name, why.code, why.message),
    };
    let own: BTreeMap<String, String> = topic
        .configs
        .iter()
        .filter_map(|(name, value)| Some((name.clone(), value.clone()?)))
        .collect();
    let configs = describe::topic(settings, &own).into_iter();
    let configs = configs.map(|described| CreatableTopicConfigs {
        name: described.name,
        value: described.value.filter(|_| !described.sensitive),
        read_only: described.read_only,
        config_source: described.source as i8,
        is_sensitive: described.sensitive,
        ..Default::default()
    });
    CreatableTopicResult {
        name: topic.name.clone(),
        topic_id: created.id.0,
        error_message: None,
        num_partitions: created.partitions,
        replication_factor: created.replication_factor,
        configs: Some(configs.collect()),
        ..Default::default()
    }
}
