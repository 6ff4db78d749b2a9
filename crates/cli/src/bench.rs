//! `millrace bench`: measures a cluster, this one or any other that speaks Kafka's protocol, and the
//! disk below it.
//!
//! - `produce`, `consume`, `e2e`: the options are those of Kafka's own `*-perf-test` tools where
//!   they have one;
//! - `disk`: what the disk could do at most, to hold the cluster's figures against.

mod client;
mod consume;
mod disk;
mod e2e;
mod gauge;
mod live;
mod load;
mod pace;
mod produce;
mod report;
mod topic;

use clap::{Args, Subcommand, ValueEnum};

use crate::failure::Failure;

/// What a bench ends with when it measured, and found records failed or lost.
const RECORDS_LOST: u8 = 2;
/// What a shell gives for a command that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// Measure a cluster, or the disk below it.
#[derive(Args, Debug)]
pub struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

// Each says what it does where its options are.
#[derive(Subcommand, Debug)]
enum What {
    Produce(produce::ProduceArgs),
    Consume(consume::ConsumeArgs),
    E2e(e2e::E2eArgs),
    Disk(disk::DiskArgs),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// How results are told.
#[derive(Args, Clone, Copy, Debug)]
struct Telling {
    /// How to print the result
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
    /// No live line, which otherwise is there when standard error is a terminal
    #[arg(long)]
    quiet: bool,
}

/// Runs the command, on as many threads as there are processors.
pub fn run(args: BenchArgs) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let done = match args.what {
        What::Disk(args) => disk::run(&args),
        What::Produce(args) => runtime.block_on(produce::run(args)),
        What::Consume(args) => runtime.block_on(consume::run(args)),
        What::E2e(args) => runtime.block_on(e2e::run(args)),
    };
    runtime.shutdown_background();
    done
}
