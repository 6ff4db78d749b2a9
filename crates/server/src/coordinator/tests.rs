//! Drivers over a log in memory, with a small shard that adds numbers.

mod fake_journal;
mod sums;

use std::sync::Arc;
use std::time::Duration;

use millrace_host::Clock;
use millrace_model::{ErrorCode, Timestamp};
use millrace_protocol::compression::Compression;
use millrace_replication::AppendFailure;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::desk::{Desk, Inlets, Order, Task, Tried};
use super::driver::{Answer, Call, Driver, DriverOptions, DriverParts};
use fake_journal::FakeJournal;
use sums::{Ask, Sums};

const COMMIT_TIMEOUT: Duration = Duration::from_secs(5);

struct Running {
    calls: mpsc::Sender<Call<Sums>>,
    orders: mpsc::UnboundedSender<Order<Sums>>,
    desk: Arc<Desk<Sums, Arc<FakeJournal>>>,
    driver: JoinHandle<()>,
}

type Pending = oneshot::Receiver<Answer<Sums>>;

fn start(journal: &Arc<FakeJournal>) -> Running {
    let (calls, called) = mpsc::channel(1000);
    let (orders, ordered) = mpsc::unbounded_channel();
    let desk = Arc::new(Desk::default());
    let journal = Arc::new(journal.clone());
    let began = Instant::now();
    let wall = move || Timestamp(i64::try_from(began.elapsed().as_millis()).unwrap());
    let driver = Driver::new(DriverParts {
        family: Arc::new(Sums::default()),
        partition: 0,
        journal: journal.clone(),
        clock: Clock::with_wall(wall),
        options: DriverOptions {
            commit_timeout: COMMIT_TIMEOUT,
            compression: Compression::None,
            load_bytes: 100,
        },
    });
    let task = Task {
        desk: desk.clone(),
        journal,
        inlets: Inlets {
            calls: called,
            orders: ordered,
        },
        stopping: CancellationToken::new(),
    };
    Running {
        calls,
        orders,
        desk,
        driver: tokio::spawn(task.run(driver)),
    }
}

impl Running {
    fn send(&self, request: Ask) -> Pending {
        let (reply, answer) = oneshot::channel();
        let call = Call { request, reply };
        assert!(self.calls.try_send(call).is_ok());
        answer
    }

    /// Brings a request in person.
    fn bring(&self, request: Ask) -> Tried<Sums> {
        self.desk.ask(request)
    }

    async fn ask(&self, request: Ask) -> Answer<Sums> {
        let answer = self.send(request).await;
        answer.unwrap_or(Err(ErrorCode::NotCoordinator))
    }
}

fn add(subject: i32, number: i64) -> Ask {
    Ask::Add {
        subject,
        numbers: vec![number],
        atomic: true,
        producer: None,
    }
}

/// Lets the driver do everything it can without time going by.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn decisions_follow_each_other_before_they_are_committed() {
    let journal = FakeJournal::leading();
    journal.hold_commits();
    let running = start(&journal);
    settle().await;
    let mut first = running.send(add(1, 5));
    settle().await;
    let mut second = running.send(add(1, 6));
    let mut read = running.send(Ask::Get(1));
    settle().await;
    assert_eq!(journal.batches().len(), 2);
    assert!(first.try_recv().is_err(), "it is not committed yet");
    journal.commit(1);
    settle().await;
    assert_eq!(first.try_recv().unwrap(), Ok(5));
    assert!(second.try_recv().is_err());
    assert!(read.try_recv().is_err(), "a read waits like a write");
    journal.commit(2);
    settle().await;
    assert_eq!(second.try_recv().unwrap(), Ok(11));
    assert_eq!(read.try_recv().unwrap(), Ok(11));
    assert_eq!(running.ask(Ask::Get(2)).await, Ok(0));
}

/// Who comes in person is answered at once where nothing has to be committed, and sees what was
/// decided before.
#[tokio::test(start_paused = true)]
async fn who_brings_a_request_need_not_wait_for_the_task() {
    let journal = FakeJournal::leading();
    let running = start(&journal);
    assert!(
        matches!(running.bring(Ask::Get(1)), Tried::Busy(_)),
        "it is not loaded"
    );
    settle().await;
    journal.hold_commits();
    assert!(
        matches!(running.bring(Ask::GetAll), Tried::Busy(_)),
        "it is not brief"
    );
    let Tried::Answered(answer) = running.bring(Ask::Get(1)) else {
        panic!("everything is committed");
    };
    assert_eq!(answer, Ok(0));
    let Tried::Waits(mut added) = running.bring(add(1, 5)) else {
        panic!("it is not committed yet");
    };
    let Tried::Waits(mut read) = running.bring(Ask::Get(1)) else {
        panic!("a read waits like a write");
    };
    settle().await;
    assert!(added.try_recv().is_err() && read.try_recv().is_err());
    journal.commit(1);
    settle().await;
    assert_eq!(added.try_recv().unwrap(), Ok(5));
    assert_eq!(read.try_recv().unwrap(), Ok(5));
    // Nobody waits for the task to notice.
    journal.cut_off(true);
    assert!(matches!(running.bring(Ask::Get(1)), Tried::Waits(_)));
    journal.cut_off(false);
    journal.fail_next(AppendFailure::Offline);
    let Tried::Answered(failed) = running.bring(add(1, 5)) else {
        panic!("nothing was appended");
    };
    assert_eq!(failed, Err(ErrorCode::KafkaStorageError));
}

