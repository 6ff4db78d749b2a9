//! What is walked through or searched.

use super::controller::Lapse;
use crate::core::rules::Omit;

/// What is walked through.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) replicas: i32,
    pub(super) min_isr: usize,
    pub(super) omitted: Option<Omit>,
    pub(super) lapse: Option<Lapse>,
    /// Whether a crash may lose the whole disk.
    pub(super) wipes: bool,
    /// Of a hundred steps, how many are crashes or restarts.
    pub(super) crash_share: usize,
    /// Whether disks change what they hold, one at a time.
    pub(super) damages: bool,
}

impl Setup {
    pub(super) fn new(replicas: i32, min_isr: usize) -> Setup {
        Setup {
            replicas,
            min_isr,
            omitted: None,
            lapse: None,
            wipes: true,
            crash_share: 3,
            damages: false,
        }
    }
}
