//! From RE2's syntax to the `regex` crate's.

use std::iter::Peekable;
use std::str::Chars;

use super::{InvalidExpression, property};

/// Most repetitions that RE2 takes.
const MAX_REPETITIONS: u32 = 1000;

/// What the crate takes a backslash before; both read all of these alike.
const SHARED_ESCAPES: &str = "AzbBdDsSwWafnrtv";

/// Rewrites what the crate would read otherwise, and refuses what only the crate would take.
pub(super) fn from_re2(expression: &str) -> Result<String, InvalidExpression> {
    let mut translator = Translator {
        input: expression.chars().peekable(),
        output: String::with_capacity(expression.len() + 16),
        repeatable: false,
    };
    while let Some(next) = translator.input.next() {
        translator.outside(next)?;
    }
    Ok(translator.output)
}

fn refuse<T>(why: &str) -> Result<T, InvalidExpression> {
    Err(InvalidExpression(why.to_owned()))
}

struct Translator<'a> {
    input: Peekable<Chars<'a>>,
    output: String,
    /// Whether what stands before can be repeated, and is not a repetition yet.
    repeatable: bool,
}

impl Translator<'_> {
    /// One piece outside of a character class.
    fn outside(&mut self, next: char) -> Result<(), InvalidExpression> {
        let was_repeatable = std::mem::replace(&mut self.repeatable, true);
        match next {
            '\\' => self.escape(false),
            '[' => self.class(),
            '(' => {
                self.repeatable = false;
                self.group()
            }
            '|' => {
                self.repeatable = false;
                self.output.push('|');
                Ok(())
            }
            '*' | '+' | '?' => self.repetition(was_repeatable, &next.to_string()),
            '{' => match self.counts()? {
                Some(counts) => self.repetition(was_repeatable, &counts),
                None => {
                    self.output.push_str("\\{");
                    Ok(())
                }
            },
            '}' | ']' => {
                self.literal(next);
                Ok(())
            }
            other => {
                self.output.push(other);
                Ok(())
            }
        }
    }

    fn literal(&mut self, character: char) {
        if character.is_ascii_punctuation() {
            self.output.push('\\');
        }
        self.output.push(character);
    }

    /// An operator and its question mark; a second operator on top of it is an error in RE2.
    fn repetition(&mut self, may: bool, operator: &str) -> Result<(), InvalidExpression> {
        if !may {
            return refuse("missing argument to repetition operator");
        }
        self.output.push_str(operator);
        if self.input.next_if_eq(&'?').is_some() {
            self.output.push('?');
        }
        self.repeatable = false;
        Ok(())
    }

    /// What follows `{`, if it is a count; RE2 takes anything else for plain characters.
    fn counts(&mut self) -> Result<Option<String>, InvalidExpression> {
        let ahead: String = self
            .input
            .clone()
            .take_while(|c| *c != '}')
            .take(12)
            .collect();
        let closed = self.input.clone().nth(ahead.chars().count()) == Some('}');
        let (least, most) = match ahead.split_once(',') {
            Some((least, most)) => (least, Some(most)),
            None => (ahead.as_str(), None),
        };
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let most_is_fine = most.is_none_or(|most| most.is_empty() || is_number(most));
        if !closed || !is_number(least) || !most_is_fine {
            return Ok(None);
        }
        let number = |text: &str| text.parse::<u32>().unwrap_or(u32::MAX);
        let upper = most.filter(|most| !most.is_empty()).map_or(0, number);
        if number(least).max(upper) > MAX_REPETITIONS || (upper > 0 && upper < number(least)) {
            return refuse("invalid repetition count");
        }
        for _ in 0..=ahead.chars().count() {
            self.input.next();
        }
        Ok(Some(format!("{{{ahead}}}")))
    }

    /// What follows `(`: a plain group, a named one, or flags.
    fn group(&mut self) -> Result<(), InvalidExpression> {
        self.output.push('(');
        if self.input.next_if_eq(&'?').is_none() {
            return Ok(());
        }
        self.output.push('?');
        if self.input.next_if_eq(&'P').is_some() {
            if self.input.peek() != Some(&'<') {
                return refuse("invalid named capture");
            }
            self.output.push('P');
        }
        if self.input.next_if_eq(&'<').is_some() {
            return self.group_name();
        }
        loop {
            match self.input.next() {
                Some(flag @ ('i' | 'm' | 's' | 'U' | '-')) => self.output.push(flag),
                Some(':') => {
                    self.output.push(':');
                    return Ok(());
                }
                Some(')') => {
                    self.output.push(')');
                    return Ok(());
                }
                Some(_) => return refuse("invalid or unsupported Perl syntax"),
                None => return refuse("missing closing )"),
            }
        }
    }

    fn group_name(&mut self) -> Result<(), InvalidExpression> {
        self.output.push('<');
        loop {
            match self.input.next() {
                Some('>') => {
                    self.output.push('>');
                    return Ok(());
                }
                Some(c) if c.is_ascii_alphanumeric() || c == '_' => self.output.push(c),
                _ => return refuse("invalid named capture"),
            }
        }
    }

    /// What follows a backslash.
    fn escape(&mut self, in_class: bool) -> Result<(), InvalidExpression> {
        let Some(next) = self.input.next() else {
            return refuse("trailing backslash at end of expression");
        };
        match next {
            'Q' => {
                self.quoted();
                Ok(())
            }
            'E' => Ok(()),
            'p' | 'P' => self.property(next),
            'x' => self.hexadecimal(),
            '0'..='7' => self.octal(next),
            'b' if !in_class && self.input.peek() == Some(&'{') => {
                self.output.push_str(r"\b");
                refuse("invalid escape sequence")
            }
            'A' | 'z' | 'b' | 'B' if in_class => refuse("invalid escape sequence"),
            shared if SHARED_ESCAPES.contains(shared) => {
                self.output.push('\\');
                self.output.push(shared);
                Ok(())
            }
            '<' | '>' => refuse("invalid escape sequence"),
            plain if plain.is_ascii_punctuation() => {
                self.literal(plain);
                Ok(())
            }
            _ => refuse("invalid escape sequence"),
        }
    }

    /// Everything up to `\E` or the end, as it stands.
    fn quoted(&mut self) {
        while let Some(next) = self.input.next() {
            if next == '\\' && self.input.next_if_eq(&'E').is_some() {
                return;
            }
            self.literal(next);
        }
    }

    fn property(&mut self, kind: char) -> Result<(), InvalidExpression> {
        let mut name = String::new();
        match self.input.next() {
            Some('{') => loop {
                match self.input.next() {
                    Some('}') => break,
                    Some(c) if c.is_ascii_alphanumeric() || "^_".contains(c) => name.push(c),
                    _ => return refuse("invalid character class range"),
                }
            },
            Some(letter) if letter.is_ascii_alphabetic() => name.push(letter),
            _ => return refuse("invalid character class range"),
        }
        let negated = (kind == 'P') ^ name.starts_with('^');
        let Some(ascii) = property::ascii(name.trim_start_matches('^')) else {
            return refuse("invalid character class range");
        };
        // What is not negated may be no character at all: everything but everything.
        self.output.push_str(match (negated, ascii.is_empty()) {
            (false, true) => r"[^\x00-\xff",
            (true, true) => r"[\x00-\xff",
            (false, false) => "[",
            (true, false) => "[^",
        });
        self.output.push_str(ascii);
        self.output.push(']');
        Ok(())
    }

    fn hexadecimal(&mut self) -> Result<(), InvalidExpression> {
        let digits: String = if self.input.next_if_eq(&'{').is_some() {
            let digits = self.input.by_ref().take_while(|c| *c != '}');
            digits.take(9).collect()
        } else {
            self.input.by_ref().take(2).collect()
        };
        self.code(&digits, 16)
    }

    /// Up to three digits; a single one that is not zero would be a back-reference.
    fn octal(&mut self, first: char) -> Result<(), InvalidExpression> {
        let mut digits = first.to_string();
        while digits.len() < 3
            && let Some(digit) = self.input.next_if(|c| ('0'..='7').contains(c))
        {
            digits.push(digit);
        }
        if first != '0' && digits.len() == 1 {
            return refuse("invalid escape sequence");
        }
        self.code(&digits, 8)
    }

    fn code(&mut self, digits: &str, radix: u32) -> Result<(), InvalidExpression> {
        match u32::from_str_radix(digits, radix)
            .ok()
            .and_then(char::from_u32)
        {
            Some(character) => {
                self.output
                    .push_str(&format!("\\x{{{:x}}}", character as u32));
                Ok(())
            }
            None => refuse("invalid escape sequence"),
        }
    }

    /// What follows `[`, up to its end.
    fn class(&mut self) -> Result<(), InvalidExpression> {
        self.output.push('[');
        if self.input.next_if_eq(&'^').is_some() {
            self.output.push('^');
        }
        let mut first = true;
        let mut may_be_range = false;
        loop {
            let Some(next) = self.input.next() else {
                return refuse("missing closing ]");
            };
            match next {
                ']' if !first => {
                    self.output.push(']');
                    return Ok(());
                }
                '[' if self.input.peek() == Some(&':') => {
                    self.posix()?;
                    may_be_range = false;
                }
                '\\' => {
                    self.escape(true)?;
                    may_be_range = true;
                }
                '-' if may_be_range && self.input.peek() != Some(&']') => {
                    self.output.push('-');
                    may_be_range = false;
                }
                other => {
                    self.literal(other);
                    may_be_range = true;
                }
            }
            first = false;
        }
    }

    /// `[:name:]`.
    fn posix(&mut self) -> Result<(), InvalidExpression> {
        self.input.next();
        let mut name = String::new();
        while let Some(letter) = self.input.next_if(|c| c.is_ascii_lowercase() || *c == '^') {
            name.push(letter);
        }
        let closed = self.input.next_if_eq(&':').is_some() && self.input.next_if_eq(&']').is_some();
        if !closed || !property::POSIX.contains(&name.trim_start_matches('^')) {
            return refuse("invalid character class range");
        }
        self.output.push_str(&format!("[:{name}:]"));
        Ok(())
    }
}
