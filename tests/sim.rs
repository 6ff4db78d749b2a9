//! Whole clusters on one thread from one seed: see `sim/README.md`.
#![allow(dead_code, reason = "what breaks machines comes next")]

#[path = "sim/cases.rs"]
mod cases;
#[path = "sim/child.rs"]
mod child;
#[path = "sim/cluster.rs"]
mod cluster;
#[path = "sim/machine.rs"]
mod machine;
#[path = "sim/options.rs"]
mod options;
#[path = "sim/run.rs"]
mod run;
#[path = "sim/seal.rs"]
mod seal;
#[path = "sim/trace.rs"]
mod trace;

use std::process::ExitCode;

use options::{Options, Task};
use run::Plan;

/// The brokers' tasks run on this thread's stack, unoptimized ones too.
const STACK_BYTES: usize = 64 << 20;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    match &options.task {
        Task::Cases(filter) => cases::run(filter.as_deref()),
        Task::Seed(seed) => one_seed(Plan {
            seed: *seed,
            aloud: options.aloud,
            most_faults: options.most_faults,
        }),
        Task::Soak { .. } | Task::Planted { .. } => ExitCode::from(2),
    }
}

/// Runs a seed on a fresh thread and prints its figures, or how to repeat its failure.
#[allow(clippy::print_stdout, reason = "this is the report")]
fn one_seed(plan: Plan) -> ExitCode {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::backtrace::Backtrace::capture();
        trace::panicked(format!("{panic}\n{thread}"));
    }));
    let seed = plan.seed;
    let running = std::thread::Builder::new()
        .stack_size(STACK_BYTES)
        .spawn(move || run::run(&plan).map_err(|why| (why, trace::last_lines())))
        .expect("the system grants a thread");
    match running.join() {
        Ok(Ok(figures)) => {
            println!("seed {seed}: {figures}");
            ExitCode::SUCCESS
        }
        Ok(Err((why, lines))) => {
            for line in lines {
                println!("{line}");
            }
            println!("seed {seed} failed: {why}");
            println!("to repeat it: {} --seed {seed} --aloud", program());
            ExitCode::FAILURE
        }
        Err(_) => {
            println!("seed {seed}: the simulation itself panicked; run it with --aloud");
            ExitCode::FAILURE
        }
    }
}

fn program() -> String {
    let program = std::env::current_exe();
    program.map_or_else(|_| "sim".to_owned(), |path| path.display().to_string())
}
