//! A node that is broker and controller, alone in its cluster, in a directory of its own.

use std::net::TcpListener;
use std::path::Path;

use millrace_server::{Broker, Config, Host, Tasks};
use tempfile::TempDir;
use tokio::runtime::Handle;

use super::wire::Wire;

pub const CLUSTER_ID: &str = "pdsRlKyZQWSKJHVWdtpZqg";

pub struct TestNode {
    pub broker: Broker,
    // Removed when the node is.
    directory: TempDir,
}

impl TestNode {
    /// Starts a node with these further properties and waits until it serves.
    pub async fn start(properties: &str) -> TestNode {
        let directory = TempDir::new().unwrap();
        let tasks = Tasks::on(Handle::current());
        let host = Host::real(tasks.clone(), tasks);
        let config = config(directory.path(), properties);
        let broker = Broker::start(config, host).await.unwrap();
        broker.ready().await.unwrap();
        TestNode { broker, directory }
    }

    /// Where its logs are.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub async fn connect(&self) -> Wire {
        self.connect_to("PLAINTEXT").await
    }

    pub async fn connect_to(&self, listener: &str) -> Wire {
        Wire::connect(self.broker.port(listener).unwrap()).await
    }
}

fn config(directory: &Path, properties: &str) -> Config {
    // The quorum is found by its port, so that it must be known before the start.
    let free = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let controller = free.local_addr().unwrap().port();
    let directory = directory.display();
    let text = format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners=PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:{controller}\n\
         controller.listener.names=CONTROLLER\n\
         log.dirs={directory}\n\
         {properties}"
    );
    let config = Config::parse(&text).unwrap();
    Config {
        cluster_id: Some(CLUSTER_ID.to_owned()),
        ..config
    }
}
