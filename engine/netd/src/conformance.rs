//! What every target promises, as checks that fakes and real ones pass alike.
//!
//! The caller brings a target in an empty world and two resources; each check says what was broken.

use crate::facts::Facts;
use crate::target::Target;
use netd_core::{Action, Key, KindName, Observation, Outcome, ResourceId, Spec, Step};
use std::future::Future;
use std::sync::Arc;

/// A target under test, and the world around it.
pub struct Subject<'t, F> {
    /// The kind's name.
    pub kind: KindName,
    /// The target; nothing of its kind is there yet.
    pub target: &'t mut dyn Target,
    /// What the node is now.
    pub facts: F,
    /// Two resources that can be there at the same time.
    pub resources: [(Key, Arc<dyn Spec>); 2],
    /// What the first resource may become, if the kind has updates.
    pub updated: Option<Arc<dyn Spec>>,
}

impl<F, R> Subject<'_, F>
where
    F: FnMut() -> R,
    R: Future<Output = Result<Facts, String>>,
{
    /// Goes through all promises. The world is empty again afterwards.
    ///
    /// # Errors
    ///
    /// The first promise that was not kept.
    pub async fn check(&mut self) -> Result<(), String> {
        let [(first, one), (second, two)] = self.resources.clone();
        self.expect("at the start", &[]).await?;

        let create =
            [(&first, Action::Create { to: one.clone() }), (&second, Action::Create { to: two.clone() })];
        self.applied("create", &create).await?;
        self.expect("after create", &[(&first, &one), (&second, &two)]).await?;
        self.applied("create once more", &create).await?;
        self.expect("after a second create", &[(&first, &one), (&second, &two)]).await?;

        let mut now = one;
        if let Some(updated) = self.updated.clone() {
            let update = [(&first, Action::Update { from: now.clone(), to: updated.clone() })];
            self.applied("update", &update).await?;
            self.expect("after update", &[(&first, &updated), (&second, &two)]).await?;
            self.applied(
                "update once more",
                &[(&first, Action::Update { from: updated.clone(), to: updated.clone() })],
            )
            .await?;
            self.expect("after a second update", &[(&first, &updated), (&second, &two)]).await?;
            now = updated;
        }

        let delete = [(&first, Action::Delete { from: now.clone() })];
        self.applied("delete", &delete).await?;
        self.expect("after delete", &[(&second, &two)]).await?;
        self.applied("delete what is absent", &delete).await?;

        let mixed =
            [(&first, Action::Create { to: now.clone() }), (&second, Action::Delete { from: two.clone() })];
        self.applied("create and delete together", &mixed).await?;
        self.expect("after both", &[(&first, &now)]).await?;
        self.applied("delete the last", &delete).await?;
        self.expect("at the end", &[]).await
    }

    /// Checks that a resource whose key something else holds is refused and named, and that a step after it is still
    /// made; the outcomes are in the order of the steps. The first resource must be the held one.
    ///
    /// # Errors
    ///
    /// The first promise that was not kept.
    pub async fn check_foreign(&mut self) -> Result<(), String> {
        let [(held, one), (free, two)] = self.resources.clone();
        let create = [(&held, Action::Create { to: one }), (&free, Action::Create { to: two.clone() })];
        match self.apply(&create).await?.as_slice() {
            [Outcome::Conflict(_), Outcome::Applied] => {}
            other => return Err(format!("create where a foreign one is: outcomes are {other:?}")),
        }
        let observation = self.observe().await?;
        if !observation.foreign.contains_key(&held) {
            return Err(format!("{held} is not reported as held by another: {:?}", observation.foreign));
        }
        self.expect("beside a foreign one", &[(&free, &two)]).await?;
        self.applied("delete the free one", &[(&free, Action::Delete { from: two.clone() })]).await?;
        self.expect("at the end", &[]).await
    }

    async fn observe(&mut self) -> Result<Observation, String> {
        let facts = (self.facts)().await?;
        self.target.observe(&facts).await
    }

    async fn expect(&mut self, when: &str, wanted: &[(&Key, &Arc<dyn Spec>)]) -> Result<(), String> {
        let owned = self.observe().await?.owned;
        if owned.len() != wanted.len() {
            return Err(format!("{when}: {} resources are expected, found {owned:?}", wanted.len()));
        }
        for (key, spec) in wanted {
            match owned.get(*key) {
                Some(found) if spec.satisfied_by(found.as_ref()) => {}
                other => return Err(format!("{when}: {key} should be {spec:?}, found {other:?}")),
            }
        }
        Ok(())
    }

    async fn applied(&mut self, what: &str, changes: &[(&Key, Action)]) -> Result<(), String> {
        let outcomes = self.apply(changes).await?;
        match outcomes.iter().all(|outcome| *outcome == Outcome::Applied) {
            true => Ok(()),
            false => Err(format!("{what}: outcomes are {outcomes:?}")),
        }
    }

    async fn apply(&mut self, changes: &[(&Key, Action)]) -> Result<Vec<Outcome>, String> {
        let id = |key: &Key| ResourceId { kind: self.kind, key: key.clone() };
        let steps: Vec<Step> =
            changes.iter().map(|(key, action)| Step { id: id(key), action: action.clone() }).collect();
        let facts = (self.facts)().await?;
        let outcomes = self.target.apply(&steps, &facts).await;
        match outcomes.len() == steps.len() {
            true => Ok(outcomes),
            false => Err(format!("{} steps have {} outcomes", steps.len(), outcomes.len())),
        }
    }
}
