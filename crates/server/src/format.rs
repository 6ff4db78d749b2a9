//! Formatting: a directory learns which cluster and node it belongs to, once.
//!
//! `meta.properties` (version 1, as Kafka writes it) carries the identity of each log directory;
//! `bootstrap.properties` in the metadata directory says what the cluster begins with: its first
//! features, and the controllers of a quorum that is not written down in
//! `controller.quorum.voters`. The refusals and the output are those of `kafka-storage.sh format`.

mod bootstrap;
mod features;
mod open;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use millrace_host::{Disk, Host};
use millrace_model::{DirectoryId, Planted, Uuid};
use millrace_storage::{MetaProperties, StorageError};

use crate::Config;
pub use bootstrap::{Bootstrap, InitialController};
pub use open::{Formatted, open};

/// What to format with; the options of the command.
#[derive(Clone, Debug, Default)]
pub struct FormatOptions {
    /// `--cluster-id`.
    pub cluster_id: String,
    /// `--ignore-formatted`: leave directories alone that are formatted for this cluster and node.
    pub ignore_formatted: bool,
    /// `--standalone`: this controller is the whole quorum at first.
    pub standalone: bool,
    /// `--initial-controllers`: `id@host:port:directory` between commas.
    pub initial_controllers: Option<String>,
    /// `--no-initial-controllers`: join the quorum that the bootstrap servers know.
    pub no_initial_controllers: bool,
    /// `--feature name=level`, each.
    pub features: Vec<String>,
    /// `--release-version`.
    pub release_version: Option<String>,
}

/// Why formatting is refused: one sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FormatError(pub String);

fn refuse<T>(why: impl Into<String>) -> Result<T, FormatError> {
    Err(FormatError(why.into()))
}

/// Formats the directories of `config`. Returns the lines to print. Waits for the disk.
///
/// # Errors
/// One sentence; nothing was written then, unless the disk refused in between.
pub fn format(
    config: &Config,
    options: &FormatOptions,
    host: &Host,
) -> Result<Vec<String>, FormatError> {
    check_options(config, options)?;
    let level = features::metadata_level(options)?;
    let finalized = features::finalized(level, options, config)?;
    let controllers = controllers(config, options, host)?;
    let bootstrap = Bootstrap {
        features: finalized,
        controllers,
    };
    format_with(config, options, &bootstrap, host)
}

/// The directories of a node: its log directories, then the metadata directory.
fn directories(config: &Config) -> Vec<PathBuf> {
    let logs = config.log_dirs.iter();
    let logs = logs.filter(|path| config.is_broker && **path != config.metadata_log_dir);
    logs.chain([&config.metadata_log_dir]).cloned().collect()
}

fn check_options(config: &Config, options: &FormatOptions) -> Result<(), FormatError> {
    if options.cluster_id.is_empty() {
        return refuse("The cluster ID must not be empty.");
    }
    if options.standalone && !config.is_controller {
        return refuse("You can only use --standalone on a controller.");
    }
    let dynamic = options.standalone || options.initial_controllers.is_some();
    if !config.quorum_voters.is_empty() {
        if dynamic {
            return refuse(
                "You cannot specify controller.quorum.voters and format the node with \
                 --initial-controllers or --standalone. If you want to use dynamic quorum, please \
                 remove controller.quorum.voters and specify controller.quorum.bootstrap.servers \
                 instead.",
            );
        }
    } else if config.is_controller
        && !dynamic
        && !options.no_initial_controllers
        && !is_its_own_bootstrap(config)
    {
        return refuse(
            "Because controller.quorum.voters is not set on this controller, you must specify one \
             of the following: --standalone, --initial-controllers, or --no-initial-controllers.",
        );
    }
    Ok(())
}

fn controllers(
    config: &Config,
    options: &FormatOptions,
    host: &Host,
) -> Result<Vec<InitialController>, FormatError> {
    if let Some(text) = &options.initial_controllers {
        return bootstrap::parse_controllers(text);
    }
    let alone = config.is_controller && config.quorum_voters.is_empty();
    if options.standalone
        || alone && !options.no_initial_controllers && is_its_own_bootstrap(config)
    {
        return Ok(vec![bootstrap::this_controller(
            config,
            new_directory(config, host),
        )?]);
    }
    Ok(Vec::new())
}

/// Whether the quorum is found at this very controller and nowhere else: then it can only be the
/// whole quorum, and need not be told so as Kafka wants it.
fn is_its_own_bootstrap(config: &Config) -> bool {
    let [(host, port)] = config.quorum_bootstrap_servers.as_slice() else {
        return false;
    };
    let mut advertised = config.advertised_listeners.iter();
    advertised.any(|own| {
        config.is_controller_listener(&own.name) && own.host == *host && own.port == *port
    })
}

