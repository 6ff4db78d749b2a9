//! Keeps this controller registered, so that tools find every controller and features are only
//! raised to what all of them can run (KIP-919).

use std::sync::Weak;
use std::time::Duration;

use millrace_metadata::Controller;

use crate::Inner;

/// How long to wait after an attempt, whatever came of it: two processes that both take themselves
/// for this node must not keep the controller busy.
const PAUSE: Duration = Duration::from_secs(1);

/// Registers whenever the image does not hold this very registration; ends with the quorum.
pub(crate) async fn keep_registered(inner: Weak<Inner>, registration: Controller) {
    let Some(mut images) = inner.upgrade().map(|inner| inner.images()) else {
        return;
    };
    let is_missing = |image: &millrace_metadata::Image| {
        let known = image.controller(registration.id);
        image.cluster_id().is_some() && known.is_none_or(|known| **known != registration)
    };
    loop {
        if images.wait_for(|image| is_missing(image)).await.is_err() {
            return;
        }
        let Some(inner) = inner.upgrade() else { return };
        let registered = inner.register_controller(&registration).await;
        drop(inner);
        if let Err(error) = registered {
            tracing::debug!(%error, "cannot register this controller yet");
        }
        tokio::time::sleep(PAUSE).await;
    }
}
