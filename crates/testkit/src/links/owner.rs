//! Which of our processes owns a socket, from /proc.

use std::fs;

/// The process among `pids` that holds the socket whose local port is `port`.
pub fn process_of_local_port(port: u16, pids: &[u32]) -> Option<u32> {
    let inode = inode_of_local_port(port)?;
    let socket = format!("socket:[{inode}]");
    pids.iter().copied().find(|pid| holds(*pid, &socket))
}

fn holds(pid: u32, socket: &str) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    descriptors.flatten().any(|descriptor| {
        fs::read_link(descriptor.path()).is_ok_and(|target| target.as_os_str() == socket)
    })
}

fn inode_of_local_port(port: u16) -> Option<u64> {
    // IPv6 sockets too: Java connects to IPv4 addresses by them.
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .find_map(|table| {
            let table = fs::read_to_string(table).ok()?;
            table.lines().skip(1).find_map(|line| {
                let fields: Vec<&str> = line.split_whitespace().collect();
                let local = fields.get(1)?.rsplit_once(':')?.1;
                let inode: u64 = fields.get(9)?.parse().ok()?;
                let matches = u16::from_str_radix(local, 16) == Ok(port) && inode != 0;
                matches.then_some(inode)
            })
        })
}
