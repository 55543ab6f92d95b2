//! Listens to a gobgpd: to its events, which ask for a pass, and to what the managed one writes.

use super::received::Appetite;
use netd_gobgp::Client;
use netd_gobgp::child::{Level, Line, Tail};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// Between two looks at what the managed one has written.
const LOG_STEP: Duration = Duration::from_millis(500);

/// Between two looks at whether peers have sent anything.
const COUNTING_STEP: Duration = Duration::from_secs(1);

/// A connection that is lost is told after at least this long, so that one which is lost at once each time does not
/// keep netd busy.
const LOST_AFTER_MIN: Duration = Duration::from_millis(200);

/// Of so many peers the last complaint is kept.
const PEERS_MAX: usize = 1024;

/// The last complaint about each peer.
#[derive(Clone, Debug, Default)]
pub(super) struct Said(Arc<Mutex<BTreeMap<IpAddr, String>>>);

impl Said {
    /// The last about this peer.
    pub(super) fn about(&self, peer: IpAddr) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&peer).cloned()
    }

    fn note(&self, line: &Line) {
        let Some(peer) = line.peer.filter(|_| line.level >= Level::Warning) else { return };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() < PEERS_MAX || all.contains_key(&peer) {
            all.insert(peer, line.text.clone());
        }
    }
}

/// Tasks, which end with this.
pub(super) struct Hearing {
    holds: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Hearing {
    /// Listens from now on.
    pub(super) fn start(
        client: Client,
        changed: Arc<Notify>,
        log: Option<PathBuf>,
        said: Said,
        appetite: Arc<Appetite>,
    ) -> Self {
        let holds = Arc::new(AtomicBool::new(true));
        let mut tasks = vec![
            tokio::spawn(hear(client.clone(), Arc::clone(&changed), Arc::clone(&holds))),
            tokio::spawn(count(client, changed, appetite)),
        ];
        tasks.extend(log.map(|log| tokio::spawn(repeat(Tail::from_now(&log), said))));
        Self { holds, tasks }
    }

    /// Whether the daemon still lives the life that the connection is to.
    pub(super) fn holds(&self) -> bool {
        self.holds.load(Ordering::Relaxed)
    }
}

impl Drop for Hearing {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn hear(client: Client, changed: Arc<Notify>, holds: Arc<AtomicBool>) {
    let least = tokio::time::sleep(LOST_AFTER_MIN);
    let error = match client.watch().await {
        Err(error) => error,
        Ok(mut watch) => loop {
            match watch.next().await {
                Ok(_) => changed.notify_one(),
                Err(error) => break error,
            }
        },
    };
    tracing::warn!(gobgpd = client.endpoint(), %error, "gobgpd is gone");
    holds.store(false, Ordering::Relaxed);
    least.await;
    changed.notify_one();
}

/// Asks for a pass when peers have sent something, if that matters to anybody: of routes the daemon's events tell each,
/// of updates its counters tell enough. A step later another one: what was counted may not have been in its table.
async fn count(client: Client, changed: Arc<Notify>, appetite: Arc<Appetite>) {
    let (mut before, mut is_again) = (None, false);
    loop {
        tokio::time::sleep(COUNTING_STEP).await;
        if !appetite.takes_in() {
            continue;
        }
        // That it does not answer is the other task's to notice.
        let Ok(peers) = client.peers().await else { continue };
        let updates: u64 = peers.values().map(|peer| peer.updates.0).sum();
        let is_new = before.replace(updates) != Some(updates);
        if is_new || is_again || appetite.is_due() {
            changed.notify_one();
        }
        is_again = is_new;
    }
}

/// Repeats in netd's log what the daemon says.
async fn repeat(mut tail: Tail, said: Said) {
    loop {
        tokio::time::sleep(LOG_STEP).await;
        // Small, and in memory: reading it does not block.
        for line in tail.read().unwrap_or_default() {
            said.note(&line);
            let Line { level, text, peer: _ } = line;
            match level {
                Level::Debug => tracing::debug!(text, "gobgpd says"),
                Level::Info => tracing::info!(text, "gobgpd says"),
                Level::Warning => tracing::warn!(text, "gobgpd says"),
                Level::Error => tracing::error!(text, "gobgpd says"),
            }
        }
    }
}
