//! What other nodes ask of this one, apart from Raft itself.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use millrace_metadata::Decision;
use millrace_metadata::decide;
use millrace_model::{BrokerEpoch, DirectoryId, ImageVersion, LeaderEpoch};
use millrace_rpc::Peer;
use millrace_rpc::proto::control as wire;
use millrace_rpc::proto::control::control_server::Control;
use millrace_rpc::proto::raft;
use millrace_rpc::tonic::{Request, Response, Status, Streaming, async_trait};
use tokio::sync::mpsc;

use crate::error::{DecideError, ForwardError};
use crate::options::Forwarded;
use crate::session_host::not_controller;
use crate::types::{Place, RaftId};
use crate::{Inner, control_wire, describe, formation};

/// Messages that may wait in a session's stream.
const SESSION_DEPTH: usize = 64;

/// How long a decision for another node may take.
const DECISION_LIMIT: Duration = Duration::from_secs(5);

pub(crate) struct ControlService(pub(crate) Arc<Inner>);

impl ControlService {
    async fn decide<T: Send + 'static>(
        &self,
        mut make: impl FnMut(&millrace_metadata::Image) -> Decision<T> + Send + 'static,
    ) -> Result<(T, ImageVersion), Status> {
        let deadline = self.0.host.clock.now() + DECISION_LIMIT;
        let decided = self
            .0
            .decide(deadline, move |image, _, _| make(image))
            .await;
        decided.map_err(|error| not_controller(&error))
    }
}

fn encode_member(id: RaftId, place: &Place) -> raft::Member {
    raft::Member {
        id: Some(crate::wire::encode_id(&id)),
        node: Some(raft::Node {
            host: place.host.clone(),
            port: place.port.into(),
        }),
    }
}

#[async_trait]
impl Control for ControlService {
    async fn hello(
        &self,
        _: Request<wire::HelloRequest>,
    ) -> Result<Response<wire::HelloReply>, Status> {
        let inner = &self.0;
        let standing = inner.standing.borrow().clone();
        let leader = match standing.leads() {
            Some(_) => Some(standing.me),
            None => standing
                .leader
                .filter(|_| inner.members.live_leader() == standing.leader),
        };
        let leader = leader.and_then(|id| {
            let place = standing.membership.get_node(&id)?;
            Some(encode_member(id, place))
        });
        Ok(Response::new(wire::HelloReply {
            id: Some(crate::wire::encode_id(&inner.members.me)),
            empty: inner.log.is_empty(),
            pristine: inner.log.is_pristine(),
            leader,
            term: standing.term,
            incarnation: control_wire::encode_uuid(inner.peer().incarnation.0),
        }))
    }

    async fn join(
        &self,
        request: Request<wire::JoinRequest>,
    ) -> Result<Response<wire::JoinReply>, Status> {
        let peer = Peer::of(&request)?;
        let request = request.into_inner();
        let id = request.id.as_ref().ok_or(crate::wire::Malformed("join"))?;
        let id = crate::wire::decode_id(id)?;
        let place = crate::wire::decode_place(request.place.as_ref())?;
        if (id.node, id.directory) != (peer.node, peer.directory) {
            return Err(Status::invalid_argument("a node joins for itself only"));
        }
        let inner = &self.0;
        // One change of the membership at a time.
        let _one = inner.membership_change.lock().await;
        let standing = inner.standing.borrow().clone();
        // Before it has an entry of its own term the membership may be one that is being changed.
        if standing.leads().is_none() || !inner.is_active() {
            return Err(Status::aborted("this node is not the active controller"));
        }
        inner.members.learn_place(id.node, &place);
        let admitted = formation::admit(&inner.raft, &standing, id, place, request.voter).await;
        admitted.map_err(Status::unavailable)?;
        Ok(Response::new(wire::JoinReply {}))
    }

    type SessionStream =
        Pin<Box<dyn Stream<Item = Result<wire::SessionDown, Status>> + Send + 'static>>;

    async fn session(
        &self,
        request: Request<Streaming<wire::SessionUp>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let peer = Peer::of(&request)?;
        let refused = || Status::aborted("this node is no controller");
        let host = self.0.session_host().ok_or_else(refused)?;
        if host.controller.active.borrow().is_none() {
            return Err(Status::aborted("this node is not the active controller"));
        }
        let (replies, down) = mpsc::channel(SESSION_DEPTH);
        self.0
            .host
            .control
            .spawn(host.serve(peer, request.into_inner(), replies));
        let down =
            futures::stream::unfold(
                down,
                |mut down| async move { Some((down.recv().await?, down)) },
            );
        Ok(Response::new(Box::pin(down)))
    }

    async fn forward(
        &self,
        request: Request<wire::ForwardRequest>,
    ) -> Result<Response<wire::ForwardReply>, Status> {
        let request = decode_forwarded(request.into_inner())?;
        if !self.0.is_active() {
            return Err(Status::aborted("this node is not the active controller"));
        }
        match self.0.forward.handle(request).await {
            Ok((body, version)) => {
                let version = version.get();
                Ok(Response::new(wire::ForwardReply { body, version }))
            }
            Err(ForwardError::NoController) => {
                Err(not_controller(&DecideError::NotController { leader: None }))
            }
            Err(ForwardError::Unconfirmed(why)) => Err(Status::deadline_exceeded(why)),
            Err(ForwardError::Unsupported(why)) => Err(Status::unimplemented(why)),
        }
    }

