//! A full or read-only disk takes durability away, and nothing else.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use netd_state::{Digest, Durability, LastGood, NewAccepted, Record, RecordKey, StateDir, StateError, Store};

/// Where the child finds its small disk; without it the children's tests do nothing.
const CHILD_DISK: &str = "NETD_STATE_CHILD_DISK";

#[test]
fn p6_a_full_disk_leaves_the_store_working_from_memory() {
    in_a_small_disk("child_fills_the_disk");
}

#[test]
fn p6_a_failure_on_a_full_disk_is_not_put_down_to_the_database() {
    in_a_small_disk("child_with_a_database_that_fails_on_a_full_disk");
}

#[test]
fn p8_a_read_only_disk_leaves_the_store_working_from_memory() {
    in_a_small_disk("child_on_a_read_only_disk");
}

/// Runs one of the children below in its own mount namespace, with a tmpfs that ends with it.
fn in_a_small_disk(child: &str) {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    let output = command
        .args(["--mount", "sh", "-ec", "mount -t tmpfs -o size=4m tmpfs \"$0\"; exec \"$@\""])
        .arg(dir.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", child, "--nocapture"])
        .env(CHILD_DISK, dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("1 passed"), "{said}");
}

/// Not a test of its own: it runs in the small disk.
#[test]
fn child_fills_the_disk() {
    let Some(disk) = std::env::var_os(CHILD_DISK) else { return };
    let (disk, path) = (Path::new(&disk), Path::new(&disk).join("state"));
    let state = StateDir::open(&path).unwrap();
    let store = state.store().store;
    put(&store, "before", 1);
    accept(&state, &store, "first").unwrap();
    store.flush().unwrap();

    fill(disk);
    let failed = (0..4000).find_map(|n| {
        put(&store, &n.to_string(), n);
        if n % 100 == 0 { store.flush().err() } else { None }
    });
    assert!(matches!(failed, Some(StateError::NotDurable { .. })), "{failed:?}");
    assert!(matches!(store.durable(), Durability::NotDurable(_)));
    put(&store, "during", 7);
    assert_eq!(store.records()[&key("during")].generation, 7);
    let written = accept(&state, &store, &"second\n".repeat(100_000));
    assert!(matches!(written, Err(StateError::Io { .. })), "{written:?}");
    assert_eq!(state.last_good().unwrap().unwrap().text, "first", "the old one is still whole");
    assert!(store.accepted_text(2).unwrap().is_some());
    drop(store);

    let opened = state.store();
    assert_eq!(opened.set_aside, None, "a full disk says nothing against the database");
    assert!(matches!(opened.store.durable(), Durability::NotDurable(_)), "{:?}", opened.store);
    put(&opened.store, "on a full disk", 1);
    assert_eq!(opened.store.history()[0].number, 1);
    drop(opened);

    fs::remove_file(disk.join("filler")).unwrap();
    let opened = state.store();
    assert_eq!(opened.store.durable(), Durability::Durable);
    put(&opened.store, "after", 1);
    opened.store.flush().unwrap();
    assert_eq!(opened.store.accepted_text(1).unwrap().as_deref(), Some("first"));
}

/// As above.
#[test]
fn child_with_a_database_that_fails_on_a_full_disk() {
    let Some(disk) = std::env::var_os(CHILD_DISK) else { return };
    let (disk, path) = (Path::new(&disk), Path::new(&disk).join("state"));
    let state = StateDir::open(&path).unwrap();
    drop(state.store());
    fs::write(path.join("db/conf"), "segment_size: what\nversion: 0.34\n0000").unwrap();
    fill(disk);
    let filler = File::options().write(true).open(disk.join("filler")).unwrap();
    filler.set_len(filler.metadata().unwrap().len() - 65_536).unwrap();
    drop(filler);
    let opened = state.store();
    assert_eq!(opened.set_aside, None);
    let durable = opened.store.durable();
    assert!(
        matches!(&durable, Durability::NotDurable(why) if why.contains("the disk is full")),
        "{durable:?}"
    );
    drop(opened);

    fs::remove_file(disk.join("filler")).unwrap();
    let opened = state.store();
    assert!(opened.set_aside.is_some(), "with room on the disk it is the database's fault");
    assert_eq!(opened.store.durable(), Durability::Durable);
}

/// As above.
#[test]
fn child_on_a_read_only_disk() {
    let Some(disk) = std::env::var_os(CHILD_DISK) else { return };
    let path = Path::new(&disk).join("state");
    let state = StateDir::open(&path).unwrap();
    let store = state.store().store;
    accept(&state, &store, "first").unwrap();
    drop((store, state.lock().unwrap()));
    let remounted = Command::new("mount").args(["-o", "remount,ro"]).arg(&disk).status().unwrap();
    assert!(remounted.success());

    let state = StateDir::open(&path).unwrap();
    let _lock = state.lock().unwrap();
    assert!(matches!(state.lock(), Err(StateError::Held { .. })));
    let opened = state.store();
    assert_eq!(opened.set_aside, None);
    assert!(matches!(opened.store.durable(), Durability::NotDurable(_)));
    assert_eq!(opened.store.accepted_text(1).unwrap().as_deref(), Some("first"));
    put(&opened.store, "a", 1);
    assert_eq!(opened.store.records().len(), 1);
    let written = accept(&state, &opened.store, "second");
    assert!(matches!(written, Err(StateError::Io { .. })), "{written:?}");
}

fn fill(disk: &Path) {
    let mut filler = File::create(disk.join("filler")).unwrap();
    while filler.write_all(&[0; 4096]).is_ok() {}
}

fn accept(state: &StateDir, store: &Store, text: &str) -> Result<(), StateError> {
    let (text, sha256) = (text.to_owned(), Digest::of(text));
    let summary = String::new();
    let number = store.accept(NewAccepted { text: text.clone(), sha256, at_unix_ms: 0, summary });
    let (source, is_unjudged) = (String::new(), false);
    state.set_last_good(&LastGood {
        text,
        sha256,
        number,
        source,
        accepted_at_unix_ms: 0,
        is_unjudged,
        addresses: Default::default(),
    })
}

fn key(key: &str) -> RecordKey {
    RecordKey { kind: "route".into(), key: key.into() }
}

fn put(store: &Store, name: &str, generation: u64) {
    let record = Record {
        spec: serde_json::json!("x".repeat(1000)).to_string(),
        generation,
        status: "ready".into(),
        message: String::new(),
        since_unix_ms: 0,
    };
    store.apply(&[(key(name), Some(record))]);
}
