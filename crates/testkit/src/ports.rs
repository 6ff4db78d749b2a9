//! Ports that are free now, below the range that the system gives to outgoing connections.

use std::net::TcpListener;
use std::sync::Mutex;

const FIRST: u16 = 20_000;
const LAST: u16 = 28_900;

static NEXT: Mutex<Option<u16>> = Mutex::new(None);

/// A port of 127.0.0.1 that nobody listens on and that this process hands out only once a round.
///
/// # Panics
/// When none is free.
pub fn free() -> u16 {
    let mut next = NEXT.lock().expect("nothing panics while a port is picked");
    // Test processes that run side by side begin at different places.
    let spread = (std::process::id() % 89) as u16 * 100;
    for _ in FIRST..LAST {
        let port = next.unwrap_or(FIRST + spread);
        *next = Some(if port + 1 >= LAST { FIRST } else { port + 1 });
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {LAST}");
}
