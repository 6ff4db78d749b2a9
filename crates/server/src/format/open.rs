//! What the directories of a node say at its start, and formatting them there and then.

use std::path::Path;

use millrace_host::Host;
use millrace_model::DirectoryId;
use millrace_storage::{LogDirectory, MetaProperties};

use super::{
    Bootstrap, FormatError, FormatOptions, check_identity, directories, format, new_directory,
    read_identity, refuse, write_identity,
};
use crate::Config;

/// The formatted directories of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Formatted {
    /// The cluster they belong to.
    pub cluster_id: String,
    /// The identity of the metadata directory.
    pub metadata_directory: DirectoryId,
    /// The log directories, in the order of `log.dirs`.
    pub log_directories: Vec<LogDirectory>,
    /// What the cluster begins with.
    pub bootstrap: Bootstrap,
}

/// Reads what the directories say. Those that are not formatted are, if the cluster is known: from
/// `CLUSTER_ID`, or from another directory. Waits for the disk.
///
/// # Errors
/// One sentence: no cluster is known, or a directory belongs elsewhere or cannot be used.
pub fn open(config: &Config, host: &Host) -> Result<Formatted, FormatError> {
    let disk = &*host.disk;
    let mut known: Option<(String, MetaProperties)> = None;
    let mut any_empty = false;
    for path in directories(config) {
        match read_identity(disk, &path)? {
            Some(found) => {
                let wanted = match (&config.cluster_id, &known) {
                    (Some(id), _) => id.clone(),
                    (None, Some((id, _))) => id.clone(),
                    (None, None) => found.cluster_id.clone(),
                };
                check_identity(config, &wanted, &path, &found)?;
                known = Some((wanted, found));
            }
            None => any_empty = true,
        }
    }
    if any_empty {
        let cluster = known
            .map(|(id, _)| id)
            .or_else(|| config.cluster_id.clone());
        format_missing(config, cluster, host)?;
    }
    read_all(config, host)
}

fn format_missing(
    config: &Config,
    cluster: Option<String>,
    host: &Host,
) -> Result<(), FormatError> {
    let Some(cluster_id) = cluster else {
        return refuse(format!(
            "The directory {} is not formatted; run: millrace format -t CLUSTER_ID -c \
             server.properties",
            config.metadata_log_dir.display()
        ));
    };
    let options = FormatOptions {
        cluster_id,
        ignore_formatted: true,
        ..FormatOptions::default()
    };
    for line in format(config, &options, host)? {
        tracing::info!("{line}");
    }
    Ok(())
}

fn read_all(config: &Config, host: &Host) -> Result<Formatted, FormatError> {
    let metadata = read_or_refuse(config, &config.metadata_log_dir, host)?;
    let mut log_directories = Vec::new();
    for path in config.log_dirs.iter().filter(|_| config.is_broker) {
        let (_, id) = read_or_refuse(config, path, host)?;
        let path = path.clone();
        log_directories.push(LogDirectory { path, id });
    }
    let bootstrap = Bootstrap::read(&*host.disk, &config.metadata_log_dir)?;
    Ok(Formatted {
        cluster_id: metadata.0,
        metadata_directory: metadata.1,
        log_directories,
        bootstrap: bootstrap.unwrap_or_else(Bootstrap::unwritten),
    })
}

/// The cluster and the identity of a directory; one that Kafka formatted before 3.7 is given one.
fn read_or_refuse(
    config: &Config,
    path: &Path,
    host: &Host,
) -> Result<(String, DirectoryId), FormatError> {
    let Some(found) = read_identity(&*host.disk, path)? else {
        return refuse(format!(
            "The directory {} is not formatted.",
            path.display()
        ));
    };
    if let Some(id) = found.directory_id {
        return Ok((found.cluster_id, id));
    }
    let id = new_directory(config, host);
    let bootstrap = Bootstrap::unwritten();
    write_identity(config, &found.cluster_id, path, id, &bootstrap, host)?;
    Ok((found.cluster_id, id))
}
