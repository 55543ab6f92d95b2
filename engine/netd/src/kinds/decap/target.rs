//! The decapsulating program: reads what it goes by and where it is, fills it, attaches it, takes it off.

use super::{DecapSpec, NAME, Rules};
use crate::facts::Facts;
use crate::kinds::attachment::{AttachmentSpec, Mode, attach, known, standing};
use crate::kinds::service::sentence;
use crate::target::{Target, spec_of};
use async_trait::async_trait;
use netd_bpf::Error;
use netd_bpf::decap::Decap;
use netd_bpf::decap::abi::Counts;
use netd_bpf::links;
use netd_core::{Action, Observation, Outcome, Step};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The folder of the pins, below that of the load balancer's.
const FOLDER: &str = "decap";

/// Of `rp_filter`: not 0, which is none, nor 2, which asks for any way back.
const STRICT: u8 = 1;

/// The target of decapsulation: one program, on some devices.
pub struct DecapTarget {
    /// Where a BPF file system is, or will be.
    bpf_dir: PathBuf,
    root: PathBuf,
}

impl DecapTarget {
    /// The target whose pins are below this folder.
    #[must_use]
    pub fn new(bpf_dir: &Path) -> Self {
        Self { bpf_dir: bpf_dir.to_owned(), root: bpf_dir.join(FOLDER) }
    }
}

/// What the program below this folder has counted; `None` if there is none.
///
/// # Errors
///
/// A sentence, if it cannot be read.
pub fn counts(bpf_dir: &Path) -> Result<Option<Counts>, String> {
    let found = open(&bpf_dir.join(FOLDER))?;
    Ok(found.map(|decap| decap.counts()))
}

#[async_trait]
impl Target for DecapTarget {
    async fn observe(&mut self, facts: &Facts) -> Result<Observation, String> {
        observe(&self.root, facts)
    }

    async fn apply(&mut self, steps: &[Step], _facts: &Facts) -> Vec<Outcome> {
        let outcomes = steps.iter().map(|step| self.step(step).unwrap_or_else(|outcome| outcome)).collect();
        // Programs that no link runs any more, and after the last device all of it.
        if let Err(why) = self.sweep() {
            tracing::warn!(why, "a decapsulating program that is not in force any more could not be removed");
        }
        outcomes
    }

    async fn dismantle(&mut self) -> Result<(), String> {
        Decap::retire_all(&self.root).map_err(|error| sentence(&error))
    }
}

/// The program in force; one of another version is as good as none.
fn open(root: &Path) -> Result<Option<Decap>, String> {
    known(Decap::open(root))
}

fn observe(root: &Path, facts: &Facts) -> Result<Observation, String> {
    let links = links::list(root).map_err(|error| sentence(&error))?;
    let found = open(root)?.filter(Decap::is_current);
    let (current, rules, told) = match &found {
        Some(decap) => {
            let rules = decap.rules().map_err(|error| sentence(&error))?;
            (decap.program_id().ok(), Rules::held(&rules), told(&decap.counts()))
        }
        None => (None, Rules::default(), None),
    };
    let rules = Arc::new(rules);
    let mut observation =
        standing(links, current, facts, |AttachmentSpec { device, ifindex, program, mode: _ }| DecapSpec {
            device,
            ifindex,
            program,
            rules: Arc::clone(&rules),
        });
    for key in observation.owned.keys() {
        let notes =
            observation.notes.remove(key).into_iter().chain(told.clone()).chain(filters(key.as_str()));
        let notes = notes.collect::<Vec<_>>();
        if !notes.is_empty() {
            observation.notes.insert(key.clone(), notes.join("; "));
        }
    }
    Ok(observation)
}

/// What an operator should know of a device whose packets the kernel compares with the way back to their clients.
fn filters(device: &str) -> Option<String> {
    let value = |of: &str| -> Option<u8> {
        let text = std::fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{of}/rp_filter")).ok()?;
        text.trim().parse().ok()
    };
    // The larger of the two is in force.
    let in_force = [value("all"), value(device)].into_iter().flatten().max();
    (in_force == Some(STRICT)).then(|| {
        "strict reverse path filtering (rp_filter = 1) drops packets of clients to whom the way back is by another device"
            .to_owned()
    })
}

/// What an operator should know of packets that were not taken: a prefix may be missing in the file.
fn told(counts: &Counts) -> Option<String> {
    let mut said = Vec::new();
    if counts.strangers > 0 {
        said.push(format!("{} packets of tunnels from others than `from` were dropped", counts.strangers));
    }
    if counts.not_taken > 0 {
        let text = "packets for others than VIPs, pools and `to` were left in their tunnel";
        said.push(format!("{} {text}", counts.not_taken));
    }
    (!said.is_empty()).then(|| format!("since the program was loaded, {}", said.join(", ")))
}

impl DecapTarget {
    fn step(&self, step: &Step) -> Result<Outcome, Outcome> {
        let spec: &DecapSpec = spec_of(step, NAME)?;
        match step.action {
            Action::Create { .. } | Action::Update { .. } => self.put(spec),
            Action::Delete { .. } => {
                links::detach(&self.root, &spec.device).map_err(failed)?;
                Ok(Outcome::Applied)
            }
        }
    }

    /// Has the program go by the rules, and the device run it.
    fn put(&self, spec: &DecapSpec) -> Result<Outcome, Outcome> {
        let decap = self.filled(&spec.rules)?;
        attach(&spec.device, Mode::Auto, |mode| {
            Ok(links::attach(&self.root, &spec.device, spec.ifindex, mode, decap.program()))
        })
    }

    /// The program that this binary carries, filled: that of before, or a new one.
    fn filled(&self, rules: &Rules) -> Result<Decap, Outcome> {
        let rules = rules.for_program();
        if let Some(mut decap) = open(&self.root).map_err(Outcome::Failed)?.filter(Decap::is_current) {
            decap.set_rules(&rules).map_err(failed)?;
            return Ok(decap);
        }
        netd_bpf::mount_bpffs_if_missing(&self.bpf_dir).map_err(failed)?;
        let mut decap = Decap::prepare(&self.root).map_err(failed)?;
        decap.set_rules(&rules).map_err(failed)?;
        decap.complete().map_err(failed)?;
        Ok(decap)
    }

    fn sweep(&self) -> Result<(), String> {
        let swept = match links::list(&self.root) {
            Ok(links) if links.is_empty() => Decap::retire_all(&self.root),
            Ok(_) => match open(&self.root)? {
                Some(decap) => decap.retire_others(),
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
