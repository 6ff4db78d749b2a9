//! The coordinator is killed while somebody commits: how long until the next commit is taken.

use std::time::{Duration, Instant};

use kafka_protocol::messages::OffsetCommitRequest;
use millrace_testkit::Wire;

use crate::Options;
use crate::bed::{Bed, LONG, OFFSETS, place_of};
use crate::book::Book;
use crate::frames::{self, Identity};

/// Times that a coordinator is killed.
const KILLS: usize = 3;

/// An answer must come in this time, or the broker is asked anew.
const PATIENCE: Duration = Duration::from_millis(500);

/// Runs it and notes the time of each kill.
pub fn run(bed: &mut Bed, _: &Options, book: &mut Book) {
    bed.make_topic("kept", 1);
    let nobody = Identity {
        group: "orphan".to_owned(),
        member: String::new(),
        generation: -1,
    };
    let frame = frames::commit(&nobody, "kept", 0..1, 7);
    let partition = place_of(&nobody.group);
    for _ in 0..KILLS {
        commit(bed, &frame);
        let leader = bed.leader(partition);
        let began = Instant::now();
        bed.cluster.kill(leader);
        commit(bed, &frame);
        let gap = began.elapsed().as_secs_f64() * 1e3;
        book.note("coordinator killed: until the next commit", "ms", gap);
        bed.cluster.restart(leader);
        bed.cluster.wait_in_sync(OFFSETS, LONG);
    }
}

/// Asks one broker after the other until one takes the commit.
fn commit(bed: &Bed, frame: &[u8]) {
    let began = Instant::now();
    loop {
        for id in bed.cluster.ids() {
            let node = bed.cluster.node(id);
            if node.should_answer() && taken(node.client_port(), frame) {
                return;
            }
        }
        assert!(began.elapsed() < LONG, "nobody takes a commit");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn taken(port: u16, frame: &[u8]) -> bool {
    let asked = Wire::connect(port, PATIENCE).and_then(|mut wire| {
        wire.send_bytes(frame)?;
        wire.answer::<OffsetCommitRequest>(frames::COMMIT_VERSION)
    });
    let Ok(answer) = asked else {
        return false;
    };
    let mut partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
    partitions.all(|partition| partition.error_code == 0) && !answer.topics.is_empty()
}
