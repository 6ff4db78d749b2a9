//! The controller's decisions: pure functions of an image, one verb a file.
//!
//! A decision returns the records that make it true and the reply to whoever asked. Nothing has
//! happened until the records are applied. Each verb takes the image first; time, randomness and
//! soft state (sessions) are arguments.

use millrace_model::ErrorCode;

use crate::image::Image;
use crate::record::Record;

/// What a decision comes to: the facts that make it true, and what to answer once they are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Decision<T> {
    /// To be applied together, or not at all; none means that nothing changes.
    pub records: Vec<Record>,
    /// For the caller, after the records are applied.
    pub reply: T,
}

/// Why something asked for is not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {}", message.as_deref().unwrap_or("no further reason"))]
pub struct Refusal {
    /// The code for the wire.
    pub code: ErrorCode,
    /// In words, as Kafka words it; `None` where Kafka says nothing beyond the code.
    pub message: Option<String>,
}

impl<T> Decision<T> {
    /// Nothing changes.
    pub fn unchanged(reply: T) -> Decision<T> {
        Decision {
            records: Vec::new(),
            reply,
        }
    }

    /// The same facts with another reply.
    pub fn map<U>(self, reply: impl FnOnce(T) -> U) -> Decision<U> {
        Decision {
            records: self.records,
            reply: reply(self.reply),
        }
    }
}

impl Refusal {
    /// A code and its reason.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Refusal {
        Refusal {
            code,
            message: Some(message.into()),
        }
    }
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Refusal {
        Refusal {
            code,
            message: None,
        }
    }
}

/// A decision in the making: later steps see what earlier ones did.
struct Draft {
    image: Image,
    records: Vec<Record>,
}

impl Draft {
    fn of(image: &Image) -> Draft {
        Draft {
            image: image.clone(),
            records: Vec::new(),
        }
    }

    fn push(&mut self, record: Record) {
        self.extend(vec![record]);
    }

    fn extend(&mut self, records: Vec<Record>) {
        self.image = self
            .image
            .speculate_unchecked(&records)
            .expect("a decision makes records that fit the image it saw");
        self.records.extend(records);
    }

    fn finish<T>(self, reply: T) -> Decision<T> {
        Decision {
            records: self.records,
            reply,
        }
    }
}
