//! What the tests of the store share: batches, hosts, and a log of what the store told.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use millrace_host::disk::sim::SimDisk;
use millrace_host::network::RealNetwork;
use millrace_host::{Clock, Host, Random, Tasks};
use millrace_model::{
    DirectoryId, LeaderEpoch, Offset, PartitionId, Timestamp, TopicId, TopicName, Uuid,
};
use millrace_protocol::batch::{Origin, SoleBatch};
use millrace_storage::{
    AppendError, Log, LogDirectory, RecoveryReport, StorageError, Store, StoreEvents, StoreOptions,
};

/// Everything the store told.
#[derive(Default)]
pub struct Told {
    pub durable: Mutex<BTreeMap<PartitionId, Offset>>,
    pub offline: Mutex<Vec<String>>,
    pub damaged: Mutex<Vec<PartitionId>>,
    pub commits: Mutex<usize>,
}

impl StoreEvents for Told {
    fn durable(&self, progress: &[(PartitionId, Offset)]) {
        *self.commits.lock().unwrap() += 1;
        let mut durable = self.durable.lock().unwrap();
        for (id, end) in progress {
            durable.insert(*id, *end);
        }
    }

    fn offline(&self, _directory: DirectoryId, why: &str) {
        self.offline.lock().unwrap().push(why.to_owned());
    }

    fn damaged(&self, log: PartitionId) {
        self.damaged.lock().unwrap().push(log);
    }
}

/// Runs a test on a clock that goes as fast as the test does.
pub fn simulate(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(test);
}

pub fn partition(topic: u8, index: i32) -> PartitionId {
    PartitionId {
        topic: TopicId(Uuid([topic; 16])),
        index,
    }
}

pub fn topic(name: &str) -> TopicName {
    TopicName::new(name).unwrap()
}

pub fn real_host() -> Host {
    let tasks = Tasks::on(tokio::runtime::Handle::current());
    Host::real(tasks.clone(), tasks)
}

/// How long a simulated disk takes for anything.
pub const LATENCY: Duration = Duration::from_millis(1);
/// The wall clock of a simulated machine, which stands.
pub const NOW: Timestamp = Timestamp(1_000_000);

pub fn sim_host(sim: &SimDisk, seed: u64) -> Host {
    let tasks = Tasks::simulated(LATENCY);
    Host {
        disk: sim.mount(),
        network: Arc::new(RealNetwork),
        clock: Clock::with_wall(|| NOW),
        random: Random::from_seed(seed),
        tasks: tasks.clone(),
        control: tasks,
        fatal: Arc::new(|why| panic!("{why}")),
    }
}

/// A simulated machine whose wall clock goes with the time that passes, and jumps when told to.
pub fn host_with_clock(sim: &SimDisk, seed: u64) -> (Host, Arc<AtomicI64>) {
    let jumped = Arc::new(AtomicI64::new(0));
    let (start, ahead) = (tokio::time::Instant::now(), jumped.clone());
    let wall = move || {
        let passed = start.elapsed().as_millis() as i64;
        Timestamp(NOW.0 + passed + ahead.load(Ordering::Relaxed))
    };
    let host = Host {
        clock: Clock::with_wall(wall),
        ..sim_host(sim, seed)
    };
    (host, jumped)
}

pub fn options(path: &Path, host: Host, told: Arc<Told>) -> StoreOptions {
    let directory = LogDirectory {
        path: path.to_owned(),
        id: DirectoryId(Uuid([9; 16])),
    };
    StoreOptions::new(vec![directory], host, told)
}

/// What a test batch says in its head.
#[derive(Clone, Copy)]
pub struct Batch {
    pub count: i32,
    pub value_bytes: usize,
    pub timestamp: i64,
    pub producer: (i64, i16, i32),
    pub seed: u8,
}

impl Default for Batch {
    fn default() -> Self {
        let producer = (-1, -1, -1);
        Batch {
            count: 3,
            value_bytes: 20,
            timestamp: 1_000,
            producer,
            seed: 0,
        }
    }
}

