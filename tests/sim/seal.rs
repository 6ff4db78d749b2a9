//! Takes the place of libc's clock and random numbers on threads that simulate.
//!
//! The broker asks `host` for time and chance, but what it is made of does not: hash maps, tokio's
//! own `select!`, openraft's election timeouts, HTTP/2's dates. All of them end at `getrandom` and
//! `clock_gettime`, and a program's own symbol goes before libc's. On a sealed thread these answer
//! from the seed and from the simulated clock; on any other they ask the kernel.
#![allow(unsafe_code, reason = "symbols of libc cannot be taken over without")]

use std::cell::Cell;
use std::time::Duration;

thread_local! {
    static SEALED: Cell<bool> = const { Cell::new(false) };
    static STATE: Cell<u64> = const { Cell::new(0) };
    static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// 2026-01-01, when every simulation begins.
pub const BEGIN: Duration = Duration::from_secs(1_767_225_600);

/// Seals this thread for the rest of its life. It must be a fresh one: hash maps draw their keys
/// once a thread.
pub fn seal(seed: u64) {
    STATE.set(seed ^ 0x9e37_79b9_7f4a_7c15);
    NOW.set(Duration::ZERO);
    SEALED.set(true);
}

/// Moves the clock of this thread to this time since the beginning.
pub fn set_now(now: Duration) {
    NOW.set(now);
}

/// splitmix64.
fn next() -> u64 {
    let state = STATE.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    STATE.set(state);
    let mut word = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// libc's `getrandom`.
///
/// # Safety
/// `buf` must have room for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buf: *mut libc::c_void, len: usize, flags: u32) -> isize {
    if !SEALED.get() {
        // SAFETY: the caller's promise is the kernel's condition.
        return unsafe { libc::syscall(libc::SYS_getrandom, buf, len, flags) as isize };
    }
    // SAFETY: the caller promises room for `len` bytes; they are written before they are read.
    let bytes = unsafe {
        buf.cast::<u8>().write_bytes(0, len);
        std::slice::from_raw_parts_mut(buf.cast::<u8>(), len)
    };
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&next().to_le_bytes()[..chunk.len()]);
    }
    isize::try_from(len).unwrap_or(isize::MAX)
}

/// libc's `clock_gettime`; every clock begins in 2026.
///
/// # Safety
/// `time` must point to a timespec.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> i32 {
    if !SEALED.get() {
        // SAFETY: the caller's promise is the kernel's condition.
        return unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) as i32 };
    }
    let now = BEGIN + NOW.get();
    // SAFETY: the caller promises a timespec.
    unsafe {
        (*time).tv_sec = libc::time_t::try_from(now.as_secs()).unwrap_or(libc::time_t::MAX);
        (*time).tv_nsec = now.subsec_nanos().into();
    }
    0
}

/// What a sealed thread finds: for the test that the seal holds.
pub fn probe() -> Vec<u64> {
    use std::hash::{BuildHasher, RandomState};

    use rand::SeedableRng;

    let hashed = RandomState::new().hash_one(1u64);
    let drawn = rand::Rng::random(&mut rand::rngs::StdRng::from_os_rng());
    let elapsed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let elapsed = elapsed.map_or(0, |elapsed| elapsed.as_secs());
    vec![hashed, drawn, elapsed]
}
