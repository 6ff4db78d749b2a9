//! What an acknowledgement means.

use std::fmt;
use std::str::FromStr;

/// What a replica has done with a batch before it acknowledges it (`millrace.durability`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Durability {
    /// The batch survives a power cut: fdatasync has returned.
    #[default]
    Fsync,
    /// The batch is in the operating system's page cache, which is what Kafka waits for.
    PageCache,
}

impl Durability {
    /// The value as a configuration writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Durability::Fsync => "fsync",
            Durability::PageCache => "page-cache",
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Durability {
    type Err = String;

    fn from_str(text: &str) -> Result<Durability, String> {
        match text {
            "fsync" => Ok(Durability::Fsync),
            "page-cache" => Ok(Durability::PageCache),
            other => Err(format!("'{other}' is neither fsync nor page-cache")),
        }
    }
}
