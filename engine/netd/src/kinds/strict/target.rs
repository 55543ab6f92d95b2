//! Strict mode's programs: reads what they go by and where they are, fills them, attaches them, takes them off.

use super::{NAME, Rules, StrictSpec};
use crate::facts::Facts;
use crate::kinds::attachment::{Stand, known, on_both_sides};
use crate::kinds::service::sentence;
use crate::target::{Target, spec_of};
use async_trait::async_trait;
use netd_bpf::Error;
use netd_bpf::strict::Strict;
use netd_bpf::strict::abi::Counts;
use netd_core::{Action, Key, Observation, Outcome, Step};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The folder of the pins, below that of the load balancer's.
const FOLDER: &str = "strict";

/// The target of strict mode: two programs, on some devices.
pub struct StrictTarget {
    /// Where a BPF file system is, or will be.
    bpf_dir: PathBuf,
    root: PathBuf,
}

impl StrictTarget {
    /// The target whose pins are below this folder.
    #[must_use]
    pub fn new(bpf_dir: &Path) -> Self {
        Self { bpf_dir: bpf_dir.to_owned(), root: bpf_dir.join(FOLDER) }
    }
}

/// What the programs below this folder have dropped; `None` if there are none.
///
/// # Errors
///
/// A sentence, if it cannot be read.
pub fn counted(bpf_dir: &Path) -> Result<Option<Counts>, String> {
    Ok(open(&bpf_dir.join(FOLDER))?.map(|strict| strict.counts()))
}

/// What was dropped, as a person reads it; nothing if nothing was.
#[must_use]
pub fn told(counts: &Counts) -> Option<String> {
    let leaving = counts.out_plain + counts.out_tunnel + counts.out_fragment;
    let coming = counts.in_plain + counts.in_tunnel;
    let inside =
        |tunnel: u64| if tunnel > 0 { format!(" ({tunnel} of them in the tunnel)") } else { String::new() };
    let mut said = Vec::new();
    if leaving > 0 {
        let inside = inside(counts.out_tunnel + counts.out_fragment);
        said.push(format!("{leaving} packets were dropped that would have left in clear{inside}"));
    }
    if coming > 0 {
        let inside = inside(counts.in_tunnel);
        said.push(format!("{coming} packets were dropped that came in in clear{inside}"));
    }
    (!said.is_empty()).then(|| said.join("; "))
}

#[async_trait]
impl Target for StrictTarget {
    async fn observe(&mut self, facts: &Facts) -> Result<Observation, String> {
        observe(&self.root, facts)
    }

    async fn apply(&mut self, steps: &[Step], _facts: &Facts) -> Vec<Outcome> {
        let outcomes = steps.iter().map(|step| self.step(step).unwrap_or_else(|outcome| outcome)).collect();
        // Programs that no link runs any more, and after the last device all of it.
        if let Err(why) = self.sweep() {
            tracing::warn!(
                why,
                "a program of strict mode that is not in force any more could not be removed"
            );
        }
        outcomes
    }

    async fn dismantle(&mut self) -> Result<(), String> {
        Strict::retire_all(&self.root).map_err(|error| sentence(&error))
    }
}

/// The programs in force; those of another version are as good as none.
fn open(root: &Path) -> Result<Option<Strict>, String> {
    known(Strict::open(root))
}

fn observe(root: &Path, facts: &Facts) -> Result<Observation, String> {
    let mut observation = Observation::default();
    let attached = Strict::attached(root).map_err(|error| sentence(&error))?;
    if attached.is_empty() {
        return Ok(observation);
    }
    let found = open(root)?;
    let rules = match &found {
        Some(strict) => Rules::held(&strict.rules().map_err(|error| sentence(&error))?),
        None => Rules::default(),
    };
    let rules = Arc::new(rules);
    let note = found.as_ref().and_then(|strict| told(&strict.counts()));
    let current = found.as_ref().filter(|strict| strict.is_current());
    let program_id = |side| current.and_then(|strict| strict.program_id(side).ok());
    for Stand { device, ifindex, program, .. } in on_both_sides(&attached, facts, program_id) {
        let key = Key::new(&device);
        let spec = StrictSpec { device, ifindex, program, rules: Arc::clone(&rules) };
        observation.owned.insert(key.clone(), Arc::new(spec));
        observation.notes.extend(note.clone().map(|note| (key, note)));
    }
    Ok(observation)
}

impl StrictTarget {
    fn step(&self, step: &Step) -> Result<Outcome, Outcome> {
        let spec: &StrictSpec = spec_of(step, NAME)?;
        match step.action {
            Action::Create { .. } | Action::Update { .. } => self.put(spec),
            Action::Delete { .. } => {
                Strict::detach(&self.root, &spec.device).map_err(failed)?;
                Ok(Outcome::Applied)
            }
        }
    }

    /// Has the programs go by the rules, and the device run them; and so do the others, also one that is only kept.
    fn put(&self, spec: &StrictSpec) -> Result<Outcome, Outcome> {
        let strict = self.filled(&spec.rules)?;
        match strict.attach(&spec.device, spec.ifindex).and_then(|()| strict.replace_older()) {
            Ok(()) => Ok(Outcome::Applied),
            Err(error) => Ok(Outcome::Failed(sentence(&error))),
        }
    }

    /// The programs that this binary carries, filled: those of before, or new ones.
    fn filled(&self, rules: &Rules) -> Result<Strict, Outcome> {
        let rules = rules.for_program();
        let before = open(&self.root).map_err(Outcome::Failed)?;
        if let Some(mut strict) = before.filter(Strict::is_current) {
            strict.set_rules(&rules).map_err(failed)?;
            return Ok(strict);
        }
        netd_bpf::mount_bpffs_if_missing(&self.bpf_dir).map_err(failed)?;
        let before = open(&self.root).map_err(Outcome::Failed)?;
        let mut strict = Strict::prepare(&self.root, before.as_ref()).map_err(failed)?;
        strict.set_rules(&rules).map_err(failed)?;
        strict.complete().map_err(failed)?;
        Ok(strict)
    }

    fn sweep(&self) -> Result<(), String> {
        let swept = match Strict::attached(&self.root) {
            Ok(links) if links.is_empty() => Strict::retire_all(&self.root),
            Ok(_) => match open(&self.root)? {
                Some(strict) => strict.retire_others(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_dropped_is_told_in_a_sentence_and_nothing_if_nothing_was() {
        assert_eq!(told(&Counts::default()), None);
        let counts =
            Counts { out_plain: 3, out_tunnel: 2, out_fragment: 1, in_plain: 7, ..Counts::default() };
        let expected = "6 packets were dropped that would have left in clear (3 of them in the tunnel); 7 packets were \
                        dropped that came in in clear";
        assert_eq!(told(&counts).as_deref(), Some(expected));
    }
}
