//! Hashes and checksums as Kafka computes them.

use millrace_protocol::hash::{java_string_hash, murmur2, partition_for_group, partition_for_key};

use crate::unhex;

/// The rows of a table, without its head.
fn rows(name: &str) -> Vec<Vec<String>> {
    let path = format!("{}/tests/data/{name}.tsv", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("the data is part of the sources");
    text.lines()
        .skip(1)
        .map(|line| line.split('\t').map(str::to_owned).collect())
        .collect()
}

fn number(text: &str) -> i64 {
    text.parse().expect("a number")
}

#[test]
fn keys_find_their_partitions() {
    let rows = rows("murmur2");
    assert_eq!(rows.len(), 66);
    for row in rows {
        let key = unhex(&row[0]);
        assert_eq!(i64::from(murmur2(&key)), number(&row[1]), "{}", row[0]);
        let counts = [1, 2, 3, 6, 10, 12, 50, 100, 1000];
        for (partitions, expected) in counts.iter().zip(&row[2..]) {
            assert_eq!(
                i64::from(partition_for_key(&key, *partitions)),
                number(expected)
            );
        }
    }
}

#[test]
fn groups_find_their_partitions() {
    let rows = rows("group-hash");
    assert_eq!(rows.len(), 34);
    for row in rows {
        let id = String::from_utf8(unhex(&row[2])).expect("UTF-8");
        assert_eq!(i64::from(java_string_hash(&id)), number(&row[3]), "{id}");
        assert_eq!(
            i64::from(partition_for_group(&id, 50)),
            number(&row[4]),
            "{id}"
        );
        assert_eq!(
            i64::from(partition_for_group(&id, 3)),
            number(&row[5]),
            "{id}"
        );
    }
}

#[test]
fn checksums() {
    let rows = rows("crc32c");
    assert_eq!(rows.len(), 69);
    for row in rows {
        assert_eq!(
            i64::from(crc32c::crc32c(&unhex(&row[0]))),
            number(&row[1]),
            "{}",
            row[0]
        );
    }
}
