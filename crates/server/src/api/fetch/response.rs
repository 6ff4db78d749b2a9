//! The answer to a Fetch request.

use std::collections::BTreeSet;

use millrace_metadata::Image;
use millrace_model::{BrokerId, ErrorCode, PartitionId};
use millrace_protocol::messages::fetch_response::{
    FetchResponse, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData,
};

use super::session::{TopicRef, Wanted};
use crate::api::Context;
use crate::node::endpoint;

/// The version from which on the current leader is told.
const LEADERS_FROM: i16 = 16;

/// Puts the partitions into an answer, those of one topic that follow each other together.
pub fn respond(
    context: &Context,
    session_id: i32,
    results: Vec<(Wanted, PartitionData)>,
) -> FetchResponse {
    let image = context.node.image();
    let mut leaders = BTreeSet::new();
    let mut topics: Vec<(TopicRef, Vec<PartitionData>)> = Vec::new();
    for (wanted, mut data) in results {
        if context.api_version >= LEADERS_FROM && is_about_leader(data.error_code) {
            hint_leader(&image, &wanted, &mut data, &mut leaders);
        }
        match topics.last_mut() {
            Some((topic, partitions)) if *topic == wanted.topic => partitions.push(data),
            _ => topics.push((wanted.topic, vec![data])),
        }
    }
    FetchResponse {
        session_id,
        responses: topics.into_iter().map(topic_response).collect(),
        node_endpoints: endpoints(&image, &leaders, context.listener()),
        ..Default::default()
    }
}

fn topic_response((topic, partitions): (TopicRef, Vec<PartitionData>)) -> FetchableTopicResponse {
    let mut response = FetchableTopicResponse {
        partitions,
        ..Default::default()
    };
    match topic {
        TopicRef::Name(name) => response.topic = name.as_ref().to_owned(),
        TopicRef::Id(id) => response.topic_id = id.0,
    }
    response
}

fn is_about_leader(error: i16) -> bool {
    error == ErrorCode::NotLeaderOrFollower.code() || error == ErrorCode::FencedLeaderEpoch.code()
}

fn hint_leader(
    image: &Image,
    wanted: &Wanted,
    data: &mut PartitionData,
    leaders: &mut BTreeSet<BrokerId>,
) {
    let topic = match &wanted.topic {
        TopicRef::Name(name) => image.topic_named(name),
        TopicRef::Id(id) => image.topic(*id),
    };
    let Some(topic) = topic else {
        return;
    };
    let id = PartitionId {
        topic: topic.id,
        index: wanted.index,
    };
    if let Some(partition) = image.partition(id) {
        let leader = partition.leader.unwrap_or(BrokerId::NONE);
        leaders.insert(leader);
        data.current_leader = LeaderIdAndEpoch {
            leader_id: leader.get(),
            leader_epoch: partition.leader_epoch.get(),
            ..Default::default()
        };
    }
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
