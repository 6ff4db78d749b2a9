//! Writes how a message's values look as JSON, in the manner of the golden vectors. Only tests use
//! it: they compare what the codec decoded with what Kafka's own classes held.

use crate::codec::{condition, tagged};
use crate::names::{camel, field as field_name, snake};
use crate::schema::{Message, Struct};
use crate::types::{differs, generics};

/// The conversions of all messages and the function that knows them by name.
pub fn conversions(messages: &[Message]) -> String {
    let mut text = String::new();
    for message in messages {
        for structure in &message.structs {
            text += &conversion(message, structure);
        }
    }
    text += "/// The values of the message of this name, and its bytes encoded again.\n\
             fn values_of(name: &str, version: i16, input: &[u8]) -> Outcome {\nmatch name {\n";
    for message in messages {
        let (name, module) = (&message.name, snake(&message.name));
        text += &format!("\"{name}\" => outcome::<messages::{module}::{name}>(version, input),\n");
    }
    text += "_ => panic!(\"no message {name}\"),\n}\n}\n";
    text + &sizes(messages)
}

fn conversion(message: &Message, structure: &Struct) -> String {
    let mut text = format!(
        "impl ToJson for messages::{}::{}{} {{\n\
         #[allow(unused_variables)]\n\
         fn to_json(&self, v: i16) -> Value {{\nlet mut object = Map::new();\n",
        snake(&message.name),
        structure.name,
        generics(message, structure),
    );
    for field in structure.fields.iter().filter(|field| field.tag.is_none()) {
        text += &format!(
            "if {} {{ object.insert(\"{}\".to_owned(), self.{}.to_json(v)); }}\n",
            condition(message, field.versions).unwrap_or_else(|| "true".to_owned()),
            camel(&field.name),
            field_name(&field.name),
        );
    }
    for field in tagged(structure) {
        text += &format!(
            "if {} && {} {{ object.insert(\"{}\".to_owned(), self.{}.to_json(v)); }}\n",
            condition(message, field.versions).unwrap_or_else(|| "true".to_owned()),
            differs(message, field),
            camel(&field.name),
            field_name(&field.name),
        );
    }
    text + "Value::Object(object)\n}\n}\n"
}

/// A table of how large each struct is in memory and how small on the wire.
fn sizes(messages: &[Message]) -> String {
    let mut text = "/// Name, bytes in memory and fewest bytes on the wire of every struct.\n\
                    fn sizes() -> Vec<(&'static str, usize, usize)> {\nvec![\n"
        .to_owned();
    for message in messages {
        for structure in &message.structs {
            let path = format!("messages::{}::{}", snake(&message.name), structure.name);
            text +=
                &format!("(\"{path}\", size_of::<{path}>(), <{path} as ReadWire>::MIN_BYTES),\n");
        }
    }
    text + "]\n}\n"
}
