//! The tree as the rules see it: manifests and sources, with comments, strings and tests blanked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The files of the workspace that a rule may speak about.
pub struct Tree {
    files: BTreeMap<PathBuf, String>,
}

/// One Rust file.
pub struct Source {
    /// Path below the top of the repository.
    pub path: PathBuf,
    /// As it stands on the disk.
    pub text: String,
    /// The same number of lines, with comments, the contents of strings and `#[cfg(test)]` items
    /// turned into blanks.
    pub code: String,
    /// Lines that stand outside of `#[cfg(test)]` items.
    pub production_lines: usize,
}

impl Tree {
    /// Everything below `crates/` and `tests/` of this repository.
    pub fn of_this_workspace() -> Tree {
        let top = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .expect("tests/ lies in the repository")
            .to_owned();
        let mut files = BTreeMap::new();
        for folder in ["crates", "tests"] {
            collect(&top, &top.join(folder), &mut files);
        }
        let lock = std::fs::read_to_string(top.join("Cargo.lock")).expect("Cargo.lock is kept");
        files.insert(PathBuf::from("Cargo.lock"), lock);
        Tree { files }
    }

    /// A small tree for the tests of the rules.
    pub fn of_texts(texts: &[(&str, &str)]) -> Tree {
        let files = texts
            .iter()
            .map(|(path, text)| (PathBuf::from(path), (*text).to_owned()))
            .collect();
        Tree { files }
    }

    /// The text of one file.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.files.get(Path::new(path)).map(String::as_str)
    }

    /// The manifests of the crates, by the crate's folder name.
    pub fn manifests(&self) -> Vec<(String, &str)> {
        self.files
            .iter()
            .filter(|(path, _)| path.ends_with("Cargo.toml") && path.starts_with("crates"))
            .map(|(path, text)| (crate_of(path), text.as_str()))
            .collect()
    }

    /// Every Rust file of the crates, `tests/` included.
    pub fn sources(&self) -> Vec<Source> {
        self.files
            .iter()
            .filter(|(path, _)| path.extension().is_some_and(|is| is == "rs"))
            .map(|(path, text)| Source::new(path.clone(), text.clone()))
            .collect()
    }

    /// The Rust files that end up in a binary: below a crate's `src/`.
    pub fn production_sources(&self) -> Vec<Source> {
        let mut sources = self.sources();
        sources.retain(|source| {
            let mut parts = source.path.components().map(|part| part.as_os_str());
            parts.next().is_some_and(|first| first == "crates")
                && parts.nth(1).is_some_and(|third| third == "src")
                && !source.path.ends_with("tests.rs")
                && !source.path.iter().any(|part| part == "tests")
        });
        sources
    }
}

impl Source {
    fn new(path: PathBuf, text: String) -> Source {
        let mut code = blank_words(&text);
        let without = blank_tests(&mut code);
        Source {
            production_lines: text.lines().count() - without,
            path,
            text,
            code,
        }
    }

    /// The name of the crate's folder.
    pub fn crate_name(&self) -> String {
        crate_of(&self.path)
    }

    /// `path:line` of a byte of [`Source::code`].
    pub fn at(&self, byte: usize) -> String {
        let line = self.code[..byte].matches('\n').count() + 1;
        format!("{}:{line}", self.path.display())
    }
}

fn crate_of(path: &Path) -> String {
    let name = path.iter().nth(1).unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn collect(top: &Path, folder: &Path, files: &mut BTreeMap<PathBuf, String>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.expect("the tree can be listed").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            if name != "target" && name != "fuzz" && !name.starts_with('.') {
                collect(top, &path, files);
            }
        } else if name == "Cargo.toml" || name.ends_with(".rs") {
            let text = std::fs::read_to_string(&path).expect("a source is UTF-8");
            let below = path.strip_prefix(top).expect("listed below the top");
            files.insert(below.to_owned(), text);
        }
    }
}

/// Blanks comments and what stands between quotes, byte for byte, so that positions stay.
pub fn blank_words(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => line_end(bytes, at),
            b'/' if bytes[at..].starts_with(b"/*") => block_comment_end(bytes, at),
            b'"' => string_end(bytes, at),
            b'r' | b'b' | b'c' if !follows_word(bytes, at) => raw_string_end(bytes, at),
            b'\'' => char_end(bytes, at),
            _ => at,
        };
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8(out).expect("whole words were blanked")
}

fn follows_word(bytes: &[u8], at: usize) -> bool {
    at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_')
}

fn line_end(bytes: &[u8], from: usize) -> usize {
    let rest = bytes[from..].iter().position(|byte| *byte == b'\n');
    rest.map_or(bytes.len(), |length| from + length)
}

fn block_comment_end(bytes: &[u8], from: usize) -> usize {
    let mut depth = 0usize;
    let mut at = from;
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    at
}

fn string_end(bytes: &[u8], from: usize) -> usize {
    let mut at = from + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The end of `r#"..."#` (or `br`, `cr`), or `from` when no raw string begins here.
fn raw_string_end(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    if matches!(bytes[at], b'b' | b'c') {
        at += 1;
    }
    if bytes.get(at) != Some(&b'r') {
        return from;
    }
    at += 1;
    let hashes = bytes[at..].iter().take_while(|byte| **byte == b'#').count();
    at += hashes;
    if bytes.get(at) != Some(&b'"') {
        return from;
    }
    let mut close = vec![b'"'];
    close.extend(std::iter::repeat_n(b'#', hashes));
    let found = bytes[at + 1..]
        .windows(close.len())
        .position(|window| window == close);
    found.map_or(bytes.len(), |length| at + 1 + length + close.len())
}

/// The end of a character literal, or `from` when the quote begins a lifetime.
fn char_end(bytes: &[u8], from: usize) -> usize {
    if bytes.get(from + 1) == Some(&b'\\') {
        let close = bytes[from + 3..].iter().position(|byte| *byte == b'\'');
        return close.map_or(bytes.len(), |length| from + 3 + length + 1);
    }
    let near = &bytes[from + 1..bytes.len().min(from + 6)];
    match near.iter().position(|byte| *byte == b'\'') {
        // One character, of up to four bytes; `'a, 'b` is two lifetimes.
        Some(1) => from + 3,
        Some(length @ 2..=4) if near[0] >= 0x80 => from + 1 + length + 1,
        _ => from,
    }
}

/// Blanks every item under `#[cfg(test)]` in code without words; tells how many lines that were.
fn blank_tests(code: &mut String) -> usize {
    let mut lines = 0;
    let mut from = 0;
    while let Some(found) = code[from..].find("#[cfg(test)]") {
        let start = from + found;
        let end = item_end(code, start);
        lines += code[start..end].matches('\n').count() + 1;
        let blank: String = code[start..end]
            .chars()
            .map(|char| if char == '\n' { '\n' } else { ' ' })
            .collect();
        code.replace_range(start..end, &blank);
        from = end.min(code.len());
    }
    lines
}

fn item_end(code: &str, from: usize) -> usize {
    let brace = code[from..].find('{').map(|length| from + length);
    let semicolon = code[from..].find(';').map(|length| from + length);
    match (brace, semicolon) {
        (Some(brace), Some(semicolon)) if semicolon < brace => semicolon + 1,
        (Some(brace), _) => matching_brace(code, brace) + 1,
        (None, Some(semicolon)) => semicolon + 1,
        (None, None) => code.len(),
    }
}

/// The byte of the brace that closes the one at `open`, in code without words.
pub fn matching_brace(code: &str, open: usize) -> usize {
    let mut depth = 0usize;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return at;
                }
            }
            _ => {}
        }
    }
    code.len() - 1
}
