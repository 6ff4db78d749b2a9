//! The result of a bench, as text and as JSON.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::gauge::{Gauge, Latencies};
use super::live::Stop;
use super::{INTERRUPTED, Output, RECORDS_LOST, Telling};
use crate::failure::Failure;

const PERCENTILES: [(&str, f64); 4] =
    [("p50", 50.0), ("p95", 95.0), ("p99", 99.0), ("p99.9", 99.9)];

/// A result that grows line by line.
pub struct Report {
    text: Vec<(&'static str, String)>,
    json: serde_json::Map<String, Value>,
}

impl Report {
    /// The result of this tool, which was given these settings.
    pub fn of(tool: &str, settings: Value) -> Report {
        let mut json = serde_json::Map::new();
        json.insert("tool".to_owned(), tool.into());
        json.insert("settings".to_owned(), settings);
        let text = Vec::new();
        Report { text, json }
    }

    /// Adds a line, and the fields that say the same.
    pub fn line(&mut self, label: &'static str, text: String, fields: &[(&str, Value)]) {
        self.text.push((label, text));
        for (name, value) in fields {
            self.json.insert((*name).to_owned(), value.clone());
        }
    }

    /// Counts and rates of what fell into the window.
    pub fn throughput(&mut self, gauge: &Gauge) {
        let totals = gauge.totals();
        let seconds = gauge.window().length(totals.last, Instant::now());
        let seconds = seconds.as_secs_f64().max(1e-6);
        let (records, failed) = (totals.records, totals.failed);
        let rate = records as f64 / seconds;
        let megabytes = totals.bytes as f64 / 1e6 / seconds;
        self.line(
            "records",
            format!("{records} in {seconds:.1} s, {failed} failed"),
            &[
                ("records", records.into()),
                ("bytes", totals.bytes.into()),
                ("failed", failed.into()),
                ("seconds", rounded(seconds)),
            ],
        );
        self.line(
            "throughput",
            format!("{rate:.0} records/s, {megabytes:.1} MB/s"),
            &[
                ("records_per_second", rounded(rate)),
                ("megabytes_per_second", rounded(megabytes)),
            ],
        );
    }

    /// Percentiles under this name.
    pub fn latencies(&mut self, label: &'static str, field: &str, latencies: &Latencies) {
        if latencies.is_empty() {
            return;
        }
        let mut fields = serde_json::Map::new();
        let mut text = String::new();
        for (name, percent) in PERCENTILES {
            let ms = latencies.percentile_ms(percent);
            text += &format!("{name} {ms:.2} ms  ");
            fields.insert(name.to_owned(), rounded(ms));
        }
        let (max, mean) = (latencies.max_ms(), latencies.mean_ms());
        text += &format!("max {max:.2} ms  mean {mean:.2} ms");
        fields.insert("max".to_owned(), rounded(max));
        fields.insert("mean".to_owned(), rounded(mean));
        self.line(label, text, &[(field, Value::Object(fields))]);
    }

    /// How much of the processors this process took.
    pub fn client(&mut self, cores: f64) {
        let text = format!("{cores:.2} cores");
        self.line("this client", text, &[("client_cores", rounded(cores))]);
    }

    /// Prints it.
    pub fn print(self, telling: &Telling) {
        match telling.output {
            Output::Json => println!("{}", Value::Object(self.json)),
            Output::Text => {
                for (label, text) in self.text {
                    println!("{label:<12} {text}");
                }
            }
        }
    }
}

/// How a bench ends once its result is printed.
pub fn verdict(gauge: &Gauge, lost: u64, stop: &Stop) -> Result<(), Failure> {
    let failed = gauge.totals().failed;
    let failure = |message, exit_code| Err(Failure { message, exit_code });
    if failed > 0 {
        let why = gauge.first_error().unwrap_or_default();
        return failure(
            format!("{failed} records were not written: {why}"),
            RECORDS_LOST,
        );
    }
    if lost > 0 {
        let message = format!("{lost} acknowledged records never reached a consumer");
        return failure(message, RECORDS_LOST);
    }
    if stop.is_set() {
        return failure(
            "interrupted: the figures are of what was done by then".to_owned(),
            INTERRUPTED,
        );
    }
    Ok(())
}

/// Adds the fields of one object to another.
pub fn merge(to: &mut Value, from: Value) {
    if let (Value::Object(to), Value::Object(from)) = (to, from) {
        to.extend(from);
    }
}

/// To a few digits, which is all that a measurement holds.
pub fn rounded(number: f64) -> Value {
    json!((number * 1000.0).round() / 1000.0)
}

/// Processor time of this process, to be asked before and after.
pub struct ProcessorTime {
    since: Instant,
    used: Duration,
}

impl ProcessorTime {
    /// From now on.
    pub fn start() -> ProcessorTime {
        ProcessorTime {
            since: Instant::now(),
            used: used(),
        }
    }

    /// How many cores were busy on average since.
    pub fn cores(&self) -> f64 {
        let elapsed = self.since.elapsed().as_secs_f64().max(1e-6);
        used().saturating_sub(self.used).as_secs_f64() / elapsed
    }
}

fn used() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}
