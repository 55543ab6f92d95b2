//! The daemon: watches the file and the kernel, turns the engine, serves the API, speaks to systemd.

use crate::api::{Explain, Server, Shared, serve};
use crate::cli::Global;
use crate::commands::decap::read as decap_traffic;
use crate::commands::egress::fill as fill_egress;
use crate::commands::{explain, instance_of, maglev, node, traffic};
use crate::engine::{self, Inputs, Outputs, Pace};
use crate::facts::Monitor;
use crate::failover;
use crate::health;
use crate::health::tunnels::{self, Tunnels};
use crate::instance::Instance;
use crate::kinds::{decap, masquerade, strict};
use crate::metrics::{Page, Sources};
use crate::report::Report;
use crate::source::{self, Watch};
use crate::speaker;
use anyhow::Context as _;
use futures_util::FutureExt as _;
use netd_schema::{Config, OnExit};
use sd_notify::NotifyState;
use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Mutex, Notify, mpsc, watch};
use tokio::task::JoinHandle;

/// So many requests wait for the engine; as many as there can be clients.
const REQUESTS_MAX: usize = 64;

/// Withdrawing ten thousand prefixes takes half a second.
const WITHDRAWING_MAX: Duration = Duration::from_millis(1500);

/// Taking leave of the other nodes, asking whether the machine goes down, and asking the kernel to keep addresses meanwhile.
/// It begins when the engine is told to stop, and is short where announcements are withdrawn: less than the five seconds
/// that the unit gives.
const LEAVING_MAX: Duration = failover::FAREWELL_MAX.saturating_add(Duration::from_millis(1_800));

/// Between two tries to hear the kernel's announcements; the resync looks meanwhile.
const MONITOR_AGAIN: Duration = Duration::from_secs(10);

/// Runs until SIGTERM or SIGINT. What was applied stays: the datapath does not need this process.
///
/// # Errors
///
/// Why it could not start, or that the engine broke and a new process has to look at the kernel anew.
pub async fn run(global: &Global) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::catch()?;
    let instance = instance_of(global);
    let (reports, report) = watch::channel(Arc::new(Report::default()));
    let page = Arc::new(Page::new(sources(&instance, &report)));
    let (own, shown) = (global.clone(), Arc::clone(&page));
    let begun = signals.unless_stopped(move || node::for_serving(&own, shown)).await?;
    let Some(begun) = begun else {
        return Ok(ExitCode::SUCCESS);
    };
    let node::Writing { mut reconciler, health, failover, changed: facts_changed, speaker, captures, locks } =
        begun;
    page.set_store(reconciler.ledger().store());
    let watch_file = Watch::start(&global.config, source::Pace::default()).context("watch the file")?;
    let (requests, inbox) = mpsc::channel(REQUESTS_MAX);
    let (stop, stopped) = watch::channel(false);
    let server = Server::bind(&instance.socket())?;
    let [bpf_dir, flows_of, tables_of, decap_of, egress_of] =
        std::array::from_fn(|_| instance.bpf_dir.clone());
    let captures = captures.context("a daemon records")?;
    let shared = Shared {
        reports: report.clone(),
        requests,
        store: reconciler.ledger().store(),
        traffic: {
            let board = Arc::clone(&health);
            Arc::new(move || {
                let mut services = traffic::read(&bpf_dir)?;
                health::tell_why(&mut services, &board.verdicts());
                Ok(services)
            })
        },
        flows: Arc::new(move |idle| traffic::flows(&flows_of, idle)),
        decap: Arc::new(move || decap_traffic(&decap_of)),
        translation: Arc::new(move |report| fill_egress(report, &egress_of)),
        tables: Arc::new(move |service| maglev::in_force(&tables_of, service)),
        explain: explainer(global),
        captures: Arc::clone(&captures),
    };
    let config = global.config.clone();
    let inputs = Inputs {
        deliveries: watch_file.subscribe(),
        read_now: Arc::new(move || source::read(&config)),
        reread: Box::new(move || watch_file.reread()),
        pace: Pace::default(),
        facts_changed: Arc::clone(&facts_changed),
        health_changed: health.changed(),
        requests: inbox,
        stop: stopped.clone(),
    };
    let (order, orders) = watch::channel(Arc::default());
    let (watch, watched) = watch::channel(None);
    let inputs_of_watch = failover::Inputs { tasks: watched, reports: report.clone(), stop: stopped.clone() };
    // Before the first pass: what an earlier netd held has to be kept meanwhile.
    failover::order(&watch, reconciler.in_force().as_deref(), reconciler.node(), None);
    let watching = failover::run(failover, inputs_of_watch, instance.runtime_dir.clone());
    let watching = Task(tokio::spawn(guarded("the watch of the egress gateways", watching)));
    let last_will = Arc::new(AtomicBool::new(false));
    let will = Arc::clone(&last_will);
    reconciler.on_settled(move |config, facts| {
        will.store(withdraws_on_exit(config), Ordering::Relaxed);
        health::order(&order, config, facts);
        failover::order(&watch, config, &facts.node, Some(facts));
    });
    let checks = health::run(health, orders, Tunnels::new(tunnels::load));
    let watchdog = sd_notify::watchdog_enabled();
    let outputs = Outputs {
        reports,
        beat: Box::new(|| tell(&[NotifyState::Watchdog])),
        beat_every: watchdog.map(|limit| limit / 2),
    };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        instance = %instance.name,
        config = %global.config.display(),
        socket = %instance.socket().display(),
        "started"
    );
    let tasks = [
        Task(tokio::spawn(guarded("the API", serve(server, Arc::new(shared))))),
        Task(tokio::spawn(guarded("the count of passes", async move { page.follow().await }))),
        Task(tokio::spawn(guarded("the kernel monitor", hear_kernel(facts_changed)))),
        Task(tokio::spawn(guarded("the health checks", checks))),
        Task(tokio::spawn(guarded("the service manager's notices", tell_status(report)))),
        Task(tokio::spawn(stop_on_signal(signals, stop, global.config.clone()))),
    ];
    let ended = engine::run(reconciler, inputs, outputs).await;
    watching.finish(LEAVING_MAX).await;
    if let Err(error) = tokio::task::spawn_blocking(move || captures.end_all()).await {
        tracing::error!(%error, "captures did not end as they should");
    }
    // Before the locks are free: the socket goes with the task that serves it.
    for task in tasks {
        task.end().await;
    }
    ended?;
    tell(&[NotifyState::Stopping]);
    if last_will.load(Ordering::Relaxed) {
        withdraw_all(&speaker).await;
    }
    tracing::info!("stopped; what was applied stays");
    drop(locks);
    Ok(ExitCode::SUCCESS)
}

