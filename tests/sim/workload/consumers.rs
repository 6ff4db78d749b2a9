//! Readers that follow the load, and the one that reads everything back.

use std::time::Duration;

use millrace_client::{ClientError, Consumed, Consumer, ConsumerOptions, Start};
use millrace_testkit::history::{Mark, Placed};
use rand::Rng;

use super::{Client, Stage, Topic, millis};
use crate::trace::event;

/// ListOffsets' name for the high watermark.
const LATEST: i64 = -1;

/// Follows a topic from its beginning for as long as there is load.
pub async fn keep_reading(client: Client, topic: Topic, part: u64) {
    let mut rng = client.rng(part + 1);
    let place = {
        let mut book = client.book.open();
        let topic = book.topics.entry(topic.name.to_owned()).or_default();
        topic.seen.push(Vec::new());
        topic.watermarks.push(Vec::new());
        topic.seen.len() - 1
    };
    let options = ConsumerOptions {
        max_wait: millis(&mut rng, 20..500),
        max_partition_bytes: rng.random_range(500..20_000),
        ..ConsumerOptions::default()
    };
    let mut reader = Reader {
        consumer: Consumer::new(&client.cluster("consumer"), options),
        place,
        client,
        topic,
    };
    let asking = ask_for_ends(reader.client.clone(), reader.topic.clone(), place, part);
    reader.client.host.tasks.spawn(asking);
    reader.assign(Stage::Drain).await;
    while reader.client.stage() < Stage::ReadBack {
        if let Err(error) = reader.round().await {
            reader.client.book.met("reading", &error);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

struct Reader {
    consumer: Consumer,
    client: Client,
    topic: Topic,
    place: usize,
}

impl Reader {
    /// Begins at the beginning of every partition, unless it is too late for that.
    async fn assign(&mut self, too_late: Stage) {
        for partition in 0..self.topic.partitions {
            while let Err(error) = self
                .consumer
                .assign(self.topic.name, partition, Start::Earliest)
                .await
            {
                self.client.book.met("assigning", &error);
                tokio::time::sleep(Duration::from_millis(100)).await;
                if self.client.stage() >= too_late {
                    return;
                }
            }
        }
    }

    async fn round(&mut self) -> Result<(), ClientError> {
        let records = self.consumer.poll().await?;
        let mut placed = Vec::new();
        for record in &records {
            match mark(record) {
                Ok(mark) => placed.push(Placed {
                    partition: record.partition,
                    offset: record.offset.get(),
                    mark,
                }),
                Err(why) => self.client.book.open().findings.push(why),
            }
        }
        let mut book = self.client.book.open();
        let topic = book.topics.entry(self.topic.name.to_owned()).or_default();
        topic.seen[self.place].extend(placed);
        Ok(())
    }
}

/// Asks now and then where partitions end. A new leader answers that only when it has committed
/// what earlier ones may have shown (KIP-207), so the answers never go back. (The high watermark in
/// an answer to Fetch is a new leader's own, and may.)
async fn ask_for_ends(client: Client, topic: Topic, place: usize, part: u64) {
    let mut rng = client.rng(part + 2);
    let cluster = client.cluster("observer");
    while client.stage() < Stage::ReadBack {
        tokio::time::sleep(millis(&mut rng, 50..400)).await;
        let partition = rng.random_range(0..topic.partitions);
        match cluster.offset(topic.name, partition, LATEST).await {
            Ok(end) => {
                let mut book = client.book.open();
                let topic = book.topics.entry(topic.name.to_owned()).or_default();
                topic.watermarks[place].push((partition, end.get()));
            }
            Err(error) => client.book.met("asking", &error),
        }
    }
}

fn mark(record: &Consumed) -> Result<Mark, String> {
    let place = || format!("{}-{}@{}", record.topic, record.partition, record.offset);
    let value = record.value.as_ref();
    let value = value.ok_or_else(|| format!("{} has no value", place()))?;
    Mark::of_value(value).map_err(|why| format!("{}: {why}", place()))
}

/// Reads the whole topic once nothing is written any more.
pub async fn read_back(client: Client, topic: Topic) {
    client.reached(Stage::ReadBack).await;
    let cluster = client.cluster("read-back");
    for partition in 0..topic.partitions {
        loop {
            match read_partition(&client, &cluster, topic.name, partition).await {
                Ok(log) => {
                    event!("read {}-{partition}: {} records", topic.name, log.len());
                    let mut book = client.book.open();
                    book.finished.insert((topic.name.to_owned(), partition));
                    let topic = book.topics.entry(topic.name.to_owned()).or_default();
                    topic.log.insert(partition, log);
                    break;
                }
                Err(error) => {
                    client.book.met("reading back", &error);
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

async fn read_partition(
    client: &Client,
    cluster: &millrace_client::Cluster,
    topic: &str,
    partition: i32,
) -> Result<Vec<(i64, Mark)>, ClientError> {
    let end = cluster.offset(topic, partition, LATEST).await?;
    let mut consumer = Consumer::new(cluster, ConsumerOptions::default());
    consumer.assign(topic, partition, Start::Earliest).await?;
    let mut log = Vec::new();
    while consumer
        .position(topic, partition)
        .is_some_and(|(next, _)| next < end)
    {
        for record in consumer.poll().await? {
            match mark(&record) {
                Ok(mark) => log.push((record.offset.get(), mark)),
                Err(why) => client.book.open().findings.push(why),
            }
        }
    }
    Ok(log)
}
