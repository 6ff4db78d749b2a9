//! Which replica a consumer should read from: one in its own rack, if the leader is not (KIP-392;
//! Kafka class `RackAwareReplicaSelector`).

use std::sync::Arc;

use millrace_metadata::Image;
use millrace_model::{BrokerId, Offset};
use millrace_replication::{FollowerState, Replica, Role};

use crate::api::Context;
use crate::node::endpoint;

/// A replica near `rack` that has what a consumer at `from` wants; none if the consumer should read
/// here. Only leaders send consumers elsewhere, and only with `replica.selector.class` set.
pub fn replica_near(
    context: &Context,
    image: &Image,
    replica: &Arc<Replica>,
    rack: &str,
    from: Offset,
) -> Option<BrokerId> {
    if rack.is_empty() || !context.node.config().rack_aware_reads {
        return None;
    }
    let in_rack = |id: BrokerId| {
        endpoint(image, id, context.listener())
            .is_some_and(|(broker, _)| broker.rack.as_deref() == Some(rack))
    };
    if in_rack(context.node.id) {
        return None;
    }
    let state = replica.state();
    if !matches!(state.role, Role::Leader { serving: true }) || from < state.log_start {
        return None;
    }
    let has_it = |follower: &&FollowerState| {
        follower.in_sync && follower.durable_end.is_some_and(|end| end >= from)
    };
    let near = state.followers.iter().filter(has_it);
    let near = near.filter(|follower| in_rack(follower.broker));
    // The one that has most; of those alike, the one that was complete last.
    let best = near.max_by_key(|follower| {
        let behind = std::cmp::Reverse(follower.behind_for);
        (follower.durable_end, behind)
    });
    best.map(|follower| follower.broker)
}
