//! What files are accepted and refused, and in which words.

mod topics;

use super::*;

const BASE: &str = "process.roles=broker,controller\nnode.id=1\n\
    controller.quorum.voters=1@localhost:9093\ncontroller.listener.names=CONTROLLER\n";
const LISTENERS: &str = "listeners=PLAINTEXT://:9092,CONTROLLER://:9093\n";

fn refusal(text: &str) -> String {
    match Config::parse(text) {
        Ok(_) => panic!("accepted: {text}"),
        Err(ConfigError(why)) => why,
    }
}

fn load(text: &str) -> (Config, Vec<String>) {
    let sources = Sources::of_file(text).expect("the syntax is right");
    Config::load(&sources).expect("the properties are right")
}

#[test]
fn files_are_refused_in_kafkas_words() {
    let cases = include_str!("tests/refused.txt");
    let lines: Vec<&str> = cases.lines().skip(1).collect();
    for case in lines.chunks(2) {
        let text = case[0].replace(" | ", "\n");
        assert_eq!(refusal(&text), case[1].trim(), "{text}");
    }
}

#[test]
fn a_file_without_effect_on_security_is_only_warned_about() {
    let text = format!("{BASE}{LISTENERS}compression.lz4.level=3\nfoo=1\nlog.cleaner.threads=1\n");
    let (_, warnings) = load(&text);
    assert_eq!(
        warnings,
        [
            "The property compression.lz4.level has no effect in Millrace yet.",
            "The property foo is unknown and ignored.",
        ]
    );
}

#[test]
fn what_touches_security_stops_the_start() {
    for line in [
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users=User:admin",
        "sasl.enabled.mechanisms=PLAIN",
        "ssl.keystore.location=/keys",
        "listener.name.plaintext.ssl.keystore.location=/keys",
        "listener.name.plaintext.plain.sasl.jaas.config=x",
        "remote.log.storage.system.enable=true",
    ] {
        let why = refusal(&format!("{BASE}{LISTENERS}{line}"));
        let name = line.split('=').next().expect("a name");
        assert!(
            why.starts_with(&format!("The property {name} is set")),
            "{why}"
        );
    }
    let secure = format!("{BASE}{LISTENERS}").replace("PLAINTEXT://:9092", "SSL://:9092");
    let map = "listener.security.protocol.map=SSL:SSL,CONTROLLER:PLAINTEXT\n";
    assert!(refusal(&format!("{secure}{map}")).contains("serves only PLAINTEXT yet"));
    for harmless in [
        "authorizer.class.name=",
        "super.users=",
        "ssl.client.auth=none",
    ] {
        load(&format!("{BASE}{LISTENERS}{harmless}"));
    }
}

#[test]
fn what_is_not_said_is_derived() {
    let (config, warnings) = load(&format!("{BASE}{LISTENERS}log.dirs=/a, /b\n"));
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(config.log_dirs, [PathBuf::from("/a"), PathBuf::from("/b")]);
    assert_eq!(config.metadata_log_dir, PathBuf::from("/a"));
    assert_eq!(config.inter_broker_listener, "PLAINTEXT");
    let names: Vec<&str> = config
        .advertised_listeners
        .iter()
        .map(|endpoint| endpoint.name.as_str())
        .collect();
    assert_eq!(names, ["PLAINTEXT", "CONTROLLER"]);
    assert_eq!(config.quorum_voters.len(), 1);
    assert!(config.is_broker && config.is_controller);
    assert_eq!(config.session_timeout, Duration::from_secs(1));
    assert_eq!(config.limits.request_bytes, 104_857_600);
}

#[test]
fn the_command_line_goes_before_the_environment_and_that_before_the_file() {
    let mut sources = Sources::of_file(&format!("{BASE}{LISTENERS}num.partitions=2\n"))
        .expect("the syntax is right");
    let partitions = |sources: &Sources| Config::load(sources).expect("right").0.num_partitions;
    assert_eq!(partitions(&sources), 2);
    let set = |map: &mut BTreeMap<String, String>, value: &str| {
        map.insert("num.partitions".to_owned(), value.to_owned());
    };
    set(&mut sources.environment.properties, "3");
    assert_eq!(partitions(&sources), 3);
    set(&mut sources.overrides, "4");
    assert_eq!(partitions(&sources), 4);
}

