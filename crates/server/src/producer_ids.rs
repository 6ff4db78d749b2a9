//! Hands out producer ids from the block that the controller gave to this broker.

use std::ops::Range;

use millrace_model::ProducerId;
use millrace_quorum::Quorum;
use tokio::sync::Mutex;

/// The ids this broker may still give to producers.
pub struct ProducerIds {
    block: Mutex<Range<i64>>,
}

impl Default for ProducerIds {
    fn default() -> ProducerIds {
        ProducerIds {
            block: Mutex::new(0..0),
        }
    }
}

impl ProducerIds {
    /// The next id nobody else has; asks the controller for a block when this one is used up.
    ///
    /// # Errors
    /// If the controller gave none; the client tries again.
    pub async fn next(&self, quorum: &Quorum) -> Result<ProducerId, String> {
        // Held over the wait on purpose: those who come meanwhile need the same block.
        let mut block = self.block.lock().await;
        if block.is_empty() {
            let granted = quorum.allocate_producer_ids().await;
            *block = granted.map_err(|error| error.to_string())?;
        }
        let id = block.start;
        block.start += 1;
        Ok(ProducerId(id))
    }
}
