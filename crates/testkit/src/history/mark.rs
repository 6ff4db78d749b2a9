//! What makes one record known among all others.

/// Which producer sent a record, and as its how-manyeth to that partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark {
    /// The producer.
    pub producer: u32,
    /// Counts up by one with each record of that producer to one partition.
    pub sequence: u64,
}

impl Mark {
    /// A value of `length` bytes (a few more if the mark needs them) that holds the mark, and
    /// whose every byte follows from it.
    pub fn value(self, length: usize) -> Vec<u8> {
        let mut value = format!("{}:{}:", self.producer, self.sequence).into_bytes();
        let mut state = u64::from(self.producer) << 32 ^ self.sequence ^ 0x9e37_79b9_7f4a_7c15;
        while value.len() < length {
            // xorshift: cheap, and no two marks give the same padding.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            value.push(b'a' + (state % 26) as u8);
        }
        value
    }

    /// Reads a value back; an error when any of its bytes is not what the mark demands.
    pub fn of_value(value: &[u8]) -> Result<Mark, String> {
        let text = std::str::from_utf8(value).map_err(|_| "a value that is no text".to_owned())?;
        let mut parts = text.splitn(3, ':');
        let mut number = || parts.next().and_then(|part| part.parse::<u64>().ok());
        let (Some(producer), Some(sequence)) = (number(), number()) else {
            return Err(format!("a value without a mark: {:.60}", text));
        };
        let mark = Mark {
            producer: producer as u32,
            sequence,
        };
        if mark.value(value.len()) == value {
            Ok(mark)
        } else {
            Err(format!("a value changed on its way: {:.60}", text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_gives_its_mark_back() {
        let mark = Mark {
            producer: 7,
            sequence: 1234,
        };
        assert_eq!(Mark::of_value(&mark.value(100)), Ok(mark));
        assert_eq!(Mark::of_value(&mark.value(0)), Ok(mark));
    }

    #[test]
    fn a_changed_byte_is_noticed() {
        let mut value = Mark {
            producer: 7,
            sequence: 1234,
        }
        .value(100);
        value[60] ^= 1;
        assert!(Mark::of_value(&value).is_err());
        assert!(
            Mark::of_value(&value[..50]).is_err()
                || value[..50] == Mark::of_value(&value[..50]).unwrap().value(50)
        );
    }
}
