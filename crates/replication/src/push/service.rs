//! The calls of followers, as the leader serves them.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use millrace_model::{BrokerEpoch, BrokerId, limits};
use millrace_rpc::proto::replication as proto;
use millrace_rpc::proto::replication::replication_server::SERVICE_NAME;
use millrace_rpc::tonic::Status;
use millrace_rpc::{Call, Calls, Messages, Outgoing, Routes};

use super::Session;
use crate::core::message::{Refuse, StreamId, Why};
use crate::ends;
use crate::replica::{Reply, Todo};
use crate::shared::Shared;
use crate::wire;

/// How long a follower may take to introduce itself on a call.
const HELLO_PATIENCE: Duration = Duration::from_secs(5);

/// The services to serve.
pub(crate) fn routes(shared: &Arc<Shared>) -> Routes {
    millrace_rpc::serve_calls(Service(shared.clone()))
}

struct Service(Arc<Shared>);

/// Who opened a call, and for which stream.
struct Caller {
    peer: BrokerId,
    broker_epoch: BrokerEpoch,
    stream: StreamId,
    inbound: Messages,
}

async fn introduced(call: Call) -> Result<Caller, Status> {
    let mut inbound = call.messages;
    let first = inbound.next::<proto::FollowerMessage>();
    let first = tokio::time::timeout(HELLO_PATIENCE, first).await;
    let first = first.map_err(|_| Status::deadline_exceeded("no introduction in time"))??;
    let hello = first.and_then(|message| message.hello);
    let hello = hello.ok_or_else(|| Status::invalid_argument("the call began without hello"))?;
    Ok(Caller {
        peer: call.peer.node,
        broker_epoch: BrokerEpoch(hello.broker_epoch),
        stream: StreamId(hello.stream),
        inbound,
    })
}

impl Calls for Service {
    const SERVICE: &'static str = SERVICE_NAME;
    const MAX_MESSAGE_BYTES: usize = limits::MAX_PEER_MESSAGE_BYTES;

    fn answer(self: Arc<Self>, call: Call) -> BoxFuture<'static, Result<Outgoing, Status>> {
        Box::pin(async move {
            match call.method.as_str() {
                "Follow" => self.follow(introduced(call).await?),
                "CatchUp" => self.catch_up(introduced(call).await?),
                ends::METHOD => {
                    let answer = ends::answer(&self.0, call.messages);
                    let answer = tokio::time::timeout(HELLO_PATIENCE, answer).await;
                    answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no question in time")))
                }
                other => Err(Status::unimplemented(format!("there is no call {other}"))),
            }
        })
    }
}

impl Service {
    fn follow(&self, caller: Caller) -> Result<Outgoing, Status> {
        let Caller {
            peer,
            broker_epoch,
            stream,
            inbound,
        } = caller;
        let session = Session::new(&self.0, peer, broker_epoch, stream);
        if self.0.stopping.is_cancelled() || !self.0.open_session(&session) {
            return Err(Status::aborted("a newer stream of this broker is open"));
        }
        tracing::debug!(follower = %peer, ?stream, "a follower broker has opened its stream");
        let listening = listen(self.0.clone(), session.clone(), inbound);
        let stopping = self.0.stopping.clone();
        self.0.host.tasks.spawn(async move {
            let _ = stopping.run_until_cancelled(listening).await;
        });
        let guard = Guard(self.0.clone(), session);
        Ok(Box::pin(futures::stream::unfold(guard, |guard| async {
            let message = guard.1.next_live().await?;
            Some((wire::pieces(message), guard))
        })))
    }

    fn catch_up(&self, caller: Caller) -> Result<Outgoing, Status> {
        let Caller {
            peer,
            broker_epoch,
            stream,
            mut inbound,
        } = caller;
        let session = self.0.session(peer);
        let session = session.filter(|session| session.age() == (broker_epoch, stream));
        let session = session.ok_or_else(|| Status::aborted("no live stream of this number"))?;
        let hearing = session.clone();
        self.0.host.tasks.spawn(async move {
            while let Ok(Some(message)) = inbound.next::<proto::FollowerMessage>().await {
                hearing.hear();
                hearing.catch_up.consumed(message.consumed_bytes);
            }
            hearing.close();
        });
        let guard = Guard(self.0.clone(), session);
        Ok(Box::pin(futures::stream::unfold(guard, |guard| async {
            let message = guard.1.next_catch_up().await?;
            Some((wire::pieces(message), guard))
        })))
    }
}

/// Ends the session with either of its calls, however that ended.
struct Guard(Arc<Shared>, Arc<Session>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.close_session(&self.1);
    }
}

async fn listen(shared: Arc<Shared>, session: Arc<Session>, mut inbound: Messages) {
    let ended = loop {
        tokio::select! {
            biased;
            () = session.closed.cancelled() => break None,
            message = inbound.next::<proto::FollowerMessage>() => match message {
                Ok(Some(message)) => receive(&shared, &session, message),
                Ok(None) => break None,
                Err(status) => break Some(status),
            },
        }
    };
    tracing::debug!(follower = %session.peer(), ?ended, "a follower broker's stream has ended");
    shared.close_session(&session);
}

fn receive(shared: &Arc<Shared>, session: &Arc<Session>, message: proto::FollowerMessage) {
    session.hear();
    session.live.consumed(message.consumed_bytes);
    let mut todo = Todo::default();
    for ack in &message.acks {
        let replica = wire::partition(&ack.topic, ack.partition).and_then(|id| shared.replica(id));
        if let Some(replica) = replica {
            replica.ack(session, wire::to_ack(ack, session.broker_epoch), &mut todo);
        }
    }
    // Before the joins: what a follower refuses came before it joined again.
    for refusal in &message.refusals {
        let id = wire::partition(&refusal.topic, refusal.partition);
        if let Some(replica) = id.and_then(|id| shared.replica(id)) {
            let epoch = millrace_model::LeaderEpoch(refusal.leader_epoch);
            replica.follower_refused(
                session,
                &Refuse {
                    why: Why::Storage,
                    epoch,
                },
            );
        }
    }
    for join in &message.joins {
        let Some(id) = wire::partition(&join.topic, join.partition) else {
            continue;
        };
        let read = wire::to_join(join, session.stream, session.broker_epoch);
        match shared.replica(id) {
            Some(replica) => replica.join(session, read, &mut todo),
            None => {
                let refuse = Refuse {
                    why: Why::UnknownPartition,
                    epoch: read.epoch,
                };
                session.reply(id, Reply::Refuse(session.stream, refuse));
            }
        }
    }
    todo.carry_out(shared);
}
