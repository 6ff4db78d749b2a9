//! Messages in pieces: long values go between sockets, disks and memory without being copied.
//!
//! On the wire these are ordinary gRPC messages. What differs from the generated services is that a
//! message leaves as several `Bytes`, long values among them as they are, and that long values of a
//! message that came in share the memory it was read into.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

/// Five bytes stand before each message: whether it is compressed, and its length.
pub(crate) const PREFIX_BYTES: usize = 5;

/// From this length on a value leaves as a piece of its own; copying a shorter one costs less than
/// another system call.
const MIN_OWN_PIECE_BYTES: usize = 16 * 1024;

/// From this length on a value shares the memory it was read into; a shorter one would keep alive
/// more than it is worth.
const MIN_SHARED_BYTES: usize = 4 * 1024;

/// A message on its way out, written front to back.
pub struct PieceWriter {
    done: Vec<Bytes>,
    open: BytesMut,
}

impl PieceWriter {
    /// Begins a message of `len` bytes.
    pub fn new(len: usize) -> PieceWriter {
        let mut open = BytesMut::with_capacity(PREFIX_BYTES + len.min(MIN_OWN_PIECE_BYTES));
        open.put_u8(0);
        open.put_u32(u32::try_from(len).expect("messages are bounded far below 4 GiB"));
        PieceWriter {
            done: Vec::new(),
            open,
        }
    }

    /// Where short parts are encoded to.
    pub fn short(&mut self) -> &mut BytesMut {
        &mut self.open
    }

    /// Writes a value, as it is if it is long.
    pub fn value(&mut self, value: Bytes) {
        if value.len() < MIN_OWN_PIECE_BYTES {
            return self.open.put_slice(&value);
        }
        if !self.open.is_empty() {
            self.done.push(self.open.split().freeze());
        }
        self.done.push(value);
    }

    /// The message.
    pub fn finish(mut self) -> Vec<Bytes> {
        if !self.open.is_empty() {
            self.done.push(self.open.freeze());
        }
        self.done
    }
}

/// A short message, in one piece.
pub fn in_one_piece(message: &impl Message) -> Vec<Bytes> {
    let len = message.encoded_len();
    let mut writer = PieceWriter::new(len);
    writer.short().reserve(len);
    message.encode_raw(writer.short());
    writer.finish()
}

/// What has been received and not been decoded yet.
#[derive(Default)]
pub(crate) struct Received {
    /// None is empty.
    pieces: VecDeque<Bytes>,
    len: usize,
}

impl Received {
    pub(crate) fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.len += piece.len();
            self.pieces.push_back(piece);
        }
    }

    /// The prefix of the next message, if it is there: the mark of compression, and the length.
    pub(crate) fn prefix(&self) -> Option<(u8, usize)> {
        if self.len < PREFIX_BYTES {
            return None;
        }
        let mut bytes = self.pieces.iter().flatten().copied();
        let compressed = bytes.next()?;
        let len = bytes
            .take(4)
            .fold(0, |len, byte| len << 8 | usize::from(byte));
        Some((compressed, len))
    }
}

impl Buf for Received {
    fn remaining(&self) -> usize {
        self.len
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&[], |piece| piece)
    }

    fn advance(&mut self, count: usize) {
        assert!(count <= self.len, "nobody advances beyond what is there");
        self.len -= count;
        let mut left = count;
        while left > 0
            && let Some(piece) = self.pieces.front_mut()
        {
            if left < piece.len() {
                return piece.advance(left);
            }
            left -= piece.len();
            self.pieces.pop_front();
        }
    }

    fn copy_to_bytes(&mut self, len: usize) -> Bytes {
        if len >= MIN_SHARED_BYTES
            && let Some(piece) = self.pieces.front_mut()
            && piece.len() >= len
        {
            let value = piece.split_to(len);
            if piece.is_empty() {
                self.pieces.pop_front();
            }
            self.len -= len;
            return value;
        }
        let mut value = BytesMut::with_capacity(len);
        value.put(self.take(len));
        value.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(pieces: &[&[u8]]) -> Received {
        let mut received = Received::default();
        for piece in pieces {
            received.push(Bytes::copy_from_slice(piece));
        }
        received
    }

    #[test]
    fn a_long_value_is_not_copied_on_its_way_out_or_in() {
        let long = Bytes::from(vec![7; MIN_OWN_PIECE_BYTES]);
        let mut writer = PieceWriter::new(3 + long.len() + 2);
        writer.short().put_slice(b"abc");
        writer.value(long.clone());
        writer.value(Bytes::from_static(b"de"));
        let pieces = writer.finish();
        assert_eq!(pieces.len(), 3);
        assert_eq!(pieces[1].as_ptr(), long.as_ptr());
        let mut received = Received::default();
        pieces.into_iter().for_each(|piece| received.push(piece));
        assert_eq!(received.prefix(), Some((0, 3 + long.len() + 2)));
        received.advance(PREFIX_BYTES);
        assert_eq!(received.copy_to_bytes(3), b"abc"[..]);
        let value = received.copy_to_bytes(long.len());
        assert_eq!(value.as_ptr(), long.as_ptr());
        assert_eq!(received.copy_to_bytes(2), b"de"[..]);
        assert_eq!(received.remaining(), 0);
    }

    #[test]
    fn bytes_come_out_as_they_went_in_however_they_were_cut() {
        let all: Vec<u8> = (0..=255).cycle().take(3 * MIN_SHARED_BYTES).collect();
        for cut in [1, 2, 3, 100, MIN_SHARED_BYTES - 1, MIN_SHARED_BYTES + 1] {
            let pieces: Vec<&[u8]> = all.chunks(cut).collect();
            let mut received = received(&pieces);
            received.advance(5);
            let value = received.copy_to_bytes(2 * MIN_SHARED_BYTES);
            assert_eq!(value, all[5..][..2 * MIN_SHARED_BYTES]);
            let rest = received.remaining();
            assert_eq!(received.copy_to_bytes(rest), all[all.len() - rest..]);
        }
    }

    #[test]
    fn a_prefix_is_read_across_pieces() {
        assert_eq!(received(&[&[0, 0], &[0, 1]]).prefix(), None);
        assert_eq!(received(&[&[1, 0], &[0, 1], &[2]]).prefix(), Some((1, 258)));
    }
}
