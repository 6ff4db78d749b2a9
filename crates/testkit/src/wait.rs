//! Waiting for states, never for time.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Asks `probe` every 20 ms until it gives something.
///
/// # Panics
/// When `limit` passes first; the message holds `what` and the last thing that `probe` saw.
pub fn until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        match probe() {
            Ok(found) => return found,
            Err(seen) if began.elapsed() > limit => {
                panic!("waited {limit:?} for {what}; last seen: {seen}")
            }
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Waits for a thread that was asked to stop, and gives what it returns.
///
/// # Panics
/// When it panicked, or still runs after `limit`; it is left alone then.
pub fn joined<T>(what: &str, limit: Duration, thread: JoinHandle<T>) -> T {
    until(&format!("{what} to stop"), limit, || {
        match thread.is_finished() {
            true => Ok(()),
            false => Err("it still runs".to_owned()),
        }
    });
    match thread.join() {
        Ok(value) => value,
        Err(_) => panic!("{what} panicked"),
    }
}
