//! Members of classic groups: they join, share and stay.

use std::time::{Duration, Instant};

use kafka_protocol::messages::{HeartbeatRequest, JoinGroupRequest, SyncGroupRequest};

use crate::bed::{Bed, LONG};
use crate::frames::{self, Identity};
use crate::mux::Mux;

const MEMBER_ID_REQUIRED: i16 = 79;
const REBALANCE_IN_PROGRESS: i16 = 27;
/// A coordinator that has not begun yet.
const LOAD_IN_PROGRESS: i16 = 14;
const NOT_AVAILABLE: i16 = 15;
const NOT_COORDINATOR: i16 = 16;

/// Groups that join at the same time.
const AT_ONCE: usize = 40;

/// How often a member asks whether it must join again, while others still come.
const BEAT: Duration = Duration::from_millis(50);

/// A member that has its share, and the port of its coordinator.
#[derive(Clone, Debug)]
pub struct Member {
    /// Who it is.
    pub who: Identity,
    /// Where its coordinator listens.
    pub port: u16,
}

/// Fills groups with `size` members each.
pub fn gather(bed: &Bed, groups: &[String], size: usize, topic: &str) -> Vec<Member> {
    let mut members = Vec::with_capacity(groups.len() * size);
    for chunk in groups.chunks(AT_ONCE) {
        let ports = bed.coordinators(chunk);
        let mut room = Room::default();
        for (group, port) in chunk.iter().zip(&ports) {
            for _ in 0..size {
                room.seat(group, *port);
            }
        }
        room.join_all(topic, 0);
        room.settle(topic, size);
        members.extend(room.members());
    }
    members
}

/// Members with a connection each.
pub struct Room {
    mux: Mux,
    seats: Vec<Seat>,
}

struct Seat {
    member: Member,
    waits_for: Answer,
    settled: bool,
    round: u8,
}

#[derive(Clone, Copy, PartialEq)]
enum Answer {
    None,
    Join,
    Sync,
    Beat,
}

impl Default for Room {
    fn default() -> Room {
        Room {
            mux: Mux::new(),
            seats: Vec::new(),
        }
    }
}

impl Room {
    /// One more member, who has not joined yet.
    pub fn seat(&mut self, group: &str, port: u16) {
        let number = self.mux.connect(port);
        assert_eq!(number, self.seats.len(), "a connection each");
        let who = Identity {
            group: group.to_owned(),
            ..Identity::default()
        };
        self.seats.push(Seat {
            member: Member { who, port },
            waits_for: Answer::None,
            settled: false,
            round: 0,
        });
    }

    /// Has everybody join, with a subscription of its own for each round.
    pub fn join_all(&mut self, topic: &str, round: u8) {
        let joins = self.joins(topic, round);
        self.join_with(&joins, round);
    }

    /// The joins of everybody.
    pub fn joins(&self, topic: &str, round: u8) -> Vec<Vec<u8>> {
        let seats = self.seats.iter();
        let joins = seats.map(|seat| frames::join(&seat.member.who, topic, round));
        joins.collect()
    }

    /// Has everybody join with what [`Room::joins`] made.
    pub fn join_with(&mut self, joins: &[Vec<u8>], round: u8) {
        for (number, (seat, join)) in self.seats.iter_mut().zip(joins).enumerate() {
            seat.round = round;
            seat.settled = false;
            seat.waits_for = Answer::Join;
            self.mux.send(number, join);
        }
    }

    /// Waits until everybody has a share, and all of a group in the same generation. Groups are
    /// seated one after the other, with `size` members each.
    pub fn settle(&mut self, topic: &str, size: usize) {
        let began = Instant::now();
        let mut beaten = Instant::now();
        while !self.is_settled(size) {
            assert!(began.elapsed() < LONG, "the groups do not settle");
            let seats = &mut self.seats;
            self.mux
                .poll(Duration::from_millis(5), |number, frame, out| {
                    seats[number].take(frame, topic, out);
                });
            if beaten.elapsed() >= BEAT {
                beaten = Instant::now();
                self.beat();
            }
        }
    }

    fn is_settled(&self, size: usize) -> bool {
        self.seats.chunks(size).all(|group| {
            let generation = group[0].member.who.generation;
            group.iter().all(|seat| {
                let idle = seat.settled && seat.waits_for == Answer::None;
                idle && seat.member.who.generation == generation
            })
        })
    }

    fn beat(&mut self) {
        for (number, seat) in self.seats.iter_mut().enumerate() {
            if seat.settled && seat.waits_for == Answer::None {
                seat.waits_for = Answer::Beat;
                self.mux.send(number, &frames::heartbeat(&seat.member.who));
            }
        }
    }

    /// Everybody as they are now.
    pub fn members(&self) -> impl Iterator<Item = Member> {
        self.seats.iter().map(|seat| seat.member.clone())
    }
}

impl Seat {
    fn take(&mut self, frame: &[u8], topic: &str, out: &mut Vec<u8>) {
        let who = &mut self.member.who;
        let code = match self.waits_for {
            Answer::Join => {
                let joined = frames::answer::<JoinGroupRequest>(frame, frames::JOIN_VERSION);
                if joined.error_code == 0 {
                    who.generation = joined.generation_id;
                    self.waits_for = Answer::Sync;
                    out.extend(frames::sync(who, topic, &joined));
                    return;
                }
                if joined.error_code == MEMBER_ID_REQUIRED {
                    who.member = joined.member_id.to_string();
                    REBALANCE_IN_PROGRESS
                } else {
                    joined.error_code
                }
            }
            Answer::Sync => {
                frames::answer::<SyncGroupRequest>(frame, frames::SYNC_VERSION).error_code
            }
            Answer::Beat => {
                frames::answer::<HeartbeatRequest>(frame, frames::HEARTBEAT_VERSION).error_code
            }
            Answer::None => panic!("an answer that nobody asked for"),
        };
        match code {
            0 => {
                self.settled = true;
                self.waits_for = Answer::None;
            }
            REBALANCE_IN_PROGRESS | LOAD_IN_PROGRESS | NOT_AVAILABLE | NOT_COORDINATOR => {
                self.settled = false;
                self.waits_for = Answer::Join;
                out.extend(frames::join(who, topic, self.round));
            }
            code => panic!("{who:?} was told {code}"),
        }
    }
}
