//! `NAME=VALUE` pairs from a command line and from a properties file.

use std::collections::BTreeMap;
use std::path::Path;

use crate::failure::Failure;

/// The pairs of a file, overridden by those of the command line.
pub fn collect(file: Option<&Path>, given: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let mut pairs = BTreeMap::new();
    if let Some(file) = file {
        let text = std::fs::read_to_string(file)
            .map_err(|error| Failure::new(format!("{}: {error}", file.display())))?;
        let lines = text.lines().map(str::trim_start);
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with(['#', '!'])) {
            insert(&mut pairs, line)?;
        }
    }
    for pair in given {
        insert(&mut pairs, pair)?;
    }
    Ok(pairs)
}

fn insert(pairs: &mut BTreeMap<String, String>, pair: &str) -> Result<(), Failure> {
    let (name, value) = pair
        .split_once('=')
        .ok_or_else(|| Failure::new(format!("'{pair}' is not of the form name=value")))?;
    pairs.insert(name.trim().to_owned(), value.to_owned());
    Ok(())
}
