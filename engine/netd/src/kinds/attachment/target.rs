//! Pinned XDP links: reads which there are, attaches, replaces programs, detaches.

use super::attach::attach;
use super::standing::standing;
use super::{AttachmentSpec, NAME};
use crate::balancer::Balancer;
use crate::facts::Facts;
use crate::kinds::service::{sentence, smallest_capacity};
use crate::target::Target;
use async_trait::async_trait;
use netd_bpf::Datapath;
use netd_bpf::links;
use netd_core::{Action, Observation, Outcome, Step};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// The target of attachments: the pinned links of the load balancer.
pub struct AttachmentTarget {
    balancer: Arc<Balancer>,
    /// Changes of mode that a driver refused: device, interface index, mode.
    refused: BTreeSet<(String, u32, &'static str)>,
}

impl AttachmentTarget {
    /// The target that attaches this load balancer's program.
    #[must_use]
    pub fn new(balancer: Arc<Balancer>) -> Self {
        Self { balancer, refused: BTreeSet::new() }
    }
}

#[async_trait]
impl Target for AttachmentTarget {
    async fn observe(&mut self, facts: &Facts) -> Result<Observation, String> {
        let Some(root) = self.balancer.root() else { return Ok(Observation::default()) };
        let (current, recording) = self.balancer.with_datapath(|datapath| match datapath {
            Some(datapath) if is_current(datapath) => {
                (datapath.program_id().ok(), datapath.recording_program_id())
            }
            _ => (None, None),
        })?;
        let links = links::list(&root).map_err(|error| sentence(&error))?;
        // Beside a daemon that records, the program that it records with is the right one.
        let recording = recording
            .filter(|id| self.balancer.only_looks() && links.iter().any(|link| link.program_id == *id));
        let current = recording.or(current);
        Ok(standing(links, current, facts, |found| found))
    }

    async fn apply(&mut self, steps: &[Step], _facts: &Facts) -> Vec<Outcome> {
        let outcomes = steps.iter().map(|step| self.step(step).unwrap_or_else(|outcome| outcome)).collect();
        // The maps that links ran before: whatever could not be turned over keeps its own alive.
        if let Err(why) = self.balancer.sweep() {
            tracing::warn!(why, "maps that are not in force any more could not be removed");
        }
        outcomes
    }
}

/// Whether it is the program that this binary carries, and would be found after a restart: somebody may have removed
/// pins.
fn is_current(datapath: &Datapath) -> bool {
    datapath.is_embedded_program() && datapath.is_pinned()
}

impl AttachmentTarget {
    fn step(&mut self, step: &Step) -> Result<Outcome, Outcome> {
        let spec = |spec: &Arc<dyn netd_core::Spec>| {
            let typed = spec.as_any().downcast_ref::<AttachmentSpec>();
            typed.cloned().ok_or_else(|| Outcome::Failed(format!("not an {NAME}")))
        };
        let Some(root) = self.balancer.root() else {
            return Err(Outcome::Failed("there are no devices in memory".into()));
        };
        match &step.action {
            Action::Create { to } => self.attach(&root, &spec(to)?),
            Action::Update { from, to } => {
                let (from, to) = (spec(from)?, spec(to)?);
                if from.ifindex == to.ifindex && !to.mode_satisfied_by(from.mode) {
                    return self.change_mode(&root, &from, &to);
                }
                if from.ifindex != to.ifindex {
                    links::detach(&root, &to.device).map_err(failed)?;
                }
                self.attach(&root, &to)
            }
            Action::Delete { from } => {
                links::detach(&root, &spec(from)?.device).map_err(failed)?;
                Ok(Outcome::Applied)
            }
        }
    }

    /// Attaches in another mode, which cannot be done without detaching first. A mode that was refused once is not
    /// tried again on the same device: each try would cost packets.
    fn change_mode(
        &mut self,
        root: &Path,
        from: &AttachmentSpec,
        to: &AttachmentSpec,
    ) -> Result<Outcome, Outcome> {
        let attempt = (to.device.clone(), to.ifindex, to.mode.word());
        if self.refused.contains(&attempt) {
            let why =
                format!("{} mode was refused; the program runs in {} mode", to.mode.word(), from.mode.word());
            return Err(Outcome::Failed(why));
        }
        links::detach(root, &to.device).map_err(failed)?;
        match self.attach(root, to)? {
            Outcome::Applied => Ok(Outcome::Applied),
            refused => {
                self.refused.insert(attempt);
                self.attach(root, &AttachmentSpec { mode: from.mode, ..to.clone() })?;
                Ok(refused)
            }
        }
    }

    /// Attaches the current program, or turns a link that is there over to it.
    fn attach(&self, root: &Path, spec: &AttachmentSpec) -> Result<Outcome, Outcome> {
        self.ensure_current()?;
        attach(&spec.device, spec.mode, |mode| {
            let tried = self.balancer.with_datapath(|datapath| {
                datapath
                    .map(|datapath| links::attach(root, &spec.device, spec.ifindex, mode, datapath.program()))
            });
            let missing = || Outcome::Failed("there is no program to attach".into());
            tried.map_err(Outcome::Failed)?.ok_or_else(missing)
        })
    }

    /// Makes maps if there are none, and makes the program the one that this binary carries.
    fn ensure_current(&self) -> Result<(), Outcome> {
        if self.balancer.put_in_force().map_err(Outcome::Failed)? {
            return Ok(());
        }
        let state = self.balancer.with_datapath(|datapath| datapath.map(|found| is_current(found)));
        match state.map_err(Outcome::Failed)? {
            Some(true) => Ok(()),
            Some(false) => self.balancer.renew().map_err(Outcome::Failed),
            None => {
                self.balancer.grow(&smallest_capacity()).map_err(Outcome::Failed)?;
                self.balancer.put_in_force().map(drop).map_err(Outcome::Failed)
            }
        }
    }
}

fn failed(error: netd_bpf::Error) -> Outcome {
    Outcome::Failed(sentence(&error))
}
