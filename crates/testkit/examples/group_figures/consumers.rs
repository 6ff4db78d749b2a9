//! Members of groups of the consumer protocol: they beat until all have their shares.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use kafka_protocol::messages::ConsumerGroupHeartbeatRequest;
use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;

use crate::bed::{Bed, LONG};
use crate::frames;
use crate::mux::Mux;

/// Time between two heartbeats of a member while groups find their shares.
const BEAT: Duration = Duration::from_secs(1);

/// Rounds without news after which a group counts as settled.
const QUIET_ROUNDS: u32 = 3;

/// What a coordinator answers that has not begun yet.
const NOT_YET: [i16; 3] = [14, 15, 16];

/// Connections to each broker.
const CONNECTIONS: usize = 8;

/// A member that has joined.
#[derive(Clone, Debug)]
pub struct Consumer {
    pub group: String,
    pub member: String,
    pub epoch: i32,
    pub port: u16,
    /// What it owns, if the coordinator has not been told yet.
    news: Option<Vec<TopicPartitions>>,
    owned: usize,
}

/// What a member learned from an answer.
pub struct Told {
    /// Whether anything was new.
    pub news: bool,
    /// When it beats again: at once where it has something to report.
    pub next_beat: Duration,
}

impl Consumer {
    /// One that has not joined yet.
    pub fn new(group: &str, member: &str, port: u16) -> Consumer {
        Consumer {
            group: group.to_owned(),
            member: member.to_owned(),
            epoch: 0,
            port,
            news: None,
            owned: 0,
        }
    }

    /// How many partitions it owns.
    pub fn owned(&self) -> usize {
        self.owned
    }

    /// Its next heartbeat.
    pub fn heartbeat(&self) -> Vec<u8> {
        frames::consumer_heartbeat(&self.group, &self.member, self.epoch, self.news.clone())
    }

    /// Its join, or its next heartbeat.
    pub fn next_frame(&self, topic: &str) -> Vec<u8> {
        match self.epoch {
            0 => frames::consumer_join(&self.group, &self.member, topic),
            _ => self.heartbeat(),
        }
    }

    /// Takes over what it was answered.
    pub fn take(&mut self, frame: &[u8]) -> Told {
        let answer =
            frames::answer::<ConsumerGroupHeartbeatRequest>(frame, frames::CONSUMER_VERSION);
        if self.epoch == 0 && NOT_YET.contains(&answer.error_code) {
            return Told {
                news: true,
                next_beat: Duration::from_millis(10),
            };
        }
        assert_eq!(answer.error_code, 0, "{self:?} was told {answer:?}");
        self.news = answer.assignment.map(|assignment| {
            let topics = assignment.topic_partitions.into_iter();
            let owned = topics.map(|topic| {
                TopicPartitions::default()
                    .with_topic_id(topic.topic_id)
                    .with_partitions(topic.partitions)
            });
            owned.collect()
        });
        if let Some(news) = &self.news {
            self.owned = news.iter().map(|topic| topic.partitions.len()).sum();
        }
        let news = self.news.is_some() || answer.member_epoch != self.epoch;
        self.epoch = answer.member_epoch;
        let interval = u64::try_from(answer.heartbeat_interval_ms).unwrap_or(0);
        Told {
            news,
            next_beat: match self.news {
                Some(_) => Duration::ZERO,
                None => Duration::from_millis(interval),
            },
        }
    }
}

/// Connections to the brokers, and who waits on each for an answer.
pub struct Lines {
    mux: Mux,
    ports: Vec<u16>,
    waiting: Vec<VecDeque<usize>>,
}

impl Lines {
    /// To the brokers at these ports.
    pub fn to(ports: &[u16]) -> Lines {
        let mut mux = Mux::new();
        for port in ports {
            for _ in 0..CONNECTIONS {
                mux.connect(*port);
            }
        }
        Lines {
            mux,
            ports: ports.to_vec(),
            waiting: vec![VecDeque::new(); ports.len() * CONNECTIONS],
        }
    }

    /// Sends on the line of somebody with this number.
    pub fn send(&mut self, number: usize, port: u16, frame: &[u8]) {
        let broker = self.ports.iter().position(|known| *known == port);
        let broker = broker.expect("the port of a broker");
        let line = broker * CONNECTIONS + number % CONNECTIONS;
        self.waiting[line].push_back(number);
        self.mux.send(line, frame);
    }

    /// Hands over answers with the numbers of those who waited.
    pub fn poll(&mut self, wait: Duration, mut take: impl FnMut(usize, &[u8])) {
        let waiting = &mut self.waiting;
        self.mux.poll(wait, |line, frame, _| {
            let number = waiting[line].pop_front();
            take(number.expect("somebody waits"), frame);
        });
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting.iter().map(VecDeque::len).sum()
    }
}

/// Fills groups with `size` members each.
pub fn gather(bed: &Bed, groups: &[String], size: usize, topic: &str) -> Vec<Consumer> {
    let ports = bed.coordinators(groups);
    let mut lines = lines_of(bed);
    let mut members: Vec<Consumer> = Vec::with_capacity(groups.len() * size);
    for (group, port) in groups.iter().zip(&ports) {
        for index in 0..size {
            members.push(Consumer::new(group, &format!("{group}-{index}"), *port));
        }
    }
    for (number, member) in members.iter().enumerate() {
        let frame = frames::consumer_join(&member.group, &member.member, topic);
        lines.send(number, member.port, &frame);
    }
    settle(&mut lines, &mut members, topic);
    members
}

/// Lines to all brokers.
pub fn lines_of(bed: &Bed) -> Lines {
    let ids = bed.cluster.ids().into_iter();
    let ports: Vec<u16> = ids.map(|id| bed.cluster.node(id).client_port()).collect();
    Lines::to(&ports)
}

/// Has everybody beat until nobody hears anything new.
fn settle(lines: &mut Lines, members: &mut [Consumer], topic: &str) {
    let began = Instant::now();
    let mut quiet = 0;
    while quiet < QUIET_ROUNDS {
        let round = Instant::now();
        let mut news = 0;
        while lines.waiting() > 0 || round.elapsed() < BEAT {
            assert!(began.elapsed() < LONG, "the groups do not settle");
            lines.poll(Duration::from_millis(5), |number, frame| {
                news += u32::from(members[number].take(frame).news);
            });
        }
        quiet = if news == 0 { quiet + 1 } else { 0 };
        for (number, member) in members.iter().enumerate() {
            lines.send(number, member.port, &member.next_frame(topic));
        }
    }
    while lines.waiting() > 0 {
        lines.poll(Duration::from_millis(5), |number, frame| {
            members[number].take(frame);
        });
    }
}
