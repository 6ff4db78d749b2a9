//! The file `quorum-state`: whom the directory belongs to, the vote, and where the log begins.
//!
//! `crc32c u32` and then `millrace.raft.State`; always replaced as a whole.

use std::io;
use std::path::Path;

use bytes::{BufMut, Bytes, BytesMut};
use millrace_host::{Disk, disk};
use millrace_rpc::proto::raft;
use prost::Message;

use crate::types::{LogId, RaftId, Vote};
use crate::wire;

const NAME: &str = "quorum-state";
const VERSION: u32 = 1;

/// The file has a few hundred bytes.
const MAX_BYTES: u64 = 64 * 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QuorumState {
    pub(crate) cluster_id: String,
    pub(crate) id: RaftId,
    pub(crate) vote: Option<Vote>,
    pub(crate) purged: Option<LogId>,
    pub(crate) log_reached: Option<u64>,
}

impl QuorumState {
    pub(super) fn load(disk: &dyn Disk, directory: &Path) -> io::Result<Option<QuorumState>> {
        let path = directory.join(NAME);
        if !disk.exists(&path) {
            return Ok(None);
        }
        let damaged = |why: String| {
            let what = format!("{} is damaged: {why}", path.display());
            io::Error::new(io::ErrorKind::InvalidData, what)
        };
        let content = disk::read_file(disk, &path, MAX_BYTES)?;
        let Some((sum, content)) = content.split_first_chunk::<4>() else {
            return Err(damaged("it is too short".to_owned()));
        };
        if u32::from_be_bytes(*sum) != crc32c::crc32c(content) {
            return Err(damaged("its checksum does not match".to_owned()));
        }
        let state = raft::State::decode(content).map_err(|error| damaged(error.to_string()))?;
        if state.version != VERSION {
            return Err(damaged(format!("version {} is not known", state.version)));
        }
        let id = state
            .id
            .as_ref()
            .ok_or_else(|| damaged("no id".to_owned()))?;
        Ok(Some(QuorumState {
            cluster_id: state.cluster_id.clone(),
            id: wire::decode_id(id)?,
            vote: state.vote.as_ref().map(wire::decode_vote).transpose()?,
            purged: state.purged.as_ref().map(wire::decode_log_id),
            log_reached: state.log_reached,
        }))
    }

    pub(super) fn save(&self, disk: &dyn Disk, directory: &Path) -> io::Result<()> {
        let state = raft::State {
            version: VERSION,
            cluster_id: self.cluster_id.clone(),
            id: Some(wire::encode_id(&self.id)),
            vote: self.vote.as_ref().map(wire::encode_vote),
            purged: self.purged.as_ref().map(wire::encode_log_id),
            log_reached: self.log_reached,
        };
        let encoded = state.encode_to_vec();
        let mut content = BytesMut::with_capacity(4 + encoded.len());
        content.put_u32(crc32c::crc32c(&encoded));
        content.put_slice(&encoded);
        disk::replace_file(disk, &directory.join(NAME), Bytes::from(content))
    }
}
