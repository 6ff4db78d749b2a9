//! What a read will give, before it is read.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use millrace_host::{DiskFile, Tasks};

use crate::error::{ReadError, StorageError};
use crate::log::Cold;

/// A run of whole batches.
#[derive(Clone)]
pub enum Part {
    /// In memory.
    Memory(Bytes),
    /// In a file, for whoever can send it from there.
    File {
        /// The file; open as long as somebody holds it.
        file: Arc<dyn DiskFile>,
        /// Where the run begins.
        position: u64,
        /// Bytes of the run.
        len: usize,
    },
}

impl Part {
    /// Bytes of the run.
    #[allow(
        clippy::len_without_is_empty,
        reason = "nobody asks whether a part is empty"
    )]
    pub fn len(&self) -> usize {
        match self {
            Part::Memory(bytes) => bytes.len(),
            Part::File { len, .. } => *len,
        }
    }
}

/// Batches that a [`crate::Log`] found in memory, or the promise to find them on disk.
pub struct ReadPlan(Kind);

enum Kind {
    Parts(Vec<Part>),
    Cold(Box<Cold>),
}

impl ReadPlan {
    /// Nothing to read.
    pub fn empty() -> ReadPlan {
        ReadPlan(Kind::Parts(Vec::new()))
    }

    pub(crate) fn of(parts: Vec<Part>) -> ReadPlan {
        ReadPlan(Kind::Parts(parts))
    }

    pub(crate) fn cold(cold: Cold) -> ReadPlan {
        ReadPlan(Kind::Cold(Box::new(cold)))
    }

    /// Whether there is nothing to read.
    pub fn is_empty(&self) -> bool {
        matches!(&self.0, Kind::Parts(parts) if parts.is_empty())
    }

    /// Whether the disk must be asked before more is known.
    pub fn is_cold(&self) -> bool {
        matches!(self.0, Kind::Cold(_))
    }

    /// How many bytes it will give; for a cold plan, how many at most, one larger batch excepted.
    pub fn len(&self) -> usize {
        match &self.0 {
            Kind::Parts(parts) => parts.iter().map(Part::len).sum(),
            Kind::Cold(cold) => cold.max_bytes,
        }
    }

    /// The parts; none of a cold plan, see [`ReadPlan::resolve`].
    pub fn parts(&self) -> &[Part] {
        match &self.0 {
            Kind::Parts(parts) => parts,
            Kind::Cold(_) => &[],
        }
    }

    /// Finds out which bytes of which file a cold plan means, without reading them all.
    pub async fn resolve(self, tasks: &Tasks) -> Result<ReadPlan, ReadError> {
        match self.0 {
            Kind::Parts(parts) => Ok(ReadPlan::of(parts)),
            Kind::Cold(cold) => {
                let part = tasks.blocking(move || cold.locate()).await?;
                Ok(ReadPlan::of(part.into_iter().collect()))
            }
        }
    }

    /// As [`ReadPlan::load`], for whoever is not to be given anything damaged: checksums and offsets
    /// of what comes from a disk are looked at.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] where the disk holds something else than was written; the log's owner
    /// is told so.
    pub async fn load_sound(self, tasks: &Tasks) -> Result<Vec<Bytes>, ReadError> {
        let Kind::Cold(cold) = self.0 else {
            return self.load(tasks).await;
        };
        let cached = cold.load_inline();
        if let Some(bytes) = &cached
            && cold.is_sound(bytes)
        {
            return Ok(cached.into_iter().collect());
        }
        let bytes = tasks.blocking(move || cold.load_sound(cached)).await?;
        Ok(bytes.into_iter().collect())
    }

    /// Reads everything: at once what is in memory or in the page cache, else off the threads that
    /// serve sockets.
    pub async fn load(self, tasks: &Tasks) -> Result<Vec<Bytes>, ReadError> {
        match self.0 {
            Kind::Cold(cold) => {
                if let Some(bytes) = cold.load_inline() {
                    return Ok(vec![bytes]);
                }
                let bytes = tasks.blocking(move || cold.load()).await?;
                Ok(bytes.into_iter().collect())
            }
            Kind::Parts(parts) => {
                let mut loaded = Vec::with_capacity(parts.len());
                for part in parts {
                    loaded.push(match part {
                        Part::Memory(bytes) => bytes,
                        Part::File {
                            file,
                            position,
                            len,
                        } => read_part(tasks, file, position, len).await?,
                    });
                }
                Ok(loaded)
            }
        }
    }
}

async fn read_part(
    tasks: &Tasks,
    file: Arc<dyn DiskFile>,
    position: u64,
    len: usize,
) -> Result<Bytes, ReadError> {
    let mut buffer = vec![0; len];
    if matches!(file.read_at_nowait(&mut buffer, position), Ok(read) if read == len) {
        return Ok(buffer.into());
    }
    let read = tasks
        .blocking(move || {
            let read = file.read_at(&mut buffer, position)?;
            if read < len {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
            Ok(buffer)
        })
        .await;
    let failed = |source| StorageError::Io {
        what: "reading a segment".to_owned(),
        source: Arc::new(source),
    };
    read.map(Bytes::from)
        .map_err(|error| ReadError::Storage(failed(error)))
}
