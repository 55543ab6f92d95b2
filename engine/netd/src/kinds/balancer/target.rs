//! The constants of the load balancer's program: read from its maps, changed by another generation.

use super::{BalancerSpec, KEY, NAME};
use crate::balancer::Balancer;
use crate::facts::Facts;
use crate::target::Target;
use async_trait::async_trait;
use netd_bpf::Maps;
use netd_core::{Action, Key, Observation, Outcome, Step};
use std::sync::Arc;

/// The target of the settings.
pub struct BalancerTarget {
    balancer: Arc<Balancer>,
}

impl BalancerTarget {
    /// The target that sets up this load balancer.
    #[must_use]
    pub fn new(balancer: Arc<Balancer>) -> Self {
        Self { balancer }
    }
}

#[async_trait]
impl Target for BalancerTarget {
    async fn observe(&mut self, _facts: &Facts) -> Result<Observation, String> {
        let settings = self.balancer.with_maps(|maps| maps.map(|maps| maps.settings()))?;
        let mut observation = Observation::default();
        if let Some(settings) = settings {
            observation.owned.insert(Key::new(KEY), Arc::new(BalancerSpec::held(&settings)));
        }
        Ok(observation)
    }

    async fn apply(&mut self, steps: &[Step], _facts: &Facts) -> Vec<Outcome> {
        steps.iter().map(|step| self.step(step).map_or_else(Outcome::Failed, |()| Outcome::Applied)).collect()
    }
}

impl BalancerTarget {
    fn step(&self, step: &Step) -> Result<(), String> {
        match &step.action {
            Action::Create { to } | Action::Update { to, .. } => {
                let spec = to.as_any().downcast_ref::<BalancerSpec>();
                self.balancer.configure(spec.ok_or_else(|| format!("not a {NAME}"))?.settings())
            }
            // Nothing is left in the maps by then: tear-down walks backwards.
            Action::Delete { .. } => match self.balancer.with_maps(|maps| maps.map(is_empty))? {
                Some(true) | None => self.balancer.remove(),
                Some(false) => Err("the maps still hold services".into()),
            },
        }
    }
}

fn is_empty(maps: &mut dyn Maps) -> bool {
    maps.frontends().is_ok_and(|entries| entries.is_empty())
}
