//! The translating programs: reads what they go by and where they are, fills them, attaches them, takes them off.

use super::{Given, MasqueradeSpec, NAME, Rules};
use crate::clock;
use crate::facts::Facts;
use crate::kinds::attachment::{Stand, known, on_both_sides};
use crate::kinds::service::sentence;
use crate::target::{Target, spec_of};
use async_trait::async_trait;
use netd_bpf::Error;
use netd_bpf::nat::abi::Counts;
use netd_bpf::nat::{self, Nat, Size, Usage};
use netd_bpf::tc::Side;
use netd_core::{Action, Key, Observation, Outcome, Step};
use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The folder of the pins, below that of the load balancer's.
const FOLDER: &str = "nat";

/// Packets in fragments at the same time; one that is forgotten loses its other fragments.
const FRAGMENTS: u32 = 8192;

/// Flows to pods' own addresses are fewer than those that pods begin.
const DIRECT_SHARE: u32 = 4;

/// The target of masquerading: two programs, on some devices.
pub struct MasqueradeTarget {
    /// Where a BPF file system is, or will be.
    bpf_dir: PathBuf,
    root: PathBuf,
}

impl MasqueradeTarget {
    /// The target whose pins are below this folder.
    #[must_use]
    pub fn new(bpf_dir: &Path) -> Self {
        Self { bpf_dir: bpf_dir.to_owned(), root: bpf_dir.join(FOLDER) }
    }
}

/// What the programs below this folder have counted, and how full their table is; `None` if there are none.
///
/// # Errors
///
/// A sentence, if it cannot be read.
pub fn counted(bpf_dir: &Path) -> Result<Option<(Counts, Usage)>, String> {
    let Some(nat) = open(&bpf_dir.join(FOLDER))? else { return Ok(None) };
    let usage = nat.usage(now_ns()).map_err(|error| sentence(&error))?;
    Ok(Some((nat.counts(), usage)))
}

/// The programs in force below this folder, if there are any.
///
/// # Errors
///
/// A sentence, if they cannot be read.
pub fn programs(bpf_dir: &Path) -> Result<Option<Nat>, String> {
    open(&bpf_dir.join(FOLDER))
}

/// The devices that have the program for what leaves, by their indices.
///
/// # Errors
///
/// A sentence, if the links cannot be read.
pub fn outwards(bpf_dir: &Path) -> Result<BTreeSet<u32>, String> {
    let attached = Nat::attached(&bpf_dir.join(FOLDER)).map_err(|error| sentence(&error))?;
    let leaving = attached.into_iter().filter(|((_, side), link)| *side == Side::Egress && link.ifindex > 0);
    Ok(leaving.map(|(_, link)| link.ifindex).collect())
}

#[async_trait]
impl Target for MasqueradeTarget {
    async fn observe(&mut self, facts: &Facts) -> Result<Observation, String> {
        observe(&self.root, facts)
    }

    async fn apply(&mut self, steps: &[Step], _facts: &Facts) -> Vec<Outcome> {
        let programs = self.filled(steps);
        let done = steps.iter().map(|step| self.step(step, programs.as_ref().map_err(Clone::clone)));
        let outcomes = done.map(|outcome| outcome.unwrap_or_else(|outcome| outcome)).collect();
        if let Err(why) = self.forget_devices() {
            tracing::warn!(
                why,
                "what packets get on a device that has no programs any more stays written down"
            );
        }
        // Programs that no link runs any more, and after the last device all of it.
        if let Err(why) = self.sweep() {
            tracing::warn!(why, "a translating program that is not in force any more could not be removed");
        }
        outcomes
    }

    async fn dismantle(&mut self) -> Result<(), String> {
        Nat::retire_all(&self.root).map_err(|error| sentence(&error))
    }
}

/// The programs in force; those of another version are as good as none.
fn open(root: &Path) -> Result<Option<Nat>, String> {
    known(Nat::open(root))
}

fn observe(root: &Path, facts: &Facts) -> Result<Observation, String> {
    let mut observation = Observation::default();
    let attached = Nat::attached(root).map_err(|error| sentence(&error))?;
    if attached.is_empty() {
        return Ok(observation);
    }
    let found = open(root)?;
    let (held, note) = match &found {
        Some(nat) => {
            let usage = nat.usage(now_ns()).map_err(|error| sentence(&error))?;
            (nat.rules().map_err(|error| sentence(&error))?, told(&nat.counts(), &usage))
        }
        None => (nat::Rules::default(), String::new()),
    };
    let size =
        found.as_ref().map_or(Size { flows: 0, direct: 0, fragments: 0, has_egress: false }, Nat::size);
    let rules = Arc::new(Rules::held(&held, size));
    let current = found.as_ref().filter(|nat| nat.is_current(size_for(size.flows, size.has_egress)));
    let program_id = |side| current.and_then(|nat| nat.program_id(side).ok());
    for Stand { device, index, ifindex, program } in on_both_sides(&attached, facts, program_id) {
        let key = Key::new(&device);
        let given = Given::held(held.devices.get(&index));
        let spec = MasqueradeSpec { device, ifindex, program, given, rules: Arc::clone(&rules) };
        observation.owned.insert(key.clone(), Arc::new(spec));
        if !note.is_empty() {
            observation.notes.insert(key, note.clone());
        }
    }
    Ok(observation)
}

