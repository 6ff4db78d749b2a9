//! A leader's message in pieces, so that batches leave without being copied.

use bytes::Bytes;
use millrace_rpc::PieceWriter;
use millrace_rpc::proto::replication as proto;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

/// `LeaderMessage.appends` and `Append.batches` in `proto/replication.proto`.
const APPENDS: u32 = 3;
const BATCHES: u32 = 6;

/// One append: its head, encoded, and how long all of it is.
struct Part {
    head: Vec<u8>,
    batches: Vec<Bytes>,
    len: usize,
}

impl Part {
    fn of(mut append: proto::Append) -> Part {
        let batches = std::mem::take(&mut append.batches);
        let head = append.encode_to_vec();
        let inner = batches.iter().map(|batch| field_len(BATCHES, batch.len()));
        let len = head.len() + inner.sum::<usize>();
        Part { head, batches, len }
    }

    fn write(self, writer: &mut PieceWriter) {
        begin(writer, APPENDS, self.len);
        writer.short().extend_from_slice(&self.head);
        for batch in self.batches {
            begin(writer, BATCHES, batch.len());
            writer.value(batch);
        }
    }
}

/// Length of a field whose value has `len` bytes.
fn field_len(tag: u32, len: usize) -> usize {
    key_len(tag) + encoded_len_varint(len as u64) + len
}

fn begin(writer: &mut PieceWriter, tag: u32, len: usize) {
    encode_key(tag, WireType::LengthDelimited, writer.short());
    encode_varint(len as u64, writer.short());
}

/// The message as the generated code would encode it, but for the order of its fields.
pub(crate) fn pieces(mut message: proto::LeaderMessage) -> Vec<Bytes> {
    let appends = std::mem::take(&mut message.appends);
    let appends: Vec<Part> = appends.into_iter().map(Part::of).collect();
    let inner = appends.iter().map(|part| field_len(APPENDS, part.len));
    let mut writer = PieceWriter::new(message.encoded_len() + inner.sum::<usize>());
    message.encode_raw(writer.short());
    for part in appends {
        part.write(&mut writer);
    }
    writer.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generated_code_reads_what_is_written_by_hand() {
        let append = |partition: i32, sizes: &[usize]| proto::Append {
            topic: Bytes::from_static(&[9; 16]),
            partition,
            leader_epoch: 3,
            round: 7,
            base: 1 << 40,
            batches: sizes.iter().map(|size| vec![1; *size].into()).collect(),
            high_watermark: 5,
            log_start: 1,
            local_log_start: 1,
        };
        let message = proto::LeaderMessage {
            broker_epoch: 11,
            stream: 12,
            appends: vec![
                append(0, &[]),
                append(1, &[70, 20_000, 3, 100_000]),
                append(300, &[16 * 1024, 16 * 1024 - 1]),
            ],
            advances: vec![proto::Advance {
                high_watermark: 8,
                ..Default::default()
            }],
            truncates: vec![proto::Truncate::default()],
            refusals: vec![proto::Refuse::default()],
        };
        let pieces = pieces(message.clone());
        assert!(pieces.len() > 5, "long batches are pieces of their own");
        let bytes = pieces.concat();
        let (prefix, body) = bytes.split_at(5);
        assert_eq!(prefix[0], 0);
        let len = u32::from_be_bytes(prefix[1..].try_into().unwrap());
        assert_eq!(len as usize, body.len());
        assert_eq!(proto::LeaderMessage::decode(body).unwrap(), message);
    }
}