/// The task sleeps long, and is told of a deadline that comes earlier.
#[tokio::test(start_paused = true)]
async fn a_deadline_that_somebody_brings_wakes_the_task() {
    let journal = FakeJournal::leading();
    let running = start(&journal);
    settle().await;
    let began = Instant::now();
    let Tried::Waits(waiting) = running.bring(Ask::WaitUntil(Timestamp(7_000))) else {
        panic!("the time has not come");
    };
    assert_eq!(waiting.await.unwrap(), Ok(-1));
    assert_eq!(began.elapsed(), Duration::from_secs(7));
}

/// Whoever waits, and whoever comes, is told that another broker leads.
#[tokio::test(start_paused = true)]
async fn who_comes_after_the_leadership_is_told_so() {
    let journal = FakeJournal::leading();
    let running = start(&journal);
    settle().await;
    let Tried::Waits(waiting) = running.bring(Ask::WaitUntil(Timestamp(1_000_000))) else {
        panic!("the time has not come");
    };
    let told_so = |tried| match tried {
        Tried::Answered(answer) => assert_eq!(answer, Err(ErrorCode::NotCoordinator)),
        _ => panic!("nobody would answer"),
    };
    journal.lose();
    told_so(running.bring(Ask::Get(1)));
    assert!(waiting.await.is_err());
    journal.lead();
    told_so(running.bring(Ask::Get(1)));
}

