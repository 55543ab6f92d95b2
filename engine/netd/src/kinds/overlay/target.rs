//! The overlay's programs: reads what they go by and where they are, fills them, attaches them, takes them off.

use super::{NAME, OverlaySpec, Role, Rules};
use crate::facts::Facts;
use crate::kinds::attachment::{Program, known};
use crate::kinds::service::sentence;
use crate::target::{Target, spec_of};
use async_trait::async_trait;
use netd_bpf::overlay::{self, Overlay};
use netd_bpf::{Error, links};
use netd_core::{Action, Key, Observation, Outcome, Step};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The folder of the pins, below that of the load balancer's.
const FOLDER: &str = "overlay";

/// The target of the overlay: two programs, on some devices.
pub struct OverlayTarget {
    /// Where a BPF file system is, or will be.
    bpf_dir: PathBuf,
    root: PathBuf,
}

impl OverlayTarget {
    /// The target whose pins are below this folder.
    #[must_use]
    pub fn new(bpf_dir: &Path) -> Self {
        Self { bpf_dir: bpf_dir.to_owned(), root: bpf_dir.join(FOLDER) }
    }
}

#[async_trait]
impl Target for OverlayTarget {
    async fn observe(&mut self, facts: &Facts) -> Result<Observation, String> {
        observe(&self.root, facts)
    }

    async fn apply(&mut self, steps: &[Step], _facts: &Facts) -> Vec<Outcome> {
        let mut filled = None;
        let done = |step| self.step(step, &mut filled).unwrap_or_else(|outcome| outcome);
        let outcomes = steps.iter().map(done).collect();
        // Programs that no link runs any more, and after the last device all of it.
        if let Err(why) = self.sweep() {
            tracing::warn!(
                why,
                "a program of the overlay that is not in force any more could not be removed"
            );
        }
        outcomes
    }

    async fn dismantle(&mut self) -> Result<(), String> {
        Overlay::retire_all(&self.root).map_err(|error| sentence(&error))
    }
}

/// Programs, and the rules that they were filled with: most steps of a pass have the same.
type Filled = (Arc<Rules>, Overlay);

/// The programs in force; those of another version are as good as none.
fn open(root: &Path) -> Result<Option<Overlay>, String> {
    known(Overlay::open(root))
}

fn observe(root: &Path, facts: &Facts) -> Result<Observation, String> {
    let links = links::list(root).map_err(|error| sentence(&error))?;
    let mut observation = Observation::default();
    if links.is_empty() {
        return Ok(observation);
    }
    let found = open(root)?.filter(Overlay::is_current);
    let (rules, strangers) = match &found {
        Some(overlay) => {
            let rules = overlay.rules().map_err(|error| sentence(&error))?;
            (Rules::held(rules), overlay.counts().strangers)
        }
        None => (Rules::default(), 0),
    };
    let rules = Arc::new(rules);
    let id = |role| found.as_ref().and_then(|overlay| overlay.program_id(role).ok());
    let (receive, send) = (id(overlay::Role::Receive), id(overlay::Role::Send));
    for link in links {
        let key = Key::new(&link.device);
        let is_renamed = facts.links.get(&link.ifindex).is_some_and(|found| found.name != link.device);
        let (role, program) = match Some(link.program_id) {
            running if running == receive => (Role::Receive, Program::Current),
            running if running == send => (Role::Send, Program::Current),
            _ => (Role::Receive, Program::Earlier),
        };
        if role == Role::Receive && strangers > 0 {
            let note = format!(
                "since the program was loaded, {strangers} packets of the tunnel were dropped: not from a node, or of \
                 another VNI"
            );
            observation.notes.insert(key.clone(), note);
        }
        // A device that was renamed keeps its link; it is then one of another name than is wanted.
        let ifindex = if is_renamed { 0 } else { link.ifindex };
        let spec = OverlaySpec { device: link.device, ifindex, role, program, rules: Arc::clone(&rules) };
        observation.owned.insert(key, Arc::new(spec));
    }
    Ok(observation)
}

impl OverlayTarget {
    fn step(&self, step: &Step, filled: &mut Option<Filled>) -> Result<Outcome, Outcome> {
        let spec: &OverlaySpec = spec_of(step, NAME)?;
        match step.action {
            Action::Create { .. } | Action::Update { .. } => self.put(spec, filled),
            Action::Delete { .. } => {
                links::detach(&self.root, &spec.device).map_err(failed)?;
                Ok(Outcome::Applied)
            }
        }
    }

    /// Has the programs go by the rules, and the device run the one of its role.
    fn put(&self, spec: &OverlaySpec, filled: &mut Option<Filled>) -> Result<Outcome, Outcome> {
        let overlay = match filled {
            Some((rules, overlay)) if Arc::ptr_eq(rules, &spec.rules) => overlay,
            _ => &mut filled.insert((Arc::clone(&spec.rules), self.filled(&spec.rules)?)).1,
        };
        let role = match spec.role {
            Role::Receive => overlay::Role::Receive,
            Role::Send => overlay::Role::Send,
        };
        match overlay.attach(role, &spec.device, spec.ifindex) {
            Ok(()) => Ok(Outcome::Applied),
            Err(error) => Ok(Outcome::Failed(sentence(&error))),
        }
    }

    /// The programs that this binary carries, filled: those of before, or new ones.
    fn filled(&self, rules: &Rules) -> Result<Overlay, Outcome> {
        let rules = rules.for_program();
        if let Some(mut overlay) = open(&self.root).map_err(Outcome::Failed)?.filter(Overlay::is_current) {
            overlay.set_rules(&rules).map_err(failed)?;
            return Ok(overlay);
        }
        netd_bpf::mount_bpffs_if_missing(&self.bpf_dir).map_err(failed)?;
        let mut overlay = Overlay::prepare(&self.root).map_err(failed)?;
        overlay.set_rules(&rules).map_err(failed)?;
        overlay.complete().map_err(failed)?;
        Ok(overlay)
    }

    fn sweep(&self) -> Result<(), String> {
        let swept = match links::list(&self.root) {
            Ok(links) if links.is_empty() => Overlay::retire_all(&self.root),
            Ok(_) => match open(&self.root)? {
                Some(overlay) => overlay.retire_others(),
                None => Ok(()),
            },
            Err(error) => Err(error),
        };
        swept.map_err(|error| sentence(&error))
    }
}

fn failed(error: Error) -> Outcome {
    Outcome::Failed(sentence(&error))
}
