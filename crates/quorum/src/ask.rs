//! How a node asks the active controller, wherever that is.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millrace_metadata::decide::{self, DamagedReplica, IsrRequest, PartitionState};
use millrace_metadata::{Controller, Decision, Image, Refusal};
use millrace_model::{BrokerEpoch, DirectoryId, ErrorCode, ImageVersion, PartitionId, limits};
use millrace_rpc::proto::control as wire;
use millrace_rpc::proto::control::control_client::ControlClient;
use millrace_rpc::tonic::{Code, Status};
use millrace_rpc::{PeerChannel, Purpose};
use tokio::time::Instant;

use crate::Inner;
use crate::control_service::encode_forwarded;
use crate::control_wire;
use crate::error::{AskError, DecideError, ForwardError};
use crate::options::Forwarded;

/// How long a broker's own request to the controller may take, retries included.
const ASK_LIMIT: Duration = Duration::from_secs(5);

/// How long to wait before the next attempt.
const RETRY: Duration = Duration::from_millis(15);

type Client = ControlClient<PeerChannel>;

/// One attempt's end.
enum Attempt<T> {
    Done(T),
    /// Certainly not done: try again, perhaps elsewhere.
    Again,
    Failed(Status),
}

impl<T> From<Result<T, Status>> for Attempt<T> {
    fn from(answer: Result<T, Status>) -> Attempt<T> {
        match answer {
            Ok(done) => Attempt::Done(done),
            Err(status) if status.code() == Code::Aborted => Attempt::Again,
            Err(status) => Attempt::Failed(status),
        }
    }
}

impl<T> Attempt<T> {
    /// What may be done twice is asked again also when the connection broke before the answer.
    fn repeatable(self) -> Attempt<T> {
        match self {
            Attempt::Failed(status) if status.code() == Code::Unavailable => Attempt::Again,
            other => other,
        }
    }
}

impl Inner {
    /// A client of the active controller on another node; `None` while there is none to be reached.
    async fn controller_client(&self) -> Option<Client> {
        let leader = self
            .leader_id()
            .filter(|leader| *leader != self.members.me)?;
        let channel = self.members.channels.channel(leader.node, Purpose::Control);
        channel.connect().await.ok()?;
        let client = ControlClient::new(channel)
            .max_decoding_message_size(limits::MAX_PEER_MESSAGE_BYTES)
            .max_encoding_message_size(limits::MAX_PEER_MESSAGE_BYTES);
        Some(client)
    }

    /// Asks again until it is done, has failed, or `deadline` passes.
    async fn until<T, F>(&self, deadline: Instant, mut attempt: impl FnMut() -> F) -> Attempt<T>
    where
        F: Future<Output = Attempt<T>>,
    {
        let asking = async {
            loop {
                match attempt().await {
                    Attempt::Again => {}
                    ended => return ended,
                }
                let mut standing = self.standing.clone();
                standing.mark_unchanged();
                // Once openraft has stopped here nothing changes any more, and nobody can be asked.
                if let Ok(Err(_)) = tokio::time::timeout(RETRY, standing.changed()).await {
                    return Attempt::Again;
                }
            }
        };
        tokio::time::timeout_at(deadline, asking)
            .await
            .unwrap_or(Attempt::Again)
    }

