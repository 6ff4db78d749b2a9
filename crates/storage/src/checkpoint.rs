//! The small text files of a log directory: offsets by partition, leader epochs, identities.
//!
//! Offset checkpoints (Kafka class `OffsetCheckpointFile`): the version 0, the number of entries,
//! then `topic partition offset` a line. Leader epochs (`LeaderEpochCheckpointFile`): the same head,
//! then `epoch startOffset` a line.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::path::Path;

use bytes::Bytes;
use millrace_host::{Disk, disk};
use millrace_model::{BrokerEpoch, LeaderEpoch, Offset, TopicId, TopicName};

use crate::error::{StorageError, While};

/// Largest checkpoint that is read: some 250,000 partitions with names of ordinary length.
const MAX_CHECKPOINT_BYTES: u64 = 64 << 20;
/// Largest identity file that is read; real ones have about 100 bytes.
const MAX_IDENTITY_BYTES: u64 = 64 << 10;

/// Offsets by topic name and partition, as a checkpoint file holds them.
pub(crate) type Offsets = BTreeMap<(TopicName, i32), Offset>;

/// The lines of a checkpoint, checked against its head.
fn lines(text: &str) -> Result<impl Iterator<Item = &str>, String> {
    let mut lines = text.lines();
    let version = lines.next().ok_or("it is empty")?;
    if version.trim() != "0" {
        return Err(format!("version '{version}' is unknown"));
    }
    let count = lines.next().ok_or("the number of entries is missing")?;
    let count: usize = count
        .trim()
        .parse()
        .map_err(|_| format!("'{count}' is no number of entries"))?;
    let entries = lines.clone().filter(|line| !line.is_empty()).count();
    if entries != count {
        return Err(format!("it has {entries} entries instead of {count}"));
    }
    Ok(lines.filter(|line| !line.is_empty()))
}

pub(crate) fn encode_offsets(offsets: &Offsets) -> String {
    let mut text = format!("0\n{}\n", offsets.len());
    for ((topic, partition), offset) in offsets {
        let _ = writeln!(text, "{topic} {partition} {offset}");
    }
    text
}

pub(crate) fn decode_offsets(text: &str) -> Result<Offsets, String> {
    let mut offsets = Offsets::new();
    for line in lines(text)? {
        let malformed = || format!("'{line}' is no entry");
        let mut words = line.split_whitespace();
        let (topic, partition, offset) = match (words.next(), words.next(), words.next()) {
            (Some(topic), Some(partition), Some(offset)) => (topic, partition, offset),
            _ => return Err(malformed()),
        };
        let topic = TopicName::new(topic).map_err(|_| malformed())?;
        let partition = partition.parse().map_err(|_| malformed())?;
        let offset = offset.parse().map_err(|_| malformed())?;
        offsets.insert((topic, partition), Offset(offset));
    }
    Ok(offsets)
}

pub(crate) fn encode_epochs(epochs: &[(LeaderEpoch, Offset)]) -> String {
    let mut text = format!("0\n{}\n", epochs.len());
    for (epoch, start) in epochs {
        let _ = writeln!(text, "{epoch} {start}");
    }
    text
}

pub(crate) fn decode_epochs(text: &str) -> Result<Vec<(LeaderEpoch, Offset)>, String> {
    let mut epochs = Vec::new();
    for line in lines(text)? {
        let entry = line.split_once(' ').and_then(|(epoch, start)| {
            Some((
                LeaderEpoch(epoch.parse().ok()?),
                Offset(start.trim().parse().ok()?),
            ))
        });
        epochs.push(entry.ok_or_else(|| format!("'{line}' is no entry"))?);
    }
    Ok(epochs)
}

pub(crate) fn encode_partition_metadata(topic: TopicId) -> String {
    format!("version: 0\ntopic_id: {topic}")
}

pub(crate) fn decode_partition_metadata(text: &str) -> Result<TopicId, String> {
    let mut lines = text.lines();
    match lines.next() {
        Some("version: 0") => {}
        other => return Err(format!("'{}' is no known version", other.unwrap_or(""))),
    }
    let id = lines
        .next()
        .and_then(|line| line.strip_prefix("topic_id: "));
    let id = id.ok_or("the topic id is missing")?;
    id.trim()
        .parse()
        .map_err(|_| format!("'{id}' is no topic id"))
}

