//! The store over disks that are slow, fail, panic and come back.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::thread;

use super::*;
use crate::mirror::Rows;
use crate::row::{self, Key, Value};
use crate::{Digest, Durability, NewAccepted, Record, RecordKey, StateError, Store};

const SLOW: Duration = Duration::from_secs(1);

#[derive(Clone, Copy)]
enum Mood {
    Works,
    Fails,
    Panics,
    Slow,
}

struct FakeDisk {
    mood: Mutex<Mood>,
    rows: Mutex<BTreeMap<Key, Value>>,
}

impl FakeDisk {
    fn new(mood: Mood) -> Arc<Self> {
        Arc::new(Self { mood: Mutex::new(mood), rows: Mutex::default() })
    }

    fn rows(&self) -> Rows {
        let (texts, rows): (BTreeMap<_, _>, BTreeMap<_, _>) = self
            .rows
            .lock()
            .unwrap()
            .clone()
            .into_iter()
            .partition(|(key, _)| key.first() == Some(&row::TEXT));
        let texts = texts.keys().map(|key| Digest(key[1..].try_into().unwrap())).collect();
        Rows { rows, texts, dropped: 0 }
    }
}

impl Disk for FakeDisk {
    fn write(&self, changes: &Changes) -> Result<(), String> {
        let mood = *self.mood.lock().unwrap();
        match mood {
            Mood::Works => {}
            Mood::Fails => return Err("input/output error".into()),
            Mood::Panics => panic!("the page table is odd"),
            Mood::Slow => thread::sleep(SLOW),
        }
        let mut rows = self.rows.lock().unwrap();
        for (key, value) in changes {
            match value {
                Some(value) => rows.insert(key.clone(), value.clone()),
                None => rows.remove(key),
            };
        }
        Ok(())
    }

    fn read(&self, key: &Key) -> Result<Option<Value>, String> {
        Ok(self.rows.lock().unwrap().get(key).cloned())
    }
}

/// A store on `disk`; after a failure it tries `next` again, as soon as that works.
fn store(disk: &Arc<FakeDisk>, next: Option<Arc<FakeDisk>>) -> Store {
    let reopen: Reopen = Box::new(move || match &next {
        Some(next) => Ok(Ready { disk: next.clone(), rows: next.rows(), set_aside: None }),
        None => Err("still no disk".into()),
    });
    let (mirror, changes, _) = Mirror::load(&disk.rows(), None);
    Store::start(mirror, Follow::Disk { disk: disk.clone(), changes, reopen })
}

fn key(key: &str) -> RecordKey {
    RecordKey { kind: "route".into(), key: key.into() }
}

fn put(store: &Store, name: &str, generation: u64) {
    let record = Record {
        spec: String::from("null"),
        generation,
        status: "ready".into(),
        message: String::new(),
        since_unix_ms: 0,
    };
    store.apply(&[(key(name), Some(record))]);
}

fn accept(store: &Store, text: &str) -> u64 {
    let sha256 = Digest::of(text);
    store.accept(NewAccepted { text: text.into(), sha256, at_unix_ms: 0, summary: String::new() })
}