/// Requests that wait together, and the records in each batch that comes of them.
#[tokio::test(start_paused = true)]
async fn what_comes_together_is_appended_together() {
    let check = async |asked: Vec<Ask>, expected: &[usize]| {
        let journal = FakeJournal::leading();
        let running = start(&journal);
        let answers: Vec<_> = asked.into_iter().map(|ask| running.send(ask)).collect();
        for answer in answers {
            assert!(answer.await.unwrap().is_ok());
        }
        assert_eq!(journal.batches(), expected);
    };
    check((0..100).map(|subject| add(subject, 1)).collect(), &[100]).await;
    // A decision sees what the one before it about the same subject has left.
    check(vec![add(1, 1), add(2, 1), add(1, 1)], &[2, 1]).await;
    check(vec![add(1, 1), Ask::Get(1), add(2, 1)], &[1, 1]).await;
    check(vec![add(1, 1), Ask::GetAll, add(2, 1)], &[1, 1]).await;
    check(vec![add(1, 1), Ask::Get(2), add(2, 1)], &[2]).await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_append_applies_nothing() {
    let journal = FakeJournal::leading();
    let running = start(&journal);
    assert_eq!(running.ask(add(1, 5)).await, Ok(5));
    let few = || AppendFailure::NotEnoughReplicas { isr: 1, min: 2 };
    for (failure, expected) in [
        (few(), ErrorCode::NotEnoughReplicas),
        (AppendFailure::Offline, ErrorCode::KafkaStorageError),
    ] {
        journal.fail_next(failure);
        assert_eq!(running.ask(add(1, 100)).await, Err(expected));
        assert_eq!(running.ask(Ask::Get(1)).await, Ok(5));
    }
    assert_eq!(running.ask(add(1, 1)).await, Ok(6));
}

#[tokio::test(start_paused = true)]
async fn who_waits_when_the_leadership_ends_is_told_so() {
    let journal = FakeJournal::leading();
    journal.hold_commits();
    let running = start(&journal);
    settle().await;
    let uncommitted = running.send(add(1, 5));
    let kept = running.send(Ask::WaitUntil(Timestamp(1_000_000)));
    settle().await;
    journal.lose();
    running.driver.await.unwrap();
    assert!(uncommitted.await.is_err());
    assert!(kept.await.is_err());
    assert!(running.calls.is_closed());
}

#[tokio::test(start_paused = true)]
async fn an_answer_does_not_wait_for_ever() {
    let journal = FakeJournal::leading();
    journal.hold_commits();
    let running = start(&journal);
    settle().await;
    let began = Instant::now();
    let late = running.ask(add(1, 5)).await;
    assert_eq!(late, Err(ErrorCode::RequestTimedOut));
    assert!(began.elapsed() >= COMMIT_TIMEOUT);
    // It was appended all the same.
    journal.commit(1);
    assert_eq!(running.ask(Ask::Get(1)).await, Ok(5));
}

/// Another broker may have been elected, and have committed more.
#[tokio::test(start_paused = true)]
async fn who_is_cut_off_tells_nothing_until_it_is_heard() {
    let journal = FakeJournal::leading();
    let running = start(&journal);
    assert_eq!(running.ask(add(1, 5)).await, Ok(5));
    journal.cut_off(true);
    let late = running.ask(Ask::Get(1)).await;
    assert_eq!(late, Err(ErrorCode::RequestTimedOut));
    let mut read = running.send(Ask::Get(1));
    settle().await;
    assert!(read.try_recv().is_err());
    journal.cut_off(false);
    assert_eq!(read.await.unwrap(), Ok(5));
}

#[tokio::test(start_paused = true)]
async fn deadlines_come_and_notices_too() {
    let journal = FakeJournal::leading();
    let running = start(&journal);
    let began = Instant::now();
    let waiting = running.send(Ask::WaitUntil(Timestamp(90_000)));
    assert_eq!(waiting.await.unwrap(), Ok(-1));
    assert_eq!(began.elapsed(), Duration::from_secs(90));
    assert!(running.orders.send(Order::Notice(7)).is_ok());
    settle().await;
    assert_eq!(running.ask(Ask::Get(7)).await, Ok(7));
    let (reply, measured) = oneshot::channel();
    assert!(running.orders.send(Order::Measure(reply)).is_ok());
    assert_eq!(measured.await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_served_before_the_leadership_begins_and_all_is_loaded() {
    let journal = FakeJournal::leading();
    let earlier = start(&journal);
    for number in 1..=50 {
        earlier
            .ask(add(number % 3, i64::from(number)))
            .await
            .unwrap();
    }
    earlier.driver.abort();
    journal.stand_back();
    let running = start(&journal);
    let early = running.send(Ask::Get(0));
    settle().await;
    assert!(!running.desk.is_open());
    journal.lead();
    settle().await;
    assert!(running.desk.is_open());
    let expected: i64 = (1..=50).filter(|number| number % 3 == 0).sum();
    assert_eq!(early.await.unwrap(), Ok(expected));
    assert!(journal.reads() > 10, "it is read a piece at a time");
    assert_eq!(running.ask(add(0, 1)).await, Ok(expected + 1));
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_cannot_be_read_is_not_served() {
    let journal = FakeJournal::leading();
    let earlier = start(&journal);
    earlier.ask(add(sums::BROKEN, 1)).await.unwrap();
    earlier.driver.abort();
    let running = start(&journal);
    running.driver.await.unwrap();
    assert!(!running.desk.is_open());
}

#[tokio::test(start_paused = true)]
async fn large_decisions_are_split_where_they_may_be() {
    let journal = FakeJournal::leading();
    let limit = 300;
    journal.limit_batches(limit);
    let running = start(&journal);
    let many = |atomic| Ask::Add {
        subject: 1,
        numbers: vec![1; 40],
        atomic,
        producer: None,
    };
    let refused = running.ask(many(true)).await;
    assert_eq!(refused, Err(ErrorCode::MessageTooLarge));
    assert_eq!(running.ask(Ask::Get(1)).await, Ok(0));
    assert_eq!(running.ask(many(false)).await, Ok(40));
    assert!(journal.batches().len() > 3);
    assert_eq!(journal.batches().iter().sum::<usize>(), 40);
}

/// What belongs to a transaction takes effect by its marker, live and when loaded.
#[tokio::test(start_paused = true)]
async fn transactions_have_batches_of_their_own() {
    let journal = FakeJournal::leading();
    let running = start(&journal);
    let in_transaction = |producer| Ask::Add {
        subject: 1,
        numbers: vec![producer],
        atomic: true,
        producer: Some(producer),
    };
    let asked = [add(1, 1), in_transaction(10), in_transaction(20), add(2, 1)];
    let answers: Vec<_> = asked.into_iter().map(|ask| running.send(ask)).collect();
    for answer in answers {
        answer.await.unwrap().unwrap();
    }
    assert_eq!(journal.batches(), [1, 1, 1, 1]);
    assert_eq!(journal.producers(), [-1, 10, 20, -1]);
    assert_eq!(running.ask(Ask::Get(1)).await, Ok(1));
    running.driver.abort();
    journal.append_marker(10, true);
    journal.append_marker(20, false);
    let reloaded = start(&journal);
    assert_eq!(reloaded.ask(Ask::Get(1)).await, Ok(11));
}
