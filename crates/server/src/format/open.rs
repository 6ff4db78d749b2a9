//! What the directories of a node say at its start, and formatting them there and then.

use std::path::{Path, PathBuf};

use millrace_host::Host;
use millrace_model::DirectoryId;
use millrace_storage::{LogDirectory, MetaProperties};

use super::{
    Bootstrap, FormatError, FormatOptions, cannot_read, check_identity, directories, format,
    new_directory, read_identity, refuse, write_identity,
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
    /// Log directories that cannot be read or made, and why; the others are used without them.
    pub unusable: Vec<(PathBuf, String)>,
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
    let mut usable = Usable {
        config: config.clone(),
        without: Vec::new(),
    };
    let mut known: Option<String> = None;
    let mut empty = Vec::new();
    for path in directories(config) {
        match MetaProperties::read(disk, &path) {
            Ok(Some(found)) => {
                let wanted = config.cluster_id.clone().or(known);
                let wanted = wanted.unwrap_or_else(|| found.cluster_id.clone());
                check_identity(config, &wanted, &path, &found)?;
                known = Some(wanted);
            }
            Ok(None) => empty.push(path),
            Err(error) if error.is_of_disk() => usable.leave_out(path, error.to_string())?,
            Err(error) => return refuse(cannot_read(&path, &error)),
        }
    }
    if !empty.is_empty() {
        let cluster = known.or_else(|| config.cluster_id.clone());
        for path in empty.into_iter().filter(|_| cluster.is_some()) {
            if let Err(error) = disk.create_directories(&path) {
                usable.leave_out(path, error.to_string())?;
            }
        }
        format_missing(&usable.config, cluster, host)?;
    }
    let mut formatted = read_all(&usable.config, host)?;
    formatted.unusable = usable.without;
    Ok(formatted)
}

/// The directories that can be used, of those of a configuration.
struct Usable {
    /// The configuration without the others.
    config: Config,
    without: Vec<(PathBuf, String)>,
}

impl Usable {
    /// Goes on without a directory, unless it is that of the metadata.
    fn leave_out(&mut self, path: PathBuf, why: String) -> Result<(), FormatError> {
        if path == self.config.metadata_log_dir {
            return refuse(format!(
                "Encountered I/O error in metadata log directory {}. Cannot continue: {why}",
                path.display()
            ));
        }
        self.config.log_dirs.retain(|dir| *dir != path);
        self.without.push((path, why));
        Ok(())
    }
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
        unusable: Vec::new(),
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
