//! Packing batches anew where a topic's `compression.type` is not `producer` (Kafka class
//! `LogValidator`).

use millrace_model::ErrorCode;
use millrace_protocol::batch::{Refusal, ValidBatch};

use crate::settings::LogSettings;

/// The same batch, packed as the topic asks for; one that is stays as it is.
pub(super) fn packed(batch: ValidBatch, settings: &LogSettings) -> Result<ValidBatch, Refusal> {
    let Some(wanted) = settings.compression else {
        return Ok(batch);
    };
    let refuse = |code, message| Refusal {
        code,
        message,
        records: Vec::new(),
    };
    let packed = batch.packed(wanted.codec, wanted.level);
    let packed = packed.map_err(|error| refuse(error.code(), error.to_string()))?;
    let (size, limit) = (packed.header().size, settings.max_message_bytes);
    if size > limit {
        let message = format!(
            "the record batch size is {size} bytes when packed as the topic asks, which exceeds the \
             maximum configured value of {limit}"
        );
        return Err(refuse(ErrorCode::MessageTooLarge, message));
    }
    Ok(packed)
}
