//! Records that are not for applications: transaction markers and those of the metadata quorum.

use crate::Reader;

/// What a control record says; its key is a version and this number (Kafka class
/// `ControlRecordType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlType {
    /// The producer's transaction was aborted.
    Abort,
    /// The producer's transaction was committed.
    Commit,
    /// A quorum elected a leader.
    LeaderChange,
    /// A metadata snapshot begins.
    SnapshotHeader,
    /// A metadata snapshot ends.
    SnapshotFooter,
    /// The format of the quorum's own state.
    KraftVersion,
    /// The voters of the quorum.
    KraftVoters,
    /// Something newer: to be skipped.
    Unknown(i16),
}

impl ControlType {
    /// What the control record with this key says; `None` if the key is no control record's.
    pub fn of_key(key: &[u8]) -> Option<ControlType> {
        let mut reader = Reader::new(key);
        let version = reader.i16().ok()?;
        if version < 0 {
            return None;
        }
        Some(match reader.i16().ok()? {
            0 => ControlType::Abort,
            1 => ControlType::Commit,
            2 => ControlType::LeaderChange,
            3 => ControlType::SnapshotHeader,
            4 => ControlType::SnapshotFooter,
            5 => ControlType::KraftVersion,
            6 => ControlType::KraftVoters,
            other => ControlType::Unknown(other),
        })
    }

    /// The number in a key.
    pub fn id(self) -> i16 {
        match self {
            ControlType::Abort => 0,
            ControlType::Commit => 1,
            ControlType::LeaderChange => 2,
            ControlType::SnapshotHeader => 3,
            ControlType::SnapshotFooter => 4,
            ControlType::KraftVersion => 5,
            ControlType::KraftVoters => 6,
            ControlType::Unknown(id) => id,
        }
    }

    /// The key of a record that says so, in version 0.
    pub fn key(self) -> [u8; 4] {
        let [high, low] = self.id().to_be_bytes();
        [0, 0, high, low]
    }
}
