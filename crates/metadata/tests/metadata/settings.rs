//! Changes of configurations.

use std::collections::BTreeMap;

use crate::common::*;
use millrace_metadata::decide::*;
use millrace_metadata::*;
use millrace_model::*;

fn image() -> Image {
    with_topic(&cluster(&[1, 2]), 1, "t", vec![partition(&[1, 2], &[1, 2])])
}

fn topic() -> Resource {
    Resource::topic(&TopicName::new("t").unwrap())
}

fn alter(image: &Image, resource: Resource, ops: &[(&str, ConfigOp)]) -> Result<Image, Refusal> {
    let ops = ops
        .iter()
        .map(|(name, op)| ((*name).to_owned(), op.clone()))
        .collect();
    let decision = alter_configs(image, &AnyConfig, &[(resource, ops)], false);
    decision.reply[0].1.clone()?;
    Ok(after(image, decision.records))
}

fn set(value: &str) -> ConfigOp {
    ConfigOp::Set(value.into())
}

#[test]
fn values_are_set_deleted_added_and_taken() {
    let check = |ops: &[ConfigOp], value: Option<&str>| {
        let mut image = image();
        for op in ops {
            image = alter(&image, topic(), &[("cleanup.policy", op.clone())]).unwrap();
        }
        assert_eq!(image.config(&topic(), "cleanup.policy"), value, "{ops:?}");
    };
    let (append, subtract) = (
        ConfigOp::Append("b,c".into()),
        ConfigOp::Subtract("a,b".into()),
    );
    check(&[set("a")], Some("a"));
    check(&[set("a"), ConfigOp::Delete], None);
    check(&[set("a,b"), append.clone()], Some("a,b,c"));
    check(&[append], Some("b,c"));
    check(&[set("a,b,c"), subtract], Some("c"));
    let refusal = alter(&image(), topic(), &[("x", ConfigOp::Append("y".into()))]).unwrap_err();
    assert_eq!(
        refusal.message.as_deref(),
        Some("Can't APPEND to key x because its type is not LIST.")
    );
}

#[test]
fn what_is_not_there_has_no_settings() {
    let check = |resource: Resource, code: ErrorCode| {
        let refusal = alter(&image(), resource, &[("x", set("y"))]).unwrap_err();
        assert_eq!(refusal.code, code);
    };
    let named = |kind, name: &str| Resource {
        kind,
        name: name.into(),
    };
    check(
        named(ResourceKind::Topic, "no"),
        ErrorCode::UnknownTopicOrPartition,
    );
    check(Resource::broker(b(7)), ErrorCode::BrokerIdNotRegistered);
    check(
        named(ResourceKind::Broker, "one"),
        ErrorCode::InvalidRequest,
    );
    assert!(alter(&image(), Resource::broker(b(1)), &[("x", set("y"))]).is_ok());
}

#[test]
fn settings_of_replication_are_nobodys_own() {
    let check = |resource: Resource, name: &str, op: ConfigOp, why: &str| {
        let refusal = alter(&image(), resource, &[(name, op)]).unwrap_err();
        assert_eq!(refusal.code, ErrorCode::InvalidConfig);
        assert!(
            refusal.message.as_ref().unwrap().starts_with(why),
            "{refusal}"
        );
    };
    check(
        Resource::broker(b(1)),
        "min.insync.replicas",
        set("2"),
        "Broker-level min.insync.replicas cannot be altered while ELR is enabled.",
    );
    check(
        Resource::cluster(),
        "min.insync.replicas",
        ConfigOp::Delete,
        "Cluster-level min.insync.replicas cannot be removed while ELR is enabled.",
    );
    let broker = || Resource::broker(b(1));
    check(
        broker(),
        "millrace.durability",
        set("fsync"),
        "Broker-level millrace.durability",
    );
    let long = "x".repeat(32768);
    check(
        topic(),
        "y",
        set(&long),
        "The configuration value cannot be added because it exceeds",
    );
}

#[test]
fn a_topics_word_goes_before_the_clusters() {
    let name = TopicName::new("t").unwrap();
    let cluster = |image: &Image, key: &str, value: &str| {
        alter(image, Resource::cluster(), &[(key, set(value))]).unwrap()
    };
    let own = |image: &Image, key: &str, value: &str| {
        alter(image, topic(), &[(key, set(value))]).unwrap()
    };
    let image = image();
    assert_eq!(image.configured_min_insync(&name), 1);
    let image = cluster(&image, "min.insync.replicas", "3");
    assert_eq!(image.configured_min_insync(&name), 3);
    assert_eq!(
        image.min_insync(&name, image.partition(pid(1, 0)).unwrap()),
        2
    );
    let image = own(&image, "min.insync.replicas", "1");
    assert_eq!(image.configured_min_insync(&name), 1);
    assert_eq!(image.configured_durability(&name), Durability::Fsync);
    let image = cluster(&image, "millrace.durability", "page-cache");
    assert_eq!(image.configured_durability(&name), Durability::PageCache);
    let flushed = cluster(&image, "log.flush.interval.messages", "1");
    assert_eq!(flushed.configured_durability(&name), Durability::Fsync);
    let trusting = own(&flushed, "millrace.durability", "page-cache");
    assert_eq!(trusting.configured_durability(&name), Durability::PageCache);
    let flushed = own(&trusting, "flush.messages", "1");
    assert_eq!(flushed.configured_durability(&name), Durability::Fsync);
}

#[test]
fn the_older_request_replaces_everything() {
    let image = alter(&image(), topic(), &[("a", set("1")), ("b", set("2"))]).unwrap();
    let settings: BTreeMap<_, _> = [("b", "2"), ("c", "3")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let asked = [(topic(), settings.clone())];
    let only = replace_configs(&image, &AnyConfig, &asked, true);
    assert_eq!(only.records, []);
    let decision = replace_configs(&image, &AnyConfig, &asked, false);
    assert_eq!(decision.records.len(), 2, "what stays is not written again");
    let image = after(&image, decision.records);
    assert_eq!(**image.configs_of(&topic()).unwrap(), settings);
    let nothing = [(topic(), BTreeMap::new())];
    let image = after(
        &image,
        replace_configs(&image, &AnyConfig, &nothing, false).records,
    );
    assert_eq!(image.configs_of(&topic()), None);
}

#[test]
fn one_refused_resource_leaves_the_others() {
    let image = image();
    let ops = vec![("x".to_owned(), set("y"))];
    let changes = [(Resource::broker(b(9)), ops.clone()), (topic(), ops)];
    let decision = alter_configs(&image, &AnyConfig, &changes, false);
    assert!(decision.reply[0].1.is_err() && decision.reply[1].1.is_ok());
    assert_eq!(
        after(&image, decision.records).config(&topic(), "x"),
        Some("y")
    );
}
