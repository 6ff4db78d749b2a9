//! A store on a simulated disk that loses power at any moment, against a model: what was reported
//! durable survives byte for byte, and a log is always the beginning of what was appended.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millrace_host::disk::read_file;
use millrace_host::disk::sim::{Fault, Operation, SimDisk};
use millrace_host::{Host, Random};
use millrace_model::{BrokerEpoch, DirectoryId, Durability, LeaderEpoch, Offset, PartitionId};
use millrace_storage::{
    AppendError, Flaw, Log, LogSettings, RecoveryReport, Store, StoreEvents, StoreOptions,
};

use crate::support::*;

/// Holds what the store tells against what the disk is sure to keep at that moment.
struct Watch {
    sim: SimDisk,
    told: Arc<Told>,
    synced: bool,
}

impl StoreEvents for Watch {
    fn durable(&self, progress: &[(PartitionId, Offset)]) {
        if self.synced {
            for (id, end) in progress {
                let kept = kept_end(&self.sim, id.index as usize);
                assert!(kept >= Some(end.0), "{id} told {end}, {kept:?} is synced");
            }
        }
        self.told.durable(progress);
    }

    fn offline(&self, directory: DirectoryId, why: &str) {
        self.told.offline(directory, why);
    }
}

/// Where a log ends if the power goes now and nothing survives that was not synced; nothing if it
/// has no file. Told from the bytes of its files.
fn kept_end(sim: &SimDisk, index: usize) -> Option<i64> {
    let sim = sim.worst_case();
    let (disk, path) = (sim.mount(), format!("/data/t-{index}"));
    disk.list(Path::new("/data")).ok()?;
    let mut end = None;
    for entry in disk.list(Path::new(&path)).ok()? {
        let Some(base) = entry.name.strip_suffix(".log") else {
            continue;
        };
        let base: i64 = base.parse().unwrap();
        if end.is_some_and(|end| end != base) {
            break;
        }
        let file = Path::new(&path).join(&entry.name);
        let content = read_file(disk.as_ref(), &file, u64::MAX).unwrap();
        end = Some(whole_end(&content, base));
    }
    disk.exists(&Path::new(&path).join("partition.metadata"))
        .then_some(end)?
}

/// The offset that follows the last whole batch.
fn whole_end(content: &[u8], base: i64) -> i64 {
    let (mut rest, mut end) = (content, base);
    while rest.len() > 61 {
        let size = i32::from_be_bytes(rest[8..12].try_into().unwrap()) as usize + 12;
        let crc = u32::from_be_bytes(rest[17..21].try_into().unwrap());
        if size < 61 || size > rest.len() || crc32c::crc32c(&rest[21..size]) != crc {
            break;
        }
        end = next_offset(&rest[..size]).0;
        rest = &rest[size..];
    }
    end
}

/// A batch in the model.
#[derive(Clone)]
struct Entry {
    base: i64,
    end: i64,
    epoch: i32,
    batch: Batch,
    bytes: Bytes,
}

/// One log as it should be.
#[derive(Default)]
struct Model {
    entries: Vec<Entry>,
    start: i64,
    /// Reported durable up to here.
    promised: i64,
    /// The log start that was reported durable.
    promised_start: i64,
    /// A restart may or may not have happened, so nothing is promised.
    maybe_restarted: bool,
}

impl Model {
    fn end(&self) -> i64 {
        self.entries.last().map_or(self.start, |entry| entry.end)
    }

    fn bytes(&self, from: i64) -> Vec<u8> {
        let wanted = self.entries.iter().filter(|entry| entry.end > from);
        wanted.flat_map(|entry| entry.bytes.to_vec()).collect()
    }

    fn next_sequence(&self, producer: i64) -> i32 {
        let last = self
            .entries
            .iter()
            .rev()
            .find(|entry| entry.batch.producer.0 == producer);
        last.map_or(0, |entry| entry.batch.producer.2 + entry.batch.count)
    }

    fn cut(&mut self, to: i64) {
        self.entries.retain(|entry| entry.end <= to);
        if self
            .entries
            .last()
            .is_some_and(|last| last.end < self.start)
        {
            // What is left lies before the start, so nothing is.
            self.entries.clear();
        }
        self.promised = self.promised.min(to);
    }
}

struct Run {
    seed: u64,
    random: Random,
    sim: SimDisk,
    durability: Durability,
    models: Vec<Model>,
    epoch: i32,
    trace: Vec<String>,
}