fn new_directory(config: &Config, host: &Host) -> DirectoryId {
    if Planted::WipedDiskCounts.is_here() {
        let id = u8::try_from(config.node_id.get()).unwrap_or(u8::MAX);
        return DirectoryId(Uuid([id; 16]));
    }
    DirectoryId(host.random.uuid())
}

fn format_with(
    config: &Config,
    options: &FormatOptions,
    bootstrap: &Bootstrap,
    host: &Host,
) -> Result<Vec<String>, FormatError> {
    let disk = &*host.disk;
    let mut empty = Vec::new();
    for path in directories(config) {
        match read_identity(disk, &path)? {
            None => empty.push(path),
            Some(found) if options.ignore_formatted => {
                check_identity(config, &options.cluster_id, &path, &found)?;
            }
            Some(_) => {
                return refuse(format!(
                    "Log directory {} is already formatted. Use --ignore-formatted to ignore this \
                     directory and format the others.",
                    path.display()
                ));
            }
        }
    }
    if empty.is_empty() {
        return Ok(vec![
            "All of the log directories are already formatted.".to_owned(),
        ]);
    }
    let mut lines = vec![features::describe(&bootstrap.features)];
    let version = features::release_name(bootstrap.metadata_level());
    for path in empty {
        let what = format_one(config, options, bootstrap, &path, host)?;
        lines.push(format!(
            "Formatting {what} {} with metadata.version {version}.",
            path.display()
        ));
    }
    Ok(lines)
}

/// Formats one directory; tells what kind it is.
fn format_one(
    config: &Config,
    options: &FormatOptions,
    bootstrap: &Bootstrap,
    path: &Path,
    host: &Host,
) -> Result<&'static str, FormatError> {
    let mut directory = new_directory(config, host);
    let mut what = "data directory";
    if path == config.metadata_log_dir {
        let controllers = &bootstrap.controllers;
        let own = controllers.iter().find(|c| c.id == config.node_id);
        what = match own {
            Some(own) => {
                directory = own.directory;
                "dynamic metadata voter directory"
            }
            None if controllers.is_empty() => "metadata directory",
            None => "dynamic metadata directory",
        };
    }
    write_identity(
        config,
        &options.cluster_id,
        path,
        directory,
        bootstrap,
        host,
    )?;
    Ok(what)
}

/// Writes what makes a directory formatted; its `meta.properties` last, so that a crash leaves it
/// unformatted.
fn write_identity(
    config: &Config,
    cluster_id: &str,
    path: &Path,
    directory: DirectoryId,
    bootstrap: &Bootstrap,
    host: &Host,
) -> Result<(), FormatError> {
    let disk = &*host.disk;
    let cannot = |error: String| {
        FormatError(format!(
            "Error while writing meta.properties file {}: {error}",
            path.display()
        ))
    };
    disk.create_directories(path)
        .map_err(|error| cannot(error.to_string()))?;
    if path == config.metadata_log_dir {
        bootstrap
            .write(disk, path)
            .map_err(|error| cannot(error.to_string()))?;
    }
    let identity = MetaProperties {
        cluster_id: cluster_id.to_owned(),
        node_id: config.node_id,
        directory_id: Some(directory),
    };
    identity
        .write(disk, path)
        .map_err(|error| cannot(error.to_string()))
}

fn read_identity(disk: &dyn Disk, path: &Path) -> Result<Option<MetaProperties>, FormatError> {
    MetaProperties::read(disk, path).map_err(|error| FormatError(cannot_read(path, &error)))
}

fn cannot_read(path: &Path, error: &StorageError) -> String {
    format!(
        "I/O error trying to read log directory {}: {error}",
        path.display()
    )
}

/// A formatted directory must belong to this node of this cluster.
fn check_identity(
    config: &Config,
    cluster_id: &str,
    path: &Path,
    found: &MetaProperties,
) -> Result<(), FormatError> {
    let file = path.join("meta.properties");
    let file = file.display();
    if found.cluster_id != cluster_id {
        return refuse(format!(
            "Invalid cluster.id in: {file}. Expected {cluster_id}, but read {}",
            found.cluster_id
        ));
    }
    if found.node_id != config.node_id {
        return refuse(format!(
            "Stored node id {} doesn't match previous node id {} in {file}. If you moved your \
             data, make sure your configured node id matches. If you intend to create a new node, \
             you should remove all data in your data directories.",
            found.node_id, config.node_id
        ));
    }
    Ok(())
}

/// A new cluster id, as `random-uuid` prints it.
pub fn random_cluster_id(host: &Host) -> Uuid {
    host.random.uuid()
}
