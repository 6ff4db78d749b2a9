//! A run in a process of its own: what a library counts for its whole process (tokio's seeds among
//! it) begins anew, so a seed gives the same run whatever ran before it.

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::speed::Speed;

/// How long a run may take by the real clock. One that takes longer goes round in circles without
/// ever waiting, which is a failure like any other.
const PATIENCE: Duration = Duration::from_secs(300);

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Whether every invariant held.
    pub sound: bool,
    /// All that it printed: its figures, or why it failed.
    pub report: String,
    /// How quick it was, if it came to its end.
    pub speed: Option<Speed>,
}

/// Runs one seed with these further arguments.
pub fn run(seed: u64, arguments: &[&str]) -> Outcome {
    let began = Instant::now();
    let program = std::env::current_exe().expect("a process knows what it runs");
    let mut child = Command::new(program)
        .arg("--seed")
        .arg(seed.to_string())
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("the simulation can start itself");
    let mut output = child.stdout.take().expect("its output is piped");
    let reading = thread::spawn(move || {
        let mut text = String::new();
        // What is not text is no report of ours.
        let _ = std::io::Read::read_to_string(&mut output, &mut text);
        text
    });
    let mut hung = false;
    let status = loop {
        match child.try_wait().expect("a child can be asked for its end") {
            Some(status) => break status,
            None if began.elapsed() > PATIENCE => {
                hung = true;
                // It may have ended in this moment.
                let _ = child.kill();
                break child.wait().expect("a child can be asked for its end");
            }
            None => thread::sleep(Duration::from_millis(5)),
        }
    };
    let mut report = reading.join().unwrap_or_default();
    if hung {
        report.push_str(&format!("seed {seed} did not end within {PATIENCE:?}\n"));
    }
    Outcome {
        sound: status.success() && !hung,
        speed: Speed::find(&report),
        report,
    }
}
