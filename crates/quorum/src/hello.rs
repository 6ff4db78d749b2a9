//! Asking other nodes who they are, whether they live, and whom they follow.

use std::time::Duration;

use futures::future::join_all;
use millrace_model::{BrokerId, Incarnation};
use millrace_rpc::proto::control::control_client::ControlClient;
use millrace_rpc::proto::control::{HelloReply, HelloRequest};
use millrace_rpc::{LinkFailure, PeerChannel, Purpose};

use crate::control_wire;
use crate::members::Members;
use crate::types::{Place, RaftId};
use crate::wire::{self, Malformed};

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) id: RaftId,
    /// This run of its process.
    pub(crate) incarnation: Incarnation,
    pub(crate) empty: bool,
    pub(crate) pristine: bool,
    pub(crate) leader: Option<(RaftId, Place)>,
}

impl Hello {
    /// Whether it says that it leads the quorum as this member.
    pub(crate) fn leads_as(&self, leader: RaftId) -> bool {
        self.id == leader && self.leader.as_ref().is_some_and(|(id, _)| *id == leader)
    }
}

/// What asking a node came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    /// A process answers there, which need not be the one that was there before.
    Answered(Hello),
    /// Nothing listens at its address any more.
    Refused,
    /// It did not answer in time.
    Silent,
}

fn decode(reply: &HelloReply) -> Result<Hello, Malformed> {
    let leader = reply.leader.as_ref().map(|member| {
        let id = wire::decode_id(member.id.as_ref().ok_or(Malformed("leader"))?)?;
        Ok((id, wire::decode_place(member.node.as_ref())?))
    });
    Ok(Hello {
        id: wire::decode_id(reply.id.as_ref().ok_or(Malformed("hello"))?)?,
        incarnation: Incarnation(control_wire::decode_uuid(&reply.incarnation)?),
        empty: reply.empty,
        pristine: reply.pristine,
        leader: leader.transpose()?,
    })
}

/// Asks through a channel; an answer from before the connection broke may be missing once.
pub(crate) async fn ask(channel: PeerChannel, limit: Duration) -> Result<Hello, LinkFailure> {
    let place = || "the peer".to_owned();
    let asking = async {
        let mut failure = LinkFailure::NoAddress;
        for _ in 0..3 {
            channel.connect().await?;
            match ControlClient::new(channel.clone())
                .hello(HelloRequest {})
                .await
            {
                Ok(reply) => {
                    return decode(&reply.into_inner())
                        .map_err(|error| LinkFailure::Broken(place(), error.to_string()));
                }
                Err(status) => failure = LinkFailure::Broken(place(), status.to_string()),
            }
        }
        Err(failure)
    };
    let slow = || {
        Err(LinkFailure::Unreachable(
            place(),
            "no answer in time".to_owned(),
        ))
    };
    tokio::time::timeout(limit, asking)
        .await
        .unwrap_or_else(|_| slow())
}

/// Asks these nodes at the same time; those that did not answer are `None`.
pub(crate) async fn ask_all(
    members: &Members,
    nodes: impl Iterator<Item = BrokerId>,
    limit: Duration,
) -> Vec<Option<Hello>> {
    let asking = nodes.map(|node| async move {
        let answer = ask(members.channels.channel(node, Purpose::Control), limit).await;
        answer.ok().filter(|hello| hello.id.node == node)
    });
    join_all(asking).await
}

/// Finds out whether a node lives, and who it is.
pub(crate) async fn probe(members: &Members, node: BrokerId, limit: Duration) -> Probe {
    match ask(members.channels.channel(node, Purpose::Control), limit).await {
        Ok(hello) => Probe::Answered(hello),
        Err(LinkFailure::Refused(_)) => Probe::Refused,
        Err(failure) => {
            tracing::debug!(%node, %failure, "a node does not answer");
            Probe::Silent
        }
    }
}
