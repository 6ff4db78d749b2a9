//! Connections over good and bad ways.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

struct Bench {
    network: SimNetwork,
    one: Arc<dyn Network>,
    two: Arc<dyn Network>,
    now: Duration,
}

const LONG: Duration = Duration::from_secs(60);

impl Bench {
    fn new(seed: u64) -> Bench {
        let network = SimNetwork::new(seed);
        Bench {
            one: network.add("one"),
            two: network.add("two"),
            network,
            now: Duration::ZERO,
        }
    }

    /// Drives `work` for at most `limit`; none if it is not done by then.
    fn within<T>(&mut self, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        let end = self.now + limit;
        loop {
            if let Poll::Ready(done) = work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return Some(done);
            }
            if self.now >= end {
                return None;
            }
            self.now += Duration::from_millis(1);
            self.network.advance(self.now);
        }
    }

    fn run<T>(&mut self, work: impl Future<Output = T>) -> T {
        self.within(LONG, work).expect("it does not hang")
    }

    fn connected(&mut self) -> (BoxStream, BoxStream, BoxListener) {
        let (one, two) = (self.one.clone(), self.two.clone());
        self.run(async {
            let mut listener = two.listen("two", 9).await.unwrap();
            let (dialed, accepted) = futures::join!(one.connect("two", 9), listener.accept());
            (dialed.unwrap(), accepted.unwrap(), listener)
        })
    }

    fn set(&self, from: &str, to: &str, change: impl FnOnce(&mut Path)) {
        let mut path = self.network.path(from, to);
        change(&mut path);
        self.network.set_path(from, to, path);
    }

    fn carries(&mut self, from: &mut BoxStream, to: &mut BoxStream, limit: Duration) -> bool {
        let carried = self.within(limit, async {
            from.write_all(b"word").await.unwrap();
            let mut word = [0; 4];
            to.read_exact(&mut word).await.unwrap();
            assert_eq!(&word, b"word");
        });
        carried.is_some()
    }
}

#[test]
fn bytes_arrive_in_order_also_when_segments_are_lost() {
    for seed in 0..20 {
        let mut bench = Bench::new(seed);
        let (mut from, mut to, _) = bench.connected();
        bench.set("one", "two", |path| path.loss = 0.2);
        let (sent, read) = bench.run(async {
            let sent: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
            let send = async {
                for chunk in sent.chunks(1000) {
                    from.write_all(chunk).await.unwrap();
                }
                from.shutdown().await.unwrap();
            };
            let mut read = Vec::new();
            let ((), got) = futures::join!(send, to.read_to_end(&mut read));
            got.unwrap();
            (sent, read)
        });
        assert_eq!(sent, read);
    }
}

#[test]
fn nobody_listening_is_refused_and_no_name_is_not_found() {
    let mut bench = Bench::new(1);
    let one = bench.one.clone();
    let refused = bench.run(one.connect("two", 9)).err().unwrap();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    let unknown = bench.run(one.connect("three", 9)).err().unwrap();
    assert_eq!(unknown.kind(), io::ErrorKind::NotFound);
    assert_eq!(bench.network.connections(), 0);
}

#[test]
fn a_cut_holds_up_one_direction_until_it_heals() {
    let mut bench = Bench::new(1);
    let (mut from, mut to, _) = bench.connected();
    bench.set("one", "two", |path| path.cut = true);
    assert!(!bench.carries(&mut from, &mut to, Duration::from_secs(5)));
    assert!(bench.carries(&mut to, &mut from, Duration::from_secs(1)));
    bench.set("one", "two", |path| path.cut = false);
    let mut word = [0; 4];
    bench.run(to.read_exact(&mut word)).unwrap();
    assert!(bench.carries(&mut from, &mut to, Duration::from_secs(1)));
}

