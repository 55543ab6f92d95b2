//! Looks at the node and acts on it without a daemon; also what the daemon starts from.

use crate::balancer::Balancer;
use crate::cli::Global;
use crate::commands::instance_of;
use crate::facts::FactsReader;
use crate::failover;
use crate::health;
use crate::instance::{Instance, host_name};
use crate::kinds;
use crate::kinds::capture::Recording;
use crate::ledger::Ledger;
use crate::metrics::Page;
use crate::netns_lock::NetnsLock;
use crate::pins::{self, Fleeting, Found};
use crate::reconcile::{Reconciler, Setup};
use crate::recorder::Captures;
use crate::speaker::{self, Speaker};
use crate::wireguard::Devices;
use anyhow::{Context as _, bail};
use netd_state::{Lock, StateDir};
use rustix::thread::CapabilitySet;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::{Mutex, Notify};

/// What netd needs to change anything: links, routes and neighbours; maps and programs; and that the kernel takes a
/// program that reads packets whose headers are not all of one length.
const NEEDED: [(CapabilitySet, &str); 3] = [
    (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
    (CapabilitySet::BPF, "CAP_BPF"),
    (CapabilitySet::PERFMON, "CAP_PERFMON"),
];

/// A reconciler that changes things, and the locks that let it.
pub(crate) struct Writing {
    pub(crate) reconciler: Reconciler,
    /// What its passes know of the backends' health.
    pub(crate) health: Arc<health::Board>,
    /// What its passes know of the gateways.
    pub(crate) failover: Arc<failover::Board>,
    /// Told when something of the node may have changed.
    pub(crate) changed: Arc<Notify>,
    /// By which the node speaks BGP.
    pub(crate) speaker: speaker::Shared,
    /// What its passes know of captures, if this is a daemon.
    pub(crate) captures: Option<Arc<Captures>>,
    /// Held as long as anything may be written.
    pub(crate) locks: Locks,
}

/// What others than the kernel know.
#[derive(Default)]
struct Boards {
    health: Arc<health::Board>,
    failover: Arc<failover::Board>,
}

/// The right to write, in this network namespace and in the state of this instance.
pub(crate) struct Locks {
    _state: Lock,
    _netns: NetnsLock,
}

/// Takes the instance for writing: rights, locks, bpf file system, state.
pub(crate) fn for_writing(global: &Global) -> anyhow::Result<Writing> {
    writing(global, None)
}

/// As [`for_writing`], for a daemon: one that can serve this page of numbers.
pub(crate) fn for_serving(global: &Global, page: Arc<Page>) -> anyhow::Result<Writing> {
    writing(global, Some(page))
}

fn writing(global: &Global, page: Option<Arc<Page>>) -> anyhow::Result<Writing> {
    check_rights()?;
    let instance = instance_of(global);
    let netns = NetnsLock::take(&instance.name)?;
    let state_dir = StateDir::open(&instance.state_dir)?;
    let state = state_dir.lock().with_context(|| format!("take instance {}", instance.name))?;
    let locks = Locks { _state: state, _netns: netns };
    let found = mount_bpffs(&instance).unwrap_or_else(|error| {
        // The rest of the node does not need it: it becomes a status of the kinds that do.
        tracing::error!(%error, "maps and links cannot be pinned");
        Found::Mounted
    });
    let health = Arc::new(health::Board::default());
    let changed = Arc::new(Notify::new());
    let listening = page.as_ref().map(|_| Arc::clone(&changed));
    let folder = instance.captures_dir();
    let balancer = Arc::new(Balancer::new(instance.bpf_dir.clone()));
    let captures = page.as_ref().map(|_| Arc::new(Captures::new(Arc::clone(&balancer), folder.clone())));
    let recording = captures.clone().map_or(Recording::Nowhere(folder), Recording::Here);
    let context = context(&instance, page, listening, (balancer, recording));
    let speaker = Arc::clone(&context.speaker);
    let failover = Arc::new(failover::Board::telling(Arc::clone(&changed)));
    failover.begin(&instance.runtime_dir);
    let boards = Boards { health: Arc::clone(&health), failover: Arc::clone(&failover) };
    let mut reconciler = reconciler(global, &instance, Ledger::on_disk(state_dir), context, boards);
    let fleeting = fleeting(&instance, found);
    if let Some(Fleeting { why, .. }) = &fleeting {
        tracing::warn!(why, "what is pinned ends with netd");
    }
    reconciler.warn_of_pins(fleeting);
    Ok(Writing { reconciler, health, failover, changed, speaker, captures, locks })
}

/// Takes the instance for looking only: nothing is locked, made or written.
pub(crate) fn for_reading(global: &Global) -> anyhow::Result<Reconciler> {
    check_rights()?;
    let instance = instance_of(global);
    let dir = StateDir::open_existing(&instance.state_dir)
        .inspect_err(|error| tracing::warn!(%error, "planning without the last good file"))
        .unwrap_or_default();
    let recording = Recording::Elsewhere(instance.captures_dir());
    let balancer = Arc::new(Balancer::beside_another(instance.bpf_dir.clone()));
    let context = context(&instance, None, None, (balancer, recording));
    let boards = Boards::default();
    boards.failover.begin(&instance.runtime_dir);
    let mut reconciler = reconciler(global, &instance, Ledger::read_only(dir.as_ref()), context, boards);
    reconciler.warn_of_pins(fleeting(&instance, Found::Mounted));
    Ok(reconciler)
}

/// What the kinds work with; only a daemon serves a page, and listens to what changes.
fn context(
    instance: &Instance,
    page: Option<Arc<Page>>,
    changed: Option<Arc<Notify>>,
    (balancer, recording): (Arc<Balancer>, Recording),
) -> kinds::Context {
    let speaker = Arc::new(Mutex::new(Speaker::new(&instance.runtime_dir, changed)));
    let (runtime_dir, state_dir) = (instance.runtime_dir.clone(), instance.state_dir.clone());
    let devices = Devices::new(&instance.name.to_string(), runtime_dir, state_dir);
    let wireguard = Arc::new(Mutex::new(devices));
    if let Some(page) = &page {
        page.set_wireguard(Arc::clone(&wireguard));
    }
    kinds::Context { bpf_dir: instance.bpf_dir.clone(), balancer, page, speaker, recording, wireguard }
}

fn reconciler(
    global: &Global,
    instance: &Instance,
    ledger: Ledger,
    context: kinds::Context,
    boards: Boards,
) -> Reconciler {
    let node = node_name(global);
    let facts = Box::new(FactsReader::new(node.clone()).of_instance(instance.name.clone()));
    let seed = health::seed(instance.bpf_dir.clone());
    // Nobody else has it yet.
    let board = context.speaker.try_lock().map(|speaker| speaker.board()).unwrap_or_default();
    let mut reconciler = Reconciler::new(Setup {
        facts: Box::new(speaker::WithReceived::new(
            Box::new(failover::WithSeen::new(
                Box::new(health::WithVerdicts::new(facts, boards.health, seed)),
                Arc::clone(&boards.failover),
            )),
            Arc::clone(&context.speaker),
        )),
        node,
        instance: instance.name.to_string(),
        config: global.config.display().to_string(),
        kinds: kinds::all(&context),
        ledger,
    });
    let failover = boards.failover;
    reconciler.complete_reports(move |report| {
        board.complete(report);
        report.gateways = failover.seen().map(|seen| seen.report());
    });
    reconciler
}

/// `--node`, else the host name, else its first label if only that is in the file.
pub(crate) fn node_name(global: &Global) -> String {
    global.node.clone().unwrap_or_else(host_name)
}

/// Fails with a sentence that names what is missing.
pub(crate) fn check_rights() -> anyhow::Result<()> {
    let has = rustix::thread::capabilities(None).map(|sets| sets.effective).unwrap_or(CapabilitySet::empty());
    let missing: Vec<&str> =
        NEEDED.iter().filter(|(capability, _)| !has.contains(*capability)).map(|(_, name)| *name).collect();
    let Some((last, others)) = missing.split_last() else { return Ok(()) };
    let named =
        if others.is_empty() { (*last).to_owned() } else { format!("{} and {last}", others.join(", ")) };
    bail!("reading and changing the network needs {named}: run netd as root, or by its systemd unit")
}

/// Where the bpf file system of an instance is, or is mounted.
fn bpffs_of(instance: &Instance) -> &Path {
    match instance.bpf_dir.starts_with("/sys/fs/bpf") {
        true => Path::new("/sys/fs/bpf"),
        false => &instance.bpf_dir,
    }
}

fn mount_bpffs(instance: &Instance) -> netd_bpf::Result<Found> {
    let dir = bpffs_of(instance);
    if netd_bpf::mount_bpffs_if_missing(dir)? {
        tracing::info!(path = %dir.display(), "mounted a bpf file system");
        return Ok(Found::Missing);
    }
    Ok(Found::Mounted)
}

fn fleeting(instance: &Instance, found: Found) -> Option<Fleeting> {
    let why = pins::fleeting(bpffs_of(instance), found)?;
    Some(Fleeting { why, kinds: kinds::PINNED })
}
