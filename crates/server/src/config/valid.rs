//! The types of values and the bounds on them, with the words of Kafka's `ConfigDef`.

use std::fmt;

/// The type of a property's value (`ConfigDef.Type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// true or false.
    Boolean,
    /// Any text.
    String,
    /// 16 bits.
    Short,
    /// 32 bits.
    Int,
    /// 64 bits.
    Long,
    /// A number with a fraction.
    Double,
    /// Texts between commas.
    List,
    /// The name of a Java class.
    Class,
    /// A text that is never shown.
    Password,
}

/// A value of one of the types; written in canonical form by `Display`.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// true or false.
    Boolean(bool),
    /// Any text.
    Text(String),
    /// A whole number.
    Number(i64),
    /// A number with a fraction.
    Double(f64),
    /// Texts between commas.
    List(Vec<String>),
}

impl Kind {
    pub(super) fn from_name(name: &str) -> Kind {
        match name {
            "boolean" => Kind::Boolean,
            "string" => Kind::String,
            "short" => Kind::Short,
            "int" => Kind::Int,
            "long" => Kind::Long,
            "double" => Kind::Double,
            "list" => Kind::List,
            "class" => Kind::Class,
            "password" => Kind::Password,
            other => panic!("properties.tsv: unknown type {other}"),
        }
    }

    /// The number of the type in DescribeConfigs (`ConfigEntry.ConfigType`).
    pub fn code(self) -> i8 {
        match self {
            Kind::Boolean => 1,
            Kind::String => 2,
            Kind::Int => 3,
            Kind::Short => 4,
            Kind::Long => 5,
            Kind::Double => 6,
            Kind::List => 7,
            Kind::Class => 8,
            Kind::Password => 9,
        }
    }

    /// Reads `text` as the value of the property `name`.
    pub fn parse(self, name: &str, text: &str) -> Result<Value, String> {
        let text = text.trim();
        let number_of = |kind: &str| {
            format!("Invalid value {text} for configuration {name}: Not a number of type {kind}")
        };
        let whole = |lowest: i64, highest: i64, kind: &str| match text.parse::<i64>() {
            Ok(number) if (lowest..=highest).contains(&number) => Ok(Value::Number(number)),
            _ => Err(number_of(kind)),
        };
        match self {
            Kind::Boolean if text.eq_ignore_ascii_case("true") => Ok(Value::Boolean(true)),
            Kind::Boolean if text.eq_ignore_ascii_case("false") => Ok(Value::Boolean(false)),
            Kind::Boolean => Err(format!(
                "Invalid value {text} for configuration {name}: Expected value to be either true \
                 or false"
            )),
            Kind::String | Kind::Class | Kind::Password => Ok(Value::Text(text.to_owned())),
            Kind::Short => whole(i16::MIN.into(), i16::MAX.into(), "SHORT"),
            Kind::Int => whole(i32::MIN.into(), i32::MAX.into(), "INT"),
            Kind::Long => whole(i64::MIN, i64::MAX, "LONG"),
            Kind::Double => text
                .parse()
                .map(Value::Double)
                .map_err(|_| number_of("DOUBLE")),
            Kind::List => Ok(Value::List(split_list(text))),
        }
    }
}

/// The elements of a list; empty ones are kept, as Kafka does, so that they can be refused.
pub fn split_list(text: &str) -> Vec<String> {
    if text.trim().is_empty() {
        return Vec::new();
    }
    text.split(',').map(|part| part.trim().to_owned()).collect()
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Boolean(value) => value.fmt(f),
            Value::Text(text) => f.write_str(text),
            Value::Number(number) => number.fmt(f),
            Value::Double(number) => f.write_str(&java_double(*number)),
            Value::List(parts) => f.write_str(&parts.join(",")),
        }
    }
}

/// A number as Java's `Double.toString` writes it.
fn java_double(number: f64) -> String {
    if number == 0.0 || (1e-3..1e7).contains(&number.abs()) || !number.is_finite() {
        return format!("{number:?}");
    }
    let text = format!("{number:E}");
    match text.split_once('E') {
        Some((digits, exponent)) if !digits.contains('.') => format!("{digits}.0E{exponent}"),
        _ => text,
    }
}