/// What an operator should know: how full the table is, and what was dropped.
fn told(counts: &Counts, usage: &Usage) -> String {
    let share = f64::from(usage.flows) * 100.0 / f64::from(usage.capacity.max(1));
    let mut said = vec![format!("{} of {} flows ({share:.1} %)", usage.flows, usage.capacity)];
    if let Some(fullest) = usage.fullest() {
        said.push(format!("most to {} port {}: {}", fullest.remote, fullest.remote_port, fullest.ports));
    }
    for (count, what) in [
        (counts.exhausted, "found no port"),
        (counts.table_full, "found no room"),
        (counts.no_address, "had a family without an address here"),
        (counts.no_mapping, "belonged to no flow"),
        (counts.unsupported, "had a protocol without ports"),
        (counts.malformed, "could not be read"),
        (counts.fragment_lost, "were fragments without their first one"),
        (counts.no_gateway, "found no egress gateway"),
        (counts.looped, "came from the egress gateway that they would be sent to"),
    ] {
        if count > 0 {
            said.push(format!("{count} packets were dropped that {what}"));
        }
    }
    said.join("; ")
}

impl MasqueradeTarget {
    /// The programs, going by the rules of all steps: no device runs them before its own are there. `None` if there is
    /// nothing to put anywhere.
    fn filled(&self, steps: &[Step]) -> Result<Option<Nat>, Outcome> {
        let is_put = |step: &&Step| !matches!(step.action, Action::Delete { .. });
        let specs = steps.iter().filter(is_put).map(|step| spec_of::<MasqueradeSpec>(step, NAME));
        let specs = specs.collect::<Result<Vec<_>, _>>()?;
        let Some(MasqueradeSpec { rules: wanted, .. }) = specs.first() else { return Ok(None) };
        let mut nat = self.loaded(size_for(wanted.flows, wanted.has_egress))?;
        let mut rules = nat.rules().map_err(failed)?;
        for spec in &specs {
            match spec.given == Given::NOTHING {
                true => drop(rules.devices.remove(&spec.ifindex)),
                false => drop(rules.devices.insert(spec.ifindex, spec.given.for_program())),
            }
        }
        (rules.sources, rules.exclude) = (wanted.sources(), wanted.excluded());
        nat.set_rules(&rules).map_err(failed)?;
        Ok(Some(nat))
    }

    /// Has the device run the programs, and so do the others, also one that is only kept.
    fn step(&self, step: &Step, programs: Result<&Option<Nat>, Outcome>) -> Result<Outcome, Outcome> {
        let spec: &MasqueradeSpec = spec_of(step, NAME)?;
        match (&step.action, programs) {
            (Action::Delete { .. }, _) => Nat::detach(&self.root, &spec.device).map_err(failed)?,
            (Action::Create { .. } | Action::Update { .. }, programs) => {
                let nat =
                    programs?.as_ref().ok_or_else(|| Outcome::Failed("the programs are gone".into()))?;
                let attached = nat.attach(&spec.device, spec.ifindex).and_then(|()| nat.replace_older());
                attached.map_err(|error| Outcome::Failed(sentence(&error)))?;
            }
        }
        Ok(Outcome::Applied)
    }

    /// Forgets what packets get on devices that no program is on any more.
    fn forget_devices(&self) -> Result<(), String> {
        let Some(mut nat) = open(&self.root)? else { return Ok(()) };
        let said = |error: Error| sentence(&error);
        let mut rules = nat.rules().map_err(said)?;
        let attached = Nat::attached(&self.root).map_err(said)?;
        let attached: BTreeSet<u32> = attached.values().map(|link| link.ifindex).collect();
        let held = rules.devices.len();
        rules.devices.retain(|index, _| attached.contains(index));
        if rules.devices.len() == held { Ok(()) } else { nat.set_rules(&rules).map_err(said) }
    }

    /// The programs that this binary carries: those of before, or new ones that take their flows over.
    fn loaded(&self, size: Size) -> Result<Nat, Outcome> {
        let before = open(&self.root).map_err(Outcome::Failed)?;
        if before.as_ref().is_some_and(|nat| nat.is_current(size)) {
            return before.ok_or_else(|| Outcome::Failed("the programs are gone".to_owned()));
        }
        netd_bpf::mount_bpffs_if_missing(&self.bpf_dir).map_err(failed)?;
        // A secret: who knows it could guess the ports of flows. The standard library asks the kernel for it.
        let seed = RandomState::new().hash_one(now_ns());
        let mut nat = Nat::prepare(&self.root, size, seed, before.as_ref()).map_err(failed)?;
        nat.complete().map_err(failed)?;
        Ok(nat)
    }

    fn sweep(&self) -> Result<(), String> {
        let swept = match Nat::attached(&self.root) {
            Ok(links) if links.is_empty() => Nat::retire_all(&self.root),
            Ok(_) => match open(&self.root)? {
                Some(nat) => nat.retire_others(),
                None => Ok(()),
            },
            Err(error) => Err(error),
        };
        swept.map_err(|error| sentence(&error))
    }
}

fn size_for(flows: u32, has_egress: bool) -> Size {
    Size { flows, direct: (flows / DIRECT_SHARE).max(1), fragments: FRAGMENTS, has_egress }
}

fn now_ns() -> u64 {
    u64::try_from(clock::awake().as_nanos()).unwrap_or(u64::MAX)
}

fn failed(error: Error) -> Outcome {
    Outcome::Failed(sentence(&error))
}
