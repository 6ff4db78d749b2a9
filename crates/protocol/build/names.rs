//! Names of the schemas turned into names of Rust.

/// `TopicId` to `topic_id`, `KRaftVersion` to `kraft_version`.
pub fn snake(name: &str) -> String {
    let name = name.replace("KRaft", "Kraft");
    let mut text = String::new();
    for (place, character) in name.char_indices() {
        if character.is_ascii_uppercase() && place > 0 {
            text.push('_');
        }
        text.push(character.to_ascii_lowercase());
    }
    text
}

/// The name of a field, raw where Rust reserves the word.
pub fn field(name: &str) -> String {
    let text = snake(name);
    match text.as_str() {
        "type" | "match" => format!("r#{text}"),
        _ => text,
    }
}

/// `TopicId` to `topicId`, as the golden vectors write it.
pub fn camel(name: &str) -> String {
    let (first, rest) = name.split_at(1);
    first.to_ascii_lowercase() + rest
}
