//! The scrub: goes through all closed segments again and again, slowly, so that what a disk changed
//! by itself is found while other replicas still have it.
//!
//! It reads little at a time and pauses in between as its rate asks; one thread of those that may
//! wait for disks is at work at most. What nobody had in the page cache leaves it again. Where a
//! pass stands is written down now and then, so that a broker which is restarted every day gets
//! through all the same.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use millrace_host::Disk;
use millrace_model::{Offset, Timestamp, TopicName};
use tokio::time::Instant;

use super::Inner;
use crate::checkpoint;
use crate::directory::Directory;
use crate::error::StorageError;
use crate::examine::{Bite, Examination};
use crate::log::Log;
use crate::names::SCRUB;

/// What is read between two pauses: half a second's worth, within these bounds.
const SMALLEST_BITE: u64 = 64 << 10;
const LARGEST_BITE: u64 = 4 << 20;

/// How often it is written down where a pass stands.
const NOTE_INTERVAL: Duration = Duration::from_secs(60);

/// The longest sleep between looks whether something is to be done.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);

/// Largest note that is read; real ones have less than 400 bytes.
const MAX_NOTE_BYTES: u64 = 64 << 10;

/// What was done since the start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) bytes: AtomicU64,
    pub(crate) passes: AtomicU64,
    pub(crate) damages: AtomicU64,
}

type Key = (TopicName, i32);

/// Where the pass over one directory stands.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Note {
    /// When it began; `NONE` if none ever did.
    began: Timestamp,
    /// The segment to go on with; nothing if the pass is over.
    at: Option<(Key, Offset)>,
}

impl Default for Note {
    fn default() -> Note {
        let (began, at) = (Timestamp::NONE, None);
        Note { began, at }
    }
}

impl Note {
    fn encode(&self) -> String {
        let at = match &self.at {
            Some(((topic, index), offset)) => format!("{topic} {index} {offset}\n"),
            None => String::new(),
        };
        format!("0\n{}\n{at}", self.began)
    }

    /// Understands the note, also one that makes no sense: a pass begins anew then.
    fn decode(text: &str) -> Option<Note> {
        let mut lines = text.lines();
        if lines.next()? != "0" {
            return None;
        }
        let began = Timestamp(lines.next()?.parse().ok()?);
        let Some(line) = lines.next() else {
            return Some(Note { began, at: None });
        };
        let mut words = line.split(' ');
        let topic = TopicName::new(words.next()?).ok()?;
        let index = words.next()?.parse().ok()?;
        let offset = Offset(words.next()?.parse().ok()?);
        let at = Some(((topic, index), offset));
        Some(Note { began, at })
    }

    fn read(disk: &dyn Disk, directory: &Path) -> Note {
        let text = checkpoint::read_text(disk, &directory.join(SCRUB), MAX_NOTE_BYTES);
        let note = text.ok().flatten().and_then(|text| Note::decode(&text));
        note.unwrap_or_default()
    }

    fn write(&self, disk: &dyn Disk, directory: &Path) {
        // If this fails, a later pass only begins earlier than it had to.
        let _ = checkpoint::replace(disk, &directory.join(SCRUB), self.encode());
    }
}

/// What one bite came to.
enum Done {
    /// So many bytes were read.
    Read(u64),
    /// The pass over the directory is over.
    All,
}

/// The scrub of one directory.
struct Scrub {
    inner: Weak<Inner>,
    /// Its place among the store's.
    place: usize,
    note: Note,
    noted: Instant,
    /// The logs of this pass, by name; the last one is next.
    left: Vec<(Key, Weak<Log>)>,
    at_work: Option<Examination>,
}

