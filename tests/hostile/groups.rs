//! Clients that join groups by the ten thousand and do nothing else: the group is full at some time,
//! the broker's memory is not, and other groups do not notice.

use std::time::{Duration, Instant};

use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::{
    ConsumerGroupHeartbeatRequest, FindCoordinatorRequest, GroupId, JoinGroupRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use millrace_testkit::{Cluster, Options, Wire, resources, wait};

const LIMIT: Duration = Duration::from_secs(60);
const JOINS: usize = 30_000;
const SUBSCRIBERS: usize = 1_000;

/// Requests sent before the first of their answers is read.
const AT_ONCE: usize = 500;

const MEMBER_ID_REQUIRED: i16 = 79;
const GROUP_MAX_SIZE_REACHED: i16 = 81;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn connect(cluster: &Cluster) -> Wire {
    Wire::connect(cluster.node(1).client_port(), LIMIT).expect("the broker listens")
}

/// A member of another group, that must hear from its coordinator all the time.
struct Witness {
    wire: Wire,
    epoch: i32,
}

impl Witness {
    fn join(cluster: &Cluster) -> Witness {
        wait::until("a coordinator", LIMIT, || {
            let find = FindCoordinatorRequest::default().with_coordinator_keys(vec![text("good")]);
            let found = cluster.admin().ask(&find, 4)?;
            match found.coordinators.first().map(|found| found.error_code) {
                Some(0) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
        let mut witness = Witness {
            wire: connect(cluster),
            epoch: 0,
        };
        wait::until("the witness to join", LIMIT, || match witness.beat() {
            0 => Ok(()),
            code => Err(format!("error {code}")),
        });
        witness
    }

    fn beat(&mut self) -> i16 {
        let joins = self.epoch == 0;
        let request = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(GroupId(text("good")))
            .with_member_id(text("witness"))
            .with_member_epoch(self.epoch)
            .with_rebalance_timeout_ms(if joins { 60_000 } else { -1 })
            .with_subscribed_topic_names(joins.then(Vec::new))
            .with_topic_partitions(joins.then(Vec::new));
        let answer = self.wire.call(&request, 1).expect("an answer");
        if answer.error_code == 0 {
            self.epoch = answer.member_epoch;
        }
        answer.error_code
    }

    fn expect_undisturbed(&mut self) {
        let asked_at = Instant::now();
        assert_eq!(self.beat(), 0);
        let took = asked_at.elapsed();
        assert!(took < Duration::from_secs(2), "a heartbeat took {took:?}");
    }
}

/// Joins by clients that never use the member ids that they are given.
fn join_and_vanish(wire: &mut Wire, witness: &mut Witness) -> Vec<i16> {
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(text("range"))
        .with_metadata(vec![0; 100].into());
    let request = JoinGroupRequest::default()
        .with_group_id(GroupId(text("bad")))
        .with_session_timeout_ms(1_800_000)
        .with_rebalance_timeout_ms(1_800_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    let mut codes = Vec::with_capacity(JOINS);
    while codes.len() < JOINS {
        for _ in 0..AT_ONCE {
            wire.send(&request, 9).expect("the broker reads");
        }
        for _ in 0..AT_ONCE {
            let answer = wire.answer::<JoinGroupRequest>(9).expect("an answer");
            codes.push(answer.error_code);
        }
        witness.expect_undisturbed();
    }
    codes
}

/// Members of a consumer group that want two hundred topics each that nobody else has heard of.
fn subscribe_to_anything(wire: &mut Wire, witness: &mut Witness) -> Vec<i16> {
    let mut codes = Vec::with_capacity(SUBSCRIBERS);
    for member in 0..SUBSCRIBERS {
        let topics =
            (0..200).map(|topic| TopicName(text(&format!("{member:0>120}-{topic:0>100}"))));
        let request = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(GroupId(text("bad-consumers")))
            .with_member_id(text(&format!("member-{member}")))
            .with_rebalance_timeout_ms(60_000)
            .with_subscribed_topic_names(Some(topics.collect()))
            .with_topic_partitions(Some(Vec::new()));
        codes.push(wire.call(&request, 1).expect("an answer").error_code);
        if member % 100 == 0 {
            witness.expect_undisturbed();
        }
    }
    codes
}

#[test]
fn ten_thousands_of_joins_fill_a_group_and_not_its_broker() {
    // As long as it may be: whoever has joined is still there when the last one comes.
    let options = Options::three().with("group.consumer.session.timeout.ms", "60000");
    let cluster = Cluster::start(&options.nodes(1));
    let mut witness = Witness::join(&cluster);
    let mut wire = connect(&cluster);
    let pid = cluster.node(1).pid();
    let before = resources::resident_bytes(pid);
    let codes = join_and_vanish(&mut wire, &mut witness);
    let count = |codes: &[i16], wanted: i16| codes.iter().filter(|code| **code == wanted).count();
    assert_eq!(count(&codes, MEMBER_ID_REQUIRED), 10_000);
    assert_eq!(count(&codes, GROUP_MAX_SIZE_REACHED), JOINS - 10_000);
    let codes = subscribe_to_anything(&mut wire, &mut witness);
    let (joined, refused) = (count(&codes, 0), count(&codes, GROUP_MAX_SIZE_REACHED));
    assert_eq!(joined + refused, SUBSCRIBERS, "{codes:?}");
    // Sixteen MiB by a bit more than 44 KiB each.
    assert!((200..400).contains(&joined), "{joined} have joined");
    let grown = resources::resident_bytes(pid).saturating_sub(before) >> 20;
    millrace_tests::report::line(format!(
        "{JOINS} joins of clients that vanish, {SUBSCRIBERS} of greedy ones: {grown} MiB more"
    ));
    assert!(grown < 160, "the broker has grown by {grown} MiB");
}
