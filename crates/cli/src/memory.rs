//! Memory goes back to the system when a node comes to rest.
//!
//! The allocator gives free memory back by and by, but only where a thread has to do with it: what a
//! node needed under load would stay with it for as long as nothing happens. Under load nothing is
//! given back on purpose: a page that is handed over and fetched again costs more than most records.

#![allow(
    unsafe_code,
    reason = "the allocator has no safe interface for what it is asked here"
)]

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often it is looked whether the node rests.
const LOOK: Duration = Duration::from_secs(2);

/// A node that takes less processor time in between rests, in milliseconds.
const REST_MS: usize = 100;

/// How often memory is given back after a load: what is kept for those who read the newest records
/// becomes free a few seconds later.
const TIMES: u32 = 4;

/// Raised when every thread shall give back what it holds.
static ASKED: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static DONE: Cell<u64> = const { Cell::new(0) };
}

/// To be called by each thread that has nothing to do.
pub fn at_park() {
    let asked = ASKED.load(Ordering::Relaxed);
    if DONE.replace(asked) != asked {
        // SAFETY: it only frees what nobody uses, of this thread and of nobody.
        unsafe { libmimalloc_sys::mi_collect(true) };
    }
}

/// Watches for as long as the node runs.
pub async fn give_back_at_rest() {
    let mut rest = Rest::default();
    loop {
        tokio::time::sleep(LOOK).await;
        if rest.look(processor_ms()) {
            ASKED.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Whether the node rests.
#[derive(Default)]
struct Rest {
    used_ms: usize,
    /// How often it rested in a row.
    quiet: u32,
}

impl Rest {
    /// What the node has used until now; true if memory is to be given back.
    fn look(&mut self, used_ms: usize) -> bool {
        let rests = used_ms.saturating_sub(self.used_ms) < REST_MS;
        self.used_ms = used_ms;
        self.quiet = match rests {
            true => self.quiet.saturating_add(1),
            false => 0,
        };
        (1..=TIMES).contains(&self.quiet)
    }
}

/// Processor time of this process so far.
fn processor_ms() -> usize {
    let (mut elapsed, mut user, mut system) = (0, 0, 0);
    let (mut rss, mut peak_rss, mut commit, mut peak_commit, mut faults) = (0, 0, 0, 0, 0);
    // SAFETY: each pointer is to a number of the right size that lives until the call returns.
    unsafe {
        libmimalloc_sys::mi_process_info(
            &raw mut elapsed,
            &raw mut user,
            &raw mut system,
            &raw mut rss,
            &raw mut peak_rss,
            &raw mut commit,
            &raw mut peak_commit,
            &raw mut faults,
        );
    }
    user + system
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_a_few_times_after_a_load() {
        let mut rest = Rest::default();
        assert!(!rest.look(1000), "busy");
        let mut used = 1000;
        let mut given = Vec::new();
        for _ in 0..6 {
            used += 20;
            given.push(rest.look(used));
        }
        assert_eq!(given, [true, true, true, true, false, false]);
        assert!(!rest.look(used + 500), "busy again");
        assert!(rest.look(used + 520));
    }

    #[test]
    fn processor_time_grows() {
        let before = processor_ms();
        let mut sum = 0_u64;
        while processor_ms() < before + 20 {
            sum = (0..10_000_u64).fold(sum, u64::wrapping_add);
        }
        at_park();
    }
}
