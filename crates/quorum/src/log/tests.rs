//! openraft's conformance suite, and what happens to the log when the power goes.

use std::path::Path;

use bytes::Bytes;
use millrace_host::disk::sim::SimDisk;
use millrace_host::disk::{OpenMode, RealDisk};
use millrace_model::{BrokerId, DirectoryId};
use openraft::storage::{IOFlushed, RaftLogReader, RaftLogStorage};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::TypeConfigExt;
use openraft::{OptionalSend, StorageError};
use tempfile::TempDir;
use tokio::runtime::Handle;

use super::segment::HEADER_BYTES;
use super::*;
use crate::machine::{Machine, Published};
use crate::types::{Payload, Proposal, log_id};

impl From<u64> for RaftId {
    fn from(number: u64) -> RaftId {
        RaftId {
            node: BrokerId(i32::try_from(number).unwrap()),
            directory: DirectoryId::default(),
        }
    }
}

fn host() -> Host {
    let tasks = Tasks::on(Handle::current());
    Host::real(tasks.clone(), tasks)
}

fn owner() -> Owner {
    Owner {
        cluster_id: "c".into(),
        id: RaftId::from(1),
    }
}

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, Machine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, Machine), StorageError<TypeConfig>> {
        let directory = tempfile::tempdir().unwrap();
        let log = LogStore::open(&host(), directory.path(), owner())
            .await
            .unwrap();
        let path = directory.path().to_owned();
        let machine = Machine::open(&host(), path, None, Published::new())
            .await
            .unwrap();
        Ok((directory, log, machine))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_to_openraft() {
    Suite::test_all(Builder).await.unwrap();
}

async fn open(directory: &Path) -> io::Result<LogStore> {
    LogStore::open(&host(), directory, owner()).await
}

fn entry(term: u64, index: u64, bytes: usize) -> Entry {
    let payload = Payload::Normal(Proposal(Bytes::from(vec![index as u8; bytes])));
    Entry {
        log_id: log_id(term, index),
        payload,
    }
}

async fn append(log: &mut LogStore, entries: impl IntoIterator<Item = Entry> + OptionalSend) {
    let entries: Vec<_> = entries.into_iter().collect();
    let (done, flushed) = TypeConfig::oneshot();
    log.append(entries, IOFlushed::signal(done)).await.unwrap();
    flushed.await.unwrap().unwrap();
}

async fn indexes(log: &mut LogStore) -> Vec<u64> {
    let entries = log.try_get_log_entries(0..1000).await.unwrap();
    entries.iter().map(|entry| entry.log_id.index).collect()
}

fn segment_files(directory: &Path) -> Vec<PathBuf> {
    let entries = RealDisk.list(directory).unwrap();
    let names = entries.into_iter().map(|entry| entry.name);
    names
        .filter(|name| segment::first_index(name).is_some())
        .map(|n| directory.join(n))
        .collect()
}

fn cut(path: &Path, bytes: usize) {
    let file = RealDisk.open(path, OpenMode::ReadWrite).unwrap();
    file.set_len(file.len().unwrap() - bytes as u64).unwrap();
}

fn flip(path: &Path, at: u64) {
    let file = RealDisk.open(path, OpenMode::ReadWrite).unwrap();
    let mut byte = [0];
    file.read_at(&mut byte, at).unwrap();
    file.write_at(&[Bytes::from(vec![byte[0] ^ 0xff])], at)
        .unwrap();
}

#[tokio::test]
async fn a_log_opens_as_it_was_left() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = open(directory.path()).await.unwrap();
    assert!(log.is_pristine());
    append(&mut log, (0..5).map(|index| entry(1, index, 10))).await;
    append(&mut log, (5..9).map(|index| entry(2, index, 10))).await;
    log.save_vote(&Vote::new_committed(2, RaftId::from(1)))
        .await
        .unwrap();
    drop(log);
    let mut log = open(directory.path()).await.unwrap();
    assert!(!log.is_empty());
    assert_eq!(indexes(&mut log).await, (0..9).collect::<Vec<_>>());
    let entries = log.try_get_log_entries(4..6).await.unwrap();
    assert_eq!(entries, [entry(1, 4, 10), entry(2, 5, 10)]);
    assert_eq!(
        log.read_vote().await.unwrap(),
        Some(Vote::new_committed(2, RaftId::from(1)))
    );
    assert_eq!(
        log.get_log_state().await.unwrap().last_log_id,
        Some(log_id(2, 8))
    );
}

