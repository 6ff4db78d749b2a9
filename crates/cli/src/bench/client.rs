//! What producers of a bench are told, with the stock tools' names for it.

use std::time::Duration;

use clap::{Args, ValueEnum};
use millrace_client::{Acks, Compression, ProducerOptions};
use serde_json::{Value, json};

use crate::failure::Failure;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// How producers write.
#[derive(Args, Clone, Debug)]
pub struct ProducerArgs {
    /// How many producers, each with connections of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub producers: u16,
    /// Who must have a record: 0, 1 or all
    #[arg(long, value_name = "ACKS", default_value = "all", value_parser = ["0", "1", "all", "-1"], allow_hyphen_values = true)]
    acks: String,
    /// How long a batch waits for more records, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 0)]
    linger_ms: u64,
    /// Bytes of a batch
    #[arg(long, value_name = "BYTES", default_value_t = 16_384)]
    batch_size: usize,
    /// How batches are compressed
    #[arg(long, value_enum, default_value = "none")]
    compression: Codec,
    /// Requests on the way to one broker at once
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    max_in_flight: u16,
    /// Do without sequence numbers, which acks=all otherwise brings
    #[arg(long)]
    no_idempotence: bool,
    /// Bytes that unacknowledged records of one producer may take
    #[arg(long, value_name = "BYTES", default_value_t = 32 << 20)]
    buffer_memory: usize,
    /// How long a broker may take, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 30_000)]
    request_timeout_ms: u64,
    /// After how long a record that is not acknowledged has failed, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 120_000)]
    delivery_timeout_ms: u64,
}

impl ProducerArgs {
    /// The same for the client.
    pub fn options(&self) -> Result<ProducerOptions, Failure> {
        if self.batch_size > self.buffer_memory {
            let message = "--batch-size must not be larger than --buffer-memory";
            return Err(Failure::new(message));
        }
        let acks = match self.acks.as_str() {
            "0" => Acks::None,
            "1" => Acks::Leader,
            _ => Acks::All,
        };
        Ok(ProducerOptions {
            acks,
            idempotent: acks == Acks::All && !self.no_idempotence,
            compression: match self.compression {
                Codec::None => Compression::None,
                Codec::Gzip => Compression::Gzip,
                Codec::Snappy => Compression::Snappy,
                Codec::Lz4 => Compression::Lz4,
                Codec::Zstd => Compression::Zstd,
            },
            batch_bytes: self.batch_size,
            linger: Duration::from_millis(self.linger_ms),
            max_in_flight: self.max_in_flight.into(),
            memory_bytes: self.buffer_memory,
            delivery_limit: Duration::from_millis(self.delivery_timeout_ms),
            request_limit: Duration::from_millis(self.request_timeout_ms),
        })
    }

    /// The same for a report.
    pub fn settings(&self) -> Value {
        json!({
            "producers": self.producers,
            "acks": self.acks,
            "linger_ms": self.linger_ms,
            "batch_size": self.batch_size,
            "compression": format!("{:?}", self.compression).to_lowercase(),
            "max_in_flight": self.max_in_flight,
            "idempotent": self.acks != "0" && self.acks != "1" && !self.no_idempotence,
        })
    }
}
