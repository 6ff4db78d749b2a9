//! Names of sets of characters, and what of each is ASCII.

/// Names between `[:` and `:]`.
pub(super) const POSIX: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
    "space", "upper", "word", "xdigit",
];

/// Scripts without ASCII characters. RE2 knows some more, which no topic name could hold either;
/// they are refused, which a client notices, rather than guessed.
const SCRIPTS: [&str; 40] = [
    "Arabic",
    "Armenian",
    "Bengali",
    "Bopomofo",
    "Braille",
    "Cherokee",
    "Coptic",
    "Cyrillic",
    "Devanagari",
    "Ethiopic",
    "Georgian",
    "Gothic",
    "Greek",
    "Gujarati",
    "Gurmukhi",
    "Han",
    "Hangul",
    "Hebrew",
    "Hiragana",
    "Inherited",
    "Kannada",
    "Katakana",
    "Khmer",
    "Lao",
    "Malayalam",
    "Mongolian",
    "Myanmar",
    "Nko",
    "Ogham",
    "Oriya",
    "Runic",
    "Sinhala",
    "Syriac",
    "Tagalog",
    "Tamil",
    "Telugu",
    "Thaana",
    "Thai",
    "Tibetan",
    "Yi",
];

/// What stands in a character class for the ASCII characters of a Unicode category or script;
/// `None` for a name that is none.
pub(super) fn ascii(name: &str) -> Option<&'static str> {
    Some(match name {
        "Any" => r"\x00-\x7f",
        "L" | "Latin" => "A-Za-z",
        "Lu" => "A-Z",
        "Ll" => "a-z",
        "N" | "Nd" => "0-9",
        "Z" | "Zs" => r"\x20",
        "C" | "Cc" => r"\x00-\x1f\x7f",
        "P" => r##"!-#%-\*,-/:;\?@\[-\]_\{\}"##,
        "Pc" => "_",
        "Pd" => r"\-",
        "Ps" => r"\(\[\{",
        "Pe" => r"\)\]\}",
        "Po" => r##"!-#%-'\*,\./:;\?@\\"##,
        "S" => r"\$\+<->\^`\|\x7e",
        "Sc" => r"\$",
        "Sk" => r"\^`",
        "Sm" => r"\+<->\|\x7e",
        "Common" => r"\x00-@\[-`\{-\x7f",
        "Cf" | "Co" | "Cs" | "Lm" | "Lo" | "Lt" | "M" | "Mc" | "Me" | "Mn" | "Nl" | "No" | "Pf"
        | "Pi" | "So" | "Zl" | "Zp" => "",
        script if SCRIPTS.contains(&script) => "",
        _ => return None,
    })
}
