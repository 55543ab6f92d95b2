//! Back to the cluster: the addresses that services have been given, what was refused, and the node's public key.
//!
//! Every node has an adapter, and all of them know the same: the one that holds a lease speaks for all. Only the key is each
//! node's own.

mod daemon;
mod events;
mod key;
mod lease;
mod said;
mod status;

pub use key::KeyOf;
pub use lease::LeaseName;
pub(crate) use said::Said;

use crate::run::Metrics;
use events::Events;
use lease::Lease;
use status::Statuses;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// By this name the API server knows whose fields are whose.
const MANAGER: &str = "netd-kubernetes";

/// What is written to the cluster: nothing, unless it is asked for.
#[derive(Clone, Debug)]
pub struct Back {
    /// The socket of the netd that says which addresses services have; `None`: they are not written into their status.
    pub status: Option<PathBuf>,
    /// Whether there are events about what of the objects is not in the file.
    pub events: bool,
    /// The lease of who writes these two.
    pub lease: LeaseName,
    /// The public key that the node is given; `None`: none is.
    pub key: Option<KeyOf>,
    /// How often it is looked at whether something is to be written.
    pub every: Duration,
}

impl Default for Back {
    fn default() -> Self {
        Self {
            status: None,
            events: false,
            lease: LeaseName::default(),
            key: None,
            every: Duration::from_secs(5),
        }
    }
}

/// Why something was not written: a sentence.
type Refusal = String;

/// What the file says, as it was written last; `None` before it was.
pub(crate) type Heard = watch::Receiver<Option<Arc<Said>>>;

/// Begins with what is asked for. It ends with the runtime.
pub(crate) fn start(back: Back, client: &kube::Client, heard: Heard, metrics: &Arc<Metrics>) {
    if let Some(key) = back.key.clone() {
        tokio::spawn(key::keep(key, client.clone(), back.every, Arc::clone(metrics)));
    }
    if back.status.is_some() || back.events {
        tokio::spawn(speak(back, client.clone(), heard, Arc::clone(metrics)));
    }
}

async fn speak(back: Back, client: kube::Client, mut heard: Heard, metrics: Arc<Metrics>) {
    let lease = Lease::start(back.lease, client.clone(), Arc::clone(&metrics));
    let mut statuses = back.status.map(|socket| Statuses::new(socket, client.clone(), Arc::clone(&metrics)));
    let mut events = back.events.then(|| Events::new(client, lease.identity(), Arc::clone(&metrics)));
    let mut complaints = Complaints::new(metrics);
    let mut tick = tokio::time::interval(back.every);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            changed = heard.changed() => if changed.is_err() { return }
        }
        let Some(said) = heard.borrow_and_update().clone() else { continue };
        // What is under way when the lease is lost is broken off: another one may speak by now.
        lease
            .while_held(async {
                let mut further = Vec::new();
                if let Some(statuses) = &mut statuses {
                    complaints.hear("status", statuses.pass(&said).await);
                    further = statuses.notes(&said);
                }
                if let Some(events) = &mut events {
                    complaints.hear("events", events.pass(&said, further).await);
                }
            })
            .await;
    }
}

/// What could not be written, each told when it is new.
struct Complaints {
    told: BTreeMap<&'static str, Refusal>,
    metrics: Arc<Metrics>,
}

impl Complaints {
    fn new(metrics: Arc<Metrics>) -> Self {
        Self { told: BTreeMap::new(), metrics }
    }

    fn hear(&mut self, what: &'static str, done: Result<(), Refusal>) {
        match done {
            Ok(()) => drop(self.told.remove(what)),
            Err(why) => {
                self.metrics.back_failed();
                if self.told.get(what) != Some(&why) {
                    tracing::warn!(what, %why, "not written to the cluster; it is tried again");
                }
                self.told.insert(what, why);
            }
        }
    }
}

/// The error and its causes, on one line.
fn why(error: &kube::Error) -> Refusal {
    crate::note::with_causes(error)
}
