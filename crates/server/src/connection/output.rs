//! Writes answers: pieces of memory, one after the other, without joining them.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf, Bytes};
use millrace_host::BoxStream;
use millrace_model::limits::{MAX_SOCKET_SLICES, WRITE_STALL};
use tokio::io::AsyncWriteExt;

/// Writes all of `segments`. `TimedOut` when the reader takes nothing for `WRITE_STALL`.
pub async fn write_segments(
    stream: &mut BoxStream,
    mut segments: VecDeque<Bytes>,
) -> io::Result<()> {
    loop {
        while segments.front().is_some_and(Bytes::is_empty) {
            segments.pop_front();
        }
        if segments.is_empty() {
            return Ok(());
        }
        let mut slices = [IoSlice::new(&[]); MAX_SOCKET_SLICES];
        let mut count = 0;
        for (slice, segment) in slices.iter_mut().zip(&segments) {
            *slice = IoSlice::new(segment);
            count += 1;
        }
        let write = stream.write_vectored(&slices[..count]);
        let written = tokio::time::timeout(WRITE_STALL, write).await??;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        advance(&mut segments, written);
    }
}

fn advance(segments: &mut VecDeque<Bytes>, mut written: usize) {
    while let Some(front) = segments.front_mut() {
        if written < front.len() {
            front.advance(written);
            return;
        }
        written -= front.len();
        segments.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advancing_drops_what_was_written() {
        let mut segments: VecDeque<Bytes> =
            [&b"abc"[..], b"", b"defg"].map(Bytes::from_static).into();
        advance(&mut segments, 4);
        assert_eq!(segments, [Bytes::from_static(b"efg")]);
        advance(&mut segments, 3);
        assert!(segments.is_empty());
    }
}
