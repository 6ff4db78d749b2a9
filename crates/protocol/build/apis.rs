//! Writes the table of API keys from `schema/apis.tsv`.

/// The enum of API keys and the facts of each.
pub fn table(tsv: &str) -> String {
    let rows: Vec<Vec<&str>> = tsv
        .lines()
        .skip(1)
        .map(|line| line.split('\t').collect())
        .collect();
    let mut text = "/// A request type of Kafka 4.3, by its key on the wire.\n\
                    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]\n\
                    #[repr(i16)]\npub enum ApiKey {\n"
        .to_owned();
    for row in &rows {
        text += &format!("/// API key {}.\n{} = {},\n", row[0], row[1], row[0]);
    }
    text += "}\n\nimpl ApiKey {\n/// Every key, in the order of the numbers.\n\
             pub const ALL: &[ApiKey] = &[\n";
    for row in &rows {
        text += &format!("ApiKey::{},\n", row[1]);
    }
    text += "];\n}\n\nconst FACTS: &[ApiFacts] = &[\n";
    for row in &rows {
        text += &facts(row);
    }
    text + "];\n"
}

fn facts(row: &[&str]) -> String {
    let or_never = |text: &str| text.parse().unwrap_or(i16::MAX);
    let (flexible_from, response_from) = (or_never(row[5]), or_never(row[10]));
    let listener = |name: &str| row[2].split(',').any(|word| word == name);
    format!(
        "ApiFacts {{ name: \"{}\", valid: {}, stable: {}, flexible_from: {flexible_from}, \
         response_header_1_from: {response_from}, on_broker: {}, on_controller: {}, \
         cluster_action: {}, forwardable: {} }},\n",
        row[1],
        versions(row[3]),
        versions(row[4]),
        listener("broker"),
        listener("controller"),
        row[8] == "yes",
        row[9] == "yes",
    )
}

fn versions(text: &str) -> String {
    match text.split_once('-') {
        Some((low, high)) => format!("({low}, {high})"),
        None => "(0, -1)".to_owned(),
    }
}
