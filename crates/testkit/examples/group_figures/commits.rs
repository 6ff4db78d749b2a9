//! Commits at saturation: every connection is a member of a group of its own that commits one offset
//! after the other.

use std::time::{Duration, Instant};

use crate::Options;
use crate::bed::Bed;
use crate::book::Book;
use crate::frames;
use crate::members::{Member, gather};
use crate::mux::Mux;

/// Runs it and notes commits a second and what each costs the brokers.
pub fn run(bed: &Bed, options: &Options, book: &mut Book) {
    bed.make_topic("committed", 1);
    let groups: Vec<String> = (0..options.connections)
        .map(|number| format!("commits-{number}"))
        .collect();
    let mut load = Load::start(&gather(bed, &groups, 1, "committed"));
    load.go_on(options.warm_up());
    let cpu = bed.cpu();
    let began = Instant::now();
    let commits = load.go_on(options.measured());
    let seconds = began.elapsed().as_secs_f64();
    let cpu = (bed.cpu() - cpu).as_secs_f64();
    let name = |what: &str| format!("commits, {} members: {what}", options.connections);
    book.note(&name("a second"), "1/s", commits as f64 / seconds);
    let each = cpu * 1e6 / commits as f64;
    book.note(&name("broker CPU of each"), "µs", each);
}

/// Members that commit without pause.
struct Load {
    mux: Mux,
    frames: Vec<Vec<u8>>,
    /// What a commit is answered when all is well.
    good: Vec<u8>,
}

impl Load {
    fn start(members: &[Member]) -> Load {
        let mut mux = Mux::new();
        let commit = |member: &Member| frames::commit(&member.who, "committed", 0..1, 7);
        let frames: Vec<Vec<u8>> = members.iter().map(commit).collect();
        for (member, frame) in members.iter().zip(&frames) {
            let number = mux.connect(member.port);
            mux.send(number, frame);
        }
        Load {
            mux,
            frames,
            good: Vec::new(),
        }
    }

    /// Commits for a while; how many were answered.
    fn go_on(&mut self, span: Duration) -> u64 {
        let (frames, good) = (&self.frames, &mut self.good);
        let mut commits = 0;
        let began = Instant::now();
        while began.elapsed() < span {
            self.mux
                .poll(Duration::from_millis(10), |number, frame, out| {
                    if frame != &good[..] {
                        assert_eq!(frames::commit_error(frame), 0, "a commit was refused");
                        *good = frame.to_vec();
                    }
                    commits += 1;
                    out.extend_from_slice(&frames[number]);
                });
        }
        commits
    }
}
