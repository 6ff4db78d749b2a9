//! Decide, append, replay: the contract between a coordinator and what drives it.

use millrace_model::{Offset, ProducerEpoch, ProducerId, Timestamp};

/// A caller that waits for an answer; opaque here, so that a decision may keep it with a waiting
/// member and answer it much later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyTo(pub u64);

/// What a shard is asked to decide on.
#[derive(Clone, Debug, PartialEq)]
pub enum Input<Request, Notice> {
    /// A caller's request.
    Request {
        /// Who waits for the answer.
        from: ReplyTo,
        /// What is asked.
        request: Request,
    },
    /// Something happened in the cluster that nobody waits for an answer to.
    Notice(Notice),
    /// The whole log has been replayed and this shard now leads; comes once, before any other input.
    Loaded,
    /// The deadline that [`Shard::next_deadline`] named has come; one that comes early or twice does
    /// no harm.
    Tick,
}

/// What a decision wants done, in this order: append the records, apply them, and send the replies
/// once the high watermark covers the log end seen when they were decided.
#[derive(Clone, Debug, PartialEq)]
pub struct Effects<Record, Response> {
    /// Facts to append.
    pub records: Vec<Record>,
    /// Whether they stand or fall together, in one batch. Where not, the driver may split them into
    /// several batches, in order, applying each as it is appended.
    pub atomic: bool,
    /// The transaction that the records belong to: the producer that its batch carries. None of
    /// them takes effect before the transaction's marker.
    pub producer: Option<(ProducerId, ProducerEpoch)>,
    /// Answers; a read waits like a write, so that nobody sees state that could still be lost.
    pub replies: Vec<(ReplyTo, Response)>,
}

impl<Record, Response> Default for Effects<Record, Response> {
    fn default() -> Self {
        Effects {
            records: Vec::new(),
            atomic: true,
            producer: None,
            replies: Vec::new(),
        }
    }
}

impl<Record, Response> Effects<Record, Response> {
    /// Nothing but one answer.
    pub fn reply(to: ReplyTo, response: Response) -> Self {
        Effects {
            replies: vec![(to, response)],
            ..Effects::default()
        }
    }

    /// Adds what another decision wants done, after what is there.
    pub fn append(&mut self, other: Self) {
        self.records.extend(other.records);
        self.replies.extend(other.replies);
    }
}

/// The time of a decision, by two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds of a clock that never goes back or jumps; where it began means nothing. Sessions
    /// and deadlines go by it: a wall clock that is set right must not end every session.
    pub steady: Timestamp,
    /// The wall clock's time, for what is written down and may be read after years.
    pub wall: Timestamp,
}

/// Where in the log a record stands, as [`Shard::replay`] needs to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The record's offset.
    pub offset: Offset,
    /// The producer of the transactional batch that holds it; `None` outside of transactions.
    pub producer: Option<ProducerId>,
}

/// The end of a transaction, read from a control batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    /// Whose transaction ended.
    pub producer: ProducerId,
    /// Whether it committed.
    pub committed: bool,
}

/// One coordinator's state for one partition of an internal topic.
///
/// The contract, in words:
/// - [`handle`](Shard::handle) changes soft state only: timers and waiting callers. What it wants
///   remembered it returns as records.
/// - [`replay`](Shard::replay) is the only writer of replicated state, alike when a record was just
///   appended and when a log is loaded, so that any prefix of a log gives the state its leader had.
/// - A decision is asked for only when the records of all earlier ones that it could see have been
///   appended and replayed. Requests about different groups do not see each other's, so theirs may
///   share a batch; everything else may see anything.
/// - A failed append applies nothing. The driver answers the callers among the effects' replies with
///   an error, and they ask again; soft state is such that asking again works.
/// - When leadership is lost the shard is dropped with its waiting callers, whom the driver answers
///   NOT_COORDINATOR; the next leader loads it by replay.
pub trait Shard {
    /// What callers ask.
    type Request;
    /// What they are answered.
    type Response;
    /// What is remembered.
    type Record;
    /// What happens in the cluster without being asked for.
    type Notice;
    /// What a decision may look at beside the shard's own state: settings and the cluster's topics.
    type View<'a>: Copy;

    /// Decides.
    fn handle(
        &mut self,
        input: Input<Self::Request, Self::Notice>,
        now: Now,
        view: Self::View<'_>,
    ) -> Effects<Self::Record, Self::Response>;

    /// Applies a record.
    fn replay(&mut self, record: Self::Record, origin: Origin);

    /// Applies the end of a transaction.
    fn replay_marker(&mut self, marker: Marker);

    /// When it wants [`Input::Tick`] next, by the steady clock; `None` for never. It may change with every input.
    fn next_deadline(&self) -> Option<Timestamp>;
}
