//! Properties from the environment, by the names of Kafka's own container image: `KAFKA_` and the
//! name in upper case with `.` as `_`, `_` as `__` and `-` as `___`; and `CLUSTER_ID`.

use std::collections::BTreeMap;

/// Variables of Kafka's scripts and image that are no properties.
const NO_PROPERTIES: &[&str] = &[
    "KAFKA_CLUSTER_ID",
    "KAFKA_GC_LOG_OPTS",
    "KAFKA_HEAP_OPTS",
    "KAFKA_HOME",
    "KAFKA_JMX_HOSTNAME",
    "KAFKA_JMX_OPTS",
    "KAFKA_JMX_PORT",
    "KAFKA_JVM_PERFORMANCE_OPTS",
    "KAFKA_LOG4J_LOGGERS",
    "KAFKA_LOG4J_OPTS",
    "KAFKA_LOG4J_ROOT_LOGLEVEL",
    "KAFKA_OPTS",
    "KAFKA_TOOLS_LOG4J_LOGLEVEL",
    "KAFKA_VERSION",
];

/// What the environment says about a broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// Properties by name.
    pub properties: BTreeMap<String, String>,
    /// `CLUSTER_ID`, if it is not empty.
    pub cluster_id: Option<String>,
}

/// Picks out of `variables` what concerns a broker.
pub fn read(variables: impl Iterator<Item = (String, String)>) -> Environment {
    let mut environment = Environment::default();
    for (name, value) in variables {
        if name == "CLUSTER_ID" && !value.is_empty() {
            environment.cluster_id = Some(value);
        } else if let Some(property) = property_name(&name) {
            environment.properties.insert(property, value);
        }
    }
    environment
}

fn property_name(variable: &str) -> Option<String> {
    let name = variable.strip_prefix("KAFKA_")?;
    if NO_PROPERTIES.contains(&variable) || name.is_empty() {
        return None;
    }
    let name = name.to_lowercase();
    let name = name.replace("___", "-").replace("__", "\0");
    Some(name.replace('_', ".").replace('\0', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_kafkas_image() {
        let cases = [
            ("KAFKA_NODE_ID", Some("node.id")),
            (
                "KAFKA_LISTENER_NAME_INTERNAL_SSL_KEY",
                Some("listener.name.internal.ssl.key"),
            ),
            ("KAFKA_A__B___C", Some("a_b-c")),
            ("KAFKA_MILLRACE_DURABILITY", Some("millrace.durability")),
            ("KAFKA_HEAP_OPTS", None),
            ("KAFKA_CLUSTER_ID", None),
            ("PATH", None),
            ("KAFKA_", None),
        ];
        for (variable, property) in cases {
            assert_eq!(property_name(variable).as_deref(), property, "{variable}");
        }
    }

    #[test]
    fn the_cluster_id_is_taken_from_its_own_variable() {
        let variables = [("CLUSTER_ID", "abc"), ("KAFKA_LOG_DIRS", "/data")];
        let read = read(
            variables
                .iter()
                .map(|(n, v)| ((*n).to_owned(), (*v).to_owned())),
        );
        assert_eq!(read.cluster_id.as_deref(), Some("abc"));
        assert_eq!(read.properties["log.dirs"], "/data");
    }
}
