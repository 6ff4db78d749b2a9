//! Whole clusters on one thread from one seed: see `README.md` beside this file.

mod book;
mod cases;
mod child;
mod cluster;
mod faults;
mod invariants;
mod machine;
mod options;
mod planted;
mod rot;
mod run;
mod seal;
mod soak;
mod speed;
mod trace;
mod workload;

use std::process::ExitCode;

use options::{Options, Task};
use run::Plan;

/// What the released broker has too; a tenth of a run is allocation.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
            planted: options.planted.clone(),
            alone: options.alone,
        }),
        Task::Soak { limit, first, jobs } => soak::run(*limit, *first, *jobs),
        Task::Planted { seeds, filter } => planted::run(*seeds, filter.as_deref()),
    }
}

/// Runs a seed on a fresh thread and prints its figures, or how to repeat its failure.
#[allow(clippy::print_stdout, reason = "this is the report")]
fn one_seed(plan: Plan) -> ExitCode {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::backtrace::Backtrace::capture();
        trace::panicked(format!("{panic}\n{thread}"));
    }));
    trace::listen();
    let (seed, planted) = (plan.seed, plan.planted.clone());
    let began = speed::Stopwatch::start();
    let running = std::thread::Builder::new()
        .stack_size(STACK_BYTES)
        .spawn(move || run::run(&plan).map_err(|why| (why, trace::last_lines())))
        .expect("the system grants a thread");
    match running.join() {
        Ok(Ok(figures)) => {
            println!("seed {seed}: {figures}");
            println!("{}", began.stop(figures.simulated));
            ExitCode::SUCCESS
        }
        Ok(Err((why, lines))) => {
            for line in lines {
                println!("{line}");
            }
            println!("seed {seed} failed: {why}");
            let planted = planted.map(|bug| format!(" --planted {bug}"));
            let planted = planted.unwrap_or_default();
            println!("to repeat it: {} --seed {seed}{planted} --aloud", program());
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
