//! Several nodes of a quorum in one process, over loopback: each on a runtime of its own, so that
//! dropping the runtime is what killing the process would be.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/elections.rs"]
mod elections;
#[path = "support/failures.rs"]
mod failures;
#[path = "support/membership.rs"]
mod membership;
#[path = "support/sessions.rs"]
mod sessions;