fn put_varint(out: &mut BytesMut, number: i64) {
    let mut rest = ((number << 1) ^ (number >> 63)) as u64;
    while rest >= 0x80 {
        out.put_u8(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

impl Batch {
    /// The batch as a producer sends it, each record one millisecond after the one before.
    pub fn bytes(&self) -> BytesMut {
        let mut records = BytesMut::new();
        for n in 0..self.count {
            let mut record = BytesMut::new();
            record.put_u8(0);
            put_varint(&mut record, i64::from(n));
            put_varint(&mut record, i64::from(n));
            put_varint(&mut record, -1);
            put_varint(&mut record, self.value_bytes as i64);
            record.put_bytes(self.seed.wrapping_add(n as u8), self.value_bytes);
            put_varint(&mut record, 0);
            put_varint(&mut records, record.len() as i64);
            records.put(record);
        }
        let mut body = BytesMut::new();
        body.put_i16(0);
        body.put_i32(self.count - 1);
        body.put_i64(self.timestamp);
        body.put_i64(self.timestamp + i64::from(self.count) - 1);
        body.put_i64(self.producer.0);
        body.put_i16(self.producer.1);
        body.put_i32(self.producer.2);
        body.put_i32(self.count);
        body.put(records);
        let mut out = BytesMut::new();
        out.put_i64(0);
        out.put_i32(body.len() as i32 + 9);
        out.put_i32(-1);
        out.put_u8(2);
        out.put_u32(crc32c::crc32c(&body));
        out.put(body);
        out
    }

    /// The batch as it stands in a log.
    pub fn stored(&self, base: i64, epoch: i32) -> Bytes {
        let mut out = self.bytes();
        out[..8].copy_from_slice(&base.to_be_bytes());
        out[12..16].copy_from_slice(&epoch.to_be_bytes());
        out.freeze()
    }
}

/// Reads everything from `from` to `to`, in bites of `bite` bytes.
pub async fn read_all(log: &Log, host: &Host, from: Offset, to: Offset, bite: usize) -> Bytes {
    let mut all = BytesMut::new();
    let mut from = from;
    while from < to {
        let loaded = log
            .read(from, bite, to, true)
            .unwrap()
            .load(&host.tasks)
            .await
            .unwrap();
        assert!(!loaded.is_empty(), "nothing at {from} of {to}");
        for bytes in loaded {
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let size = i32::from_be_bytes(rest[8..12].try_into().unwrap()) as usize + 12;
                let base = i64::from_be_bytes(rest[..8].try_into().unwrap());
                let delta = i32::from_be_bytes(rest[23..27].try_into().unwrap());
                assert!(rest.len() >= size, "only whole batches are read");
                from = Offset(base + i64::from(delta) + 1);
                rest = &rest[size..];
            }
            all.put(bytes);
        }
    }
    all.freeze()
}

/// Checks and appends what a producer sent.
pub fn append_as_leader(
    log: &Log,
    bytes: BytesMut,
    epoch: LeaderEpoch,
    now: Timestamp,
) -> Result<millrace_storage::Appended, AppendError> {
    let origin = Origin::Client {
        produce_version: 13,
    };
    let batch = log.validate(SoleBatch::of(bytes, origin)?, now)?;
    log.append_as_leader(batch, epoch, now)
}

/// Appends as a leader of epoch 0 at time 2000.
pub fn append(log: &Log, batch: Batch) -> millrace_storage::Appended {
    append_as_leader(log, batch.bytes(), LeaderEpoch(0), Timestamp(2_000)).unwrap()
}

/// Opens a store again whose writer thread may still be about to end.
pub async fn reopen(options: &StoreOptions) -> (Store, RecoveryReport) {
    for _ in 0..500 {
        match Store::open(options.clone()).await {
            Err(StorageError::Locked(_)) => {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
            other => return other.unwrap(),
        }
    }
    panic!("the store before never let go of its lock");
}

/// The offset that follows the batches in `bytes`.
pub fn next_offset(bytes: &[u8]) -> Offset {
    let (mut rest, mut next) = (bytes, Offset(0));
    while !rest.is_empty() {
        let size = i32::from_be_bytes(rest[8..12].try_into().unwrap()) as usize + 12;
        let base = i64::from_be_bytes(rest[..8].try_into().unwrap());
        let delta = i32::from_be_bytes(rest[23..27].try_into().unwrap());
        next = Offset(base + i64::from(delta) + 1);
        rest = &rest[size..];
    }
    next
}
