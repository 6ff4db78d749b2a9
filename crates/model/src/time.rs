//! Wall-clock time as Kafka writes it.

use std::fmt;
use std::time::Duration;

/// Milliseconds since 1970-01-01 UTC; -1 means "none" on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// "No timestamp", as the wire writes it.
    pub const NONE: Timestamp = Timestamp(-1);

    /// The plain number of milliseconds.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// This moment moved later; stops at the end of time instead of wrapping.
    #[must_use]
    pub fn after(self, span: Duration) -> Timestamp {
        let span_ms = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        Timestamp(self.0.saturating_add(span_ms))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
