//! The decisions that wait to be appended together.
//!
//! Under load many callers come at once, and a batch of its own for each would cost a checksum, a
//! message to every follower and an entry of the writer each. Decisions about different subjects do
//! not see each other's records, so they share a batch: the group commit of a coordinator.

use std::collections::BTreeSet;

use bytes::BytesMut;
use millrace_coordinator::ReplyTo;
use millrace_model::{ProducerEpoch, ProducerId, Timestamp};
use millrace_protocol::batch::{BatchBuilder, BatchOptions, HEADER_BYTES};
use millrace_protocol::compression::{Compression, CompressionError};

use super::family::Encoded;

/// Decisions whose records are not in the log yet.
pub(super) struct Pending<Record, Response> {
    /// Records in the order in which they were decided.
    pub(super) records: Vec<Record>,
    /// Who is answered once they are committed.
    pub(super) replies: Vec<(ReplyTo, Response)>,
    /// The transaction they belong to; then they are of one decision.
    pub(super) producer: Option<(ProducerId, ProducerEpoch)>,
    encoded: Vec<Encoded>,
    bytes: usize,
    subjects: BTreeSet<i32>,
    /// Whether a decision is among them that may be about anything.
    about_all: bool,
}

impl<Record, Response> Default for Pending<Record, Response> {
    fn default() -> Self {
        Pending {
            records: Vec::new(),
            replies: Vec::new(),
            producer: None,
            encoded: Vec::new(),
            bytes: 0,
            subjects: BTreeSet::new(),
            about_all: false,
        }
    }
}

impl<Record, Response> Pending<Record, Response> {
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Whether a decision about `subject` must not be taken before these are applied.
    pub(super) fn concerns(&self, subject: Option<i32>) -> bool {
        match subject {
            _ if self.about_all => true,
            Some(subject) => self.subjects.contains(&subject),
            None => !self.is_empty(),
        }
    }

    /// Whether a batch of at most `limit` bytes has room for so many `more`.
    pub(super) fn has_room(&self, more: usize, limit: usize) -> bool {
        self.is_empty() || HEADER_BYTES + self.bytes + more <= limit
    }

    /// Adds a decision.
    pub(super) fn add(
        &mut self,
        subject: Option<i32>,
        records: impl IntoIterator<Item = (Record, Encoded)>,
        replies: Vec<(ReplyTo, Response)>,
    ) {
        match subject {
            Some(subject) => _ = self.subjects.insert(subject),
            None => self.about_all = true,
        }
        for (record, encoded) in records {
            self.bytes += encoded.size();
            self.encoded.push(encoded);
            self.records.push(record);
        }
        self.replies.extend(replies);
    }

    /// All records as one batch.
    pub(super) fn batch(
        &self,
        compression: Compression,
        now: Timestamp,
    ) -> Result<BytesMut, CompressionError> {
        let mut options = BatchOptions {
            compression,
            ..BatchOptions::default()
        };
        if let Some((producer_id, producer_epoch)) = self.producer {
            options.producer_id = producer_id;
            options.producer_epoch = producer_epoch;
            options.transactional = true;
        }
        let mut batch = BatchBuilder::new(options);
        for Encoded { key, value } in &self.encoded {
            batch.push(now, Some(key), value.as_deref(), &[]);
        }
        batch.build()
    }
}
