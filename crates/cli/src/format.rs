//! `millrace format`: prepares the directories of a node, with the options of
//! `kafka-storage.sh format`.

use std::path::PathBuf;

use clap::{ArgAction, Args};
use millrace_server::format::{FormatOptions, format};

use crate::failure::Failure;
use crate::node_config;

/// Prepare the directories of a node: once, before its first start.
#[derive(Args, Debug)]
pub struct FormatArgs {
    /// The properties of the node
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// The cluster it belongs to, the same for all its nodes; `random-uuid` prints a new one
    #[arg(short = 't', long, value_name = "ID")]
    cluster_id: String,
    /// Leave directories alone that are formatted already
    #[arg(short = 'g', long)]
    ignore_formatted: bool,
    /// This controller is the whole quorum at first
    #[arg(short, long, group = "quorum")]
    standalone: bool,
    /// The first controllers, as ID@HOST:PORT:DIRECTORY between commas
    #[arg(short = 'I', long, value_name = "LIST", group = "quorum")]
    initial_controllers: Option<String>,
    /// This controller joins a quorum that exists
    #[arg(short = 'N', long, group = "quorum")]
    no_initial_controllers: bool,
    /// The level of a feature, as NAME=LEVEL; once for each
    #[arg(short, long, value_name = "NAME=LEVEL", action = ArgAction::Append)]
    feature: Vec<String>,
    /// The release whose features the cluster begins with
    #[arg(short, long, value_name = "VERSION")]
    release_version: Option<String>,
}

/// Runs the command.
pub fn run(args: FormatArgs) -> Result<(), Failure> {
    let (config, _) = node_config::load(Some(&args.config), &[])?;
    let options = FormatOptions {
        cluster_id: args.cluster_id,
        ignore_formatted: args.ignore_formatted,
        standalone: args.standalone,
        initial_controllers: args.initial_controllers,
        no_initial_controllers: args.no_initial_controllers,
        features: args.feature,
        release_version: args.release_version,
    };
    let lines = format(&config, &options, &millrace_client::this_machine())
        .map_err(|error| Failure::new(error.to_string()))?;
    for line in lines {
        println!("{line}");
    }
    Ok(())
}