#[tokio::test(start_paused = true)]
async fn what_finds_no_space_waits_in_its_order() {
    let sim = SimDisk::new(1);
    let directory = Path::new("/metadata");
    let tasks = Tasks::simulated(Duration::from_millis(1));
    let host = Host {
        disk: sim.mount(),
        ..Host::real(tasks.clone(), tasks)
    };
    let mut log = LogStore::open(&host, directory, owner()).await.unwrap();
    append(&mut log, [entry(1, 0, 100)]).await;
    sim.set_capacity(sim.used() + 250);
    // Not even all that comes together fits.
    let (done, mut flushed) = TypeConfig::oneshot();
    let entries: Vec<_> = (1..5).map(|index| entry(1, index, 100)).collect();
    log.append(entries, IOFlushed::signal(done)).await.unwrap();
    let vote = Vote::new(2, RaftId::from(2));
    let mut voter = log.clone();
    let mut voting = Box::pin(async move { voter.save_vote(&vote).await });
    let waiting = tokio::time::timeout(Duration::from_secs(10), async {
        tokio::select! {
            _ = &mut flushed => "append",
            _ = &mut voting => "vote",
        }
    });
    assert!(waiting.await.is_err(), "nothing was promised");
    assert_eq!(indexes(&mut log).await, [0, 1, 2, 3, 4]);
    sim.set_capacity(u64::MAX);
    flushed.await.unwrap().unwrap();
    voting.as_mut().await.unwrap();
    drop((voting, log));
    sim.kill();
    let host = Host {
        disk: sim.mount(),
        ..host
    };
    let mut log = LogStore::open(&host, directory, owner()).await.unwrap();
    assert_eq!(indexes(&mut log).await, [0, 1, 2, 3, 4]);
    assert_eq!(log.read_vote().await.unwrap(), Some(vote));
}

#[tokio::test(start_paused = true)]
async fn who_stops_does_not_wait_for_space() {
    let sim = SimDisk::new(1);
    let tasks = Tasks::simulated(Duration::from_millis(1));
    let host = Host {
        disk: sim.mount(),
        ..Host::real(tasks.clone(), tasks)
    };
    let directory = Path::new("/metadata");
    let mut log = LogStore::open(&host, directory, owner()).await.unwrap();
    append(&mut log, [entry(1, 0, 100)]).await;
    sim.set_capacity(sim.used());
    let (done, mut flushed) = TypeConfig::oneshot();
    let flushing = IOFlushed::signal(done);
    log.append([entry(1, 1, 100)], flushing).await.unwrap();
    let waiting = tokio::time::timeout(Duration::from_secs(10), &mut flushed);
    assert!(waiting.await.is_err(), "there is no space for it");
    log.stop_waiting();
    flushed.await.unwrap().unwrap_err();
    // What comes later does not wait either.
    log.save_vote(&Vote::new(2, RaftId::from(2)))
        .await
        .unwrap_err();
}

#[tokio::test]
async fn a_torn_tail_is_cut() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = open(directory.path()).await.unwrap();
    append(&mut log, (0..3).map(|index| entry(1, index, 100))).await;
    append(&mut log, [entry(1, 3, 100)]).await;
    drop(log);
    // As after a power cut: neither the mark nor the end of the last entry reached the disk.
    cut(&segment_files(directory.path())[0], HEADER_BYTES + 5);
    let mut log = open(directory.path()).await.unwrap();
    assert_eq!(indexes(&mut log).await, [0, 1, 2]);
    append(&mut log, [entry(2, 3, 7)]).await;
    drop(log);
    let mut log = open(directory.path()).await.unwrap();
    assert_eq!(
        log.try_get_log_entries(3..4).await.unwrap(),
        [entry(2, 3, 7)]
    );
}

#[tokio::test]
async fn damage_before_what_was_synced_later_is_no_torn_tail() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = open(directory.path()).await.unwrap();
    append(&mut log, (0..3).map(|index| entry(1, index, 100))).await;
    append(&mut log, [entry(1, 3, 100)]).await;
    drop(log);
    let path = &segment_files(directory.path())[0];
    flip(path, 150);
    let error = open(directory.path()).await.err().unwrap();
    assert!(error.to_string().contains("damaged at byte"), "{error}");
    // With everything after it gone as well, only the vote's note of how far the log reached tells.
    flip(path, 150);
    let mut log = open(directory.path()).await.unwrap();
    log.save_vote(&Vote::new(3, RaftId::from(2))).await.unwrap();
    drop(log);
    cut(path, HEADER_BYTES + 5);
    let error = open(directory.path()).await.err().unwrap();
    assert!(error.to_string().contains("though it held more"), "{error}");
}

