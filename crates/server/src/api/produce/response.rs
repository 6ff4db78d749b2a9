//! The answer to a Produce request.

use std::collections::BTreeSet;

use millrace_metadata::Image;
use millrace_model::{BrokerId, ErrorCode, PartitionId};
use millrace_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse,
    ProduceResponse, TopicProduceResponse,
};
use millrace_storage::Appended;

use super::append::{Outcome, PartitionOutcome, TopicOutcome};
use crate::api::Context;
use crate::api::errors::Refused;
use crate::node::endpoint;

/// The version from which on the current leader is told.
const LEADERS_FROM: i16 = 10;

/// Tells what became of every partition.
pub fn respond(context: &Context, topics: Vec<TopicOutcome>) -> ProduceResponse {
    let image = context.node.image();
    let mut leaders = BTreeSet::new();
    let mut partition = |outcome: PartitionOutcome| {
        let mut response = partition_response(outcome.index, &outcome.outcome);
        if context.api_version >= LEADERS_FROM
            && response.error_code == ErrorCode::NotLeaderOrFollower.code()
            && let Some(leader) = current_leader(&image, outcome.partition)
        {
            leaders.insert(BrokerId(leader.leader_id));
            response.current_leader = leader;
        }
        response
    };
    let responses = topics.into_iter().map(|topic| TopicProduceResponse {
        partition_responses: topic.partitions.into_iter().map(&mut partition).collect(),
        name: topic.name,
        topic_id: topic.id.0,
        ..Default::default()
    });
    let responses = responses.collect();
    ProduceResponse {
        responses,
        node_endpoints: endpoints(&image, &leaders, context.listener()),
        ..Default::default()
    }
}

fn partition_response(index: i32, outcome: &Outcome) -> PartitionProduceResponse {
    match outcome {
        Outcome::Appended(appended) | Outcome::Waiting(appended, ..) => {
            appended_response(index, appended, ErrorCode::None)
        }
        Outcome::AppendedOnly(appended, error) => appended_response(index, appended, *error),
        Outcome::Refused(refused) => refused_response(index, refused),
    }
}

fn appended_response(
    index: i32,
    appended: &Appended,
    error: ErrorCode,
) -> PartitionProduceResponse {
    PartitionProduceResponse {
        index,
        error_code: error.code(),
        base_offset: appended.first.get(),
        log_append_time_ms: appended.append_time.get(),
        log_start_offset: appended.log_start.get(),
        ..Default::default()
    }
}

fn refused_response(index: i32, refused: &Refused) -> PartitionProduceResponse {
    let records = refused.records.iter();
    let record_errors = records.map(|(batch_index, message)| BatchIndexAndErrorMessage {
        batch_index: *batch_index,
        batch_index_error_message: Some(message.clone()),
        ..Default::default()
    });
    PartitionProduceResponse {
        index,
        error_code: refused.error.code(),
        base_offset: -1,
        log_append_time_ms: -1,
        log_start_offset: -1,
        record_errors: record_errors.collect(),
        error_message: refused.message.clone(),
        ..Default::default()
    }
}

fn current_leader(image: &Image, partition: Option<PartitionId>) -> Option<LeaderIdAndEpoch> {
    let partition = image.partition(partition?)?;
    Some(LeaderIdAndEpoch {
        leader_id: partition.leader.unwrap_or(BrokerId::NONE).get(),
        leader_epoch: partition.leader_epoch.get(),
        ..Default::default()
    })
}

fn endpoints(image: &Image, leaders: &BTreeSet<BrokerId>, listener: &str) -> Vec<NodeEndpoint> {
    let known = leaders.iter().filter_map(|id| {
        let (broker, at) = endpoint(image, *id, listener)?;
        Some(NodeEndpoint {
            node_id: id.get(),
            host: at.host.clone(),
            port: i32::from(at.port),
            rack: broker.rack.clone(),
            ..Default::default()
        })
    });
    known.collect()
}