fn wait_until_durable(store: &Store) {
    let start = Instant::now();
    while store.durable() != Durability::Durable {
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", store.durable());
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn p26_a_slow_disk_does_not_hold_up_the_caller() {
    let disk = FakeDisk::new(Mood::Slow);
    let store = store(&disk, None);
    let start = Instant::now();
    for generation in 0..100 {
        put(&store, "a", generation);
        accept(&store, "text");
        thread::sleep(Duration::from_millis(1));
    }
    let asked = store.flush_within(Duration::from_millis(10));
    assert!(matches!(asked, Err(StateError::Slow { .. })), "{asked:?}");
    assert!(start.elapsed() < SLOW / 2, "{:?}", start.elapsed());
    store.flush().unwrap();
    assert_eq!(Mirror::load(&disk.rows(), None).0.records()[&key("a")].generation, 99);
}

#[test]
fn p26_a_stalled_disk_is_not_called_durable() {
    let store = store(&FakeDisk::new(Mood::Slow), None);
    put(&store, "a", 1);
    let _ = store.flush_within(STALL_MAX * 2);
    assert!(matches!(store.durable(), Durability::NotDurable(why) if why.contains("has not ended")));
    wait_until_durable(&store);
}

#[test]
fn p8_a_failed_write_is_never_called_durable_and_the_work_goes_on() {
    for mood in [Mood::Fails, Mood::Panics] {
        let store = store(&FakeDisk::new(mood), None);
        put(&store, "a", 1);
        assert!(matches!(store.flush(), Err(StateError::NotDurable { .. })));
        put(&store, "a", 2);
        assert_eq!(accept(&store, "text"), 1);
        assert!(matches!(store.durable(), Durability::NotDurable(_)));
        assert!(matches!(store.flush(), Err(StateError::NotDurable { .. })));
        assert_eq!(store.records()[&key("a")].generation, 2);
        assert_eq!(store.accepted_text(1).unwrap().as_deref(), Some("text"));
    }
}

#[test]
fn p8_a_disk_that_comes_back_catches_up() {
    let disk = FakeDisk::new(Mood::Works);
    let store = store(&disk, Some(disk.clone()));
    put(&store, "stays", 1);
    put(&store, "goes", 1);
    accept(&store, "first");
    store.flush().unwrap();

    *disk.mood.lock().unwrap() = Mood::Fails;
    put(&store, "stays", 2);
    assert!(store.flush().is_err());
    store.apply(&[(key("goes"), None)]);
    put(&store, "comes", 1);
    accept(&store, "second");
    *disk.mood.lock().unwrap() = Mood::Works;
    wait_until_durable(&store);

    let (on_disk, missing, dropped) = Mirror::load(&disk.rows(), None);
    assert_eq!((on_disk.records(), missing.len(), dropped), (store.records(), 0, 0));
    assert_eq!(on_disk.history.entries.keys().collect::<Vec<_>>(), [&1, &2]);
    assert_eq!(store.accepted_text(1).unwrap().as_deref(), Some("first"));
    assert_eq!(store.accepted_text(2).unwrap().as_deref(), Some("second"));
}

#[test]
fn p8_changes_made_while_the_disk_catches_up_are_not_forgotten() {
    let next = FakeDisk::new(Mood::Slow);
    let store = store(&FakeDisk::new(Mood::Fails), Some(next.clone()));
    put(&store, "a", 1);
    assert!(store.flush().is_err());
    thread::sleep(SLOW / 2);
    put(&store, "a", 2);
    wait_until_durable(&store);
    store.flush().unwrap();
    assert_eq!(Mirror::load(&next.rows(), None).0.records()[&key("a")].generation, 2);
}

#[test]
fn p8_a_new_database_after_the_loss_of_the_old_does_not_reuse_numbers() {
    let (disk, next) = (FakeDisk::new(Mood::Works), FakeDisk::new(Mood::Works));
    let store = store(&disk, Some(next));
    assert_eq!((accept(&store, "first"), accept(&store, "second")), (1, 2));
    store.flush().unwrap();
    *disk.mood.lock().unwrap() = Mood::Fails;
    put(&store, "a", 1);
    assert!(store.flush().is_err());
    wait_until_durable(&store);
    assert_eq!(store.history(), [], "their texts went with the old database");
    assert_eq!(accept(&store, "third"), 3);
}

#[test]
fn p6_a_database_that_could_not_be_read_at_first_is_joined_later() {
    let old = FakeDisk::new(Mood::Works);
    let before = store(&old, None);
    assert_eq!((accept(&before, "first"), accept(&before, "second")), (1, 2));
    before.meta_set("paused", Some("yes"));
    put(&before, "stale", 1);
    drop(before);

    let last_good = crate::LastGood {
        text: "second".into(),
        sha256: Digest::of("second"),
        number: 2,
        source: String::new(),
        accepted_at_unix_ms: 0,
        is_unjudged: false,
        addresses: Default::default(),
    };
    let ready = old.clone();
    let reopen: Reopen =
        Box::new(move || Ok(Ready { disk: ready.clone(), rows: ready.rows(), set_aside: None }));
    let mirror = Mirror::load(&Rows::default(), Some(&last_good)).0;
    let store =
        Store::start(mirror, Follow::Memory { reason: "the disk is full".into(), reopen: Some(reopen) });
    put(&store, "new", 1);
    assert_eq!(accept(&store, "third"), 3);
    wait_until_durable(&store);
    assert_eq!(store.history().iter().map(|entry| entry.number).collect::<Vec<_>>(), [3, 2, 1]);
    assert_eq!(store.accepted_text(1).unwrap().as_deref(), Some("first"));
    assert_eq!(store.meta_get("paused").as_deref(), Some("yes"));
    assert_eq!(store.records().into_keys().collect::<Vec<_>>(), [key("new")]);
}
