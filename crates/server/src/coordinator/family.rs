//! What one kind of coordinator adds to its shards, so that they can be driven.

use std::sync::Arc;

use bytes::Bytes;
use millrace_coordinator::Shard;
use millrace_metadata::{Delta, Image};

use crate::Config;

/// A kind of coordinator: groups, transactions.
pub trait Family: Send + Sync + 'static {
    /// The state of one partition.
    type Shard: Shard<
            Request = Self::Request,
            Response = Self::Response,
            Record = Self::Record,
            Notice = Self::Notice,
        > + Send
        + 'static;
    /// What callers ask.
    type Request: Send + 'static;
    /// What they are answered.
    type Response: Send + 'static;
    /// What is remembered.
    type Record: Send + 'static;
    /// What shards learn without asking.
    type Notice: Send + 'static;
    /// What decisions may look at, as it is at one moment.
    type World: Send + Sync + 'static;
    /// What operators want to know of a shard.
    type Measures: Send + 'static;

    /// The internal topic.
    fn topic(&self) -> &'static str;

    /// A shard that knows nothing yet.
    fn shard(&self, partition: i32) -> Self::Shard;

    /// The newest of what decisions may look at.
    fn world(&self) -> Arc<Self::World>;

    /// The same as shards take it.
    fn view<'a>(&self, world: &'a Self::World) -> <Self::Shard as Shard>::View<'a>;

    /// Takes over a new image, before the shards learn of it.
    fn update(&self, config: &Config, image: &Arc<Image>, delta: &Delta);

    /// What every shard must learn of a change of the cluster.
    fn notices(&self, delta: &Delta) -> Vec<Self::Notice>;

    /// What operators want to know of this shard now.
    fn measure(&self, shard: &Self::Shard) -> Self::Measures;

    /// What the request is about, as a number; none if it may be about anything. Decisions about
    /// different subjects do not touch each other, so their records may share a batch.
    fn subject(&self, request: &Self::Request) -> Option<i32>;

    /// Whether whoever brings the request may have it decided at once, instead of leaving it to the
    /// driver's task: it is quickly decided, and mostly there is nothing to remember that could be
    /// appended together with what others want remembered.
    fn is_brief(&self, request: &Self::Request) -> bool;

    /// A record as it stands in the log.
    ///
    /// # Errors
    /// If it does not fit the format: the decision then fails.
    fn encode(&self, record: &Self::Record) -> Result<Encoded, String>;

    /// A record of the log; none of a kind that is not known, which is passed over.
    ///
    /// # Errors
    /// If it is broken: the partition then cannot be served.
    fn decode(&self, key: &[u8], value: Option<&[u8]>) -> Result<Option<Self::Record>, String>;
}

/// Key and value of a record; no value removes what the key names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// What it is about.
    pub key: Bytes,
    /// What is remembered of it.
    pub value: Option<Bytes>,
}

impl Encoded {
    /// About how many bytes it takes in a batch.
    pub fn size(&self) -> usize {
        /// Lengths, deltas and attributes of a record, at most.
        const OVERHEAD: usize = 24;
        self.key.len() + self.value.as_ref().map_or(0, Bytes::len) + OVERHEAD
    }
}
