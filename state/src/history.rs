//! The history of accepted files, and which of them are kept.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::row::{self, Value};
use crate::{Digest, LastGood};

/// How many accepted files are kept; more than a person looks back, and few enough to list.
pub const HISTORY_MAX: usize = 100;
/// How many bytes their texts may take together, equal texts counted once: some of the largest files, or a
/// hundred usual ones. The newest text is kept whatever its size.
pub const HISTORY_BYTES_MAX: u64 = 64 << 20;

const FORMAT: u8 = 1;

/// A file that has just been accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAccepted {
    /// The file, whole.
    pub text: String,
    /// [`Digest::of`] the text.
    pub sha256: Digest,
    /// When it was accepted, in milliseconds of Unix time.
    pub at_unix_ms: u64,
    /// What it changes, in a line.
    pub summary: String,
}

/// One entry of the history; its text is read with [`crate::Store::accepted_text`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// Its number: it only grows, also over the loss of the database.
    pub number: u64,
    /// The digest of its text.
    pub sha256: Digest,
    /// When it was accepted, in milliseconds of Unix time.
    pub at_unix_ms: u64,
    /// What it changed, in a line.
    pub summary: String,
    /// The length of its text in bytes.
    pub text_bytes: u64,
}

/// The entries by number.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    pub(crate) entries: BTreeMap<u64, Accepted>,
    /// No smaller or equal number is given out.
    pub(crate) floor: u64,
}

impl History {
    pub(crate) fn newest(&self) -> Option<&Accepted> {
        self.entries.last_key_value().map(|(_, entry)| entry)
    }

    /// The number that the next accepted file gets.
    pub(crate) fn next_number(&self) -> u64 {
        self.newest().map_or(0, |entry| entry.number).max(self.floor).saturating_add(1)
    }

    /// Removes and returns the oldest entries, so that the limits hold.
    pub(crate) fn trim(&mut self) -> Vec<Accepted> {
        let mut removed = Vec::new();
        while self.entries.len() > 1
            && (self.entries.len() > HISTORY_MAX || self.text_bytes() > HISTORY_BYTES_MAX)
        {
            removed.extend(self.entries.pop_first().map(|(_, entry)| entry));
        }
        removed
    }

    pub(crate) fn digests(&self) -> BTreeSet<Digest> {
        self.entries.values().map(|entry| entry.sha256).collect()
    }

    fn text_bytes(&self) -> u64 {
        let texts: BTreeMap<_, _> =
            self.entries.values().map(|entry| (entry.sha256, entry.text_bytes)).collect();
        texts.values().sum()
    }
}

impl Accepted {
    pub(crate) fn restored(last_good: &LastGood) -> Self {
        Self {
            number: last_good.number,
            sha256: last_good.sha256,
            at_unix_ms: last_good.accepted_at_unix_ms,
            summary: "the last good file, after the loss of the database".to_owned(),
            text_bytes: last_good.text.len() as u64,
        }
    }

    pub(crate) fn encode(&self) -> Value {
        let mut bytes = vec![FORMAT];
        serde_json::to_writer(&mut bytes, self).expect("plain fields are JSON and a Vec takes all");
        row::seal(&row::history_key(self.number), bytes)
    }

    /// `None` for a damaged row, and for one whose number is not that of its key.
    pub(crate) fn decode(key: &[u8], value: &[u8]) -> Option<Self> {
        let (format, json) = row::unseal(key, value)?.split_first()?;
        let entry: Self = (*format == FORMAT).then(|| serde_json::from_slice(json).ok())??;
        (*row::history_key(entry.number) == *key).then_some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: u64, text: &str, text_bytes: u64) -> (u64, Accepted) {
        let sha256 = Digest::of(text);
        (number, Accepted { number, sha256, at_unix_ms: 1, summary: String::new(), text_bytes })
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many() {
        let mut history = History::default();
        history.entries.extend((1..=HISTORY_MAX as u64 + 3).map(|n| entry(n, &n.to_string(), 1)));
        let removed: Vec<u64> = history.trim().iter().map(|entry| entry.number).collect();
        assert_eq!(removed, [1, 2, 3]);
    }

    #[test]
    fn the_oldest_go_when_their_texts_are_too_long() {
        let mut history = History::default();
        history.entries.extend((1..=3).map(|n| entry(n, &n.to_string(), HISTORY_BYTES_MAX / 2)));
        assert_eq!(history.trim().len(), 1);
    }

    #[test]
    fn equal_texts_count_once() {
        let mut history = History::default();
        history.entries.extend((1..=9).map(|n| entry(n, "same", HISTORY_BYTES_MAX / 2)));
        assert_eq!(history.trim(), []);
    }

    #[test]
    fn the_newest_stays_whatever_its_size() {
        let mut history = History::default();
        history.entries.extend([entry(1, "a", 1), entry(2, "b", HISTORY_BYTES_MAX * 2)]);
        history.trim();
        assert_eq!(history.entries.into_keys().collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn numbers_start_above_the_floor() {
        let history = History { floor: 41, ..History::default() };
        assert_eq!(history.next_number(), 42);
    }
}
