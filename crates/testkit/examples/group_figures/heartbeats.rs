//! A thousand groups of ten members that stay alive: what a heartbeat costs, and what they hold in
//! memory.

use std::time::{Duration, Instant};

use crate::Options;
use crate::bed::Bed;
use crate::book::Book;
use crate::consumers::{self, lines_of};
use crate::frames;
use crate::members;

/// Groups.
const GROUPS: usize = 1000;

/// Members of each.
const MEMBERS: usize = 10;

/// Heartbeats in a second: each member's every three seconds, as clients of classic groups do.
const PER_SECOND: u32 = 3333;

/// The same for a system that is being warmed up.
const WARM_PER_SECOND: u32 = 9000;

/// Classic groups.
pub fn classic(bed: &Bed, options: &Options, book: &mut Book) {
    let before = bed.resident_mib();
    bed.make_topic("beaten", MEMBERS as i32);
    let members = members::gather(bed, &groups("classic"), MEMBERS, "beaten");
    let beats = members
        .iter()
        .map(|member| (member.port, frames::heartbeat(&member.who)));
    measure(bed, options, book, ("classic", before), beats.collect());
}

/// Groups of the consumer protocol.
pub fn consumer(bed: &Bed, options: &Options, book: &mut Book) {
    let before = bed.resident_mib();
    bed.make_topic("beaten", MEMBERS as i32);
    let members = consumers::gather(bed, &groups("consumer"), MEMBERS, "beaten");
    let beats = members
        .iter()
        .map(|member| (member.port, member.heartbeat()));
    measure(bed, options, book, ("consumer", before), beats.collect());
}

fn groups(kind: &str) -> Vec<String> {
    (0..GROUPS)
        .map(|number| format!("beats-{kind}-{number}"))
        .collect()
}

fn measure(
    bed: &Bed,
    options: &Options,
    book: &mut Book,
    (kind, resident_before): (&str, f64),
    beats: Vec<(u16, Vec<u8>)>,
) {
    let name = |what: &str| format!("{GROUPS} {kind} groups of {MEMBERS}: {what}");
    send(bed, &beats, WARM_PER_SECOND, options.warm_up());
    let idle_before = bed.cpu();
    std::thread::sleep(options.measured());
    let idle = (bed.cpu() - idle_before).as_secs_f64();
    let busy_before = bed.cpu();
    let sent = send(bed, &beats, PER_SECOND, options.measured()) as f64;
    let busy = (bed.cpu() - busy_before).as_secs_f64();
    book.note(&name("broker CPU of a heartbeat"), "µs", busy * 1e6 / sent);
    let more = (busy - idle).max(0.0) * 1e6 / sent;
    book.note(&name("the same without idle CPU"), "µs", more);
    let resident = bed.resident_mib();
    book.note(&name("resident, 3 brokers"), "MiB", resident);
    book.note(
        &name("resident more than without"),
        "MiB",
        resident - resident_before,
    );
}

/// Sends so many heartbeats a second, whether or not they are answered in time; how many.
fn send(bed: &Bed, beats: &[(u16, Vec<u8>)], per_second: u32, span: Duration) -> u64 {
    let mut lines = lines_of(bed);
    let began = Instant::now();
    let mut sent = 0u64;
    let check = |_: usize, frame: &[u8]| {
        // Correlation id, tags and throttle time come before the code, in both kinds.
        assert_eq!(frame[9..11], [0, 0], "a heartbeat was refused");
    };
    while began.elapsed() < span {
        let due = (began.elapsed().as_secs_f64() * f64::from(per_second)) as u64;
        while sent < due {
            let number = (sent % beats.len() as u64) as usize;
            let (port, frame) = &beats[number];
            lines.send(number, *port, frame);
            sent += 1;
        }
        lines.poll(Duration::from_millis(1), check);
    }
    while lines.waiting() > 0 {
        assert!(began.elapsed() < span * 3, "heartbeats are not answered");
        lines.poll(Duration::from_millis(10), check);
    }
    sent
}
