//! Incremental fetch sessions (KIP-227; Kafka class `FetchSession`).
//!
//! A session remembers what a client wants and what it was told, so that requests name only what
//! changed and answers hold only partitions with news. Sessions live on this broker alone, are
//! bounded in number (`max.incremental.fetch.session.cache.slots`), and a client whose session is
//! gone starts over.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millrace_host::Random;
use millrace_model::{ErrorCode, TopicId};
use millrace_protocol::messages::fetch_response::PartitionData;
use tokio::time::Instant;

/// A topic as the request names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TopicRef {
    /// Up to version 12.
    Name(Arc<str>),
    /// From version 13 on.
    Id(TopicId),
}

/// What a client wants of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Which topic.
    pub topic: TopicRef,
    /// Which partition of it.
    pub index: i32,
    /// The first offset it lacks.
    pub offset: i64,
    /// The leader epoch it believes in; -1 for none.
    pub current_leader_epoch: i32,
    /// The epoch of the last record it has; -1 for none.
    pub last_fetched_epoch: i32,
    /// `max.partition.fetch.bytes`.
    pub max_bytes: i32,
}

/// The session part of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionRequest {
    /// 0 for no session yet.
    pub id: i32,
    /// 0 to begin one, -1 for none or to end it, else the number of the request in it.
    pub epoch: i32,
    /// Whether topics are named by id.
    pub uses_topic_ids: bool,
}

/// How a request stands to sessions, and what it wants in all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Decides what the answer holds.
    pub part: SessionPart,
    /// Every partition to be read, in the order to read them.
    pub wanted: Vec<Wanted>,
}

/// How the answer to a request is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionPart {
    /// Holds every partition.
    None,
    /// Holds every partition; a session begins, if there is room.
    Begin {
        /// Whether topics are named by id.
        uses_topic_ids: bool,
    },
    /// Holds partitions with news only.
    Within {
        /// Which session.
        id: i32,
        /// What the next request will bring.
        next_epoch: i32,
    },
}

const NO_SESSION: i32 = 0;
const BEGIN: i32 = 0;
const END: i32 = -1;

/// How long a session is safe from being replaced by another's (Kafka's `EVICTION_MS`).
const SAFE_FROM_EVICTION: Duration = Duration::from_secs(120);

/// The sessions of one broker.
pub struct SessionCache {
    slots: usize,
    random: Random,
    sessions: Mutex<BTreeMap<i32, Session>>,
}

struct Session {
    epoch: i32,
    uses_topic_ids: bool,
    created: Instant,
    last_used: Instant,
    /// By place: those that had data go to the end, so that all get their turn.
    partitions: BTreeMap<u64, Cached>,
    places: BTreeMap<(TopicRef, i32), u64>,
    next_place: u64,
}

struct Cached {
    wanted: Wanted,
    told_high_watermark: i64,
    told_log_start: i64,
}

