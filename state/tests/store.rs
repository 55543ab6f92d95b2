//! What goes into the state directory comes out again, in this process and in the next.
#![allow(clippy::unwrap_used, reason = "tests")]

mod records;

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use netd_state::{
    Digest, Durability, LastGood, NewAccepted, Record, StateDir, StateError, Store, memory_store,
};
use records::{key, record};

fn accepted(text: &str) -> NewAccepted {
    NewAccepted { text: text.into(), sha256: Digest::of(text), at_unix_ms: 5, summary: "+1 route".into() }
}

fn last_good(number: u64, text: &str) -> LastGood {
    let source = "/etc/netd/desired.toml".into();
    let sha256 = Digest::of(text);
    LastGood {
        text: text.into(),
        sha256,
        number,
        source,
        accepted_at_unix_ms: 7,
        is_unjudged: false,
        addresses: Default::default(),
    }
}

fn header_of(path: &Path) -> String {
    let text = std::fs::read_to_string(path.join("last-good.toml")).unwrap();
    text.lines().next().unwrap().to_owned()
}

fn open(path: &Path) -> Store {
    let opened = StateDir::open(path).unwrap().store();
    assert_eq!((opened.set_aside, opened.rows_dropped), (None, 0));
    assert_eq!(opened.store.durable(), Durability::Durable);
    opened.store
}

#[test]
fn records_come_back_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.apply(&[(key(1), Some(record(1))), (key(2), Some(record(1)))]);
    store.apply(&[(key(1), None), (key(2), Some(record(2)))]);
    drop(store);
    let records = open(dir.path()).records();
    assert_eq!(records.into_iter().collect::<Vec<_>>(), [(key(2), record(2))]);
}

#[test]
fn a_record_larger_than_a_page_comes_back_and_shrinks_again() {
    let dir = tempfile::tempdir().unwrap();
    let large = Record { spec: serde_json::json!("x".repeat(300_000)).to_string(), ..record(1) };
    for record in [large, record(2)] {
        open(dir.path()).apply(&[(key(1), Some(record.clone()))]);
        assert_eq!(open(dir.path()).records().remove(&key(1)), Some(record));
    }
}

#[test]
fn a_hundred_thousand_records_are_written_without_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let changes: Vec<_> = (0..100_000).map(|n| (key(n), Some(record(1)))).collect();
    let start = Instant::now();
    store.apply(&changes);
    let applied = start.elapsed();
    store.flush_within(Duration::from_secs(60)).unwrap();
    let flushed = start.elapsed();
    drop(store);
    let start = Instant::now();
    assert_eq!(open(dir.path()).records().len(), 100_000);
    println!("applied in {applied:?}, on disk after {flushed:?}, read again in {:?}", start.elapsed());
    assert!(applied < Duration::from_secs(2), "{applied:?}");
}

#[test]
fn the_history_is_newest_first_and_gives_its_texts() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let long = "# long\n".repeat(100_000);
    for text in ["version = 1", &long, "version = 1"] {
        store.accept(accepted(text));
    }
    let check = |store: &Store| {
        let numbers: Vec<u64> = store.history().iter().map(|entry| entry.number).collect();
        assert_eq!(numbers, [3, 2, 1]);
        assert_eq!(store.accepted_text(2).unwrap(), Some(long.clone()));
        assert_eq!(store.accepted_text(3).unwrap().as_deref(), Some("version = 1"));
        assert_eq!(store.accepted_text(4).unwrap(), None);
    };
    check(&store);
    store.flush().unwrap();
    check(&store);
    drop(store);
    check(&open(dir.path()));
}

#[test]
fn the_newest_file_again_adds_nothing() {
    let store = memory_store();
    assert_eq!((store.accept(accepted("a")), store.accept(accepted("a"))), (1, 1));
    assert_eq!((store.accept(accepted("b")), store.accept(accepted("a"))), (2, 3));
}

#[test]
fn only_the_last_hundred_files_stay() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for number in 1..=130 {
        assert_eq!(store.accept(accepted(&format!("# {number}"))), number);
    }
    drop(store);
    let store = open(dir.path());
    assert_eq!((store.history().len(), store.history().last().map(|entry| entry.number)), (100, Some(31)));
    assert_eq!(store.accepted_text(30).unwrap(), None);
    assert_eq!(store.accepted_text(31).unwrap().as_deref(), Some("# 31"));
}

#[test]
fn small_values_come_back_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.meta_set("paused", Some("yes"));
    store.meta_set("plan", Some("abc"));
    store.meta_set("plan", None);
    drop(store);
    let store = open(dir.path());
    assert_eq!((store.meta_get("paused").as_deref(), store.meta_get("plan")), (Some("yes"), None));
}

