//! What stock Kafka's tools print against stock Kafka, with all that differs from run to run put
//! alike.

use std::fs;
use std::path::PathBuf;

use millrace_testkit::{Cluster, system};

use crate::tools::Printed;

/// The golden files, for one cluster.
pub struct Golden {
    /// What stands in this cluster's output, and what is written instead.
    names: Vec<(String, String)>,
    write: bool,
}

impl Golden {
    /// Knows the ports, directories and ids of this cluster.
    pub fn of(cluster: &Cluster) -> Golden {
        let mut names = vec![(cluster.cluster_id().to_owned(), "<cluster>".to_owned())];
        for id in cluster.ids() {
            let node = cluster.node(id);
            let address = |port| format!("127.0.0.1:{port}");
            names.push((address(node.client_port()), format!("<address-{id}>")));
            names.push((
                address(node.controller_port()),
                format!("<controller-{id}>"),
            ));
            names.push((format!(":{}", node.client_port()), format!(":<port-{id}>")));
            names.push((node.data().display().to_string(), format!("<data-{id}>")));
        }
        let write = std::env::var("MILLRACE_TEST_GOLDEN").is_ok_and(|what| what == "write");
        Golden { names, write }
    }

    /// Whether the golden files are being written.
    pub fn writes(&self) -> bool {
        self.write
    }

    /// Whether this is what stock Kafka printed.
    pub fn agrees(&self, case: &str, command: &str, printed: &Printed) -> bool {
        fs::read_to_string(path(case)).is_ok_and(|golden| golden == self.text(command, printed))
    }

    /// Compares with the golden file of the case, or writes it.
    ///
    /// # Panics
    /// When they differ.
    pub fn check(&self, case: &str, command: &str, printed: &Printed) {
        let text = self.text(command, printed);
        let path = path(case);
        if self.write {
            let folder = path.parent().expect("it has a folder");
            fs::create_dir_all(folder).expect("the tree is ours");
            fs::write(&path, text).expect("the tree is ours");
            return;
        }
        let expected = fs::read_to_string(&path).unwrap_or_else(|error| {
            panic!("{}: {error}; `tests/run golden` writes it", path.display())
        });
        assert!(
            text == expected,
            "{case}: stock Kafka prints something else\n{}",
            difference(&expected, &text)
        );
    }

    /// Compares only what was printed on standard output: for tools of our own.
    ///
    /// # Panics
    /// When it differs.
    pub fn check_output(&self, case: &str, output: &str) {
        let golden = fs::read_to_string(path(case)).expect("the stock tool was compared before");
        let printed = golden
            .split_once('\n')
            .and_then(|(_, rest)| rest.split_once('\n'));
        let (_, printed) = printed.expect("a command and a status come first");
        let (expected, _) = printed
            .split_once("-- standard error\n")
            .expect("both streams are there");
        let found = self.alike(output);
        assert!(
            found == expected,
            "{case}: our own tool prints something else\n{}",
            difference(expected, &found)
        );
    }

    fn text(&self, command: &str, printed: &Printed) -> String {
        self.alike(&format!(
            "$ {command}\nexit status {}\n{}-- standard error\n{}",
            printed.status, printed.output, printed.errors
        ))
    }

    fn alike(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (real, name) in &self.names {
            text = text.replace(real, name);
        }
        // Where in the tool an error arose is the tool's business.
        let lines = text.lines().filter(|line| !line.starts_with("\tat "));
        let lines = lines.map(|line| without_uuids(line.trim_end()));
        lines.map(|line| line + "\n").collect()
    }
}

fn path(case: &str) -> PathBuf {
    system::top()
        .join("tests/compat/golden")
        .join(format!("{case}.txt"))
}

/// Ids of 22 letters of URL-safe base64 differ from run to run.
fn without_uuids(line: &str) -> String {
    let letter = |char: char| char.is_ascii_alphanumeric() || char == '-' || char == '_';
    let mut out = String::new();
    let mut word = String::new();
    let flush = |word: &mut String, out: &mut String| {
        let mixed = word.chars().any(|c| c.is_ascii_uppercase())
            && word.chars().any(|c| c.is_ascii_lowercase());
        out.push_str(if word.len() == 22 && mixed {
            "<id>"
        } else {
            word
        });
        word.clear();
    };
    for char in line.chars() {
        if letter(char) {
            word.push(char);
        } else {
            flush(&mut word, &mut out);
            out.push(char);
        }
    }
    flush(&mut word, &mut out);
    out
}

/// Lines that only one of two texts has, with those around them left out.
fn difference(expected: &str, found: &str) -> String {
    let (expected, found): (Vec<&str>, Vec<&str>) =
        (expected.lines().collect(), found.lines().collect());
    let mut out = String::new();
    for line in &expected {
        if !found.contains(line) {
            out += &format!("- {line}\n");
        }
    }
    for line in &found {
        if !expected.contains(line) {
            out += &format!("+ {line}\n");
        }
    }
    if out.is_empty() {
        out = format!(
            "the same lines in another order or number:\n{}",
            found.join("\n")
        );
    }
    out
}

/// Base64, enough for the tools' JVM.
pub mod base64 {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    /// Bytes to text.
    pub fn encode(bytes: &[u8]) -> String {
        let mut out = String::new();
        for chunk in bytes.chunks(3) {
            let mut number = [0; 4];
            number[1..=chunk.len()].copy_from_slice(chunk);
            let number = u32::from_be_bytes(number);
            for place in 0..4 {
                let letter = LETTERS[(number >> (18 - 6 * place) & 63) as usize];
                out.push(if place <= chunk.len() {
                    letter as char
                } else {
                    '='
                });
            }
        }
        out
    }

    /// Text to bytes; what is no base64 is left out.
    pub fn decode(text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        let (mut number, mut bits) = (0u32, 0);
        for byte in text.bytes() {
            let Some(value) = LETTERS.iter().position(|letter| *letter == byte) else {
                continue;
            };
            number = number << 6 | value as u32;
            bits += 6;
            if bits >= 8 {
                bits -= 8;
                out.push((number >> bits) as u8);
            }
        }
        out
    }
}