#[tokio::test]
async fn damage_in_the_last_entry_is_no_torn_tail() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = open(directory.path()).await.unwrap();
    append(&mut log, [entry(1, 0, 100)]).await;
    append(&mut log, [entry(1, 1, 5000)]).await;
    drop(log);
    let path = &segment_files(directory.path())[0];
    flip(path, 3000);
    let error = open(directory.path()).await.err().unwrap();
    assert!(error.to_string().contains("damaged at byte"), "{error}");
    flip(path, 3000);
    // The mark itself is no entry, and the next entry takes its place.
    let mut log = open(directory.path()).await.unwrap();
    append(&mut log, [entry(1, 2, 10)]).await;
    drop(log);
    let mut log = open(directory.path()).await.unwrap();
    assert_eq!(indexes(&mut log).await, [0, 1, 2]);
}

#[tokio::test]
async fn a_lost_log_is_not_taken_for_an_empty_one() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = open(directory.path()).await.unwrap();
    append(&mut log, [entry(1, 0, 10)]).await;
    log.save_vote(&Vote::new(3, RaftId::from(2))).await.unwrap();
    drop(log);
    RealDisk
        .remove_file(&segment_files(directory.path())[0])
        .unwrap();
    assert!(open(directory.path()).await.is_err());
}

#[tokio::test]
async fn a_damaged_state_file_stops_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = open(directory.path()).await.unwrap();
    log.save_vote(&Vote::new(3, RaftId::from(2))).await.unwrap();
    drop(log);
    flip(&directory.path().join("quorum-state"), 9);
    let error = open(directory.path()).await.err().unwrap();
    assert!(error.to_string().contains("checksum"), "{error}");
}

#[tokio::test]
async fn another_nodes_log_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = open(directory.path()).await.unwrap();
    log.save_vote(&Vote::new(1, RaftId::from(1))).await.unwrap();
    drop(log);
    let other = Owner {
        cluster_id: "other".into(),
        id: RaftId::from(1),
    };
    let error = LogStore::open(&host(), directory.path(), other)
        .await
        .err()
        .unwrap();
    assert!(error.to_string().contains("belongs to node 1"), "{error}");
}

#[tokio::test]
async fn entries_are_purged_and_truncated_across_segments() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = open(directory.path()).await.unwrap();
    let large = 3 * 1024 * 1024;
    for index in 0..10 {
        append(&mut log, [entry(1, index, large)]).await;
    }
    assert!(segment_files(directory.path()).len() > 2);
    log.truncate_after(Some(log_id(1, 7))).await.unwrap();
    append(&mut log, [entry(2, 8, 10)]).await;
    log.purge(log_id(1, 4)).await.unwrap();
    assert_eq!(indexes(&mut log).await, [5, 6, 7, 8]);
    drop(log);
    let mut log = open(directory.path()).await.unwrap();
    assert_eq!(indexes(&mut log).await, [5, 6, 7, 8]);
    assert_eq!(
        log.try_get_log_entries(7..9).await.unwrap(),
        [entry(1, 7, large), entry(2, 8, 10)]
    );
    assert_eq!(log.purged(), Some(log_id(1, 4)));
    // All that is left is cut off: what follows begins a segment of its own.
    log.truncate_after(Some(log_id(1, 4))).await.unwrap();
    append(&mut log, [entry(3, 5, 10)]).await;
    drop(log);
    let mut log = open(directory.path()).await.unwrap();
    assert_eq!(indexes(&mut log).await, [5]);
}

#[tokio::test]
async fn a_snapshot_beyond_the_log_takes_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = open(directory.path()).await.unwrap();
    append(&mut log, (0..3).map(|index| entry(1, index, 10))).await;
    log.purge(log_id(4, 90)).await.unwrap();
    assert_eq!(
        log.get_log_state().await.unwrap().last_log_id,
        Some(log_id(4, 90))
    );
    append(&mut log, [entry(4, 91, 10)]).await;
    drop(log);
    let mut log = open(directory.path()).await.unwrap();
    assert_eq!(indexes(&mut log).await, [91]);
    // The same, with the power lost between noting the purge and removing the files.
    let kept = segment_files(directory.path());
    let copy = tempfile::tempdir().unwrap();
    let held = std::fs::read(&kept[0]).unwrap();
    log.purge(log_id(5, 200)).await.unwrap();
    drop(log);
    for name in RealDisk.list(directory.path()).unwrap() {
        std::fs::copy(
            directory.path().join(&name.name),
            copy.path().join(&name.name),
        )
        .unwrap();
    }
    std::fs::write(copy.path().join(kept[0].file_name().unwrap()), held).unwrap();
    let mut log = open(copy.path()).await.unwrap();
    assert!(indexes(&mut log).await.is_empty());
    append(&mut log, [entry(5, 201, 10)]).await;
    drop(log);
    assert_eq!(indexes(&mut open(copy.path()).await.unwrap()).await, [201]);
}
