//! A decision that somebody waits for.

use std::time::Duration;

use millrace_metadata::{Decision, Image, Record, Sessions};
use millrace_model::ImageVersion;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::error::DecideError;

/// A decision whose reply type is known only to whoever waits. It is decided again when its batch
/// met another image.
pub(crate) trait Pending: Send {
    /// Decides, keeps the reply, and returns the records.
    fn decide(&mut self, image: &Image, sessions: &mut Sessions, now: Duration) -> Vec<Record>;
    /// Hands the reply over, or tells why there is none.
    fn resolve(self: Box<Self>, outcome: Result<ImageVersion, DecideError>);
    /// After this nobody waits any more.
    fn deadline(&self) -> Instant;
}

type Answer<T> = Result<(T, ImageVersion), DecideError>;

struct Typed<T, F> {
    decide: F,
    reply: Option<T>,
    answer: oneshot::Sender<Answer<T>>,
    deadline: Instant,
}

/// A decision by a closure, and where its answer arrives.
pub(crate) fn decision<T, F>(
    deadline: Instant,
    decide: F,
) -> (Box<dyn Pending>, oneshot::Receiver<Answer<T>>)
where
    T: Send + 'static,
    F: FnMut(&Image, &mut Sessions, Duration) -> Decision<T> + Send + 'static,
{
    let (answer, receiver) = oneshot::channel();
    (
        Box::new(Typed {
            decide,
            reply: None,
            answer,
            deadline,
        }),
        receiver,
    )
}

impl<T, F> Pending for Typed<T, F>
where
    T: Send + 'static,
    F: FnMut(&Image, &mut Sessions, Duration) -> Decision<T> + Send + 'static,
{
    fn decide(&mut self, image: &Image, sessions: &mut Sessions, now: Duration) -> Vec<Record> {
        let decision = (self.decide)(image, sessions, now);
        self.reply = Some(decision.reply);
        decision.records
    }

    fn resolve(self: Box<Self>, outcome: Result<ImageVersion, DecideError>) {
        let Typed { reply, answer, .. } = *self;
        let outcome = outcome.map(|version| {
            let reply = reply.expect("what is resolved was decided");
            (reply, version)
        });
        // Whoever waited may have given up.
        let _ = answer.send(outcome);
    }

    fn deadline(&self) -> Instant {
        self.deadline
    }
}