/// Runs until the store is closed or dropped.
pub(super) async fn run(store: Weak<Inner>) {
    let Some(inner) = store.upgrade() else { return };
    let (shared, delay) = (inner.shared.clone(), inner.options.initial_task_delay);
    let directories = inner.directories.iter();
    let paths: Vec<_> = directories
        .map(|open| open.directory.path.clone())
        .collect();
    drop(inner);
    // After the start the disks have other things to do.
    tokio::time::sleep(delay).await;
    let mut scrubs = Vec::new();
    for (place, path) in paths.into_iter().enumerate() {
        let disk = shared.host.disk.clone();
        let reading = move || Note::read(disk.as_ref(), &path);
        let note = shared.host.tasks.blocking(reading).await;
        scrubs.push(Scrub {
            inner: store.clone(),
            place,
            note,
            noted: shared.host.clock.now(),
            left: Vec::new(),
            at_work: None,
        });
    }
    loop {
        for scrub in &mut scrubs {
            if !scrub.pass().await {
                return;
            }
        }
        let Some(inner) = store.upgrade() else { return };
        let now = shared.host.clock.wall();
        let waits = scrubs.iter().map(|scrub| scrub.wait(&inner, now));
        let wait = waits.min().unwrap_or(LONGEST_SLEEP);
        drop(inner);
        tokio::time::sleep(wait.clamp(Duration::from_millis(1), LONGEST_SLEEP)).await;
    }
}

