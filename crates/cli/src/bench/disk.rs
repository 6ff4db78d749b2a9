//! `millrace bench disk`: files written in sequence and synced after each chunk, with nothing
//! around it. What brokers write in the same run is held against this.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::gauge::Latencies;
use super::load::letters;
use super::report::{Report, rounded};
use super::{Output, Telling};
use crate::failure::Failure;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Durability {
    /// fdatasync after every chunk
    Fsync,
    /// Into the page cache only
    PageCache,
}

/// Write files in sequence and sync them after each chunk.
///
/// What it writes is removed at the end. The figure is an upper bound for what brokers on this disk
/// can write, replicas included, with the same durability and as much in one sync.
#[derive(Args, Debug)]
pub struct DiskArgs {
    /// Where to write: a directory on the disk of log.dirs
    #[arg(long, value_name = "DIR")]
    directory: PathBuf,
    /// How much to write in all, in millions of bytes
    #[arg(long, value_name = "MB", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    megabytes: u64,
    /// Bytes written before each sync
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20, value_parser = clap::value_parser!(u32).range(1..=1 << 30))]
    chunk: u32,
    /// Files written at once, each by a thread of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    files: u16,
    /// What a chunk has to be before the next one is written
    #[arg(long, value_enum, default_value = "fsync")]
    durability: Durability,
    #[command(flatten)]
    telling: Telling,
}

/// A file that is gone when the bench is over, however it ends.
struct Scratch {
    path: PathBuf,
    file: File,
}

impl Scratch {
    fn new(directory: &Path, index: u16) -> Result<Scratch, Failure> {
        let name = format!("millrace-bench-{}-{index}.tmp", std::process::id());
        let path = directory.join(name);
        // Never something that was there before.
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        let file = file.map_err(|error| at(&path, &error))?;
        Ok(Scratch { path, file })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn at(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("{}: {error}", path.display()))
}

/// Runs the command.
pub fn run(args: &DiskArgs) -> Result<(), Failure> {
    let chunk = letters(args.chunk as usize);
    let each = args.megabytes * 1_000_000 / u64::from(args.files);
    let mut scratches = Vec::new();
    for index in 0..args.files {
        scratches.push(Scratch::new(&args.directory, index)?);
    }
    let began = Instant::now();
    let written = std::thread::scope(|scope| {
        let writers: Vec<_> = scratches
            .iter_mut()
            .map(|scratch| scope.spawn(|| write(scratch, each, &chunk, args.durability)))
            .collect();
        let ended = writers.into_iter().map(|writer| writer.join());
        ended
            .map(|ended| ended.unwrap_or_else(|_| Err(Failure::new("a writer panicked"))))
            .collect::<Result<Vec<_>, _>>()
    })?;
    let seconds = began.elapsed().as_secs_f64().max(1e-6);
    let mut syncs = Latencies::default();
    let mut bytes = 0;
    for (wrote, latencies) in written {
        bytes += wrote;
        syncs.add(&latencies);
    }
    print(args, bytes, seconds, &syncs);
    Ok(())
}

fn print(args: &DiskArgs, bytes: u64, seconds: f64, syncs: &Latencies) {
    let fsync = args.durability == Durability::Fsync;
    let settings = json!({
        "directory": args.directory.display().to_string(),
        "chunk": args.chunk,
        "files": args.files,
        "durability": if fsync { "fsync" } else { "page-cache" },
    });
    let rate = bytes as f64 / 1e6 / seconds;
    let mut report = Report::of("disk", settings);
    report.line(
        "written",
        format!("{:.1} MB in {seconds:.1} s", bytes as f64 / 1e6),
        &[("bytes", bytes.into()), ("seconds", rounded(seconds))],
    );
    report.line(
        "throughput",
        format!("{rate:.1} MB/s"),
        &[("megabytes_per_second", rounded(rate))],
    );
    report.latencies("a chunk", "chunk_latency_ms", syncs);
    if !fsync && args.telling.output == Output::Text {
        let text = "nothing was synced: this is the page cache, as long as there is room";
        report.line("note", text.to_owned(), &[]);
    }
    report.print(&args.telling);
}

/// Writes so many bytes; how many it were, and how long each chunk took.
fn write(
    scratch: &mut Scratch,
    bytes: u64,
    chunk: &[u8],
    durability: Durability,
) -> Result<(u64, Latencies), Failure> {
    let mut latencies = Latencies::default();
    let mut written = 0;
    while written < bytes.max(1) {
        let began = Instant::now();
        let done = scratch.file.write_all(chunk);
        let done = done.and_then(|()| match durability {
            Durability::Fsync => scratch.file.sync_data(),
            Durability::PageCache => Ok(()),
        });
        done.map_err(|error| at(&scratch.path, &error))?;
        latencies.note(began.elapsed());
        written += chunk.len() as u64;
    }
    Ok((written, latencies))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_written_and_nothing_stays() {
        let directory = std::env::temp_dir().join(format!("bench-disk-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        for durability in [Durability::Fsync, Durability::PageCache] {
            let mut scratch = Scratch::new(&directory, 0).unwrap();
            let (bytes, latencies) = write(&mut scratch, 250, &[7; 100], durability).unwrap();
            assert_eq!(bytes, 300);
            assert!(!latencies.is_empty());
            assert_eq!(std::fs::read(&scratch.path).unwrap(), [7; 300]);
            assert!(
                Scratch::new(&directory, 0).is_err(),
                "what is there is left alone"
            );
            drop(scratch);
            assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
        }
        std::fs::remove_dir(&directory).unwrap();
    }
}
