//! The promises, each as a check that names what broke it.

use std::collections::{BTreeMap, BTreeSet};

use super::{History, Mark, Placed};

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// An acknowledged record is nowhere in the log.
    Lost(Placed),
    /// An acknowledged record is there, at another offset than its producer was told.
    Moved {
        /// Where it was acknowledged.
        acked: Placed,
        /// Where it lies.
        found: i64,
    },
    /// A record of an idempotent producer is there more than once.
    Duplicated {
        /// In which partition.
        partition: i32,
        /// Which record.
        mark: Mark,
        /// At which offsets.
        offsets: Vec<i64>,
    },
    /// Records of one producer lie in another order than they were sent in.
    Reordered {
        /// In which partition.
        partition: i32,
        /// The one that lies first though it was sent later.
        first: Mark,
        /// The one that follows it.
        then: Mark,
    },
    /// A reader saw a record that is not there in the end, or another one at its offset.
    ReadThenGone(Placed),
    /// A reader was given offsets that do not rise.
    ReadBackwards(Placed),
    /// A record that nobody sent.
    Invented(Placed),
    /// An offset is missing between two others, or is there twice.
    Gap {
        /// In which partition.
        partition: i32,
        /// The offset before.
        after: i64,
        /// The next one that is there.
        next: i64,
    },
    /// The high watermark went back.
    WatermarkWentBack {
        /// Of which partition.
        partition: i32,
        /// From where.
        from: i64,
        /// To where.
        to: i64,
    },
    /// Two leaders in one epoch.
    TwoLeaders {
        /// Of which partition.
        partition: i32,
        /// In which epoch.
        epoch: i32,
        /// The two.
        leaders: (i32, i32),
    },
}

/// Every promise that this history breaks.
pub fn check(history: &History) -> Vec<Violation> {
    let mut violations = Vec::new();
    let index = index(history);
    acked_records_are_there(history, &index, &mut violations);
    nothing_is_there_twice(history, &index, &mut violations);
    nothing_is_invented(history, &mut violations);
    offsets_are_dense(history, &mut violations);
    order_is_kept(history, &mut violations);
    what_was_read_stays(history, &mut violations);
    watermarks_rise(history, &mut violations);
    one_leader_an_epoch(history, &mut violations);
    violations
}

/// Where each record lies.
type Index = BTreeMap<(i32, Mark), Vec<i64>>;

fn index(history: &History) -> Index {
    let mut index = Index::new();
    for (partition, log) in &history.log {
        for (offset, mark) in log {
            index.entry((*partition, *mark)).or_default().push(*offset);
        }
    }
    index
}

fn acked_records_are_there(history: &History, index: &Index, out: &mut Vec<Violation>) {
    for acked in &history.acked {
        match index.get(&(acked.partition, acked.mark)) {
            None => out.push(Violation::Lost(*acked)),
            // A negative offset: the broker knew a duplicate but no longer its place.
            Some(offsets) if acked.offset >= 0 && !offsets.contains(&acked.offset) => {
                out.push(Violation::Moved {
                    acked: *acked,
                    found: offsets[0],
                });
            }
            Some(_) => {}
        }
    }
}

fn nothing_is_there_twice(history: &History, index: &Index, out: &mut Vec<Violation>) {
    if !history.idempotent {
        return;
    }
    for ((partition, mark), offsets) in index {
        if offsets.len() > 1 {
            out.push(Violation::Duplicated {
                partition: *partition,
                mark: *mark,
                offsets: offsets.clone(),
            });
        }
    }
}

fn nothing_is_invented(history: &History, out: &mut Vec<Violation>) {
    let mut sent: BTreeSet<(i32, Mark)> = history.unknown.iter().copied().collect();
    sent.extend(
        history
            .acked
            .iter()
            .map(|acked| (acked.partition, acked.mark)),
    );
    for (partition, log) in &history.log {
        for (offset, mark) in log {
            if !sent.contains(&(*partition, *mark)) {
                out.push(Violation::Invented(Placed {
                    partition: *partition,
                    offset: *offset,
                    mark: *mark,
                }));
            }
        }
    }
}

fn offsets_are_dense(history: &History, out: &mut Vec<Violation>) {
    for (partition, log) in &history.log {
        for pair in log.windows(2) {
            if pair[1].0 != pair[0].0 + 1 {
                out.push(Violation::Gap {
                    partition: *partition,
                    after: pair[0].0,
                    next: pair[1].0,
                });
            }
        }
    }
}

fn order_is_kept(history: &History, out: &mut Vec<Violation>) {
    if !history.idempotent {
        return;
    }
    for (partition, log) in &history.log {
        let mut last: BTreeMap<u32, Mark> = BTreeMap::new();
        for (_, mark) in log {
            if let Some(before) = last.insert(mark.producer, *mark)
                && before.sequence > mark.sequence
            {
                out.push(Violation::Reordered {
                    partition: *partition,
                    first: before,
                    then: *mark,
                });
            }
        }
    }
}

fn what_was_read_stays(history: &History, out: &mut Vec<Violation>) {
    let places: BTreeMap<(i32, i64), Mark> = history
        .log
        .iter()
        .flat_map(|(partition, log)| {
            log.iter()
                .map(move |(offset, mark)| ((*partition, *offset), *mark))
        })
        .collect();
    for reader in &history.seen {
        let mut last: BTreeMap<i32, i64> = BTreeMap::new();
        for seen in reader {
            if places.get(&(seen.partition, seen.offset)) != Some(&seen.mark) {
                out.push(Violation::ReadThenGone(*seen));
            }
            let before = last.insert(seen.partition, seen.offset);
            if before.is_some_and(|before| before >= seen.offset) {
                out.push(Violation::ReadBackwards(*seen));
            }
        }
    }
}

