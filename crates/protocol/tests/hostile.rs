//! Bytes that somebody bent: nothing panics, and nothing allocates more than a small multiple of
//! what came in.

// Counting what the codec allocates takes an allocator of our own.
#![allow(unsafe_code)]

#[path = "../fuzz/entry.rs"]
mod entry;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Read;

use millrace_protocol::messages::{NAMES, reencode};
use serde_json::Value;

/// Bytes that decoding and encoding may hold at once, for each byte of input.
const MAX_RATIO: usize = 100;
/// Bytes that are always allowed: the message itself, and first reserves of its writer.
const MIN_ALLOWANCE: usize = 4096;

struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    let held = HELD.get() + bytes;
    HELD.set(held);
    PEAK.set(PEAK.get().max(held));
}

// SAFETY: every call goes to the system's allocator as it came; only numbers are kept beside.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most that `work` holds at once.
fn peak_of(work: impl FnOnce()) -> usize {
    let before = HELD.get();
    PEAK.set(before);
    work();
    (PEAK.get() - before).unsigned_abs()
}

fn check_bound(name: &str, version: i16, body: &[u8]) {
    let peak = peak_of(|| drop(reencode(name, version, body)));
    let allowed = MAX_RATIO * body.len() + MIN_ALLOWANCE;
    assert!(
        peak <= allowed,
        "{name} version {version}: {peak} bytes for {}",
        body.len()
    );
}

/// A small generator of numbers (xorshift), so that every run is the same.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }

    /// Bends a few bytes: flips, extremes, huge lengths, cuts, repetitions.
    fn bend(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.roll(3) {
            let at = self.roll(bytes.len() + 1);
            match self.roll(7) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, self.roll(256) as u8),
                2 => {
                    let from = self.roll(at + 1);
                    bytes.extend_from_within(from..at);
                }
                3 => self.overwrite(bytes, at, &[0x7f, 0xff, 0xff, 0xff]),
                4 => self.overwrite(bytes, at, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
                5 => self.overwrite(bytes, at, &[0]),
                _ => {
                    let bits = 1u8 << self.roll(8);
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= bits;
                    }
                }
            }
        }
    }

    fn overwrite(&self, bytes: &mut [u8], at: usize, with: &[u8]) {
        let end = bytes.len().min(at + with.len());
        bytes[at..end].copy_from_slice(&with[..end - at]);
    }
}

/// Name, version and bytes of the lines of a data file.
fn vectors(file: &str) -> Vec<(String, i16, Vec<u8>)> {
    let path = format!("{}/tests/data/{file}.jsonl.gz", env!("CARGO_MANIFEST_DIR"));
    let packed = std::fs::File::open(&path).expect("the data is part of the sources");
    let mut text = String::new();
    flate2::read::GzDecoder::new(packed)
        .read_to_string(&mut text)
        .expect("the data is text");
    let parse = |line: &str| {
        let line: Value = serde_json::from_str(line).expect("each line is JSON");
        let name = line["name"].as_str().expect("a name").to_owned();
        let version = line["version"].as_i64().unwrap_or_default() as i16;
        (name, version, unhex(line["hex"].as_str().expect("bytes")))
    };
    text.lines().map(parse).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| (byte as char).to_digit(16).expect("hexadecimal") as u8;
    text.as_bytes()
        .chunks(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

/// Bends every vector of `file` so often, and hands the result to `entry`.
fn bend_all(file: &str, times: usize, entry: impl Fn(&str, i16, &[u8])) {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for (name, version, sound) in vectors(file) {
        entry(&name, version, &sound);
        for _ in 0..times {
            let mut bytes = sound.clone();
            dice.bend(&mut bytes);
            entry(&name, version, &bytes);
        }
    }
}

#[test]
fn bent_messages() {
    for file in ["requests", "responses", "records", "headers"] {
        bend_all(file, 20, |name, version, bytes| {
            entry::message(name, version, bytes);
            check_bound(name, version, bytes);
        });
    }
}

#[test]
fn bent_frames() {
    bend_all("frames", 20, |_, version, bytes| {
        let body = bytes.get(4..).unwrap_or_default();
        entry::request(body);
        let chosen = [
            &[body.get(3).copied().unwrap_or_default(), version as u8],
            body,
        ]
        .concat();
        entry::response(&chosen);
        entry::any_message(&chosen);
    });
}

#[test]
fn bent_batches() {
    for file in ["batches-valid", "batches-invalid"] {
        bend_all(file, 100, |_, _, bytes| {
            entry::record_set(bytes);
            entry::produced(bytes);
        });
    }
}

#[test]
fn bent_compression() {
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    for (_, _, batch) in vectors("batches-valid")
        .iter()
        .filter(|(name, ..)| name.contains('_'))
    {
        for codec in 1..5u8 {
            for _ in 0..20 {
                let mut bytes = batch.get(61..).unwrap_or_default().to_vec();
                dice.bend(&mut bytes);
                entry::packed(&[&[codec], &bytes[..]].concat());
            }
        }
    }
}

/// Arrays that claim all they can, filled with what reads as many small values.
#[test]
fn greedy_arrays() {
    for (name, low, high) in NAMES {
        for version in *low..=*high {
            for fill in [0u8, 1, 2, 3, 0x7f, 0xff] {
                let mut bytes = vec![fill; 2000];
                check_bound(name, version, &bytes);
                // A count somewhere in the first bytes, of both kinds.
                for at in 0..24 {
                    let before = bytes.clone();
                    bytes[at..at + 2].copy_from_slice(&[0xf0, 0x03]);
                    check_bound(name, version, &bytes);
                    bytes[at..at + 4].copy_from_slice(&500i32.to_be_bytes());
                    check_bound(name, version, &bytes);
                    bytes = before;
                }
            }
        }
    }
}

/// Every prefix of every frame is an error or a message, quickly and without a panic.
#[test]
fn cut_off_messages() {
    for file in ["requests", "responses"] {
        for (name, version, bytes) in vectors(file) {
            for length in 0..bytes.len().min(200) {
                check_bound(&name, version, &bytes[..length]);
            }
        }
    }
}
