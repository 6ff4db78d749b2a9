//! Callers that wait for a log to get somewhere.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use millrace_model::Offset;
use tokio::sync::{Notify, oneshot};

use crate::replica::Replica;

/// Callers in the order of the offset they wait for; waking one costs the same however many wait.
#[derive(Default)]
pub(crate) struct Queue {
    waiting: VecDeque<(Offset, oneshot::Sender<()>)>,
}

impl Queue {
    /// Resolves when everything below `offset` is reached, or when the caller must look again.
    pub(crate) fn wait_for(&mut self, offset: Offset) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        // Appends come in order, so the place is nearly always the last.
        let place = match self.waiting.back() {
            Some((last, _)) if *last > offset => {
                self.waiting.partition_point(|(there, _)| *there <= offset)
            }
            _ => self.waiting.len(),
        };
        self.waiting.insert(place, (offset, sender));
        receiver
    }

    /// Takes out whoever waits for no more than `reached`.
    pub(crate) fn take_to(&mut self, reached: Offset, woken: &mut Vec<oneshot::Sender<()>>) {
        while self
            .waiting
            .front()
            .is_some_and(|(offset, _)| *offset <= reached)
        {
            woken.extend(self.waiting.pop_front().map(|(_, sender)| sender));
        }
    }

    /// Takes everybody out.
    pub(crate) fn take_all(&mut self, woken: &mut Vec<oneshot::Sender<()>>) {
        woken.extend(self.waiting.drain(..).map(|(_, sender)| sender));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Forgets callers that have given up.
    pub(crate) fn tidy(&mut self) {
        self.waiting.retain(|(_, sender)| !sender.is_closed());
    }
}

/// Somebody who waits for any of many partitions to change: a long-polling Fetch. Registered with
/// [`Replica::watch`]; deregisters when dropped.
#[derive(Default)]
pub struct Waiter {
    bell: Arc<Bell>,
    watched: Mutex<Vec<Weak<Replica>>>,
}

/// What a replica rings.
#[derive(Default)]
pub(crate) struct Bell {
    rung: AtomicBool,
    notify: Notify,
}

impl Bell {
    pub(crate) fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.notify.notify_one();
        }
    }
}

impl Waiter {
    /// Watches nothing yet.
    pub fn new() -> Waiter {
        Waiter::default()
    }

    /// Resolves once a watched replica has changed since the last time this resolved: its high
    /// watermark, its role, its epoch. Cancelling loses nothing.
    pub async fn woken(&self) {
        while !self.bell.rung.swap(false, Ordering::AcqRel) {
            self.bell.notify.notified().await;
        }
    }

    pub(crate) fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    pub(crate) fn watches(&self, replica: &Arc<Replica>) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.push(Arc::downgrade(replica));
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let watched = self
            .watched
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        for replica in watched.drain(..).filter_map(|replica| replica.upgrade()) {
            replica.unwatch(&self.bell);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_are_woken_in_the_order_of_their_offsets() {
        let mut queue = Queue::default();
        let mut waiting: Vec<_> = [5, 3, 9, 3].map(|at| queue.wait_for(Offset(at))).into();
        let mut woken = Vec::new();
        queue.take_to(Offset(5), &mut woken);
        assert_eq!(woken.len(), 3);
        drop(waiting.remove(2));
        queue.tidy();
        queue.take_all(&mut woken);
        assert_eq!(woken.len(), 3);
    }

    #[tokio::test]
    async fn a_ring_before_the_wait_counts() {
        let waiter = Waiter::new();
        waiter.bell().ring();
        waiter.bell().ring();
        waiter.woken().await;
        let again = tokio::time::timeout(std::time::Duration::from_millis(10), waiter.woken());
        assert!(again.await.is_err());
    }
}