/// A store in one life of the machine.
struct Life {
    store: Store,
    host: Host,
    told: Arc<Told>,
    logs: Vec<Arc<Log>>,
}

impl Run {
    fn new(seed: u64) -> Run {
        let durability = if seed.is_multiple_of(3) {
            Durability::PageCache
        } else {
            Durability::Fsync
        };
        let sim = SimDisk::new(seed);
        sim.set_tells_errors(seed % 5 > 1);
        Run {
            seed,
            random: Random::from_seed(seed),
            sim,
            durability,
            models: (0..3).map(|_| Model::default()).collect(),
            epoch: 0,
            trace: Vec::new(),
        }
    }

    fn chance(&self, one_in: u64) -> bool {
        self.random.range(0..one_in) == 0
    }

    fn settings(&self) -> LogSettings {
        LogSettings {
            segment_bytes: 700,
            index_interval_bytes: 150,
            durability: self.durability,
            // Some files go at once and some wait.
            file_delete_delay_ms: (self.seed % 2) as i64 * 700,
            ..LogSettings::default()
        }
    }

    fn options(&self, host: Host, told: Arc<Told>) -> StoreOptions {
        let (sim, synced) = (self.sim.clone(), self.durability == Durability::Fsync);
        let mut options = options(Path::new("/data"), host, told.clone());
        options.events = Arc::new(Watch { sim, told, synced });
        options.default_settings = self.settings();
        options.tail_budget_bytes = 600;
        options.max_open_files = 3;
        options.retention_check_interval = Duration::from_millis(300);
        options.initial_task_delay = Duration::ZERO;
        options.recovery_checkpoint_interval = Duration::from_millis(400);
        options.high_watermark_checkpoint_interval = Duration::from_millis(400);
        options
    }

    /// Opens the store, perhaps in several attempts that lose power, and holds it against the
    /// models.
    async fn open(&mut self) -> Life {
        loop {
            let crashes = self.sim.crashes();
            if self.chance(4) {
                self.sim.crash_after(self.random.range(0..60));
            }
            let (host, told) = (sim_host(&self.sim, self.seed), Arc::new(Told::default()));
            let opened = Store::open(self.options(host.clone(), told.clone())).await;
            let opened = match opened {
                Ok((store, report)) => self.look(store, report, &host, told.clone(), crashes).await,
                Err(error) => {
                    assert!(self.sim.crashes() > crashes, "{error} ({})", self.explain());
                    None
                }
            };
            match opened {
                Some(life) => return life,
                None => {
                    assert!(self.sim.crashes() > crashes, "{}", self.explain());
                    self.trace.push("power lost in recovery".to_owned());
                }
            }
        }
    }

    async fn look(
        &mut self,
        store: Store,
        report: RecoveryReport,
        host: &Host,
        told: Arc<Told>,
        crashes: u64,
    ) -> Option<Life> {
        let mut logs = Vec::new();
        for index in 0..self.models.len() {
            let id = partition(1, index as i32);
            if let Some(flaw) = store.unusable(&topic("t"), index as i32)
                && self.sim.crashes() == crashes
            {
                self.check_lost_identity(index, flaw);
                // Where the power goes in between, nothing can be made either.
                let _ = store.set_unusable_aside(&topic("t"), index as i32).await;
            }
            let Ok(log) = store.create(id, &topic("t"), self.settings()).await else {
                assert!(
                    self.sim.crashes() > crashes,
                    "{report:?} {}",
                    self.explain()
                );
                return None;
            };
            logs.push(log);
        }
        for (index, log) in logs.iter().enumerate() {
            if !self.check_recovered(index, log, host).await {
                assert!(
                    self.sim.crashes() > crashes || told_offline(&told),
                    "{}",
                    self.explain()
                );
                return None;
            }
        }
        self.trace.push(format!("opened {report:?}"));
        let host = host.clone();
        Some(Life {
            store,
            host,
            told,
            logs,
        })
    }

    /// A log that does not know its topic any more: nothing of it was ever acknowledged.
    fn check_lost_identity(&self, index: usize, flaw: Flaw) {
        let promised = self.models[index].promised;
        let expected = match self.durability {
            Durability::Fsync => flaw == Flaw::Unborn,
            Durability::PageCache => flaw != Flaw::Damaged,
        };
        let context = format!("log {index}, promised {promised}, {flaw:?}");
        assert!(promised == 0 && expected, "{context}: {}", self.explain());
    }