/// What values a property accepts.
#[derive(Clone, Debug, PartialEq)]
pub enum Valid {
    /// All of its type.
    Any,
    /// Numbers between two bounds; the texts are the bounds as Kafka prints them.
    Range {
        /// The smallest value accepted.
        lowest: String,
        /// The largest value accepted.
        highest: Option<String>,
    },
    /// -1, or numbers between two bounds.
    RangeOrMinusOne(i64, i64),
    /// Some texts.
    OneOf(Vec<String>),
    /// Some texts, in upper or lower case.
    OneOfAnyCase(Vec<String>),
    /// Lists without an element twice.
    List {
        /// The elements accepted; all if there are none here.
        of: Vec<String>,
        /// Whether a list without elements is accepted.
        may_be_empty: bool,
    },
    /// Anything but null.
    NotNull,
    /// Anything but the empty text.
    NotEmpty,
    /// `*`, or nothing, or `partition:broker` between commas.
    ThrottledReplicas,
    /// `id@host:port` between commas.
    Voters,
    /// `host:port` between commas.
    Servers,
    /// `earliest`, `latest` or `by_duration:` and an ISO 8601 duration.
    OffsetReset,
}

impl Valid {
    pub(super) fn from_words(words: &str) -> Valid {
        let inner = |text: &str, opening: &str| -> Vec<String> {
            let rest = text.strip_prefix(opening).unwrap_or_default();
            split_list(rest.split(')').next().unwrap_or_default())
        };
        match words {
            "" => Valid::Any,
            "not null" => Valid::NotNull,
            "non-empty" => Valid::NotEmpty,
            "* or empty or list of partition:broker" => Valid::ThrottledReplicas,
            "list of id@host:port" => Valid::Voters,
            "list of host:port" => Valid::Servers,
            "[1,...,9] or -1" => Valid::RangeOrMinusOne(1, 9),
            "one of(latest,earliest,by_duration:PnDTnHnMn.nS)" => Valid::OffsetReset,
            _ if words.starts_with("one of(") && words.ends_with("any case") => {
                Valid::OneOfAnyCase(inner(words, "one of("))
            }
            _ if words.starts_with("one of(") => Valid::OneOf(inner(words, "one of(")),
            _ if words.starts_with("list") => Valid::List {
                of: inner(words, "list of("),
                may_be_empty: words.contains("may be empty"),
            },
            _ => {
                let bounds = words.trim_start_matches('[').trim_end_matches(']');
                let mut bounds = bounds.split(",...").map(|b| b.trim_matches(','));
                let lowest = bounds.next().unwrap_or_default().to_owned();
                let highest = bounds.next().filter(|b| !b.is_empty());
                Valid::Range {
                    lowest,
                    highest: highest.map(str::to_owned),
                }
            }
        }
    }

    /// Checks the value of the property `name`.
    pub fn check(&self, name: &str, value: Option<&Value>) -> Result<(), String> {
        let Some(value) = value else {
            return self.check_null(name);
        };
        let invalid = |why: &str| {
            Err(format!(
                "Invalid value {value} for configuration {name}: {why}"
            ))
        };
        match (self, value) {
            (Valid::Range { lowest, highest }, value) => {
                let number = as_double(value);
                if number < bound(lowest) {
                    return invalid(&format!("Value must be at least {lowest}"));
                }
                match highest {
                    Some(highest) if number > bound(highest) => {
                        invalid(&format!("Value must be no more than {highest}"))
                    }
                    _ => Ok(()),
                }
            }
            (Valid::RangeOrMinusOne(lowest, highest), Value::Number(number)) => {
                if *number == -1 || (lowest..=highest).contains(&number) {
                    return Ok(());
                }
                invalid(&format!(
                    "Value must be between {lowest} and {highest} or equal to -1"
                ))
            }
            (Valid::OneOf(texts), Value::Text(text)) => check_one_of(name, texts, text),
            (Valid::OneOfAnyCase(texts), Value::Text(text)) => {
                if texts.iter().any(|known| known.eq_ignore_ascii_case(text)) {
                    return Ok(());
                }
                invalid(&format!(
                    "String must be one of (case insensitive): {}",
                    texts.join(", ")
                ))
            }
            (Valid::List { of, may_be_empty }, Value::List(parts)) => {
                check_list(name, of, *may_be_empty, parts)
            }
            (Valid::NotEmpty, Value::Text(text)) if text.is_empty() => {
                invalid("String must be non-empty")
            }
            (Valid::ThrottledReplicas, Value::List(parts)) => check_throttled(name, parts),
            (Valid::Voters, Value::List(parts)) => check_voters(name, parts),
            (Valid::Servers, Value::List(parts)) => check_servers(name, parts),
            (Valid::OffsetReset, Value::Text(text)) => check_offset_reset(name, text),
            _ => Ok(()),
        }
    }

