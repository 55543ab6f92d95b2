//! Writing the same rows again and again takes no more memory: alone in its file, for it looks at the process.
#![allow(clippy::unwrap_used, reason = "tests")]

mod records;

use std::time::Duration;

use netd_state::StateDir;
use records::{key, record};

const RECORDS: usize = 50_000;
const ROUNDS: u64 = 6;
/// Over all rounds; a kilobyte kept for each row written would be 300 MiB.
const GROWTH_MAX_KIB: u64 = 96 << 10;

#[test]
fn rewriting_all_records_does_not_grow_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let store = StateDir::open(dir.path()).unwrap().store().store;
    let mut first = 0;
    for round in 0..=ROUNDS {
        let changes: Vec<_> = (0..RECORDS).map(|n| (key(n), Some(record(round)))).collect();
        store.apply(&changes);
        store.flush_within(Duration::from_secs(60)).unwrap();
        if round == 0 {
            first = resident_kib();
        }
    }
    let (last, rounds) = (resident_kib(), ROUNDS);
    println!("{first} KiB after one round, {last} KiB after {rounds} more");
    assert!(last < first + GROWTH_MAX_KIB, "{first} KiB became {last} KiB");
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