#[test]
fn c28_the_last_good_file_survives_the_loss_of_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    assert_eq!(state.last_good().unwrap(), None);
    let good = last_good(41, "version = 1\n# \u{e9}\r\n");
    state.set_last_good(&good).unwrap();
    std::fs::remove_dir_all(dir.path().join("db")).unwrap_or_default();
    assert_eq!(state.last_good().unwrap(), Some(good.clone()));
    let store = state.store().store;
    assert_eq!(store.accepted_text(41).unwrap(), Some(good.text));
    assert_eq!(store.accept(accepted("next")), 42, "numbers only grow");
}

#[test]
fn whether_it_was_judged_is_in_the_last_good_file_and_an_older_one_that_does_not_say_was() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    let good = last_good(7, "version = 1\n");
    state.set_last_good(&good).unwrap();
    assert!(!header_of(dir.path()).contains("is_unjudged"));
    assert_eq!(state.last_good().unwrap(), Some(good.clone()));
    let unjudged = LastGood { is_unjudged: true, ..good };
    state.set_last_good(&unjudged).unwrap();
    assert_eq!(state.last_good().unwrap(), Some(unjudged));
}

#[test]
fn what_services_were_given_is_in_the_last_good_file_and_outlives_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    let given = [("web".to_owned(), ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()].into())];
    let good = LastGood { addresses: given.into(), ..last_good(7, "version = 1\n") };
    state.set_last_good(&good).unwrap();
    drop(state.store());
    std::fs::remove_dir_all(dir.path().join("db")).unwrap();
    assert_eq!(StateDir::open(dir.path()).unwrap().last_good().unwrap(), Some(good));
}

#[test]
fn what_is_no_file_is_not_in_the_way_of_the_last_good_file() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    for (number, name) in (1..).zip(["last-good.toml", "last-good.toml.new"]) {
        std::fs::remove_file(dir.path().join("last-good.toml")).unwrap_or_default();
        std::fs::create_dir_all(dir.path().join(name).join("full")).unwrap();
        state.set_last_good(&last_good(number, "a")).unwrap();
        assert_eq!(state.last_good().unwrap().map(|good| good.number), Some(number), "{name}");
    }
    let fifo = dir.path().join("last-good.toml.new");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
    state.set_last_good(&last_good(9, "a")).unwrap();
    assert_eq!(state.last_good().unwrap().map(|good| good.number), Some(9));
}

#[test]
fn s20_a_deleted_database_takes_only_the_cache_along() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    let store = open(dir.path());
    store.apply(&[(key(1), Some(record(1)))]);
    state.set_last_good(&last_good(store.accept(accepted("a")), "a")).unwrap();
    drop(store);
    std::fs::remove_dir_all(dir.path().join("db")).unwrap();
    let store = open(dir.path());
    assert_eq!(store.records().len(), 0);
    assert_eq!(store.accept(accepted("a")), 1, "the file in force keeps its number");
}

#[test]
fn s12_the_last_good_file_reads_as_toml_with_a_comment_before_it() {
    let dir = tempfile::tempdir().unwrap();
    StateDir::open(dir.path()).unwrap().set_last_good(&last_good(1, "version = 1\n")).unwrap();
    let text = std::fs::read_to_string(dir.path().join("last-good.toml")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(matches!(lines[..], [first, "version = 1"] if first.starts_with('#')), "{text}");
}

#[test]
fn p9_any_damage_to_the_last_good_file_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    state.set_last_good(&last_good(3, "version = 1\n")).unwrap();
    let path = dir.path().join("last-good.toml");
    let whole = std::fs::read(&path).unwrap();
    for length in 0..whole.len() {
        std::fs::write(&path, &whole[..length]).unwrap();
        assert!(matches!(state.last_good(), Err(StateError::Damaged { .. })), "cut to {length}");
        let mut flipped = whole.clone();
        flipped[length] ^= 1 << (length % 8);
        std::fs::write(&path, flipped).unwrap();
        assert!(matches!(state.last_good(), Err(StateError::Damaged { .. })), "flipped at {length}");
    }
    assert_eq!(open(dir.path()).history().len(), 0);
}

#[test]
fn others_can_read_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let state = StateDir::open(&path).unwrap();
    let _lock = state.lock().unwrap();
    state.set_last_good(&last_good(1, "a")).unwrap();
    let store = open(&path);
    store.accept(accepted("a"));
    store.flush().unwrap();
    assert_eq!(wider_than_owner(&path), Vec::<String>::new());
}

#[test]
fn a_directory_that_others_could_enter_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    StateDir::open(dir.path()).unwrap();
    assert_eq!(dir.path().metadata().unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_directory_of_somebody_else_is_refused_and_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(dir.path().join("letter"), "dear").unwrap();
    assert!(matches!(StateDir::open(dir.path()), Err(StateError::Unusable { .. })));
    assert_eq!(dir.path().metadata().unwrap().permissions().mode() & 0o777, 0o755);
}

