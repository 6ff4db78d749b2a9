//! How this node calls the others of the quorum.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use millrace_model::limits;
use millrace_rpc::proto::raft;
use millrace_rpc::proto::raft::append_reply::Outcome;
use millrace_rpc::proto::raft::raft_client::RaftClient;
use millrace_rpc::tonic::Status;
use millrace_rpc::{PeerChannel, Purpose};
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderError,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};

use crate::members::Members;
use crate::types::{Place, RaftId, Snapshot, TypeConfig, Vote};
use crate::wire;

/// Bytes of a snapshot in one message.
const CHUNK_BYTES: usize = 1024 * 1024;

/// How long an append with entries may take: the receiver syncs its disk before it answers.
const APPEND_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a whole snapshot may take.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(60);

type CallError = RPCError<TypeConfig>;

/// Makes a client for each member.
pub(crate) struct Network {
    pub(crate) members: Members,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: RaftId, node: &Place) -> Peer {
        self.members.learn_place(target.node, node);
        Peer {
            members: self.members.clone(),
            target,
            calls: self.members.channels.channel(target.node, Purpose::Raft),
            snapshots: self.members.channels.channel(target.node, Purpose::Control),
        }
    }
}

/// One member, as this node calls it.
pub(crate) struct Peer {
    members: Members,
    target: RaftId,
    calls: PeerChannel,
    snapshots: PeerChannel,
}

impl Peer {
    fn client(&self) -> RaftClient<PeerChannel> {
        RaftClient::new(self.calls.clone())
            .max_decoding_message_size(limits::MAX_PEER_MESSAGE_BYTES)
            .max_encoding_message_size(limits::MAX_PEER_MESSAGE_BYTES)
    }

    async fn ask_vote(
        &self,
        request: VoteRequest<TypeConfig>,
        pre_vote: bool,
        limit: Duration,
    ) -> Result<VoteResponse<TypeConfig>, CallError> {
        let request = raft::VoteRequest {
            to: Some(wire::encode_id(&self.target)),
            vote: Some(wire::encode_vote(&request.vote)),
            last: request.last_log_id.as_ref().map(wire::encode_log_id),
            leadership_transfer: request.leadership_transfer,
            pre_vote,
        };
        let reply = within(limit, self.client().request_vote(request))
            .await?
            .into_inner();
        let vote = wire::decode_some_vote(reply.vote.as_ref()).map_err(|e| failed(&e))?;
        let last = reply.last.as_ref().map(wire::decode_log_id);
        Ok(VoteResponse::new(vote, last, reply.granted))
    }
}

/// Every failure counts as unreachable, so that openraft backs off instead of spinning.
fn failed(error: &(impl std::error::Error + 'static)) -> CallError {
    CallError::Unreachable(Unreachable::new(error))
}

async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, CallError> {
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => answer.map_err(|status| failed(&status)),
        Err(elapsed) => Err(failed(&elapsed)),
    }
}

impl RaftNetworkV2<TypeConfig> for Peer {
    type SnapshotData = Bytes;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, CallError> {
        if self.members.is_silent() {
            return Err(failed(&Status::unavailable("this leader is silent")));
        }
        let limit = match rpc.entries.is_empty() {
            true => option.hard_ttl(),
            false => APPEND_TIMEOUT,
        };
        let request = raft::AppendRequest {
            to: Some(wire::encode_id(&self.target)),
            vote: Some(wire::encode_vote(&rpc.vote)),
            previous: rpc.prev_log_id.as_ref().map(wire::encode_log_id),
            committed: rpc.leader_commit.as_ref().map(wire::encode_log_id),
            entries: rpc.entries.iter().map(wire::encode_entry).collect(),
        };
        let reply = within(limit, self.client().append(request))
            .await?
            .into_inner();
        match reply.outcome {
            Some(Outcome::Success(_)) => Ok(AppendEntriesResponse::Success),
            Some(Outcome::Conflict(_)) => Ok(AppendEntriesResponse::Conflict),
            Some(Outcome::Higher(vote)) => {
                let vote = wire::decode_vote(&vote).map_err(|e| failed(&e))?;
                Ok(AppendEntriesResponse::HigherVote(vote))
            }
            None => Err(failed(&wire::Malformed("append reply"))),
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, CallError> {
        self.ask_vote(rpc, false, option.hard_ttl()).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, CallError> {
        self.ask_vote(rpc, true, option.hard_ttl()).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let chunks = futures::stream::iter(chunks(self.target, vote, &snapshot));
        let mut client = RaftClient::new(self.snapshots.clone());
        let sending = within(SNAPSHOT_TIMEOUT, client.install_snapshot(chunks));
        let reply = tokio::select! {
            biased;
            closed = cancel => return Err(StreamingError::Closed(closed)),
            reply = sending => reply?.into_inner(),
        };
        let vote = wire::decode_some_vote(reply.vote.as_ref()).map_err(|e| failed(&e))?;
        Ok(SnapshotResponse::new(vote))
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, CallError> {
        let expected = request.last_log_id().copied();
        let request = raft::TransferRequest {
            from: Some(wire::encode_vote(request.from_leader())),
            to: Some(wire::encode_id(request.to_node_id())),
            last: expected.as_ref().map(wire::encode_log_id),
        };
        let reply = within(option.hard_ttl(), self.client().transfer_leader(request)).await?;
        match reply.into_inner().refusal.is_empty() {
            true => Ok(Ok(())),
            false => Ok(Err(TransferLeaderError::LogNotFlushed {
                expected,
                actual: None,
            })),
        }
    }
}

fn chunks(target: RaftId, vote: Vote, snapshot: &Snapshot) -> Vec<raft::SnapshotChunk> {
    let data = &snapshot.snapshot;
    let starts = (0..data.len().max(1)).step_by(CHUNK_BYTES);
    let mut chunks: Vec<_> = starts
        .map(|start| raft::SnapshotChunk {
            data: data.slice(start..data.len().min(start + CHUNK_BYTES)),
            ..raft::SnapshotChunk::default()
        })
        .collect();
    if let Some(first) = chunks.first_mut() {
        first.to = Some(wire::encode_id(&target));
        first.vote = Some(wire::encode_vote(&vote));
        first.meta = Some(wire::encode_meta(&snapshot.meta));
    }
    if let Some(last) = chunks.last_mut() {
        last.last = true;
        last.checksum = crc32c::crc32c(data);
    }
    chunks
}
