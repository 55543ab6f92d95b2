//! Numbers for Prometheus, and whether all is well.

use crate::Written;
use crate::objects::Kind;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

type Seconds = Gauge<f64, AtomicU64>;

/// What is counted.
pub(crate) struct Metrics {
    registry: Registry,
    objects: Gauge,
    synced: Gauge,
    notes: Gauge,
    writes: Counter,
    failures: Counter,
    in_force: Gauge,
    render: Seconds,
    leading: Gauge,
    status_writes: Counter,
    events: Counter,
    back_failures: Counter,
    watch_failures: Family<Vec<(&'static str, &'static str)>, Counter>,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("netd_kubernetes"),
            objects: Gauge::default(),
            synced: Gauge::default(),
            notes: Gauge::default(),
            writes: Counter::default(),
            failures: Counter::default(),
            in_force: Gauge::default(),
            render: Seconds::default(),
            leading: Gauge::default(),
            status_writes: Counter::default(),
            events: Counter::default(),
            back_failures: Counter::default(),
            watch_failures: Family::default(),
        };
        let registry = &mut metrics.registry;
        registry.register("objects", "Objects of the cluster that are known", metrics.objects.clone());
        registry.register("synced", "1 once every kind has been listed", metrics.synced.clone());
        registry.register("notes", "What of the objects is not in the file", metrics.notes.clone());
        registry.register("writes", "How often the file was changed", metrics.writes.clone());
        registry.register("write_failures", "How often that failed", metrics.failures.clone());
        registry.register("in_force", "1 while the file is what the objects say", metrics.in_force.clone());
        let help = "How long it took to make the file and to write it, the last time";
        registry.register_with_unit("render", help, Unit::Seconds, metrics.render.clone());
        let help = "1 while this adapter holds the lease of those who write to the cluster";
        registry.register("leading", help, metrics.leading.clone());
        let help = "How often the status of a service was given its addresses";
        registry.register("status_writes", help, metrics.status_writes.clone());
        registry.register("events", "Events that were written", metrics.events.clone());
        let help = "How often something could not be written to the cluster";
        registry.register("back_failures", help, metrics.back_failures.clone());
        let help = "How often a watch broke or could not begin";
        registry.register("watch_failures", help, metrics.watch_failures.clone());
        metrics
    }

    pub(super) fn objects(&self, count: usize, is_synced: bool) {
        self.objects.set(i64::try_from(count).unwrap_or(i64::MAX));
        self.synced.set(i64::from(is_synced));
    }

    pub(super) fn notes(&self, count: usize) {
        self.notes.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// `None` is that it failed.
    pub(super) fn written(&self, written: Option<Written>, took: Duration) {
        match written {
            Some(Written::Changed) => drop(self.writes.inc()),
            Some(Written::Same) => {}
            None => drop(self.failures.inc()),
        }
        self.in_force.set(i64::from(written.is_some()));
        self.render.set(took.as_secs_f64());
    }

    pub(super) fn watch_failed(&self, kind: Kind) {
        self.watch_failures.get_or_create(&vec![("kind", kind.name())]).inc();
    }

    pub(crate) fn leads(&self, is_leading: bool) {
        self.leading.set(i64::from(is_leading));
    }

    pub(crate) fn status_written(&self) {
        self.status_writes.inc();
    }

    pub(crate) fn event_written(&self) {
        self.events.inc();
    }

    pub(crate) fn back_failed(&self) {
        self.back_failures.inc();
    }

    /// Whether the file says what the objects say.
    pub(super) fn is_ready(&self) -> bool {
        self.synced.get() == 1 && self.in_force.get() == 1
    }

    /// The page.
    pub(super) fn page(&self) -> String {
        let mut page = String::new();
        match encode(&mut page, &self.registry) {
            Ok(()) => page,
            Err(error) => format!("# {error}\n"),
        }
    }
}
