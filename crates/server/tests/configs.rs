//! Settings of topics and brokers are changed while a node runs, and described.

use millrace_protocol::messages::alter_configs_request as legacy;
use millrace_protocol::messages::alter_configs_response::AlterConfigsResponse;
use millrace_protocol::messages::describe_configs_request::{
    DescribeConfigsRequest, DescribeConfigsResource,
};
use millrace_protocol::messages::describe_configs_response::{
    DescribeConfigsResponse, DescribeConfigsResult,
};
use millrace_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use millrace_protocol::messages::incremental_alter_configs_response::IncrementalAlterConfigsResponse;

use crate::support::node::TestNode;
use crate::support::wire::Wire;
use crate::topics::create;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const SET: i8 = 0;
const DELETE: i8 = 1;

/// A resource and what is to be done with single settings of it.
type Change<'a> = (i8, &'a str, &'a [(&'a str, i8, Option<&'a str>)]);

async fn alter(wire: &mut Wire, validate_only: bool, changes: &[Change<'_>]) -> Vec<String> {
    let resource = |(kind, name, ops): &Change<'_>| AlterConfigsResource {
        resource_type: *kind,
        resource_name: (*name).to_owned(),
        configs: ops
            .iter()
            .map(|(name, operation, value)| AlterableConfig {
                name: (*name).to_owned(),
                config_operation: *operation,
                value: value.map(str::to_owned),
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    };
    let request = IncrementalAlterConfigsRequest {
        resources: changes.iter().map(resource).collect(),
        validate_only,
        ..Default::default()
    };
    let response: IncrementalAlterConfigsResponse = wire.ask(1, &request).await;
    let responses = response.responses.into_iter();
    let shown =
        responses.map(|r| format!("{} {}", r.error_code, r.error_message.unwrap_or_default()));
    shown.collect()
}

async fn describe(wire: &mut Wire, kind: i8, name: &str, keys: &[&str]) -> DescribeConfigsResult {
    let keys = keys.iter().map(|key| (*key).to_owned());
    let request = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: kind,
            resource_name: name.to_owned(),
            configuration_keys: Some(keys.collect()),
            ..Default::default()
        }],
        include_synonyms: true,
        ..Default::default()
    };
    let mut response: DescribeConfigsResponse = wire.ask(4, &request).await;
    response.results.remove(0)
}

