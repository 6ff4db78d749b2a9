//! `bootstrap.properties`: what a cluster begins with, kept in the metadata directory.

use std::io;
use std::path::Path;

use bytes::Bytes;
use millrace_host::Disk;
use millrace_host::disk::{read_file, replace_file};
use millrace_metadata::feature_names;
use millrace_model::{BrokerId, DirectoryId};

use super::{FormatError, features, refuse};
use crate::Config;
use crate::config::java_properties;
use crate::config::valid::split_address;

const FILE: &str = "bootstrap.properties";

/// No such file is longer.
const LONGEST: u64 = 1 << 20;

/// What a cluster begins with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bootstrap {
    /// Finalized features with their levels.
    pub features: Vec<(String, i16)>,
    /// The first voters, where `controller.quorum.voters` does not name them; empty on a node that
    /// joins an existing quorum.
    pub controllers: Vec<InitialController>,
}

/// One of the first voters (`id@host:port:directory`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitialController {
    /// Its `node.id`.
    pub id: BrokerId,
    /// A name or an address.
    pub host: String,
    /// The port of its controller listener.
    pub port: u16,
    /// The identity its metadata directory has.
    pub directory: DirectoryId,
}

impl Bootstrap {
    /// What holds when a directory was formatted without such a file, for instance by Kafka.
    pub(super) fn unwritten() -> Bootstrap {
        Bootstrap {
            features: features::defaults(features::latest_level()),
            controllers: Vec::new(),
        }
    }

    pub(super) fn metadata_level(&self) -> i16 {
        let mut features = self.features.iter();
        let found = features.find(|(name, _)| name == feature_names::METADATA_VERSION);
        found.map_or_else(features::latest_level, |(_, level)| *level)
    }

    /// Writes the file, durably.
    pub(super) fn write(&self, disk: &dyn Disk, directory: &Path) -> io::Result<()> {
        let features: Vec<String> = self
            .features
            .iter()
            .map(|(name, level)| format!("{name}={level}"))
            .collect();
        let controllers: Vec<String> = self
            .controllers
            .iter()
            .map(InitialController::to_text)
            .collect();
        let text = format!(
            "#\nversion=1\nfeatures={}\ncontrollers={}\n",
            java_properties::escape_value(&features.join(",")),
            java_properties::escape_value(&controllers.join(","))
        );
        replace_file(disk, &directory.join(FILE), Bytes::from(text))
    }

    /// Reads the file, if there is one.
    pub(super) fn read(
        disk: &dyn Disk,
        directory: &Path,
    ) -> Result<Option<Bootstrap>, FormatError> {
        let path = directory.join(FILE);
        if !disk.exists(&path) {
            return Ok(None);
        }
        let broken =
            |why: String| FormatError(format!("The file {} is broken: {why}", path.display()));
        let bytes = read_file(disk, &path, LONGEST).map_err(|error| broken(error.to_string()))?;
        let properties =
            java_properties::parse(&bytes).map_err(|error| broken(error.to_string()))?;
        let of = |name: &str| properties.get(name).cloned().unwrap_or_default();
        if of("version") != "1" {
            return Err(broken("its version is not 1".to_owned()));
        }
        let mut features = Vec::new();
        for entry in of("features").split(',').filter(|entry| !entry.is_empty()) {
            let parsed = entry
                .split_once('=')
                .and_then(|(name, level)| Some((name.to_owned(), level.parse().ok()?)));
            features.push(parsed.ok_or_else(|| broken(format!("no feature: {entry}")))?);
        }
        Ok(Some(Bootstrap {
            features,
            controllers: parse_controllers(&of("controllers"))?,
        }))
    }
}

impl InitialController {
    fn to_text(&self) -> String {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        format!("{}@{host}:{}:{}", self.id, self.port, self.directory)
    }
}

/// Reads `id@host:port:directory` between commas (Kafka class `DynamicVoters`).
pub(super) fn parse_controllers(text: &str) -> Result<Vec<InitialController>, FormatError> {
    let mut controllers: Vec<InitialController> = Vec::new();
    for entry in text.split(',').map(str::trim).filter(|e| !e.is_empty()) {
        let controller = parse_controller(entry)?;
        if controllers.iter().any(|other| other.id == controller.id) {
            return refuse(format!(
                "Node id {} was specified more than once.",
                controller.id
            ));
        }
        controllers.push(controller);
    }
    Ok(controllers)
}

fn parse_controller(entry: &str) -> Result<InitialController, FormatError> {
    let Some((id, rest)) = entry.split_once('@') else {
        return refuse("No @ found in dynamic voter string.");
    };
    let Ok(id) = id.parse::<i32>() else {
        return refuse(format!(
            "Failed to parse node id in dynamic voter string {entry}."
        ));
    };
    let parsed = rest.rsplit_once(':').and_then(|(address, directory)| {
        let (host, port) = split_address(address)?;
        Some((host, port, directory))
    });
    let Some((host, port, directory)) = parsed else {
        return refuse("No colon following port could be found.");
    };
    let Ok(directory) = directory.parse() else {
        return refuse(format!(
            "Failed to parse directory ID in dynamic voter string {entry}."
        ));
    };
    Ok(InitialController {
        id: BrokerId(id),
        host,
        port,
        directory,
    })
}

/// This node as the only voter, under the address it advertises.
pub(super) fn this_controller(
    config: &Config,
    directory: DirectoryId,
) -> Result<InitialController, FormatError> {
    let endpoint = config
        .controller_listeners
        .iter()
        .find_map(|name| {
            let mut advertised = config.advertised_listeners.iter();
            advertised.find(|endpoint| endpoint.name.eq_ignore_ascii_case(name))
        })
        .ok_or_else(|| FormatError("There is no controller listener.".to_owned()))?;
    let host = match endpoint.host.as_str() {
        "" | "0.0.0.0" | "::" => "localhost",
        host => host,
    };
    Ok(InitialController {
        id: config.node_id,
        host: host.to_owned(),
        port: endpoint.port,
        directory,
    })
}
