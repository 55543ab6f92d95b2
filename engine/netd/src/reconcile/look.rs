//! Looks at the node: its facts, and what it has of every kind. A target that panics or hangs is an unread kind.

use crate::facts::Facts;
use crate::target::KindEntry;
use async_trait::async_trait;
use futures_util::FutureExt as _;
use netd_core::{Desired, KindName, Observed, Reading};
use std::any::Any;
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

/// Reads the facts; the kernel's reader in the program, a fake in tests.
#[async_trait]
pub trait ReadFacts: Send {
    /// One consistent view of the node.
    ///
    /// # Errors
    ///
    /// A sentence. Without facts nothing is planned.
    async fn read(&mut self) -> Result<Facts, String>;

    /// Something was changed by this process: the next read answers with that, announced or not.
    fn touched(&mut self) {}

    /// The next read answers with nothing that was read before.
    fn forget(&mut self) {}
}

#[async_trait]
impl ReadFacts for crate::facts::FactsReader {
    async fn read(&mut self) -> Result<Facts, String> {
        Self::read(self).await
    }

    fn touched(&mut self) {
        Self::touched(self);
    }

    fn forget(&mut self) {
        Self::forget(self);
    }
}

/// Observing a kind takes milliseconds; a target that needs longer than this hangs, and its kind is unread.
const OBSERVE_MAX: Duration = Duration::from_secs(30);

/// Reads the facts, whatever the reader does.
pub(crate) async fn read_facts(reader: &mut dyn ReadFacts) -> Result<Facts, String> {
    guarded("reading the facts", OBSERVE_MAX, reader.read()).await?
}

/// Observes every kind.
pub(crate) async fn observe(kinds: &mut [KindEntry], facts: &Facts) -> Observed {
    let mut observed = BTreeMap::new();
    for kind in kinds {
        let reading = match guarded("reading it", OBSERVE_MAX, kind.target.observe_again(facts)).await {
            Ok(Ok(observation)) => Reading::Known(observation),
            Ok(Err(why)) | Err(why) => Reading::Unknown(why),
        };
        observed.insert(kind.name, reading);
    }
    Observed(observed)
}

/// Ends what ends by itself.
pub(crate) async fn tend(kinds: &mut [KindEntry]) {
    for kind in kinds {
        if let Ok(Err(why)) | Err(why) = guarded("tending it", OBSERVE_MAX, kind.target.tend()).await {
            tracing::warn!(kind = kind.name, why, "something could not be ended");
        }
    }
}

/// Removes what only carried resources, backwards; says which kinds could not, and why.
pub(crate) async fn dismantle(kinds: &mut [KindEntry]) -> BTreeMap<KindName, String> {
    let mut failed = BTreeMap::new();
    for kind in kinds.iter_mut().rev() {
        if let Ok(Err(why)) | Err(why) = guarded("dismantling it", OBSERVE_MAX, kind.target.dismantle()).await
        {
            failed.insert(kind.name, why);
        }
    }
    failed
}

/// Nothing of any kind: what a teardown asks for.
pub(crate) fn nothing(kinds: &[KindEntry]) -> Desired {
    Desired(kinds.iter().map(|kind| (kind.name, Ok(Arc::default()))).collect())
}

/// Runs a subsystem's work to its end, its panic or its time limit.
pub(crate) async fn guarded<T>(
    what: &str,
    limit: Duration,
    work: impl Future<Output = T> + Send,
) -> Result<T, String> {
    match tokio::time::timeout(limit, AssertUnwindSafe(work).catch_unwind()).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(panic)) => {
            let text = panic_text(&*panic);
            tracing::error!(what, panic = %text, "a subsystem panicked");
            Err(format!("{what} panicked: {text}"))
        }
        Err(_) => Err(format!("{what} did not end within {} s", limit.as_secs())),
    }
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a message".into())
}