    /// Takes over what survived, after checking that it may be so. False if the power went.
    async fn check_recovered(&mut self, index: usize, log: &Log, host: &Host) -> bool {
        let bounds = log.bounds();
        let (start, end) = (bounds.log_start.0, bounds.log_end.0);
        let explain = self.explain();
        let model = &mut self.models[index];
        let context = format!(
            "log {index}: {bounds:?}, promised {} ({explain})",
            model.promised
        );
        let restarting = std::mem::take(&mut model.maybe_restarted);
        if restarting && start == end && log.producers().is_empty() {
            // It happened, or the power went when the old files were gone and the new one was not
            // there: an empty log, wherever it begins.
            *model = Model {
                start,
                ..Model::default()
            };
            return true;
        }
        assert_eq!(bounds.durable_end, bounds.log_end, "{context}");
        assert!(end >= model.promised, "lost: {context}");
        assert!(end <= model.end(), "made up: {context}");
        assert!(start <= model.start.max(end), "start moved: {context}");
        assert!(start >= model.promised_start, "start went back: {context}");
        model.cut(end);
        assert_eq!(
            model.end().max(model.start.min(end)),
            end,
            "no batch ends here: {context}"
        );
        model.promised = end;
        model.start = model.start.min(end);
        // A log start that moved just before a crash may have to move again.
        log.advance_log_start(Offset(model.start));
        let from = start.max(model.start);
        if from < end {
            let Some(read) = try_read(log, host, from, end).await else {
                return false;
            };
            assert!(read == model.bytes(from), "content differs: {context}");
        }
        let last = model.entries.last().filter(|entry| entry.end > start);
        if let Some(last) = last {
            assert_eq!(log.last_epoch(), LeaderEpoch(last.epoch), "{context}");
        }
        for entry in model.entries.iter().filter(|entry| entry.base >= from) {
            let epoch = log.epoch_at(Offset(entry.base));
            assert_eq!(
                epoch,
                LeaderEpoch(entry.epoch),
                "at {}: {context}",
                entry.base
            );
        }
        for producer in log.producers() {
            let known = model.next_sequence(producer.id.0);
            assert_eq!(
                producer.last_sequence.0 + 1,
                known,
                "producer {}: {context}",
                producer.id
            );
        }
        true
    }

    fn explain(&self) -> String {
        let recent = self.trace.iter().rev().take(25).rev().cloned();
        format!(
            "seed {}, last steps:\n{}",
            self.seed,
            recent.collect::<Vec<_>>().join("\n")
        )
    }

    fn note_promises(&mut self, life: &Life) {
        for (model, log) in self.models.iter_mut().zip(&life.logs) {
            let start = log.durable_start().0.min(model.start);
            model.promised_start = model.promised_start.max(start);
        }
        let told = life.told.durable.lock().unwrap();
        if self.durability == Durability::PageCache {
            return;
        }
        for (index, model) in self.models.iter_mut().enumerate() {
            let told = told.get(&partition(1, index as i32)).map_or(0, |end| end.0);
            model.promised = model.promised.max(told.min(model.end()));
        }
    }

    fn append(&mut self, life: &Life, index: usize) {
        let model = &self.models[index];
        let producer = match self.random.range(0..4) {
            0 => (-1, -1, -1),
            id => (id as i64, 0, model.next_sequence(id as i64)),
        };
        let batch = Batch {
            count: self.random.range(1..5) as i32,
            value_bytes: self.random.range(1..90) as usize,
            timestamp: NOW.0 + self.random.range(0..50) as i64,
            producer,
            seed: self.random.range(0..250) as u8,
        };
        self.epoch += i32::from(self.chance(15));
        let (epoch, base) = (self.epoch, model.end());
        let result = append_as_leader(&life.logs[index], batch.bytes(), LeaderEpoch(epoch), NOW);
        self.trace.push(format!(
            "append {index} {base}+{} -> {result:?}",
            batch.count
        ));
        match result {
            Ok(appended) => {
                assert!(!appended.duplicate, "{}", self.explain());
                assert_eq!(appended.first, Offset(base), "{}", self.explain());
                let (end, bytes) = (base + i64::from(batch.count), batch.stored(base, epoch));
                self.models[index].entries.push(Entry {
                    base,
                    end,
                    epoch,
                    batch,
                    bytes,
                });
            }
            Err(AppendError::Offline | AppendError::NoSpace) => {}
            Err(error) => panic!("{error}: {}", self.explain()),
        }
    }