#[test]
fn a_sender_without_acknowledgements_runs_out_of_room() {
    let mut bench = Bench::new(1);
    let (mut from, mut to, _) = bench.connected();
    bench.set("two", "one", |path| path.cut = true);
    let limit = Duration::from_secs(5);
    let (mut sent, mut read) = (0, 0);
    bench.within(limit, async {
        let send = async {
            loop {
                sent += from.write(&[7; 4096]).await.unwrap();
            }
        };
        let receive = async {
            let mut buf = [0; 4096];
            loop {
                read += to.read(&mut buf).await.unwrap();
            }
        };
        futures::join!(send, receive)
    });
    assert!(sent > 0 && sent == read, "sent {sent}, read {read}");
    bench.set("two", "one", |path| path.cut = false);
    let mut buf = [0; 4096];
    let (more, _) = bench.run(async { futures::join!(from.write(&[7; 10]), to.read(&mut buf)) });
    assert_eq!(more.unwrap(), 10);
}

#[test]
fn what_waits_before_a_narrow_way_goes_when_it_is_wide_again() {
    let mut bench = Bench::new(1);
    let (mut from, mut to, _) = bench.connected();
    bench.set("one", "two", |path| path.bytes_per_second = Some(10_000));
    bench.run(from.write_all(&[7; 100_000])).unwrap();
    let mut read = vec![0; 100_000];
    let quick = Duration::from_secs(1);
    assert!(bench.within(quick, to.read_exact(&mut read)).is_none());
    bench.set("one", "two", |path| path.bytes_per_second = None);
    // Nothing of it had arrived whole.
    assert!(bench.within(quick, to.read_exact(&mut read)).is_some());
    assert!(bench.carries(&mut from, &mut to, quick));
}

#[test]
fn a_process_that_ends_closes_and_a_machine_that_fails_leaves_half_of_it() {
    let mut bench = Bench::new(1);
    let (mut one, two, listener) = bench.connected();
    drop(two);
    let mut buf = [0; 4];
    assert_eq!(bench.run(one.read(&mut buf)).unwrap(), 0);
    drop((one, listener));

    let (mut one, two, listener) = bench.connected();
    bench.network.power_off("two");
    drop((two, listener));
    assert!(bench.within(LONG, one.read(&mut buf)).is_none());
    bench.run(one.write_all(b"anybody?")).unwrap();
    assert!(bench.within(LONG, one.read(&mut buf)).is_none());
    bench.network.power_on("two");
    let error = bench.run(one.read(&mut buf)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    drop(one);
    assert_eq!(bench.network.connections(), 0);
}

#[test]
fn a_reset_that_one_side_hears_of_reaches_the_other_when_it_sends() {
    let mut bench = Bench::new(1);
    let (mut one, mut two, _) = bench.connected();
    assert_eq!(bench.network.reset("one", "two", true), 1);
    let mut buf = [0; 4];
    assert!(bench.run(one.read(&mut buf)).is_err());
    assert!(bench.within(LONG, two.read(&mut buf)).is_none());
    bench.run(two.write_all(b"still there?")).unwrap();
    assert!(bench.run(two.read(&mut buf)).is_err());
}

#[test]
fn connecting_over_a_cut_waits_for_it_to_heal() {
    let mut bench = Bench::new(1);
    let two = bench.two.clone();
    let mut listener = bench.run(two.listen("two", 9)).unwrap();
    bench.set("two", "one", |path| path.cut = true);
    let one = bench.one.clone();
    let mut connecting = one.connect("two", 9);
    assert!(
        bench
            .within(Duration::from_secs(3), &mut connecting)
            .is_none()
    );
    bench.set("two", "one", |path| path.cut = false);
    let (mut from, mut to) = bench.run(async {
        let (dialed, accepted) = futures::join!(connecting, listener.accept());
        (dialed.unwrap(), accepted.unwrap())
    });
    assert!(bench.carries(&mut from, &mut to, LONG));
}

#[test]
fn one_seed_gives_one_digest() {
    let digest = |seed| {
        let mut bench = Bench::new(seed);
        bench.set("one", "two", |path| path.loss = 0.5);
        let (mut from, mut to, _) = bench.connected();
        for _ in 0..10 {
            assert!(bench.carries(&mut from, &mut to, LONG));
        }
        (bench.network.digest(), bench.now)
    };
    assert_eq!(digest(3), digest(3));
    assert_ne!(digest(3), digest(4));
}
