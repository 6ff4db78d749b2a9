//! Topics by regular expression, evaluated on the broker: the syntax of RE2, as KIP-848 promises.
//!
//! Clients of every language write one syntax, that of RE2/J, which Kafka's broker uses. The
//! `regex` crate is of the same family (linear time, no look-around, no back-references) and comes
//! without C++; but it reads some things otherwise. So an expression is first translated:
//!
//! | RE2 | here |
//! |---|---|
//! | `\Q...\E`, octal `\123` | written out in the crate's own way |
//! | `\pL`, `\p{Nd}`, `\P{Greek}` | what of it is ASCII: topic names are nothing else |
//! | `[[a]`, `[a&&b]`, `[+--]`: plain characters | escaped: the crate would nest, intersect, subtract |
//! | `{`, `}`, `]` that repeat and close nothing: plain characters | escaped: the crate refuses them |
//! | flags `i`, `m`, `s`, `U` and no others | the crate's `x`, `u`, `R` are refused |
//! | no `\b{start}`, `\<`, `\u0061`, `\Z` | refused |
//! | at most 1000 repetitions | refused beyond it |
//!
//! What stays different: descriptions of errors are our own, and what would need more than a megabyte
//! compiled is refused, where RE2/J would try.

mod property;
mod translate;

use regex::bytes::{Regex, RegexBuilder};

/// Longest expression in bytes that is looked at; the longest topic name is 249.
pub const MAX_EXPRESSION_BYTES: usize = 16 * 1024;

/// What a compiled expression may take, and its lazily built automaton once more.
const MAX_COMPILED_BYTES: usize = 1024 * 1024;

/// Deepest nesting of groups.
const MAX_NESTING: u32 = 100;

/// An expression that can be asked for topic names.
#[derive(Clone, Debug)]
pub struct TopicExpression(Regex);

/// Why an expression is none: a half-sentence for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidExpression(pub String);

impl TopicExpression {
    /// Compiles; fails where RE2 would, with INVALID_REGULAR_EXPRESSION for the client.
    pub fn parse(expression: &str) -> Result<TopicExpression, InvalidExpression> {
        if expression.len() > MAX_EXPRESSION_BYTES {
            return Err(InvalidExpression("expression too long".to_owned()));
        }
        let translated = translate::from_re2(expression)?;
        // Both are compiled: what is wrong by itself must not become right between brackets.
        compile(&translated)?;
        compile(&format!(r"\A(?:{translated})\z")).map(TopicExpression)
    }

    /// Whether the whole name matches.
    pub fn matches(&self, topic: &str) -> bool {
        self.0.is_match(topic.as_bytes())
    }
}

fn compile(translated: &str) -> Result<Regex, InvalidExpression> {
    RegexBuilder::new(translated)
        .unicode(false)
        .size_limit(MAX_COMPILED_BYTES)
        .dfa_size_limit(MAX_COMPILED_BYTES)
        .nest_limit(MAX_NESTING)
        .build()
        .map_err(|error| InvalidExpression(describe(&error)))
}

/// The last line of what the crate says, without its drawing of the place.
fn describe(error: &regex::Error) -> String {
    let text = match error {
        regex::Error::CompiledTooBig(_) => return "expression too large".to_owned(),
        other => other.to_string(),
    };
    let line = text.lines().last().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expression: &str, matching: &[&str], others: &[&str]) {
        let compiled = TopicExpression::parse(expression)
            .unwrap_or_else(|error| panic!("'{expression}': {}", error.0));
        for topic in matching {
            assert!(compiled.matches(topic), "'{expression}' on '{topic}'");
        }
        for topic in others {
            assert!(!compiled.matches(topic), "'{expression}' on '{topic}'");
        }
    }

    #[test]
    fn the_whole_name_must_match() {
        check("foo", &["foo"], &["foobar", "xfoo", ""]);
        check("foo|bar", &["foo", "bar"], &["foobar", "foo|bar"]);
        check("foo.*", &["foo", "foo-1"], &["afoo"]);
        check("a|ab", &["a", "ab"], &["abc"]);
        check("", &[""], &["a"]);
        check("(?i)FOO", &["foo", "Foo"], &["fo"]);
        check("^foo$", &["foo"], &["foo1"]);
        check("(?:a|b)+?", &["abab"], &["abc"]);
    }

    #[test]
    fn re2_is_read_as_re2() {
        check(r"\Qa.b\E.c", &["a.bxc"], &["axbxc"]);
        check(r"\Qa.b", &["a.b"], &["axb"]);
        check(r"\101b", &["Ab"], &["b"]);
        check("[[a]+", &["[a["], &["b"]);
        check("[a&&b]+", &["a&b"], &["c"]);
        check("[+--]+", &["+,-"], &["."]);
        check("[[:alpha:]_]+", &["a_b"], &["a1"]);
        check("[[:^alpha:]]+", &["1_"], &["a"]);
        check(r"[\d\-.]+", &["1-2.3"], &["a"]);
        check("[]a]+", &["]a"], &["b"]);
        check("[^]a]+", &["b"], &["]"]);
        check("a{,2}", &["a{,2}"], &["aa"]);
        check("a{2}b{1,}c{0,1}", &["aab", "aabbc"], &["ab"]);
        check("x{y}", &["x{y}"], &["x"]);
        check("a]", &["a]"], &["a"]);
        check(r"\x41\x{42}", &["AB"], &["ab"]);
        check(r"(?P<n>a)(?<m>b)", &["ab"], &["a"]);
        check(r"(?i:A)b(?-i)", &["ab"], &["aB"]);
        check(r"\w+\.\d+\z", &["orders.1"], &["orders."]);
        check(r"(?s-m:a.)", &["a\n"], &["a"]);
        check(r"[a\Q]\E]", &["]", "a"], &["E"]);
        check(
            r"\pL+\p{Nd}[\p{Lu}_]\P{L}",
            &["ab1_1", "a1A."],
            &["a1a1", "11A1"],
        );
        check(r"\p{^Latin}\PL\p{Greek}*[^\pN]", &["12a"], &["aaa", "121"]);
    }

    #[test]
    fn what_re2_refuses_is_refused() {
        for expression in [
            "(",
            ")",
            "a(b",
            "[a",
            "*",
            "a**",
            "+a",
            "?",
            "a{1001}",
            "a{2,1}",
            r"\",
            r"\Z",
            r"\8",
            r"\y",
            r"(?=a)",
            r"(?!a)",
            r"(?<=a)",
            r"(a)\1",
            "(?x)a b",
            "(?u)a",
            "(?R)a",
            r"\b{start}",
            r"\<a",
            r"\u0061",
            "[b-a]",
            "(?P<1>a)",
            "(?P<n>a)(?P<n>b)",
            "(?z)",
            "[[:foo:]]",
            r"\p{Nope}",
        ] {
            assert!(
                TopicExpression::parse(expression).is_err(),
                "'{expression}'"
            );
        }
    }

    #[test]
    fn hostile_expressions_are_refused_in_bounded_memory() {
        for expression in [
            "((a{100}){100}){100}".to_owned(),
            "(".repeat(5000) + &")".repeat(5000),
            "a".repeat(MAX_EXPRESSION_BYTES + 1),
            "(?:a{1000}){1000}".to_owned(),
        ] {
            assert!(TopicExpression::parse(&expression).is_err());
        }
    }
}
