//! Input that nobody should send: the right error or a closed connection, bounded memory, and others
//! undisturbed; and starts that cannot succeed: one clear sentence and exit code 1.

#[path = "hostile/batches.rs"]
mod batches;
#[path = "hostile/connections.rs"]
mod connections;
#[path = "hostile/frames.rs"]
mod frames;
#[path = "hostile/groups.rs"]
mod groups;
#[path = "hostile/starts.rs"]
mod starts;
