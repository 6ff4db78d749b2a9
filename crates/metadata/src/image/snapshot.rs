//! Snapshots: an image as a stream of records, written and read in pieces of bounded size.
//!
//! The stream is a header, every record that makes the image, and a footer that counts them, each
//! preceded by its length. Whoever stores or sends the pieces guards them by checksums.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use millrace_model::{BrokerEpoch, ImageVersion};
use prost::Message;

use super::Image;
use super::apply::Writer;
use crate::config::Resource;
use crate::record::{DecodeError, Record, RecordFrame, UnknownFields};

/// The version of the stream's format.
const FORMAT: u32 = 1;
/// Largest record in a stream, so that a broken length makes nobody wait for gigabytes.
const MAX_RECORD_BYTES: usize = 16 * 1024 * 1024;
const LENGTH_BYTES: usize = 4;

/// Why a stream is no snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// A record cannot be read.
    #[error("snapshot holds what this build cannot read: {0}")]
    Record(#[from] DecodeError),
    /// The stream is no snapshot, ends early, or does not make a valid image.
    #[error("snapshot is damaged: {0}")]
    Damaged(String),
    /// The stream is in a format from the future.
    #[error("snapshot has format {0}, but this build reads format {FORMAT}")]
    Format(u32),
}

#[derive(Clone, PartialEq, Message)]
struct Header {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(uint64, tag = "2")]
    version: u64,
    #[prost(int64, tag = "3")]
    last_broker_epoch: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Item {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
    #[prost(message, optional, tag = "2")]
    record: Option<RecordFrame>,
    /// The footer: how many records there were.
    #[prost(uint64, optional, tag = "3")]
    records: Option<u64>,
}

impl Image {
    /// The image as records, in an order in which they can be applied to an empty image.
    pub fn records(&self) -> impl Iterator<Item = Record> + '_ {
        let cluster = self
            .cluster_id
            .iter()
            .map(|id| Record::Cluster { id: id.to_string() });
        let features = self
            .features
            .iter()
            .map(|(name, level)| Record::FeatureLevel {
                name: name.clone(),
                level: *level,
            });
        let brokers = self.brokers.values();
        let controllers = self.controllers.values();
        let producer_ids = (self.next_producer_id.get() > 0).then_some(Record::ProducerIds {
            next: self.next_producer_id,
            broker: millrace_model::BrokerId::NONE,
            broker_epoch: BrokerEpoch(-1),
        });
        cluster
            .chain(features)
            .chain(brokers.map(|b| Record::RegisterBroker((**b).clone())))
            .chain(controllers.map(|c| Record::RegisterController((**c).clone())))
            .chain(producer_ids)
            .chain(self.config_records())
            .chain(self.topic_records())
    }

    /// The snapshot stream, in pieces of about `piece_bytes` made one at a time.
    pub fn encode_snapshot(&self, piece_bytes: usize) -> impl Iterator<Item = Bytes> + '_ {
        let header = Item {
            header: Some(Header {
                format: FORMAT,
                version: self.version.get(),
                last_broker_epoch: self.last_broker_epoch.get(),
            }),
            ..Item::default()
        };
        let mut count = 0;
        let mut records = self.records();
        let mut next = Some(header);
        std::iter::from_fn(move || {
            let mut piece = BytesMut::new();
            while piece.len() < piece_bytes.max(1) {
                let Some(item) = next.take() else {
                    break;
                };
                let finished = item.records.is_some();
                piece.put_u32(item.encoded_len() as u32);
                item.encode(&mut piece)
                    .expect("a buffer that grows has room");
                next = (!finished).then(|| match records.next() {
                    Some(record) => {
                        count += 1;
                        record_item(&record)
                    }
                    None => Item {
                        records: Some(count),
                        ..Item::default()
                    },
                });
            }
            (!piece.is_empty()).then(|| piece.freeze())
        })
    }

    fn config_records(&self) -> impl Iterator<Item = Record> + '_ {
        self.configs.iter().flat_map(|(resource, settings)| {
            settings
                .iter()
                .map(|(name, value)| config_record(resource, name, value))
        })
    }

    fn topic_records(&self) -> impl Iterator<Item = Record> + '_ {
        self.topics.values().flat_map(|topic| {
            let partitions = self.partitions_of(topic.id);
            let partitions = partitions.map(|(id, partition)| Record::Partition {
                id,
                partition: (**partition).clone(),
            });
            std::iter::once(Record::Topic {
                id: topic.id,
                name: topic.name.clone(),
                unknown: UnknownFields::clone(&topic.unknown),
            })
            .chain(partitions)
        })
    }
}

