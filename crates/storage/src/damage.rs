//! What of a log is known to be damaged on its disk: batches that cannot be given to anybody, and
//! that other replicas still have.
//!
//! Nothing is written down. What a start does not find is found again by whoever reads it for a
//! follower, or by the next scrub.

use millrace_model::Offset;

/// Runs of damaged batches that one log remembers; beyond it the last one reaches to the end of its
/// segment. Whoever has so many is not mended batch by batch.
const MAX_RUNS: usize = 256;

/// A run of offsets that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// The offset that follows the last sound batch before it.
    pub(crate) from: Offset,
    /// The first offset of the next sound batch, or the end of the segment.
    pub(crate) to: Offset,
    pub(crate) segment: Offset,
    /// Where in the segment's file it begins.
    pub(crate) position: u64,
    /// Where in the segment's file `to` begins, or the file ends.
    pub(crate) resume: u64,
}

/// All damaged runs of a log, by rising offset.
#[derive(Clone, Debug, Default)]
pub(crate) struct Damages(Vec<Run>);

impl Damages {
    /// The first damaged offset.
    pub(crate) fn first(&self) -> Option<Offset> {
        self.0.first().map(|run| run.from)
    }

    /// The first run that does not end before `offset`.
    pub(crate) fn from(&self, offset: Offset) -> Option<&Run> {
        self.0.iter().find(|run| run.to > offset)
    }

    /// Where a search in a segment for `offset` begins at the earliest: behind the damage that lies
    /// before it.
    pub(crate) fn search_from(&self, segment: Offset, offset: Offset) -> u64 {
        let before = |run: &&Run| run.segment == segment && run.to <= offset;
        self.0.iter().rfind(before).map_or(0, |run| run.resume)
    }

    /// The run that begins exactly at `offset`.
    pub(crate) fn beginning_at(&self, offset: Offset) -> Option<&Run> {
        self.0.iter().find(|run| run.from == offset)
    }

    /// Takes over what was found in one segment. True if any of it is news.
    pub(crate) fn set(&mut self, segment: Offset, found: Vec<Run>) -> bool {
        let is_news = found.iter().any(|run| !self.0.contains(run));
        self.forget_segment(segment);
        self.0.extend(found);
        self.0.sort_by_key(|run| run.from);
        if let Some(last) = self.0.get(MAX_RUNS..).and_then(<[Run]>::last) {
            let (to, resume) = (last.to, last.resume);
            self.0.truncate(MAX_RUNS);
            if let Some(last) = self.0.last_mut() {
                (last.to, last.resume) = (to, resume);
            }
        }
        is_news
    }

    /// The segment has other files now.
    pub(crate) fn forget_segment(&mut self, segment: Offset) {
        self.0.retain(|run| run.segment != segment);
    }

    /// The log begins at `start` now.
    pub(crate) fn forget_before(&mut self, start: Offset) {
        self.0.retain(|run| run.to > start);
    }

    /// The log ends at `end` now.
    pub(crate) fn forget_from(&mut self, end: Offset) {
        self.0.retain(|run| run.from < end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(from: i64, to: i64, segment: i64) -> Run {
        Run {
            from: Offset(from),
            to: Offset(to),
            segment: Offset(segment),
            position: 0,
            resume: 0,
        }
    }

    #[test]
    fn a_log_remembers_what_is_damaged_until_that_is_gone() {
        let mut damages = Damages::default();
        assert!(damages.set(Offset(100), vec![run(120, 130, 100)]));
        assert!(damages.set(Offset(0), vec![run(10, 20, 0)]));
        assert!(!damages.set(Offset(0), vec![run(10, 20, 0)]), "no news");
        assert_eq!(damages.first(), Some(Offset(10)));
        assert_eq!(damages.from(Offset(19)), Some(&run(10, 20, 0)));
        assert_eq!(damages.from(Offset(20)), Some(&run(120, 130, 100)));
        assert_eq!(damages.from(Offset(130)), None);
        assert!(damages.beginning_at(Offset(120)).is_some());
        damages.forget_before(Offset(15));
        assert_eq!(damages.first(), Some(Offset(10)), "it reaches beyond");
        damages.forget_before(Offset(20));
        assert_eq!(damages.first(), Some(Offset(120)));
        damages.forget_from(Offset(120));
        assert_eq!(damages.first(), None);
    }

    #[test]
    fn many_runs_become_one() {
        let mut damages = Damages::default();
        let many = (0..1000).map(|n| run(n * 10, n * 10 + 1, 0)).collect();
        damages.set(Offset(0), many);
        assert_eq!(damages.0.len(), MAX_RUNS);
        assert_eq!(damages.from(Offset(5000)).unwrap().to, Offset(9991));
    }
}