/// Whether the file in force wants nothing to be announced without netd.
fn withdraws_on_exit(config: Option<&Config>) -> bool {
    config.and_then(|config| config.bgp.as_ref()).is_some_and(|bgp| bgp.on_exit == OnExit::Withdraw)
}

/// Takes back what is announced; the datapath goes on serving whoever has not heard of it yet.
async fn withdraw_all(speaker: &speaker::Shared) {
    let withdrawing = async { speaker.lock().await.withdraw_all().await };
    match tokio::time::timeout(WITHDRAWING_MAX, withdrawing).await {
        Ok(Ok(())) => tracing::info!("what was announced is withdrawn"),
        Ok(Err(why)) => tracing::warn!(why, "what was announced is not withdrawn"),
        Err(_) => tracing::warn!("withdrawing what was announced did not end in time"),
    }
}

/// Answers what becomes of packets, one after the other: each is put into the records for a moment.
fn explainer(global: &Global) -> Explain {
    let (global, turn) = (Arc::new(global.clone()), Arc::new(Mutex::new(())));
    Arc::new(move |packet, device| {
        let (global, turn) = (Arc::clone(&global), Arc::clone(&turn));
        Box::pin(async move {
            let _turn = turn.lock().await;
            explain::loaded(&global, packet, device).await
        })
    })
}

/// Where the numbers of the metrics come from.
fn sources(instance: &Instance, reports: &watch::Receiver<Arc<Report>>) -> Sources {
    let [traffic_of, flows_of, decap_of, nat_of, strict_of] =
        std::array::from_fn(|_| instance.bpf_dir.clone());
    Sources {
        reports: reports.clone(),
        traffic: Arc::new(move || traffic::read(&traffic_of)),
        flows: Arc::new(move || traffic::count_flows(&flows_of)),
        decap: Arc::new(move || decap::counts(&decap_of)),
        nat: Arc::new(move || masquerade::counted(&nat_of)),
        strict: Arc::new(move || strict::counted(&strict_of)),
    }
}

/// Ends with the daemon.
struct Task(JoinHandle<()>);

impl Task {
    /// Waits for what it does last.
    async fn finish(mut self, at_most: Duration) {
        if tokio::time::timeout(at_most, &mut self.0).await.is_err() {
            self.end().await;
        }
    }

