//! Starts, clean and not, where files that can be made anew are missing or damaged: each is, and
//! nobody notices but for the time it takes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millrace_host::disk::sim::SimDisk;
use millrace_host::disk::{OpenMode, read_file};
use millrace_model::{BrokerEpoch, LeaderEpoch, Offset, Timestamp};
use millrace_storage::{LogSettings, RecoveryReport, Store};

use crate::support::*;

const BATCHES: i64 = 40;
const END: i64 = BATCHES * 3;

fn settings() -> LogSettings {
    LogSettings {
        segment_bytes: 700,
        index_interval_bytes: 150,
        ..LogSettings::default()
    }
}

fn batch(n: i64) -> Batch {
    Batch {
        seed: n as u8,
        timestamp: 1_000 + 10 * n,
        producer: (7 + n % 2, 0, (n / 2 * 3) as i32),
        ..Batch::default()
    }
}

fn epoch_of(n: i64) -> i32 {
    (n / 15) as i32
}

async fn open(sim: &SimDisk) -> (Store, RecoveryReport) {
    let told = Arc::new(Told::default());
    let mut options = options(Path::new("/data"), sim_host(sim, 1), told);
    options.default_settings = settings();
    options.recovery_checkpoint_interval = Duration::from_secs(1);
    Store::open(options).await.unwrap()
}

/// What happens to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Harm {
    Missing,
    Emptied,
    /// Every byte is another one.
    Garbled,
    /// One bit in the middle is another one.
    Flipped,
    /// Half of it is there, and half of an entry.
    Halved,
}

const HARMS: [Harm; 5] = [
    Harm::Missing,
    Harm::Emptied,
    Harm::Garbled,
    Harm::Flipped,
    Harm::Halved,
];

fn harm(sim: &SimDisk, path: &Path, how: Harm) {
    let disk = sim.mount();
    let mut content = read_file(disk.as_ref(), path, u64::MAX).unwrap();
    let middle = content.len() / 2;
    match how {
        Harm::Missing => return disk.remove_file(path).unwrap(),
        Harm::Emptied => content.clear(),
        Harm::Garbled => content.iter_mut().for_each(|byte| *byte ^= 0xa5),
        Harm::Flipped => content[middle] ^= 0x10,
        Harm::Halved => content.truncate(middle | 1),
    }
    let file = disk.open(path, OpenMode::ReadWrite).unwrap();
    file.set_len(0).unwrap();
    if !content.is_empty() {
        file.write_at(&[Bytes::from(content)], 0).unwrap();
    }
}

