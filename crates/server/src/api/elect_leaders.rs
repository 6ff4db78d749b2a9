//! ElectLeaders (key 43), versions 0 to 2; the active controller answers.
//!
//! - 1: unclean elections (KIP-460), an error for the whole request; 2: flexible.
//!
//! Without partitions it is for all; then those that need no election are not told of.

use millrace_metadata::Refusal;
use millrace_metadata::decide::{ElectionKind, ElectionOutcome, elect};
use millrace_model::ErrorCode;
use millrace_protocol::messages::elect_leaders_request::ElectLeadersRequest;
use millrace_protocol::messages::elect_leaders_response::{
    ElectLeadersResponse, PartitionResult, ReplicaElectionResult,
};

use super::{Context, decide, limit_of};

/// The versions that are served.
pub const VERSIONS: (i16, i16) = (0, 2);

type Partitions = Vec<(String, Vec<i32>)>;

/// Holds the elections.
pub async fn handle(context: &Context, request: ElectLeadersRequest) -> ElectLeadersResponse {
    let kind = match request.election_type {
        0 => ElectionKind::Preferred,
        1 => ElectionKind::Unclean,
        other => {
            let why = format!("Unknown election type {other}");
            return refuse(&request, ErrorCode::InvalidRequest, Some(&why));
        }
    };
    let partitions = partitions(&request);
    let limit = limit_of(request.timeout_ms);
    let held = decide(context, limit, move |image| {
        elect(image, kind, partitions.as_deref())
    });
    match held.await {
        Ok(outcomes) => ElectLeadersResponse {
            replica_election_results: by_topic(&request, outcomes),
            ..Default::default()
        },
        Err(why) => refuse(&request, why.code, why.message.as_deref()),
    }
}

/// The answer when nothing was done, or nobody knows: for every partition, and where none is named
/// for the whole request, which version 0 cannot tell.
pub fn refuse(
    request: &ElectLeadersRequest,
    error: ErrorCode,
    message: Option<&str>,
) -> ElectLeadersResponse {
    let refusal = Refusal {
        code: error,
        message: message.map(str::to_owned),
    };
    let partitions = partitions(request);
    let error_code = match &partitions {
        Some(_) => ErrorCode::None,
        None => error,
    };
    let refused = |(topic, indexes): (String, Vec<i32>)| ReplicaElectionResult {
        topic,
        partition_result: indexes
            .into_iter()
            .map(|index| respond(index, Err(refusal.clone())))
            .collect(),
        ..Default::default()
    };
    ElectLeadersResponse {
        error_code: error_code.code(),
        replica_election_results: partitions
            .unwrap_or_default()
            .into_iter()
            .map(refused)
            .collect(),
        ..Default::default()
    }
}

fn partitions(request: &ElectLeadersRequest) -> Option<Partitions> {
    let topics = request.topic_partitions.as_ref()?.iter();
    let topics = topics.map(|topic| (topic.topic.clone(), topic.partitions.clone()));
    Some(topics.collect())
}

/// The outcomes as the answer groups them; a topic that was named is there even without partitions.
fn by_topic(
    request: &ElectLeadersRequest,
    outcomes: Vec<ElectionOutcome>,
) -> Vec<ReplicaElectionResult> {
    let result = |topic: &str| ReplicaElectionResult {
        topic: topic.to_owned(),
        ..Default::default()
    };
    let named = request.topic_partitions.iter().flatten();
    let mut outcomes = outcomes.into_iter().peekable();
    let mut results = Vec::new();
    for topic in named {
        let mut result = result(&topic.topic);
        let those = outcomes.by_ref().take(topic.partitions.len());
        let those = those.map(|outcome| respond(outcome.index, outcome.result));
        result.partition_result = those.collect();
        results.push(result);
    }
    while let Some(first) = outcomes.peek() {
        let mut result = result(&first.topic);
        while let Some(outcome) = outcomes.next_if(|outcome| outcome.topic == result.topic) {
            let partition = respond(outcome.index, outcome.result);
            result.partition_result.push(partition);
        }
        results.push(result);
    }
    results
}

fn respond(index: i32, result: Result<(), Refusal>) -> PartitionResult {
    let (error_code, error_message) = match result {
        Ok(()) => (ErrorCode::None, None),
        Err(refusal) => (refusal.code, refusal.message),
    };
    PartitionResult {
        partition_id: index,
        error_code: error_code.code(),
        error_message,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use millrace_protocol::messages::elect_leaders_request::TopicPartitions;

    use super::*;

    fn outcome(topic: &str, index: i32, result: Result<(), ErrorCode>) -> ElectionOutcome {
        ElectionOutcome {
            topic: topic.to_owned(),
            index,
            result: result.map_err(Refusal::from),
        }
    }

    fn show(results: &[ReplicaElectionResult]) -> String {
        let topics = results.iter().map(|result| {
            let partitions = result.partition_result.iter();
            let partitions = partitions.map(|p| format!("{}:{}", p.partition_id, p.error_code));
            format!(
                "{} [{}]",
                result.topic,
                partitions.collect::<Vec<_>>().join(" ")
            )
        });
        topics.collect::<Vec<_>>().join(", ")
    }

    fn request(topics: Option<&[(&str, &[i32])]>) -> ElectLeadersRequest {
        let topics = topics.map(|topics| {
            let topic = |(name, partitions): &(&str, &[i32])| TopicPartitions {
                topic: (*name).to_owned(),
                partitions: partitions.to_vec(),
                ..Default::default()
            };
            topics.iter().map(topic).collect()
        });
        ElectLeadersRequest {
            topic_partitions: topics,
            ..Default::default()
        }
    }

    #[test]
    fn outcomes_stand_below_their_topics() {
        let not_needed = Err(ErrorCode::ElectionNotNeeded);
        let outcomes = vec![
            outcome("a", 1, Ok(())),
            outcome("a", 0, not_needed),
            outcome("b", 2, Ok(())),
        ];
        let named = request(Some(&[("a", &[1, 0]), ("none", &[]), ("b", &[2])]));
        let results = by_topic(&named, outcomes.clone());
        assert_eq!(show(&results), "a [1:0 0:84], none [], b [2:0]");
        let results = by_topic(&request(None), outcomes);
        assert_eq!(show(&results), "a [1:0 0:84], b [2:0]");
    }

    #[test]
    fn a_refusal_reaches_every_partition() {
        let named = refuse(
            &request(Some(&[("a", &[1])])),
            ErrorCode::RequestTimedOut,
            None,
        );
        assert_eq!(named.error_code, 0);
        assert_eq!(show(&named.replica_election_results), "a [1:7]");
        let all = refuse(&request(None), ErrorCode::RequestTimedOut, None);
        assert_eq!(all.error_code, 7);
    }
}
