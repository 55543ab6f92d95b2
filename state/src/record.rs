//! The record of one resource: what was last applied or seen, and how that went.

use crate::row::{self, Key, Value};

/// The format of a record's bytes; a row of another format is dropped, and filled again by the next pass.
const FORMAT: u8 = 1;

/// Which resource a record is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey {
    /// The kind, by its name in the list of kinds: `route`, `service`.
    pub kind: String,
    /// The key within the kind.
    pub key: String,
}

/// What was last applied to a resource or seen of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The canonical spec as JSON; never a private key or password, only the paths of their files. Text and not a
    /// tree: there can be 100,000 of them.
    pub spec: String,
    /// Counts the changes of the spec, from 1.
    pub generation: u64,
    /// The status in one word.
    pub status: String,
    /// The status in a sentence; empty when there is nothing to add.
    pub message: String,
    /// Since when the status has been so, in milliseconds of Unix time.
    pub since_unix_ms: u64,
}

impl Record {
    pub(crate) fn encode(&self, key: &Key) -> Value {
        let mut bytes = Vec::with_capacity(160);
        bytes.push(FORMAT);
        bytes.extend_from_slice(&self.generation.to_le_bytes());
        bytes.extend_from_slice(&self.since_unix_ms.to_le_bytes());
        for text in [&self.status, &self.message] {
            // A text of 4 GiB cannot come here: specs and messages are made from a file of at most some MiB.
            let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        bytes.extend_from_slice(self.spec.as_bytes());
        row::seal(key, bytes)
    }

    /// Whether the row is as it was written and of this format, which is far cheaper to see than to decode it.
    pub(crate) fn is_sound(key: &[u8], value: &[u8]) -> bool {
        row::unseal(key, value).is_some_and(|payload| payload.first() == Some(&FORMAT))
    }

    pub(crate) fn decode(key: &[u8], value: &[u8]) -> Option<Self> {
        let rest = row::unseal(key, value)?.strip_prefix(&[FORMAT])?;
        let (generation, rest) = rest.split_first_chunk::<8>()?;
        let (since, rest) = rest.split_first_chunk::<8>()?;
        let (status, rest) = split_text(rest)?;
        let (message, spec) = split_text(rest)?;
        Some(Self {
            spec: str::from_utf8(spec).ok()?.to_owned(),
            generation: u64::from_le_bytes(*generation),
            status,
            message,
            since_unix_ms: u64::from_le_bytes(*since),
        })
    }
}

fn split_text(bytes: &[u8]) -> Option<(String, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    Some((str::from_utf8(text).ok()?.to_owned(), rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_record_comes_back(generation: u64, since: u64, status in ".{0,20}", message in ".{0,99}", text in ".*") {
            let record = Record {
                spec: text,
                generation, status, message, since_unix_ms: since,
            };
            let key: Key = b"rkey".to_vec().into();
            prop_assert_eq!(Record::decode(&key, &record.encode(&key)), Some(record));
        }

        #[test]
        fn no_bytes_make_decoding_panic(bytes: Vec<u8>) {
            let sealed = row::seal(b"rkey", bytes);
            let _ = Record::decode(b"rkey", &sealed);
        }
    }
}
