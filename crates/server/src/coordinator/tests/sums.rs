//! A shard that adds numbers by subject.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use millrace_coordinator::{Effects, Input, Marker, Now, Origin, ReplyTo, Shard};
use millrace_metadata::{Delta, Image};
use millrace_model::{ProducerEpoch, ProducerId, Timestamp};

use crate::Config;
use crate::coordinator::{Encoded, Family};

/// A subject whose records cannot be read again.
pub const BROKEN: i32 = 666;

pub enum Ask {
    /// Adds numbers; answers the sum that comes of it.
    Add {
        subject: i32,
        numbers: Vec<i64>,
        atomic: bool,
        producer: Option<i64>,
    },
    Get(i32),
    GetAll,
    /// Answers -1 then.
    WaitUntil(Timestamp),
}

#[derive(Default)]
pub struct Sums {
    world: Arc<()>,
}

#[derive(Default)]
pub struct SumShard {
    sums: BTreeMap<i32, i64>,
    open: BTreeMap<ProducerId, Vec<(i32, i64)>>,
    waiting: Vec<(Timestamp, ReplyTo)>,
}

impl Shard for SumShard {
    type Request = Ask;
    type Response = i64;
    type Record = (i32, i64);
    type Notice = i64;
    type View<'a> = ();

    fn handle(&mut self, input: Input<Ask, i64>, now: Now, (): ()) -> Effects<(i32, i64), i64> {
        let sum = |subject| self.sums.get(&subject).copied().unwrap_or(0);
        match input {
            Input::Loaded => Effects::default(),
            Input::Notice(number) => Effects {
                records: vec![(i32::try_from(number).unwrap(), number)],
                ..Effects::default()
            },
            Input::Tick => {
                let (due, later) = self.waiting.iter().partition(|(at, _)| *at <= now.steady);
                self.waiting = later;
                let due: Vec<(Timestamp, ReplyTo)> = due;
                Effects {
                    replies: due.into_iter().map(|(_, to)| (to, -1)).collect(),
                    ..Effects::default()
                }
            }
            Input::Request { from, request } => match request {
                Ask::Get(subject) => Effects::reply(from, sum(subject)),
                Ask::GetAll => Effects::reply(from, self.sums.values().sum()),
                Ask::WaitUntil(at) => {
                    self.waiting.push((at, from));
                    Effects::default()
                }
                Ask::Add {
                    subject,
                    numbers,
                    atomic,
                    producer,
                } => Effects {
                    replies: vec![(from, sum(subject) + numbers.iter().sum::<i64>())],
                    records: numbers.into_iter().map(|n| (subject, n)).collect(),
                    atomic,
                    producer: producer.map(|id| (ProducerId(id), ProducerEpoch(0))),
                },
            },
        }
    }

    fn replay(&mut self, (subject, number): (i32, i64), origin: Origin) {
        match origin.producer {
            Some(producer) => self
                .open
                .entry(producer)
                .or_default()
                .push((subject, number)),
            None => *self.sums.entry(subject).or_default() += number,
        }
    }

    fn replay_marker(&mut self, marker: Marker) {
        for (subject, number) in self.open.remove(&marker.producer).unwrap_or_default() {
            if marker.committed {
                *self.sums.entry(subject).or_default() += number;
            }
        }
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        self.waiting.iter().map(|(at, _)| *at).min()
    }
}

impl Family for Sums {
    type Shard = SumShard;
    type Request = Ask;
    type Response = i64;
    type Record = (i32, i64);
    type Notice = i64;
    type World = ();
    type Measures = usize;

    fn topic(&self) -> &'static str {
        "__sums"
    }

    fn shard(&self, _partition: i32) -> SumShard {
        SumShard::default()
    }

    fn world(&self) -> Arc<()> {
        self.world.clone()
    }

    fn view(&self, _world: &()) {}

    fn update(&self, _config: &Config, _image: &Arc<Image>, _delta: &Delta) {}

    fn notices(&self, _delta: &Delta) -> Vec<i64> {
        Vec::new()
    }

    fn measure(&self, shard: &SumShard) -> usize {
        shard.sums.len()
    }

    fn subject(&self, request: &Ask) -> Option<i32> {
        match request {
            Ask::Add { subject, .. } | Ask::Get(subject) => Some(*subject),
            Ask::GetAll | Ask::WaitUntil(_) => None,
        }
    }

    fn is_brief(&self, request: &Ask) -> bool {
        !matches!(request, Ask::GetAll)
    }

    fn encode(&self, (subject, number): &(i32, i64)) -> Result<Encoded, String> {
        Ok(Encoded {
            key: Bytes::copy_from_slice(&subject.to_be_bytes()),
            value: Some(Bytes::copy_from_slice(&number.to_be_bytes())),
        })
    }

    fn decode(&self, key: &[u8], value: Option<&[u8]>) -> Result<Option<(i32, i64)>, String> {
        let subject = i32::from_be_bytes(key.try_into().unwrap());
        if subject == BROKEN {
            return Err("broken".to_owned());
        }
        let number = i64::from_be_bytes(value.unwrap().try_into().unwrap());
        Ok(Some((subject, number)))
    }
}
