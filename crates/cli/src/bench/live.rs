//! What a bench shows while it runs, and how it is ended early.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::gauge::Gauge;
use super::{INTERRUPTED, Telling};

/// Erases what stands on the terminal's line.
const ERASE: &str = "\r\x1b[K";

/// Whether somebody pressed Ctrl-C; clones share it.
#[derive(Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Listens for Ctrl-C from now on: the first ends the measurement, the second the process.
    pub fn on_interrupt() -> Stop {
        let stop = Stop::default();
        let told = stop.clone();
        tokio::spawn(async move {
            while tokio::signal::ctrl_c().await.is_ok() {
                if told.0.swap(true, Ordering::Relaxed) {
                    std::process::exit(INTERRUPTED.into());
                }
            }
        });
        stop
    }

    /// Whether to end.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A line that is rewritten each second; gone when dropped.
pub struct Live(Option<tokio::task::JoinHandle<()>>);

impl Live {
    /// Shows `gauge` where somebody can see it.
    pub fn show(telling: &Telling, gauge: &Gauge) -> Live {
        if telling.quiet || !std::io::stderr().is_terminal() {
            return Live(None);
        }
        let gauge = gauge.clone();
        Live(Some(tokio::spawn(async move {
            let mut seconds = tokio::time::interval(Duration::from_secs(1));
            seconds.tick().await;
            loop {
                seconds.tick().await;
                eprint!("{ERASE}{}", line(&gauge));
                let _ = std::io::stderr().flush();
            }
        })))
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.abort();
            eprint!("{ERASE}");
        }
    }
}

fn line(gauge: &Gauge) -> String {
    let second = gauge.second();
    let now = std::time::Instant::now();
    let start = gauge.window().start();
    let mut line = match now.checked_duration_since(start) {
        Some(since) => format!("{:>4} s ", since.as_secs()),
        None => "warm-up".to_owned(),
    };
    let megabytes = second.bytes as f64 / 1e6;
    line += &format!("{:>11} records/s {megabytes:>8.1} MB/s", second.records);
    if !second.latencies.is_empty() {
        let [p50, p99] = [50.0, 99.0].map(|percent| second.latencies.percentile_ms(percent));
        let max = second.latencies.max_ms();
        line += &format!("  p50 {p50:.1} ms  p99 {p99:.1} ms  max {max:.1} ms");
    }
    line
}
