//! Looks at the node: its facts, and what it has of every kind. A target that panics or hangs is an unread kind.

use crate::facts::Facts;
use crate::target::KindEntry;
use async_trait::async_trait;
use futures_util::FutureExt as _;
use netd_core::{Desired, DesiredKind, KindName, Observed, Reading};
use netd_schema::Config;
use std::any::Any;
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
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
        let reading = match guarded("reading it", OBSERVE_MAX, kind.target.observe(facts)).await {
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

/// What the file and the facts ask for, of every kind.
pub(crate) fn desired(kinds: &[KindEntry], config: &Config, facts: &Facts) -> Desired {
    let named = short_name(config, facts).map(|node| Facts { node: node.to_owned(), ..facts.clone() });
    let facts = named.as_ref().unwrap_or(facts);
    let of = |kind: &KindEntry| {
        catch_unwind(AssertUnwindSafe(|| (kind.desired)(config, facts)))
            .unwrap_or_else(|panic| Err(format!("deciding what is wanted panicked: {}", panic_text(&*panic))))
    };
    Desired(kinds.iter().map(|kind| (kind.name, of(kind))).collect())
}

/// A host may be called by its full name while the file lists the first label of it.
fn short_name<'a>(config: &Config, facts: &'a Facts) -> Option<&'a str> {
    let (short, _) = facts.node.split_once('.')?;
    (config.node(&facts.node).is_none() && config.node(short).is_some()).then_some(short)
}

/// Nothing of any kind: what a teardown asks for.
pub(crate) fn nothing(kinds: &[KindEntry]) -> Desired {
    Desired(kinds.iter().map(|kind| (kind.name, Ok(DesiredKind::default()))).collect())
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

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a message".into())
}