    async fn step(&mut self, life: &Life) {
        let index = self.random.range(0..3) as usize;
        let log = &life.logs[index];
        match self.random.range(0..40) {
            0..=17 => self.append(life, index),
            18..=22 => tokio::time::sleep(LATENCY * self.random.range(1..6) as u32).await,
            23 => tokio::time::sleep(Duration::from_millis(500)).await,
            24..=26 => {
                let end = self.models[index].end();
                let done = log.make_durable().await;
                self.trace
                    .push(format!("make durable {index} {end} -> {done:?}"));
                if done.is_ok() {
                    self.models[index].promised = end;
                    let kept = kept_end(&self.sim, index).unwrap_or(0);
                    assert!(kept >= end, "{index} {kept}: {}", self.explain());
                }
            }
            27..=28 => self.truncate(life, index).await,
            29 if self.chance(2) => self.retain(life, index).await,
            29 => self.advance(log, index),
            30 if self.chance(3) => self.restart(life, index).await,
            31..=36 => self.read(life, index).await,
            37 => self.repeat(log, index),
            38 if self.chance(4) => {
                self.trace.push("disk almost full".to_owned());
                self.sim
                    .set_capacity(self.sim.used() + self.random.range(0..400));
            }
            39 if self.chance(6) => {
                let operation =
                    [Operation::Write, Operation::Sync][self.random.range(0..2) as usize];
                self.trace.push(format!("{operation:?} breaks"));
                self.sim.inject(Fault::broken(operation, ".log"));
            }
            _ => {
                self.trace.push("disk has room".to_owned());
                self.sim.set_capacity(u64::MAX);
            }
        }
        self.note_promises(life);
    }

    async fn truncate(&mut self, life: &Life, index: usize) {
        let log = &life.logs[index];
        let model = &mut self.models[index];
        let lowest = (model.end() - 15).max(model.start);
        let to = lowest + self.random.range(0..20) as i64;
        model.promised = model.promised.min(to.max(lowest));
        // A batch that reaches across goes as a whole.
        let crossed = model
            .entries
            .iter()
            .find(|entry| entry.base < to && entry.end > to);
        if let Some(crossed) = crossed {
            model.promised = model.promised.min(crossed.base);
        }
        let entries: Vec<_> = model
            .entries
            .iter()
            .rev()
            .take(8)
            .map(|e| (e.base, e.end))
            .collect();
        let done = log.truncate_to(Offset(to)).await;
        life.told.durable.lock().unwrap().remove(&log.id());
        self.trace.push(format!(
            "truncate {index} {to} -> {done:?}, was {entries:?}"
        ));
        let model = &mut self.models[index];
        if done.is_ok() && to < model.end() {
            model.cut(to);
            model.promised = model.end().max(model.start);
            assert_eq!(log.bounds().log_end.0, model.end(), "{}", self.explain());
            let kept = kept_end(&self.sim, index);
            assert_eq!(kept, Some(self.models[index].end()), "{}", self.explain());
        }
        self.trace
            .push(format!("truncate {index} {to} -> {done:?}"));
    }

    fn advance(&mut self, log: &Log, index: usize) {
        let model = &mut self.models[index];
        let to = model.start + self.random.range(0..12) as i64;
        if to <= model.promised {
            log.advance_log_start(Offset(to));
            model.start = to;
            self.trace.push(format!("advance {index} to {to}"));
        }
    }

    /// Lets retention by size delete what is promised and too much.
    async fn retain(&mut self, life: &Life, index: usize) {
        let log = &life.logs[index];
        log.note_high_watermark(Offset(self.models[index].promised));
        log.reconfigure(LogSettings {
            retention_bytes: self.random.range(0..1500) as i64,
            ..self.settings()
        });
        tokio::time::sleep(Duration::from_millis(700)).await;
        log.reconfigure(self.settings());
        let start = log.bounds().log_start.0;
        let model = &mut self.models[index];
        let kept = start <= model.promised.max(model.start);
        model.start = model.start.max(start);
        self.trace.push(format!("retained {index} from {start}"));
        assert!(kept, "deleted too much: {}", self.explain());
    }

