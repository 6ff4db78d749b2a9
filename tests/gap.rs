//! The longest silence between two acknowledgements.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Acknowledgements by partition, as they came.
#[derive(Clone, Debug, Default)]
pub struct AckTimes(BTreeMap<i32, Vec<Instant>>);

impl AckTimes {
    /// Notes one acknowledgement.
    pub fn note(&mut self, partition: i32, at: Instant) {
        self.0.entry(partition).or_default().push(at);
    }

    /// How many a partition has had.
    pub fn count(&self, partition: i32) -> usize {
        self.0.get(&partition).map_or(0, Vec::len)
    }

    /// The longest time between two acknowledgements of one of these partitions, of which the
    /// later came after `since`.
    pub fn longest(&self, partitions: &[i32], since: Instant) -> Duration {
        let of_one = |partition: &i32| {
            let times = self.0.get(partition).map_or(&[][..], Vec::as_slice);
            let pairs = times.windows(2).filter(|pair| pair[1] > since);
            pairs.map(|pair| pair[1] - pair[0]).max()
        };
        let longest = partitions.iter().filter_map(of_one).max();
        longest.unwrap_or(Duration::ZERO)
    }
}
