//! What happened, for whoever reads about a failed run, and a digest of it for determinism.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::time::Duration;

/// Lines kept for the report of a failure.
const KEPT_LINES: usize = 150;

/// The events of the run on this thread.
#[derive(Default)]
struct Trace {
    now: Duration,
    lines: VecDeque<String>,
    digest: u64,
    aloud: bool,
    panics: Vec<String>,
    speaker: String,
}

thread_local! {
    static TRACE: RefCell<Trace> = RefCell::default();
}

/// Begins a run; with `aloud` every line goes to standard error as well.
pub fn begin(aloud: bool) {
    TRACE.with_borrow_mut(|trace| {
        *trace = Trace {
            aloud,
            ..Trace::default()
        };
    });
}

/// The time that further lines carry.
pub fn set_now(now: Duration) {
    TRACE.with_borrow_mut(|trace| trace.now = now);
}

/// An event of the simulation itself: it is part of the digest.
pub fn record(what: fmt::Arguments<'_>) {
    note(what.to_string(), true);
}

/// Whose process runs now, for what it says.
pub fn set_speaker(name: &str) {
    TRACE.with_borrow_mut(|trace| {
        if trace.speaker != name {
            name.clone_into(&mut trace.speaker);
        }
    });
}

/// A word of a broker, which is not part of the digest: whether it is said depends on the level.
fn word(what: &str) {
    let speaker = TRACE.with_borrow(|trace| trace.speaker.clone());
    note(format!("{speaker}: {what}"), false);
}

/// Takes what brokers log from the level that `SIM_LOG` names on, in the syntax of `RUST_LOG`;
/// warnings if it names none.
pub fn listen() {
    let filter = std::env::var("SIM_LOG").unwrap_or_else(|_| "warn".to_owned());
    let listening = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .without_time()
        .with_ansi(false)
        .with_writer(|| Words)
        .try_init();
    // Only one run listens in a process.
    let _ = listening;
}

/// Takes one line of a broker's log after the other.
struct Words;

impl io::Write for Words {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        word(String::from_utf8_lossy(line).trim_end());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Folds a number into the digest.
pub fn fold(number: u64) {
    TRACE.with_borrow_mut(|trace| trace.fold(number));
}

/// What stands for all events so far.
pub fn digest() -> u64 {
    TRACE.with_borrow(|trace| trace.digest)
}

/// A panic on this thread; the run it happened in has failed.
pub fn panicked(what: String) {
    let _ = TRACE.try_with(|trace| {
        if let Ok(mut trace) = trace.try_borrow_mut() {
            trace.panics.push(what);
        }
    });
}

/// The panics since they were last asked for.
pub fn take_panics() -> Vec<String> {
    TRACE.with_borrow_mut(|trace| std::mem::take(&mut trace.panics))
}

/// The last lines.
pub fn last_lines() -> Vec<String> {
    TRACE.with_borrow(|trace| trace.lines.iter().cloned().collect())
}

fn note(what: String, counts: bool) {
    TRACE.with_borrow_mut(|trace| {
        if counts {
            for chunk in what.as_bytes().chunks(8) {
                let mut word = [0; 8];
                word[..chunk.len()].copy_from_slice(chunk);
                trace.fold(u64::from_le_bytes(word));
            }
        }
        let line = format!("{:>10.3} {what}", trace.now.as_secs_f64());
        if trace.aloud {
            eprintln!("{line}");
        }
        if trace.lines.len() == KEPT_LINES {
            trace.lines.pop_front();
        }
        trace.lines.push_back(line);
    });
}

impl Trace {
    fn fold(&mut self, number: u64) {
        self.digest = (self.digest.rotate_left(5) ^ number).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

/// Says what happened, as `format!` does.
macro_rules! event {
    ($($word:tt)*) => { $crate::trace::record(format_args!($($word)*)) };
}
pub(crate) use event;
