//! All that the store knows, in memory: what callers read, and what the disk is to follow.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::history::History;
use crate::row::{self, Changes, Key, Value};
use crate::{Accepted, Digest, LastGood, NewAccepted, Record, RecordKey};

/// What a database held when it was read: all rows but the texts, of which only the names are kept.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub(crate) rows: BTreeMap<Key, Value>,
    pub(crate) texts: BTreeSet<Digest>,
    /// Rows that could not be decoded.
    pub(crate) dropped: usize,
}

/// Records and small values as they lie on disk, and the history.
#[derive(Debug, Default)]
pub(crate) struct Mirror {
    rows: BTreeMap<Key, Value>,
    pub(crate) history: History,
    /// Texts that are not known to be on disk.
    pub(crate) texts: BTreeMap<Digest, Arc<str>>,
}

impl Mirror {
    /// Takes over what was read, without what does not decode, and the last good file where history lacks it.
    /// Returns with it the changes that bring the disk in line, and how many rows were dropped.
    pub(crate) fn load(read: &Rows, last_good: Option<&LastGood>) -> (Self, Changes, usize) {
        let mut mirror = Self::default();
        let mut dropped = read.dropped;
        for (key, value) in &read.rows {
            if mirror.take_in(key, value, &read.texts).is_none() {
                dropped += 1;
            }
        }
        if let Some(last_good) = last_good {
            mirror.history.floor = last_good.number;
            mirror.restore(last_good, &read.texts);
        }
        let changes = mirror.changes_from(read);
        (mirror, changes, dropped)
    }

    fn take_in(&mut self, key: &Key, value: &Value, texts: &BTreeSet<Digest>) -> Option<()> {
        if row::name_in(row::HISTORY, key).is_some() {
            let entry = Accepted::decode(key, value).filter(|entry| texts.contains(&entry.sha256))?;
            self.history.entries.insert(entry.number, entry);
        } else if row::name_in(row::RECORD, key).is_some() {
            row::parse_record_key(key).filter(|_| Record::is_sound(key, value))?;
            self.rows.insert(key.clone(), value.clone());
        } else {
            row::name_in(row::META, key).and_then(|_| str::from_utf8(row::unseal(key, value)?).ok())?;
            self.rows.insert(key.clone(), value.clone());
        }
        Some(())
    }

    /// The last good file outlives the database, so its place in the history does too. An entry of another text
    /// under its number was never in force: the last good file is written last.
    fn restore(&mut self, last_good: &LastGood, on_disk: &BTreeSet<Digest>) {
        let known = self.history.entries.get(&last_good.number);
        if last_good.number == 0 || known.is_some_and(|entry| entry.sha256 == last_good.sha256) {
            return;
        }
        self.history.entries.insert(last_good.number, Accepted::restored(last_good));
        if !on_disk.contains(&last_good.sha256) {
            self.texts.insert(last_good.sha256, last_good.text.as_str().into());
        }
        self.history.trim();
    }

    /// Adds the history and small values of a database that could not be read before; what is here wins.
    pub(crate) fn join(&mut self, older: Self) {
        for (number, entry) in older.history.entries {
            self.history.entries.entry(number).or_insert(entry);
        }
        for (key, value) in older.rows.into_iter().filter(|(key, _)| row::name_in(row::META, key).is_some()) {
            self.rows.entry(key).or_insert(value);
        }
        for (digest, text) in older.texts {
            self.texts.entry(digest).or_insert(text);
        }
        self.history.trim();
    }

    /// Forgets the entries whose text is gone with the database; their numbers are not given out again.
    pub(crate) fn forget_lost_texts(&mut self, on_disk: &BTreeSet<Digest>) {
        self.history.floor = self.history.next_number() - 1;
        let texts = &self.texts;
        self.history
            .entries
            .retain(|_, entry| on_disk.contains(&entry.sha256) || texts.contains_key(&entry.sha256));
    }

