//! The `millrace` command: one subcommand a file, with the options and the output of Kafka's tools
//! where there is one.

#![allow(
    clippy::print_stdout,
    reason = "what a command prints is what it is for"
)]

mod api_versions;
mod bench;
mod connect;
mod consume;
mod dev;
mod failure;
mod format;
mod get_offsets;
mod groups;
mod health;
mod memory;
mod node_config;
mod produce;
mod properties;
mod quorum;
mod random_uuid;
mod records;
mod start;
mod topic_filter;
mod topics;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use futures::future::LocalBoxFuture;

use crate::failure::Failure;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A Kafka-compatible event-streaming cluster in one binary.
#[derive(Parser, Debug)]
#[command(
    name = "millrace",
    version,
    propagate_version = true,
    max_term_width = 100
)]
struct Millrace {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Start a node: a broker, a controller, or both
    Start(start::StartArgs),
    /// Prepare the directories of a node
    Format(format::FormatArgs),
    /// Print an id for a new cluster
    RandomUuid,
    /// Start a cluster on this machine, for development
    Dev(dev::DevArgs),
    /// Create, list, describe, alter or delete topics
    Topics(topics::TopicsArgs),
    /// Write lines of standard input to a topic
    Produce(produce::ProduceArgs),
    /// Print the records of a topic
    Consume(consume::ConsumeArgs),
    /// List, describe or delete groups of consumers, or move their offsets
    Groups(groups::GroupsArgs),
    /// List groups of all kinds
    AllGroups(groups::AllGroupsArgs),
    /// Print the offsets of partitions
    GetOffsets(get_offsets::GetOffsetsArgs),
    /// Delete the oldest records of partitions
    Records(records::RecordsArgs),
    /// Print which API versions each broker speaks
    ApiVersions(api_versions::ApiVersionsArgs),
    /// Show the metadata quorum
    Quorum(quorum::QuorumArgs),
    /// Ask a broker on this machine whether it is ready
    Health(health::HealthArgs),
    /// Measure a cluster, or the disk below it
    Bench(bench::BenchArgs),
}

fn main() -> ExitCode {
    end_when_nobody_reads();
    let millrace = match Millrace::try_parse() {
        Ok(millrace) => millrace,
        Err(error) => {
            // Help and version are no errors; a wrong option ends with 1, as in the stock tools.
            let exit_code = if error.use_stderr() { 1 } else { 0 };
            // Where even the terminal has gone there is nobody to tell.
            let _ = error.print();
            return ExitCode::from(exit_code);
        }
    };
    match run(millrace.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::from(failure.exit_code)
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    let work: LocalBoxFuture<'_, Result<(), Failure>> = match command {
        // They bring runtimes of their own.
        Command::Start(args) => return start::run(&args),
        Command::Bench(args) => return bench::run(args),
        Command::Format(args) => Box::pin(async { format::run(args) }),
        Command::RandomUuid => Box::pin(async { random_uuid::run() }),
        Command::Dev(args) => Box::pin(dev::run(args)),
        Command::Topics(args) => Box::pin(topics::run(args)),
        Command::Produce(args) => Box::pin(produce::run(args)),
        Command::Consume(args) => Box::pin(consume::run(args)),
        Command::Groups(args) => Box::pin(groups::run(args)),
        Command::AllGroups(args) => Box::pin(groups::run_all(args)),
        Command::GetOffsets(args) => Box::pin(get_offsets::run(args)),
        Command::Records(args) => Box::pin(records::run(args)),
        Command::ApiVersions(args) => Box::pin(api_versions::run(args)),
        Command::Quorum(args) => Box::pin(quorum::run(args)),
        Command::Health(args) => Box::pin(health::run(args)),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let done = runtime.block_on(work);
    // A read of standard input may never end; nothing that matters is left to do.
    runtime.shutdown_background();
    done
}

/// Whoever reads what is printed may stop, as `head` does; that ends the command without a word.
fn end_when_nobody_reads() {
    const ENDED_BY_SIGPIPE: i32 = 128 + 13;
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let said = panic.payload().downcast_ref::<String>();
        if said.is_some_and(|said| said.starts_with("failed printing to stdout")) {
            std::process::exit(ENDED_BY_SIGPIPE);
        }
        usual(panic);
    }));
}
