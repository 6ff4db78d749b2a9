//! Who an idempotent producer is.

use std::time::Duration;

use millrace_model::{ProducerEpoch, ProducerId};
use millrace_protocol::messages::init_producer_id_request::InitProducerIdRequest;

use super::sender::RETRY_BACKOFF;
use crate::{ClientError, Cluster};

/// Asks for the identity of an idempotent producer.
pub(super) async fn identify(
    cluster: Cluster,
    limit: Duration,
) -> Result<(ProducerId, ProducerEpoch), ClientError> {
    let request = InitProducerIdRequest {
        transactional_id: None,
        transaction_timeout_ms: i32::MAX,
        producer_id: -1,
        producer_epoch: -1,
        ..InitProducerIdRequest::default()
    };
    let deadline = cluster.machine().clock.now() + limit;
    loop {
        let answer = cluster.ask(&request).await;
        let checked = answer.and_then(|answer| {
            ClientError::check(answer.error_code, None)?;
            Ok((
                ProducerId(answer.producer_id),
                ProducerEpoch(answer.producer_epoch),
            ))
        });
        match checked {
            Err(error) if error.is_retriable() && cluster.machine().clock.now() < deadline => {
                tokio::time::sleep(RETRY_BACKOFF).await;
            }
            checked => return checked,
        }
    }
}
