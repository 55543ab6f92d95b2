//! The engine's loop and the API around a world in memory: when passes are made, what is answered, how it ends.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod world;

use netd::api::{Client, Server, Shared as Api, serve};
use netd::balancer::Balancer;
use netd::clock;
use netd::engine::{self, CorePanic, Inputs, Outputs, Pace, Request};
use netd::ledger::Ledger;
use netd::recorder::Captures;
use netd::report::{Reason, Report, Word};
use netd::source::{self, Delivery, Reading, Watch};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use world::{ROUTE, SERVICE, Shared, text};

const FILE: &str = r#"version = 1

[[nodes]]
name = "b"
addresses = ["10.0.0.2"]
pod_cidrs = ["10.244.2.0/24"]

[[services]]
name = "web"
vips = ["192.0.2.10"]
ports = [{ protocol = "tcp", port = 80 }]
backends = [{ address = "10.1.0.2" }]
"#;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// Sooner than everything would be looked at again anyway, on the busiest machine.
const SOON: Duration = Duration::from_secs(10);

struct Running {
    world: Shared,
    file: Arc<Mutex<Reading>>,
    deliveries: watch::Sender<Option<Arc<Delivery>>>,
    facts_changed: Arc<Notify>,
    reports: watch::Receiver<Arc<Report>>,
    requests: mpsc::Sender<Request>,
    stop: watch::Sender<bool>,
    beats: Arc<AtomicUsize>,
    engine: JoinHandle<Result<(), CorePanic>>,
    store: Arc<netd_state::Store>,
}

impl Running {
    fn start() -> Self {
        Self::start_with(Pace::default())
    }

    fn start_with(pace: Pace) -> Self {
        let file = Arc::new(Mutex::new(Reading::Missing("there is no file".into())));
        let (deliveries, delivered) = watch::channel(None);
        let read = Arc::clone(&file);
        let read_now = Arc::new(move || read.lock().unwrap().clone());
        Self::start_on(pace, file, deliveries, delivered, read_now, Box::new(|| ()))
    }

    /// With a real file that is really watched.
    fn start_watching(watch_file: Watch, path: std::path::PathBuf) -> Self {
        let delivered = watch_file.subscribe();
        let read_now = Arc::new(move || source::read(&path));
        let reread = Box::new(move || watch_file.reread());
        let file = Arc::new(Mutex::new(Reading::Missing("another is watched".into())));
        Self::start_on(Pace::default(), file, watch::channel(None).0, delivered, read_now, reread)
    }