impl Scrub {
    /// Not kept: whoever drops the store lets go of its locks.
    fn directory<'a>(&self, inner: &'a Inner) -> &'a Arc<Directory> {
        &inner.directories[self.place].directory
    }

    /// How long until the next pass is due.
    fn wait(&self, inner: &Inner, now: Timestamp) -> Duration {
        if self.directory(inner).is_offline() {
            return LONGEST_SLEEP;
        }
        if self.note.at.is_some() || self.note.began == Timestamp::NONE {
            return Duration::ZERO;
        }
        let interval = inner.options.scrub_interval;
        let passed = now.get().saturating_sub(self.note.began.get());
        match u64::try_from(passed) {
            Ok(passed) => interval.saturating_sub(Duration::from_millis(passed)),
            // The clock was set back: nobody knows.
            Err(_) => interval,
        }
    }

    /// Goes through the directory once, if that is due. False when the store is gone.
    async fn pass(&mut self) -> bool {
        let Some(inner) = self.inner.upgrade() else {
            return false;
        };
        let now = inner.shared.host.clock.wall();
        if self.note.began > now && self.note.at.is_none() {
            // The clock was set back, by whatever: that must not stop the scrub for as long.
            self.note.began = now;
        }
        if !self.wait(&inner, now).is_zero() {
            return !inner.closed.load(Ordering::Relaxed);
        }
        if self.note.at.is_none() {
            self.note.began = now;
        }
        self.gather(&inner);
        drop(inner);
        loop {
            let Some(inner) = self.inner.upgrade() else {
                return false;
            };
            if inner.closed.load(Ordering::Relaxed) {
                return false;
            }
            if self.directory(&inner).is_offline() {
                return true;
            }
            let rate = inner.scrub_rate.load(Ordering::Relaxed);
            if rate == 0 {
                drop(inner);
                self.wait_for_change().await;
                continue;
            }
            match self.step(&inner, rate).await {
                Done::All => return true,
                Done::Read(bytes) => {
                    drop(inner);
                    pause(bytes, rate).await;
                }
            }
        }
    }

    async fn wait_for_change(&self) {
        if let Some(inner) = self.inner.upgrade() {
            let changed = inner.scrub_changed.notified();
            // The store must be free to go in the meantime, so this wakes now and then.
            let _ = tokio::time::timeout(LONGEST_SLEEP, changed).await;
        }
    }

    /// Notes which logs there are, from where the note says on.
    fn gather(&mut self, inner: &Inner) {
        let logs = inner.logs_of(self.directory(inner));
        let from = self.note.at.as_ref().map(|(key, _)| key.clone());
        let key = |log: &Arc<Log>| (log.topic().clone(), log.id().index);
        let mut left: Vec<_> = logs
            .iter()
            .map(|log| (key(log), Arc::downgrade(log)))
            .filter(|(key, _)| from.as_ref().is_none_or(|from| key >= from))
            .collect();
        left.sort_by(|(a, _), (b, _)| b.cmp(a));
        self.left = left;
    }

    /// Reads a bite of what comes next.
    async fn step(&mut self, inner: &Arc<Inner>, rate: u64) -> Done {
        if self.at_work.is_none() {
            self.at_work = self.next_segment();
        }
        let Some(mut examination) = self.at_work.take() else {
            self.note.at = None;
            inner.shared.scrubbed.passes.fetch_add(1, Ordering::Relaxed);
            self.write_note(inner).await;
            return Done::All;
        };
        let bytes = (rate / 2).clamp(SMALLEST_BITE, LARGEST_BITE);
        let bitten = move || {
            let bite = examination.bite_politely(bytes);
            (examination, bite)
        };
        let (examination, bite) = inner.shared.host.tasks.blocking(bitten).await;
        let read = match bite {
            Ok(Bite::More(read)) => {
                self.at_work = Some(examination);
                read
            }
            Ok(Bite::Done(read)) => {
                self.passed();
                read
            }
            // Compaction, retention or a cut came in between: what is there now is younger.
            Ok(Bite::Changed) | Err(StorageError::Corrupt { .. }) => {
                self.passed();
                0
            }
            // The directory has failed.
            Err(_) => 0,
        };
        inner
            .shared
            .scrubbed
            .bytes
            .fetch_add(read, Ordering::Relaxed);
        if inner.shared.host.clock.now() >= self.noted + NOTE_INTERVAL {
            self.write_note(inner).await;
        }
        Done::Read(read)
    }

    /// The segment that was at work is done with.
    fn passed(&mut self) {
        if let Some((_, offset)) = &mut self.note.at {
            *offset = offset.next();
        }
    }

    /// The next closed segment, of this log or another.
    fn next_segment(&mut self) -> Option<Examination> {
        while let Some((key, log)) = self.left.last() {
            let from = match &self.note.at {
                Some((at, offset)) if at == key => *offset,
                _ => Offset::ZERO,
            };
            let found = log.upgrade().and_then(|log| {
                let closed = {
                    let state = log.state();
                    let closed = state.segments.iter().rev().skip(1).rev();
                    let mut closed = closed.filter(|segment| segment.written == segment.size);
                    closed.find(|segment| segment.base >= from)?.base
                };
                Some((closed, Examination::of(&log, closed)))
            });
            match found {
                None => {
                    self.left.pop();
                }
                Some((base, examination)) => {
                    self.note.at = Some((key.clone(), base));
                    match examination {
                        Some(examination) => return Some(examination),
                        None => self.passed(),
                    }
                }
            }
        }
        None
    }

    async fn write_note(&mut self, inner: &Inner) {
        let shared = &inner.shared;
        self.noted = shared.host.clock.now();
        let directory = self.directory(inner);
        if directory.is_offline() || directory.is_full() {
            return;
        }
        let (note, disk) = (self.note.clone(), shared.host.disk.clone());
        let path = directory.path.clone();
        let writing = move || note.write(disk.as_ref(), &path);
        shared.host.tasks.blocking(writing).await;
    }
}

/// Waits as long as so many bytes may take.
async fn pause(bytes: u64, rate: u64) {
    let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
    let pause = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
    if !pause.is_zero() {
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_read_as_they_were_written() {
        let topic = TopicName::new("a.b").unwrap();
        let notes = [
            Note::default(),
            Note {
                began: Timestamp(1_700_000_000_000),
                at: Some(((topic, 7), Offset(12))),
            },
        ];
        for note in notes {
            assert_eq!(Note::decode(&note.encode()), Some(note));
        }
        for bad in [
            "",
            "1\n5\n",
            "0\n",
            "0\nx\n",
            "0\n5\ntopic\n",
            "0\n5\nt 0 x\n",
        ] {
            assert_eq!(Note::decode(bad), None, "{bad:?}");
        }
    }
}
