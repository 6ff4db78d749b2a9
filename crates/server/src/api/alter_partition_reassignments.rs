//! AlterPartitionReassignments (key 45), versions 0 and 1 (KIP-455); the active controller answers.
//!
//! - 1: whether the replication factor may change (KIP-860).
//!
//! Answered once the reassignments have begun; ListPartitionReassignments tells when they are done.

use millrace_metadata::Refusal;
use millrace_metadata::decide::{Reassignment, reassign};
use millrace_model::{BrokerId, ErrorCode};
use millrace_protocol::messages::alter_partition_reassignments_request::AlterPartitionReassignmentsRequest;
use millrace_protocol::messages::alter_partition_reassignments_response::{
    AlterPartitionReassignmentsResponse, ReassignablePartitionResponse, ReassignableTopicResponse,
};

use super::{Context, decide, limit_of};

/// The versions that are served.
pub const VERSIONS: (i16, i16) = (0, 1);

/// Begins, replaces or cancels reassignments, or says whether it could.
pub async fn handle(
    context: &Context,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    let asked = asked(&request);
    let limit = limit_of(request.timeout_ms);
    let decided = decide(context, limit, move |image| reassign(image, &asked));
    match decided.await {
        Ok(results) => AlterPartitionReassignmentsResponse {
            allow_replication_factor_change: request.allow_replication_factor_change,
            responses: respond(&request, results),
            ..Default::default()
        },
        Err(why) => refuse(&request, why.code, why.message.as_deref()),
    }
}

/// The answer when nothing was done, or nobody knows: for the whole and for every partition.
pub fn refuse(
    request: &AlterPartitionReassignmentsRequest,
    error: ErrorCode,
    message: Option<&str>,
) -> AlterPartitionReassignmentsResponse {
    let refusal = Refusal {
        code: error,
        message: message.map(str::to_owned),
    };
    AlterPartitionReassignmentsResponse {
        allow_replication_factor_change: request.allow_replication_factor_change,
        error_code: error.code(),
        error_message: refusal.message.clone(),
        responses: respond(request, std::iter::repeat(Err(refusal))),
        ..Default::default()
    }
}

fn asked(request: &AlterPartitionReassignmentsRequest) -> Vec<Reassignment> {
    let topics = request.topics.iter();
    let partitions = topics.flat_map(|topic| topic.partitions.iter().map(move |p| (topic, p)));
    let asked = partitions.map(|(topic, partition)| {
        let replicas = partition.replicas.as_ref();
        Reassignment {
            topic: topic.name.clone(),
            index: partition.partition_index,
            replicas: replicas.map(|ids| ids.iter().copied().map(BrokerId).collect()),
            may_change_factor: request.allow_replication_factor_change,
        }
    });
    asked.collect()
}

/// The results, in the order of the request, below their topics.
fn respond(
    request: &AlterPartitionReassignmentsRequest,
    results: impl IntoIterator<Item = Result<(), Refusal>>,
) -> Vec<ReassignableTopicResponse> {
    let mut results = results.into_iter();
    let topics = request.topics.iter().map(|topic| {
        let those = topic.partitions.iter().zip(results.by_ref());
        let partitions = those.map(|(partition, result)| {
            let (error_code, error_message) = match result {
                Ok(()) => (ErrorCode::None, None),
                Err(refusal) => (refusal.code, refusal.message),
            };
            ReassignablePartitionResponse {
                partition_index: partition.partition_index,
                error_code: error_code.code(),
                error_message,
                ..Default::default()
            }
        });
        ReassignableTopicResponse {
            name: topic.name.clone(),
            partitions: partitions.collect(),
            ..Default::default()
        }
    });
    topics.collect()
}

#[cfg(test)]
mod tests {
    use millrace_protocol::messages::alter_partition_reassignments_request::{
        ReassignablePartition, ReassignableTopic,
    };

    use super::*;

    fn request() -> AlterPartitionReassignmentsRequest {
        let topic = |name: &str, indexes: &[i32]| {
            let partition = |index: &i32| ReassignablePartition {
                partition_index: *index,
                replicas: Some(vec![1, 2]),
                ..Default::default()
            };
            ReassignableTopic {
                name: name.to_owned(),
                partitions: indexes.iter().map(partition).collect(),
                ..Default::default()
            }
        };
        AlterPartitionReassignmentsRequest {
            topics: vec![topic("a", &[1, 0]), topic("none", &[]), topic("b", &[2])],
            ..Default::default()
        }
    }

    fn show(topics: &[ReassignableTopicResponse]) -> String {
        let topics = topics.iter().map(|topic| {
            let partitions = topic.partitions.iter();
            let partitions = partitions.map(|p| format!("{}:{}", p.partition_index, p.error_code));
            let partitions: Vec<String> = partitions.collect();
            format!("{} [{}]", topic.name, partitions.join(" "))
        });
        topics.collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn each_partition_has_its_own_answer() {
        assert_eq!(asked(&request()).len(), 3);
        let refusal = Refusal::from(ErrorCode::NoReassignmentInProgress);
        let responses = respond(&request(), [Ok(()), Err(refusal), Ok(())]);
        assert_eq!(show(&responses), "a [1:0 0:85], none [], b [2:0]");
    }

    #[test]
    fn a_refusal_stands_on_top_and_at_every_partition() {
        let refused = refuse(&request(), ErrorCode::RequestTimedOut, Some("late"));
        assert_eq!(refused.error_code, 7);
        assert_eq!(refused.error_message.as_deref(), Some("late"));
        assert_eq!(show(&refused.responses), "a [1:7 0:7], none [], b [2:7]");
    }
}
