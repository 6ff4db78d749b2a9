//! What a process uses of the machine, from /proc.

use std::fs;
use std::time::Duration;

/// Resident memory in bytes; zero when the process is gone.
pub fn resident_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Processor time of all threads of a process since its start, their system calls included; zero
/// when it is gone.
pub fn cpu_time(pid: u32) -> Duration {
    // What Linux counts in for users is a hundredth of a second, on every architecture.
    const TICK: Duration = Duration::from_millis(10);
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let fields = after_name.split(' ').skip(11).take(2);
    let ticks = fields.filter_map(|field| field.parse::<u32>().ok());
    ticks.map(|ticks| TICK * ticks).sum()
}

/// How many descriptors a process holds open.
pub fn open_descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// Lets this process, and those that it starts from now on, hold so many descriptors.
///
/// # Panics
/// When the system does not let it.
pub fn raise_descriptor_limit(descriptors: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    if now.current.is_some_and(|current| current < descriptors) {
        let maximum = now.maximum.map(|maximum| maximum.max(descriptors));
        let raised = Rlimit {
            current: Some(descriptors),
            maximum,
        };
        setrlimit(Resource::Nofile, raised)
            .unwrap_or_else(|error| panic!("{descriptors} descriptors are needed: {error}"));
    }
}
