//! Compaction against a model: of each key the newest record stays, with its offset, and whatever
//! happens on the way the log is one valid view.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use millrace_host::disk::sim::{Fault, Operation, SimDisk};
use millrace_host::{Host, Random};
use millrace_model::{
    BrokerEpoch, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp,
};
use millrace_protocol::batch::{
    BatchBuilder, BatchHeader, BatchOptions, ControlType, RecordHeader, RecordSet,
};
use millrace_protocol::compression::Compression;
use millrace_storage::{CleanerOptions, Log, LogSettings, Store, StoreOptions};

use crate::support::*;

/// A record as it was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    offset: i64,
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
}

/// What should be in the log if it were never compacted.
type Model = Vec<Entry>;

/// What must be left of `all` below `end`, and everything behind it.
fn compacted(all: &Model, end: i64, tombstones_stay: bool) -> Model {
    let mut newest = BTreeMap::new();
    for entry in all.iter().filter(|entry| entry.offset < end) {
        newest.insert(entry.key.clone(), entry.offset);
    }
    let stays = |entry: &&Entry| {
        entry.offset >= end
            || (entry.key.is_some()
                && newest[&entry.key] == entry.offset
                && (tombstones_stay || entry.value.is_some()))
    };
    all.iter().filter(stays).cloned().collect()
}

/// Compares and, where that fails, tells the offsets alone.
fn assert_same(found: &Model, wanted: &Model, context: &str) {
    let offsets = |model: &Model| model.iter().map(|e| e.offset).collect::<Vec<_>>();
    assert_eq!(offsets(found), offsets(wanted), "{context}");
    assert!(found == wanted, "{context}");
}

struct Machine {
    sim: SimDisk,
    store: Store,
    host: Host,
    jumped: Arc<AtomicI64>,
    log: Arc<Log>,
    told: Arc<Told>,
}

fn settings() -> LogSettings {
    LogSettings {
        segment_bytes: 1_500,
        index_interval_bytes: 200,
        retention_ms: -1,
        timestamp_after_max_ms: i64::MAX,
        file_delete_delay_ms: 1_000,
        ..LogSettings::default()
    }
}

fn compact() -> LogSettings {
    LogSettings {
        compact: true,
        delete: false,
        min_cleanable_ppm: 0,
        ..settings()
    }
}

impl Machine {
    async fn start(sim: &SimDisk, tune: impl Fn(&mut StoreOptions)) -> Option<Machine> {
        let (host, jumped) = host_with_clock(sim, 5);
        let told = Arc::new(Told::default());
        let mut options = options(Path::new("/data"), host.clone(), told.clone());
        options.default_settings = settings();
        options.cleaner.backoff = Duration::from_millis(50);
        options.cleaner.io_buffer_bytes = 700;
        options.recovery_checkpoint_interval = Duration::from_millis(300);
        // What is in memory is not what is compacted.
        options.tail_budget_bytes = 0;
        tune(&mut options);
        let (store, report) = Store::open(options).await.ok()?;
        assert!(report.failed.is_empty(), "{report:?}");
        let name = topic("t");
        let log = store
            .create(partition(1, 0), &name, settings())
            .await
            .ok()?;
        let sim = sim.clone();
        Some(Machine {
            sim,
            store,
            host,
            jumped,
            log,
            told,
        })
    }

    /// Appends batches of a few records with few keys.
    async fn fill(&self, random: &Random, batches: usize, model: &mut Model) {
        // Records without a key come from before the log was compacted.
        let in_force = self.log.settings();
        self.log.reconfigure(settings());
        for _ in 0..batches {
            let codec = [Compression::None, Compression::Lz4][random.range(0..2) as usize];
            let mut builder = BatchBuilder::compressed(codec);
            let base = self.log.bounds().log_end.0;
            let headers = [RecordHeader {
                key: b"name",
                value: Some(b"content"),
            }];
            for n in 0..random.range(1..6) as i64 {
                let key = match random.range(0..25) {
                    0 => None,
                    n => Some(vec![n as u8; 1 + 40 * usize::from(n == 24)]),
                };
                let value = (!random.range(0..6).eq(&0))
                    .then(|| vec![random.range(0..256) as u8; random.range(0..60) as usize]);
                let entry = Entry {
                    offset: base + n,
                    timestamp: NOW.0 + random.range(0..5_000) as i64,
                    key,
                    value,
                };
                let headers = &headers[..random.range(0..2) as usize];
                let time = Timestamp(entry.timestamp);
                builder.push(time, entry.key.as_deref(), entry.value.as_deref(), headers);
                model.push(entry);
            }
            let batch = builder.build().unwrap();
            let appended = append_as_leader(&self.log, batch, LeaderEpoch(0), NOW);
            assert_eq!(appended.unwrap().first, Offset(base));
        }
        self.log.reconfigure((*in_force).clone());
        self.log.make_durable().await.unwrap();
        self.log.note_high_watermark(self.log.bounds().log_end);
    }

