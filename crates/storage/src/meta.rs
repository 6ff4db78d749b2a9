//! `meta.properties`: whose directory this is (Kafka class `MetaProperties`, version 1).

use std::path::Path;

use millrace_host::Disk;
use millrace_model::{BrokerId, DirectoryId};

use crate::checkpoint;
use crate::error::StorageError;
use crate::names::META_PROPERTIES;

/// The identity of a formatted directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaProperties {
    /// `cluster.id`.
    pub cluster_id: String,
    /// `node.id`.
    pub node_id: BrokerId,
    /// `directory.id`; Kafka before 3.7 wrote none.
    pub directory_id: Option<DirectoryId>,
}

impl MetaProperties {
    /// Reads the file in `directory`; `None` if the directory was never formatted.
    pub fn read(disk: &dyn Disk, directory: &Path) -> Result<Option<MetaProperties>, StorageError> {
        let path = directory.join(META_PROPERTIES);
        match checkpoint::read_identity(disk, &path)? {
            None => Ok(None),
            Some(text) => MetaProperties::decode(&text)
                .map(Some)
                .map_err(|why| StorageError::corrupt(&path, why)),
        }
    }

    /// Writes the file into `directory`, durably.
    pub fn write(&self, disk: &dyn Disk, directory: &Path) -> Result<(), StorageError> {
        checkpoint::replace(disk, &directory.join(META_PROPERTIES), self.encode())
    }

    /// The file's content.
    pub fn encode(&self) -> String {
        let mut text = String::from("#\n");
        text.push_str(&format!("cluster.id={}\n", self.cluster_id));
        if let Some(id) = self.directory_id {
            text.push_str(&format!("directory.id={id}\n"));
        }
        text.push_str(&format!("node.id={}\nversion=1\n", self.node_id));
        text
    }

    /// Understands the file's content, also that of version 0, which says `broker.id`.
    pub fn decode(text: &str) -> Result<MetaProperties, String> {
        let property = |name: &str| {
            text.lines()
                .map(str::trim)
                .filter(|line| !line.starts_with(['#', '!']))
                .filter_map(|line| line.split_once('='))
                .filter(|(key, _)| key.trim() == name)
                .map(|(_, value)| value.trim())
                .next_back()
        };
        let node = match property("version") {
            Some("1") => property("node.id").ok_or("node.id is missing")?,
            Some("0") | None => property("broker.id").ok_or("broker.id is missing")?,
            Some(other) => return Err(format!("version '{other}' is unknown")),
        };
        let node_id = node
            .parse()
            .map_err(|_| format!("'{node}' is no node id"))?;
        let directory_id = match property("directory.id") {
            None => None,
            Some(id) => Some(
                id.parse()
                    .map_err(|_| format!("'{id}' is no directory id"))?,
            ),
        };
        let cluster_id = property("cluster.id").ok_or("cluster.id is missing")?;
        Ok(MetaProperties {
            cluster_id: cluster_id.to_owned(),
            node_id: BrokerId(node_id),
            directory_id,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stock_file_is_understood_and_written_alike() {
        let stock = "#\n#Sat Nov 21 09:19:38 UTC 2026\nnode.id=1\n\
                     directory.id=UaIiCcqORN-zyPdgk9HZHQ\nversion=1\n\
                     cluster.id=AAAAAAAAAAAAAAAAAAAAAQ\n";
        let meta = MetaProperties::decode(stock).unwrap();
        assert_eq!(meta.cluster_id, "AAAAAAAAAAAAAAAAAAAAAQ");
        assert_eq!(meta.node_id, BrokerId(1));
        assert_eq!(
            meta.directory_id,
            Some("UaIiCcqORN-zyPdgk9HZHQ".parse().unwrap())
        );
        assert_eq!(MetaProperties::decode(&meta.encode()), Ok(meta));
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(
            MetaProperties::decode("version=1\nnode.id=1\n"),
            Err("cluster.id is missing".to_owned())
        );
        assert!(MetaProperties::decode("version=2\n").is_err());
        assert!(MetaProperties::decode("version=1\nnode.id=x\ncluster.id=c\n").is_err());
    }
}