    fn start_on(
        pace: Pace,
        file: Arc<Mutex<Reading>>,
        deliveries: watch::Sender<Option<Arc<Delivery>>>,
        delivered: watch::Receiver<Option<Arc<Delivery>>>,
        read_now: Arc<dyn Fn() -> Reading + Send + Sync>,
        reread: Box<dyn Fn() + Send + Sync>,
    ) -> Self {
        let world = Shared::default();
        world.lock().links.push("eth0".into());
        let reconciler = world.reconciler_in_real_time(Ledger::in_memory());
        let store = reconciler.ledger().store();
        let (reports, report) = watch::channel(Arc::new(Report::default()));
        let (requests, inbox) = mpsc::channel(64);
        let (stop, stopped) = watch::channel(false);
        let facts_changed = Arc::new(Notify::new());
        let beats = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&beats);
        let inputs = Inputs {
            deliveries: delivered,
            read_now,
            reread,
            pace,
            health_changed: Arc::default(),
            facts_changed: Arc::clone(&facts_changed),
            requests: inbox,
            stop: stopped,
        };
        let outputs = Outputs {
            reports,
            beat: Box::new(move || {
                counted.fetch_add(1, Ordering::Relaxed);
            }),
            beat_every: Some(Duration::from_millis(10)),
        };
        let engine = tokio::spawn(engine::run(reconciler, inputs, outputs));
        Self { world, file, deliveries, facts_changed, reports: report, requests, stop, beats, engine, store }
    }

    /// In which somebody has just removed the routes; since when.
    async fn drifted() -> (Self, std::time::Instant) {
        let mut running = Self::start();
        running.write(FILE);
        running.report(|report| report.word == Word::Ok).await;
        running.world.lock().owned.retain(|(kind, _), _| *kind != ROUTE);
        let since = clock::now();
        running.facts_changed.notify_one();
        (running, since)
    }

    fn write(&self, content: &str) {
        let reading = text(content);
        *self.file.lock().unwrap() = reading.clone();
        self.deliveries.send_replace(Some(Arc::new(Delivery { reading, serial: 1, at: clock::now() })));
    }

    async fn report(&mut self, is_it: impl Fn(&Report) -> bool) -> Arc<Report> {
        let found = tokio::time::timeout(PATIENCE, self.reports.wait_for(|report| is_it(report))).await;
        Arc::clone(&found.unwrap().unwrap())
    }

    async fn end(self) {
        self.stop.send_replace(true);
        tokio::time::timeout(PATIENCE, self.engine).await.unwrap().unwrap().unwrap();
    }
}

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
async fn the_api_answers_what_the_commands_ask() {
    let dir = TempDir::new().unwrap();
    let mut running = Running::start();
    running.write(FILE);
    running.report(|report| report.word == Word::Ok).await;
    let client = api(&running, &dir);
    let status = get(&client, "/v1/status?verbose=true").await;
    assert_eq!(status["word"], "ok");
    assert_eq!(status["resources"].as_array().unwrap().len(), 2);
    *running.file.lock().unwrap() = text(&FILE.replace("10.1.0.2", "10.1.0.3"));
    let plan = get(&client, "/v1/plan").await;
    assert_eq!(plan["plan"]["steps"][0]["key"], "192.0.2.10:80/tcp");
    let plan = get(&client, "/v1/plan?text=plain").await;
    assert_eq!(plan["is_empty"], false);
    assert_eq!(get(&client, "/v1/history").await[0]["number"], 1);
    assert_eq!(client.get("/v1/history/1").await.unwrap().unwrap(), FILE.as_bytes());
    assert!(client.get("/v1/history/9").await.is_err());
    *running.file.lock().unwrap() = text("version = 7\n");
    assert!(client.get("/v1/plan").await.unwrap_err().to_string().contains("version"));
    running.end().await;
}

#[tokio::test]
async fn a_misspelt_word_in_a_request_applies_nothing() {
    let dir = TempDir::new().unwrap();
    let mut running = Running::start();
    running.write(FILE);
    running.report(|report| report.word == Word::Ok).await;
    let client = api(&running, &dir);
    let number = running.reports.borrow().pass.number;
    let error = client.post("/v1/apply", &json!({ "alow": "x" })).await.unwrap_err();
    assert!(error.to_string().contains("alow"), "{error}");
    assert!(client.get("/v1/status?verbos=true").await.is_err());
    assert_eq!(running.reports.borrow().pass.number, number);
    running.end().await;
}

#[tokio::test]
async fn every_error_of_the_api_is_an_object_that_says_why() {
    let dir = TempDir::new().unwrap();
    let running = Running::start();
    let _client = api(&running, &dir);
    let json = "content-type: application/json\r\n";
    let long = format!("{{\"allow\": \"{}\"}}", "x".repeat(100_000));
    for (status, line, headers, body) in [
        (400, "POST /v1/apply", json, "{"),
        (400, "GET /v1/history/first", "", ""),
        (404, "GET /v1/history/9", "", ""),
        (404, "GET /v1/nothing", "", ""),
        (405, "GET /v1/apply", "", ""),
        (413, "POST /v1/apply", json, long.as_str()),
        (415, "POST /v1/apply", "", "{}"),
        (422, "POST /v1/explain", json, "{\"packet\": \"nonsense\"}"),
        (500, "GET /v1/services", "", ""),
    ] {
        let (code, answer) = raw(&dir, line, headers, body).await;
        assert_eq!(code, status.to_string(), "{line}");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert!(!answer["error"].as_str().unwrap().is_empty(), "{line}");
    }
    running.end().await;
}

