//! When records are sent, and which of them count.

use std::time::{Duration, Instant};

/// What is measured: not the warm-up, and not what comes after the end.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    start: Instant,
    /// `None` where records are counted rather than time.
    end: Option<Instant>,
}

impl Window {
    /// `length` after the warm-up.
    pub fn timed(now: Instant, warm_up: Duration, length: Duration) -> Window {
        let start = now + warm_up;
        Window {
            start,
            end: Some(start + length),
        }
    }

    /// Everything after the warm-up.
    pub fn open(now: Instant, warm_up: Duration) -> Window {
        Window {
            start: now + warm_up,
            end: None,
        }
    }

    /// When it begins.
    pub fn start(&self) -> Instant {
        self.start
    }

    /// Whether nothing more is to be sent at this moment.
    pub fn is_over(&self, now: Instant) -> bool {
        self.end.is_some_and(|end| now >= end)
    }

    /// Whether the latency of a record counts that was meant to be sent then.
    pub fn counts_start(&self, intended: Instant) -> bool {
        intended >= self.start && !self.is_over(intended)
    }

    /// Whether a record counts for the throughput: by when it was done in a window of time, so that
    /// what queued up before and what still queues at the end make up for each other.
    pub fn counts_end(&self, intended: Instant, done: Instant) -> bool {
        match self.end {
            Some(end) => done >= self.start && done < end,
            None => intended >= self.start,
        }
    }

    /// How long it was, given when the last record was done.
    pub fn length(&self, last: Option<Instant>, now: Instant) -> Duration {
        let end = match self.end {
            Some(end) => end.min(now),
            None => last.unwrap_or(now),
        };
        end.saturating_duration_since(self.start)
    }
}

/// The times at which one of several workers sends: evenly spread, and kept to whether or not the
/// cluster keeps up (an open loop), or as fast as it can.
pub struct Pacer {
    next: Instant,
    interval: Option<Duration>,
}

impl Pacer {
    /// Worker `index` of `workers`, which together send `rate` records a second.
    pub fn new(now: Instant, rate: Option<f64>, index: usize, workers: usize) -> Pacer {
        let interval = rate.map(|rate| Duration::from_secs_f64(workers as f64 / rate));
        let offset = interval.map_or(Duration::ZERO, |interval| {
            interval.mul_f64(index as f64 / workers as f64)
        });
        Pacer {
            next: now + offset,
            interval,
        }
    }

    /// Waits until the next record is due; when it was meant to be sent, which is in the past if
    /// the worker is late.
    pub fn wait(&mut self) -> Instant {
        let Some(interval) = self.interval else {
            return Instant::now();
        };
        let intended = self.next;
        self.next += interval;
        let now = Instant::now();
        if intended > now {
            std::thread::sleep(intended - now);
        }
        intended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_the_rate_evenly() {
        let now = Instant::now() - Duration::from_secs(60);
        let mut times = Vec::new();
        for index in 0..4 {
            let mut pacer = Pacer::new(now, Some(1000.0), index, 4);
            times.extend((0..25).map(|_| pacer.wait()));
        }
        times.sort();
        for pair in times.windows(2) {
            let gap = pair[1] - pair[0];
            let off = gap.abs_diff(Duration::from_millis(1));
            assert!(off < Duration::from_micros(2), "{gap:?}");
        }
    }

    #[test]
    fn who_is_late_does_not_move_the_times() {
        let now = Instant::now();
        let mut pacer = Pacer::new(now, Some(100.0), 0, 1);
        let first = pacer.wait();
        std::thread::sleep(Duration::from_millis(35));
        let late: Vec<Instant> = (0..3).map(|_| pacer.wait()).collect();
        for (place, intended) in late.iter().enumerate() {
            let since = *intended - first;
            assert_eq!(since.as_millis(), 10 * (place as u128 + 1));
        }
    }

    #[test]
    fn a_window_leaves_out_the_warm_up_and_what_comes_after() {
        let now = Instant::now();
        let at = |ms| now + Duration::from_millis(ms);
        let window = Window::timed(now, Duration::from_millis(10), Duration::from_millis(20));
        assert!(!window.counts_start(at(9)) && window.counts_start(at(10)));
        assert!(window.counts_start(at(29)) && !window.counts_start(at(30)));
        assert!(window.counts_end(at(1), at(11)) && !window.counts_end(at(29), at(31)));
        assert!(window.is_over(at(30)) && !window.is_over(at(29)));
        assert_eq!(window.length(None, at(500)).as_millis(), 20);
        assert_eq!(window.length(None, at(15)).as_millis(), 5);
        let open = Window::open(now, Duration::from_millis(10));
        assert!(!open.counts_end(at(9), at(11)) && open.counts_end(at(10), at(999)));
        assert_eq!(open.length(Some(at(25)), at(99)).as_millis(), 15);
    }
}