/// A log of several segments and epochs; closed in order, or not a moment after a checkpoint.
async fn disk(clean: bool) -> SimDisk {
    let sim = SimDisk::new(1);
    let (store, _) = open(&sim).await;
    let id = partition(1, 0);
    let log = store.create(id, &topic("t"), settings()).await.unwrap();
    for n in 0..BATCHES {
        let epoch = LeaderEpoch(epoch_of(n));
        append_as_leader(&log, batch(n).bytes(), epoch, Timestamp(2_000)).unwrap();
        if n == BATCHES - 5 {
            log.note_high_watermark(Offset(60));
            log.make_durable().await.unwrap();
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
    }
    log.make_durable().await.unwrap();
    if clean {
        store.close(BrokerEpoch(1)).await.unwrap();
    }
    sim.kill();
    drop((store, log));
    tokio::time::sleep(Duration::from_secs(5)).await;
    sim
}

/// All files with this suffix, and those of the directory.
fn files(sim: &SimDisk, suffix: &str) -> Vec<PathBuf> {
    let disk = sim.mount();
    let mut found = Vec::new();
    for folder in ["/data", "/data/t-0"].map(Path::new) {
        let entries = disk.list(folder).unwrap();
        let wanted = entries.iter().filter(|entry| entry.name.ends_with(suffix));
        found.extend(wanted.map(|entry| folder.join(&entry.name)));
    }
    found
}

/// Everything is as it was.
async fn check(sim: &SimDisk, context: &str) {
    let (store, report) = open(sim).await;
    assert!(
        report.failed.is_empty() && report.offline.is_empty(),
        "{context}: {report:?}"
    );
    let log = store.log(partition(1, 0)).unwrap();
    assert_eq!(log.bounds().log_end, Offset(END), "{context}");
    let host = sim_host(sim, 1);
    let expected: Vec<u8> = (0..BATCHES)
        .flat_map(|n| batch(n).stored(3 * n, epoch_of(n)).to_vec())
        .collect();
    // From anywhere, not only from where an earlier read ended.
    for n in (0..BATCHES).rev() {
        let plan = log.read(Offset(3 * n + 1), 1, Offset(END), true).unwrap();
        let read = plan.load(&host.tasks).await.unwrap();
        let wanted = batch(n).stored(3 * n, epoch_of(n));
        assert_eq!(read, [wanted], "{context}: batch {n}");
        let time = Timestamp(1_000 + 10 * n + 1);
        let found = log.offset_for_timestamp(time).await.unwrap();
        assert_eq!(found.unwrap().0, Offset(3 * n + 1), "{context}: {time}");
        assert_eq!(
            log.epoch_at(Offset(3 * n)),
            LeaderEpoch(epoch_of(n)),
            "{context}: {n}"
        );
    }
    assert!(
        read_all(&log, &host, Offset(0), Offset(END), 1).await == expected,
        "{context}"
    );
    let newest = log.max_timestamp().await.unwrap().unwrap();
    assert_eq!(newest.0, Offset(END - 1), "{context}");
    let mut producers: Vec<_> = log
        .producers()
        .iter()
        .map(|p| (p.id.0, p.last_sequence.0))
        .collect();
    producers.sort_unstable();
    assert_eq!(producers, [(7, 59), (8, 59)], "{context}");
    // And it can be cut, appended to and closed.
    log.truncate_to(Offset(END - 30)).await.unwrap();
    assert_eq!(log.bounds().log_end, Offset(END - 30), "{context}");
    for n in BATCHES - 10..BATCHES {
        log.append_as_follower(Offset(3 * n), batch(n).stored(3 * n, epoch_of(n)))
            .unwrap();
    }
    log.make_durable().await.unwrap();
    assert!(
        read_all(&log, &host, Offset(0), Offset(END), 1).await == expected,
        "{context}"
    );
    store.close(BrokerEpoch(2)).await.unwrap();
}

fn check_harm(suffix: &'static str) {
    for clean in [true, false] {
        for how in HARMS {
            simulate(async move {
                let sim = disk(clean).await;
                let files = files(&sim, suffix);
                assert!(!files.is_empty(), "{suffix}");
                for file in files {
                    harm(&sim, &file, how);
                }
                check(&sim, &format!("{suffix}, {how:?}, clean: {clean}")).await;
            });
        }
    }
}

#[test]
fn offset_indexes_are_made_anew_or_not_believed() {
    check_harm(".index");
}

#[test]
fn time_indexes_are_made_anew_or_not_believed() {
    check_harm(".timeindex");
}

#[test]
fn producer_snapshots_are_made_anew() {
    check_harm(".snapshot");
}

#[test]
fn leader_epochs_are_read_from_the_batches() {
    check_harm("leader-epoch-checkpoint");
}

#[test]
fn checkpoints_of_a_directory_are_done_without() {
    for name in [
        "recovery-point-offset-checkpoint",
        "replication-offset-checkpoint",
        "cleaner-offset-checkpoint",
        "log-start-offset-checkpoint",
    ] {
        for clean in [true, false] {
            for how in HARMS {
                simulate(async move {
                    let sim = disk(clean).await;
                    for file in files(&sim, name) {
                        harm(&sim, &file, how);
                    }
                    check(&sim, &format!("{name}, {how:?}, clean: {clean}")).await;
                });
            }
        }
    }
}

/// Only what the recovery point does not cover is gone through.
#[test]
fn what_was_flushed_is_not_scanned() {
    for (harmed, least, most) in [(false, 1, 3), (true, 5, 100)] {
        simulate(async move {
            let sim = disk(false).await;
            if harmed {
                let file = Path::new("/data/recovery-point-offset-checkpoint");
                harm(&sim, file, Harm::Missing);
            }
            let (_, report) = open(&sim).await;
            let scanned = report.scanned_segments;
            assert!((least..=most).contains(&scanned), "{report:?}");
        });
    }
    simulate(async {
        let sim = disk(true).await;
        assert_eq!(open(&sim).await.1.scanned_segments, 0);
    });
}