/// One setting as `value/source name=value/source ...`.
async fn show(wire: &mut Wire, kind: i8, name: &str, key: &str) -> String {
    let described = describe(wire, kind, name, &[key]).await;
    let [entry] = described.configs.as_slice() else {
        return format!("{} settings", described.configs.len());
    };
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "null".to_owned());
    let synonyms = entry.synonyms.iter();
    let synonyms = synonyms.map(|s| format!(" {}={}/{}", s.name, text(&s.value), s.source));
    format!(
        "{}/{}{}",
        text(&entry.value),
        entry.config_source,
        synonyms.collect::<String>()
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_nearest_place_wins_and_is_told() {
    let node = TestNode::start("message.max.bytes=700000").await;
    let mut wire = node.connect().await;
    create(&mut wire, "t", 1).await;
    let name = "message.max.bytes";
    let in_file = " message.max.bytes=700000/4 message.max.bytes=1048588/5";
    assert_eq!(
        show(&mut wire, BROKER, "1", name).await,
        format!("700000/4{in_file}")
    );
    assert_eq!(show(&mut wire, BROKER, "", name).await, "0 settings");

    let for_all: Change<'_> = (BROKER, "", &[(name, SET, Some("800000"))]);
    let for_one: Change<'_> = (BROKER, "1", &[(name, SET, Some("900000"))]);
    assert_eq!(
        alter(&mut wire, false, &[for_all, for_one]).await,
        ["0 ", "0 "]
    );
    let of_brokers = format!(" {name}=900000/2 {name}=800000/3{in_file}");
    assert_eq!(
        show(&mut wire, BROKER, "1", name).await,
        format!("900000/2{of_brokers}")
    );
    assert_eq!(
        show(&mut wire, BROKER, "", name).await,
        format!("800000/3 {name}=800000/3")
    );
    let in_topic = "max.message.bytes";
    assert_eq!(
        show(&mut wire, TOPIC, "t", in_topic).await,
        format!("900000/2{of_brokers}")
    );
    let limit = || {
        node.broker.node().broker().store.logs()[0]
            .settings()
            .max_message_bytes
    };
    wait_until(|| limit() == 900_000).await;

    let own: Change<'_> = (TOPIC, "t", &[(in_topic, SET, Some("1000"))]);
    assert_eq!(alter(&mut wire, true, &[own]).await, ["0 "]);
    assert_eq!(
        show(&mut wire, TOPIC, "t", in_topic).await,
        format!("900000/2{of_brokers}")
    );
    assert_eq!(alter(&mut wire, false, &[own]).await, ["0 "]);
    assert_eq!(
        show(&mut wire, TOPIC, "t", in_topic).await,
        format!("1000/1 {in_topic}=1000/1{of_brokers}")
    );
    wait_until(|| limit() == 1000).await;

    let back: [Change<'_>; 3] = [
        (TOPIC, "t", &[(in_topic, DELETE, None)]),
        (BROKER, "1", &[(name, DELETE, None)]),
        (BROKER, "", &[(name, DELETE, None)]),
    ];
    assert_eq!(alter(&mut wire, false, &back).await, ["0 ", "0 ", "0 "]);
    assert_eq!(
        show(&mut wire, BROKER, "1", name).await,
        format!("700000/4{in_file}")
    );
    wait_until(|| limit() == 700_000).await;
}

/// Settings reach the logs a moment after the answer.
async fn wait_until(mut holds: impl FnMut() -> bool) {
    for _ in 0..500 {
        if holds() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("a changed setting did not reach the log");
}

/// The texts are those of stock Kafka 4.3.1, but for what has no effect here.
const REFUSED: &[(Change<'_>, &str)] = &[
    (
        (TOPIC, "t", &[("max.message.bytes", SET, Some("many"))]),
        "40 Invalid value many for configuration max.message.bytes: Not a number of type INT",
    ),
    (
        (TOPIC, "t", &[("no.such", SET, Some("1"))]),
        "40 Unknown topic config name: no.such",
    ),
    (
        (TOPIC, "t", &[("remote.storage.enable", SET, Some("true"))]),
        "40 The topic config remote.storage.enable=true has no effect in Millrace yet; only its \
         default false is accepted.",
    ),
    (
        (TOPIC, "t", &[("retention.ms", SET, None)]),
        "42 Null value not supported for : retention.ms",
    ),
    (
        (TOPIC, "t", &[("max.message.bytes", 7, Some("1"))]),
        "42 Unknown operations type 7",
    ),
    (
        (TOPIC, "t", &[("max.message.bytes", 2, Some("1"))]),
        "40 Can't APPEND to key max.message.bytes because its type is not LIST.",
    ),
    (
        (TOPIC, "nowhere", &[("max.message.bytes", SET, Some("1"))]),
        "3 The topic 'nowhere' does not exist.",
    ),
    (
        (TOPIC, "", &[]),
        "42 Default topic resources are not allowed.",
    ),
    (
        (BROKER, "1", &[("node.id", SET, Some("7"))]),
        "42 Cannot update these configs dynamically: [node.id]",
    ),
    (
        (BROKER, "9", &[("message.max.bytes", SET, Some("7"))]),
        "102 No node with id 9 found.",
    ),
    (
        (BROKER, "1", &[("min.insync.replicas", SET, Some("1"))]),
        "40 Broker-level min.insync.replicas cannot be altered while ELR is enabled.",
    ),
    (
        (BROKER, "", &[("max.connections.per.ip", SET, Some("0"))]),
        "42 max.connections.per.ip can be set to zero only if \
         max.connections.per.ip.overrides property is set.",
    ),
    ((8, "1", &[]), "42 Unknown resource type 8"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_is_refused_in_kafkas_words() {
    let node = TestNode::start("").await;
    let mut wire = node.connect().await;
    create(&mut wire, "t", 1).await;
    for (change, words) in REFUSED {
        assert_eq!(alter(&mut wire, false, &[*change]).await, [*words]);
    }
    let twice: Change<'_> = (TOPIC, "t", &[("max.message.bytes", SET, Some("1"))]);
    let once = "42 Each resource must appear at most once.";
    assert_eq!(alter(&mut wire, false, &[twice, twice]).await, [once, once]);
    assert_eq!(
        show(&mut wire, TOPIC, "t", "max.message.bytes")
            .await
            .split('/')
            .next(),
        Some("1048588")
    );

    let cases = [
        (TOPIC, "nowhere", 3, ""),
        (
            BROKER,
            "2",
            42,
            "Unexpected broker id, expected 1 or empty string, but received 2",
        ),
        (
            BROKER,
            "x",
            42,
            "Broker id must be an integer, but it is: x",
        ),
        (8, "1", 42, "Unsupported resource type: BROKER_LOGGER"),
    ];
    for (kind, name, code, words) in cases {
        let described = describe(&mut wire, kind, name, &[]).await;
        assert_eq!(described.error_code, code);
        assert_eq!(described.error_message.as_deref(), Some(words));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_older_request_deletes_what_it_does_not_name() {
    let node = TestNode::start("").await;
    let mut wire = node.connect_to("CONTROLLER").await;
    let mut client = node.connect().await;
    create(&mut client, "t", 1).await;
    let ops = [
        ("max.message.bytes", SET, Some("1000")),
        ("segment.ms", SET, Some("60000")),
    ];
    assert_eq!(alter(&mut wire, false, &[(TOPIC, "t", &ops)]).await, ["0 "]);
    let request = legacy::AlterConfigsRequest {
        resources: vec![legacy::AlterConfigsResource {
            resource_type: TOPIC,
            resource_name: "t".to_owned(),
            configs: vec![legacy::AlterableConfig {
                name: "segment.ms".to_owned(),
                value: Some("70000".to_owned()),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let response: AlterConfigsResponse = wire.ask(2, &request).await;
    assert_eq!(response.responses[0].error_code, 0, "{response:?}");
    let described = describe(&mut wire, TOPIC, "t", &[]).await;
    let set = described
        .configs
        .iter()
        .filter(|entry| entry.config_source == 1);
    let set: Vec<_> = set.map(|entry| entry.name.as_str()).collect();
    assert_eq!(set, ["segment.ms"]);
}
