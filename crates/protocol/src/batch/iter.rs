//! Splitting a buffer into batches of any magic.

use millrace_model::{Offset, Timestamp};

use super::header::{LOG_OVERHEAD, MAGIC_AT};
use super::{BatchError, BatchHeader, RecordSet, check_crc, legacy};

/// Fewest bytes a size field may count: a message of magic 0 without key and value.
const MIN_COUNTED_BYTES: i32 = 14;

/// One whole batch in a buffer, of magic 0, 1 or 2. In magic 0 and 1 a message is a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawBatch<'a> {
    /// All its bytes.
    pub bytes: &'a [u8],
    /// Its format.
    pub magic: i8,
}

/// Iterates over the whole batches of a buffer; see [`batches`].
#[derive(Clone, Debug)]
pub struct Batches<'a> {
    rest: &'a [u8],
}

/// The whole batches in `buffer`, in order. A batch that is cut off at the end is left out; an
/// impossible size or magic is an error, after which there is nothing more (Kafka class
/// `ByteBufferLogInputStream`).
pub fn batches(buffer: &[u8]) -> Batches<'_> {
    Batches { rest: buffer }
}

impl<'a> Batches<'a> {
    /// The bytes not given out: at the end, those of a batch that is cut off.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn split(&mut self) -> Result<Option<RawBatch<'a>>, BatchError> {
        let Some((_, size)) = self.rest.split_first_chunk::<8>() else {
            return Ok(None);
        };
        let Some((size, _)) = size.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let size = i32::from_be_bytes(*size);
        if size < MIN_COUNTED_BYTES {
            return Err(BatchError::TooSmall(i64::from(size)));
        }
        let Some(magic) = self.rest.get(MAGIC_AT).map(|byte| byte.cast_signed()) else {
            return Ok(None);
        };
        if !(0..=2).contains(&magic) {
            return Err(BatchError::Magic(magic));
        }
        match self.rest.split_at_checked(LOG_OVERHEAD + size as usize) {
            Some((bytes, rest)) => {
                self.rest = rest;
                Ok(Some(RawBatch { bytes, magic }))
            }
            None => Ok(None),
        }
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<RawBatch<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.split() {
            Ok(batch) => batch.map(Ok),
            Err(error) => {
                self.rest = &[];
                Some(Err(error))
            }
        }
    }
}

impl<'a> RawBatch<'a> {
    /// The header of a batch of magic 2.
    ///
    /// # Errors
    /// If the magic is another, or the size is below the header's.
    pub fn header(&self) -> Result<BatchHeader, BatchError> {
        BatchHeader::parse(self.bytes)
    }

    /// Checks the batch's checksum, and that its size can be (Kafka method `ensureValid`).
    ///
    /// # Errors
    /// If it fails.
    pub fn check(&self) -> Result<(), BatchError> {
        match self.magic {
            2 => check_crc(self.bytes).map(|_| ()),
            _ => legacy::check(self.bytes),
        }
    }

    /// The offset of the first record. For a compressed batch of magic 0 or 1, which does not say,
    /// that of the last.
    pub fn base_offset(&self) -> Offset {
        let (offset, _) = self
            .bytes
            .split_first_chunk::<8>()
            .expect("the batch is whole");
        Offset(i64::from_be_bytes(*offset))
    }

    /// The offset of the last record.
    ///
    /// # Errors
    /// If the header is broken.
    pub fn last_offset(&self) -> Result<Offset, BatchError> {
        match self.magic {
            2 => Ok(self.header()?.last_offset()),
            _ => Ok(self.base_offset()),
        }
    }

    /// The batch's largest timestamp; none in magic 0.
    ///
    /// # Errors
    /// If the header is broken.
    pub fn max_timestamp(&self) -> Result<Timestamp, BatchError> {
        match self.magic {
            2 => Ok(self.header()?.max_timestamp),
            _ => legacy::timestamp(self.bytes),
        }
    }

    /// The records, unpacked if need be into at most `limit` bytes.
    ///
    /// # Errors
    /// If they cannot be unpacked, or are of magic 0 or 1 and broken.
    pub fn records(&self, limit: usize) -> Result<RecordSet<'a>, BatchError> {
        match self.magic {
            2 => RecordSet::of_batch(self.bytes, limit),
            _ => legacy::records(self.bytes, limit),
        }
    }
}
