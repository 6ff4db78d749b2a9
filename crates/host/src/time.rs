//! Two clocks: one that only goes forward, for spans, and the wall's, for records.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use millrace_model::Timestamp;
use tokio::time::Instant;

/// Where the broker reads the time. Spans come from tokio's clock, which a simulation steps;
/// timestamps come from a wall clock that is handed in.
#[derive(Clone)]
pub struct Clock {
    wall: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl Clock {
    /// The machine's own clocks.
    pub fn real() -> Clock {
        Clock::with_wall(|| {
            let since_1970 = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or(Duration::ZERO);
            Timestamp(i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX))
        })
    }

    /// A clock whose wall time is what `wall` says.
    pub fn with_wall(wall: impl Fn() -> Timestamp + Send + Sync + 'static) -> Clock {
        Clock {
            wall: Arc::new(wall),
        }
    }

    /// Wall-clock time; may jump, so never subtract two of these to measure a span.
    pub fn wall(&self) -> Timestamp {
        (self.wall)()
    }

    /// A moment that only moves forward.
    pub fn now(&self) -> Instant {
        Instant::now()
    }
}
