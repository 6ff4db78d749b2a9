//! A coordinator that takes over a partition of `__consumer_offsets` with a million commits.

use std::time::{Duration, Instant};

use millrace_testkit::wait;

use crate::Options;
use crate::bed::{Bed, LONG, OFFSETS, groups_of_partition};
use crate::book::Book;
use crate::frames::{self, Identity};
use crate::mux::Mux;

/// The partition.
const PARTITION: i32 = 7;

/// Groups whose offsets lie there; each commits for each partition of the topic in each round.
const GROUPS: usize = 100;
const PARTITIONS: i32 = 100;
const ROUNDS: i64 = 100;

/// Requests under way at the same time.
const UNDER_WAY: usize = 16;

/// Times that the coordinator is moved.
const MOVES: usize = 4;

/// Fills the partition, then stops the brokers that lead it in turn; notes what those that take
/// over say of the time they took.
pub fn run(bed: &mut Bed, _: &Options, book: &mut Book) {
    bed.make_topic("many", PARTITIONS);
    let groups = groups_of_partition(PARTITION, GROUPS);
    fill(bed, &groups);
    for _ in 0..MOVES {
        let leader = bed.leader(PARTITION);
        let said_before: Vec<_> = others_said(bed, leader);
        bed.cluster.stop(leader);
        let took = wait::until("a new coordinator to load", LONG, || {
            let all = others_said(bed, leader);
            let mut new = all.into_iter().filter(|said| !said_before.contains(said));
            new.next().ok_or_else(|| "nobody has yet".to_owned())
        });
        book.note(
            "coordinator that loads 1,000,000 commits: time",
            "ms",
            took.2,
        );
        bed.cluster.restart(leader);
        bed.cluster.wait_in_sync(OFFSETS, LONG);
    }
}

/// A million commits.
fn fill(bed: &Bed, groups: &[String]) {
    let port = bed.coordinators(&groups[..1])[0];
    let mut mux = Mux::new();
    let mut left = ROUNDS * groups.len() as i64;
    let mut next = || {
        left -= 1;
        let group = groups[usize::try_from(left).ok()? % groups.len()].clone();
        let nobody = Identity {
            group,
            member: String::new(),
            generation: -1,
        };
        let at = 1000 + left;
        Some(frames::commit(&nobody, "many", 0..PARTITIONS, at))
    };
    let mut open = 0;
    for _ in 0..UNDER_WAY {
        let number = mux.connect(port);
        if let Some(frame) = next() {
            mux.send(number, &frame);
            open += 1;
        }
    }
    let began = Instant::now();
    while open > 0 {
        assert!(
            began.elapsed() < LONG * 2,
            "a million commits take too long"
        );
        mux.poll(Duration::from_millis(10), |_, frame, out| {
            assert_eq!(frames::commit_error(frame), 0, "a commit was refused");
            match next() {
                Some(frame) => out.extend(frame),
                None => open -= 1,
            }
        });
    }
}

/// What the brokers but this one have said of loading the whole partition: who, in which line, and
/// how many milliseconds it took.
fn others_said(bed: &Bed, but: i32) -> Vec<(i32, usize, f64)> {
    let mut said = Vec::new();
    for id in bed.cluster.all_but(but) {
        if !bed.cluster.node(id).should_answer() {
            continue;
        }
        let output = bed.cluster.node(id).output();
        for (line, text) in output.lines().enumerate() {
            if let Some((records, milliseconds)) = loaded(text)
                && records >= 1_000_000.0
            {
                said.push((id, line, milliseconds));
            }
        }
    }
    said
}

/// Records and milliseconds of a line in which a broker says that it has loaded something.
fn loaded(line: &str) -> Option<(f64, f64)> {
    if line.contains("loaded a coordinator's partition") {
        let field = |name: &str| number_behind(line, &format!("{name}="));
        return Some((field("records")?, field("milliseconds")?));
    }
    if line.contains("Finished loading of metadata from") {
        let milliseconds = number_behind(line, " in ")?;
        return Some((number_behind(line, "Loaded ")?, milliseconds));
    }
    None
}

fn number_behind(line: &str, words: &str) -> Option<f64> {
    let (_, rest) = line.split_once(words)?;
    let digits = rest.find(|char: char| !char.is_ascii_digit());
    rest[..digits.unwrap_or(rest.len())].parse().ok()
}
