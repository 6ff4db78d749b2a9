//! An administrator who creates and deletes topics, changes settings and moves leaders.

use std::collections::BTreeMap;

use bytes::Bytes;
use millrace_client::{ClientError, Cluster, NewTopic, Producer, ProducerOptions, ToSend};
use millrace_protocol::messages::elect_leaders_request::ElectLeadersRequest;
use millrace_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use rand::Rng;
use rand::rngs::StdRng;

use super::{Client, Stage, millis};

/// `ConfigResource.Type.TOPIC`.
const TOPIC_RESOURCE: i8 = 2;
/// Topics that come and go.
const SCRATCH: u32 = 4;

/// Settings that may change under load, with what they change to; none of them weakens what a
/// topic of the workload promises.
const SETTINGS: &[(&str, &str, &[&str])] = &[
    ("kept", "segment.ms", &["2000", "5000", "60000"]),
    ("exact", "max.message.bytes", &["1048588", "2097152"]),
    ("hoped", "min.insync.replicas", &["1", "2"]),
    ("scratch-0", "millrace.durability", &["fsync", "page-cache"]),
    ("scratch-1", "min.insync.replicas", &["1", "2", "3"]),
];

/// Does one thing after the other until the load ends.
pub async fn administer(client: Client) {
    let mut rng = client.rng(1000);
    let cluster = client.cluster("admin");
    while client.stage() == Stage::Load {
        tokio::time::sleep(millis(&mut rng, 100..900)).await;
        let (doing, done) = one_thing(&client, &cluster, &mut rng).await;
        match done {
            Ok(()) => client.book.open().administered += 1,
            Err(error) => client.book.met(doing, &error),
        }
    }
}

async fn one_thing(
    client: &Client,
    cluster: &Cluster,
    rng: &mut StdRng,
) -> (&'static str, Result<(), ClientError>) {
    let scratch = format!("scratch-{}", rng.random_range(0..SCRATCH));
    match rng.random_range(0..10) {
        0..3 => ("creating", create(cluster, &scratch, rng).await),
        3..5 => ("deleting", cluster.delete_topic(&scratch).await),
        5 => {
            let count = rng.random_range(2..5);
            let growing = cluster.create_partitions(&scratch, count, &[]).await;
            ("growing", growing)
        }
        6..8 => {
            let spared = spared(client);
            ("configuring", configure(cluster, rng, spared).await)
        }
        8 => ("electing", elect(cluster).await),
        _ => ("scribbling", scribble(cluster, &scratch).await),
    }
}

async fn create(cluster: &Cluster, name: &str, rng: &mut StdRng) -> Result<(), ClientError> {
    let durability = ["fsync", "page-cache"][rng.random_range(0..2)];
    let configs = [("millrace.durability".to_owned(), durability.to_owned())];
    let new = NewTopic {
        name: name.to_owned(),
        partitions: Some(rng.random_range(1..4)),
        replication_factor: Some(rng.random_range(1..4)),
        configs: BTreeMap::from(configs),
        ..NewTopic::default()
    };
    cluster.create_topic(&new).await
}

/// Topics whose settings the faults of this run count on.
fn spared(client: &Client) -> &'static [&'static str] {
    let book = client.book.open();
    match (book.loses_disks, book.bits_flip) {
        (_, true) => &["hoped", "kept"],
        (true, false) => &["hoped"],
        (false, false) => &[],
    }
}

async fn configure(
    cluster: &Cluster,
    rng: &mut StdRng,
    spared: &[&str],
) -> Result<(), ClientError> {
    let (topic, name, values) = SETTINGS[rng.random_range(0..SETTINGS.len())];
    if spared.contains(&topic) {
        return Ok(());
    }
    let request = IncrementalAlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type: TOPIC_RESOURCE,
            resource_name: topic.to_owned(),
            configs: vec![AlterableConfig {
                name: name.to_owned(),
                config_operation: 0,
                value: Some(values[rng.random_range(0..values.len())].to_owned()),
                ..AlterableConfig::default()
            }],
            ..AlterConfigsResource::default()
        }],
        ..IncrementalAlterConfigsRequest::default()
    };
    let answer = cluster.ask(&request).await?;
    match answer.responses.into_iter().next() {
        Some(one) => ClientError::check(one.error_code, one.error_message),
        None => Ok(()),
    }
}

/// Everything goes back to its preferred leader.
async fn elect(cluster: &Cluster) -> Result<(), ClientError> {
    let request = ElectLeadersRequest {
        election_type: 0,
        topic_partitions: None,
        timeout_ms: 2000,
        ..ElectLeadersRequest::default()
    };
    let answer = cluster.ask(&request).await?;
    ClientError::check(answer.error_code, None)
}

/// A few records to a topic that may be gone the next moment.
async fn scribble(cluster: &Cluster, topic: &str) -> Result<(), ClientError> {
    let options = ProducerOptions {
        delivery_limit: super::ANSWER,
        request_limit: super::ANSWER,
        ..ProducerOptions::default()
    };
    let producer = Producer::new(cluster, options);
    for _ in 0..5 {
        let record = ToSend {
            partition: Some(0),
            value: Some(Bytes::from_static(b"scratch")),
            ..ToSend::default()
        };
        match producer.produce(topic, record).await {
            Ok(_) => {}
            Err(error) if error.is_retriable() => return Ok(()),
            Err(error) => {
                // The producer keeps its error; what matters is what it was.
                return match error.code() {
                    Some(code) => ClientError::check(code.code(), None),
                    None => Ok(()),
                };
            }
        }
    }
    Ok(())
}
