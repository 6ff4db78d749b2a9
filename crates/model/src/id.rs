//! Names of topics and partitions.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use crate::TopicId;
use crate::limits::MAX_TOPIC_NAME_LENGTH;

/// One partition of one incarnation of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId {
    /// The topic's identity, which outlives no deletion.
    pub topic: TopicId,
    /// The partition's number within the topic, from 0.
    pub index: i32,
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.index)
    }
}

/// A topic's name, checked (Kafka class `org.apache.kafka.common.internals.Topic`); cheap to copy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(Arc<str>);

/// Why a text is no topic name; the texts are Kafka's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicNameError(pub String);

impl TopicName {
    /// Checks `name`: 1 to 249 of `a-z A-Z 0-9 . _ -`, and not `.` or `..`.
    pub fn new(name: &str) -> Result<TopicName, TopicNameError> {
        let refuse = |why: String| Err(TopicNameError(format!("Topic name is invalid: {why}")));
        if name.is_empty() {
            return refuse("the empty string is not allowed".to_owned());
        }
        if name == "." || name == ".." {
            return refuse(format!("'{name}' is not allowed"));
        }
        if name.len() > MAX_TOPIC_NAME_LENGTH {
            return refuse(format!(
                "the length of '{name}' is longer than the max allowed length \
                 {MAX_TOPIC_NAME_LENGTH}"
            ));
        }
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if !name.chars().all(legal) {
            return refuse(format!(
                "'{name}' contains one or more characters other than ASCII alphanumerics, '.', \
                 '_' and '-'"
            ));
        }
        Ok(TopicName(name.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name with dots and underscores made alike: two topics whose metric names would collide
    /// must not exist side by side.
    pub fn collision_key(&self) -> String {
        self.0.replace('.', "_")
    }
}

impl Borrow<str> for TopicName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for TopicNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TopicNameError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_kafkas_rule() {
        for good in ["a", "A.b_c-9", "...", &"x".repeat(249)] {
            assert!(TopicName::new(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a b", "é", "a/b", &"x".repeat(250)] {
            assert!(TopicName::new(bad).is_err(), "{bad}");
        }
    }
}
