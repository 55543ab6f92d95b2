//! The announcements of gobgpd that are netd's.

use crate::facts::Facts;
use crate::target::Target;
use async_trait::async_trait;
use netd_core::{Observation, Outcome, Step};

/// The target of announcements.
#[derive(Default)]
pub struct PathTarget;

#[async_trait]
impl Target for PathTarget {
    async fn observe(&mut self, _facts: &Facts) -> Result<Observation, String> {
        Ok(Observation::default())
    }

    async fn apply(&mut self, steps: &[Step], _facts: &Facts) -> Vec<Outcome> {
        vec![Outcome::Failed("this netd does not drive gobgpd yet".into()); steps.len()]
    }
}
