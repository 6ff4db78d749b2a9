//! Deadlines that are put off far more often than they come.

use std::collections::{BTreeMap, BTreeSet};

use millrace_model::Timestamp;

/// One deadline for each key. Putting one off costs a look-up: the queue keeps the old entry, and
/// finds out when that comes up.
#[derive(Clone, Debug)]
pub(crate) struct Timers<Key: Ord + Clone> {
    deadlines: BTreeMap<Key, Deadline>,
    /// At least one entry for each deadline, at its time or before.
    queue: BTreeSet<(Timestamp, Key)>,
}

#[derive(Clone, Copy, Debug)]
struct Deadline {
    due: Timestamp,
    queued: Timestamp,
}

impl<Key: Ord + Clone> Default for Timers<Key> {
    fn default() -> Self {
        Timers {
            deadlines: BTreeMap::new(),
            queue: BTreeSet::new(),
        }
    }
}

impl<Key: Ord + Clone> Timers<Key> {
    /// Sets or moves the deadline of `key`.
    pub fn set(&mut self, key: Key, due: Timestamp) {
        if let Some(known) = self.deadlines.get_mut(&key) {
            known.due = due;
            if known.queued <= due {
                return;
            }
            let queued = std::mem::replace(&mut known.queued, due);
            self.queue.remove(&(queued, key.clone()));
        } else {
            let deadline = Deadline { due, queued: due };
            self.deadlines.insert(key.clone(), deadline);
        }
        self.queue.insert((due, key));
    }

    /// Forgets the deadline of `key`.
    pub fn cancel<Name>(&mut self, key: &Name)
    where
        Key: std::borrow::Borrow<Name>,
        Name: Ord + ?Sized,
    {
        if let Some((key, known)) = self.deadlines.remove_entry(key) {
            self.queue.remove(&(known.queued, key));
        }
    }

    /// Whether `key` has a deadline.
    pub fn is_set(&self, key: &Key) -> bool {
        self.deadlines.contains_key(key)
    }

    /// Takes out one key that is due.
    pub fn expire(&mut self, now: Timestamp) -> Option<Key> {
        while let Some((queued, _)) = self.queue.first()
            && *queued <= now
        {
            let (_, key) = self.queue.pop_first()?;
            let known = self
                .deadlines
                .get_mut(&key)
                .expect("queued with a deadline");
            if known.due <= now {
                self.deadlines.remove(&key);
                return Some(key);
            }
            known.queued = known.due;
            self.queue.insert((known.due, key));
        }
        None
    }

    /// A time before which nothing is due.
    pub fn next(&self) -> Option<Timestamp> {
        self.queue.first().map(|(queued, _)| *queued)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_put_off_comes_once_at_its_last_time() {
        let mut timers: Timers<&str> = Timers::default();
        timers.set("a", Timestamp(10));
        timers.set("a", Timestamp(30));
        timers.set("b", Timestamp(20));
        assert_eq!(timers.next(), Some(Timestamp(10)));
        assert_eq!(timers.expire(Timestamp(10)), None);
        assert_eq!(timers.expire(Timestamp(25)), Some("b"));
        assert_eq!(timers.expire(Timestamp(29)), None);
        assert_eq!(timers.expire(Timestamp(30)), Some("a"));
        assert_eq!(timers.expire(Timestamp(99)), None);
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn a_deadline_brought_forward_comes_early_and_once() {
        let mut timers: Timers<&str> = Timers::default();
        timers.set("a", Timestamp(30));
        timers.set("a", Timestamp(10));
        assert_eq!(timers.expire(Timestamp(10)), Some("a"));
        assert_eq!(timers.expire(Timestamp(40)), None);
    }

    #[test]
    fn a_cancelled_deadline_does_not_come() {
        let mut timers: Timers<&str> = Timers::default();
        timers.set("a", Timestamp(10));
        timers.set("a", Timestamp(20));
        timers.cancel("a");
        assert_eq!(timers.next(), None);
    }
}
