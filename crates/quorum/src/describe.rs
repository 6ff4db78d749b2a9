//! The state of the quorum, as DescribeQuorum tells it (KIP-595, KIP-836, KIP-853).

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use millrace_host::Clock;
use millrace_model::{BrokerId, DirectoryId, Timestamp};
use millrace_rpc::proto::control as wire;
use millrace_rpc::proto::raft;
use openraft::Instant as _;
use openraft::async_runtime::watch::WatchReceiver;

use crate::types::{Place, RaftId};
use crate::{Inner, Raft};

/// How often the leader looks at how far the others have come, beside when it is asked: while they
/// have everything, that they had it then is all there is to remember.
const LOOK: Duration = Duration::from_secs(1);

/// How far a member of the quorum has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaProgress {
    /// `node.id`.
    pub id: BrokerId,
    /// Its metadata directory.
    pub directory: DirectoryId,
    /// Where it listens for the quorum.
    pub place: Place,
    /// A voter, or an observer.
    pub voter: bool,
    /// Its log end offset, -1 while it is not known.
    pub log_end: i64,
    /// When it last answered; [`Timestamp::NONE`] if it never did.
    pub last_fetch: Timestamp,
    /// When it last had everything the leader had.
    pub last_caught_up: Timestamp,
}

/// The quorum as its leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumDescription {
    /// The leader; -1 where there is none.
    pub leader: BrokerId,
    /// Its term.
    pub epoch: i32,
    /// Entries below this offset are committed.
    pub high_watermark: i64,
    /// Voters first, then observers, by number.
    pub replicas: Vec<ReplicaProgress>,
}

/// When each member was last seen to have everything, and when it last answered.
#[derive(Default)]
pub(crate) struct Seen(Mutex<BTreeMap<RaftId, (Timestamp, Timestamp)>>);

impl Seen {
    fn get(&self, id: RaftId) -> (Timestamp, Timestamp) {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(&id)
            .copied()
            .unwrap_or((Timestamp::NONE, Timestamp::NONE))
    }

    fn look(&self, raft: &Raft, clock: &Clock) {
        let metrics = raft.metrics();
        let metrics = metrics.borrow_watched();
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (Some(replication), Some(heartbeat)) = (&metrics.replication, &metrics.heartbeat)
        else {
            seen.clear();
            return;
        };
        let wall = clock.wall();
        for (id, answered) in heartbeat {
            let Some(answered) = answered else { continue };
            let at = wall_time_of(answered.elapsed(), wall);
            let (fetch, caught_up) = seen
                .entry(*id)
                .or_insert((Timestamp::NONE, Timestamp::NONE));
            *fetch = (*fetch).max(at);
            let matched = replication.get(id).copied().flatten().map(|id| id.index);
            if matched == metrics.last_log_index {
                *caught_up = *fetch;
            }
        }
    }
}

/// The wall's time that long ago.
fn wall_time_of(ago: Duration, wall: Timestamp) -> Timestamp {
    Timestamp(wall.get() - i64::try_from(ago.as_millis()).unwrap_or(i64::MAX))
}

/// Keeps looking while this node leads, as long as openraft runs.
pub(crate) async fn observe(inner: std::sync::Weak<Inner>) {
    let Some(mut standing) = inner.upgrade().map(|inner| inner.standing.clone()) else {
        return;
    };
    while standing
        .wait_for(|standing| standing.leads().is_some() || standing.stopped.is_some())
        .await
        .is_ok_and(|standing| standing.stopped.is_none())
    {
        let Some(inner) = inner.upgrade() else { return };
        inner.seen.look(&inner.raft, &inner.host.clock);
        drop(inner);
        tokio::time::sleep(LOOK).await;
    }
}

/// What this node knows, if it leads.
pub(crate) fn local(inner: &Inner) -> Option<QuorumDescription> {
    let term = inner.standing.borrow().leads()?;
    inner.seen.look(&inner.raft, &inner.host.clock);
    let metrics = inner.raft.metrics();
    let metrics = metrics.borrow_watched();
    let replication = metrics.replication.as_ref()?;
    // A change counts once it is committed: before, it must not be relied upon.
    let membership = &metrics.committed_membership_config;
    let wall = inner.host.clock.wall();
    let mut replicas: Vec<_> = membership
        .nodes()
        .map(|(id, place)| {
            let own = *id == inner.members.me;
            let matched = match own {
                true => metrics.last_log_index,
                false => replication.get(id).copied().flatten().map(|id| id.index),
            };
            let (fetch, caught_up) = match own {
                true => (wall, wall),
                false => inner.seen.get(*id),
            };
            ReplicaProgress {
                id: id.node,
                directory: id.directory,
                place: place.clone(),
                voter: membership.voter_ids().any(|voter| voter == *id),
                log_end: matched.map_or(-1, offset_after),
                last_fetch: fetch,
                last_caught_up: caught_up,
            }
        })
        .collect();
    replicas.sort_by_key(|replica| (!replica.voter, replica.id));
    Some(QuorumDescription {
        leader: inner.members.me.node,
        epoch: i32::try_from(term).unwrap_or(i32::MAX),
        high_watermark: metrics
            .cluster_committed
            .map_or(0, |id| offset_after(id.index)),
        replicas,
    })
}

fn offset_after(index: u64) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX - 1) + 1
}

pub(crate) fn encode(description: &QuorumDescription) -> wire::DescribeReply {
    let replica = |replica: &ReplicaProgress| wire::ReplicaProgress {
        id: Some(crate::wire::encode_id(&RaftId {
            node: replica.id,
            directory: replica.directory,
        })),
        place: Some(raft::Node {
            host: replica.place.host.clone(),
            port: replica.place.port.into(),
        }),
        voter: replica.voter,
        log_end: replica.log_end,
        last_fetch_ms: replica.last_fetch.get(),
        last_caught_up_ms: replica.last_caught_up.get(),
    };
    wire::DescribeReply {
        leader: description.leader.get(),
        term: description.epoch,
        high_watermark: description.high_watermark,
        replicas: description.replicas.iter().map(replica).collect(),
    }
}

pub(crate) fn decode(
    reply: wire::DescribeReply,
) -> Result<QuorumDescription, crate::wire::Malformed> {
    let replicas = reply.replicas.into_iter().map(|replica| {
        let id = replica
            .id
            .as_ref()
            .ok_or(crate::wire::Malformed("replica"))?;
        let id = crate::wire::decode_id(id)?;
        Ok(ReplicaProgress {
            id: id.node,
            directory: id.directory,
            place: crate::wire::decode_place(replica.place.as_ref())?,
            voter: replica.voter,
            log_end: replica.log_end,
            last_fetch: Timestamp(replica.last_fetch_ms),
            last_caught_up: Timestamp(replica.last_caught_up_ms),
        })
    });
    Ok(QuorumDescription {
        leader: BrokerId(reply.leader),
        epoch: reply.term,
        high_watermark: reply.high_watermark,
        replicas: replicas.collect::<Result<_, _>>()?,
    })
}
