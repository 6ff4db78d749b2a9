//! Formatting as `kafka-storage.sh format` of Kafka 4.3.1 does it, refusals and output included.

use std::sync::Arc;

use millrace_host::Tasks;

use super::*;

const CLUSTER: &str = "4L6g3nShT-eMCtK--X86sw";
const VOTERS: &str = "controller.quorum.voters=1@localhost:9093\n";
const SERVERS: &str = "controller.quorum.bootstrap.servers=localhost:9093\n";

struct Place {
    root: tempfile::TempDir,
    host: Host,
    _runtime: Arc<tokio::runtime::Runtime>,
}

impl Place {
    fn new() -> Place {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        let tasks = Tasks::on(runtime.handle().clone());
        Place {
            root: tempfile::tempdir().expect("a directory"),
            host: Host::real(tasks.clone(), tasks),
            _runtime: Arc::new(runtime),
        }
    }

    fn config(&self, quorum: &str) -> Config {
        let root = self.root.path().display();
        let text = format!(
            "process.roles=broker,controller\nnode.id=1\ncontroller.listener.names=CONTROLLER\n\
             listeners=PLAINTEXT://:9092,CONTROLLER://:9093\n{quorum}log.dirs={root}/a,{root}/b\n"
        );
        Config::parse(&text).expect("the properties are right")
    }

    fn format(&self, config: &Config, options: &FormatOptions) -> Result<Vec<String>, String> {
        format(config, options, &self.host).map_err(|error| error.0)
    }
}

fn options() -> FormatOptions {
    FormatOptions {
        cluster_id: CLUSTER.to_owned(),
        ..FormatOptions::default()
    }
}

#[test]
fn a_static_quorum_is_formatted_once() {
    let place = Place::new();
    let config = place.config(VOTERS);
    let root = place.root.path().display().to_string();
    let lines = place.format(&config, &options()).expect("formatted");
    assert_eq!(
        lines[1..],
        [
            format!("Formatting data directory {root}/b with metadata.version 4.3-IV0."),
            format!("Formatting metadata directory {root}/a with metadata.version 4.3-IV0."),
        ]
    );
    assert!(lines[0].starts_with("Bootstrap metadata: BootstrapMetadata(records=["));
    let again = place.format(&config, &options());
    assert_eq!(
        again.expect_err("formatted already"),
        format!(
            "Log directory {root}/b is already formatted. Use --ignore-formatted to ignore this \
             directory and format the others."
        )
    );
    let mut ignoring = options();
    ignoring.ignore_formatted = true;
    assert_eq!(
        place.format(&config, &ignoring).expect("nothing to do"),
        ["All of the log directories are already formatted."]
    );
    ignoring.cluster_id = "AAAAAAAAAAAAAAAAAAAAAQ".to_owned();
    assert_eq!(
        place
            .format(&config, &ignoring)
            .expect_err("another cluster"),
        format!(
            "Invalid cluster.id in: {root}/b/meta.properties. Expected AAAAAAAAAAAAAAAAAAAAAQ, but \
             read {CLUSTER}"
        )
    );
    let opened = open(&config, &place.host).expect("formatted");
    assert_eq!(opened.cluster_id, CLUSTER);
    assert_eq!(opened.log_directories.len(), 2);
    assert_eq!(opened.log_directories[0].id, opened.metadata_directory);
    assert!(opened.bootstrap.controllers.is_empty());
}

#[test]
fn a_quorum_of_its_own_is_told_with_its_directory() {
    let place = Place::new();
    let config = place.config(SERVERS);
    let mut alone = options();
    alone.standalone = true;
    let lines = place.format(&config, &alone).expect("formatted");
    assert!(
        lines[2].starts_with("Formatting dynamic metadata voter directory "),
        "{lines:?}"
    );
    let opened = open(&config, &place.host).expect("formatted");
    let [only] = &opened.bootstrap.controllers[..] else {
        panic!("{opened:?}");
    };
    assert_eq!(only.directory, opened.metadata_directory);
    assert_eq!((only.host.as_str(), only.port), ("localhost", 9093));
}

