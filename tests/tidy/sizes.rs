//! How large a function and a file may grow, and how a file begins.

use crate::source::{Source, Tree, matching_brace};

const FUNCTION_LINES: usize = 70;
const FILE_LINES: usize = 600;

/// Files that do not open with `//!`.
pub fn files_without_purpose(tree: &Tree) -> Vec<String> {
    let sources = tree.sources();
    let silent = sources.iter().filter(|source| {
        let first = source.text.lines().find(|line| !line.starts_with("#!"));
        !first.is_some_and(|line| line.starts_with("//!"))
    });
    silent
        .map(|source| {
            format!(
                "{}: begins without `//!`; the first line of a file says what it is for, since \
                 that is where a reader looks",
                source.path.display()
            )
        })
        .collect()
}

/// Functions whose body has more than 70 lines of code.
pub fn long_functions(tree: &Tree) -> Vec<String> {
    let sources = tree.production_sources();
    sources.iter().flat_map(long_functions_of).collect()
}

fn long_functions_of(source: &Source) -> Vec<String> {
    let code = &source.code;
    let mut findings = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let begins_word = code[..at].ends_with(|char: char| char.is_whitespace() || char == '(');
        let Some(open) = body_of(code, at).filter(|_| begins_word || at == 0) else {
            continue;
        };
        let body = &code[open + 1..matching_brace(code, open)];
        let lines = body.lines().filter(|line| !line.trim().is_empty()).count();
        if lines > FUNCTION_LINES {
            let name: String = code[at + 3..]
                .chars()
                .take_while(|char| char.is_alphanumeric() || *char == '_')
                .collect();
            findings.push(format!(
                "{}: {name} has {lines} lines; a function fits on a screen ({FUNCTION_LINES} \
                 lines), so that it can be understood at one look",
                source.at(at)
            ));
        }
    }
    findings
}

/// The brace that opens a function's body; none for a declaration in a trait.
fn body_of(code: &str, from: usize) -> Option<usize> {
    let mut depth = 0i32;
    let mut previous = b' ';
    for (at, byte) in code.bytes().enumerate().skip(from) {
        match byte {
            b'(' | b'[' | b'<' => depth += 1,
            b'>' if previous == b'-' || previous == b'=' => {}
            b')' | b']' | b'>' => depth -= 1,
            b'{' if depth <= 0 => return Some(at),
            b';' if depth <= 0 => return None,
            _ => {}
        }
        if depth < 0 {
            return None;
        }
        previous = byte;
    }
    None
}

/// Files with more than 600 lines outside their tests.
pub fn long_files(tree: &Tree) -> Vec<String> {
    let sources = tree.production_sources();
    let long = sources
        .iter()
        .filter(|source| source.production_lines > FILE_LINES);
    long.map(|source| {
        format!(
            "{}: {} production lines; split it by what its parts do ({FILE_LINES} at most), so \
             that one file is one thought",
            source.path.display(),
            source.production_lines
        )
    })
    .collect()
}

/// `mod.rs` files.
pub fn mod_files(tree: &Tree) -> Vec<String> {
    let sources = tree.sources();
    let found = sources
        .iter()
        .filter(|source| source.path.ends_with("mod.rs"));
    found
        .map(|source| {
            format!(
                "{}: a module is `foo.rs` beside `foo/`, so that tabs and searches show its name",
                source.path.display()
            )
        })
        .collect()
}
