//! When failed log directories end the node, and in which words (those of Kafka's `LogManager` and
//! `ReplicaManager`).

use std::path::{Path, PathBuf};

use millrace_storage::DirectoryState;

use crate::config::Config;

/// Why the broker cannot go on without the directories that have failed, if it cannot: none is
/// left, or the cluster's metadata was in one of them.
pub(super) fn beyond_use(directories: &[DirectoryState], metadata: &Path) -> Option<String> {
    let failed = directories
        .iter()
        .filter_map(|directory| Some((&directory.path, directory.offline.as_ref()?)));
    let failed: Vec<(&PathBuf, &String)> = failed.collect();
    let (_, why) = failed.last()?;
    if failed.len() == directories.len() {
        let all = list(directories.iter().map(|directory| directory.path.as_path()));
        return Some(format!(
            "Shutdown broker because all log dirs in {all} have failed: {why}"
        ));
    }
    let (path, why) = failed.iter().find(|(path, _)| *path == metadata)?;
    Some(format!(
        "Shutdown broker because the metadata log dir {} has failed: {why}",
        path.display()
    ))
}

/// That no directory can be used from the start.
pub(super) fn none_usable(config: &Config, why: &str) -> String {
    let all = list(config.log_dirs.iter().map(PathBuf::as_path));
    format!(
        "Shutdown broker because none of the specified log dirs from {all} can be created or \
         validated: {why}"
    )
}

fn list<'a>(paths: impl Iterator<Item = &'a Path>) -> String {
    let paths: Vec<String> = paths.map(|path| path.display().to_string()).collect();
    paths.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(path: &str, offline: Option<&str>) -> DirectoryState {
        DirectoryState {
            id: Default::default(),
            path: PathBuf::from(path),
            offline: offline.map(str::to_owned),
            full: false,
            slow: false,
            free_bytes: 0,
        }
    }

    #[test]
    fn a_broker_goes_on_while_metadata_and_some_logs_are_at_hand() {
        let said = |a, b| {
            let directories = [directory("/a", a), directory("/b", b)];
            beyond_use(&directories, Path::new("/a"))
        };
        assert_eq!(said(None, None), None);
        assert_eq!(said(None, Some("EIO")), None);
        let metadata = "Shutdown broker because the metadata log dir /a has failed: EIO";
        assert_eq!(said(Some("EIO"), None).as_deref(), Some(metadata));
        let all = "Shutdown broker because all log dirs in /a, /b have failed: gone";
        assert_eq!(said(Some("EIO"), Some("gone")).as_deref(), Some(all));
    }
}
