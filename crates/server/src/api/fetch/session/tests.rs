//! Sessions as Kafka's `FetchSessionTest` looks at them.

use bytes::Bytes;
use millrace_protocol::Records;

use super::*;

const NAMED: SessionRequest = SessionRequest {
    id: 0,
    epoch: 0,
    uses_topic_ids: false,
};

fn cache(slots: usize) -> SessionCache {
    SessionCache::new(slots, Random::from_seed(1))
}

fn wanted(index: i32, offset: i64) -> Wanted {
    Wanted {
        topic: TopicRef::Name("topic".into()),
        index,
        offset,
        current_leader_epoch: -1,
        last_fetched_epoch: -1,
        max_bytes: 100,
    }
}

fn data(index: i32, high_watermark: i64, records: &'static [u8]) -> PartitionData {
    PartitionData {
        partition_index: index,
        high_watermark,
        records: Some(Records::from(Bytes::from_static(records))),
        ..Default::default()
    }
}

/// Answers `opened` with the same high watermark for all; returns session id and partitions told.
fn answer(
    cache: &SessionCache,
    opened: Opened,
    high_watermark: i64,
    with_data: &[i32],
    now: Instant,
) -> (i32, Vec<i32>) {
    let mut results: Vec<_> = opened
        .wanted
        .into_iter()
        .map(|wanted| {
            let records: &[u8] = match with_data.contains(&wanted.index) {
                true => b"records",
                false => b"",
            };
            let data = data(wanted.index, high_watermark, records);
            (wanted, data)
        })
        .collect();
    let id = cache.answer(opened.part, &mut results, now).unwrap();
    (id, results.iter().map(|(wanted, _)| wanted.index).collect())
}

fn begin(cache: &SessionCache, partitions: &[i32], now: Instant) -> i32 {
    let all = partitions.iter().map(|index| wanted(*index, 0)).collect();
    let opened = cache.open(NAMED, all, &[], now).unwrap();
    answer(cache, opened, 5, &[], now).0
}

fn within(id: i32, epoch: i32) -> SessionRequest {
    SessionRequest { id, epoch, ..NAMED }
}

#[tokio::test]
async fn an_incremental_answer_holds_news_only() {
    let (cache, now) = (cache(10), Instant::now());
    let id = begin(&cache, &[0, 1, 2], now);
    assert_ne!(id, 0);
    let opened = cache.open(within(id, 1), Vec::new(), &[], now).unwrap();
    assert_eq!(opened.wanted.len(), 3);
    assert_eq!(answer(&cache, opened, 5, &[1], now), (id, vec![1]));
    let opened = cache
        .open(within(id, 2), vec![wanted(1, 9)], &[], now)
        .unwrap();
    let order: Vec<i32> = opened.wanted.iter().map(|wanted| wanted.index).collect();
    assert_eq!(order, [0, 2, 1], "what had data comes last");
    assert_eq!(opened.wanted[2].offset, 9);
    assert_eq!(answer(&cache, opened, 6, &[], now), (id, vec![0, 2, 1]));
    let opened = cache.open(within(id, 3), Vec::new(), &[], now).unwrap();
    assert_eq!(answer(&cache, opened, 6, &[], now), (id, vec![]));
}

#[tokio::test]
async fn an_error_is_told_and_so_is_its_end() {
    let (cache, now) = (cache(10), Instant::now());
    let id = begin(&cache, &[0], now);
    let told = |epoch: i32, error_code: i16| {
        let opened = cache.open(within(id, epoch), Vec::new(), &[], now).unwrap();
        let mut data = data(0, 5, b"");
        data.error_code = error_code;
        let mut results = vec![(wanted(0, 0), data)];
        cache.answer(opened.part, &mut results, now).unwrap();
        !results.is_empty()
    };
    assert!(!told(1, 0));
    assert!(told(2, 6));
    assert!(told(3, 6));
    assert!(told(4, 0));
    assert!(!told(5, 0));
}

#[tokio::test]
async fn partitions_are_added_forgotten_and_the_empty_session_ends() {
    let (cache, now) = (cache(10), Instant::now());
    let id = begin(&cache, &[0], now);
    let gone = |index| (TopicRef::Name("topic".into()), index);
    let request = cache.open(within(id, 1), vec![wanted(1, 0)], &[gone(0)], now);
    let opened = request.unwrap();
    assert_eq!(opened.wanted, [wanted(1, 0)]);
    answer(&cache, opened, 5, &[], now);
    let ended = cache
        .open(within(id, 2), Vec::new(), &[gone(1)], now)
        .unwrap();
    assert_eq!(ended.part, SessionPart::None);
    let next = cache.open(within(id, 3), Vec::new(), &[], now);
    assert_eq!(next, Err(ErrorCode::FetchSessionIdNotFound));
}

#[tokio::test]
async fn wrong_epochs_and_ids_are_refused() {
    let (cache, now) = (cache(10), Instant::now());
    let id = begin(&cache, &[0], now);
    let open = |request| cache.open(request, Vec::new(), &[], now);
    assert_eq!(
        open(within(id, 2)),
        Err(ErrorCode::InvalidFetchSessionEpoch)
    );
    let by_id = SessionRequest {
        uses_topic_ids: true,
        ..within(id, 1)
    };
    assert_eq!(open(by_id), Err(ErrorCode::FetchSessionTopicIdError));
    assert!(open(within(id, 1)).is_ok());
    assert!(open(within(id, -1)).is_ok());
    assert_eq!(open(within(id, 2)), Err(ErrorCode::FetchSessionIdNotFound));
    assert_eq!(next_epoch(i32::MAX), 1);
}

#[tokio::test]
async fn slots_are_bounded_and_stale_sessions_give_way() {
    let (cache, now) = (cache(2), Instant::now());
    let first = begin(&cache, &[0], now);
    let second = begin(&cache, &[0, 1], now);
    assert!(first != 0 && second != 0 && first != second);
    assert_eq!(begin(&cache, &[0, 1, 2], now), 0, "both are safe still");
    let later = now + SAFE_FROM_EVICTION + Duration::from_secs(1);
    cache
        .open(within(first, 1), Vec::new(), &[], later)
        .unwrap();
    assert_ne!(begin(&cache, &[0], later), 0, "the second is stale");
    let gone = cache.open(within(second, 1), Vec::new(), &[], later);
    assert_eq!(gone, Err(ErrorCode::FetchSessionIdNotFound));
}
