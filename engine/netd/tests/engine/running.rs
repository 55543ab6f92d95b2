//! An engine that runs around a world in memory.

use crate::world::{ROUTE, Shared, text};
use netd::clock;
use netd::engine::{self, Broken, Inputs, Outputs, Pace, Request};
use netd::ledger::Ledger;
use netd::report::{Report, Word};
use netd::source::{self, Delivery, Reading, Watch};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;

pub const FILE: &str = r#"version = 1

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
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Sooner than everything would be looked at again anyway, on the busiest machine.
pub const SOON: Duration = Duration::from_secs(10);

pub struct Running {
    pub world: Shared,
    pub file: Arc<Mutex<Reading>>,
    pub deliveries: watch::Sender<Option<Arc<Delivery>>>,
    pub facts_changed: Arc<Notify>,
    pub reports: watch::Receiver<Arc<Report>>,
    pub requests: mpsc::Sender<Request>,
    pub stop: watch::Sender<bool>,
    pub beats: Arc<AtomicUsize>,
    pub engine: JoinHandle<Result<(), Broken>>,
    pub store: Arc<netd_state::Store>,
}

impl Running {
    pub fn start() -> Self {
        Self::start_with(Pace::default())
    }

    pub fn start_with(pace: Pace) -> Self {
        let file = Arc::new(Mutex::new(Reading::Missing("there is no file".into())));
        let (deliveries, delivered) = watch::channel(None);
        let read = Arc::clone(&file);
        let read_now = Arc::new(move || read.lock().unwrap().clone());
        Self::start_on(pace, file, deliveries, delivered, read_now, Box::new(|| ()))
    }

    /// With a real file that is really watched.
    pub fn start_watching(watch_file: Watch, path: std::path::PathBuf) -> Self {
        let delivered = watch_file.subscribe();
        let read_now = Arc::new(move || source::read(&path));
        let reread = Box::new(move || watch_file.reread());
        let file = Arc::new(Mutex::new(Reading::Missing("another is watched".into())));
        Self::start_on(Pace::default(), file, watch::channel(None).0, delivered, read_now, reread)
    }

    pub fn start_on(
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
    pub async fn drifted() -> (Self, std::time::Instant) {
        let mut running = Self::start();
        running.write(FILE);
        running.report(|report| report.word == Word::Ok).await;
        running.world.lock().owned.retain(|(kind, _), _| *kind != ROUTE);
        let since = clock::now();
        running.facts_changed.notify_one();
        (running, since)
    }

    pub fn write(&self, content: &str) {
        let reading = text(content);
        *self.file.lock().unwrap() = reading.clone();
        self.deliveries.send_replace(Some(Arc::new(Delivery { reading, serial: 1, at: clock::now() })));
    }

    pub async fn report(&mut self, is_it: impl Fn(&Report) -> bool) -> Arc<Report> {
        let found = tokio::time::timeout(PATIENCE, self.reports.wait_for(|report| is_it(report))).await;
        Arc::clone(&found.unwrap().unwrap())
    }

    pub async fn end(self) {
        self.stop.send_replace(true);
        tokio::time::timeout(PATIENCE, self.engine).await.unwrap().unwrap().unwrap();
    }
}
