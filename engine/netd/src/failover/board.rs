//! Where the watch and the passes meet: what was seen is put up, read as a fact, and who waits is told of changes.

use super::carried::Carried;
use super::seen::Seen;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// What is known of the gateways. Shared by reference.
#[derive(Debug, Default)]
pub struct Board {
    seen: Mutex<Option<Arc<Seen>>>,
    changed: Arc<Notify>,
}

impl Board {
    /// One that tells of changes as the node itself does.
    #[must_use]
    pub fn telling(changed: Arc<Notify>) -> Self {
        Self { seen: Mutex::default(), changed }
    }

    /// What was seen last; `None` where nobody watches.
    #[must_use]
    pub fn seen(&self) -> Option<Arc<Seen>> {
        self.held().clone()
    }

    /// Puts up which gateways lived when netd was last here, beside its socket: until nodes have been heard, packets go
    /// where they went before.
    pub fn begin(&self, runtime_dir: &Path) {
        if let Some(alive) = Carried::new(runtime_dir).read() {
            self.put(Some(&Seen { alive, ..Seen::default() }));
        }
    }

    /// Puts up what is seen now; whether that is news.
    pub(super) fn put(&self, now: Option<&Seen>) -> bool {
        let mut seen = self.held();
        if seen.as_deref() == now {
            return false;
        }
        *seen = now.cloned().map(Arc::new);
        drop(seen);
        self.changed.notify_one();
        true
    }

    /// A panic elsewhere left what was put up before.
    fn held(&self) -> MutexGuard<'_, Option<Arc<Seen>>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
