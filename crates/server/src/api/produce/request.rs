//! Cuts a Produce request into one buffer for each partition, without copying a batch.

use std::ops::Range;

use bytes::{Buf, BytesMut};
use millrace_model::TopicId;
use millrace_protocol::messages::produce_request::ProduceRequest;

use crate::api::{Request, RequestError, decode};

/// A Produce request whose batches are buffers of their own.
pub struct ProduceBatches {
    /// -1 for all in-sync replicas, 1 for the leader, 0 for none.
    pub acks: i16,
    /// How long the client waits for acks=all.
    pub timeout_ms: i32,
    /// In the order of the request.
    pub topics: Vec<TopicBatches>,
}

/// The batches of one topic.
pub struct TopicBatches {
    /// Up to version 12.
    pub name: String,
    /// From version 13 on.
    pub id: TopicId,
    /// In the order of the request.
    pub partitions: Vec<PartitionBatches>,
}

/// The batches of one partition.
pub struct PartitionBatches {
    /// Which partition.
    pub index: i32,
    /// Their bytes, part of the frame; empty if the client sent none.
    pub batches: BytesMut,
}

struct Cut {
    index: i32,
    range: Range<usize>,
}

impl ProduceBatches {
    /// Reads the request and takes its frame apart.
    ///
    /// # Errors
    /// If the bytes are no such request.
    pub fn cut(request: Request, version: i16) -> Result<ProduceBatches, RequestError> {
        let frame = request.frame;
        let decoded: ProduceRequest<'_> = decode(&frame[request.body_at..], version)?;
        let (acks, timeout_ms) = (decoded.acks, decoded.timeout_ms);
        let start = frame.as_ptr().addr();
        let place = |records: Option<&[u8]>| {
            let records = records.unwrap_or_default();
            match records.is_empty() {
                true => 0..0,
                false => {
                    let from = records.as_ptr().addr() - start;
                    from..from + records.len()
                }
            }
        };
        let topics: Vec<(String, TopicId, Vec<Cut>)> = decoded
            .topic_data
            .iter()
            .map(|topic| {
                let cut = topic.partition_data.iter().map(|partition| Cut {
                    index: partition.index,
                    range: place(partition.records),
                });
                (
                    topic.name.to_owned(),
                    TopicId(topic.topic_id),
                    cut.collect(),
                )
            })
            .collect();
        let mut rest = Rest { frame, at: 0 };
        let topics = topics
            .into_iter()
            .map(|(name, id, partitions)| TopicBatches {
                name,
                id,
                partitions: partitions
                    .into_iter()
                    .map(|cut| PartitionBatches {
                        index: cut.index,
                        batches: rest.take(cut.range),
                    })
                    .collect(),
            });
        Ok(ProduceBatches {
            acks,
            timeout_ms,
            topics: topics.collect(),
        })
    }
}

/// What is left of a frame, of which pieces are taken from front to back.
struct Rest {
    frame: BytesMut,
    at: usize,
}

impl Rest {
    fn take(&mut self, range: Range<usize>) -> BytesMut {
        if range.is_empty() {
            return BytesMut::new();
        }
        self.frame.advance(range.start - self.at);
        self.at = range.end;
        self.frame.split_to(range.end - range.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_protocol::Message;
    use millrace_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};

    #[test]
    fn every_partition_gets_its_own_bytes() {
        let bytes: Vec<Vec<u8>> = vec![vec![1; 700], vec![], vec![3; 5], vec![4; 3000]];
        let partition = |index: usize| PartitionProduceData {
            index: index as i32,
            records: Some(&bytes[index]),
            ..Default::default()
        };
        let topic = |name, partitions: &[usize]| TopicProduceData {
            name,
            partition_data: partitions.iter().map(|index| partition(*index)).collect(),
            ..Default::default()
        };
        let request = ProduceRequest {
            acks: -1,
            timeout_ms: 77,
            topic_data: vec![topic("a", &[0, 1]), topic("b", &[2, 3])],
            ..Default::default()
        };
        for version in [3, 9, 12] {
            let mut frame = BytesMut::from(&b"header"[..]);
            frame.extend_from_slice(&request.to_bytes(version).unwrap());
            let request = Request {
                frame,
                body_at: 6,
                correlation_id: 0,
            };
            let cut = ProduceBatches::cut(request, version).unwrap();
            assert_eq!((cut.acks, cut.timeout_ms), (-1, 77));
            let all = cut.topics.iter().flat_map(|topic| &topic.partitions);
            for (place, partition) in all.enumerate() {
                assert_eq!(partition.index, place as i32);
                assert_eq!(partition.batches, bytes[place][..]);
            }
        }
    }
}
