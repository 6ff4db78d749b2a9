//! Topics by regular expression, as the stock tools take them.

use regex::Regex;

use crate::failure::Failure;

/// A regular expression over whole topic names, in which a comma means "or" (Kafka class
/// `TopicFilter.IncludeList`).
pub struct TopicFilter(Regex);

impl TopicFilter {
    /// Reads an expression.
    pub fn new(text: &str) -> Result<TopicFilter, Failure> {
        let trimmed = text.trim().replace(',', "|").replace(' ', "");
        let trimmed = trimmed.trim_matches(['"', '\'']);
        let regex = Regex::new(&format!("^(?:{trimmed})$"));
        let refuse = |_| Failure::new(format!("{text} is an invalid regex."));
        regex.map(TopicFilter).map_err(refuse)
    }

    /// Whether a topic is meant.
    pub fn matches(&self, topic: &str) -> bool {
        self.0.is_match(topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_matched_whole() {
        let check = |filter: &str, topic: &str, expected: bool| {
            let matched = TopicFilter::new(filter).unwrap().matches(topic);
            assert_eq!(matched, expected, "{filter} against {topic}");
        };
        check("orders", "orders", true);
        check("orders", "orders-2", false);
        check("order.*", "orders-2", true);
        check("a, b", "b", true);
        check("'a'", "a", true);
        assert!(TopicFilter::new("(").is_err());
    }
}
