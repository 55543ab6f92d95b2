//! The door of a kind: reads and changes one kind of resource in the outside world.

use crate::facts::Facts;
use async_trait::async_trait;
use netd_core::{DesiredKind, KindName, Observation, Outcome, Spec, Step};
use netd_schema::Config;
use std::sync::Arc;

/// Reads and changes one kind of resource.
#[async_trait]
pub trait Target: Send {
    /// Is told the file in force before each look at the node: where to look, if that is not always the same place. What is
    /// to be changed is never read from it, and before there is a file it is not called.
    fn aim(&mut self, _in_force: &Config) {}

    /// Lists the resources that netd owns, whole, and the foreign holders of keys.
    ///
    /// # Errors
    ///
    /// A sentence. What could not be read whole is unknown: nothing of the kind is then planned.
    async fn observe(&mut self, facts: &Facts) -> Result<Observation, String>;

    /// As [`Target::observe`]; the same value, not an equal one, when nothing differs from what it answered last, so that
    /// nobody compares a hundred thousand backends with themselves.
    ///
    /// # Errors
    ///
    /// As for [`Target::observe`].
    async fn observe_again(&mut self, facts: &Facts) -> Result<Arc<Observation>, String> {
        self.observe(facts).await.map(Arc::new)
    }

    /// Makes the changes, all of this kind, in their order, and says what came of each.
    ///
    /// The answer has one outcome per step. Making a change twice is the same as making it once; deleting what is
    /// absent succeeds. A failed step does not keep the others from being tried.
    async fn apply(&mut self, steps: &[Step], facts: &Facts) -> Vec<Outcome>;

    /// Whether a resource of the kind takes the place of another one, so that none goes before all that come are made.
    fn exchanges(&self) -> bool {
        false
    }

    /// Ends what ends by itself: called now and then by a daemon that runs, never for a dry run.
    ///
    /// # Errors
    ///
    /// A sentence; it is tried again the next time.
    async fn tend(&mut self) -> Result<(), String> {
        Ok(())
    }

    /// Removes what carried the kind's resources without being one, such as empty maps; called when a tear-down has
    /// left no resource of any kind. Doing it twice is the same as doing it once.
    ///
    /// # Errors
    ///
    /// A sentence: what is left, and why.
    async fn dismantle(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// What a step makes, or removes, as the spec of its kind.
///
/// # Errors
///
/// [`Outcome::Failed`] for the step of another kind, which no plan has.
pub(crate) fn spec_of<S: Spec + 'static>(step: &Step, kind: KindName) -> Result<&S, Outcome> {
    let spec = step.action.spec().as_any().downcast_ref();
    spec.ok_or_else(|| Outcome::Failed(format!("not of the kind {kind}")))
}

/// One kind: how what is wanted follows from the file and the facts, and the target that does it.
pub struct KindEntry {
    /// The kind's name.
    pub name: KindName,
    /// Whether an operator lists resources of this kind in the file, so that the brakes count them.
    pub guarded: bool,
    /// Whether packets may be on their way through what its failed changes were to replace: then what is below it stays
    /// until they are made.
    pub carries_traffic: bool,
    /// Pure: what is wanted.
    ///
    /// An `Err` says what must be known first; nothing of the kind is then planned.
    pub desired: fn(&Config, &Facts) -> Result<DesiredKind, String>,
    /// Pure: the same, found for less from what was wanted before, where that is possible.
    pub again: Option<Again>,
    /// The world.
    pub target: Box<dyn Target>,
}

/// Finds what is wanted from what was wanted before; the result is that of [`KindEntry::desired`]. `None`: it has to be
/// found anew.
pub type Again = fn(&Config, &Facts, &Before<'_>) -> Option<Arc<DesiredKind>>;

/// What a kind wanted, and for what.
#[derive(Clone, Copy, Debug)]
pub struct Before<'a> {
    /// The file.
    pub config: &'a Config,
    /// The node.
    pub facts: &'a Facts,
    /// What was wanted then.
    pub desired: &'a Arc<DesiredKind>,
}