#[tokio::test]
async fn the_history_marks_what_is_in_force_and_reports_carry_their_version() {
    let dir = TempDir::new().unwrap();
    let mut running = Running::start();
    let client = api(&running, &dir);
    running.write(FILE);
    running.report(|report| report.word == Word::Ok).await;
    running.write(&FILE.replace("10.1.0.2", "10.1.0.3"));
    running.report(|report| report.config.in_force.as_ref().is_some_and(|now| now.number == 2)).await;
    let history = get(&client, "/v1/history").await;
    let marks = history.as_array().unwrap().iter().map(|entry| (&entry["number"], &entry["in_force"]));
    assert!(marks.clone().any(|mark| mark == (&json!(1), &json!(false))), "{history}");
    assert!(marks.clone().any(|mark| mark == (&json!(2), &json!(true))), "{history}");
    assert_eq!(get(&client, "/v1/status").await["version"], 1);
    assert_eq!(get(&client, "/v1/plan").await["version"], 1);
    running.end().await;
}

#[tokio::test]
async fn x18_long_bodies_idle_clients_and_nonsense_do_not_hurt() {
    let dir = TempDir::new().unwrap();
    let mut running = Running::start();
    running.write(FILE);
    running.report(|report| report.word == Word::Ok).await;
    let client = api(&running, &dir);
    let mut idle = Vec::new();
    for _ in 0..60 {
        idle.push(tokio::net::UnixStream::connect(dir.path().join("run/netd.sock")).await.unwrap());
    }
    let long = json!({ "allow": "x".repeat(100_000) });
    assert!(client.post("/v1/apply", &long).await.is_err());
    assert!(client.post("/v1/apply", &json!({ "allow": 7 })).await.is_err());
    assert_eq!(get(&client, "/v1/status").await["word"], "ok");
    running.end().await;
}

#[tokio::test]
async fn x18_the_socket_is_for_its_owner_and_the_group() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = TempDir::new().unwrap();
    let running = Running::start();
    let _client = api(&running, &dir);
    let mode = |path: &str| std::fs::metadata(dir.path().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("run"), mode("run/netd.sock")), (0o750, 0o660));
    running.end().await;
}

fn api(running: &Running, dir: &TempDir) -> Client {
    let socket = dir.path().join("run/netd.sock");
    let shared = Api {
        reports: running.reports.clone(),
        requests: running.requests.clone(),
        store: Arc::clone(&running.store),
        traffic: Arc::new(|| Err("the counters are away".into())),
        flows: Arc::new(|_| Ok(Vec::new())),
        decap: Arc::new(|| Ok(None)),
        translation: Arc::new(|_| Ok(())),
        tables: Arc::new(|_| Ok(std::collections::BTreeMap::new())),
        explain: Arc::new(|packet, _| Box::pin(async move { Err(format!("nothing takes {packet}")) })),
        captures: Arc::new(Captures::new(Arc::new(Balancer::in_memory()), dir.path().join("captures"))),
    };
    tokio::spawn(serve(Server::bind(&socket).unwrap(), Arc::new(shared)));
    Client::new(&socket)
}

/// What a client of any kind sees: the status, and the body.
async fn raw(dir: &TempDir, line: &str, headers: &str, body: &str) -> (String, String) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::UnixStream::connect(dir.path().join("run/netd.sock")).await.unwrap();
    let request =
        format!("{line} HTTP/1.1\r\nhost: x\r\n{headers}content-length: {}\r\n\r\n{body}", body.len());
    // The server may answer, and close, before it has read all of a body that is too long.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().to_owned(), body.to_owned())
}

async fn get(client: &Client, path: &str) -> Value {
    serde_json::from_slice(&client.get(path).await.unwrap().unwrap()).unwrap()
}

async fn post(client: &Client, path: &str, body: &Value) -> Value {
    serde_json::from_slice(&client.post(path, body).await.unwrap().unwrap()).unwrap()
}
