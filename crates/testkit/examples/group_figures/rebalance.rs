//! A rebalance of one hundred members: of a classic group from the first join to the last share; of a
//! group of the consumer protocol from the join of one more to its full share, where everybody beats
//! as told and reports at once what it was given.

use std::time::{Duration, Instant};

use crate::Options;
use crate::bed::Bed;
use crate::book::{Book, median};
use crate::consumers::{self, Consumer, Lines};
use crate::members::Room;

/// Members of the group.
const MEMBERS: usize = 100;

/// Rebalances that count.
const ROUNDS: u32 = 50;

/// Partitions of the topic that members of the consumer protocol share, ten for each of them.
const PARTITIONS: i32 = 1000;

/// Members that join such a group one after the other.
const NEWCOMERS: usize = 3;

/// A classic group: notes the median time.
pub fn classic(bed: &Bed, options: &Options, book: &mut Book) {
    bed.make_topic("shared", MEMBERS as i32);
    let group = "rebalanced".to_owned();
    let port = bed.coordinators(std::slice::from_ref(&group))[0];
    let mut room = Room::default();
    for _ in 0..MEMBERS {
        room.seat(&group, port);
    }
    room.join_all("shared", 0);
    room.settle("shared", MEMBERS);
    let began = Instant::now();
    let mut round = 0u8;
    let mut rebalance = || {
        round = round.wrapping_add(1);
        let joins = room.joins("shared", round);
        let began = Instant::now();
        room.join_with(&joins, round);
        room.settle("shared", MEMBERS);
        began.elapsed().as_secs_f64() * 1e3
    };
    while began.elapsed() < options.warm_up() {
        rebalance();
    }
    let cpu = bed.cpu();
    let times: Vec<f64> = (0..ROUNDS).map(|_| rebalance()).collect();
    let cpu = (bed.cpu() - cpu).as_secs_f64() * 1e3 / f64::from(ROUNDS);
    let name = |what: &str| format!("rebalance of {MEMBERS} classic members: {what}");
    book.note(&name("time"), "ms", median(&times));
    book.note(&name("broker CPU"), "ms", cpu);
}

/// A group of the consumer protocol: notes the time of each member that joins.
pub fn consumer(bed: &Bed, _: &Options, book: &mut Book) {
    bed.make_topic("given", PARTITIONS);
    let group = "reconciled".to_owned();
    let groups = std::slice::from_ref(&group);
    let mut members = consumers::gather(bed, groups, MEMBERS, "given");
    for newcomer in 0..NEWCOMERS {
        let port = members[0].port;
        let name = format!("newcomer-{newcomer}");
        members.push(Consumer::new(&group, &name, port));
        let took = until_shared(&mut consumers::lines_of(bed), &mut members);
        let what = format!("one more joins {MEMBERS} consumers: until it has its share");
        book.note(&what, "ms", took.as_secs_f64() * 1e3);
    }
}

/// Lets the last member join, and everybody beat as told, until it has its share.
fn until_shared(lines: &mut Lines, members: &mut [Consumer]) -> Duration {
    let began = Instant::now();
    let count = members.len();
    let share = PARTITIONS as usize / count;
    // The others are anywhere between two of their heartbeats.
    let spread = |number: usize| Duration::from_secs(5) * number as u32 / count as u32;
    let mut due: Vec<Option<Instant>> = (0..count).map(|n| Some(began + spread(n))).collect();
    due[count - 1] = Some(began);
    while members[count - 1].owned() < share {
        for (number, due) in due.iter_mut().enumerate() {
            if due.is_some_and(|at| at <= Instant::now()) {
                *due = None;
                let member = &members[number];
                lines.send(number, member.port, &member.next_frame("given"));
            }
        }
        lines.poll(Duration::from_millis(2), |number, frame| {
            let told = members[number].take(frame);
            due[number] = Some(Instant::now() + told.next_beat);
        });
    }
    let took = began.elapsed();
    while lines.waiting() > 0 {
        lines.poll(Duration::from_millis(2), |number, frame| {
            members[number].take(frame);
        });
    }
    took
}
