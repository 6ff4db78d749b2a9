//! Where the logs end that other brokers lead: for those who only want to know, as the lag of a
//! group is shown by its coordinator, which need not have a replica of what the group reads.

use millrace_model::limits::{MAX_ENDS_ASKED, MAX_PEER_MESSAGE_BYTES};
use millrace_model::{BrokerId, Offset, PartitionId};
use millrace_rpc::proto::replication as proto;
use millrace_rpc::proto::replication::replication_server::SERVICE_NAME;
use millrace_rpc::tonic::Status;
use millrace_rpc::{Messages, Outgoing, Purpose, in_one_piece};

use crate::Replicas;
use crate::shared::Shared;
use crate::wire;

/// The method's name in `proto/`.
pub(crate) const METHOD: &str = "Ends";

impl Replicas {
    /// The high watermarks of these partitions, as the broker knows them that leads them; in their
    /// order. None for those that it does not lead, for all when it does not answer, and for those
    /// beyond the number that one question may name.
    pub async fn ends_at(&self, leader: BrokerId, ids: &[PartitionId]) -> Vec<Option<Offset>> {
        let mut ends = vec![None; ids.len()];
        let asked = &ids[..ids.len().min(MAX_ENDS_ASKED)];
        match ask(&self.0, leader, asked).await {
            Ok(reply) => {
                for (end, told) in ends.iter_mut().zip(reply.high_watermarks) {
                    *end = (told >= 0).then_some(Offset(told));
                }
            }
            Err(error) => tracing::debug!(%leader, %error, "a leader did not tell where logs end"),
        }
        ends
    }
}

async fn ask(
    shared: &Shared,
    leader: BrokerId,
    ids: &[PartitionId],
) -> Result<proto::EndsReply, Status> {
    let request = proto::EndsRequest {
        partitions: ids.iter().map(|id| wire::name(*id)).collect(),
    };
    let channel = shared.channels.channel(leader, Purpose::CatchUp);
    let limit = MAX_PEER_MESSAGE_BYTES;
    let mut answers = channel
        .open(SERVICE_NAME, METHOD, once(&request), limit)
        .await?;
    let answer = answers.next::<proto::EndsReply>().await?;
    answer.ok_or_else(|| Status::internal("the call ended without an answer"))
}

/// Answers such a question.
pub(crate) async fn answer(shared: &Shared, mut inbound: Messages) -> Result<Outgoing, Status> {
    let request = inbound.next::<proto::EndsRequest>().await?;
    let partitions = request.unwrap_or_default().partitions;
    if partitions.len() > MAX_ENDS_ASKED {
        return Err(Status::invalid_argument("too many partitions at once"));
    }
    let end = |name: &proto::PartitionName| {
        let id = wire::partition(&name.topic, name.partition)?;
        let replica = shared.replica(id)?;
        let view = replica.offsets(None, false).ok()?;
        Some(view.high_watermark.get())
    };
    let ends = partitions.iter().map(|name| end(name).unwrap_or(-1));
    Ok(once(&proto::EndsReply {
        high_watermarks: ends.collect(),
    }))
}

fn once(message: &impl prost::Message) -> Outgoing {
    let pieces = in_one_piece(message);
    Box::pin(futures::stream::once(async { pieces }))
}
