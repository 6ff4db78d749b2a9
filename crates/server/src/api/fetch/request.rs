//! A Fetch request, taken out of its frame.

use millrace_model::TopicId;
use millrace_protocol::messages::fetch_request::FetchRequest;

use super::session::{SessionRequest, TopicRef, Wanted};

/// What a client asks for.
#[derive(Clone, Debug)]
pub struct FetchWish {
    /// -1 for a consumer, -2 for a debugging one, else a broker's.
    pub replica_id: i32,
    /// How long it would wait.
    pub max_wait_ms: i32,
    /// For how much it would wait.
    pub min_bytes: i32,
    /// How much it takes.
    pub max_bytes: i32,
    /// Whether it takes only what is decided of transactions.
    pub read_committed: bool,
    /// Where it is, from version 11 on.
    pub rack: Option<String>,
    /// The session part.
    pub session: SessionRequest,
    /// Partitions it names.
    pub wanted: Vec<Wanted>,
    /// Partitions it no longer wants in its session.
    pub forgotten: Vec<(TopicRef, i32)>,
}

/// The version from which on consumers may read from followers.
const RACKS_FROM: i16 = 11;

impl FetchWish {
    /// What `fetch` asks for.
    pub fn of(fetch: &FetchRequest<'_>, version: i16) -> FetchWish {
        let topic_ref = |name: &str, id| match version {
            13.. => TopicRef::Id(TopicId(id)),
            _ => TopicRef::Name(name.into()),
        };
        let mut wanted = Vec::new();
        for topic in &fetch.topics {
            let name = topic_ref(topic.topic, topic.topic_id);
            wanted.extend(topic.partitions.iter().map(|partition| Wanted {
                topic: name.clone(),
                index: partition.partition,
                offset: partition.fetch_offset,
                current_leader_epoch: partition.current_leader_epoch,
                last_fetched_epoch: partition.last_fetched_epoch,
                max_bytes: partition.partition_max_bytes,
            }));
        }
        let mut forgotten = Vec::new();
        for topic in &fetch.forgotten_topics_data {
            let name = topic_ref(topic.topic, topic.topic_id);
            let gone = topic.partitions.iter().map(|index| (name.clone(), *index));
            forgotten.extend(gone);
        }
        FetchWish {
            replica_id: match version {
                15.. => fetch.replica_state.replica_id,
                _ => fetch.replica_id,
            },
            max_wait_ms: fetch.max_wait_ms,
            min_bytes: fetch.min_bytes,
            max_bytes: fetch.max_bytes,
            read_committed: fetch.isolation_level == 1,
            rack: (version >= RACKS_FROM).then(|| fetch.rack_id.to_owned()),
            session: SessionRequest {
                id: fetch.session_id,
                epoch: fetch.session_epoch,
                uses_topic_ids: version >= 13,
            },
            wanted,
            forgotten,
        }
    }
}
