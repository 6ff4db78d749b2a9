//! Reads the syntax of Java's `Properties.load`: comments, `=`, `:` or blanks between name and
//! value, continuation lines, escapes.

use std::collections::BTreeMap;

/// Why a text is no properties file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: a \\u must be followed by four hexadecimal digits")]
pub struct PropertiesError {
    /// Counted from 1.
    pub line: usize,
}

/// Reads properties. Bytes that are not UTF-8 are taken as Latin-1, which is what Java expects.
/// The last of several lines with one name wins.
pub fn parse(bytes: &[u8]) -> Result<BTreeMap<String, String>, PropertiesError> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|byte| char::from(*byte)).collect(),
    };
    let mut entries = BTreeMap::new();
    let mut pending: Option<(usize, String)> = None;
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    for (index, line) in text.split('\n').enumerate() {
        let line = line.trim_start_matches(is_blank);
        let (number, mut logical) = match pending.take() {
            Some(begun) => begun,
            None if line.is_empty() || line.starts_with(['#', '!']) => continue,
            None => (index + 1, String::new()),
        };
        if ends_in_continuation(line) {
            logical.push_str(&line[..line.len() - 1]);
            pending = Some((number, logical));
            continue;
        }
        logical.push_str(line);
        add_entry(&mut entries, number, &logical)?;
    }
    if let Some((number, logical)) = pending {
        add_entry(&mut entries, number, &logical)?;
    }
    Ok(entries)
}

fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\x0c')
}

fn ends_in_continuation(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

fn add_entry(
    entries: &mut BTreeMap<String, String>,
    line: usize,
    logical: &str,
) -> Result<(), PropertiesError> {
    let mut escaped = false;
    let end_of_name = logical
        .find(|character| {
            if escaped {
                escaped = false;
                return false;
            }
            escaped = character == '\\';
            is_blank(character) || character == '=' || character == ':'
        })
        .unwrap_or(logical.len());
    let (name, rest) = logical.split_at(end_of_name);
    let rest = rest.trim_start_matches(is_blank);
    let value = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    let value = value.trim_start_matches(is_blank);
    entries.insert(unescape(line, name)?, unescape(line, value)?);
    Ok(())
}

fn unescape(line: usize, text: &str) -> Result<String, PropertiesError> {
    let mut units: Vec<u16> = Vec::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        let plain = match character {
            '\\' => match characters.next() {
                Some('u') => {
                    let digits: String = characters.by_ref().take(4).collect();
                    let all_digits =
                        digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_hexdigit());
                    let unit = u16::from_str_radix(&digits, 16);
                    match unit {
                        Ok(unit) if all_digits => units.push(unit),
                        _ => return Err(PropertiesError { line }),
                    }
                    continue;
                }
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('f') => '\x0c',
                Some(other) => other,
                None => continue,
            },
            other => other,
        };
        units.extend_from_slice(plain.encode_utf16(&mut [0; 2]));
    }
    Ok(String::from_utf16_lossy(&units))
}

/// Writes `text` as a value that [`parse`] reads back, as Java's `Properties.store` does.
pub fn escape_value(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for (index, character) in text.chars().enumerate() {
        match character {
            ' ' if index == 0 => escaped.push_str("\\ "),
            '\t' => escaped.push_str("\\t"),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\\' | '=' | ':' | '#' | '!' => {
                escaped.push('\\');
                escaped.push(character);
            }
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(&str, &str)]) {
        let expected = expected
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        assert_eq!(parse(text.as_bytes()), Ok(expected), "{text:?}");
    }

    #[test]
    fn the_syntax_is_javas() {
        check("a=b", &[("a", "b")]);
        check("a = b \n", &[("a", "b ")]);
        check("a:b=c", &[("a", "b=c")]);
        check("a b", &[("a", "b")]);
        check("a", &[("a", "")]);
        check("# c\n! d\n\n  e=1", &[("e", "1")]);
        check("a=1,\\\n   2,\\\r\n 3", &[("a", "1,2,3")]);
        check("a=1\\", &[("a", "1")]);
        check("a=1\\\\\nb=2", &[("a", "1\\"), ("b", "2")]);
        check("a\\=b=c", &[("a=b", "c")]);
        check("a\\ b=c", &[("a b", "c")]);
        check("p=\\u00e9\\t\\ud83d\\ude00x", &[("p", "é\t😀x")]);
        check("a=1\na=2", &[("a", "2")]);
        check("a=\\\n# not a comment", &[("a", "# not a comment")]);
        check(
            "listeners=PLAINTEXT://:9092",
            &[("listeners", "PLAINTEXT://:9092")],
        );
    }

    #[test]
    fn latin_1_is_read_where_utf_8_is_not() {
        assert_eq!(parse(b"a=\xe9").expect("readable")["a"], "é");
        assert_eq!(parse("a=é".as_bytes()).expect("readable")["a"], "é");
    }

    #[test]
    fn a_broken_escape_is_told_with_its_line() {
        assert_eq!(parse(b"x=1\na=\\u12"), Err(PropertiesError { line: 2 }));
        assert_eq!(parse(b"a=\\uzzzz"), Err(PropertiesError { line: 1 }));
    }

    #[test]
    fn what_is_escaped_reads_back() {
        for text in [" a b", "c:\\d=e", "#x", "tab\tend", "é"] {
            let line = format!("k={}", escape_value(text));
            assert_eq!(parse(line.as_bytes()).expect("readable")["k"], text);
        }
    }
}
