//! The store: records, history and small values, in memory, with a disk that follows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::mirror::Mirror;
use crate::row;
use crate::writer::{Follow, Settled, Shared};
use crate::{Accepted, NewAccepted, Record, RecordKey, StateError, guard};

/// A flush waits so long; a disk that needs longer is reported.
const FLUSH_WAIT_MAX: Duration = Duration::from_secs(5);
/// Reading a text of some MiB takes milliseconds.
const READ_WAIT_MAX: Duration = Duration::from_secs(5);

/// Whether what the store holds survives this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Durability {
    /// The disk follows, some tens of milliseconds behind; [`Store::flush`] waits for it.
    Durable,
    /// The store works from memory, for this reason. It tries the disk again by itself.
    NotDurable(String),
}

/// Records, history and small values.
///
/// Reading and writing happen in memory and neither fail nor wait. A background thread writes changes to disk in
/// the order of time, a burst at once. Dropping the store writes what is left, but waits less than a second for that; [`Store::flush`] waits
/// longer.
pub struct Store {
    shared: Arc<Shared>,
}

/// A store that never touches a disk, and says so.
#[must_use]
pub fn memory_store() -> Store {
    Store::start(Mirror::default(), Follow::Memory { reason: "kept in memory only".to_owned(), reopen: None })
}

impl Store {
    pub(crate) fn start(mirror: Mirror, follow: Follow) -> Self {
        Self { shared: Shared::start(mirror, follow) }
    }

    /// All records.
    #[must_use]
    pub fn records(&self) -> BTreeMap<RecordKey, Record> {
        self.shared.lock().mirror.records()
    }

    /// The record of one resource.
    #[must_use]
    pub fn record(&self, key: &RecordKey) -> Option<Record> {
        self.shared.lock().mirror.record(key)
    }

    /// Writes records, and deletes those that are `None`.
    pub fn apply(&self, changes: &[(RecordKey, Option<Record>)]) {
        let rows: Vec<_> = changes
            .iter()
            .map(|(key, record)| {
                let key = row::record_key(key);
                let value = record.as_ref().map(|record| record.encode(&key));
                (key, value)
            })
            .collect();
        let mut state = self.shared.lock();
        let changes = state.mirror.put(rows.into_iter());
        self.shared.send(&mut state, changes);
    }

    /// Adds a file to the history and returns its number. A file with the digest of the newest one adds nothing
    /// and gets the number of that.
    pub fn accept(&self, accepted: NewAccepted) -> u64 {
        let mut state = self.shared.lock();
        let (number, changes) = state.mirror.accept(accepted);
        self.shared.send(&mut state, changes);
        number
    }

    /// The history, newest first.
    #[must_use]
    pub fn history(&self) -> Vec<Accepted> {
        self.shared.lock().mirror.history.entries.values().rev().cloned().collect()
    }

    /// The text of an accepted file; `None` where the history has no such number or the text is lost.
    ///
    /// # Errors
    ///
    /// When the disk fails or does not answer within seconds.
    pub fn accepted_text(&self, number: u64) -> Result<Option<String>, StateError> {
        let state = self.shared.lock();
        let Some(digest) = state.mirror.history.entries.get(&number).map(|entry| entry.sha256) else {
            return Ok(None);
        };
        if let Some(text) = state.mirror.texts.get(&digest) {
            return Ok(Some(text.to_string()));
        }
        let Some(disk) = state.disk.clone() else { return Ok(None) };
        drop(state);
        let read = guard::within(READ_WAIT_MAX, move || {
            let key = row::text_key(&digest);
            let value = disk.read(&key)?;
            let payload = value.as_ref().and_then(|value| row::unseal(&key, value));
            let text = payload.and_then(|payload| str::from_utf8(payload).ok());
            Ok(text.filter(|text| crate::Digest::of(text) == digest).map(str::to_owned))
        });
        match read {
            Ok(Ok(text)) => Ok(text),
            Ok(Err(reason)) => Err(StateError::NotDurable { reason }),
            Err(guard::Failure::TimedOut) => {
                Err(StateError::Slow { what: "read a text", limit: READ_WAIT_MAX })
            }
            Err(failure) => Err(StateError::NotDurable { reason: failure.to_string() }),
        }
    }

    /// A small value by name, such as whether netd is paused.
    #[must_use]
    pub fn meta_get(&self, name: &str) -> Option<String> {
        self.shared.lock().mirror.meta(name)
    }

    /// Sets a small value; `None` removes it.
    pub fn meta_set(&self, name: &str, value: Option<&str>) {
        let key = row::meta_key(name);
        let value = value.map(|value| row::seal(&key, value.as_bytes().to_vec()));
        let mut state = self.shared.lock();
        let changes = state.mirror.put(std::iter::once((key, value)));
        self.shared.send(&mut state, changes);
    }

    /// Waits until everything written so far is on disk, but only seconds.
    ///
    /// # Errors
    ///
    /// [`StateError::NotDurable`] when the disk does not follow, [`StateError::Slow`] when it has not got there yet.
    pub fn flush(&self) -> Result<(), StateError> {
        self.flush_within(FLUSH_WAIT_MAX)
    }

    /// As [`Store::flush`], with another limit; zero only hurries the disk.
    ///
    /// # Errors
    ///
    /// As for [`Store::flush`].
    pub fn flush_within(&self, limit: Duration) -> Result<(), StateError> {
        match self.shared.settle(limit) {
            Settled::Saved => Ok(()),
            Settled::NotDurable(reason) => Err(StateError::NotDurable { reason }),
            Settled::StillWriting => Err(StateError::Slow { what: "write the state", limit }),
        }
    }

    /// Whether the disk follows.
    #[must_use]
    pub fn durable(&self) -> Durability {
        self.shared.lock().not_durable().map_or(Durability::Durable, Durability::NotDurable)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("durable", &self.durable()).finish_non_exhaustive()
    }
}
