//! The quorum's own calls, as this node answers them.

use bytes::BytesMut;
use millrace_rpc::proto::raft;
use millrace_rpc::proto::raft::append_reply::Outcome;
use millrace_rpc::proto::raft::raft_server::Raft as Service;
use millrace_rpc::tonic::{Request, Response, Status, Streaming, async_trait};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest,
};
use tokio::sync::watch;

use crate::Raft;
use crate::elections;
use crate::members::Members;
use crate::standing::Standing;
use crate::types::{Snapshot, SnapshotMeta, TypeConfig, Vote};
use crate::wire;

/// Largest snapshot that is taken.
const MAX_SNAPSHOT_BYTES: usize = 1024 * 1024 * 1024;

pub(crate) struct RaftService {
    pub(crate) raft: Raft,
    pub(crate) members: Members,
    pub(crate) standing: watch::Receiver<Standing>,
}

impl RaftService {
    /// A call meant for another directory must not reach this one: the disk behind the address may
    /// have been wiped, and it has another identity now.
    fn check_target(&self, to: Option<&raft::Id>) -> Result<(), Status> {
        let to = wire::decode_id(to.ok_or(wire::Malformed("target"))?)?;
        if to != self.members.me {
            let what = format!("this is {}, the call is for {to}", self.members.me);
            return Err(Status::failed_precondition(what));
        }
        Ok(())
    }
}

fn stopped(error: impl std::fmt::Display) -> Status {
    Status::unavailable(format!("the quorum does not run here: {error}"))
}

#[async_trait]
impl Service for RaftService {
    async fn append(
        &self,
        request: Request<raft::AppendRequest>,
    ) -> Result<Response<raft::AppendReply>, Status> {
        let request = request.into_inner();
        self.check_target(request.to.as_ref())?;
        let vote = wire::decode_some_vote(request.vote.as_ref())?;
        let entries = request.entries.into_iter().map(wire::decode_entry);
        let rpc = AppendEntriesRequest::<TypeConfig> {
            vote,
            prev_log_id: request.previous.as_ref().map(wire::decode_log_id),
            leader_commit: request.committed.as_ref().map(wire::decode_log_id),
            entries: entries.collect::<Result<_, _>>()?,
        };
        let outcome = match self.raft.append_entries(rpc).await.map_err(stopped)? {
            AppendEntriesResponse::Success | AppendEntriesResponse::PartialSuccess(_) => {
                self.members.heard_leader(vote.leader_id().voted_for);
                Outcome::Success(true)
            }
            AppendEntriesResponse::Conflict => {
                self.members.heard_leader(vote.leader_id().voted_for);
                Outcome::Conflict(true)
            }
            AppendEntriesResponse::HigherVote(vote) => Outcome::Higher(wire::encode_vote(&vote)),
        };
        Ok(Response::new(raft::AppendReply {
            outcome: Some(outcome),
        }))
    }

    async fn request_vote(
        &self,
        request: Request<raft::VoteRequest>,
    ) -> Result<Response<raft::VoteReply>, Status> {
        let request = request.into_inner();
        self.check_target(request.to.as_ref())?;
        let rpc = VoteRequest::<TypeConfig> {
            vote: wire::decode_some_vote(request.vote.as_ref())?,
            last_log_id: request.last.as_ref().map(wire::decode_log_id),
            leadership_transfer: request.leadership_transfer,
        };
        let answer = match request.pre_vote {
            true => {
                let standing = self.standing.borrow().clone();
                elections::reconsider(&self.raft, &self.members, &standing).await;
                self.raft.pre_vote(rpc).await
            }
            false => self.raft.vote(rpc).await,
        };
        let answer = answer.map_err(stopped)?;
        Ok(Response::new(raft::VoteReply {
            vote: Some(wire::encode_vote(&answer.vote)),
            granted: answer.vote_granted,
            last: answer.last_log_id.as_ref().map(wire::encode_log_id),
        }))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<raft::SnapshotChunk>>,
    ) -> Result<Response<raft::SnapshotReply>, Status> {
        let (vote, snapshot) = self.receive(request.into_inner()).await?;
        self.members.heard_leader(vote.leader_id().voted_for);
        let installing = self.raft.install_full_snapshot(vote, snapshot);
        let answer = installing.await.map_err(stopped)?;
        let vote = Some(wire::encode_vote(&answer.vote));
        Ok(Response::new(raft::SnapshotReply { vote }))
    }

    async fn transfer_leader(
        &self,
        request: Request<raft::TransferRequest>,
    ) -> Result<Response<raft::TransferReply>, Status> {
        let request = request.into_inner();
        let from = wire::decode_some_vote(request.from.as_ref())?;
        let to = wire::decode_id(request.to.as_ref().ok_or(wire::Malformed("target"))?)?;
        let last = request.last.as_ref().map(wire::decode_log_id);
        // A leader that names itself gives up; the request takes back the lease it has here.
        let standing = self.standing.borrow().clone();
        let gave_up = from.leader_id().voted_for == to && from == standing.vote;
        let rpc = TransferLeaderRequest::new(from, to, last);
        let answer = self
            .raft
            .handle_transfer_leader(rpc)
            .await
            .map_err(stopped)?;
        if gave_up && to != self.members.me {
            self.members.leader_gave_up();
        }
        let refusal = answer
            .err()
            .map(|refusal| refusal.to_string())
            .unwrap_or_default();
        Ok(Response::new(raft::TransferReply { refusal }))
    }
}

impl RaftService {
    async fn receive(
        &self,
        mut chunks: Streaming<raft::SnapshotChunk>,
    ) -> Result<(Vote, Snapshot), Status> {
        let mut begun: Option<(Vote, SnapshotMeta)> = None;
        let mut data = BytesMut::new();
        while let Some(chunk) = chunks.message().await? {
            if begun.is_none() {
                self.check_target(chunk.to.as_ref())?;
                let vote = wire::decode_some_vote(chunk.vote.as_ref())?;
                let meta = chunk.meta.as_ref().ok_or(wire::Malformed("snapshot"))?;
                begun = Some((vote, wire::decode_meta(meta)?));
            }
            if data.len() + chunk.data.len() > MAX_SNAPSHOT_BYTES {
                return Err(Status::resource_exhausted("the snapshot is too large"));
            }
            data.extend_from_slice(&chunk.data);
            if let (true, Some((vote, meta))) = (chunk.last, begun.take_if(|_| chunk.last)) {
                if crc32c::crc32c(&data) != chunk.checksum {
                    return Err(Status::data_loss("the snapshot's checksum does not match"));
                }
                return Ok((
                    vote,
                    Snapshot {
                        meta,
                        snapshot: data.freeze(),
                    },
                ));
            }
        }
        Err(Status::data_loss("the snapshot ended early"))
    }
}