    /// Reads the whole log; nothing if the disk is gone.
    async fn read(&self) -> Option<Model> {
        let (mut from, end) = (self.log.bounds().log_start, self.log.bounds().log_end);
        let (mut model, mut last) = (Model::new(), -1);
        while from < end {
            let plan = self.log.read(from, 900, end, true).ok()?;
            let loaded = plan.load(&self.host.tasks).await.ok()?;
            assert!(!loaded.is_empty(), "nothing at {from} of {end}");
            for bytes in loaded {
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    let header = BatchHeader::parse(rest).unwrap();
                    assert!(header.base_offset.0 > last, "offsets rise");
                    last = header.last_offset().0;
                    take_records(&rest[..header.size], &mut model);
                    rest = &rest[header.size..];
                }
                from = Offset(last + 1);
            }
        }
        Some(model)
    }

    fn active_base(&self) -> i64 {
        self.segments().into_iter().max().unwrap()
    }

    fn segments(&self) -> Vec<i64> {
        let entries = self.sim.mount().list(Path::new("/data/t-0")).unwrap();
        let names = entries.into_iter().map(|entry| entry.name);
        let bases = names.filter_map(|name| name.strip_suffix(".log")?.parse().ok());
        bases.collect()
    }

    fn files(&self, suffix: &str) -> usize {
        let entries = self.sim.mount().list(Path::new("/data/t-0")).unwrap();
        entries.iter().filter(|e| e.name.ends_with(suffix)).count()
    }

    fn is_offline(&self) -> bool {
        !self.told.offline.lock().unwrap().is_empty()
    }
}

fn take_records(batch: &[u8], model: &mut Model) {
    for record in RecordSet::of_batch(batch, 1 << 20).unwrap().iter() {
        let record = record.unwrap();
        model.push(Entry {
            offset: record.offset.0,
            timestamp: record.timestamp.0,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
        });
    }
}