    /// What turns the database that was read into this.
    pub(crate) fn changes_from(&self, read: &Rows) -> Changes {
        let mut changes = Changes::new();
        let wanted =
            self.rows.iter().map(|(key, value)| (key.clone(), value.clone())).chain(self.history_rows());
        for (key, value) in wanted {
            if read.rows.get(&key) != Some(&value) {
                changes.insert(key, Some(value));
            }
        }
        let history = &self.history.entries;
        for key in read.rows.keys().filter(|key| {
            let entry = row::name_in(row::HISTORY, key)
                .map(|number| <[u8; 8]>::try_from(number).map(u64::from_be_bytes));
            match entry {
                Some(number) => !number.is_ok_and(|number| history.contains_key(&number)),
                None => !self.rows.contains_key(*key),
            }
        }) {
            changes.insert(key.clone(), None);
        }
        let digests = self.history.digests();
        for digest in read.texts.difference(&digests) {
            changes.insert(row::text_key(digest), None);
        }
        for (digest, text) in self.texts.iter().filter(|(digest, _)| digests.contains(digest)) {
            changes.insert(row::text_key(digest), Some(text_row(digest, text)));
        }
        changes
    }

    fn history_rows(&self) -> impl Iterator<Item = (Key, Value)> {
        self.history.entries.values().map(|entry| (row::history_key(entry.number), entry.encode()))
    }

    pub(crate) fn records(&self) -> BTreeMap<RecordKey, Record> {
        self.rows
            .range(Key::from([row::RECORD])..Key::from([row::RECORD + 1]))
            .filter_map(|(key, value)| Some((row::parse_record_key(key)?, Record::decode(key, value)?)))
            .collect()
    }

    pub(crate) fn record(&self, key: &RecordKey) -> Option<Record> {
        let key = row::record_key(key);
        Record::decode(&key, self.rows.get(&key)?)
    }

    /// Writes or deletes rows and returns those that differ from before.
    pub(crate) fn put(&mut self, rows: impl Iterator<Item = (Key, Option<Value>)>) -> Changes {
        let mut changes = Changes::new();
        for (key, value) in rows {
            let before = match value.clone() {
                Some(value) => self.rows.insert(key.clone(), value),
                None => self.rows.remove(&key),
            };
            if before != value {
                changes.insert(key, value);
            }
        }
        changes
    }

    pub(crate) fn meta(&self, name: &str) -> Option<String> {
        let key = row::meta_key(name);
        let payload = row::unseal(&key, self.rows.get(&key)?)?;
        str::from_utf8(payload).ok().map(str::to_owned)
    }

    /// Adds an accepted file and returns its number and the changed rows.
    pub(crate) fn accept(&mut self, accepted: NewAccepted) -> (u64, Changes) {
        let NewAccepted { text, sha256, at_unix_ms, summary } = accepted;
        if let Some(newest) = self.history.newest().filter(|newest| newest.sha256 == sha256) {
            return (newest.number, Changes::new());
        }
        let (before, number) = (self.history.digests(), self.history.next_number());
        let entry = Accepted { number, sha256, at_unix_ms, summary, text_bytes: text.len() as u64 };
        let mut changes = Changes::from([(row::history_key(number), Some(entry.encode()))]);
        self.history.entries.insert(number, entry);
        if !before.contains(&sha256) {
            changes.insert(row::text_key(&sha256), Some(text_row(&sha256, &text)));
            self.texts.insert(sha256, text.into());
        }
        for removed in self.history.trim() {
            changes.insert(row::history_key(removed.number), None);
        }
        for digest in before.difference(&self.history.digests()) {
            changes.insert(row::text_key(digest), None);
            self.texts.remove(digest);
        }
        (number, changes)
    }
}

fn text_row(digest: &Digest, text: &str) -> Value {
    row::seal(&row::text_key(digest), text.as_bytes().to_vec())
}
