//! What a node is told, for the commands that need to know: a file, the environment, overrides.

use std::collections::BTreeMap;
use std::path::Path;

use millrace_server::Config;
use millrace_server::config::{Sources, environment, java_properties};

use crate::failure::Failure;

/// What a node is when neither a file nor the environment says: the whole cluster, as Kafka's own
/// image starts it.
const ALONE: &str = include_str!("../../../deploy/config/server.properties");

/// The cluster of a node that nobody told which it belongs to; the same as in Kafka's own image.
const ALONE_CLUSTER_ID: &str = "5L6g3nShT-eMCtK--X86sw";

/// Reads `server.properties`, the environment and `NAME=VALUE` overrides, the later over the
/// earlier. Returns with it the warnings about what has no effect.
pub fn load(file: Option<&Path>, overrides: &[String]) -> Result<(Config, Vec<String>), Failure> {
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let mut environment = environment::read(variables);
    let mut overridden = BTreeMap::new();
    for text in overrides {
        let Some((name, value)) = text.split_once('=') else {
            return Err(Failure::new(format!(
                "--override takes NAME=VALUE, and '{text}' has no '='"
            )));
        };
        overridden.insert(name.trim().to_owned(), value.trim().to_owned());
    }
    let file = match file {
        Some(path) => read(path)?,
        None if environment.properties.contains_key("process.roles") => BTreeMap::new(),
        None => {
            let id = || ALONE_CLUSTER_ID.to_owned();
            environment.cluster_id.get_or_insert_with(id);
            parse(ALONE.as_bytes(), Path::new("the built-in properties"))?
        }
    };
    let sources = Sources {
        file,
        environment,
        overrides: overridden,
    };
    Config::load(&sources).map_err(|error| Failure::new(error.to_string()))
}

fn read(path: &Path) -> Result<BTreeMap<String, String>, Failure> {
    let bytes = std::fs::read(path)
        .map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))?;
    parse(&bytes, path)
}

fn parse(bytes: &[u8], path: &Path) -> Result<BTreeMap<String, String>, Failure> {
    java_properties::parse(bytes)
        .map_err(|error| Failure::new(format!("{}: {error}", path.display())))
}
