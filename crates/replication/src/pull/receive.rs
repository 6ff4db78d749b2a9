//! What a leader says, carried to the replicas it is for.

use std::sync::Arc;

use millrace_model::{BrokerEpoch, LeaderEpoch, Offset};
use millrace_rpc::proto::replication as proto;

use super::Link;
use crate::core::message::{Address, Progressed, StreamId};
use crate::replica::Todo;
use crate::shared::Shared;
use crate::wire;

/// Obeys a message; returns the bytes of batches in it, once their logs have room for more.
pub(super) async fn message(
    shared: &Arc<Shared>,
    link: &Link,
    stream: StreamId,
    message: proto::LeaderMessage,
) -> u64 {
    if message.stream != stream.0 {
        return 0;
    }
    let leader = link.leader();
    let address = |epoch: i32, round: u32| Address {
        stream,
        broker_epoch: BrokerEpoch(message.broker_epoch),
        epoch: LeaderEpoch(epoch),
        round,
    };
    let mut todo = Todo::default();
    // Before the advances: a high watermark that moved while the message was filled may cover
    // batches in it, and a follower takes over no more than its log holds.
    let mut bytes = 0;
    let mut crowded = Vec::new();
    for append in message.appends {
        bytes += append
            .batches
            .iter()
            .map(|batch| batch.len() as u64)
            .sum::<u64>();
        let id = wire::partition(&append.topic, append.partition);
        let Some(replica) = id.and_then(|id| shared.replica(id)) else {
            continue;
        };
        let progressed = Progressed {
            high_watermark: Offset(append.high_watermark),
            log_start: Offset(append.log_start),
        };
        let address = address(append.leader_epoch, append.round);
        let base = Offset(append.base);
        replica.append_from(
            leader,
            &address,
            progressed,
            base,
            append.batches,
            &mut todo,
        );
        crowded.extend(replica.open_log().filter(|log| !log.has_room()).cloned());
    }
    for advance in &message.advances {
        let id = wire::partition(&advance.topic, advance.partition);
        if let Some(replica) = id.and_then(|id| shared.replica(id)) {
            let progressed = Progressed {
                high_watermark: Offset(advance.high_watermark),
                log_start: Offset(advance.log_start),
            };
            let address = address(advance.leader_epoch, advance.round);
            replica.advance_from(leader, &address, progressed, &mut todo);
        }
    }
    for truncate in &message.truncates {
        let id = wire::partition(&truncate.topic, truncate.partition);
        if let Some(replica) = id.and_then(|id| shared.replica(id)) {
            let address = address(truncate.leader_epoch, truncate.round);
            replica.truncate_from(leader, &address, wire::to_truncate(truncate), &mut todo);
        }
    }
    for refusal in &message.refusals {
        let id = wire::partition(&refusal.topic, refusal.partition);
        if let Some(replica) = id.and_then(|id| shared.replica(id)) {
            replica.refused_by(leader, stream, &mut todo);
        }
    }
    todo.carry_out(shared);
    for log in crowded {
        log.wait_for_room().await;
    }
    bytes
}
