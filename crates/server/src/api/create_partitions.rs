//! CreatePartitions (key 37), versions 0 to 3 (KIP-195); the active controller answers.
//!
//! - 2: flexible; 3: quotas (none here).
//!
//! A topic that stands twice in a request is refused, the others are not.

use std::collections::BTreeSet;

use millrace_metadata::decide::{MorePartitions, create_partitions};
use millrace_model::{BrokerId, ErrorCode};
use millrace_protocol::messages::create_partitions_request::{
    CreatePartitionsRequest, CreatePartitionsTopic,
};
use millrace_protocol::messages::create_partitions_response::{
    CreatePartitionsResponse, CreatePartitionsTopicResult,
};

use super::{Context, decide, limit_of};

/// The versions that are served.
pub const VERSIONS: (i16, i16) = (0, 3);

/// Adds partitions to topics, or says whether it could.
pub async fn handle(
    context: &Context,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let mut once = BTreeSet::new();
    let names = request.topics.iter().map(|topic| topic.name.as_str());
    let twice: BTreeSet<&str> = names.filter(|name| !once.insert(*name)).collect();
    let topics = request.topics.iter();
    let topics = topics.filter(|topic| !twice.contains(topic.name.as_str()));
    let topics: Vec<MorePartitions> = topics.map(wanted).collect();
    let names: Vec<String> = topics.iter().map(|topic| topic.topic.clone()).collect();
    let random = context.node.host.random.clone();
    let validate_only = request.validate_only;
    let grow =
        move |image: &_| create_partitions(image, &topics, validate_only, &mut || random.u64());
    let grown = match decide(context, limit_of(request.timeout_ms), grow).await {
        Ok(grown) => grown,
        Err(why) => return refuse(&request, why.code, why.message.as_deref()),
    };
    let twice = twice.iter().map(|name| {
        result(
            name,
            ErrorCode::InvalidRequest,
            Some("Duplicate topic name."),
        )
    });
    let decided = names.iter().zip(&grown).map(|(name, grown)| match grown {
        Ok(()) => result(name, ErrorCode::None, None),
        Err(why) => result(name, why.code, why.message.as_deref()),
    });
    CreatePartitionsResponse {
        results: twice.chain(decided).collect(),
        ..Default::default()
    }
}

/// The answer when no controller gave one.
pub fn refuse(
    request: &CreatePartitionsRequest,
    error: ErrorCode,
    message: Option<&str>,
) -> CreatePartitionsResponse {
    let topics = request.topics.iter();
    let results = topics.map(|topic| result(&topic.name, error, message));
    CreatePartitionsResponse {
        results: results.collect(),
        ..Default::default()
    }
}

fn wanted(topic: &CreatePartitionsTopic) -> MorePartitions {
    let brokers = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect();
    let assignments = topic.assignments.as_ref().map(|assignments| {
        let assignments = assignments.iter();
        let assignments = assignments.map(|assignment| brokers(&assignment.broker_ids));
        assignments.collect()
    });
    MorePartitions {
        topic: topic.name.clone(),
        count: topic.count,
        assignments,
    }
}

fn result(name: &str, error: ErrorCode, message: Option<&str>) -> CreatePartitionsTopicResult {
    CreatePartitionsTopicResult {
        name: name.to_owned(),
        error_code: error.code(),
        error_message: message.map(str::to_owned),
        ..Default::default()
    }
}
