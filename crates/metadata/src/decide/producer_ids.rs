//! Producer ids, given to brokers in blocks (KIP-730).

use std::ops::Range;

use millrace_model::{BrokerEpoch, BrokerId, ErrorCode, ProducerId};

use super::{Decision, Refusal, check_broker_epoch};
use crate::image::Image;
use crate::record::Record;

/// How many ids a broker is given at once.
pub const PRODUCER_ID_BLOCK: i64 = 1000;

/// Gives a broker the next block of producer ids.
///
/// Refuses with STALE_BROKER_EPOCH what does not come under the current registration.
pub fn allocate_producer_ids(
    image: &Image,
    broker: BrokerId,
    broker_epoch: BrokerEpoch,
) -> Decision<Result<Range<i64>, Refusal>> {
    if let Err(refusal) = check_broker_epoch(image, broker, broker_epoch) {
        return Decision::unchanged(Err(refusal));
    }
    let first = image.next_producer_id().get();
    let Some(next) = first.checked_add(PRODUCER_ID_BLOCK) else {
        return Decision::unchanged(Err(Refusal::new(
            ErrorCode::UnknownServerError,
            "Exhausted all producerIds as the next block's end producerId has exceeded the int64 \
             type limit",
        )));
    };
    Decision {
        records: vec![Record::ProducerIds {
            next: ProducerId(next),
            broker,
            broker_epoch,
        }],
        reply: Ok(first..next),
    }
}
