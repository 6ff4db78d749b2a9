//! How much faster than real time a run is, by the time that a core really worked on it: other
//! work on the machine does not count.

use std::fmt;
use std::fs;
use std::time::Duration;

/// What the kernel counts the time of processes in (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);
/// What a line about speed begins with.
const MARK: &str = "speed: ";

/// Measures the work of this process from here on.
pub struct Stopwatch(Duration);

impl Stopwatch {
    /// Begins.
    pub fn start() -> Stopwatch {
        Stopwatch(worked())
    }

    /// How long a core worked meanwhile.
    pub fn stop(&self, simulated: Duration) -> Speed {
        let worked = worked().saturating_sub(self.0);
        Speed { simulated, worked }
    }
}

/// Simulated time, and what it took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Speed {
    simulated: Duration,
    worked: Duration,
}

impl Speed {
    /// Both together.
    pub fn plus(self, other: Speed) -> Speed {
        Speed {
            simulated: self.simulated + other.simulated,
            worked: self.worked + other.worked,
        }
    }

    /// The first of these lines that is one about speed.
    pub fn find(report: &str) -> Option<Speed> {
        let line = report.lines().find_map(|line| line.strip_prefix(MARK))?;
        let mut words = line.split(' ');
        let mut seconds = || {
            let number = words.find_map(|word| word.parse().ok())?;
            Duration::try_from_secs_f64(number).ok()
        };
        Some(Speed {
            simulated: seconds()?,
            worked: seconds()?,
        })
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (simulated, worked) = (self.simulated.as_secs_f64(), self.worked.as_secs_f64());
        let times = simulated / worked.max(TICK.as_secs_f64());
        write!(
            out,
            "{MARK}{simulated:.2} s simulated in {worked:.2} s of one core, {times:.1} times"
        )
    }
}

/// How long this process has been on a core; nothing where the system does not tell.
fn worked() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // What follows the program's name, which may hold anything: user and system time are the
    // twelfth and thirteenth of it.
    let numbers = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut times = numbers.split_whitespace().skip(11).take(2);
    let mut ticks = || times.next().and_then(|word| word.parse::<u32>().ok());
    let ticks = ticks().unwrap_or(0) + ticks().unwrap_or(0);
    TICK * ticks
}