async fn pass(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

/// Small memory for keys takes several rounds and comes to the same.
#[test]
fn the_newest_of_each_key_stays() {
    for seed in 0..40 {
        simulate(async {
            let (random, sim) = (Random::from_seed(seed), SimDisk::new(seed));
            let tune = |options: &mut StoreOptions| {
                options.cleaner.threads = 1 + (seed % 3) as usize;
                if seed % 2 == 1 {
                    options.cleaner.dedupe_buffer_bytes = 0;
                }
            };
            let machine = Machine::start(&sim, tune).await.unwrap();
            let mut model = Model::new();
            for round in 0..3 {
                machine.fill(&random, 40, &mut model).await;
                assert!(machine.segments().len() > 3);
                machine.log.reconfigure(compact());
                pass(4_000).await;
                let wanted = compacted(&model, machine.active_base(), true);
                let found = machine.read().await.unwrap();
                assert_same(&found, &wanted, &format!("seed {seed}, round {round}"));
                assert_eq!(machine.files(".cleaned") + machine.files(".swap"), 0);
                assert!(!machine.is_offline());
            }
            assert!(machine.segments().len() < 15, "{:?}", machine.segments());
            let end = machine.log.bounds().log_end;
            let wanted = compacted(&model, machine.active_base(), true);
            machine.store.close(BrokerEpoch(1)).await.unwrap();
            drop(machine);
            pass(1_000).await;
            let machine = Machine::start(&sim, tune).await.unwrap();
            assert_same(
                &machine.read().await.unwrap(),
                &wanted,
                &format!("seed {seed}"),
            );
            assert_eq!(machine.log.bounds().log_end, end);
        });
    }
}

#[test]
fn a_compaction_that_loses_power_anywhere_leaves_one_valid_view() {
    let mut crashes = 0;
    for seed in 0..3 {
        for changes in 0.. {
            let mut crashed = false;
            simulate(async {
                let (random, sim) = (
                    Random::from_seed(seed),
                    SimDisk::new(seed * 1_000 + changes),
                );
                sim.set_tells_errors(seed != 1);
                let machine = Machine::start(&sim, |_| {}).await.unwrap();
                let mut model = Model::new();
                machine.fill(&random, 30, &mut model).await;
                let least = compacted(&model, machine.active_base(), true);
                let end = machine.log.bounds().log_end;
                machine.log.reconfigure(compact());
                let before = sim.crashes();
                sim.crash_after(changes);
                pass(3_000).await;
                crashed = sim.crashes() > before;
                if !crashed {
                    sim.crash();
                }
                drop(machine);
                pass(1_000).await;
                let machine = Machine::start(&sim, |_| {}).await.unwrap();
                let context = format!("seed {seed}, power lost after {changes} changes");
                assert_eq!(machine.log.bounds().log_end, end, "{context}");
                assert_eq!(
                    machine.files(".cleaned") + machine.files(".swap"),
                    0,
                    "{context}"
                );
                let found = machine.read().await.unwrap();
                assert!(
                    least.iter().all(|entry| found.contains(entry)),
                    "lost: {context}"
                );
                assert!(
                    found.iter().all(|entry| model.contains(entry)),
                    "made up: {context}"
                );
                // It goes on where it was interrupted.
                machine.log.note_high_watermark(end);
                machine.log.reconfigure(compact());
                pass(3_000).await;
                assert_same(&machine.read().await.unwrap(), &least, &context);
            });
            if !crashed {
                break;
            }
            crashes += 1;
        }
    }
    assert!(crashes > 60, "{crashes}");
}

#[test]
fn tombstones_go_when_their_time_has_come() {
    simulate(async {
        let (random, sim) = (Random::from_seed(3), SimDisk::new(3));
        let machine = Machine::start(&sim, |_| {}).await.unwrap();
        let mut model = Model::new();
        machine.fill(&random, 60, &mut model).await;
        let settings = LogSettings {
            delete_retention_ms: 60_000,
            ..compact()
        };
        machine.log.reconfigure(settings);
        pass(3_000).await;
        let tombstones = |model: &Model| model.iter().filter(|e| e.value.is_none()).count();
        let wanted = compacted(&model, machine.active_base(), true);
        assert_same(&machine.read().await.unwrap(), &wanted, "a log");
        assert!(tombstones(&wanted) > 0);
        // A clock that jumps takes nothing early.
        machine.jumped.store(3_600_000, Ordering::Relaxed);
        machine.fill(&random, 10, &mut model).await;
        pass(3_000).await;
        let wanted = compacted(&model, machine.active_base(), true);
        assert_same(&machine.read().await.unwrap(), &wanted, "a log");
        machine.jumped.store(0, Ordering::Relaxed);
        pass(130_000).await;
        machine.fill(&random, 10, &mut model).await;
        pass(3_000).await;
        let end = machine.active_base();
        let (most, least) = (compacted(&model, end, true), compacted(&model, end, false));
        let found = machine.read().await.unwrap();
        assert!(least.iter().all(|entry| found.contains(entry)));
        assert!(found.iter().all(|entry| most.contains(entry)));
        // Only what was not compacted a minute ago may still be there.
        assert!(
            tombstones(&found) < tombstones(&most),
            "{}",
            tombstones(&found)
        );
    });
}

#[test]
fn what_is_young_or_not_committed_is_not_touched() {
    simulate(async {
        let (random, sim) = (Random::from_seed(4), SimDisk::new(4));
        let machine = Machine::start(&sim, |_| {}).await.unwrap();
        let mut model = Model::new();
        machine.fill(&random, 40, &mut model).await;
        machine.log.reconfigure(LogSettings {
            min_compaction_lag_ms: 3_600_000,
            ..compact()
        });
        pass(5_000).await;
        assert_same(&machine.read().await.unwrap(), &model, "a log");
        machine.log.reconfigure(LogSettings {
            min_cleanable_ppm: 1_000_000,
            ..compact()
        });
        pass(5_000).await;
        assert_same(&machine.read().await.unwrap(), &model, "a log");
        // However little is dirty, what is too old must be compacted.
        machine.log.reconfigure(LogSettings {
            min_cleanable_ppm: 1_000_000,
            max_compaction_lag_ms: 1_000,
            ..compact()
        });
        pass(5_000).await;
        let wanted = compacted(&model, machine.active_base(), true);
        assert_same(&machine.read().await.unwrap(), &wanted, "a log");
        let committed = machine.log.bounds().log_end;
        let mut later = Model::new();
        machine.fill(&random, 40, &mut later).await;
        assert!(!later.is_empty());
        drop(machine);
        sim.crash();
        pass(1_000).await;
        let machine = Machine::start(&sim, |_| {}).await.unwrap();
        assert!(machine.log.high_watermark_checkpoint() <= committed);
    });
}

#[test]
fn a_log_that_is_cut_or_deleted_meanwhile_is_left_alone() {
    for seed in 0..20 {
        simulate(async {
            let (random, sim) = (Random::from_seed(seed), SimDisk::new(seed));
            let machine = Machine::start(&sim, |_| {}).await.unwrap();
            let mut model = Model::new();
            machine.fill(&random, 40, &mut model).await;
            let to = model.len() as i64 - 10;
            machine.log.note_high_watermark(Offset(to));
            machine.log.reconfigure(compact());
            pass(60 + seed * 2).await;
            match seed % 3 {
                0 => machine.store.delete(partition(1, 0)).await.unwrap(),
                1 => machine.log.restart_at(Offset(500)).await.unwrap(),
                _ => machine.log.truncate_to(Offset(to)).await.unwrap(),
            }
            pass(3_000).await;
            assert!(!machine.is_offline(), "seed {seed}");
            if seed % 3 == 2 {
                let end = machine.log.bounds().log_end.0;
                model.retain(|entry| entry.offset < end);
                let found = machine.read().await.unwrap();
                let wanted = compacted(&model, machine.active_base(), true);
                assert_same(&found, &wanted, &format!("seed {seed}"));
            }
        });
    }
}

#[test]
fn a_disk_that_fills_up_or_breaks_costs_no_record() {
    for (place, operation) in [
        Operation::Write,
        Operation::Sync,
        Operation::Rename,
        Operation::Read,
    ]
    .into_iter()
    .enumerate()
    {
        for after in 0..12 {
            simulate(async {
                let (random, sim) = (Random::from_seed(9), SimDisk::new(after));
                let machine = Machine::start(&sim, |_| {}).await.unwrap();
                let mut model = Model::new();
                machine.fill(&random, 30, &mut model).await;
                let least = compacted(&model, machine.active_base(), true);
                if place == 0 && after % 2 == 0 {
                    sim.set_capacity(sim.used() + after * 300);
                } else {
                    let after = after as u32;
                    sim.inject(Fault {
                        after,
                        ..Fault::broken(operation, "/t-0")
                    });
                }
                machine.log.reconfigure(compact());
                pass(3_000).await;
                sim.heal();
                sim.set_capacity(u64::MAX);
                sim.crash();
                drop(machine);
                pass(1_000).await;
                let machine = Machine::start(&sim, |_| {}).await.unwrap();
                let context = format!("{operation:?} after {after}");
                let found = machine.read().await.unwrap();
                assert!(
                    least.iter().all(|entry| found.contains(entry)),
                    "lost: {context}"
                );
                machine
                    .log
                    .note_high_watermark(machine.log.bounds().log_end);
                machine.log.reconfigure(compact());
                pass(3_000).await;
                assert_same(&machine.read().await.unwrap(), &least, &context);
            });
        }
    }
}

/// A batch of one record of a producer's transaction.
fn transactional(producer: i64, sequence: i32, base: i64, key: &[u8]) -> BytesMut {
    let mut builder = BatchBuilder::new(BatchOptions {
        base_offset: Offset(base),
        leader_epoch: LeaderEpoch(0),
        producer_id: ProducerId(producer),
        producer_epoch: ProducerEpoch(0),
        base_sequence: Sequence(sequence),
        transactional: true,
        ..BatchOptions::default()
    });
    builder.push(NOW, Some(key), Some(&[7; 100]), &[]);
    builder.build().unwrap()
}

fn marker(producer: i64, base: i64, kind: ControlType) -> BytesMut {
    let mut builder = BatchBuilder::new(BatchOptions {
        base_offset: Offset(base),
        leader_epoch: LeaderEpoch(0),
        producer_id: ProducerId(producer),
        producer_epoch: ProducerEpoch(0),
        transactional: true,
        control: true,
        ..BatchOptions::default()
    });
    builder.push(NOW, Some(&kind.key()), Some(&[0; 6]), &[]);
    builder.build().unwrap()
}

#[test]
fn aborted_records_go_and_markers_outlive_their_transactions() {
    simulate(async {
        let (random, sim) = (Random::from_seed(6), SimDisk::new(6));
        let machine = Machine::start(&sim, |_| {}).await.unwrap();
        let log = &machine.log;
        let put = |batch: BytesMut| {
            log.append_as_follower(log.bounds().log_end, batch.freeze())
                .unwrap();
        };
        // 1 commits, 2 aborts, and 2 aborts again over a segment's end; 3 stays open for long.
        put(transactional(1, 0, 0, b"a"));
        put(transactional(2, 0, 1, b"a"));
        put(transactional(2, 1, 2, b"b"));
        put(marker(1, 3, ControlType::Commit));
        put(marker(2, 4, ControlType::Abort));
        for n in 0..12 {
            put(transactional(2, 2 + n, 5 + i64::from(n), b"a"));
        }
        put(marker(2, 17, ControlType::Abort));
        put(transactional(3, 0, 18, b"c"));
        let mut model = Model::new();
        machine.fill(&random, 30, &mut model).await;
        log.reconfigure(LogSettings {
            delete_retention_ms: 10_000,
            ..compact()
        });
        pass(3_000).await;
        let offsets = |found: &Model| {
            let offsets = found.iter().map(|entry| entry.offset);
            offsets.filter(|o| *o < 19).collect::<Vec<_>>()
        };
        // Nothing from the open transaction's segment on may be touched.
        let first = offsets(&machine.read().await.unwrap());
        assert!(first.contains(&0) && first.contains(&3), "{first:?}");
        assert!(first.contains(&18), "{first:?}");
        assert!(!first.contains(&1) && !first.contains(&2), "{first:?}");

        let end = log.bounds().log_end.0;
        put(marker(3, end, ControlType::Commit));
        machine.fill(&random, 30, &mut model).await;
        pass(3_000).await;
        let second = offsets(&machine.read().await.unwrap());
        assert!(
            (5..17).all(|offset| !second.contains(&offset)),
            "{second:?}"
        );
        assert!(second.contains(&0) && second.contains(&3), "{second:?}");
        pass(30_000).await;
        machine.fill(&random, 10, &mut model).await;
        pass(20_000).await;
        machine.fill(&random, 10, &mut model).await;
        pass(3_000).await;
        let third = offsets(&machine.read().await.unwrap());
        // The marker of what is still there stays; those of nothing are gone.
        assert!(third.contains(&0) && third.contains(&3), "{third:?}");
        assert!(!third.contains(&4), "{third:?}");
        // Producers are known by their newest batches, which stay if only empty.
        let known: BTreeSet<i64> = log.producers().iter().map(|p| p.id.0).collect();
        assert_eq!(known, [1, 2, 3].into());
        check_producers_without_snapshots(&sim, machine).await;
    });
}

/// Opens the log again without any snapshot: its producers are told by the batches alone.
async fn check_producers_without_snapshots(sim: &SimDisk, machine: Machine) {
    let known = |log: &Log| {
        let producers = log.producers().into_iter();
        producers
            .map(|p| (p.id, p.last_sequence))
            .collect::<Vec<_>>()
    };
    machine.store.close(BrokerEpoch(1)).await.unwrap();
    let before = known(&machine.log);
    let (mount, folder) = (sim.mount(), Path::new("/data/t-0"));
    for entry in mount.list(folder).unwrap() {
        if entry.name.ends_with(".snapshot") {
            mount.remove_file(&folder.join(entry.name)).unwrap();
        }
    }
    drop(machine);
    pass(1_000).await;
    let machine = Machine::start(sim, |_| {}).await.unwrap();
    assert_eq!(known(&machine.log), before);
}

#[test]
fn the_throttle_holds_compaction_back() {
    simulate(async {
        let (random, sim) = (Random::from_seed(8), SimDisk::new(8));
        let tune = |options: &mut StoreOptions| options.cleaner.max_bytes_per_second = 1_000.0;
        let machine = Machine::start(&sim, tune).await.unwrap();
        let mut model = Model::new();
        machine.fill(&random, 40, &mut model).await;
        let bytes = machine.log.size_bytes();
        machine.log.reconfigure(compact());
        // Everything is read twice.
        pass(bytes).await;
        let wanted = compacted(&model, machine.active_base(), true);
        assert!(machine.read().await.unwrap() != wanted);
        // Another rate is in force at once, but for the bytes that are being paid for.
        let options = CleanerOptions {
            backoff: Duration::from_millis(50),
            ..CleanerOptions::default()
        };
        machine.store.set_cleaner(options);
        pass(bytes + 5_000).await;
        assert_same(&machine.read().await.unwrap(), &wanted, "a log");
    });
}
