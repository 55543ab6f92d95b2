//! When passes are made, and how the loop ends.

use crate::client::{api, post};
use crate::running::{FILE, PATIENCE, Running, SOON};
use crate::world::{SERVICE, text};
use netd::engine::{Broken, Pace, Request};
use netd::report::{Reason, Word};
use netd::source::{self, Watch};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tempfile::TempDir;

#[tokio::test]
async fn a_written_file_is_in_force_and_reported() {
    let mut running = Running::start();
    running.write(FILE);
    let report = running.report(|report| report.word == Word::Ok).await;
    assert_eq!(report.pass.reason, Reason::Startup);
    running.write(&FILE.replace("10.1.0.2", "10.1.0.3"));
    let report = running.report(|report| report.pass.number > 1).await;
    assert_eq!((report.pass.reason, report.pass.applied), (Reason::ConfigChanged, 1));
    running.end().await;
}

#[tokio::test]
async fn k14_a_change_of_the_node_is_undone_before_anybody_would_look_again() {
    let (mut running, before) = Running::drifted().await;
    running.report(|report| report.drift.resources == 1).await;
    assert!(before.elapsed() < SOON);
    running.end().await;
}

#[tokio::test]
async fn k14_plans_that_are_asked_for_all_the_time_do_not_put_that_off() {
    let (running, before) = Running::drifted().await;
    let mut asked = Vec::new();
    while running.reports.borrow().drift.resources == 0 {
        assert!(before.elapsed() < SOON);
        let (to, answer) = tokio::sync::oneshot::channel();
        running.requests.send(Request::Plan(to)).await.unwrap();
        asked.push(answer);
        tokio::task::yield_now().await;
    }
    running.end().await;
}

#[tokio::test]
async fn k21_a_thousand_announcements_cost_few_passes() {
    let mut running = Running::start();
    running.write(FILE);
    running.report(|report| report.word == Word::Ok).await;
    for _ in 0..1000 {
        running.facts_changed.notify_one();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let passes = running.reports.borrow().pass.number;
    // At most one each 100 ms; the thousand sleeps take a few seconds on a busy machine.
    assert!((2..100).contains(&passes), "{passes} passes");
    running.end().await;
}

#[tokio::test]
async fn what_failed_is_tried_again_by_itself() {
    let mut running = Running::start();
    running.world.lock().failing.push((SERVICE, String::new()));
    running.write(FILE);
    running.report(|report| report.word == Word::Degraded).await;
    running.world.lock().failing.clear();
    assert_eq!(running.report(|report| report.word == Word::Ok).await.pass.reason, Reason::Retry);
    running.end().await;
}

#[tokio::test]
async fn p15_the_loop_turns_while_a_target_hangs_and_p18_ends_all_the_same() {
    let mut running = Running::start();
    running.write("version = 1\n");
    running.report(|report| report.pass.number == 1).await;
    // The target waits for ever before its first operation.
    running.world.lock().ops_left = Some(0);
    let died = Arc::clone(&running.world.lock().died);
    running.write(FILE);
    tokio::time::timeout(PATIENCE, died.notified()).await.unwrap();
    let before = running.beats.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(running.beats.load(Ordering::Relaxed) > before);
    running.end().await;
}

#[tokio::test]
async fn after_a_teardown_nothing_is_made_until_it_is_asked_for() {
    let dir = TempDir::new().unwrap();
    let mut running = Running::start();
    running.write(FILE);
    running.report(|report| report.word == Word::Ok).await;
    let client = api(&running, &dir);
    let torn: Value = post(&client, "/v1/teardown", &json!({})).await;
    assert_eq!(torn["word"], "torn-down");
    assert!(running.world.lock().owned.is_empty());
    running.facts_changed.notify_one();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(running.world.lock().owned.is_empty());
    let applied: Value = post(&client, "/v1/apply", &json!({})).await;
    assert_eq!(applied["word"], "ok");
    assert_eq!(running.world.lock().owned.len(), 2);
    running.end().await;
}

#[tokio::test]
async fn s19_a_file_that_was_read_for_a_request_is_not_undone_by_an_earlier_reading() {
    let dir = TempDir::new().unwrap();
    let mut running = Running::start();
    running.write(FILE);
    running.report(|report| report.word == Word::Ok).await;
    let client = api(&running, &dir);
    // The file is new; its delivery still waits for the dust to settle.
    *running.file.lock().unwrap() = text(&FILE.replace("10.1.0.2", "10.1.0.3"));
    let report = post(&client, "/v1/apply", &json!({})).await;
    let number = report["pass"]["number"].as_u64().unwrap();
    running.facts_changed.notify_one();
    let report = running.report(|report| report.pass.number > number).await;
    assert_eq!((report.pass.applied, report.config.in_force.as_ref().unwrap().number), (0, 2));
    running.end().await;
}

#[tokio::test]
async fn a_file_that_goes_back_after_an_apply_is_in_force_again() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("desired.toml");
    std::fs::write(&path, FILE).unwrap();
    // The watcher is slow to deliver what it was not asked for, so it has not seen what the request reads.
    let slow = source::Pace { deliver_gap: Duration::from_secs(2), ..source::Pace::default() };
    let mut running = Running::start_watching(Watch::start(&path, slow).unwrap(), path.clone());
    let first = running.report(|report| report.word == Word::Ok).await.config.sha256.clone();
    let client = api(&running, &dir);
    std::fs::write(&path, FILE.replace("10.1.0.2", "10.1.0.3")).unwrap();
    let report = post(&client, "/v1/apply", &json!({})).await;
    assert_ne!(report["config"]["sha256"].as_str(), first.as_deref());
    std::fs::write(&path, FILE).unwrap();
    running.report(|report| report.word == Word::Ok && report.config.sha256 == first).await;
    running.end().await;
}

