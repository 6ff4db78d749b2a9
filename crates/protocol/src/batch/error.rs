//! What can be wrong with a batch.

use millrace_model::ErrorCode;

use crate::compression::CompressionError;

/// Why bytes are no sound batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The bytes end before the batch does.
    #[error("the batch is cut off")]
    CutOff,
    /// A size field below what any batch of its magic takes.
    #[error("record batch of {0} bytes is smaller than its header")]
    TooSmall(i64),
    /// A format that Kafka does not know, or that has no place here.
    #[error("found record batch with magic {0}")]
    Magic(i8),
    /// The bytes were changed.
    #[error("record is corrupt (stored crc = {stored}, computed crc = {computed})")]
    Crc {
        /// What the batch says.
        stored: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// The records cannot be unpacked.
    #[error(transparent)]
    Compression(#[from] CompressionError),
    /// The records are not what the header or their own lengths say.
    #[error("{0}")]
    Record(RecordFault),
}

/// What is wrong with a record, or with the records as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordFault {
    /// A record count below zero.
    #[error("found invalid record count {0} in magic v2 batch")]
    NegativeCount(i32),
    /// Fewer bytes than the count of records needs.
    #[error("incorrect declared batch size, premature EOF reached")]
    TooFew,
    /// Bytes behind the last record.
    #[error("incorrect declared batch size, records still remaining in file")]
    TooMany,
    /// A record longer than what is left of the batch, or with lengths that do not add up.
    #[error("invalid record size")]
    Size,
    /// A header without a key, or a negative number of headers.
    #[error("found invalid record header")]
    Header,
    /// A compressed message inside a compressed message.
    #[error("inner records are not allowed to be compressed")]
    Nested,
    /// An inner message of another magic than its wrapper.
    #[error("inner record magic does not match outer magic")]
    InnerMagic,
}

impl BatchError {
    /// The code Kafka gives for it.
    ///
    /// Where Kafka's own failure is an unexpected one (data that does not unpack), the producer
    /// gets INVALID_RECORD: it must not send the same again.
    pub fn code(&self) -> ErrorCode {
        match self {
            BatchError::CutOff
            | BatchError::TooSmall(_)
            | BatchError::Magic(_)
            | BatchError::Crc { .. } => ErrorCode::CorruptMessage,
            BatchError::Compression(CompressionError::Unknown(_)) => {
                ErrorCode::UnsupportedCompressionType
            }
            BatchError::Compression(_) | BatchError::Record(_) => ErrorCode::InvalidRecord,
        }
    }
}
