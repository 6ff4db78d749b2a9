//! One simulated machine: a runtime of its own whose clock stands unless it is stepped, disks,
//! and a wall clock that may be wrong.
//!
//! A process ends at once, in the middle of whatever it does, by dropping the runtime; before that
//! its disk is made dead, and where the machine itself fails also its network, so that no
//! destructor can do what a dead process cannot. A machine that is not stepped is a stopped process
//! whose kernel goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use millrace_host::disk::sim::SimDisk;
use millrace_host::network::sim::SimNetwork;
use millrace_host::{Clock, Host, Network, Random, Tasks};
use millrace_model::Timestamp;
use tokio::runtime::{Builder, Runtime};

use crate::{seal, trace};

/// Time moves by this much at once: it is the precision of tokio's timers too.
pub const TICK: Duration = Duration::from_millis(1);

/// How long a disk takes for a round of work while nothing is wrong, and how much more at most.
const DISK_LEAST: Duration = Duration::from_millis(1);
const DISK_MORE: Duration = Duration::from_millis(2);

/// The clock that all machines of one simulation share, in microseconds since its beginning.
#[derive(Clone, Default)]
pub struct SharedClock(Arc<AtomicU64>);

impl SharedClock {
    /// Moves it.
    pub fn set(&self, now: Duration) {
        let micros = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        self.0.store(micros, Ordering::Relaxed);
    }

    /// Since the beginning.
    pub fn now(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }
}

/// A machine of the simulation.
pub struct Machine {
    /// How others reach it.
    pub name: String,
    /// What survives its processes.
    pub disk: SimDisk,
    network: Arc<dyn Network>,
    all: SimNetwork,
    random: Random,
    clock: SharedClock,
    /// Milliseconds that its wall clock is ahead.
    wall_offset: Arc<AtomicI64>,
    /// Microseconds that its disk takes for a round of work, and how much more it may take.
    disk_micros: Arc<(AtomicU64, AtomicU64)>,
    process: Option<Process>,
    /// Whether the process is stopped.
    pub paused: bool,
    /// Parts per million that its clocks run fast.
    pub drift_ppm: i64,
    /// When it was last stepped.
    stepped: Duration,
}

struct Process {
    runtime: Runtime,
    /// Time that the runtime owes, below one tick.
    owed: f64,
}

impl Machine {
    /// A machine without a process.
    pub fn new(name: &str, seed: u64, network: &SimNetwork, clock: &SharedClock) -> Machine {
        let machine = Machine {
            name: name.to_owned(),
            disk: SimDisk::new(seed),
            network: network.add(name),
            all: network.clone(),
            random: Random::from_seed(seed.rotate_left(17)),
            clock: clock.clone(),
            wall_offset: Arc::default(),
            disk_micros: Arc::default(),
            process: None,
            paused: false,
            drift_ppm: 0,
            stepped: Duration::ZERO,
        };
        machine.reset_disk_latency();
        machine
    }

    /// Whether it runs a process.
    pub fn runs(&self) -> bool {
        self.process.is_some()
    }

    /// How far its wall clock is ahead.
    pub fn set_wall_offset(&self, milliseconds: i64) {
        self.wall_offset.store(milliseconds, Ordering::Relaxed);
    }

    /// How long a round of work takes its disk: at least `least`, and up to `more` on top.
    pub fn set_disk_latency(&self, least: Duration, more: Duration) {
        let micros = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        self.disk_micros.0.store(micros(least), Ordering::Relaxed);
        self.disk_micros.1.store(micros(more), Ordering::Relaxed);
    }

    /// It takes as long as it did in the beginning.
    pub fn reset_disk_latency(&self) {
        self.set_disk_latency(DISK_LEAST, DISK_MORE);
    }

    /// An empty disk in the place of this one; no process may run.
    pub fn replace_disk(&mut self, seed: u64) {
        self.disk = SimDisk::new(seed);
    }

    /// Starts a process, which begins with `main`.
    pub fn start<F>(&mut self, main: impl FnOnce(Host) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        assert!(self.process.is_none(), "{} runs already", self.name);
        self.stepped = self.clock.now();
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime without threads and sockets needs nothing");
        let main = main(self.host());
        runtime.spawn(main);
        self.process = Some(Process { runtime, owed: 0.0 });
        self.paused = false;
    }

    fn host(&self) -> Host {
        let (clock, offset) = (self.clock.clone(), self.wall_offset.clone());
        let wall = move || {
            let now = (seal::BEGIN + clock.now()).as_millis();
            let now = i64::try_from(now).unwrap_or(i64::MAX);
            Timestamp(now + offset.load(Ordering::Relaxed))
        };
        let (disk, random) = (self.disk_micros.clone(), self.random.clone());
        let tasks = Tasks::simulated_by(move || {
            let least = disk.0.load(Ordering::Relaxed);
            let more = disk.1.load(Ordering::Relaxed);
            Duration::from_micros(least + random.range(0..more + 1))
        });
        let name = self.name.clone();
        Host {
            disk: self.disk.mount(),
            network: self.network.clone(),
            clock: Clock::with_wall(wall),
            random: self.random.clone(),
            tasks: tasks.clone(),
            control: tasks,
            fatal: Arc::new(move |why| panic!("{name} broke an invariant: {why}")),
        }
    }

    /// Lets the process run until its clock shows what the shared one does.
    pub fn step(&mut self) {
        let now = self.clock.now();
        let Some(process) = self.process.as_mut().filter(|_| !self.paused) else {
            return;
        };
        let passed = now.saturating_sub(self.stepped);
        self.stepped = now;
        let rate = 1.0 + self.drift_ppm as f64 / 1e6;
        process.owed += passed.as_secs_f64() * rate;
        let ticks = (process.owed / TICK.as_secs_f64() + 1e-6).floor();
        process.owed -= ticks * TICK.as_secs_f64();
        let ticks = ticks as u32;
        if ticks == 0 {
            return;
        }
        trace::set_speaker(&self.name);
        process.runtime.block_on(async {
            if ticks > 2 {
                // It was stopped: its timers are late, all at once.
                tokio::time::advance(TICK * (ticks - 1)).await;
                tokio::time::sleep(TICK).await;
            } else {
                tokio::time::sleep(TICK * ticks).await;
            }
        });
    }

    /// The process is killed: its kernel closes its connections, and what it wrote stays.
    pub fn kill(&mut self) {
        self.disk.kill();
        self.end();
    }

    /// The machine loses its power: what was not synced may be lost, and nobody is told.
    pub fn power_off(&mut self) {
        self.all.power_off(&self.name);
        self.disk.crash();
        self.end();
    }

    /// The power is back; no process runs.
    pub fn power_on(&mut self) {
        self.all.power_on(&self.name);
    }

    /// The disk went down by itself, and the process goes with it.
    pub fn crashed(&mut self) {
        self.all.power_off(&self.name);
        self.end();
    }

    fn end(&mut self) {
        self.paused = false;
        drop(self.process.take());
    }
}
