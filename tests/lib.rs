//! What the scenarios share: load from a stock client, observers, and the verdict at the end.
//!
//! Only the tests beside this file use it, and only with the feature `processes`.
#![cfg(feature = "processes")]

pub mod gap;
pub mod groups;
pub mod load;
pub mod outcome;
pub mod readers;
pub mod report;
pub mod run;
pub mod small_disk;
pub mod workload;

pub use outcome::Outcome;
pub use run::Run;
pub use small_disk::SmallDisk;
pub use workload::Workload;
