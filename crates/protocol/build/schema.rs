//! Reads the schema facts.
//!
//! A message is a line at the margin, `NAME KIND API_KEY VERSIONS FLEXIBLE_VERSIONS [unstable]`,
//! and its fields are the lines indented below it, two spaces a level:
//! `NAME TYPE VERSIONS [null=VERSIONS] [tag=N] [default=VALUE] [ignorable] [inflexible]`.
//! The fields of a field's own struct type follow it one level deeper. A struct that several
//! fields use is a line `struct NAME VERSIONS` at the level of the message's fields. Versions are
//! `none`, `3`, `3-5` or `3+`. A tagged field is tagged in all of its versions.

/// A range of versions; empty when `low > high`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    pub low: i16,
    pub high: i16,
}

/// What a field holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    Bool,
    Int8,
    Int16,
    Uint16,
    Int32,
    Uint32,
    Int64,
    Float64,
    Uuid,
    String,
    Bytes,
    Records,
    Struct(String),
    Array(Box<Type>),
}

/// One field of a struct.
#[derive(Clone, Debug)]
pub struct Field {
    pub name: String,
    pub ty: Type,
    pub versions: Versions,
    pub nullable: Versions,
    pub tag: Option<u32>,
    pub default: Option<String>,
    pub ignorable: bool,
    pub inflexible: bool,
}

/// A struct: the message itself, or one inside it.
#[derive(Clone, Debug)]
pub struct Struct {
    pub name: String,
    pub fields: Vec<Field>,
}

/// One message with all structs it is made of; the first is the message itself.
#[derive(Clone, Debug)]
pub struct Message {
    pub name: String,
    pub kind: String,
    pub api_key: i16,
    pub versions: Versions,
    pub flexible: Versions,
    pub structs: Vec<Struct>,
}

impl Versions {
    pub const NONE: Versions = Versions { low: 1, high: 0 };

    fn parse(text: &str) -> Versions {
        let number = |text: &str| text.parse().expect("a version is a number");
        match text.split_once('-') {
            _ if text == "none" => Versions::NONE,
            Some((low, high)) => Versions {
                low: number(low),
                high: number(high),
            },
            None => match text.strip_suffix('+') {
                Some(low) => Versions {
                    low: number(low),
                    high: i16::MAX,
                },
                None => Versions {
                    low: number(text),
                    high: number(text),
                },
            },
        }
    }

    pub fn is_empty(self) -> bool {
        self.low > self.high
    }

    pub fn intersect(self, other: Versions) -> Versions {
        Versions {
            low: self.low.max(other.low),
            high: self.high.min(other.high),
        }
    }

    /// Whether every version of `other` is in this range.
    pub fn covers(self, other: Versions) -> bool {
        other.is_empty() || (self.low <= other.low && self.high >= other.high)
    }

    pub fn describe(self) -> String {
        match (self.low, self.high) {
            _ if self.is_empty() => "none".to_owned(),
            (low, i16::MAX) => format!("{low}+"),
            (low, high) if low == high => low.to_string(),
            (low, high) => format!("{low}-{high}"),
        }
    }
}

impl Type {
    fn parse(text: &str) -> Type {
        if let Some(element) = text.strip_prefix("[]") {
            return Type::Array(Box::new(Type::parse(element)));
        }
        match text {
            "bool" => Type::Bool,
            "int8" => Type::Int8,
            "int16" => Type::Int16,
            "uint16" => Type::Uint16,
            "int32" => Type::Int32,
            "uint32" => Type::Uint32,
            "int64" => Type::Int64,
            "float64" => Type::Float64,
            "uuid" => Type::Uuid,
            "string" => Type::String,
            "bytes" => Type::Bytes,
            "records" => Type::Records,
            name => Type::Struct(name.to_owned()),
        }
    }

    /// The struct this type holds, by itself or as an element.
    pub fn structure(&self) -> Option<&str> {
        match self {
            Type::Struct(name) => Some(name),
            Type::Array(element) => element.structure(),
            _ => None,
        }
    }
}

impl Field {
    fn parse(line: &str) -> Field {
        let mut words = line.split(' ');
        let mut next = || {
            words
                .next()
                .expect("a field has a name, a type and versions")
        };
        let mut field = Field {
            name: next().to_owned(),
            ty: Type::parse(next()),
            versions: Versions::parse(next()),
            nullable: Versions::NONE,
            tag: None,
            default: None,
            ignorable: false,
            inflexible: false,
        };
        for word in words {
            match word.split_once('=').unwrap_or((word, "")) {
                ("null", versions) => field.nullable = Versions::parse(versions),
                ("tag", tag) => field.tag = Some(tag.parse().expect("a tag is a number")),
                ("default", value) => field.default = Some(value.to_owned()),
                ("ignorable", _) => field.ignorable = true,
                ("inflexible", _) => field.inflexible = true,
                _ => panic!("unknown word in the schema: {line}"),
            }
        }
        field
    }

    pub fn is_nullable(&self) -> bool {
        !self.nullable.is_empty()
    }
}

impl Message {
    fn parse(line: &str) -> Message {
        let words: Vec<&str> = line.split(' ').collect();
        Message {
            name: words[0].to_owned(),
            kind: words[1].to_owned(),
            api_key: words[2].parse().unwrap_or(-1),
            versions: Versions::parse(words[3]),
            flexible: Versions::parse(words[4]),
            structs: vec![Struct {
                name: words[0].to_owned(),
                fields: Vec::new(),
            }],
        }
    }

    pub fn structure(&self, name: &str) -> &Struct {
        let found = self.structs.iter().find(|structure| structure.name == name);
        found.unwrap_or_else(|| panic!("{} has no struct {name}", self.name))
    }

    /// Whether any version of the message is flexible.
    pub fn is_flexible(&self) -> bool {
        !self.flexible.intersect(self.versions).is_empty()
    }
}

/// Parses one file of facts; messages without a living version are left out.
pub fn parse(path: &str, text: &str) -> Vec<Message> {
    let mut messages: Vec<Message> = Vec::new();
    // For each level of indentation, the place of the struct whose fields stand there.
    let mut open: Vec<usize> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let words = line.trim_start_matches(' ');
        let level = (line.len() - words.len()) / 2;
        if level == 0 {
            messages.push(Message::parse(words));
            open = vec![0];
            continue;
        }
        let structs = &mut messages
            .last_mut()
            .unwrap_or_else(|| panic!("{path}: {line}"))
            .structs;
        open.truncate(level);
        if let Some(rest) = words.strip_prefix("struct ") {
            let name = rest
                .split(' ')
                .next()
                .expect("a struct has a name")
                .to_owned();
            open.push(structs.len());
            structs.push(Struct {
                name,
                fields: Vec::new(),
            });
            continue;
        }
        if open.len() < level {
            // The first field below a field: that field's struct begins here.
            let parent = structs[open[level - 2]]
                .fields
                .last()
                .expect("a field stands above");
            let name = parent
                .ty
                .structure()
                .expect("only a struct has fields")
                .to_owned();
            open.push(structs.len());
            structs.push(Struct {
                name,
                fields: Vec::new(),
            });
        }
        structs[open[level - 1]].fields.push(Field::parse(words));
    }
    messages.retain(|message| !message.versions.is_empty());
    messages
}