    fn check_null(&self, name: &str) -> Result<(), String> {
        match self {
            Valid::NotNull => Err(format!(
                "Invalid value null for configuration {name}: entry must be non null"
            )),
            Valid::OneOf(texts) => Err(format!(
                "Invalid value null for configuration {name}: String must be one of: {}",
                texts.join(", ")
            )),
            _ => Ok(()),
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "bounds are far below 2^53 or met exactly"
)]
fn as_double(value: &Value) -> f64 {
    match value {
        Value::Number(number) => *number as f64,
        Value::Double(number) => *number,
        _ => f64::NAN,
    }
}

fn bound(text: &str) -> f64 {
    text.parse()
        .expect("properties.tsv holds numbers as bounds")
}

fn check_one_of(name: &str, texts: &[String], text: &str) -> Result<(), String> {
    if texts.iter().any(|known| known == text) {
        return Ok(());
    }
    Err(format!(
        "Invalid value {text} for configuration {name}: String must be one of: {}",
        texts.join(", ")
    ))
}

fn check_list(
    name: &str,
    of: &[String],
    may_be_empty: bool,
    parts: &[String],
) -> Result<(), String> {
    if parts.is_empty() && !may_be_empty {
        let values = if of.is_empty() {
            "any non-empty value".to_owned()
        } else {
            format!("[{}]", of.join(", "))
        };
        return Err(format!(
            "Configuration '{name}' must not be empty. Valid values include: {values}"
        ));
    }
    let distinct: std::collections::BTreeSet<&String> = parts.iter().collect();
    if distinct.len() != parts.len() {
        return Err(format!(
            "Configuration '{name}' values must not be duplicated."
        ));
    }
    for part in parts {
        if part.is_empty() {
            return Err(format!("Configuration '{name}' values must not be empty."));
        }
        if !of.is_empty() {
            check_one_of(name, of, part)?;
        }
    }
    Ok(())
}

fn check_throttled(name: &str, parts: &[String]) -> Result<(), String> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let is_replica = |part: &String| {
        part.split_once(':')
            .is_some_and(|(partition, broker)| is_number(partition) && is_number(broker))
    };
    if parts.iter().all(is_replica) || (parts.len() == 1 && parts[0] == "*") {
        return Ok(());
    }
    Err(format!(
        "Invalid value [{}] for configuration {name}: {name} must be the literal '*' or a list of \
         replicas in the following format: [partitionId]:[brokerId],[partitionId]:[brokerId],...",
        parts.join(", ")
    ))
}

fn check_voters(name: &str, parts: &[String]) -> Result<(), String> {
    let form = "Each entry should be in the form `{id}@{host}:{port}`.";
    for part in parts {
        let Some((id, address)) = part.split_once('@') else {
            return Err(format!("Invalid configuration value for {name}. {form}"));
        };
        if id.parse::<i32>().is_err() {
            return Err(format!("Failed to parse voter ID as an integer from {id}"));
        }
        if split_address(address).is_none() {
            return Err(format!(
                "Failed to parse host name from entry {part} for the configuration {name}. {form}"
            ));
        }
    }
    Ok(())
}

fn check_servers(name: &str, parts: &[String]) -> Result<(), String> {
    match parts.iter().find(|part| split_address(part).is_none()) {
        None => Ok(()),
        Some(part) => Err(format!(
            "Failed to parse host name from {part} for the configuration {name}. Each entry should \
             be in the form \"{{host}}:{{port}}\""
        )),
    }
}

/// `host:port` with a host, which may be an IPv6 address in brackets.
pub fn split_address(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host
        .strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .unwrap_or(host);
    if host.is_empty() {
        return None;
    }
    Some((host.to_owned(), port.parse().ok()?))
}

fn check_offset_reset(name: &str, text: &str) -> Result<(), String> {
    let lower = text.to_ascii_lowercase();
    let is_duration = lower
        .strip_prefix("by_duration:p")
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(is_duration_character));
    if lower == "earliest" || lower == "latest" || is_duration {
        return Ok(());
    }
    Err(format!(
        "Invalid value {text} for configuration {name}: Invalid value `{text}` for configuration \
         {name}. The value must be either 'earliest', 'latest' or of the format \
         'by_duration:<PnDTnHnMn.nS>'."
    ))
}

fn is_duration_character(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b'd' | b't' | b'h' | b'm' | b's' | b'.')
}

#[cfg(test)]
mod tests {
    use crate::config::table::{Scope, property};

    /// Values with what Kafka 4.3.1's own `ConfigDef` makes of them.
    #[test]
    fn values_are_judged_in_kafkas_words() {
        let cases = include_str!("valid/cases.tsv");
        for line in cases.lines().filter(|line| !line.starts_with('#')) {
            let fields: Vec<&str> = line.split('\t').collect();
            let scope = match fields[0] {
                "b" => Scope::Broker,
                "t" => Scope::Topic,
                _ => Scope::Group,
            };
            let row = property(scope, fields[1]).expect(fields[1]);
            let answer = match row.check((fields[2] != "null").then_some(fields[2])) {
                Ok(value) => format!("ok {}", value.unwrap_or_default()),
                Err(why) => why,
            };
            assert_eq!(answer, fields[3], "{line}");
        }
    }
}
