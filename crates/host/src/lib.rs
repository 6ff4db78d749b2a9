//! The seams to the outside: network, disk, time, randomness and tasks.
//!
//! Everything in the broker that would touch the world asks here, so that one seed can drive a
//! whole cluster: [`Host::real`] is the machine, and a simulation hands in its own sides. Nothing
//! in this crate knows what a partition or a broker is.

pub mod disk;
pub mod network;
mod random;
pub mod task;
mod time;

use std::sync::Arc;

pub use disk::{Disk, DiskDirectory, DiskFile};
pub use network::{BoxListener, BoxStream, Network};
pub use random::Random;
pub use task::{Tasks, Worker};
pub use time::Clock;

/// One machine as the broker sees it; cheap to clone.
#[derive(Clone)]
pub struct Host {
    /// Files and directories.
    pub disk: Arc<dyn Disk>,
    /// Sockets.
    pub network: Arc<dyn Network>,
    /// Wall clock and monotonic clock.
    pub clock: Clock,
    /// The one source of random numbers.
    pub random: Random,
    /// Where the data path runs.
    pub tasks: Tasks,
    /// Where Raft, broker sessions and the controller run, so that load never costs an election.
    pub control: Tasks,
    /// Ends the process at once when an invariant is broken, see [`stop_process`].
    pub fatal: Arc<dyn Fn(&str) + Send + Sync>,
}

/// Ends the process at once: what it would do next could cost acknowledged records.
pub fn stop_process(why: &str) {
    tracing::error!(why, "a broken invariant; the process stops");
    std::process::abort();
}

impl Host {
    /// The machine this process runs on. `tasks` and `control` name the runtimes to spawn on.
    pub fn real(tasks: Tasks, control: Tasks) -> Host {
        Host {
            disk: Arc::new(disk::RealDisk),
            network: Arc::new(network::RealNetwork),
            clock: Clock::real(),
            random: Random::from_entropy(),
            tasks,
            control,
            fatal: Arc::new(stop_process),
        }
    }
}
