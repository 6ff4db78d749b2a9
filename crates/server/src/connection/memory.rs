//! The memory that requests of all connections share (`queued.max.request.bytes`).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Counts the bytes of requests that are being received or answered.
pub struct RequestMemory {
    used_bytes: AtomicUsize,
    limit_bytes: usize,
    freed: Notify,
}

impl RequestMemory {
    /// A budget of so many bytes; a frame that has begun may overrun it by its last piece.
    pub fn new(limit_bytes: usize) -> Arc<RequestMemory> {
        Arc::new(RequestMemory {
            used_bytes: AtomicUsize::new(0),
            limit_bytes,
            freed: Notify::new(),
        })
    }

    /// Bytes in use.
    pub fn used_bytes(&self) -> usize {
        self.used_bytes.load(Ordering::Relaxed)
    }

    fn has_room(&self) -> bool {
        self.used_bytes() < self.limit_bytes
    }

    /// Returns when the budget is not used up.
    pub async fn room(&self) {
        while !self.has_room() {
            let freed = self.freed.notified();
            if self.has_room() {
                return;
            }
            freed.await;
        }
    }
}

/// A share of the budget, given back when dropped.
pub struct Charge {
    memory: Arc<RequestMemory>,
    bytes: usize,
}

impl Charge {
    /// A share of nothing yet.
    pub fn none(memory: &Arc<RequestMemory>) -> Charge {
        Charge {
            memory: memory.clone(),
            bytes: 0,
        }
    }

    /// Makes the share `bytes`, if it is not larger already.
    pub fn grow_to(&mut self, bytes: usize) {
        if bytes > self.bytes {
            self.memory
                .used_bytes
                .fetch_add(bytes - self.bytes, Ordering::Relaxed);
            self.bytes = bytes;
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if self.bytes > 0 {
            let before = self
                .memory
                .used_bytes
                .fetch_sub(self.bytes, Ordering::Relaxed);
            if before >= self.memory.limit_bytes {
                self.memory.freed.notify_waiters();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn room_comes_back_when_a_charge_is_dropped() {
        let memory = RequestMemory::new(10);
        let mut charge = Charge::none(&memory);
        charge.grow_to(12);
        charge.grow_to(3);
        assert_eq!(memory.used_bytes(), 12);
        let waiting = tokio::spawn({
            let memory = memory.clone();
            async move { memory.room().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(charge);
        waiting.await.unwrap();
        assert_eq!(memory.used_bytes(), 0);
    }
}
