//! The gobgpd that the file names, and those that it named before.

use super::{InstanceSpec, key};
use crate::facts::Facts;
use crate::speaker::{Shared, Trouble};
use crate::target::Target;
use async_trait::async_trait;
use netd_core::{Action, Described, Observation, Outcome, Spec, Step};
use netd_gobgp::Global;
use netd_schema::Gobgpd;
use std::sync::Arc;

/// The target of speakers.
pub struct InstanceTarget(Shared);

impl InstanceTarget {
    /// The target that drives this speaker.
    #[must_use]
    pub fn new(speaker: Shared) -> Self {
        Self(speaker)
    }

    async fn make(&self, step: &Step) -> Outcome {
        let typed = |spec: &Arc<dyn Spec>| spec.as_any().downcast_ref::<InstanceSpec>().cloned();
        let mut speaker = self.0.lock().await;
        let done = match &step.action {
            Action::Create { to } | Action::Update { to, .. } => {
                let Some(to) = typed(to) else { return not_a_speaker() };
                let InstanceSpec { asn, router_id, listen_port, .. } = to;
                let wanted = Global { asn, router_id, listen_port };
                let suits = |global: &Global| Described::satisfied_by(&to, &spec(&to.gobgpd, global));
                speaker.take(&to.gobgpd, &wanted, suits).await
            }
            Action::Delete { from } => {
                let Some(from) = typed(from) else { return not_a_speaker() };
                speaker.give_up(&from.gobgpd).await
            }
        };
        match done {
            Ok(()) => Outcome::Applied,
            Err(Trouble::Failed(why)) => Outcome::Failed(why),
            Err(Trouble::Anothers(who)) => Outcome::Conflict(who),
        }
    }
}

fn not_a_speaker() -> Outcome {
    Outcome::Failed("this is not a speaker".into())
}

/// What a gobgpd was found to be.
fn spec(gobgpd: &Gobgpd, global: &Global) -> InstanceSpec {
    let &Global { asn, router_id, listen_port } = global;
    InstanceSpec { gobgpd: gobgpd.clone(), asn, router_id, is_router_id_given: false, listen_port }
}

#[async_trait]
impl Target for InstanceTarget {
    async fn observe(&mut self, _facts: &Facts) -> Result<Observation, String> {
        let mut observation = Observation::default();
        for (gobgpd, global) in self.0.lock().await.look().await? {
            observation.owned.insert(key(&gobgpd), Arc::new(spec(&gobgpd, &global)));
        }
        Ok(observation)
    }

    async fn apply(&mut self, steps: &[Step], _facts: &Facts) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(steps.len());
        for step in steps {
            outcomes.push(self.make(step).await);
        }
        outcomes
    }
}
