//! A damaged database is opened or set aside, and never gives out anything that was not written.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

use netd_state::{Digest, Durability, LastGood, NewAccepted, Opened, Record, RecordKey, StateDir, Store};

const RECORDS: u64 = 1500;
const FILES: u64 = 12;
/// Of damaged copies in a usual run; `NETD_LONG=1` makes it a long one.
const CASES: u64 = 200;
const CASES_LONG: u64 = 10_000;

#[test]
fn p9_damage_anywhere_is_survived_and_yields_no_wrong_data() {
    let dir = tempfile::tempdir().unwrap();
    let original = dir.path().join("original");
    build(&original);
    let (mut opened_whole, mut set_aside, mut rows_dropped) = (0, 0, 0);
    let cases = if std::env::var_os("NETD_LONG").is_some() { CASES_LONG } else { CASES };
    for seed in 1..=cases {
        let copy = dir.path().join("copy");
        copy_dir(&original, &copy);
        let what = mangle(&copy.join("db"), seed);
        let opened = StateDir::open(&copy).unwrap().store();
        assert_eq!(opened.store.durable(), Durability::Durable, "case {seed}: {what}");
        check(&opened.store, &format!("case {seed}: {what}"));
        let fresh = RecordKey { kind: "route".into(), key: "after".into() };
        opened.store.apply(&[(fresh.clone(), Some(record("after", 1)))]);
        let flushed = opened.store.flush();
        match (&opened.set_aside, opened.rows_dropped) {
            (Some(aside), _) => assert!(aside.path.exists(), "case {seed}: {what}"),
            (None, 0) => opened_whole += 1,
            _ => {}
        }
        set_aside += u64::from(opened.set_aside.is_some());
        rows_dropped += opened.rows_dropped;
        let was_set_aside = opened.set_aside.is_some();
        drop(opened);
        // Damage may also show only at the first write; then memory goes on, and the next start sees to it.
        if flushed.is_ok() {
            let again = StateDir::open(&copy).unwrap().store();
            check(&again.store, &format!("case {seed}, opened again: {what}"));
            assert!(!was_set_aside || again.store.records().contains_key(&fresh), "case {seed}: {what}");
        } else {
            println!("case {seed}: {what}: not durable: {flushed:?}");
        }
        fs::remove_dir_all(&copy).unwrap();
    }
    println!("{cases} cases: {opened_whole} opened, {set_aside} set aside, {rows_dropped} rows dropped");
}

#[test]
fn p9_a_file_in_place_of_the_database_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("db"), "not a directory").unwrap();
    let opened = StateDir::open(dir.path()).unwrap().store();
    assert_eq!(opened.store.durable(), Durability::Durable);
    assert_eq!(fs::read_to_string(opened.set_aside.unwrap().path).unwrap(), "not a directory");
}

#[test]
fn p3_a_snapshot_that_was_being_written_is_no_obstacle() {
    let dir = tempfile::tempdir().unwrap();
    build(dir.path());
    fs::write(dir.path().join("db/snap.7FFFFFFFFFFFFFFF.generating"), "half").unwrap();
    let opened = StateDir::open(dir.path()).unwrap().store();
    assert_eq!(opened.set_aside, None);
    assert_eq!(opened.store.records().len() as u64, RECORDS);
}

#[test]
fn p9_only_the_three_youngest_are_kept_aside() {
    let dir = tempfile::tempdir().unwrap();
    let mut names = Vec::new();
    for _ in 0..5 {
        drop(StateDir::open(dir.path()).unwrap().store());
        fs::write(dir.path().join("db/conf"), "segment_size: what\nversion: 0.34\n0000").unwrap();
        let opened = StateDir::open(dir.path()).unwrap().store();
        names.push(opened.set_aside.unwrap().path);
    }
    let mut kept: Vec<PathBuf> =
        fs::read_dir(dir.path().join("quarantine")).unwrap().map(|entry| entry.unwrap().path()).collect();
    kept.sort();
    assert_eq!(kept, names.split_off(2));
}

#[test]
fn p9_a_database_that_kills_each_start_is_set_aside_unopened() {
    let dir = tempfile::tempdir().unwrap();
    build(dir.path());
    for (deaths, is_set_aside) in [(2, false), (3, true)] {
        fs::write(dir.path().join("db.opening"), format!("{deaths}\n")).unwrap();
        let opened = StateDir::open(dir.path()).unwrap().store();
        assert_eq!(opened.set_aside.is_some(), is_set_aside, "after {deaths}");
        assert!(!dir.path().join("db.opening").exists());
    }
}

