//! A broker's session, on the controller's side: registration, then heartbeats.

use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use millrace_host::Clock;
use millrace_metadata::decide::{self, Heartbeat, Registration};
use millrace_model::{BrokerEpoch, BrokerId, ImageVersion};
use millrace_rpc::Peer;
use millrace_rpc::proto::control as wire;
use millrace_rpc::proto::control::session_down::Message as Down;
use millrace_rpc::proto::control::session_up::Message as Up;
use millrace_rpc::proto::control::{Registered, SessionDown, SessionUp};
use millrace_rpc::tonic::Status;
use tokio::sync::mpsc;

use crate::control_wire;
use crate::controller::{Event, Handle, decision};
use crate::error::DecideError;

/// How long a registration or the answer to a heartbeat may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Serves sessions on one node.
#[derive(Clone)]
pub(crate) struct SessionHost {
    pub(crate) controller: Handle,
    pub(crate) clock: Clock,
    pub(crate) cluster_id: Arc<str>,
}

pub(crate) type Replies = mpsc::Sender<Result<SessionDown, Status>>;

/// The refusal of a node that is not the active controller.
pub(crate) fn not_controller(error: &DecideError) -> Status {
    match error {
        DecideError::NotController { .. } => Status::aborted(error.to_string()),
        DecideError::Unconfirmed | DecideError::TimedOut => {
            Status::deadline_exceeded(error.to_string())
        }
        DecideError::Invalid(_) => Status::internal(error.to_string()),
    }
}

impl SessionHost {
    /// Runs a session until the broker's stream ends or this node is not the controller any more.
    pub(crate) async fn serve(
        self,
        peer: Peer,
        incoming: impl Stream<Item = Result<SessionUp, Status>> + Send + Unpin,
        replies: Replies,
    ) {
        if let Err(status) = self.session(peer, incoming, &replies).await {
            tracing::debug!(broker = %peer.node, %status, "a broker's session ended");
            // The broker may be gone already.
            let _ = replies.send(Err(status)).await;
        }
    }

    async fn session(
        &self,
        peer: Peer,
        mut incoming: impl Stream<Item = Result<SessionUp, Status>> + Send + Unpin,
        replies: &Replies,
    ) -> Result<(), Status> {
        let first = incoming.next().await.transpose()?;
        let Some(Up::Registration(registration)) = first.and_then(|first| first.message) else {
            return Err(Status::invalid_argument(
                "a session begins with a registration",
            ));
        };
        let registration =
            control_wire::decode_registration(peer.node, &self.cluster_id, registration)?;
        if registration.incarnation != peer.incarnation {
            return Err(Status::invalid_argument(
                "the registration is of another incarnation",
            ));
        }
        let Some((epoch, version)) = self.register(registration, replies).await? else {
            return Ok(());
        };
        let registered = Registered {
            epoch: epoch.get(),
            version: version.get(),
        };
        tell(replies, Down::Registered(registered)).await;
        let mut active = self.controller.active.clone();
        let term = *active.borrow_and_update();
        self.controller
            .send(Event::StreamBegan(peer.node, epoch))
            .await;
        let ended = tokio::select! {
            biased;
            _ = async { active.wait_for(|now| *now != term).await.map(drop) } => {
                Err(Status::aborted("the controller has changed"))
            }
            ended = self.heartbeats(peer.node, epoch, &mut incoming, replies) => ended,
        };
        self.controller
            .send(Event::StreamEnded(peer.node, epoch))
            .await;
        ended
    }

    /// Registers; `None` where it was refused and the broker has been told.
    async fn register(
        &self,
        registration: Registration,
        replies: &Replies,
    ) -> Result<Option<(BrokerEpoch, ImageVersion)>, Status> {
        let id = registration.id;
        let deadline = self.clock.now() + ANSWER_LIMIT;
        let (pending, answer) = decision(deadline, move |image, sessions, now| {
            decide::register_broker(image, sessions, &registration, now)
        });
        let (outcome, version) = self.ask(Event::Decide(pending), answer).await?;
        match outcome {
            Ok(epoch) => {
                tracing::info!(broker = %id, %epoch, "a broker registered");
                Ok(Some((epoch, version)))
            }
            Err(refusal) => {
                tell(
                    replies,
                    Down::Refused(control_wire::encode_refusal(&refusal)),
                )
                .await;
                Ok(None)
            }
        }
    }

    async fn heartbeats(
        &self,
        id: BrokerId,
        epoch: BrokerEpoch,
        incoming: &mut (impl Stream<Item = Result<SessionUp, Status>> + Send + Unpin),
        replies: &Replies,
    ) -> Result<(), Status> {
        while let Some(message) = incoming.next().await.transpose()? {
            let Some(Up::Heartbeat(beat)) = message.message else {
                return Err(Status::invalid_argument("a session registers once"));
            };
            let beat = Heartbeat {
                id,
                epoch,
                image_version: ImageVersion(beat.version),
                interval: Duration::from_millis(beat.interval_ms.into()),
                wants_fence: beat.wants_fence,
                wants_shutdown: beat.wants_shutdown,
                offline_directories: control_wire::decode_directories(&beat.offline_directories)?,
                short_directories: control_wire::decode_directories(&beat.short_directories)?,
                slow_directories: control_wire::decode_directories(&beat.slow_directories)?,
            };
            let decided = beat.clone();
            let deadline = self.clock.now() + ANSWER_LIMIT;
            let (pending, answer) = decision(deadline, move |image, sessions, now| {
                let decided = decide::heartbeat(image, sessions, &decided, now);
                let silent = sessions.silent(image, now);
                decided.map(|reply| reply.map(|reply| (reply, silent)))
            });
            let (decided, version) = self.ask(Event::Heartbeat(beat, pending), answer).await?;
            match decided {
                Ok((reply, silent)) => {
                    let state = control_wire::encode_state(reply, &silent, version);
                    tell(replies, Down::State(state)).await;
                }
                Err(refusal) => {
                    tell(
                        replies,
                        Down::Refused(control_wire::encode_refusal(&refusal)),
                    )
                    .await;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    async fn ask<T>(
        &self,
        event: Event,
        answer: tokio::sync::oneshot::Receiver<Result<(T, ImageVersion), DecideError>>,
    ) -> Result<(T, ImageVersion), Status> {
        let ended = || Status::aborted("the controller has ended");
        if !self.controller.send(event).await {
            return Err(ended());
        }
        answer
            .await
            .map_err(|_| ended())?
            .map_err(|error| not_controller(&error))
    }
}

async fn tell(replies: &Replies, message: Down) {
    // When the broker is gone its stream ends too.
    let _ = replies
        .send(Ok(wire::SessionDown {
            message: Some(message),
        }))
        .await;
}
