//! Carries the bytes of one direction of one connection.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use super::Links;
use crate::admin::NodeId;

/// Carries bytes, and at last the end, until one side closes; holds them while the direction is
/// cut.
pub fn pump(links: &Links, mut from: &TcpStream, mut to: &TcpStream, way: (NodeId, NodeId)) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer);
        if !links.wait_open(way.0, way.1) {
            break;
        }
        match read {
            Ok(0) => {
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
            Ok(length) if to.write_all(&buffer[..length]).is_ok() => {}
            Ok(_) | Err(_) => break,
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
