//! `millrace start`: runs one node until it is asked to stop.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::{ArgAction, Args};
use millrace_model::limits::{MAX_BLOCKING_THREADS, MAX_CONTROL_BLOCKING_THREADS};
use millrace_server::{Broker, Config, Host, Tasks};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};

use crate::failure::Failure;
use crate::{memory, node_config};

/// Start a node: a broker, a controller, or both.
#[derive(Args, Debug)]
pub struct StartArgs {
    /// Its properties; without a file, those of the environment (KAFKA_NODE_ID for node.id), and
    /// without these, a cluster of one
    #[arg(value_name = "FILE")]
    properties: Option<PathBuf>,
    /// A property over those of the file
    #[arg(long = "override", value_name = "NAME=VALUE", action = ArgAction::Append)]
    overrides: Vec<String>,
}

/// Runs the command, on runtimes of its own: one for the data path, one for what keeps the cluster
/// together.
pub fn run(args: &StartArgs) -> Result<(), Failure> {
    let (config, warnings) = node_config::load(args.properties.as_deref(), &args.overrides)?;
    log_to_standard_output();
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    raise_open_files();
    let data = runtime("data", workers(), MAX_BLOCKING_THREADS)?;
    let control = runtime("control", 1, MAX_CONTROL_BLOCKING_THREADS)?;
    let host = Host::real(
        Tasks::on(data.handle().clone()),
        Tasks::on(control.handle().clone()),
    );
    control.spawn(memory::give_back_at_rest());
    let done = control.block_on(serve(config, host));
    data.shutdown_background();
    control.shutdown_background();
    done
}

async fn serve(config: Config, host: Host) -> Result<(), Failure> {
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    let node = config.node_id;
    let broker = Broker::start(config, host)
        .await
        .map_err(|error| Failure::new(error.to_string()))?;
    let ends = async {
        if broker.ready().await.is_ok() {
            // Kafka's words, which scripts wait for.
            tracing::info!("[KafkaRaftServer nodeId={node}] Kafka Server started");
        }
        broker.wait().await
    };
    let failed = tokio::select! {
        biased;
        _ = interrupted.recv() => None,
        _ = terminated.recv() => None,
        error = ends => Some(error),
    };
    if let Some(error) = failed {
        return Err(Failure::new(error.to_string()));
    }
    tracing::info!("stopping");
    tokio::select! {
        biased;
        () = broker.stop() => tracing::info!("stopped"),
        // Who asks twice does not want to wait.
        _ = interrupted.recv() => tracing::warn!("stopped at once"),
    }
    Ok(())
}

/// Threads of the data path. Half the cores: the other half is for the writers of log directories,
/// the kernel's side of sockets and files, and the clients. More of them find little to share and
/// wake each other for it: on two cores, a second one cost a fifth more processor time a record.
fn workers() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    cores.div_ceil(2)
}

fn runtime(name: &str, workers: usize, blocking: usize) -> Result<Runtime, Failure> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(workers)
        .max_blocking_threads(blocking)
        .thread_name(format!("millrace-{name}"))
        .on_thread_park(memory::at_park)
        .enable_all()
        .build();
    runtime.map_err(|error| Failure::new(format!("cannot start threads: {error}")))
}

/// `RUST_LOG` picks what is told; by default everything from information on.
fn log_to_standard_output() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,openraft=error"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stdout().is_terminal())
        .init();
}

/// Lets the process have as many files and sockets as the system grants at all; with fewer it runs
/// as well, and refuses connections earlier.
fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}
