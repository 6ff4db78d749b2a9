//! Figures: noted as they come, one a line, and compared at the end.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

/// Where figures are noted.
pub struct Book {
    path: PathBuf,
    system: String,
}

impl Book {
    /// Adds to a file.
    pub fn open(path: PathBuf, system: &str) -> Book {
        Book {
            path,
            system: system.to_owned(),
        }
    }

    /// Notes one figure.
    #[allow(clippy::print_stdout, reason = "this is the report")]
    pub fn note(&mut self, what: &str, unit: &str, value: f64) {
        let line = format!("{}\t{what}\t{unit}\t{value:.3}", self.system);
        println!("{line}");
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.path);
        let written = file.and_then(|mut file| writeln!(file, "{line}"));
        written.unwrap_or_else(|error| panic!("{}: {error}", self.path.display()));
    }
}

/// The middle one.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() % 2 {
        0 => (sorted[middle - 1] + sorted[middle]) / 2.0,
        _ => sorted[middle],
    }
}

/// Everything in a file as a table in Markdown: medians, with least and most, and the ratio of the
/// medians.
pub fn report(path: &PathBuf) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let mut rows: BTreeMap<(String, String), BTreeMap<String, Vec<f64>>> = BTreeMap::new();
    for line in text.lines() {
        let [system, what, unit, value] = line.split('\t').collect::<Vec<_>>()[..] else {
            continue;
        };
        let row = rows.entry((what.to_owned(), unit.to_owned())).or_default();
        let values = row.entry(system.to_owned()).or_default();
        values.extend(value.parse::<f64>());
    }
    let mut table = "| figure | Kafka | Millrace | ratio |\n|---|---|---|---|\n".to_owned();
    for ((what, unit), values) in rows {
        let cell = |system: &str| match values.get(system) {
            None => "".to_owned(),
            Some(of) => format!("{} {unit}", spread(of)),
        };
        let ratio = match (values.get("kafka"), values.get("millrace")) {
            (Some(kafka), Some(ours)) => format!("{:.2}", median(ours) / median(kafka)),
            _ => String::new(),
        };
        let (kafka, ours) = (cell("kafka"), cell("millrace"));
        table += &format!("| {what} | {kafka} | {ours} | {ratio} |\n");
    }
    table
}

fn spread(values: &[f64]) -> String {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let digits = usize::from(most < 100.0);
    format!(
        "{:.digits$} ({least:.digits$} to {most:.digits$})",
        median(values)
    )
}
