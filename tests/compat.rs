//! Other people's clients and tools, unmodified, against three brokers; the output of stock tools
//! is compared with what they print against stock Kafka (`compat/golden`).
//!
//! One cluster and one JVM serve all cases, which run in their order. With
//! `MILLRACE_TEST_SYSTEM=stock MILLRACE_TEST_GOLDEN=write` (`tests/run golden`) the cluster is stock
//! Kafka and the golden files are written.

#[path = "compat/bench.rs"]
mod bench;
#[path = "compat/clients.rs"]
mod clients;
#[path = "compat/console.rs"]
mod console;
#[path = "compat/golden.rs"]
mod golden;
#[path = "compat/groups.rs"]
mod groups;
#[path = "compat/quick_start.rs"]
mod quick_start;
#[path = "compat/tools.rs"]
mod tools;

#[path = "compat/tool_admin.rs"]
mod tool_admin;
#[path = "compat/tool_configs.rs"]
mod tool_configs;
#[path = "compat/tool_groups.rs"]
mod tool_groups;
#[path = "compat/tool_inspect.rs"]
mod tool_inspect;
#[path = "compat/tool_reassign.rs"]
mod tool_reassign;
#[path = "compat/tool_topics.rs"]
mod tool_topics;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use bench::Bench;

type Case = (&'static str, fn(&mut Bench));

/// In the order in which they run; later ones may use topics of earlier ones only where they say so.
const CASES: &[&[Case]] = &[
    tool_topics::CASES,
    tool_configs::CASES,
    tool_admin::CASES,
    tool_reassign::CASES,
    console::CASES,
    tool_inspect::CASES,
    tool_groups::CASES,
    clients::CASES,
    groups::CASES,
    quick_start::CASES,
];

/// Prints what libtest prints, since scripts read it.
#[allow(clippy::print_stdout)]
fn main() -> ExitCode {
    let filter = std::env::args()
        .skip(1)
        .find(|word| !word.starts_with('-') && word.parse::<u8>().is_err());
    let cases = CASES.iter().copied().flatten();
    let wanted: Vec<&Case> = cases
        .filter(|(name, _)| {
            filter
                .as_ref()
                .is_none_or(|part| name.contains(part.as_str()))
        })
        .collect();
    println!("running {} tests", wanted.len());
    let mut bench = Bench::start();
    let mut failures = Vec::new();
    for (name, case) in &wanted {
        let began = Instant::now();
        let sound = catch_unwind(AssertUnwindSafe(|| case(&mut bench))).is_ok();
        if !sound {
            failures.push(*name);
        }
        let verdict = if sound { "ok" } else { "FAILED" };
        println!(
            "test {name} ... {verdict} ({:.1} s)",
            began.elapsed().as_secs_f64()
        );
    }
    bench.keep_if(!failures.is_empty());
    drop(bench);
    for name in &failures {
        println!("    {name}");
    }
    let (passed, failed) = (wanted.len() - failures.len(), failures.len());
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "test result: {verdict}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out"
    );
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