#[test]
fn opening_for_reading_makes_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let state = StateDir::open_existing(dir.path()).unwrap().unwrap();
    assert_eq!(state.last_good().unwrap(), None);
    assert_eq!(dir.path().metadata().unwrap().permissions().mode() & 0o777, 0o755);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    assert!(StateDir::open_existing(&dir.path().join("none")).unwrap().is_none());
    assert!(!dir.path().join("none").exists());
}

#[test]
fn only_what_is_netds_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    for letter in [true, false] {
        let state = StateDir::open(&path).unwrap();
        let lock = state.lock().unwrap();
        state.set_last_good(&last_good(1, "a")).unwrap();
        drop(open(&path));
        if letter {
            std::fs::write(path.join("letter"), "dear").unwrap();
        }
        assert_eq!(state.remove().unwrap(), !letter);
        drop(lock);
        if letter {
            let left: Vec<_> = std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().file_name()).collect();
            assert_eq!(left, ["letter"]);
            std::fs::remove_file(path.join("letter")).unwrap();
        }
    }
    assert!(!path.exists());
}

#[test]
fn what_root_writes_into_the_directory_of_another_user_is_that_users() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let base = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(base.path(), Some(SOMEBODY.0), Some(SOMEBODY.1)).unwrap();
    // Made by root, and the daemon's all the same.
    let path = base.path().join("state");
    for round in 1..=2 {
        let state = StateDir::open(&path).unwrap();
        let lock = state.lock().unwrap();
        let store = open(&path);
        let text = format!("# {round}");
        assert_eq!(store.accept(accepted(&text)), round);
        store.apply(&[(key(1), Some(record(round)))]);
        state.set_last_good(&last_good(round, &text)).unwrap();
        store.flush().unwrap();
        assert_eq!(store.accepted_text(1).unwrap().as_deref(), Some("# 1"));
        drop((store, lock));
        assert_all_somebodys(&path);
    }
    // A database that is no good goes the same way.
    std::fs::remove_dir_all(path.join("db")).unwrap();
    std::fs::write(path.join("db"), "no").unwrap();
    std::os::unix::fs::chown(path.join("db"), Some(SOMEBODY.0), Some(SOMEBODY.1)).unwrap();
    assert!(StateDir::open(&path).unwrap().store().set_aside.is_some());
    assert_all_somebodys(&path);
    assert!(StateDir::open(&path).unwrap().remove().unwrap());
}

/// A user that needs no entry anywhere.
const SOMEBODY: (u32, u32) = (54321, 54322);

fn assert_all_somebodys(path: &Path) {
    let found = path.symlink_metadata().unwrap();
    assert_eq!((found.uid(), found.gid()), SOMEBODY, "{}", path.display());
    if found.is_dir() {
        std::fs::read_dir(path).unwrap().for_each(|entry| assert_all_somebodys(&entry.unwrap().path()));
    }
}

#[test]
fn x18_root_is_not_led_out_of_the_directory_by_its_owner() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let base = tempfile::tempdir().unwrap();
    let (path, secret) = (base.path().join("state"), base.path().join("secret"));
    std::fs::set_permissions(base.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::create_dir(&secret).unwrap();
    std::fs::write(secret.join("conf"), "untouched").unwrap();
    std::fs::create_dir(&path).unwrap();
    std::os::unix::fs::chown(&path, Some(SOMEBODY.0), Some(SOMEBODY.1)).unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink(&secret, path.join("db")).unwrap();
    std::os::unix::fs::symlink(secret.join("conf"), path.join("db.opening")).unwrap();
    let state = StateDir::open(&path).unwrap();
    drop(state.store());
    state.set_last_good(&last_good(1, "a")).unwrap();
    assert_eq!(std::fs::read_dir(&secret).unwrap().count(), 1);
    assert_eq!(std::fs::read_to_string(secret.join("conf")).unwrap(), "untouched");
    assert_eq!(secret.metadata().unwrap().uid(), 0);
}

#[test]
fn a_file_in_place_of_the_directory_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    assert!(matches!(StateDir::open(file.path()), Err(StateError::Unusable { .. })));
}

#[test]
fn a_store_in_memory_says_so() {
    let store = memory_store();
    store.apply(&[(key(1), Some(record(1)))]);
    assert_eq!(store.records().len(), 1);
    store.accept(accepted("a"));
    assert_eq!(store.accepted_text(1).unwrap().as_deref(), Some("a"));
    assert!(matches!(store.durable(), Durability::NotDurable(_)));
    assert!(matches!(store.flush(), Err(StateError::NotDurable { .. })));
}

fn wider_than_owner(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        if metadata.permissions().mode() & 0o077 != 0 {
            found.push(entry.path().display().to_string());
        }
        if metadata.is_dir() {
            found.extend(wider_than_owner(&entry.path()));
        }
    }
    found
}