#[test]
fn p10_a_database_of_a_newer_version_is_set_aside_whole() {
    let dir = tempfile::tempdir().unwrap();
    build(dir.path());
    let path = dir.path().join("db");
    let db = sled::open(&path).unwrap();
    db.insert("format", "2").unwrap();
    drop(db);
    let Opened { store, set_aside, .. } = StateDir::open(dir.path()).unwrap().store();
    let set_aside = set_aside.unwrap();
    assert_eq!(set_aside.why, "a newer netd wrote it: format 2, this one knows 1");
    assert!(set_aside.path.join("db").exists());
    assert_eq!((store.records().len(), store.durable()), (0, Durability::Durable));
    assert_eq!(store.history()[0].number, FILES, "the last good file is still in the history");
}

#[test]
fn p10_a_database_without_a_version_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let db = sled::open(dir.path().join("db")).unwrap();
    db.insert("something", "else").unwrap();
    drop(db);
    assert_eq!(
        StateDir::open(dir.path()).unwrap().store().set_aside.unwrap().why,
        "it does not say its format"
    );
}

fn record(key: &str, generation: u64) -> Record {
    Record {
        spec: serde_json::json!({ "key": key, "generation": generation, "fill": "x".repeat(100) })
            .to_string(),
        generation,
        status: "ready".into(),
        message: String::new(),
        since_unix_ms: generation,
    }
}

fn text(number: u64) -> String {
    format!("# file {number}\n").repeat(40 * number as usize * number as usize)
}

/// Several runs of netd, so that there are several segments and a snapshot.
fn build(path: &Path) {
    let state = StateDir::open(path).unwrap();
    for generation in 1..=3 {
        let store = state.store().store;
        let changes: Vec<_> = (0..RECORDS)
            .map(|n| {
                (
                    RecordKey { kind: "route".into(), key: n.to_string() },
                    Some(record(&n.to_string(), generation)),
                )
            })
            .collect();
        for changes in changes.chunks(100) {
            store.apply(changes);
            store.flush().unwrap();
        }
        for n in (generation - 1) * FILES / 3 + 1..=generation * FILES / 3 {
            let (text, summary) = (text(n), format!("file {n}"));
            let sha256 = Digest::of(&text);
            assert_eq!(store.accept(NewAccepted { text, sha256, at_unix_ms: n, summary }), n);
        }
    }
    let text = text(FILES);
    let sha256 = Digest::of(&text);
    let source = String::new();
    let (number, accepted_at_unix_ms) = (FILES, FILES);
    let last_good = LastGood {
        text,
        sha256,
        number,
        source,
        accepted_at_unix_ms,
        is_unjudged: false,
        addresses: Default::default(),
    };
    state.set_last_good(&last_good).unwrap();
}

fn check(store: &Store, case: &str) {
    for (key, found) in store.records() {
        assert_eq!(found, record(&key.key, found.generation), "{case}");
        assert!((1..=3).contains(&found.generation), "{case}");
    }
    let history = store.history();
    assert_eq!(history[0].number, FILES, "{case}");
    for entry in history {
        let found = store.accepted_text(entry.number).unwrap_or(None);
        assert!(found.is_none_or(|found| found == text(entry.number)), "{case}: text {}", entry.number);
    }
}

/// Damages one file of the database in a way that depends on `seed`, and says how.
fn mangle(db: &Path, seed: u64) -> String {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut files = Vec::new();
    list(db, &mut files);
    files.sort();
    // The log is the largest part; a choice by file alone would spend most cases elsewhere.
    let log = db.join("db");
    let path = if random.below(2) == 0 { &log } else { &files[random.below(files.len())] };
    let name = path.strip_prefix(db).unwrap().display();
    let mut bytes = fs::read(path).unwrap();
    let at = random.below(bytes.len().max(1));
    let what = match random.below(6) {
        0 => {
            fs::remove_file(path).unwrap();
            return format!("{name} deleted");
        }
        1 => {
            bytes.truncate(at);
            format!("{name} cut to {at}")
        }
        2 => {
            let end = bytes.len().min(at + 4096);
            bytes[at..end].fill(0);
            format!("{name} zero from {at} to {end}")
        }
        3 => {
            let end = bytes.len().min(at + 1 + random.below(64));
            bytes[at..end].iter_mut().for_each(|byte| *byte = random.below(256) as u8);
            format!("{name} noise from {at} to {end}")
        }
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
            format!("{name} bit flipped at {at}")
        }
    };
    fs::write(path, bytes).unwrap();
    what
}

fn list(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { list(&path, files) } else { files.push(path) }
    }
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Xorshift: the same cases in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}
