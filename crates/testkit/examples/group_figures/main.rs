//! What groups cost a cluster, Millrace's and stock Kafka's: commits, heartbeats, rebalances, loading,
//! and the loss of a coordinator, by the same requests in their raw bytes.
//!
//!     cargo run --release -p millrace-testkit --example group_figures -- [OPTION]... [WORKLOAD]...
//!
//!     --system kafka|millrace    whose brokers; both in turn when not given
//!     --durability fsync|page-cache
//!     --out FILE                 where figures are added (default target/group-figures.tsv)
//!     --connections N            members that commit at once
//!     --report                   only prints what the file holds, as a table
//!
//! Workloads: commits, heartbeats, consumer-heartbeats, rebalance, consumer-rebalance, loading,
//! failover; each starts brokers of its own. Millrace's binary is `MILLRACE_BIN`, as in all tests of processes.

mod bed;
mod book;
mod commits;
mod consumers;
mod failover;
mod frames;
mod heartbeats;
mod loading;
mod members;
mod mux;
mod rebalance;

use std::path::PathBuf;
use std::time::Duration;

use millrace_testkit::{System, guardian, resources, system};

use bed::Bed;
use book::Book;

type Workload = (&'static str, fn(&mut Bed, &Options, &mut Book));

const WORKLOADS: &[Workload] = &[
    ("commits", |bed, options, book| {
        commits::run(bed, options, book);
    }),
    ("heartbeats", |bed, options, book| {
        heartbeats::classic(bed, options, book);
    }),
    ("consumer-heartbeats", |bed, options, book| {
        heartbeats::consumer(bed, options, book);
    }),
    ("rebalance", |bed, options, book| {
        rebalance::classic(bed, options, book);
    }),
    ("consumer-rebalance", |bed, options, book| {
        rebalance::consumer(bed, options, book);
    }),
    ("loading", loading::run),
    ("failover", failover::run),
];

/// What is run, and how long.
pub struct Options {
    /// Members that commit at once.
    pub connections: usize,
    warm_up: Duration,
    measured: Duration,
}

impl Options {
    /// How long a system works before its figures count.
    pub fn warm_up(&self) -> Duration {
        self.warm_up
    }

    /// How long figures are taken.
    pub fn measured(&self) -> Duration {
        self.measured
    }
}

#[allow(clippy::print_stdout, reason = "this is the report")]
fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut systems = vec!["kafka".to_owned(), "millrace".to_owned()];
    let mut durability = "page-cache".to_owned();
    let mut out = system::top().join("target/group-figures.tsv");
    let mut only_report = false;
    let mut workloads = Vec::new();
    let (mut connections, mut warm_up, mut measured) = (240, None, 10);
    while let Some(word) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_else(|| panic!("{word} what?"));
        match word.as_str() {
            "--system" => systems = vec![value()],
            "--durability" => durability = value(),
            "--out" => out = PathBuf::from(value()),
            "--connections" => connections = number(&value()) as usize,
            "--warm-up" => warm_up = Some(number(&value())),
            "--measured" => measured = number(&value()),
            "--report" => only_report = true,
            name => workloads.push(name.to_owned()),
        }
    }
    if !only_report {
        guardian::watch();
        resources::raise_descriptor_limit(8192);
        let all = || WORKLOADS.iter().map(|(name, _)| (*name).to_owned());
        if workloads.is_empty() {
            workloads.extend(all());
        }
        for workload in &workloads {
            let run = WORKLOADS.iter().find(|(name, _)| name == workload);
            let (_, run) = run.unwrap_or_else(|| panic!("no workload {workload}"));
            for system in &systems {
                let options = Options {
                    connections,
                    // A JVM takes its time until its code is compiled.
                    warm_up: Duration::from_secs(warm_up.unwrap_or(match &**system {
                        "kafka" => 25,
                        _ => 5,
                    })),
                    measured: Duration::from_secs(measured),
                };
                let mut bed = Bed::start(&named(system), &durability);
                run(&mut bed, &options, &mut Book::open(out.clone(), system));
            }
        }
    }
    println!("{}", book::report(&out));
}

fn named(system: &str) -> System {
    match system {
        "kafka" => System::stock(),
        "millrace" => System::millrace(),
        other => panic!("no system {other}"),
    }
}

fn number(text: &str) -> u64 {
    text.parse()
        .unwrap_or_else(|_| panic!("'{text}' is no number"))
}
