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
        let mut value = Vec::with_capacity(length.max(32));
        value.extend_from_slice(format!("{}:{}:", self.producer, self.sequence).as_bytes());
        let missing = length.saturating_sub(value.len());
        for letters in self.padding().take(missing.div_ceil(8)) {
            value.extend_from_slice(&letters);
        }
        value.truncate(value.len() - (8 - missing % 8) % 8);
        value
    }

    /// What follows the mark, eight letters at a time.
    fn padding(self) -> impl Iterator<Item = [u8; 8]> {
        let mut state = u64::from(self.producer) << 32 ^ self.sequence ^ 0x9e37_79b9_7f4a_7c15;
        std::iter::repeat_with(move || {
            // xorshift: cheap, and no two marks give the same padding.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes().map(|byte| b'a' + byte % 16)
        })
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
        let padding = parts.next().unwrap_or_default();
        let head = &text[..text.len() - padding.len()];
        let mut expected = padding.as_bytes().chunks(8).zip(mark.padding());
        let sound = expected.all(|(found, letters)| *found == letters[..found.len()])
            && head == format!("{}:{}:", mark.producer, mark.sequence);
        match sound {
            true => Ok(mark),
            false => Err(format!("a value changed on its way: {:.60}", text)),
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