    async fn restart(&mut self, life: &Life, index: usize) {
        let log = &life.logs[index];
        let at = self.models[index].end() + self.random.range(0..30) as i64 - 10;
        let at = at.max(0);
        self.models[index].maybe_restarted = true;
        self.models[index].promised = 0;
        self.models[index].promised_start = 0;
        let done = log.restart_at(Offset(at)).await;
        life.told.durable.lock().unwrap().remove(&log.id());
        self.trace
            .push(format!("restart {index} at {at} -> {done:?}"));
        if done.is_ok() {
            self.models[index] = Model {
                start: at,
                promised: at,
                ..Model::default()
            };
            let kept = kept_end(&self.sim, index);
            assert_eq!(kept, Some(at), "{}", self.explain());
        }
    }

    async fn read(&mut self, life: &Life, index: usize) {
        let model = &self.models[index];
        let (log, start, end) = (&life.logs[index], model.start, model.end());
        if start == end || told_offline(&life.told) {
            return;
        }
        let from = start + self.random.range(0..(end - start) as u64) as i64;
        let Some(read) = try_read(log, &life.host, from, end).await else {
            return;
        };
        assert!(
            read == model.bytes(from),
            "read {index} from {from}: {}",
            self.explain()
        );
    }

    fn repeat(&mut self, log: &Log, index: usize) {
        let model = &self.models[index];
        let Some(last) = model
            .entries
            .iter()
            .rev()
            .find(|entry| entry.batch.producer.0 > 0)
        else {
            return;
        };
        // What lies before the log start is remembered only until the log is opened or cut.
        if last.end <= model.start {
            return;
        }
        let newest = last.batch.producer.2 + last.batch.count;
        if newest != model.next_sequence(last.batch.producer.0) {
            return;
        }
        let again = append_as_leader(log, last.batch.bytes(), LeaderEpoch(self.epoch), NOW);
        if let Ok(again) = again {
            assert!(
                again.duplicate && again.first.0 == last.base,
                "{again:?} {}",
                self.explain()
            );
        }
    }

    async fn live(&mut self) {
        let life = self.open().await;
        self.sim.crash_after(self.random.range(20..400));
        let crashes = self.sim.crashes();
        for _ in 0..self.random.range(5..120) {
            self.step(&life).await;
            if self.sim.crashes() > crashes || told_offline(&life.told) {
                break;
            }
        }
        let clean = self.chance(3);
        if clean {
            let closed = life.store.close(BrokerEpoch(1)).await;
            self.trace.push(format!("close -> {closed:?}"));
            if closed.is_ok() {
                for index in 0..self.models.len() {
                    let end = self.models[index].end();
                    self.models[index].promised = end;
                    let kept = kept_end(&self.sim, index).unwrap_or(0);
                    assert!(kept >= end, "{index} {kept}: {}", self.explain());
                }
            }
        }
        self.note_promises(&life);
        if self.chance(3) {
            self.sim.kill();
        } else {
            self.sim.crash();
        }
        self.trace.push("the machine went down".to_owned());
        self.sim.heal();
        self.sim.set_capacity(u64::MAX);
        drop(life);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn told_offline(told: &Told) -> bool {
    !told.offline.lock().unwrap().is_empty()
}

/// Reads a range; nothing if the disk is gone.
async fn try_read(log: &Log, host: &Host, from: i64, end: i64) -> Option<Vec<u8>> {
    let (mut all, mut from) = (Vec::new(), Offset(from));
    while from < Offset(end) {
        let plan = log.read(from, 300, Offset(end), true).ok()?;
        let loaded = plan.load(&host.tasks).await.ok()?;
        assert!(
            !loaded.is_empty(),
            "nothing at {from} of {end} in {:?}",
            log.bounds()
        );
        for bytes in loaded {
            from = next_offset(&bytes);
            all.extend_from_slice(&bytes);
        }
    }
    Some(all)
}

async fn run(seed: u64) {
    let mut run = Run::new(seed);
    for _ in 0..5 {
        run.live().await;
    }
    run.open().await;
}

#[test]
fn what_was_durable_survives_any_crash() {
    let runs = std::env::var("MILLRACE_CRASH_RUNS").map_or(60, |runs| runs.parse().unwrap());
    let first = std::env::var("MILLRACE_CRASH_SEED").map_or(0, |seed| seed.parse().unwrap());
    for seed in first..first + runs {
        eprintln!("seed {seed}");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(run(seed));
    }
}
