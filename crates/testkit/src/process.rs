//! One process that a test started: watched, signalled, ended.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::guardian::note_down;

/// How long a process that was killed, or a pipe of one that has ended, may stay.
const REMAINS: Duration = Duration::from_secs(30);

/// A running process whose output goes to a file; killed when dropped.
pub struct Process {
    child: Child,
    started_at: u64,
    log: PathBuf,
    log_from: u64,
    note: Option<PathBuf>,
}

impl Process {
    /// Starts `command` in a process group of its own, its output appended to `log`.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(mut command: Command, log: &Path) -> Process {
        let output = append(log);
        let log_from = output.metadata().map_or(0, |of| of.len());
        let errors = output.try_clone().expect("a file handle can be doubled");
        let child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .unwrap_or_else(|error| panic!("starting {command:?}: {error}"));
        let started_at = start_time(child.id()).unwrap_or(0);
        Process {
            note: note_down(child.id(), started_at),
            child,
            started_at,
            log: log.to_owned(),
            log_from,
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written since this start, standard output and error together.
    pub fn output(&self) -> String {
        let all = fs::read(&self.log).unwrap_or_default();
        let from = all.len().min(self.log_from as usize);
        String::from_utf8_lossy(&all[from..]).into_owned()
    }

    /// Whether it still runs (a stopped process counts as running).
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal, if this very process is still there.
    pub fn signal(&self, signal: Signal) {
        if start_time(self.child.id()) == Some(self.started_at)
            && let Some(pid) = Pid::from_raw(self.child.id() as i32)
        {
            // It may end between the look and the signal; then there is nothing to signal.
            let _ = kill_process(pid, signal);
        }
    }

    /// SIGKILL, and waits until it is gone.
    ///
    /// # Panics
    /// When the kernel does not let it go.
    pub fn kill(&mut self) -> ExitStatus {
        self.signal(Signal::KILL);
        self.wait(REMAINS).unwrap_or_else(|| {
            panic!(
                "process {} is still there {REMAINS:?} after SIGKILL",
                self.pid()
            )
        })
    }

    /// SIGTERM, and waits until it is gone.
    ///
    /// # Panics
    /// When it is not gone after `limit`.
    pub fn terminate(&mut self, limit: Duration) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait(limit).unwrap_or_else(|| {
            panic!(
                "process {} still runs {limit:?} after SIGTERM; its output:\n{}",
                self.pid(),
                tail(&self.output(), 30)
            )
        })
    }

    /// Waits until it ends by itself; none when `limit` passes first.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let began = Instant::now();
        while began.elapsed() <= limit {
            if let Ok(Some(status)) = self.child.try_wait() {
                self.forget();
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }

    fn forget(&mut self) {
        if let Some(note) = self.note.take() {
            let _ = fs::remove_file(note);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_running() {
            self.signal(Signal::KILL);
            // A test that fails already must not fail twice.
            let _ = self.wait(REMAINS);
        }
        self.forget();
    }
}

/// Runs a command to its end.
///
/// # Panics
/// When it cannot be started, or has not ended after `limit`; it is killed then.
pub fn output_within(mut command: Command, limit: Duration) -> Output {
    let what = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("starting {what}: {error}"));
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());
    let status = end_of(&mut child, limit);
    // A process of its own that it left behind may hold its pipes open.
    let read = |pipe: Receiver<Vec<u8>>| {
        pipe.recv_timeout(REMAINS)
            .unwrap_or_else(|_| panic!("the output of {what} did not end with it"))
    };
    let (stdout, stderr) = (read(stdout), read(stderr));
    let Some(status) = status else {
        let said = [stdout, stderr].concat();
        let said = String::from_utf8_lossy(&said);
        panic!("{what} still ran after {limit:?}:\n{}", tail(&said, 30));
    };
    Output {
        status,
        stdout,
        stderr,
    }
}

/// Waits for the end of a child that was started elsewhere.
///
/// # Panics
/// When it has not ended after `limit`; it is killed then.
pub fn ended_within(mut child: Child, what: &str, limit: Duration) -> ExitStatus {
    let status = end_of(&mut child, limit);
    status.unwrap_or_else(|| panic!("{what} still ran after {limit:?}"))
}

/// How a child ended by itself; otherwise it is killed.
fn end_of(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let began = Instant::now();
    let mut killed = false;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status).filter(|_| !killed),
            _ if killed && began.elapsed() > limit + REMAINS => return None,
            _ if !killed && began.elapsed() > limit => {
                killed = true;
                // It may have ended in this moment.
                let _ = child.kill();
            }
            _ => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Reads a pipe to its end, and hands over what was read.
fn drain(pipe: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut all = Vec::new();
        if let Some(mut pipe) = pipe {
            // What was read until an error is what there is.
            let _ = pipe.read_to_end(&mut all);
        }
        // Whoever waited may have given up.
        let _ = sender.send(all);
    });
    receiver
}

/// The last `lines` lines of a text.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

fn append(path: &Path) -> File {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .unwrap_or_else(|error| panic!("opening {}: {error}", path.display()))
}

/// Field 22 of /proc/PID/stat: with it a reused pid is never taken for the process it once was.
pub(crate) fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let after_name = stat.rsplit_once(") ")?.1;
    after_name.split(' ').nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Duration = Duration::from_millis(100);

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn what_a_command_printed_is_read_to_its_end() {
        let output = output_within(shell("echo said; echo wrong >&2; exit 3"), REMAINS);
        assert_eq!(output.status.code(), Some(3));
        assert_eq!(
            (output.stdout, output.stderr),
            (b"said\n".to_vec(), b"wrong\n".to_vec())
        );
    }

    #[test]
    #[should_panic(expected = "still ran after 100ms:\nsaid")]
    fn a_command_that_does_not_end_is_killed() {
        output_within(shell("echo said; exec sleep 300"), MOMENT);
    }

    #[test]
    fn a_child_that_does_not_end_is_killed() {
        let child = shell("exec sleep 300").spawn().unwrap();
        let pid = child.id();
        let waiting = std::panic::catch_unwind(|| ended_within(child, "a sleeper", MOMENT));
        assert!(waiting.is_err());
        assert!(
            !Path::new(&format!("/proc/{pid}")).exists(),
            "it is still there"
        );
    }
}