pub(crate) fn encode_clean_shutdown(epoch: BrokerEpoch) -> String {
    format!("{{\"version\":0,\"brokerEpoch\":{epoch}}}")
}

/// The broker epoch of a clean-shutdown marker; `None` where it is not said.
pub(crate) fn decode_clean_shutdown(text: &str) -> Option<BrokerEpoch> {
    let (_, rest) = text.split_once("\"brokerEpoch\"")?;
    let number = rest.trim_start().strip_prefix(':')?.trim_start();
    let end = number
        .find(|c: char| !c.is_ascii_digit() && c != '-')
        .unwrap_or(number.len());
    number[..end].parse().ok().map(BrokerEpoch)
}

/// Reads a text file; `None` if there is none.
pub(crate) fn read_text(
    disk: &dyn Disk,
    path: &Path,
    limit: u64,
) -> Result<Option<String>, StorageError> {
    match disk::read_file(disk, path, limit) {
        Ok(content) => match String::from_utf8(content) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(StorageError::corrupt(path, "it is not UTF-8")),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StorageError::io("reading", path, error)),
    }
}

/// Reads a checkpoint of offsets; an absent file holds none.
pub(crate) fn read_offsets(disk: &dyn Disk, path: &Path) -> Result<Offsets, StorageError> {
    match read_text(disk, path, MAX_CHECKPOINT_BYTES)? {
        None => Ok(Offsets::new()),
        Some(text) => decode_offsets(&text).map_err(|why| StorageError::corrupt(path, why)),
    }
}

pub(crate) fn write_offsets(
    disk: &dyn Disk,
    path: &Path,
    offsets: &Offsets,
) -> Result<(), StorageError> {
    replace(disk, path, encode_offsets(offsets))
}

pub(crate) fn read_identity(disk: &dyn Disk, path: &Path) -> Result<Option<String>, StorageError> {
    read_text(disk, path, MAX_IDENTITY_BYTES)
}

pub(crate) fn replace(disk: &dyn Disk, path: &Path, text: String) -> Result<(), StorageError> {
    disk::replace_file(disk, path, Bytes::from(text)).doing("writing", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_written_as_kafka_does() {
        let mut offsets = Offsets::new();
        offsets.insert((TopicName::new("plain").unwrap(), 0), Offset(60));
        offsets.insert((TopicName::new("a.b").unwrap(), 12), Offset(7));
        let text = encode_offsets(&offsets);
        assert_eq!(text, "0\n2\na.b 12 7\nplain 0 60\n");
        assert_eq!(decode_offsets(&text), Ok(offsets));
        assert_eq!(decode_offsets("0\n0\n"), Ok(Offsets::new()));
    }

    #[test]
    fn damaged_checkpoints_are_refused() {
        for bad in [
            "",
            "1\n0\n",
            "0\n",
            "0\nx\n",
            "0\n2\na 0 1\n",
            "0\n1\na 0\n",
            "0\n1\na 0 x\n",
        ] {
            assert!(decode_offsets(bad).is_err(), "{bad:?}");
        }
        for bad in ["0\n1\n5\n", "0\n1\nx 5\n", "0\n2\n1 5\n"] {
            assert!(decode_epochs(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn epochs_are_written_as_kafka_does() {
        let epochs = vec![(LeaderEpoch(0), Offset(0)), (LeaderEpoch(5), Offset(100))];
        assert_eq!(encode_epochs(&epochs), "0\n2\n0 0\n5 100\n");
        assert_eq!(decode_epochs(&encode_epochs(&epochs)), Ok(epochs));
    }

    #[test]
    fn identities_are_written_as_kafka_does() {
        let text = "version: 0\ntopic_id: Tt6qvHRxQMuVfnceAfvNnw";
        let id = decode_partition_metadata(text).unwrap();
        assert_eq!(encode_partition_metadata(id), text);
        assert!(decode_partition_metadata("version: 1\ntopic_id: x").is_err());
        assert!(decode_partition_metadata("version: 0\n").is_err());

        let marker = "{\"version\":0,\"brokerEpoch\":14}";
        assert_eq!(decode_clean_shutdown(marker), Some(BrokerEpoch(14)));
        assert_eq!(encode_clean_shutdown(BrokerEpoch(14)), marker);
        assert_eq!(
            decode_clean_shutdown("{ \"brokerEpoch\" : -1 }"),
            Some(BrokerEpoch(-1))
        );
        assert_eq!(decode_clean_shutdown(""), None);
    }
}
