//! Decide, append, replay: the contract between a coordinator and what drives it.

use millrace_model::Timestamp;

/// A caller that waits for an answer; opaque here, so that a decision may keep it with a waiting
/// member and answer it much later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyTo(pub u64);

/// What a shard is asked to decide on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input<Request> {
    /// A caller's request.
    Request {
        /// Who waits for the answer.
        from: ReplyTo,
        /// What is asked.
        request: Request,
    },
    /// The deadline that [`Shard::next_deadline`] named has come.
    Tick,
}

/// What a decision wants done, in this order: append the records as one batch, apply them, and send
/// the replies once the high watermark covers the log end seen when they were decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effects<Record, Response> {
    /// Facts to append; all or none.
    pub records: Vec<Record>,
    /// Answers; a read waits like a write, so that nobody sees state that could still be lost.
    pub replies: Vec<(ReplyTo, Response)>,
}

impl<Record, Response> Default for Effects<Record, Response> {
    fn default() -> Self {
        Effects {
            records: Vec::new(),
            replies: Vec::new(),
        }
    }
}

/// One coordinator's state for one partition of an internal topic.
///
/// The contract, in words:
/// - [`handle`](Shard::handle) changes soft state only: timers and waiting callers. What it wants
///   remembered it returns as records.
/// - [`replay`](Shard::replay) is the only writer of replicated state, alike when a record was just
///   appended and when a log is loaded, so that any prefix of a log gives the state its leader had.
/// - A failed append applies nothing; its callers are answered with an error and ask again.
/// - When leadership is lost the shard is dropped with its waiting callers, who get
///   NOT_COORDINATOR; the next leader loads it by replay.
pub trait Shard {
    /// What callers ask.
    type Request;
    /// What they are answered.
    type Response;
    /// What is remembered.
    type Record;

    /// Decides; `now` is the wall clock's time.
    fn handle(
        &mut self,
        input: Input<Self::Request>,
        now: Timestamp,
    ) -> Effects<Self::Record, Self::Response>;

    /// Applies a record.
    fn replay(&mut self, record: &Self::Record);

    /// When it wants [`Input::Tick`] next; `None` for never.
    fn next_deadline(&self) -> Option<Timestamp>;
}