#[test]
fn initial_controllers_keep_their_directories() {
    let place = Place::new();
    let config = place.config(SERVERS);
    let mut initial = options();
    initial.initial_controllers = Some(
        "1@localhost:9093:3Db5QLSqSZieL3rJBUUegA,2@[::1]:9094:4Db5QLSqSZieL3rJBUUegA".to_owned(),
    );
    place.format(&config, &initial).expect("formatted");
    let opened = open(&config, &place.host).expect("formatted");
    assert_eq!(
        opened.metadata_directory.to_string(),
        "3Db5QLSqSZieL3rJBUUegA"
    );
    assert_eq!(opened.bootstrap.controllers.len(), 2);
    assert_eq!(opened.bootstrap.controllers[1].host, "::1");
}

#[test]
fn what_does_not_fit_is_refused_in_kafkas_words() {
    let place = Place::new();
    let with = |change: &dyn Fn(&mut FormatOptions)| {
        let mut changed = options();
        change(&mut changed);
        changed
    };
    let cases = [
        (
            SERVERS,
            options(),
            "Because controller.quorum.voters is not set on this controller, you must specify one \
             of the following: --standalone, --initial-controllers, or --no-initial-controllers.",
        ),
        (
            VOTERS,
            with(&|o| o.standalone = true),
            "You cannot specify controller.quorum.voters and format the node with \
             --initial-controllers or --standalone. If you want to use dynamic quorum, please \
             remove controller.quorum.voters and specify controller.quorum.bootstrap.servers \
             instead.",
        ),
        (
            SERVERS,
            with(&|o| o.initial_controllers = Some("1@localhost:9093".to_owned())),
            "No colon following port could be found.",
        ),
        (
            VOTERS,
            with(&|o| o.features = vec!["foo=1".to_owned()]),
            "Unsupported feature: foo. Supported features are: eligible.leader.replicas.version, \
             group.version, kraft.version, share.version, streams.version, transaction.version",
        ),
        (
            VOTERS,
            with(&|o| o.features = vec!["group.version=9".to_owned()]),
            "No feature:group.version with feature level 9",
        ),
        (
            VOTERS,
            with(&|o| {
                o.features = vec!["metadata.version=20".to_owned()];
                o.release_version = Some("4.0".to_owned());
            }),
            "Use --release-version instead of --feature metadata.version=X to avoid ambiguity.",
        ),
    ];
    for (quorum, options, words) in cases {
        let refused = place.format(&place.config(quorum), &options);
        assert_eq!(refused.expect_err("refused"), words, "{options:?}");
    }
    let unknown = with(&|o| o.release_version = Some("9.9".to_owned()));
    let refused = place.format(&place.config(VOTERS), &unknown);
    let refused = refused.expect_err("unknown");
    assert!(refused.starts_with(
        "Unknown metadata.version '9.9'. Supported metadata.version are: 3.3-IV3, 3.4-IV0,"
    ));
}

#[test]
fn an_older_release_names_its_last_level() {
    let place = Place::new();
    let mut older = options();
    older.release_version = Some("4.0".to_owned());
    let lines = place
        .format(&place.config(VOTERS), &older)
        .expect("formatted");
    assert!(
        lines[1].ends_with("with metadata.version 4.0-IV3."),
        "{lines:?}"
    );
    let opened = open(&place.config(VOTERS), &place.host).expect("formatted");
    assert_eq!(
        opened.bootstrap.features,
        [
            ("group.version".to_owned(), 1),
            ("metadata.version".to_owned(), 25)
        ]
    );
}

#[test]
fn a_start_formats_when_it_knows_the_cluster() {
    let place = Place::new();
    let mut config = place.config(VOTERS);
    let refused = open(&config, &place.host).expect_err("no cluster is known");
    assert!(
        refused.0.contains("is not formatted; run: millrace format"),
        "{refused}"
    );
    config.cluster_id = Some(CLUSTER.to_owned());
    let first = open(&config, &place.host).expect("formatted at once");
    assert_eq!(open(&config, &place.host).expect("still"), first);
    config.cluster_id = Some("other".to_owned());
    let refused = open(&config, &place.host).expect_err("another cluster's directory");
    assert!(
        refused.0.starts_with("Invalid cluster.id in: "),
        "{refused}"
    );
}
