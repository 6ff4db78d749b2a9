//! Packing batches anew where a topic's `compression.type` is not `producer` (Kafka class
//! `LogValidator`).

use bytes::{Bytes, BytesMut};
use millrace_protocol::batch::rewritten;

use crate::batch;
use crate::error::AppendError;
use crate::settings::LogSettings;

/// The same batches, each packed as the topic asks for; those that are stay as they are.
pub(super) fn batches(bytes: BytesMut, settings: &LogSettings) -> Result<BytesMut, AppendError> {
    let Some(wanted) = settings.compression else {
        return Ok(bytes);
    };
    let differs = |header: &batch::Header| header.compression() != Ok(wanted.codec);
    if !batch::whole_batches(&bytes).any(|(_, header)| differs(&header)) {
        return Ok(bytes);
    }
    let bytes: Bytes = bytes.freeze();
    let mut out = BytesMut::with_capacity(bytes.len());
    for (at, header) in batch::whole_batches(&bytes) {
        let one = &bytes[at..at + header.size];
        if !differs(&header) {
            out.extend_from_slice(one);
            continue;
        }
        let packed = rewritten(one, wanted.codec, wanted.level)
            .map_err(|error| AppendError::InvalidRecord(error.to_string()))?;
        if packed.len() > settings.max_message_bytes {
            return Err(AppendError::TooLarge {
                size: packed.len(),
                limit: settings.max_message_bytes,
            });
        }
        out.extend_from_slice(&packed);
    }
    Ok(out)
}
