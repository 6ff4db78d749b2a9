//! Many plain connections in one thread, so that the load costs little beside what it measures.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

/// Events taken at once.
const EVENTS: usize = 1024;

/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;

/// Connections to brokers, by number.
pub struct Mux {
    epoll: OwnedFd,
    connections: Vec<Connection>,
    ready: Vec<epoll::Event>,
    scratch: Vec<u8>,
    out: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    /// The beginning of an answer whose rest is still under way.
    started: Vec<u8>,
}

impl Mux {
    /// No connections yet.
    pub fn new() -> Mux {
        Mux {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC).expect("epoll is there"),
            connections: Vec::new(),
            ready: Vec::with_capacity(EVENTS),
            scratch: vec![0; READ_BYTES],
            out: Vec::new(),
        }
    }

    /// One more, to the broker at this port; its number.
    pub fn connect(&mut self, port: u16) -> usize {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the broker listens");
        stream.set_nodelay(true).expect("a socket can be set up");
        let number = self.connections.len();
        let data = epoll::EventData::new_u64(number as u64);
        epoll::add(&self.epoll, &stream, data, epoll::EventFlags::IN).expect("epoll takes it");
        self.connections.push(Connection {
            stream,
            started: Vec::new(),
        });
        number
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, connection: usize, frame: &[u8]) {
        let mut stream = &self.connections[connection].stream;
        stream.write_all(frame).expect("the broker reads");
    }

    /// Waits for answers and hands each over, without its length; what is put into the buffer is
    /// sent on the same connection.
    pub fn poll(&mut self, wait: Duration, mut take: impl FnMut(usize, &[u8], &mut Vec<u8>)) {
        let timeout = Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(wait.subsec_nanos()),
        };
        self.ready.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.ready), Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => panic!("waiting for answers: {error}"),
        }
        for event in &self.ready {
            let number = event.data.u64() as usize;
            let connection = &mut self.connections[number];
            let read = connection.stream.read(&mut self.scratch);
            let read = read.unwrap_or_else(|error| panic!("reading an answer: {error}"));
            assert!(read > 0, "a broker closed a connection");
            self.out.clear();
            connection.take(&self.scratch[..read], |frame| {
                take(number, frame, &mut self.out);
            });
            if !self.out.is_empty() {
                let sent = connection.stream.write_all(&self.out);
                sent.expect("the broker reads");
            }
        }
    }
}

impl Connection {
    /// Hands over what is whole, and keeps the rest.
    fn take(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8])) {
        if self.started.is_empty() {
            let used = whole_frames(bytes, &mut each);
            self.started.extend_from_slice(&bytes[used..]);
            return;
        }
        self.started.extend_from_slice(bytes);
        let used = whole_frames(&self.started, &mut each);
        self.started.drain(..used);
    }
}

fn whole_frames(bytes: &[u8], each: &mut impl FnMut(&[u8])) -> usize {
    let mut at = 0;
    while let Some(length) = bytes[at..].first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        let Some(frame) = bytes.get(at + 4..at + 4 + length) else {
            break;
        };
        each(frame);
        at += 4 + length;
    }
    at
}
