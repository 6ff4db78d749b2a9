//! Frames that are none, and requests that do not exist.

use std::io::ErrorKind;
use std::time::Duration;

use kafka_protocol::messages::{ApiVersionsRequest, MetadataRequest};
use millrace_testkit::{Cluster, Options, Wire, resources};

const LIMIT: Duration = Duration::from_secs(10);

/// A broker with one well-behaved connection, which must go on working whatever the others do.
struct Broker {
    cluster: Cluster,
    witness: Wire,
    resident_before: u64,
}

impl Broker {
    fn start() -> Broker {
        let cluster = Cluster::start(&Options::three().nodes(1));
        let port = cluster.node(1).client_port();
        let mut broker = Broker {
            witness: Wire::connect(port, LIMIT).expect("the broker listens"),
            resident_before: 0,
            cluster,
        };
        broker.expect_undisturbed();
        broker.resident_before = resources::resident_bytes(broker.cluster.node(1).pid());
        broker
    }

    fn connect(&self) -> Wire {
        Wire::connect(self.cluster.node(1).client_port(), LIMIT).expect("the broker listens")
    }

    fn expect_undisturbed(&mut self) {
        let asked = MetadataRequest::default().with_topics(Some(Vec::new()));
        let answer = self
            .witness
            .call(&asked, 12)
            .expect("others are undisturbed");
        assert_eq!(answer.brokers.len(), 1);
    }

    fn expect_small(&self) {
        let now = resources::resident_bytes(self.cluster.node(1).pid());
        let grown = now.saturating_sub(self.resident_before) >> 20;
        assert!(grown < 64, "the broker has grown by {grown} MiB");
    }
}

/// Deterministic noise.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut byte = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| byte()).collect()
}

#[test]
fn random_bytes_end_only_their_connection() {
    let mut broker = Broker::start();
    for seed in 0..200 {
        let mut wire = broker.connect();
        let mut bytes = noise(seed, 1 + seed as usize * 7);
        if seed % 2 == 0 && bytes.len() > 8 {
            // A plausible length, so that the noise is taken for a request.
            let length = (bytes.len() - 4) as u32;
            bytes[..4].copy_from_slice(&length.to_be_bytes());
            bytes[4] = 0;
            bytes[5] %= 93;
            bytes[6] = 0;
            bytes[7] %= 14;
        }
        // The broker may close before all is sent.
        let _ = wire.send_bytes(&bytes);
    }
    broker.expect_undisturbed();
    broker.expect_small();
}

#[test]
fn a_length_of_two_gibibytes_allocates_nothing() {
    let mut broker = Broker::start();
    let lengths = [i32::MAX, i32::MAX - 1, 1 << 30, i32::MIN, -1];
    let mut wires = Vec::new();
    for length in lengths.into_iter().cycle().take(50) {
        let mut wire = broker.connect();
        wire.send_bytes(&length.to_be_bytes())
            .expect("four bytes fit");
        wires.push(wire);
    }
    for wire in &mut wires {
        wire.closed_by_peer()
            .expect("a frame beyond all limits ends its connection");
    }
    broker.expect_undisturbed();
    broker.expect_small();
}

#[test]
fn half_a_frame_and_silence_disturbs_nobody() {
    let mut broker = Broker::start();
    let mut wires = Vec::new();
    for _ in 0..50 {
        let mut wire = broker.connect();
        // A megabyte is announced; forty bytes of an ApiVersions request come.
        wire.send_bytes(&(1u32 << 20).to_be_bytes())
            .expect("four bytes fit");
        wire.send_bytes(&[0, 18, 0, 0, 0, 0, 0, 1])
            .expect("some bytes fit");
        wire.send_bytes(&[0; 32]).expect("some bytes fit");
        wires.push(wire);
    }
    for _ in 0..20 {
        broker.expect_undisturbed();
        std::thread::sleep(Duration::from_millis(50));
    }
    broker.expect_small();
}

#[test]
fn an_unknown_version_of_api_versions_is_answered_with_the_known_ones() {
    let mut broker = Broker::start();
    let mut wire = broker.connect();
    // Key 18, version 999, correlation id 7, no client id, no tagged fields.
    let request = [0, 0, 0, 11, 0, 18, 3, 231, 0, 0, 0, 7, 255, 255, 0];
    wire.send_bytes(&request).expect("the broker reads");
    let answer = wire.answer_bytes().expect("an answer in version 0");
    assert_eq!(answer[..4], [0, 0, 0, 7], "the correlation id");
    assert_eq!(answer[4..6], [0, 35], "UNSUPPORTED_VERSION");
    // The connection stays usable: clients ask again by a version that is known.
    let again = wire
        .call(&ApiVersionsRequest::default(), 0)
        .expect("the known version works");
    assert!(again.api_keys.iter().any(|api| api.api_key == 18));
    broker.expect_undisturbed();
}

#[test]
fn unknown_keys_and_versions_end_their_connection() {
    let mut broker = Broker::start();
    for (key, version) in [(9999u16, 0u16), (65535, 0), (3, 999), (0, 65535), (4, 0)] {
        let mut wire = broker.connect();
        let mut request = vec![0, 0, 0, 10];
        request.extend(key.to_be_bytes());
        request.extend(version.to_be_bytes());
        request.extend([0, 0, 0, 7, 255, 255]);
        wire.send_bytes(&request).expect("the broker reads");
        let closed = wire.closed_by_peer();
        closed.unwrap_or_else(|error| panic!("key {key} version {version}: {error}"));
    }
    broker.expect_undisturbed();
}

#[test]
fn requests_cut_off_at_every_byte_end_only_their_connection() {
    let mut broker = Broker::start();
    let mut wire = broker.connect();
    let topic = kafka_protocol::messages::metadata_request::MetadataRequestTopic::default();
    let asked = MetadataRequest::default().with_topics(Some(vec![topic; 3]));
    let mut body = bytes::BytesMut::new();
    kafka_protocol::protocol::Encodable::encode(&asked, &mut body, 12).expect("it can be encoded");
    let whole = wire
        .frame::<MetadataRequest>(12, &body)
        .expect("it can be framed");
    for length in 0..whole.len() - 4 {
        let mut cut = whole[..4 + length].to_vec();
        cut[..4].copy_from_slice(&(length as u32).to_be_bytes());
        let mut wire = broker.connect();
        wire.send_bytes(&cut).expect("the broker reads");
        // Closed, or answered where what is left happens to be a request; never silence.
        match wire.closed_by_peer() {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::InvalidData => {}
            Err(error) => panic!("cut to {length} bytes: {error}"),
        }
    }
    broker.expect_undisturbed();
    broker.expect_small();
}
