//! Ends what a program started, however the program itself ends.
//!
//! A test that panics drops its cluster, which ends the brokers. A program that is killed, or ended by
//! a signal, drops nothing. So it may have a guardian: a shell that waits for the end of its standard
//! input, of which this process holds the other end as long as it lives, and then kills those
//! processes whose notes are still there.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// A note is named `pid-starttime`; a pid that something else has by now is left alone.
const SCRIPT: &str = r#"
cat > /dev/null
for note in "$1"/*-*; do
  name=${note##*/}
  pid=${name%-*}
  stat=$(cat "/proc/$pid/stat" 2> /dev/null) || continue
  set -- "$1" ${stat##*) }
  [ "${21}" = "${name#*-}" ] && kill -KILL "$pid"
done
rm -rf "$1"
"#;

static GUARDIAN: OnceLock<Guardian> = OnceLock::new();

struct Guardian {
    notes: PathBuf,
    /// Its standard input is closed by the system when this process ends, and not before.
    _shell: Child,
}

/// From now on, every [`Process`](crate::Process) ends when this process does.
///
/// # Panics
/// If there is no shell, or no room for notes.
pub fn watch() {
    GUARDIAN.get_or_init(|| {
        let notes = tempfile::Builder::new().prefix("millrace-notes-").tempdir();
        let notes = notes.expect("notes have a place").keep();
        Guardian {
            _shell: shell(&notes),
            notes,
        }
    });
}

/// In a group of its own: what ends this process and its group must not end it.
fn shell(notes: &Path) -> Child {
    Command::new("sh")
        .args(["-c", SCRIPT, "guardian"])
        .arg(notes)
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("there is a shell")
}

/// Where notes of processes are left: for the guardian, or for `tests/run`, which ends what an
/// interrupted run left behind.
fn notes() -> Option<PathBuf> {
    match GUARDIAN.get() {
        Some(guardian) => Some(guardian.notes.clone()),
        None => Some(PathBuf::from(std::env::var_os("MILLRACE_TEST_PIDS")?)),
    }
}

/// Leaves word of a process.
pub(crate) fn note_down(pid: u32, started_at: u64) -> Option<PathBuf> {
    let note = notes()?.join(format!("{pid}-{started_at}"));
    fs::write(&note, "").ok()?;
    Some(note)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// The shell with notes of its own: what is noted ends once the input does, nothing else.
    #[test]
    fn what_is_noted_ends_with_the_program() {
        let notes = tempfile::tempdir().unwrap();
        let sleeper = || Command::new("sleep").arg("100").spawn().unwrap();
        let (mut noted, mut other, mut reused) = (sleeper(), sleeper(), sleeper());
        let started = crate::process::start_time(noted.id()).unwrap();
        fs::write(notes.path().join(format!("{}-{started}", noted.id())), "").unwrap();
        fs::write(notes.path().join(format!("{}-1", reused.id())), "").unwrap();
        let mut shell = shell(notes.path());
        std::thread::sleep(Duration::from_millis(50));
        assert!(
            noted.try_wait().unwrap().is_none(),
            "the program still runs"
        );
        drop(shell.stdin.take());
        let began = Instant::now();
        while noted.try_wait().unwrap().is_none() {
            assert!(
                began.elapsed() < Duration::from_secs(30),
                "it was not ended"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        shell.wait().unwrap();
        for left in [&mut other, &mut reused] {
            assert!(left.try_wait().unwrap().is_none(), "it was not noted");
            left.kill().unwrap();
            left.wait().unwrap();
        }
    }
}
