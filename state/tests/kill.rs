//! A writer that is killed at any moment leaves a state directory from which the next start goes on.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use netd_state::{Digest, Durability, LastGood, NewAccepted, Record, RecordKey, StateDir, StateError, Store};

/// Kills in a usual run; `NETD_LONG=1` makes it a long one, of hours.
const KILLS: u64 = 50;
const KILLS_LONG: u64 = 100_000;
/// So many state directories at a time in a long run: a writer mostly waits to be killed.
const LANES_LONG: u64 = 8;
/// Where the child finds its work; without it the child's test does nothing.
const CHILD_DIR: &str = "NETD_STATE_CHILD_DIR";
const CHILD_HOLDS: &str = "NETD_STATE_CHILD_HOLDS";
const CHILD_LANE: &str = "NETD_STATE_CHILD_LANE";
const RECORDS: u64 = 50;

#[test]
fn p3_a_kill_at_any_moment_leaves_whole_data() {
    if std::env::var_os("NETD_LONG").is_none() {
        return kill_again_and_again(1, KILLS);
    }
    // Processes: a thread that starts a writer would for a moment lend it the locks of the others.
    let dir = tempfile::tempdir().unwrap();
    let lanes: Vec<_> = (1..=LANES_LONG)
        .map(|lane| {
            let log = std::fs::File::create(dir.path().join(lane.to_string())).unwrap();
            let mut command = again("child_kills_others", CHILD_LANE, lane.to_string().as_ref());
            command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
        })
        .collect();
    let ended: Vec<_> = lanes.into_iter().map(|mut lane| lane.wait().unwrap()).collect();
    for (lane, ended) in (1..).zip(ended) {
        let said = std::fs::read_to_string(dir.path().join(format!("{lane}"))).unwrap();
        println!("{said}");
        assert!(ended.success(), "lane {lane}: {said}");
    }
}

/// Not a test of its own: a long run starts this program again with only this in it.
#[test]
fn child_kills_others() {
    let Some(lane) = std::env::var_os(CHILD_LANE) else { return };
    kill_again_and_again(lane.to_str().unwrap().parse().unwrap(), KILLS_LONG / LANES_LONG);
}

/// Kills writers in a state directory of its own; some are killed again before anyone could look and repair.
fn kill_again_and_again(lane: u64, kills_max: u64) {
    let dir = tempfile::tempdir().unwrap();
    let (mut kills, mut set_aside, mut dropped, mut number) = (0, 0, 0, 0);
    let mut random = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(lane);
    while kills < kills_max {
        for _ in 0..1 + random % 3 / 2 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let mut child = spawn("child_writes_until_it_is_killed", CHILD_DIR, dir.path());
            // From before the database is open until many writes later.
            thread::sleep(Duration::from_micros(random % 120_000));
            child.kill().unwrap();
            child.wait().unwrap();
            kills += 1;
        }

        let what = format!("lane {lane}, after {kills} kills");
        let state = StateDir::open(dir.path()).unwrap();
        let _lock = state.lock().unwrap();
        let last_good = state.last_good().unwrap();
        let opened = state.store();
        if let Some(aside) = &opened.set_aside {
            println!("{what}: set aside: {}", aside.why);
            set_aside += 1;
        }
        dropped += opened.rows_dropped;
        assert_eq!(opened.store.durable(), Durability::Durable, "{what}");
        let good_number = last_good.as_ref().map_or(0, |good| good.number);
        assert!(good_number >= number, "{what}: last good went back from {number} to {good_number}");
        number = good_number;
        check_last_good(last_good.as_ref());
        check_history(&opened.store, good_number);
        check_records(&opened.store);
    }
    println!(
        "lane {lane}, {kills} kills: {number} files accepted, {set_aside} databases set aside, {dropped} rows dropped"
    );
    assert!(number > 0, "the child never got as far as writing");
}

#[test]
fn p11_a_second_one_is_told_who_holds_the_lock() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = spawn("child_holds_the_lock", CHILD_HOLDS, dir.path());
    wait_for_line(&mut child);
    let state = StateDir::open(dir.path()).unwrap();
    let held = state.lock().unwrap_err();
    assert!(matches!(held, StateError::Held { pid } if pid == Some(child.id())), "{held}");
    assert!(held.to_string().contains(&child.id().to_string()));

    child.kill().unwrap();
    child.wait().unwrap();
    state.lock().expect("the lock dies with its process, however it dies");
}