    async fn alter_partitions(
        &self,
        request: Request<wire::AlterPartitionsRequest>,
    ) -> Result<Response<wire::AlterPartitionsReply>, Status> {
        let peer = Peer::of(&request)?;
        let request = control_wire::decode_isr_request(peer.node, request.get_ref())?;
        let decided = self
            .decide(move |image| decide::alter_partitions(image, &request))
            .await?;
        let (outcome, version) = decided;
        let mut reply = wire::AlterPartitionsReply {
            version: version.get(),
            ..Default::default()
        };
        match outcome {
            Ok(outcomes) => {
                reply.outcomes = outcomes
                    .iter()
                    .map(control_wire::encode_isr_outcome)
                    .collect();
            }
            Err(refusal) => reply.refused = Some(control_wire::encode_refusal(&refusal)),
        }
        Ok(Response::new(reply))
    }

    async fn allocate_producer_ids(
        &self,
        request: Request<wire::AllocateProducerIdsRequest>,
    ) -> Result<Response<wire::AllocateProducerIdsReply>, Status> {
        let peer = Peer::of(&request)?;
        let epoch = BrokerEpoch(request.get_ref().broker_epoch);
        let deciding =
            self.decide(move |image| decide::allocate_producer_ids(image, peer.node, epoch));
        let (outcome, version) = deciding.await?;
        let mut reply = wire::AllocateProducerIdsReply {
            version: version.get(),
            ..Default::default()
        };
        match outcome {
            Ok(block) => (reply.first, reply.count) = (block.start, block.end - block.start),
            Err(refusal) => reply.refused = Some(control_wire::encode_refusal(&refusal)),
        }
        Ok(Response::new(reply))
    }

    async fn assign_directories(
        &self,
        request: Request<wire::AssignDirectoriesRequest>,
    ) -> Result<Response<wire::AssignDirectoriesReply>, Status> {
        let peer = Peer::of(&request)?;
        let epoch = BrokerEpoch(request.get_ref().broker_epoch);
        let assignments = request.get_ref().assignments.iter().map(|assignment| {
            let id = control_wire::decode_partition(&assignment.topic, assignment.partition)?;
            Ok((
                id,
                DirectoryId(control_wire::decode_uuid(&assignment.directory)?),
            ))
        });
        let assignments: Vec<_> = assignments.collect::<Result<_, crate::wire::Malformed>>()?;
        let deciding = self
            .decide(move |image| decide::assign_directories(image, peer.node, epoch, &assignments));
        let (outcome, version) = deciding.await?;
        let mut reply = wire::AssignDirectoriesReply {
            version: version.get(),
            ..Default::default()
        };
        match outcome {
            Ok(codes) => reply.codes = codes.into_iter().map(|code| (code as i16).into()).collect(),
            Err(refusal) => reply.refused = Some(control_wire::encode_refusal(&refusal)),
        }
        Ok(Response::new(reply))
    }

    async fn replicas_damaged(
        &self,
        request: Request<wire::ReplicasDamagedRequest>,
    ) -> Result<Response<wire::ReplicasDamagedReply>, Status> {
        let peer = Peer::of(&request)?;
        let epoch = BrokerEpoch(request.get_ref().broker_epoch);
        let damaged = request.get_ref().replicas.iter().map(|damaged| {
            let id = control_wire::decode_partition(&damaged.topic, damaged.partition)?;
            Ok((id, LeaderEpoch(damaged.leader_epoch)))
        });
        let damaged: Vec<_> = damaged.collect::<Result<_, crate::wire::Malformed>>()?;
        let deciding =
            self.decide(move |image| decide::replicas_damaged(image, peer.node, epoch, &damaged));
        let (outcome, version) = deciding.await?;
        let mut reply = wire::ReplicasDamagedReply {
            version: version.get(),
            ..Default::default()
        };
        match outcome {
            Ok(codes) => reply.codes = codes.into_iter().map(|code| (code as i16).into()).collect(),
            Err(refusal) => reply.refused = Some(control_wire::encode_refusal(&refusal)),
        }
        Ok(Response::new(reply))
    }

    async fn register_controller(
        &self,
        request: Request<wire::ControllerRegistration>,
    ) -> Result<Response<wire::RegisterControllerReply>, Status> {
        let peer = Peer::of(&request)?;
        let registration = control_wire::decode_controller(peer.node, request.into_inner())?;
        if registration.incarnation != peer.incarnation {
            return Err(Status::invalid_argument(
                "the registration is of another incarnation",
            ));
        }
        let deciding = self.decide(move |image| decide::register_controller(image, &registration));
        let ((), version) = deciding.await?;
        Ok(Response::new(wire::RegisterControllerReply {
            version: version.get(),
        }))
    }

    async fn describe(
        &self,
        _: Request<wire::DescribeRequest>,
    ) -> Result<Response<wire::DescribeReply>, Status> {
        let described = describe::local(&self.0);
        let refused = || Status::aborted("this node is not the active controller");
        Ok(Response::new(describe::encode(
            &described.ok_or_else(refused)?,
        )))
    }
}

fn decode_forwarded(request: wire::ForwardRequest) -> Result<Forwarded, Status> {
    let number = |number: i32| {
        i16::try_from(number).map_err(|_| Status::invalid_argument("an API number of 16 bits"))
    };
    Ok(Forwarded {
        api_key: number(request.api_key)?,
        api_version: number(request.api_version)?,
        principal: request.principal,
        client_id: request.client_id,
        client_address: request.client_address,
        body: request.body,
        deadline_ms: request.deadline_ms,
    })
}

pub(crate) fn encode_forwarded(request: &Forwarded) -> wire::ForwardRequest {
    wire::ForwardRequest {
        api_key: request.api_key.into(),
        api_version: request.api_version.into(),
        principal: request.principal.clone(),
        client_id: request.client_id.clone(),
        client_address: request.client_address.clone(),
        body: request.body.clone(),
        deadline_ms: request.deadline_ms,
    }
}
