//! A `server.properties` file.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// Keys and values, in the order of the keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties(BTreeMap<String, String>);

impl Properties {
    /// No properties.
    pub fn new() -> Properties {
        Properties::default()
    }

    /// The same with `key` set to `value`, whatever it was.
    pub fn with(mut self, key: &str, value: impl fmt::Display) -> Properties {
        self.set(key, value);
        self
    }

    /// Sets `key` to `value`, whatever it was.
    pub fn set(&mut self, key: &str, value: impl fmt::Display) {
        self.0.insert(key.to_owned(), value.to_string());
    }

    /// Takes `key` out.
    pub fn remove(&mut self, key: &str) {
        self.0.remove(key);
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Sets all of `others`.
    pub fn merge(&mut self, others: &Properties) {
        self.0.extend(others.0.clone());
    }

    /// Writes the file.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) {
        std::fs::write(path, self.to_string())
            .unwrap_or_else(|error| panic!("writing {}: {error}", path.display()));
    }
}

impl fmt::Display for Properties {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (key, value) in &self.0 {
            writeln!(out, "{key}={value}")?;
        }
        Ok(())
    }
}