fn watermarks_rise(history: &History, out: &mut Vec<Violation>) {
    let mut highest: BTreeMap<i32, i64> = BTreeMap::new();
    for (partition, offset) in &history.watermarks {
        let before = highest.entry(*partition).or_insert(*offset);
        if *offset < *before {
            out.push(Violation::WatermarkWentBack {
                partition: *partition,
                from: *before,
                to: *offset,
            });
        }
        *before = (*before).max(*offset);
    }
}

fn one_leader_an_epoch(history: &History, out: &mut Vec<Violation>) {
    let mut known: BTreeMap<(i32, i32), i32> = BTreeMap::new();
    for seen in history.leaders.iter().filter(|seen| seen.leader >= 0) {
        let first = *known
            .entry((seen.partition, seen.epoch))
            .or_insert(seen.leader);
        if first != seen.leader {
            out.push(Violation::TwoLeaders {
                partition: seen.partition,
                epoch: seen.epoch,
                leaders: (first, seen.leader),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Leadership;
    use super::*;

    fn mark(sequence: u64) -> Mark {
        Mark {
            producer: 1,
            sequence,
        }
    }

    fn placed(offset: i64, sequence: u64) -> Placed {
        Placed {
            partition: 0,
            offset,
            mark: mark(sequence),
        }
    }

    /// Ten records, acknowledged, read and there.
    fn sound() -> History {
        let all: Vec<Placed> = (0..10).map(|n| placed(n, n as u64)).collect();
        History {
            acked: all.clone(),
            unknown: vec![(0, mark(10))],
            seen: vec![all],
            watermarks: vec![(0, 3), (0, 10), (1, 0)],
            leaders: vec![
                Leadership {
                    partition: 0,
                    epoch: 1,
                    leader: 2
                };
                3
            ],
            log: BTreeMap::from([(0, (0..10).map(|n| (n, mark(n as u64))).collect())]),
            idempotent: true,
        }
    }

    fn found(doctor: impl FnOnce(&mut History)) -> Vec<Violation> {
        let mut history = sound();
        doctor(&mut history);
        check(&history)
    }

    fn log(history: &mut History) -> &mut Vec<(i64, Mark)> {
        history.log.get_mut(&0).unwrap()
    }

    #[test]
    fn a_sound_history_breaks_nothing() {
        assert_eq!(found(|_| {}), []);
        // A record without an answer may be there.
        assert_eq!(found(|history| log(history).push((10, mark(10)))), []);
    }

    #[test]
    fn a_lost_record_is_found() {
        let violations = found(|history| {
            log(history).pop();
            history.seen.clear();
        });
        assert_eq!(violations, [Violation::Lost(placed(9, 9))]);
    }

    #[test]
    fn a_record_at_another_offset_is_found() {
        let violations = found(|history| history.acked[9].offset = 8);
        let acked = placed(8, 9);
        assert_eq!(violations, [Violation::Moved { acked, found: 9 }]);
    }

    #[test]
    fn a_duplicate_is_found_for_idempotent_producers_only() {
        let violations = found(|history| log(history).push((10, mark(9))));
        let duplicated = Violation::Duplicated {
            partition: 0,
            mark: mark(9),
            offsets: vec![9, 10],
        };
        assert_eq!(violations, [duplicated]);
        let violations = found(|history| {
            log(history).push((10, mark(9)));
            history.idempotent = false;
        });
        assert_eq!(violations, []);
    }

    #[test]
    fn a_swap_is_found() {
        let violations = found(|history| {
            log(history)[4].1 = mark(5);
            log(history)[5].1 = mark(4);
            history.acked.clear();
            history.seen.clear();
            history.unknown.extend((0..10).map(|n| (0, mark(n))));
        });
        let reordered = Violation::Reordered {
            partition: 0,
            first: mark(5),
            then: mark(4),
        };
        assert_eq!(violations, [reordered]);
    }

    #[test]
    fn a_record_that_a_reader_saw_and_that_is_gone_is_found() {
        let violations = found(|history| history.seen.push(vec![placed(10, 10)]));
        assert_eq!(violations, [Violation::ReadThenGone(placed(10, 10))]);
    }

    #[test]
    fn a_reader_that_is_sent_back_is_found() {
        let violations = found(|history| history.seen.push(vec![placed(3, 3), placed(3, 3)]));
        assert_eq!(violations, [Violation::ReadBackwards(placed(3, 3))]);
    }

    #[test]
    fn an_invented_record_and_a_gap_are_found() {
        let violations = found(|history| log(history).push((12, mark(77))));
        let gap = Violation::Gap {
            partition: 0,
            after: 9,
            next: 12,
        };
        assert_eq!(violations, [Violation::Invented(placed(12, 77)), gap]);
    }

    #[test]
    fn a_watermark_that_went_back_is_found() {
        let violations = found(|history| history.watermarks.push((0, 9)));
        let back = Violation::WatermarkWentBack {
            partition: 0,
            from: 10,
            to: 9,
        };
        assert_eq!(violations, [back]);
    }

    #[test]
    fn two_leaders_in_one_epoch_are_found() {
        let violations = found(|history| {
            history.leaders.push(Leadership {
                partition: 0,
                epoch: 1,
                leader: 3,
            });
        });
        let two = Violation::TwoLeaders {
            partition: 0,
            epoch: 1,
            leaders: (2, 3),
        };
        assert_eq!(violations, [two]);
    }
}