    /// Waits until this node's image has come to `version`.
    async fn reach(&self, version: ImageVersion, deadline: Instant) -> Result<(), ()> {
        let mut images = self.images();
        let reaching = images.wait_for(|image| image.version() >= version);
        match tokio::time::timeout_at(deadline, reaching).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(()),
        }
    }

    pub(crate) async fn forward(&self, request: Forwarded) -> Result<Bytes, ForwardError> {
        let limit = Duration::from_millis(request.deadline_ms);
        let deadline = self.host.clock.now() + limit;
        let attempt = || async {
            if self.is_active() {
                return match self.forward.handle(request.clone()).await {
                    Err(ForwardError::NoController) => Attempt::Again,
                    Err(ForwardError::Unsupported(why)) => {
                        Attempt::Failed(Status::unimplemented(why))
                    }
                    Err(ForwardError::Unconfirmed(why)) => {
                        Attempt::Failed(Status::deadline_exceeded(why))
                    }
                    Ok(done) => Attempt::Done(done),
                };
            }
            let Some(mut client) = self.controller_client().await else {
                return Attempt::Again;
            };
            let answer = client.forward(encode_forwarded(&request)).await;
            let answer = answer.map(|reply| {
                let reply = reply.into_inner();
                (reply.body, ImageVersion(reply.version))
            });
            Attempt::from(answer)
        };
        match self.until(deadline, attempt).await {
            Attempt::Done((body, version)) => match self.reach(version, deadline).await {
                Ok(()) => Ok(body),
                Err(()) => Err(ForwardError::Unconfirmed(
                    "this node lags behind".to_owned(),
                )),
            },
            Attempt::Again => Err(ForwardError::NoController),
            Attempt::Failed(status) if status.code() == Code::Unimplemented => {
                Err(ForwardError::Unsupported(status.message().to_owned()))
            }
            Attempt::Failed(status) => Err(ForwardError::Unconfirmed(status.to_string())),
        }
    }

    /// Decides here if this node is the active controller.
    async fn decide_here<T: Send + 'static>(
        &self,
        deadline: Instant,
        mut make: impl FnMut(&Image) -> Decision<T> + Send + 'static,
    ) -> Attempt<T> {
        match self.decide(deadline, move |image, _, _| make(image)).await {
            Ok((reply, _)) => Attempt::Done(reply),
            Err(DecideError::NotController { .. }) => Attempt::Again,
            Err(error) => Attempt::Failed(Status::deadline_exceeded(error.to_string())),
        }
    }

    pub(crate) async fn alter_partitions(
        &self,
        request: IsrRequest,
    ) -> Result<Vec<Result<PartitionState, ErrorCode>>, AskError> {
        let deadline = self.host.clock.now() + ASK_LIMIT;
        let encoded = control_wire::encode_isr_request(&request);
        let request = Arc::new(request);
        let attempt = || async {
            if self.is_active() {
                let request = request.clone();
                let make = move |image: &Image| decide::alter_partitions(image, &request);
                return self.decide_here(deadline, make).await;
            }
            let Some(mut client) = self.controller_client().await else {
                return Attempt::Again;
            };
            let answer = client.alter_partitions(encoded.clone()).await;
            let answer = answer.map(|reply| {
                let reply = reply.into_inner();
                let outcomes = reply
                    .outcomes
                    .into_iter()
                    .map(control_wire::decode_isr_outcome);
                refused_or(reply.refused, || outcomes.collect())
            });
            Attempt::from(answer).repeatable()
        };
        answered(self.until(deadline, attempt).await)
    }

    pub(crate) async fn allocate_producer_ids(
        &self,
        epoch: BrokerEpoch,
    ) -> Result<Range<i64>, AskError> {
        let deadline = self.host.clock.now() + ASK_LIMIT;
        let node = self.members.me.node;
        let attempt = || async {
            if self.is_active() {
                let make = move |image: &Image| decide::allocate_producer_ids(image, node, epoch);
                return self.decide_here(deadline, make).await;
            }
            let Some(mut client) = self.controller_client().await else {
                return Attempt::Again;
            };
            let request = wire::AllocateProducerIdsRequest {
                broker_epoch: epoch.get(),
            };
            let answer = client.allocate_producer_ids(request).await.map(|reply| {
                let reply = reply.into_inner();
                refused_or(reply.refused, || reply.first..reply.first + reply.count)
            });
            Attempt::from(answer).repeatable()
        };
        answered(self.until(deadline, attempt).await)
    }

    pub(crate) async fn assign_directories(
        &self,
        epoch: BrokerEpoch,
        assignments: Vec<(PartitionId, DirectoryId)>,
    ) -> Result<Vec<ErrorCode>, AskError> {
        let deadline = self.host.clock.now() + ASK_LIMIT;
        let node = self.members.me.node;
        let encoded = wire::AssignDirectoriesRequest {
            broker_epoch: epoch.get(),
            assignments: assignments
                .iter()
                .map(|(id, directory)| wire::DirectoryAssignment {
                    topic: control_wire::encode_uuid(id.topic.0),
                    partition: id.index,
                    directory: control_wire::encode_uuid(directory.0),
                })
                .collect(),
        };
        let assignments = Arc::new(assignments);
        let attempt = || async {
            if self.is_active() {
                let assignments = assignments.clone();
                let make = move |image: &Image| {
                    decide::assign_directories(image, node, epoch, &assignments)
                };
                return self.decide_here(deadline, make).await;
            }
            let Some(mut client) = self.controller_client().await else {
                return Attempt::Again;
            };
            let answer = client
                .assign_directories(encoded.clone())
                .await
                .map(|reply| {
                    let reply = reply.into_inner();
                    let codes = reply.codes.into_iter().map(control_wire::decode_code);
                    refused_or(reply.refused, || codes.collect())
                });
            Attempt::from(answer).repeatable()
        };
        answered(self.until(deadline, attempt).await)
    }

    pub(crate) async fn replicas_damaged(
        &self,
        epoch: BrokerEpoch,
        damaged: Vec<DamagedReplica>,
    ) -> Result<Vec<ErrorCode>, AskError> {
        let deadline = self.host.clock.now() + ASK_LIMIT;
        let node = self.members.me.node;
        let encoded = wire::ReplicasDamagedRequest {
            broker_epoch: epoch.get(),
            replicas: damaged
                .iter()
                .map(|(id, leader_epoch)| wire::DamagedReplica {
                    topic: control_wire::encode_uuid(id.topic.0),
                    partition: id.index,
                    leader_epoch: leader_epoch.get(),
                })
                .collect(),
        };
        let damaged = Arc::new(damaged);
        let attempt = || async {
            if self.is_active() {
                let damaged = damaged.clone();
                let make =
                    move |image: &Image| decide::replicas_damaged(image, node, epoch, &damaged);
                return self.decide_here(deadline, make).await;
            }
            let Some(mut client) = self.controller_client().await else {
                return Attempt::Again;
            };
            let answer = client.replicas_damaged(encoded.clone()).await.map(|reply| {
                let reply = reply.into_inner();
                let codes = reply.codes.into_iter().map(control_wire::decode_code);
                refused_or(reply.refused, || codes.collect())
            });
            Attempt::from(answer).repeatable()
        };
        answered(self.until(deadline, attempt).await)
    }

    /// Tells where this controller listens and what it can run; returns once this node knows that
    /// it is told.
    pub(crate) async fn register_controller(
        &self,
        registration: &Controller,
    ) -> Result<(), AskError> {
        let deadline = self.host.clock.now() + ASK_LIMIT;
        let encoded = control_wire::encode_controller(registration);
        let attempt = || async {
            if self.is_active() {
                let registration = registration.clone();
                let make = move |image: &Image| {
                    let registered = decide::register_controller(image, &registration);
                    registered.map(|()| Ok(image.version()))
                };
                return self.decide_here(deadline, make).await;
            }
            let Some(mut client) = self.controller_client().await else {
                return Attempt::Again;
            };
            let answer = client.register_controller(encoded.clone()).await;
            let answer = answer.map(|reply| Ok(ImageVersion(reply.into_inner().version)));
            Attempt::from(answer).repeatable()
        };
        let version = answered(self.until(deadline, attempt).await)?;
        let reached = self.reach(version, deadline).await;
        reached.map_err(|()| AskError::Unavailable("this node lags behind".to_owned()))
    }

    /// The leader's own view of the quorum.
    pub(crate) async fn describe_remote(&self) -> Result<wire::DescribeReply, AskError> {
        let deadline = self.host.clock.now() + ASK_LIMIT;
        let attempt = || async {
            let Some(mut client) = self.controller_client().await else {
                return Attempt::Again;
            };
            let answer = client.describe(wire::DescribeRequest {}).await;
            Attempt::from(answer.map(|reply| Ok(reply.into_inner()))).repeatable()
        };
        answered(self.until(deadline, attempt).await)
    }
}

fn refused_or<T>(refused: Option<wire::Refused>, reply: impl FnOnce() -> T) -> Result<T, Refusal> {
    match refused {
        Some(refused) => Err(control_wire::decode_refusal(refused)),
        None => Ok(reply()),
    }
}

fn answered<T>(attempt: Attempt<Result<T, Refusal>>) -> Result<T, AskError> {
    match attempt {
        Attempt::Done(answer) => answer.map_err(AskError::Refused),
        Attempt::Again => Err(AskError::Unavailable("no controller is active".to_owned())),
        Attempt::Failed(status) => Err(AskError::Unavailable(status.to_string())),
    }
}
