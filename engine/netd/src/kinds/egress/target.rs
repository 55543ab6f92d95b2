//! The rules in the maps of the translating programs: read as tables by source, and written as a whole.

use super::{EgressSpec, NAME, key};
use crate::egress::{Classes, Rule, Tables, from_classes, to_classes};
use crate::facts::Facts;
use crate::kinds::address;
use crate::kinds::masquerade::programs;
use crate::kinds::service::sentence;
use crate::target::Target;
use async_trait::async_trait;
use ipnetwork::IpNetwork;
use netd_bpf::decap::Prefix;
use netd_bpf::nat::{EgressRule, EgressRules, Nat, Ports};
use netd_core::{Action, Observation, Outcome, Spec, Step};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The target of egress rules.
pub struct EgressTarget {
    /// Where the programs are pinned, or will be.
    bpf_dir: PathBuf,
}

impl EgressTarget {
    /// The target whose pins are below this folder.
    #[must_use]
    pub fn new(bpf_dir: &Path) -> Self {
        Self { bpf_dir: bpf_dir.to_owned() }
    }
}

#[async_trait]
impl Target for EgressTarget {
    async fn observe(&mut self, _facts: &Facts) -> Result<Observation, String> {
        let mut observation = Observation::default();
        let Some(nat) = programs(&self.bpf_dir)? else { return Ok(observation) };
        for (source, rules) in tables(&nat)? {
            observation.owned.insert(key(source), Arc::new(EgressSpec { source, rules }));
        }
        Ok(observation)
    }

    async fn apply(&mut self, steps: &[Step], _facts: &Facts) -> Vec<Outcome> {
        let changed = address::present().await.and_then(|there| self.change(steps, &there));
        let outcome = match changed {
            Ok(()) => Outcome::Applied,
            Err(why) => Outcome::Failed(why),
        };
        vec![outcome; steps.len()]
    }
}

impl EgressTarget {
    /// All at once: sources share classes. Of what has no rule any more, answers are turned around until the node has lost
    /// the address.
    fn change(&self, steps: &[Step], there: &BTreeSet<IpAddr>) -> Result<(), String> {
        let Some(mut nat) = programs(&self.bpf_dir)? else {
            let is_left = steps.iter().any(|step| !matches!(step.action, Action::Delete { .. }));
            return if is_left { Err("the programs are not there yet".into()) } else { Ok(()) };
        };
        let before = held(&nat)?;
        let mut tables = from_classes(&before);
        for step in steps {
            change_one(&mut tables, step)?;
        }
        let rules = for_programs(&to_classes(&tables, &before));
        nat.set_egress(&rules).and_then(|()| nat.forget_addresses(there)).map_err(|error| sentence(&error))
    }
}

fn change_one(tables: &mut Tables, step: &Step) -> Result<(), String> {
    let typed = |spec: &Arc<dyn Spec>| {
        let spec = spec.as_any().downcast_ref::<EgressSpec>().cloned();
        spec.ok_or_else(|| format!("not of the kind {NAME}"))
    };
    match &step.action {
        Action::Create { to } | Action::Update { to, .. } => {
            let EgressSpec { source, rules } = typed(to)?;
            tables.insert(source, rules);
        }
        Action::Delete { from } => {
            tables.remove(&typed(from)?.source);
        }
    }
    Ok(())
}

/// What the programs go by, by source.
///
/// # Errors
///
/// A sentence, if it cannot be read.
pub fn tables(nat: &Nat) -> Result<Tables, String> {
    held(nat).map(|classes| from_classes(&classes))
}

fn held(nat: &Nat) -> Result<Classes, String> {
    let found = nat.egress().map_err(|error| sentence(&error))?;
    let network = |(address, bits): Prefix| IpNetwork::new(address, bits).ok();
    let sources = found.sources.into_iter().filter_map(|(from, class)| Some((network(from)?, class)));
    let rules =
        found.rules.into_iter().filter_map(|((class, to), rule)| Some(((class, network(to)?), of(rule))));
    Ok(Classes { sources: sources.collect(), rules: rules.collect() })
}

fn of(rule: EgressRule) -> Rule {
    match rule {
        EgressRule::Translate { address, ports: Ports { first, last } } => {
            Rule::Translate { address, first_port: first, last_port: last }
        }
        EgressRule::Tunnel { remote, vni, ifindex } => Rule::Tunnel { remote, vni, ifindex },
        EgressRule::NextHop { address, ifindex } => Rule::NextHop { address, ifindex },
        EgressRule::Drop => Rule::Drop,
        EgressRule::Pass => Rule::Pass,
    }
}

fn for_programs(classes: &Classes) -> EgressRules {
    let prefix = |network: &IpNetwork| (network.network(), network.prefix());
    let rule = |rule: &Rule| match *rule {
        Rule::Translate { address, first_port, last_port } => {
            EgressRule::Translate { address, ports: Ports { first: first_port, last: last_port } }
        }
        Rule::Tunnel { remote, vni, ifindex } => EgressRule::Tunnel { remote, vni, ifindex },
        Rule::NextHop { address, ifindex } => EgressRule::NextHop { address, ifindex },
        Rule::Drop => EgressRule::Drop,
        Rule::Pass => EgressRule::Pass,
    };
    let sources = classes.sources.iter().map(|(from, class)| (prefix(from), *class));
    let rules = classes.rules.iter().map(|((class, to), found)| ((*class, prefix(to)), rule(found)));
    EgressRules { sources: sources.collect(), rules: rules.collect() }
}
