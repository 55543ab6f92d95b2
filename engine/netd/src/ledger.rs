//! What the engine remembers across restarts: the last good file, the history, the records. Never believed over the
//! kernel.

use crate::allocation::Held;
use netd_state::{Digest, Durability, LastGood, NewAccepted, Record, RecordKey, StateDir, StateError, Store};
use std::collections::BTreeMap;
use std::error::Error as _;
use std::sync::Arc;

/// The memory of an instance, on disk or not.
#[derive(Debug)]
pub struct Ledger {
    store: Arc<Store>,
    dir: Option<StateDir>,
    last_good: Option<LastGood>,
    trouble: Option<String>,
}

/// A file that is accepted.
#[derive(Clone, Copy, Debug)]
pub struct Acceptance<'a> {
    /// The file, whole.
    pub text: &'a str,
    /// Its digest.
    pub sha256: Digest,
    /// Where it was read from.
    pub source: &'a str,
    /// What it changes, for the history.
    pub summary: &'a str,
    /// Some of what it deletes was not known, and so not judged.
    pub is_unjudged: bool,
    /// What its services with a pool are given.
    pub addresses: &'a Held,
}

impl Ledger {
    /// Remembers below `dir`, whose lock the caller holds.
    #[must_use]
    pub fn on_disk(dir: StateDir) -> Self {
        let opened = dir.store();
        if let Some(aside) = &opened.set_aside {
            tracing::warn!(path = %aside.path.display(), why = %aside.why, "the database was set aside");
        }
        if opened.rows_dropped > 0 {
            tracing::warn!(rows = opened.rows_dropped, "damaged rows of the database were dropped");
        }
        Self::new(opened.store, dir)
    }

    /// Knows the last good file below `dir` and writes nothing there.
    #[must_use]
    pub fn read_only(dir: Option<&StateDir>) -> Self {
        let mut ledger = Self::in_memory();
        if let Some(dir) = dir {
            (ledger.last_good, ledger.trouble) = read_last_good(dir);
        }
        ledger
    }

    /// Forgets everything at its end.
    #[must_use]
    pub fn in_memory() -> Self {
        Self { store: Arc::new(netd_state::memory_store()), dir: None, last_good: None, trouble: None }
    }

    fn new(store: Store, dir: StateDir) -> Self {
        let (last_good, trouble) = read_last_good(&dir);
        Self { store: Arc::new(store), dir: Some(dir), last_good, trouble }
    }

    /// The last accepted file.
    #[must_use]
    pub fn last_good(&self) -> Option<&LastGood> {
        self.last_good.as_ref()
    }

    /// A file is accepted: in the history, and the last good one from now on, before anything of it is applied.
    pub fn accept(&mut self, accepted: Acceptance<'_>) -> u64 {
        let Acceptance { text, sha256, source, summary, is_unjudged, addresses } = accepted;
        let at_unix_ms = crate::clock::unix_ms();
        let (text, summary) = (text.to_owned(), summary.to_owned());
        let number = self.store.accept(NewAccepted { text: text.clone(), sha256, at_unix_ms, summary });
        let (source, accepted_at_unix_ms) = (source.to_owned(), at_unix_ms);
        let addresses = addresses.clone();
        self.keep(LastGood { text, sha256, number, source, accepted_at_unix_ms, is_unjudged, addresses });
        number
    }

    /// Everything that the accepted file deletes has been judged. Writes only what changes.
    pub fn judged(&mut self) {
        if let Some(last_good) = self.last_good.take_if(|last_good| last_good.is_unjudged) {
            self.keep(LastGood { is_unjudged: false, ..last_good });
        }
    }

    fn keep(&mut self, last_good: LastGood) {
        if let Some(dir) = &self.dir {
            self.trouble = failure(dir.set_last_good(&last_good));
            if let Some(why) = &self.trouble {
                tracing::error!(why, "the last good file is not on disk");
            }
        }
        self.last_good = Some(last_good);
    }

    /// Writes the last good file again if it could not be written before; costs nothing when it could.
    pub fn retry(&mut self) {
        let (Some(dir), Some(_), Some(_)) = (&self.dir, &self.last_good, &self.trouble) else { return };
        self.trouble = failure(dir.retry_last_good());
        if self.trouble.is_none() {
            tracing::info!("the last good file is on disk again");
        }
    }

    /// All records.
    #[must_use]
    pub fn records(&self) -> BTreeMap<RecordKey, Record> {
        self.store.records()
    }

    /// The record of one resource.
    #[must_use]
    pub fn record_of(&self, key: &RecordKey) -> Option<Record> {
        self.store.record(key)
    }

    /// Writes records; an empty list writes nothing.
    pub fn record(&self, changes: &[(RecordKey, Option<Record>)]) {
        if !changes.is_empty() {
            self.store.apply(changes);
        }
    }

    /// The store, for the history.
    #[must_use]
    pub fn store(&self) -> Arc<Store> {
        Arc::clone(&self.store)
    }

    /// Why what is remembered would not survive a restart.
    #[must_use]
    pub fn not_durable(&self) -> Option<String> {
        self.dir.as_ref()?;
        match self.store.durable() {
            Durability::Durable => self.trouble.clone(),
            Durability::NotDurable(why) => Some(why),
        }
    }
}

fn failure(written: Result<(), StateError>) -> Option<String> {
    let error = written.err()?;
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    Some(format!("{error}{cause}"))
}

fn read_last_good(dir: &StateDir) -> (Option<LastGood>, Option<String>) {
    match dir.last_good() {
        Ok(last_good) => (last_good, None),
        Err(error) => {
            tracing::error!(%error, "the last good file cannot be used");
            (None, Some(error.to_string()))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::fs;

    #[test]
    fn p6_a_last_good_file_that_could_not_be_written_is_written_later() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("state");
        let mut ledger = Ledger::on_disk(StateDir::open(&path).unwrap());
        accept(&mut ledger, "first");
        fs::rename(&path, root.path().join("away")).unwrap();
        accept(&mut ledger, "second");
        assert!(ledger.not_durable().is_some());
        ledger.retry();
        assert!(ledger.not_durable().is_some(), "the trouble is kept while it lasts");
        fs::rename(root.path().join("away"), &path).unwrap();
        ledger.retry();
        assert_eq!(ledger.trouble, None);
        assert_eq!(StateDir::open(&path).unwrap().last_good().unwrap().unwrap().text, "second");
    }

    #[test]
    fn p9_what_was_not_judged_yet_is_still_known_when_the_database_is_lost() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("state");
        let mut ledger = Ledger::on_disk(StateDir::open(&path).unwrap());
        let text = "first";
        let sha256 = Digest::of(text);
        ledger.accept(Acceptance {
            text,
            sha256,
            source: "",
            summary: "",
            is_unjudged: true,
            addresses: &Held::new(),
        });
        let reopened = |ledger: Ledger| {
            drop(ledger);
            fs::remove_dir_all(path.join("db")).unwrap();
            Ledger::on_disk(StateDir::open(&path).unwrap())
        };
        ledger = reopened(ledger);
        assert!(ledger.last_good().unwrap().is_unjudged);
        ledger.judged();
        let ledger = reopened(ledger);
        assert_eq!(ledger.last_good().map(|good| (good.number, good.is_unjudged)), Some((1, false)));
    }

    fn accept(ledger: &mut Ledger, text: &str) {
        let source = "/etc/netd/desired.toml";
        let (sha256, addresses) = (Digest::of(text), &Held::new());
        ledger.accept(Acceptance { text, sha256, source, summary: "", is_unjudged: false, addresses });
    }
}
