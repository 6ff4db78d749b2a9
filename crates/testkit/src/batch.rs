//! Record batches built by hand, so that a test can put anything into them.

/// Where the parts of a batch's header begin.
pub mod at {
    /// `magic`, one byte.
    pub const MAGIC: usize = 16;
    /// `crc`, four bytes.
    pub const CRC: usize = 17;
    /// `attributes`, two bytes; the checksum covers everything from here.
    pub const ATTRIBUTES: usize = 21;
    /// `lastOffsetDelta`, four bytes.
    pub const LAST_OFFSET_DELTA: usize = 23;
    /// `producerId`, eight bytes.
    pub const PRODUCER_ID: usize = 43;
    /// `recordsCount`, four bytes.
    pub const RECORDS_COUNT: usize = 57;
    /// The first record.
    pub const RECORDS: usize = 61;
}

/// A sound batch of magic 2 without compression: these values, no keys, no headers.
pub fn batch(values: &[&[u8]]) -> Vec<u8> {
    let mut records = Vec::new();
    for (delta, value) in values.iter().enumerate() {
        let mut record = vec![0];
        varint(&mut record, 0);
        varint(&mut record, delta as i64);
        varint(&mut record, -1);
        varint(&mut record, value.len() as i64);
        record.extend_from_slice(value);
        varint(&mut record, 0);
        varint(&mut records, record.len() as i64);
        records.extend(record);
    }
    let count = values.len() as i32;
    let mut batch = Vec::new();
    batch.extend(0i64.to_be_bytes());
    batch.extend((at::RECORDS as i32 - 12 + records.len() as i32).to_be_bytes());
    batch.extend((-1i32).to_be_bytes());
    batch.push(2);
    batch.extend([0; 4]);
    batch.extend(0i16.to_be_bytes());
    batch.extend((count - 1).to_be_bytes());
    batch.extend([1_700_000_000_000i64.to_be_bytes(); 2].concat());
    batch.extend((-1i64).to_be_bytes());
    batch.extend((-1i16).to_be_bytes());
    batch.extend((-1i32).to_be_bytes());
    batch.extend(count.to_be_bytes());
    batch.extend(records);
    seal(&mut batch);
    batch
}

/// Writes the checksum that fits the bytes.
pub fn seal(batch: &mut [u8]) {
    let sum = crc32c::crc32c(&batch[at::ATTRIBUTES..]);
    batch[at::CRC..at::ATTRIBUTES].copy_from_slice(&sum.to_be_bytes());
}

fn varint(out: &mut Vec<u8>, value: i64) {
    let mut zigzag = (value << 1 ^ value >> 63) as u64;
    while zigzag >= 0x80 {
        out.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}
