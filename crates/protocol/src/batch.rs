//! Record batches: how Kafka keeps records on the wire and on disk, byte for byte the same.
//!
//! A batch of magic 2 (KIP-98) is a header of 61 bytes and records, packed or not. Its checksum
//! begins at the attributes, so base offset and leader epoch are stamped in place without touching
//! it. Magic 0 and 1 are read, not written.

mod builder;
mod compacted;
mod control;
mod error;
mod header;
mod iter;
mod legacy;
mod record;
mod validate;

pub use builder::{BatchBuilder, BatchOptions, rewritten};
pub use compacted::{emptied, retained};
pub use control::ControlType;
pub use error::{BatchError, RecordFault};
pub use header::{
    BatchHeader, HEADER_BYTES, TimestampType, check_crc, renumber, set_max_timestamp, stamp,
};
pub use iter::{Batches, RawBatch, batches};
pub use record::{Record, RecordHeader, RecordSet};
pub use validate::{Origin, RecordRefusal, Refusal, Rules, SoleBatch, ValidBatch};
