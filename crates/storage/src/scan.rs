//! Goes through the batches of a segment file, by heads alone or with checksums.

use std::io;

use millrace_host::DiskFile;
use millrace_model::Planted;

use crate::batch::{self, HEADER_BYTES, Header};

/// Bytes read at once when only heads are wanted: one read for many small batches, not much
/// wasted on large ones.
const HEADS_BUFFER_BYTES: usize = 16 << 10;
/// Bytes read at once when everything is wanted.
const WHOLE_BUFFER_BYTES: usize = 1 << 20;
/// The same where others are to get at the processor in between.
const WINDOW_BYTES: usize = 256 << 10;

/// What comes next in a segment.
#[derive(Debug)]
pub(crate) enum Step {
    /// A batch that begins at this position.
    Batch(u64, Header),
    /// The end, exactly behind a batch.
    End,
    /// Bytes that are no whole batch; the text says why.
    Torn(String),
}

/// What comes next where wrong checksums are to be told from bytes that are no batch.
#[derive(Debug)]
pub(crate) enum Checked {
    /// A batch that begins at this position, and whether its checksum is right.
    Batch(u64, Header, bool),
    /// The end, exactly behind a batch.
    End,
    /// Bytes that are no whole batch; the text says why.
    Torn(String),
}

/// What a scan has read and the next one, of the same bytes, need not read again.
#[derive(Debug, Default)]
pub(crate) struct Window {
    buffer: Vec<u8>,
    buffer_at: u64,
}

/// Where a scan of one file stands.
pub(crate) struct Scanner<'a> {
    file: &'a dyn DiskFile,
    position: u64,
    end: u64,
    chunk: usize,
    buffer: Vec<u8>,
    buffer_at: u64,
}

impl<'a> Scanner<'a> {
    /// A scan by heads from `position`, where a batch begins, to `end`.
    pub(crate) fn heads(file: &'a dyn DiskFile, position: u64, end: u64) -> Scanner<'a> {
        let (buffer, buffer_at) = (Vec::new(), position);
        Scanner {
            file,
            position,
            end,
            chunk: HEADS_BUFFER_BYTES,
            buffer,
            buffer_at,
        }
    }

    /// A scan that verifies checksums.
    pub(crate) fn whole(file: &'a dyn DiskFile, end: u64) -> Scanner<'a> {
        Scanner {
            chunk: WHOLE_BUFFER_BYTES,
            ..Scanner::heads(file, 0, end)
        }
    }

    /// A scan that verifies checksums, from `position` on.
    pub(crate) fn whole_from(file: &'a dyn DiskFile, position: u64, end: u64) -> Scanner<'a> {
        Scanner {
            chunk: WHOLE_BUFFER_BYTES,
            ..Scanner::heads(file, position, end)
        }
    }

    /// A scan that verifies checksums, from `position` on, in short reads. `window` is what an
    /// earlier one of the same file left.
    pub(crate) fn resume(
        file: &'a dyn DiskFile,
        position: u64,
        end: u64,
        window: Window,
    ) -> Scanner<'a> {
        let Window { buffer, buffer_at } = window;
        Scanner {
            chunk: WINDOW_BYTES,
            buffer,
            buffer_at,
            ..Scanner::heads(file, position, end)
        }
    }

    /// What the next scan need not read.
    pub(crate) fn into_window(self) -> Window {
        let (buffer, buffer_at) = (self.buffer, self.buffer_at);
        Window { buffer, buffer_at }
    }

    /// Where the next batch begins.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// `len` bytes at `at`, which lie before the end of the file; fewer if the file ends early.
    fn bytes(&mut self, at: u64, len: usize) -> io::Result<&[u8]> {
        let inside =
            at >= self.buffer_at && at + len as u64 <= self.buffer_at + self.buffer.len() as u64;
        if !inside {
            let rest = usize::try_from(self.end - at).unwrap_or(usize::MAX);
            self.buffer.resize(self.chunk.max(len).min(rest), 0);
            let read = self.file.read_at(&mut self.buffer, at)?;
            self.buffer.truncate(read);
            self.buffer_at = at;
        }
        let start = (at - self.buffer_at) as usize;
        let stop = (start + len).min(self.buffer.len());
        Ok(&self.buffer[start..stop])
    }

    /// The next batch by its head; its bytes need not be right.
    pub(crate) fn next_head(&mut self) -> io::Result<Step> {
        let rest = self.end.saturating_sub(self.position);
        if rest == 0 {
            return Ok(Step::End);
        }
        if rest < HEADER_BYTES as u64 {
            return Ok(Step::Torn(format!("{rest} bytes are too few for a batch")));
        }
        let position = self.position;
        let header = match batch::parse(self.bytes(position, HEADER_BYTES)?) {
            Ok(header) => header,
            Err(why) => return Ok(Step::Torn(why)),
        };
        if header.size as u64 > rest {
            let why = format!("a batch of {} bytes has only {rest}", header.size);
            return Ok(Step::Torn(why));
        }
        self.position += header.size as u64;
        Ok(Step::Batch(position, header))
    }

    /// The next batch, whose checksum is right.
    pub(crate) fn next_verified(&mut self) -> io::Result<Step> {
        match self.next_checked()? {
            Checked::Batch(position, header, true) => Ok(Step::Batch(position, header)),
            Checked::Batch(position, ..) => {
                self.position = position;
                Ok(Step::Torn("a checksum does not match".to_owned()))
            }
            Checked::End => Ok(Step::End),
            Checked::Torn(why) => Ok(Step::Torn(why)),
        }
    }

    /// The next batch, and whether its checksum is right.
    pub(crate) fn next_checked(&mut self) -> io::Result<Checked> {
        let (position, header) = match self.next_head()? {
            Step::Batch(position, header) => (position, header),
            Step::End => return Ok(Checked::End),
            Step::Torn(why) => return Ok(Checked::Torn(why)),
        };
        let bytes = self.bytes(position, header.size)?;
        let sound = batch::crc_matches(bytes) || Planted::TornTailKept.is_here();
        let sound = sound && bytes.len() == header.size;
        Ok(Checked::Batch(position, header, sound))
    }

    /// The bytes of the batch that was returned last.
    pub(crate) fn batch(&mut self, position: u64, header: &Header) -> io::Result<&[u8]> {
        self.bytes(position, header.size)
    }
}
