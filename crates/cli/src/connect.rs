//! What every command that talks to a cluster has in common.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use millrace_client::Cluster;

use crate::failure::Failure;

/// How long one request may take before a command gives up.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// Where the cluster is.
#[derive(Args, Clone, Debug)]
pub struct Bootstrap {
    /// The brokers to ask first, as HOST:PORT,HOST:PORT
    #[arg(
        long,
        visible_alias = "broker-list",
        value_name = "HOST:PORT,...",
        default_value = "localhost:9092"
    )]
    pub bootstrap_server: String,
    /// A properties file for the connection, as the stock tools take; nothing in it has an effect yet
    #[arg(long, value_name = "FILE", hide = true)]
    pub command_config: Option<PathBuf>,
}

impl Bootstrap {
    /// A client of this cluster, on the current runtime.
    pub fn cluster(&self, command: &str) -> Result<Cluster, Failure> {
        if let Some(file) = &self.command_config {
            refuse_security(file)?;
        }
        let machine = millrace_client::this_machine();
        let client_id = format!("millrace-{command}");
        Ok(Cluster::new(
            &machine,
            &self.bootstrap_server,
            &client_id,
            REQUEST_LIMIT,
        )?)
    }
}

/// A file that asks for a secured connection must not be read as asking for none.
fn refuse_security(file: &PathBuf) -> Result<(), Failure> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::new(format!("{}: {error}", file.display())))?;
    let secured = text.lines().map(str::trim).find(|line| {
        let is_plain = line.replace(' ', "") == "security.protocol=PLAINTEXT";
        !is_plain
            && ["security.", "sasl.", "ssl."]
                .iter()
                .any(|start| line.starts_with(start))
    });
    match secured {
        None => Ok(()),
        Some(line) => Err(Failure::new(format!(
            "{}: '{line}' asks for a secured connection, which this command cannot make yet",
            file.display()
        ))),
    }
}