    /// Returns when the task is gone, with everything that it held.
    async fn end(mut self) {
        self.0.abort();
        // Aborted, as it should be, or over already.
        let _ = (&mut self.0).await;
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A panic in a subsystem leaves the others, and the log says which one is gone.
///
/// The work is part of this future, not a task of its own: it ends when this is dropped.
async fn guarded(what: &'static str, work: impl Future<Output = ()>) {
    if AssertUnwindSafe(work).catch_unwind().await.is_err() {
        tracing::error!(what, "a subsystem panicked; restart netd to have it back");
    }
}

/// Passes on that the kernel announced something, and starts anew when it cannot be heard any more.
async fn hear_kernel(facts_changed: Arc<Notify>) {
    let start = || Monitor::start(Arc::clone(&facts_changed)).map(Monitor::ended);
    hear_again(&facts_changed, start, MONITOR_AGAIN).await;
}

async fn hear_again<Heard: Future<Output = ()>>(
    facts_changed: &Notify,
    start: impl Fn() -> io::Result<Heard>,
    pause: Duration,
) {
    loop {
        match start() {
            Ok(heard) => {
                // What was announced before this was not heard.
                facts_changed.notify_one();
                heard.await;
            }
            Err(error) => {
                tracing::warn!(%error, "the kernel's announcements cannot be heard; looking every 30 s")
            }
        }
        tokio::time::sleep(pause).await;
    }
}

/// Tells the service manager that the first pass is over, and how the node stands after each.
async fn tell_status(mut report: watch::Receiver<Arc<Report>>) {
    let mut is_first = true;
    while report.changed().await.is_ok() {
        let line = {
            let report = report.borrow_and_update();
            format!("{}: {} resources not ready", report.word, report.not_ready.len())
        };
        if is_first {
            tell(&[NotifyState::Ready, NotifyState::Status(&line)]);
            is_first = false;
        } else {
            tell(&[NotifyState::Status(&line)]);
        }
    }
}

/// Nobody listens outside of systemd; a failed notice is not worth more than a line of the log.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "the service manager did not hear");
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn catch() -> anyhow::Result<Self> {
        let catch = |kind| signal(kind).context("catch signals");
        Ok(Self {
            terminate: catch(SignalKind::terminate())?,
            interrupt: catch(SignalKind::interrupt())?,
            hang_up: catch(SignalKind::hangup())?,
        })
    }
}

impl Signals {
    /// Does the work, which may wait for a slow disk; `None` when it is told to stop meanwhile.
    async fn unless_stopped<T: Send + 'static>(
        &mut self,
        work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<Option<T>> {
        let done = tokio::task::spawn_blocking(work);
        tokio::select! {
            done = done => done.context("start")?.map(Some),
            _ = self.terminate.recv() => Ok(None),
            _ = self.interrupt.recv() => Ok(None),
        }
    }
}

async fn stop_on_signal(mut signals: Signals, stop: watch::Sender<bool>, config: impl AsRef<Path>) {
    loop {
        let name = tokio::select! {
            _ = signals.terminate.recv() => "SIGTERM",
            _ = signals.interrupt.recv() => "SIGINT",
            _ = signals.hang_up.recv() => {
                let file = config.as_ref().display();
                tracing::info!(%file, "SIGHUP changes nothing: the file is the interface, write it");
                continue;
            }
        };
        tracing::info!(signal = name, "stopping");
        stop.send_replace(true);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[tokio::test]
    async fn a_monitor_that_ended_is_started_anew_and_the_node_is_looked_at() {
        let (changed, started) = (Notify::new(), AtomicUsize::new(0));
        let start = || {
            started.fetch_add(1, Ordering::Relaxed);
            Ok(std::future::ready(()))
        };
        let hearing = hear_again(&changed, start, Duration::from_millis(1));
        assert!(tokio::time::timeout(Duration::from_millis(200), hearing).await.is_err());
        assert!(started.load(Ordering::Relaxed) > 1);
        changed.notified().await;
    }

    #[tokio::test]
    async fn p11_a_second_daemon_leaves_the_socket_of_the_first_alone() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("run/netd.sock");
        let first = Server::bind(&path).unwrap();
        let said = Server::bind(&path).err().unwrap().to_string();
        assert!(said.contains("another netd of this name listens"), "{said}");
        assert!(std::os::unix::net::UnixStream::connect(&path).is_ok());
        drop(first);
        assert!(Server::bind(&path).is_ok());
    }

    #[tokio::test]
    async fn the_socket_goes_with_the_daemon() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("run/netd.sock");
        let server = Server::bind(&path).unwrap();
        let task = Task(tokio::spawn(guarded("the API", async move {
            let _server = server;
            std::future::pending::<()>().await;
        })));
        tokio::task::yield_now().await;
        assert!(path.exists());
        task.end().await;
        assert!(!path.exists());
    }
}
