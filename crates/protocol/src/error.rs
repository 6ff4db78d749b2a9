//! What can go wrong between bytes and values.

/// Bytes that are not what they claim to be.
///
/// Nothing here says where in the input: a peer that sends such bytes is cut off, not helped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A value is longer than what is left.
    #[error("the input ends before the value does")]
    End,
    /// The schema has no such version.
    #[error("{message} has no version {version}")]
    Version {
        /// The schema's name.
        message: &'static str,
        /// The version asked for.
        version: i16,
    },
    /// Null, where this version does not allow it.
    #[error("null where a value must be")]
    Null,
    /// A length below zero that does not mean null, or one beyond what its kind may have.
    #[error("a length of {0}")]
    Length(i64),
    /// More elements than the bytes that are left could hold.
    #[error("{0} elements in too few bytes")]
    Count(u32),
    /// A text that is not UTF-8.
    #[error("a text that is not UTF-8")]
    Text,
    /// A variable-length number with too many bytes.
    #[error("a variable-length number that does not end")]
    Varint,
    /// A value that leaves bytes unread where it had to use all of them.
    #[error("{0} bytes behind the value")]
    Trailing(usize),
}

/// Values that a version cannot carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The schema has no such version.
    #[error("{message} has no version {version}")]
    Version {
        /// The schema's name.
        message: &'static str,
        /// The version asked for.
        version: i16,
    },
    /// A field that must not be dropped is set, and this version has no place for it.
    #[error("{field} of {structure} cannot be written in version {version}")]
    Absent {
        /// The Rust path of the struct.
        structure: &'static str,
        /// The schema's name of the field.
        field: &'static str,
        /// The version asked for.
        version: i16,
    },
    /// Null, where this version does not allow it.
    #[error("{field} of {structure} cannot be null in version {version}")]
    Null {
        /// The Rust path of the struct.
        structure: &'static str,
        /// The schema's name of the field.
        field: &'static str,
        /// The version asked for.
        version: i16,
    },
    /// A text, a byte string or an array beyond what the format can say.
    #[error("a length of {0} cannot be written")]
    Length(usize),
}

/// Either side's failure, where both are done in one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The input could not be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The values could not be written.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}
