//! 128-bit identities, written as Kafka writes them: URL-safe base64 without padding.

use std::fmt;
use std::str::FromStr;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const TEXT_LENGTH: usize = 22;

/// A 128-bit identity (Kafka class `org.apache.kafka.common.Uuid`).
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub [u8; 16]);

/// A text that is not 22 characters of URL-safe base64 for 16 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseUuidError(pub String);

impl Uuid {
    /// The absent identity.
    pub const ZERO: Uuid = Uuid([0; 16]);
    /// Kafka reserves this one (`Uuid.ONE_UUID`, the old name of the metadata topic's id).
    pub const ONE: Uuid = Uuid(1u128.to_be_bytes());

    /// Makes an identity of 128 random bits: version 4, and never one that starts with a dash,
    /// which command lines would take for an option (Kafka method `Uuid.randomUuid`).
    /// `random` is asked again until the result is usable.
    pub fn from_random(mut random: impl FnMut() -> u128) -> Uuid {
        loop {
            let mut bytes = random().to_be_bytes();
            bytes[6] = (bytes[6] & 0x0f) | 0x40;
            bytes[8] = (bytes[8] & 0x3f) | 0x80;
            let id = Uuid(bytes);
            if id.0[0] >> 2 != 62 {
                return id;
            }
        }
    }

    /// Whether this is the absent identity.
    pub fn is_zero(self) -> bool {
        self == Uuid::ZERO
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = u128::from_be_bytes(self.0);
        let mut text = [0u8; TEXT_LENGTH];
        for (place, character) in text.iter_mut().enumerate() {
            // The last character holds the two bits that remain, followed by four zero bits.
            let digit = match 122usize.checked_sub(6 * place) {
                Some(shift) => bits >> shift,
                None => bits << 4,
            };
            *character = ALPHABET[(digit & 63) as usize];
        }
        f.write_str(std::str::from_utf8(&text).expect("the alphabet is ASCII"))
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Uuid {
    type Err = ParseUuidError;

    fn from_str(text: &str) -> Result<Uuid, ParseUuidError> {
        let refuse = || ParseUuidError(text.to_owned());
        if text.len() != TEXT_LENGTH {
            return Err(refuse());
        }
        let mut bits: u128 = 0;
        for (place, character) in text.bytes().enumerate() {
            let digit = ALPHABET
                .iter()
                .position(|c| *c == character)
                .ok_or_else(refuse)? as u128;
            bits = if place + 1 < TEXT_LENGTH {
                bits << 6 | digit
            } else {
                bits << 2 | digit >> 4
            };
        }
        Ok(Uuid(bits.to_be_bytes()))
    }
}

impl fmt::Display for ParseUuidError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "'{}' is not a 16-byte base64 UUID (22 characters, URL-safe)",
            self.0
        )
    }
}

impl std::error::Error for ParseUuidError {}

macro_rules! identity {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl FromStr for $name {
            type Err = ParseUuidError;

            fn from_str(text: &str) -> Result<Self, ParseUuidError> {
                text.parse().map(Self)
            }
        }
    };
}

identity!(
    /// Names a topic for ever: a topic deleted and created again has another one (KIP-516).
    TopicId
);
identity!(
    /// Names a log directory for ever: a wiped disk has another one (KIP-858).
    DirectoryId
);
identity!(
    /// Names one run of a broker process.
    Incarnation
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_url_safe_base64() {
        assert_eq!(Uuid::ZERO.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(Uuid::ONE.to_string(), "AAAAAAAAAAAAAAAAAAAAAQ");
        assert_eq!(Uuid([0xff; 16]).to_string(), "_____________________w");
    }

    #[test]
    fn text_and_bytes_agree_both_ways() {
        for seed in 0u128..200 {
            let id =
                Uuid((seed.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)).to_be_bytes());
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        assert!("short".parse::<Uuid>().is_err());
        assert!("AAAAAAAAAAAAAAAAAAAA=A".parse::<Uuid>().is_err());
    }
}
