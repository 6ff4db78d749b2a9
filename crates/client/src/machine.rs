//! The machine a command runs on.

use millrace_host::{Host, Tasks};
use tokio::runtime::Handle;

/// This machine, with tasks on the current runtime.
///
/// # Panics
/// Outside a tokio runtime.
pub fn this_machine() -> Host {
    let tasks = Tasks::on(Handle::current());
    Host::real(tasks.clone(), tasks)
}
