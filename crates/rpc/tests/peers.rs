//! Two nodes over loopback: identity, refusals, broken connections, large messages.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use bytes::Bytes;
use millrace_host::{Host, Tasks};
use millrace_model::{BrokerId, DirectoryId, Incarnation, limits};
use millrace_rpc::proto::raft::raft_client::RaftClient;
use millrace_rpc::proto::raft::raft_server::{Raft, RaftServer};
use millrace_rpc::proto::raft::{self, entry::Payload};
use millrace_rpc::tonic::{self, Request, Response, Status, Streaming};
use millrace_rpc::{
    Channels, Identity, Link, LinkFailure, Peer, PeerChannel, PeerConnection, PeerListener,
    PeerServer, Purpose, Routes,
};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

fn identity(cluster: &str, node: i32) -> Identity {
    Identity {
        cluster_id: cluster.into(),
        node: BrokerId(node),
        directory: DirectoryId::default(),
        incarnation: Incarnation::default(),
    }
}

fn host() -> Host {
    let tasks = Tasks::on(Handle::current());
    Host::real(tasks.clone(), tasks)
}

/// Answers appends and tells which peer's connection closed.
struct Answers(mpsc::UnboundedSender<Peer>);

#[tonic::async_trait]
impl Raft for Answers {
    async fn append(
        &self,
        request: Request<raft::AppendRequest>,
    ) -> Result<Response<raft::AppendReply>, Status> {
        let peer = Peer::of(&request)?;
        let connection = request
            .extensions()
            .get::<PeerConnection>()
            .unwrap()
            .clone();
        let closed = self.0.clone();
        tokio::spawn(async move {
            connection.closed().await;
            closed.send(peer)
        });
        Ok(Response::new(raft::AppendReply::default()))
    }

    async fn request_vote(
        &self,
        _: Request<raft::VoteRequest>,
    ) -> Result<Response<raft::VoteReply>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn install_snapshot(
        &self,
        _: Request<Streaming<raft::SnapshotChunk>>,
    ) -> Result<Response<raft::SnapshotReply>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn transfer_leader(
        &self,
        _: Request<raft::TransferRequest>,
    ) -> Result<Response<raft::TransferReply>, Status> {
        Err(Status::unimplemented(""))
    }
}

/// Node 1 of cluster `c` on a port; stops when the server is told to and the port is freed when
/// the task is aborted.
async fn start(closed: mpsc::UnboundedSender<Peer>) -> (PeerServer, u16, tokio::task::AbortHandle) {
    let host = host();
    let service =
        RaftServer::new(Answers(closed)).max_decoding_message_size(limits::MAX_PEER_MESSAGE_BYTES);
    let server = PeerServer::new(identity("c", 1), Routes::new(service));
    let mut listener = host.network.listen("127.0.0.1", 0).await.unwrap();
    let port = listener.local_address().unwrap().port();
    let serving = server.clone();
    let accepting = tokio::spawn(async move {
        while let Ok(stream) = listener.accept().await {
            let (server, tasks) = (serving.clone(), host.control.clone());
            tokio::spawn(async move { server.serve(stream, &tasks).await });
        }
    });
    (server, port, accepting.abort_handle())
}

async fn append(channel: PeerChannel, bytes: usize) -> Result<(), Status> {
    let entry = raft::Entry {
        log_id: None,
        payload: Some(Payload::Batch(Bytes::from(vec![7; bytes]))),
    };
    let request = raft::AppendRequest {
        entries: vec![entry],
        ..Default::default()
    };
    RaftClient::new(channel).append(request).await.map(drop)
}

fn peer(cluster: &str, called: i32, port: u16) -> (Channels, PeerChannel) {
    let channels = Channels::new(identity(cluster, 2), host());
    channels.set_address(
        BrokerId(called),
        PeerListener::Controller,
        "127.0.0.1",
        port,
    );
    let channel = channels.channel(BrokerId(called), Purpose::Raft);
    (channels, channel)
}

#[tokio::test]
async fn calls_carry_who_calls_and_large_messages_pass() {
    let (closed, mut closes) = mpsc::unbounded_channel();
    let (server, port, _) = start(closed).await;
    let (_channels, channel) = peer("c", 1, port);
    append(channel.clone(), 10).await.unwrap();
    append(channel.clone(), 20 * 1024 * 1024).await.unwrap();
    let mut link = channel.link();
    assert_eq!(*link.borrow_and_update(), Link::Up(1));
    server.stop();
    assert_eq!(closes.recv().await.unwrap().node, BrokerId(2));
    link.wait_for(|link| matches!(link, Link::Down(1, LinkFailure::Broken(..))))
        .await
        .unwrap();
}

#[tokio::test]
async fn another_cluster_and_another_node_are_refused() {
    let (closed, _closes) = mpsc::unbounded_channel();
    let (_server, port, _) = start(closed).await;
    let refused = append(peer("other", 1, port).1, 1).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    assert!(
        refused.message().contains("comes from cluster other"),
        "{refused}"
    );
    let refused = append(peer("c", 3, port).1, 1).await.unwrap_err();
    assert!(refused.message().contains("is for node 3"), "{refused}");
    let (channels, _) = peer("c", 9, port);
    append(channels.channel_to("127.0.0.1", port), 1)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_refused_connection_fails_at_once_and_the_channel_heals() {
    let (closed, _closes) = mpsc::unbounded_channel();
    let (server, port, accepting) = start(closed.clone()).await;
    let (channels, channel) = peer("c", 1, port);
    append(channel.clone(), 1).await.unwrap();
    accepting.abort();
    server.stop();
    channel.link().wait_for(|link| !link.is_up()).await.unwrap();
    let refused = async {
        while channel.connect().await != Err(LinkFailure::Refused(format!("127.0.0.1:{port}"))) {}
    };
    tokio::time::timeout(Duration::from_millis(500), refused)
        .await
        .unwrap();
    let (_server, port, _) = start(closed).await;
    channels.set_address(BrokerId(1), PeerListener::Controller, "127.0.0.1", port);
    append(channel.clone(), 1).await.unwrap();
    let unknown = channels.channel(BrokerId(5), Purpose::Control);
    assert_eq!(unknown.connect().await, Err(LinkFailure::NoAddress));
}