#[tokio::test]
async fn a_busy_node_is_still_tended_and_looked_at_afresh() {
    let pace = Pace { resync: Duration::from_millis(500), ..Pace::default() };
    let mut running = Running::start_with(pace);
    running.write(FILE);
    running.report(|report| report.word == Word::Ok).await;
    for _ in 0..40 {
        running.facts_changed.notify_one();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let tends = running.world.lock().tends;
    let forgets = running.world.lock().forgets;
    assert!(tends >= 3 && forgets >= 1, "{tends} tends, {forgets} looks");
    running.end().await;
}

#[tokio::test]
async fn a_conflict_that_ends_is_noticed_without_a_word_from_the_kernel() {
    let mut running = Running::start();
    let place = (SERVICE, "192.0.2.10:80/tcp".to_owned());
    running.world.lock().foreign.insert(place.clone(), "somebody".into());
    running.write(FILE);
    running.report(|report| report.word == Word::Degraded).await;
    running.world.lock().foreign.remove(&place);
    let report = running.report(|report| report.word == Word::Ok).await;
    assert_eq!(report.pass.reason, Reason::Retry);
    running.end().await;
}

#[tokio::test]
async fn a_request_does_not_wait_for_a_file_system_that_hangs() {
    let dir = TempDir::new().unwrap();
    let pace = Pace { reading_max: Duration::from_millis(200), ..Pace::default() };
    let mut running = Running::start_with(pace);
    running.write(FILE);
    running.report(|report| report.word == Word::Ok).await;
    let client = api(&running, &dir);
    let file = Arc::clone(&running.file);
    let (held, is_held) = std::sync::mpsc::channel();
    let (let_go, wait) = std::sync::mpsc::channel::<()>();
    let holder = std::thread::spawn(move || {
        let _reading = file.lock().unwrap();
        held.send(()).unwrap();
        let _ = wait.recv();
    });
    is_held.recv().unwrap();
    for why in ["did not end within 200 ms", "an earlier reading"] {
        let error = client.get("/v1/plan").await.unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
    let before = running.reports.borrow().pass.number;
    running.facts_changed.notify_one();
    running.report(|report| report.pass.number > before).await;
    drop(let_go);
    holder.join().unwrap();
    running.end().await;
}

#[tokio::test]
async fn a_teardown_before_the_first_reading_leaves_the_loop_at_rest() {
    let dir = TempDir::new().unwrap();
    let pace = Pace { reading_max: Duration::from_millis(300), ..Pace::default() };
    let running = Running::start_with(pace);
    let client = api(&running, &dir);
    post(&client, "/v1/teardown", &json!({})).await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    // The loop runs on this thread.
    let spent = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap())
    };
    let before = spent();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let spent = spent() - before;
    assert!(spent < Duration::from_millis(150), "{spent:?}");
    running.end().await;
}

#[tokio::test]
async fn netd_ends_when_nobody_reads_the_file_any_more() {
    let running = Running::start();
    let Running { engine, deliveries, .. } = running;
    drop(deliveries);
    let ended = tokio::time::timeout(PATIENCE, engine).await.unwrap().unwrap();
    assert!(matches!(ended, Err(Broken::Watch)), "{ended:?}");
}
