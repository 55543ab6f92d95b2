//! The page of numbers: made when somebody asks, and not more often than once a second.

use super::encode::{Snapshot, encode};
use super::tally::Tally;
use super::totals::Totals;
use crate::api::ReadTraffic;
use crate::clock;
use crate::report::{Report, Word};
use crate::wireguard;
use netd_bpf::decap::abi::Counts;
use netd_bpf::{nat, strict};
use netd_state::Store;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// A page is given again for this long. Reading the counters of the largest file takes a tenth of a second of a core, and
/// whoever may connect may ask.
const FRESH: Duration = Duration::from_secs(1);

/// Counts the flows that have a record.
pub type CountFlows = Arc<dyn Fn() -> Result<usize, String> + Send + Sync>;

/// Reads what the decapsulating program has counted; `None` where there is none.
pub type ReadDecap = Arc<dyn Fn() -> Result<Option<Counts>, String> + Send + Sync>;

/// Reads what was masqueraded; `None` where nothing is.
pub type ReadNat = Arc<dyn Fn() -> Result<Option<(nat::abi::Counts, nat::Usage)>, String> + Send + Sync>;

/// Reads what strict mode has dropped; `None` where there is no such thing.
pub type ReadStrict = Arc<dyn Fn() -> Result<Option<strict::abi::Counts>, String> + Send + Sync>;

/// Where the numbers come from.
pub struct Sources {
    /// The report of the last pass.
    pub reports: watch::Receiver<Arc<Report>>,
    /// Reads what went through the load balancer.
    pub traffic: ReadTraffic,
    /// Counts the flows that have a record.
    pub flows: CountFlows,
    /// Reads what was taken out of the tunnel.
    pub decap: ReadDecap,
    /// Reads what was masqueraded.
    pub nat: ReadNat,
    /// Reads what strict mode has dropped.
    pub strict: ReadStrict,
}

/// The page.
pub struct Page {
    sources: Sources,
    /// Known after the kinds, which know the page.
    store: OnceLock<Arc<Store>>,
    wireguard: OnceLock<wireguard::Shared>,
    tally: Mutex<Tally>,
    totals: Mutex<Totals>,
    last: tokio::sync::Mutex<Option<(Instant, Arc<str>)>>,
}

impl std::fmt::Debug for Page {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Page").finish_non_exhaustive()
    }
}

impl Page {
    /// A page of these sources.
    #[must_use]
    pub fn new(sources: Sources) -> Self {
        Self {
            sources,
            store: OnceLock::new(),
            wireguard: OnceLock::new(),
            tally: Mutex::default(),
            totals: Mutex::default(),
            last: tokio::sync::Mutex::default(),
        }
    }

    /// Says where the history is; only the first is heard.
    pub fn set_store(&self, store: Arc<Store>) {
        let _ = self.store.set(store);
    }

    /// Says by which devices packets between nodes are encrypted; only the first is heard.
    pub fn set_wireguard(&self, devices: wireguard::Shared) {
        let _ = self.wireguard.set(devices);
    }

    /// Counts passes until the daemon ends.
    pub async fn follow(&self) {
        let mut reports = self.sources.reports.clone();
        while reports.changed().await.is_ok() {
            let report = Arc::clone(&reports.borrow_and_update());
            held(&self.tally).count(&report);
        }
    }

    /// The numbers in the text format of OpenMetrics.
    ///
    /// # Errors
    ///
    /// A sentence, if they could not be written.
    pub(super) async fn text(self: &Arc<Self>) -> Result<Arc<str>, String> {
        // Held while the page is made: who asks meanwhile gets the same.
        let mut last = self.last.lock().await;
        if let Some((at, text)) = &*last
            && at.elapsed() < FRESH
        {
            return Ok(Arc::clone(text));
        }
        let page = Arc::clone(self);
        let made = tokio::task::spawn_blocking(move || page.make()).await;
        let text = made.map_err(|error| error.to_string())??;
        *last = Some((clock::now(), Arc::clone(&text)));
        Ok(text)
    }

    fn make(&self) -> Result<Arc<str>, String> {
        let report = Arc::clone(&self.sources.reports.borrow());
        let in_force = report.config.in_force.as_ref().map(|now| now.number);
        let accepted = self.store.get().into_iter().flat_map(|store| store.history());
        let mut accepted =
            accepted.filter(|entry| Some(entry.number) == in_force).map(|entry| entry.at_unix_ms);
        let services = (self.sources.traffic)();
        if let Err(why) = &services {
            tracing::warn!(why, "the counters cannot be read for the metrics");
        }
        let mut totals = held(&self.totals);
        if let Ok(services) = &services {
            totals.take(services);
        }
        let snapshot = Snapshot {
            accepted_unix_ms: accepted.next_back(),
            services: services.ok(),
            flows: (self.sources.flows)().ok(),
            totals: totals
                .iter()
                .map(|(name, total)| (name.to_owned(), (total.packets, total.bytes)))
                .collect(),
            decap: (self.sources.decap)().ok().flatten(),
            nat: (self.sources.nat)().ok().flatten(),
            strict: (self.sources.strict)().ok().flatten(),
            peers: self.wireguard.get().map(|devices| devices.blocking_lock().peers()).unwrap_or_default(),
            tally: held(&self.tally).clone(),
            report,
        };
        encode(snapshot).map(Into::into).map_err(|_| "the numbers could not be written".to_owned())
    }

    /// Whether the node carries what it should, and how it stands in one word.
    ///
    /// A file that was refused does not count: the last good one is in force.
    pub(super) fn health(&self) -> (bool, Word) {
        let word = self.sources.reports.borrow().word;
        let is_well = match word {
            Word::Ok | Word::Pending | Word::ConfigMissing | Word::ConfigInvalid | Word::HeldBack => true,
            Word::Starting | Word::TornDown | Word::Degraded => false,
        };
        (is_well, word)
    }
}

/// A panic while a number was changed leaves a number.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
