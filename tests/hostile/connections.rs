//! Ten thousand connections that send nothing.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use kafka_protocol::messages::MetadataRequest;
use millrace_testkit::{Cluster, Options, Wire, resources};

const CONNECTIONS: usize = 10_000;

#[test]
fn ten_thousand_silent_connections_cost_little_and_disturb_nobody() {
    resources::raise_descriptor_limit(CONNECTIONS as u64 * 2);
    let cluster = Cluster::start(&Options::three().nodes(1));
    let node = cluster.node(1);
    let limit = Duration::from_secs(10);
    let mut witness = Wire::connect(node.client_port(), limit).expect("the broker listens");
    let asked = MetadataRequest::default().with_topics(Some(Vec::new()));
    witness.call(&asked, 12).expect("an answer");
    let before = resources::resident_bytes(node.pid());
    let address = SocketAddr::from(([127, 0, 0, 1], node.client_port()));
    let began = Instant::now();
    let silent: Vec<TcpStream> = (0..CONNECTIONS)
        .map(|number| {
            TcpStream::connect_timeout(&address, limit)
                .unwrap_or_else(|error| panic!("connection {number}: {error}"))
        })
        .collect();
    let connected = began.elapsed();
    for _ in 0..20 {
        let asked_at = Instant::now();
        witness.call(&asked, 12).expect("others are undisturbed");
        assert!(
            asked_at.elapsed() < Duration::from_secs(2),
            "a request took {:?}",
            asked_at.elapsed()
        );
    }
    let mut fresh = Wire::connect(node.client_port(), limit).expect("one more may come");
    fresh.call(&asked, 12).expect("and is answered");
    let each = resources::resident_bytes(node.pid()).saturating_sub(before) / CONNECTIONS as u64;
    millrace_tests::report::line(format!(
        "{CONNECTIONS} silent connections: {each} bytes of the broker's memory each, made in {connected:?}"
    ));
    assert!(each < 16 << 10, "each silent connection costs {each} bytes");
    drop(silent);
    witness.call(&asked, 12).expect("others are undisturbed");
}
