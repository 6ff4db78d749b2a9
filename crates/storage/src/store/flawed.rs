//! Directories of partitions that could not be opened: they stay as they are until whoever knows who
//! else has what they held wants them set aside.

use std::path::PathBuf;

use millrace_model::TopicName;

use super::{Inner, Store, recovery};
use crate::error::StorageError;
use crate::lock;

/// Why the directory of a partition could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// It does not tell to which topic of its name it belongs, as a power cut leaves it where
    /// nothing was synced; nor does anything say that it ever held what was committed. Under fsync
    /// durability that is settled before the first batch is acknowledged.
    Unborn,
    /// The same, but some of it was committed: a power cut explains that under page-cache
    /// durability alone.
    Nameless,
    /// Something that was durable is damaged or missing.
    Damaged,
}

/// A directory that could not be opened.
pub(super) struct Unusable {
    pub(super) path: PathBuf,
    pub(super) flaw: Flaw,
}

impl Store {
    /// What is the matter with the directory of this partition; nothing if there is none that could
    /// not be opened.
    pub fn unusable(&self, topic: &TopicName, index: i32) -> Option<Flaw> {
        let unusable = lock(&self.0.unusable);
        unusable
            .get(&(topic.clone(), index))
            .map(|found| found.flaw)
    }

    /// The partitions whose directories could not be opened.
    pub fn all_unusable(&self) -> Vec<(TopicName, i32)> {
        lock(&self.0.unusable).keys().cloned().collect()
    }

    /// Renames the directory of a partition that could not be opened with `-stray`; its files stay.
    /// Nothing happens if there is none.
    pub async fn set_unusable_aside(
        &self,
        topic: &TopicName,
        index: i32,
    ) -> Result<(), StorageError> {
        let (inner, key) = (self.0.clone(), (topic.clone(), index));
        let tasks = &self.0.shared.host.tasks;
        tasks.blocking(move || inner.set_unusable_aside(&key)).await
    }
}

impl Inner {
    fn set_unusable_aside(&self, key: &(TopicName, i32)) -> Result<(), StorageError> {
        let Some(path) = lock(&self.unusable)
            .get(key)
            .map(|found| found.path.clone())
        else {
            return Ok(());
        };
        let mut directories = self.directories.iter();
        if let Some(open) = directories.find(|open| path.parent() == Some(&open.directory.path)) {
            recovery::set_aside(&self.shared, &open.directory, &path, key)?;
            lock(&open.directory.kept).remove(key);
        }
        lock(&self.unusable).remove(key);
        Ok(())
    }
}