impl SessionCache {
    /// A cache of so many sessions.
    pub fn new(slots: usize, random: Random) -> SessionCache {
        SessionCache {
            slots,
            random,
            sessions: Mutex::new(BTreeMap::new()),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<i32, Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the session part of a request that names `wanted` and `forgotten`.
    ///
    /// # Errors
    /// If the session is not what the client believes; it starts over.
    pub fn open(
        &self,
        request: SessionRequest,
        wanted: Vec<Wanted>,
        forgotten: &[(TopicRef, i32)],
        now: Instant,
    ) -> Result<Opened, ErrorCode> {
        let mut sessions = self.lock();
        if request.epoch == BEGIN || request.epoch == END {
            sessions.remove(&request.id);
            let uses_topic_ids = request.uses_topic_ids;
            let part = match request.epoch {
                BEGIN => SessionPart::Begin { uses_topic_ids },
                _ => SessionPart::None,
            };
            return Ok(Opened { part, wanted });
        }
        let session = sessions
            .get_mut(&request.id)
            .ok_or(ErrorCode::FetchSessionIdNotFound)?;
        if session.epoch != request.epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if session.uses_topic_ids != request.uses_topic_ids {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        session.forget(forgotten);
        for wanted in wanted {
            session.want(wanted);
        }
        if session.partitions.is_empty() {
            sessions.remove(&request.id);
            return Ok(Opened {
                part: SessionPart::None,
                wanted: Vec::new(),
            });
        }
        session.last_used = now;
        session.epoch = next_epoch(session.epoch);
        Ok(Opened {
            part: SessionPart::Within {
                id: request.id,
                next_epoch: session.epoch,
            },
            wanted: session.wanted(),
        })
    }

    /// Makes the answer: keeps what it must hold, and notes what the client is told. Returns the
    /// session id for the answer.
    ///
    /// # Errors
    /// If the session has moved on meanwhile.
    pub fn answer(
        &self,
        part: SessionPart,
        results: &mut Vec<(Wanted, PartitionData)>,
        now: Instant,
    ) -> Result<i32, ErrorCode> {
        match part {
            SessionPart::None => Ok(NO_SESSION),
            SessionPart::Begin { uses_topic_ids } => Ok(self.begin(uses_topic_ids, results, now)),
            SessionPart::Within { id, next_epoch } => {
                let mut sessions = self.lock();
                let session = sessions
                    .get_mut(&id)
                    .ok_or(ErrorCode::FetchSessionIdNotFound)?;
                if session.epoch != next_epoch {
                    return Err(ErrorCode::InvalidFetchSessionEpoch);
                }
                results.retain(|(wanted, data)| session.tell(wanted, data));
                Ok(id)
            }
        }
    }

    fn begin(
        &self,
        uses_topic_ids: bool,
        results: &[(Wanted, PartitionData)],
        now: Instant,
    ) -> i32 {
        let mut sessions = self.lock();
        if results.is_empty() || !make_room(&mut sessions, self.slots, results.len(), now) {
            return NO_SESSION;
        }
        let mut session = Session {
            epoch: next_epoch(BEGIN),
            uses_topic_ids,
            created: now,
            last_used: now,
            partitions: BTreeMap::new(),
            places: BTreeMap::new(),
            next_place: 0,
        };
        for (wanted, data) in results {
            session.want(wanted.clone());
            session.tell(wanted, data);
        }
        loop {
            let drawn = self.random.range(1..u64::from(i32::MAX.unsigned_abs()));
            let id = i32::try_from(drawn).unwrap_or(1);
            if let std::collections::btree_map::Entry::Vacant(slot) = sessions.entry(id) {
                slot.insert(session);
                return id;
            }
        }
    }
}

/// Frees a slot for a session of so many partitions: the one unused for longest if that is long,
/// else a smaller one that had its time.
fn make_room(
    sessions: &mut BTreeMap<i32, Session>,
    slots: usize,
    partitions: usize,
    now: Instant,
) -> bool {
    if sessions.len() < slots {
        return true;
    }
    let stalest = sessions.iter().min_by_key(|(_, session)| session.last_used);
    let smallest = sessions
        .iter()
        .filter(|(_, session)| now - session.created > SAFE_FROM_EVICTION)
        .min_by_key(|(_, session)| session.partitions.len());
    let victim = match (stalest, smallest) {
        (Some((id, stalest)), _) if now - stalest.last_used > SAFE_FROM_EVICTION => Some(*id),
        (_, Some((id, smallest))) if smallest.partitions.len() < partitions => Some(*id),
        _ => None,
    };
    victim.is_some_and(|id| sessions.remove(&id).is_some())
}

/// The number of the request that follows request `epoch`.
fn next_epoch(epoch: i32) -> i32 {
    if epoch == i32::MAX { 1 } else { epoch + 1 }
}

impl Session {
    fn want(&mut self, wanted: Wanted) {
        let key = (wanted.topic.clone(), wanted.index);
        if let Some(cached) = self
            .places
            .get(&key)
            .and_then(|at| self.partitions.get_mut(at))
        {
            cached.wanted = wanted;
            return;
        }
        self.places.insert(key, self.next_place);
        let cached = Cached {
            wanted,
            told_high_watermark: -1,
            told_log_start: -1,
        };
        self.partitions.insert(self.next_place, cached);
        self.next_place += 1;
    }

    fn forget(&mut self, forgotten: &[(TopicRef, i32)]) {
        for key in forgotten {
            if let Some(place) = self.places.remove(key) {
                self.partitions.remove(&place);
            }
        }
    }

    fn wanted(&self) -> Vec<Wanted> {
        let cached = self.partitions.values();
        cached.map(|cached| cached.wanted.clone()).collect()
    }

    /// Notes what the client is about to be told; false if that is nothing new.
    fn tell(&mut self, wanted: &Wanted, data: &PartitionData) -> bool {
        let key = (wanted.topic.clone(), wanted.index);
        let Some(place) = self.places.get_mut(&key) else {
            return true;
        };
        let Some(mut cached) = self.partitions.remove(place) else {
            return true;
        };
        let has_records = data
            .records
            .as_ref()
            .is_some_and(|records| !records.is_empty());
        let failed = data.error_code != 0;
        let news = has_records
            || failed
            || cached.told_high_watermark != data.high_watermark
            || cached.told_log_start != data.log_start_offset
            || data.preferred_read_replica >= 0
            || data.diverging_epoch.epoch >= 0;
        // An error must be followed by news once it is gone.
        cached.told_high_watermark = if failed { -1 } else { data.high_watermark };
        cached.told_log_start = data.log_start_offset;
        if has_records {
            *place = self.next_place;
            self.next_place += 1;
        }
        self.partitions.insert(*place, cached);
        news
    }
}

#[cfg(test)]
mod tests;
