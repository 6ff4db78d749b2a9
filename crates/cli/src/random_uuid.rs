//! `millrace random-uuid`: an id for a new cluster or directory.

use crate::failure::Failure;

/// Runs the command.
pub fn run() -> Result<(), Failure> {
    println!("{}", millrace_client::this_machine().random.uuid());
    Ok(())
}