/// Reads a snapshot stream, however it is cut; holds one incomplete record beside the image.
#[derive(Default)]
pub struct SnapshotDecoder {
    pending: BytesMut,
    writer: Option<Writer>,
    last_broker_epoch: BrokerEpoch,
    records: u64,
    complete: bool,
}

impl SnapshotDecoder {
    /// Waits for the first piece.
    pub fn new() -> SnapshotDecoder {
        SnapshotDecoder::default()
    }

    /// Takes the next piece of the stream.
    ///
    /// # Errors
    /// When it cannot belong to a snapshot; the decoder is of no use then.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), SnapshotError> {
        self.pending.extend_from_slice(piece);
        while self.pending.len() >= LENGTH_BYTES {
            let length = (&self.pending[..]).get_u32() as usize;
            if length > MAX_RECORD_BYTES {
                return Err(damaged(format!("a record has {length} bytes")));
            }
            if self.pending.len() < LENGTH_BYTES + length {
                break;
            }
            self.pending.advance(LENGTH_BYTES);
            let item = self.pending.split_to(length).freeze();
            let item = Item::decode(item).map_err(|e| damaged(e.to_string()))?;
            self.item(item)?;
        }
        Ok(())
    }

    /// The image, once all pieces were pushed.
    ///
    /// # Errors
    /// When the stream ended early or the image is not valid.
    pub fn finish(self) -> Result<Image, SnapshotError> {
        if !self.complete || !self.pending.is_empty() {
            return Err(damaged("it ends early".to_owned()));
        }
        let Some(mut writer) = self.writer else {
            return Err(damaged("it is empty".to_owned()));
        };
        writer.restore(self.last_broker_epoch);
        writer.image.validate().map_err(damaged)?;
        Ok(writer.image)
    }

    fn item(&mut self, item: Item) -> Result<(), SnapshotError> {
        if self.complete {
            return Err(damaged("it goes on after its end".to_owned()));
        }
        match (&mut self.writer, item) {
            (
                None,
                Item {
                    header: Some(header),
                    ..
                },
            ) => self.header(&header),
            (
                Some(writer),
                Item {
                    record: Some(record),
                    ..
                },
            ) => {
                self.records += 1;
                // Brokers stand in the stream by number, not by the order of their epochs.
                writer.image.last_broker_epoch = BrokerEpoch(-1);
                writer.record(&record.open()?).map_err(damaged)
            }
            (
                Some(_),
                Item {
                    records: Some(records),
                    ..
                },
            ) if records == self.records => {
                self.complete = true;
                Ok(())
            }
            _ => Err(damaged("it is out of order".to_owned())),
        }
    }

    fn header(&mut self, header: &Header) -> Result<(), SnapshotError> {
        if header.format != FORMAT {
            return Err(SnapshotError::Format(header.format));
        }
        let version = ImageVersion(header.version);
        let writer = Writer::new(Image::default(), version);
        self.last_broker_epoch = BrokerEpoch(header.last_broker_epoch);
        self.writer = Some(writer);
        Ok(())
    }
}

impl std::fmt::Debug for SnapshotDecoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SnapshotDecoder({} records)", self.records)
    }
}

fn config_record(resource: &Resource, name: &str, value: &str) -> Record {
    Record::Config {
        resource: resource.clone(),
        name: name.to_owned(),
        value: Some(value.to_owned()),
    }
}

fn record_item(record: &Record) -> Item {
    Item {
        record: Some(RecordFrame::of(record)),
        ..Item::default()
    }
}

fn damaged(why: String) -> SnapshotError {
    SnapshotError::Damaged(why)
}