#[test]
fn p11_the_same_process_cannot_take_the_lock_twice() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    let lock = state.lock().unwrap();
    assert!(matches!(state.lock(), Err(StateError::Held { pid }) if pid == Some(std::process::id())));
    drop(lock);
    state.lock().unwrap();
}

#[test]
fn p11_a_second_opener_of_the_database_works_from_memory_and_sets_nothing_aside() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    let first = state.store();
    let second = state.store();
    assert_eq!(second.set_aside, None);
    assert!(matches!(second.store.durable(), Durability::NotDurable(_)));
    assert_eq!(first.store.durable(), Durability::Durable);
    first.store.meta_set("paused", Some("yes"));
    first.store.flush().unwrap();
}

#[test]
fn p12_what_is_left_in_the_lock_file_has_no_effect() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    for left in ["1\n", "garbage", "99999999999999999999999999999999999", ""] {
        std::fs::write(dir.path().join("lock"), left).unwrap();
        let _lock = state.lock().unwrap();
        let written = std::fs::read_to_string(dir.path().join("lock")).unwrap();
        assert_eq!(written, format!("{}\n", std::process::id()));
    }
}

/// Not a test of its own: the others start this program again with only this in it.
#[test]
fn child_writes_until_it_is_killed() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
    let state = StateDir::open(Path::new(&dir)).unwrap();
    let _lock = state.lock().unwrap();
    let store = state.store().store;
    let until = Instant::now() + Duration::from_secs(60);
    while Instant::now() < until {
        let text = text(store.history().first().map_or(0, |newest| newest.number) + 1);
        let sha256 = Digest::of(&text);
        let number =
            store.accept(NewAccepted { text: text.clone(), sha256, at_unix_ms: 0, summary: String::new() });
        let source = String::new();
        let last_good = LastGood {
            text,
            sha256,
            number,
            source,
            accepted_at_unix_ms: number,
            is_unjudged: false,
            addresses: Default::default(),
        };
        state.set_last_good(&last_good).unwrap();
        let changes: Vec<_> = (0..RECORDS).map(|key| (record_key(key), Some(record(key, number)))).collect();
        store.apply(&changes);
        if number.is_multiple_of(3) {
            store.flush().unwrap();
        }
    }
}

/// As above.
#[test]
fn child_holds_the_lock() {
    let Some(dir) = std::env::var_os(CHILD_HOLDS) else { return };
    let _lock = StateDir::open(Path::new(&dir)).unwrap().lock().unwrap();
    println!("\nholding");
    thread::sleep(Duration::from_secs(60));
}

fn spawn(test: &str, variable: &str, dir: &Path) -> Child {
    again(test, variable, dir.as_os_str()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// This program with only one test in it, which this variable is for.
fn again(test: &str, variable: &str, value: &OsStr) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(variable, value);
    command
}

fn wait_for_line(child: &mut Child) {
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    lines.map(Result::unwrap).find(|line| line == "holding").unwrap();
}

/// Follows from its number; some are longer than a piece, a batch and a page of the database.
fn text(number: u64) -> String {
    let lines = [1, 100, 1000, 40_000];
    format!("# file {number}\n").repeat(lines[(number % 4) as usize])
}

fn record_key(key: u64) -> RecordKey {
    RecordKey { kind: "route".into(), key: key.to_string() }
}

fn record(key: u64, generation: u64) -> Record {
    Record {
        spec: serde_json::json!({ "key": key, "generation": generation }).to_string(),
        generation,
        status: "ready".into(),
        message: String::new(),
        since_unix_ms: generation,
    }
}

fn check_last_good(last_good: Option<&LastGood>) {
    if let Some(last_good) = last_good {
        assert!(
            last_good.text == text(last_good.number),
            "last good {} is not what was written",
            last_good.number
        );
        assert_eq!(last_good.accepted_at_unix_ms, last_good.number);
    }
}

fn check_history(store: &Store, last_good: u64) {
    let history = store.history();
    let newest = history.first().map_or(0, |entry| entry.number);
    assert!(newest >= last_good, "history ends at {newest}, before the last good {last_good}");
    assert!(history.is_sorted_by(|newer, older| newer.number > older.number));
    for entry in history {
        let found = store.accepted_text(entry.number).unwrap();
        assert!(found == Some(text(entry.number)), "text {} is not what was written", entry.number);
    }
}

fn check_records(store: &Store) {
    for (key, found) in store.records() {
        assert_eq!(found, record(key.key.parse().unwrap(), found.generation));
    }
}
