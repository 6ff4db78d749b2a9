//! What topics the members of a classic group of consumers subscribe to.

use std::collections::BTreeSet;

use crate::wire::ConsumerProtocolSubscription;
use bytes::Bytes;
use millrace_protocol::{Decode, Reader};

/// The topics of all these subscriptions; `None` if one of them cannot be read. Only the part that
/// every version begins with is read, so that versions to come can be too.
pub(crate) fn subscribed_topics<'a>(
    subscriptions: impl Iterator<Item = &'a Bytes>,
) -> Option<BTreeSet<String>> {
    let mut topics = BTreeSet::new();
    for subscription in subscriptions {
        let mut reader = Reader::new(subscription);
        let version = reader.i16().ok()?;
        if version < 0 {
            return None;
        }
        topics.extend(
            ConsumerProtocolSubscription::decode(&mut reader, 0)
                .ok()?
                .topics,
        );
    }
    Some(topics)
}
