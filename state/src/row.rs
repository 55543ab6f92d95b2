//! The rows of the database: their keys, and the checksum that ties a value to its key.

use std::collections::BTreeMap;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use crate::{Digest, RecordKey};

/// The key of a row: one letter for its table, then the name within the table.
pub(crate) type Key = Box<[u8]>;
/// A payload with its checksum, as it lies on disk.
pub(crate) type Value = Arc<[u8]>;
/// Rows to write; `None` deletes the row.
pub(crate) type Changes = BTreeMap<Key, Option<Value>>;

/// Sorts before the history: rows are written in order, so an entry on disk has its text there.
pub(crate) const TEXT: u8 = b'b';
pub(crate) const HISTORY: u8 = b'h';
pub(crate) const META: u8 = b'm';
pub(crate) const RECORD: u8 = b'r';

/// Bytes of the checksum at the end of each value.
const CHECKSUM_BYTES: usize = 8;

pub(crate) fn history_key(number: u64) -> Key {
    key(HISTORY, &[&number.to_be_bytes()])
}

pub(crate) fn meta_key(name: &str) -> Key {
    key(META, &[name.as_bytes()])
}

pub(crate) fn text_key(digest: &Digest) -> Key {
    key(TEXT, &[&digest.0])
}

/// The kind's length comes first, so that no kind and key together look like another pair.
pub(crate) fn record_key(record: &RecordKey) -> Key {
    let kind_bytes = (record.kind.len() as u64).to_be_bytes();
    key(RECORD, &[&kind_bytes[4..], record.kind.as_bytes(), record.key.as_bytes()])
}

pub(crate) fn parse_record_key(key: &[u8]) -> Option<RecordKey> {
    let (kind_bytes, rest) = key.strip_prefix(&[RECORD])?.split_first_chunk::<4>()?;
    let (kind, name) = rest.split_at_checked(u32::from_be_bytes(*kind_bytes) as usize)?;
    Some(RecordKey {
        kind: str::from_utf8(kind).ok()?.to_owned(),
        key: str::from_utf8(name).ok()?.to_owned(),
    })
}

/// The name within the table, when `key` belongs to `table`.
pub(crate) fn name_in(table: u8, key: &[u8]) -> Option<&[u8]> {
    key.strip_prefix(&[table])
}

/// Adds the checksum over key and payload, so that a value found under another key is refused too.
pub(crate) fn seal(key: &[u8], mut payload: Vec<u8>) -> Value {
    let sum = checksum(key, &payload);
    payload.extend_from_slice(&sum);
    payload.into()
}

/// The payload, when the checksum fits.
pub(crate) fn unseal<'a>(key: &[u8], value: &'a [u8]) -> Option<&'a [u8]> {
    let (payload, sum) = value.split_last_chunk::<CHECKSUM_BYTES>()?;
    (checksum(key, payload) == *sum).then_some(payload)
}

fn checksum(key: &[u8], payload: &[u8]) -> [u8; CHECKSUM_BYTES] {
    (xxh3_64(payload) ^ xxh3_64(key).rotate_left(1)).to_le_bytes()
}

fn key(table: u8, parts: &[&[u8]]) -> Key {
    let mut bytes = vec![table];
    for part in parts {
        bytes.extend_from_slice(part);
    }
    bytes.into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn kind_and_key_cannot_run_together() {
        let of = |kind: &str, key: &str| record_key(&RecordKey { kind: kind.into(), key: key.into() });
        assert_ne!(of("route", "s/1"), of("routes", "/1"));
    }

    #[test]
    fn a_record_key_comes_back() {
        let key = RecordKey { kind: "service".into(), key: "192.0.2.1:80/tcp".into() };
        assert_eq!(parse_record_key(&record_key(&key)).unwrap(), key);
    }

    #[test]
    fn a_value_under_another_key_is_refused() {
        let value = seal(b"ma", b"payload".to_vec());
        assert_eq!(unseal(b"ma", &value), Some(&b"payload"[..]));
        assert_eq!(unseal(b"mb", &value), None);
    }

    #[test]
    fn every_flipped_bit_of_a_value_is_noticed() {
        let value = seal(b"ma", b"payload".to_vec());
        for bit in 0..value.len() * 8 {
            let mut bad = value.to_vec();
            *bad.get_mut(bit / 8).unwrap() ^= 1 << (bit % 8);
            assert_eq!(unseal(b"ma", &bad), None, "bit {bit}");
        }
    }
}