#[test]
fn values_change_while_it_runs() {
    let (config, _) = load(&format!("{BASE}{LISTENERS}"));
    let all = BTreeMap::from([("max.connections".to_owned(), "7".to_owned())]);
    let own = BTreeMap::from([("max.connections".to_owned(), "5".to_owned())]);
    let none = BTreeMap::new();
    let connections = |for_all, for_this| {
        let config = config.with_dynamic(for_all, for_this).expect("right");
        config.limits.connections
    };
    assert_eq!(connections(&all, &none), 7);
    assert_eq!(connections(&all, &own), 5);
}

#[test]
fn topics_are_checked_together() {
    let (config, _) = load(&format!("{BASE}{LISTENERS}"));
    let check = |pairs: &[(&str, Option<&str>)]| {
        let pairs = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned)));
        topic::check_topic(&config.settings, &pairs.collect())
    };
    assert!(check(&[("segment.bytes", Some("2000000"))]).is_ok());
    assert!(
        check(&[
            ("retention.ms", Some("604800000")),
            ("cleanup.policy", Some("delete"))
        ])
        .is_ok()
    );
    let refused = [
        (vec![("foo", Some("1"))], "Unknown topic config name: foo"),
        (
            vec![("segment.bytes", None)],
            "Null value not supported for topic configs: segment.bytes",
        ),
        (
            vec![("remote.storage.enable", Some("true"))],
            "The topic config remote.storage.enable=true has no effect in Millrace yet; only its \
             default false is accepted.",
        ),
        (
            vec![
                ("min.compaction.lag.ms", Some("100")),
                ("max.compaction.lag.ms", Some("10")),
            ],
            "conflict topic config setting min.compaction.lag.ms (100) > max.compaction.lag.ms \
             (10)",
        ),
    ];
    for (pairs, words) in refused {
        assert_eq!(check(&pairs).expect_err("refused"), words);
    }
    let both = [
        ("flush.messages", Some("1")),
        ("millrace.durability", Some("page-cache")),
    ];
    assert!(check(&both).is_err());
}

/// As stock Kafka 4.3.1 describes a topic of a broker with the same settings.
#[test]
fn a_topic_is_described_with_its_synonyms() {
    let (config, _) = load(&format!("{BASE}{LISTENERS}log.segment.bytes=3000000\n"));
    let all = BTreeMap::from([("min.insync.replicas".to_owned(), "2".to_owned())]);
    let config = config.with_dynamic(&all, &BTreeMap::new()).expect("right");
    let own = BTreeMap::from([("segment.ms".to_owned(), "1000".to_owned())]);
    let described = describe::topic(&config.settings, &own);
    let show = |name: &str| {
        let entry = described
            .iter()
            .find(|entry| entry.name == name)
            .expect(name);
        let synonyms: Vec<String> = entry
            .synonyms
            .iter()
            .map(|s| {
                format!(
                    "{}={}/{}",
                    s.name,
                    s.value.as_deref().unwrap_or("null"),
                    s.source as i8
                )
            })
            .collect();
        let value = entry.value.as_deref().unwrap_or("null");
        format!("{value}/{} {}", entry.source as i8, synonyms.join(" "))
    };
    let cases = [
        ("segment.ms", "1000/1 segment.ms=1000/1"),
        ("retention.ms", "604800000/5 "),
        ("flush.ms", "9223372036854775807/5 "),
        (
            "segment.bytes",
            "3000000/4 log.segment.bytes=3000000/4 log.segment.bytes=1073741824/5",
        ),
        (
            "min.insync.replicas",
            "2/3 min.insync.replicas=2/3 min.insync.replicas=1/5",
        ),
        ("remote.storage.enable", "false/5 "),
        ("compression.type", "producer/5 compression.type=producer/5"),
    ];
    for (name, words) in cases {
        assert_eq!(show(name), words, "{name}");
    }
    assert!(
        !described
            .iter()
            .any(|entry| entry.name == "internal.segment.bytes")
    );
}
