//! The rules in the kernel: found by their table's comment or their chains' names, made, changed and removed.

use super::chains::{self, Chains};
use super::programs::{self, Trouble};
use super::table::{Found, Table, chain_named};
use super::{Carrier, NAME, NotrackSpec};
use crate::facts::Facts;
use crate::netlink::Netfilter;
use crate::target::{Target, spec_of};
use async_trait::async_trait;
use ipnetwork::IpNetwork;
use netd_core::{Action, Observation, Outcome, Step};
use netd_schema::{Config, Family, NotrackBackend};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

/// What is said of rules that are not as netd makes them.
const ALTERED: &str = "changed by somebody else";

/// The target of rules that take packets out of tracking.
#[derive(Default)]
pub struct NotrackTarget {
    /// Whether the file in force asks for rules of iptables.
    wants_iptables: bool,
}

#[async_trait]
impl Target for NotrackTarget {
    fn aim(&mut self, in_force: &Config) {
        let backend = in_force.notrack.as_ref().map(|notrack| notrack.backend);
        self.wants_iptables = backend == Some(NotrackBackend::Iptables);
    }

    async fn observe(&mut self, facts: &Facts) -> Result<Observation, String> {
        let instance = facts.instance.to_string();
        let wants_iptables = self.wants_iptables;
        let (found, families) = blocking(move || look(&instance, wants_iptables)).await?;
        let mut observation = Observation::default();
        match found {
            Found::Nothing => {}
            Found::Foreign => {
                let name = Table::of(facts.instance.as_str()).name;
                let holder = format!("a table inet {name} of somebody else");
                observation.foreign.insert(Carrier::Nft.key(), holder);
            }
            Found::Own { prefixes, .. } => {
                let altered = prefixes.is_none().then(|| ALTERED.to_owned());
                own(&mut observation, Carrier::Nft, prefixes.unwrap_or_default(), altered);
            }
        }
        for family in families {
            let saved = match programs::saved(family).await {
                Ok(saved) => saved,
                // Without the program there are no rules of it.
                Err(Trouble::Absent(_)) => continue,
                Err(trouble) => return Err(trouble.to_string()),
            };
            let chains = Chains::read(&saved, facts.instance.as_str());
            if !chains.is_empty() {
                let (prefixes, is_whole) = chains.prefixes();
                let altered = (!is_whole).then(|| ALTERED.to_owned());
                own(&mut observation, Carrier::Iptables(family), prefixes, altered);
            }
        }
        Ok(observation)
    }

    async fn apply(&mut self, steps: &[Step], facts: &Facts) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(steps.len());
        for step in steps {
            outcomes.push(apply(step, facts.instance.as_str()).await.unwrap_or_else(|outcome| outcome));
        }
        outcomes
    }
}

fn own(
    observation: &mut Observation,
    carrier: Carrier,
    prefixes: BTreeSet<IpNetwork>,
    altered: Option<String>,
) {
    observation.owned.insert(carrier.key(), Arc::new(NotrackSpec { carrier, prefixes, altered }));
}

/// The table, and the families whose rules of iptables are worth a look: programs that only show rules bring the kernel
/// to load what these need.
fn look(instance: &str, wants_iptables: bool) -> Result<(Found, Vec<Family>), String> {
    let mut netfilter = match Netfilter::open() {
        Ok(netfilter) => Some(netfilter),
        Err(error) if has_none(&error) => None,
        Err(error) => return Err(format!("open netlink: {error}")),
    };
    let found = match &mut netfilter {
        None => Found::Nothing,
        Some(netfilter) => match Table::of(instance).look(netfilter) {
            Err(error) if has_none(&error) => Found::Nothing,
            found => found.map_err(|error| format!("read nftables: {error}"))?,
        },
    };
    let mut may_have = |family: Family| {
        let path = match family {
            Family::Ipv4 => "/proc/net/ip_tables_names",
            Family::Ipv6 => "/proc/net/ip6_tables_names",
        };
        let is_loaded = |names: String| names.lines().any(|name| name == "raw");
        let mut has_chain = |name: &String| {
            netfilter.as_mut().is_some_and(|it| chain_named(it, family, name).unwrap_or(true))
        };
        wants_iptables
            || std::fs::read_to_string(path).is_ok_and(is_loaded)
            || chains::names(instance).iter().any(&mut has_chain)
    };
    let families = [Family::Ipv4, Family::Ipv6].into_iter().filter(|family| may_have(*family)).collect();
    Ok((found, families))
}

/// Whether the kernel has no nftables at all.
fn has_none(error: &io::Error) -> bool {
    let code = Errno::from_io_error(error);
    [Errno::PROTONOSUPPORT, Errno::INVAL, Errno::OPNOTSUPP].map(Some).contains(&code)
}

async fn apply(step: &Step, instance: &str) -> Result<Outcome, Outcome> {
    let spec: &NotrackSpec = spec_of(step, NAME)?;
    let wanted = match step.action {
        Action::Create { .. } | Action::Update { .. } => Some(spec.prefixes.clone()),
        Action::Delete { .. } => None,
    };
    match spec.carrier {
        Carrier::Nft => {
            let instance = instance.to_owned();
            blocking(move || Ok(put_table(&instance, wanted.as_ref()))).await.map_err(Outcome::Failed)?
        }
        Carrier::Iptables(family) => put_chains(family, instance, wanted.as_ref()).await,
    }
}

/// Looked at as late as possible: what is there now decides what is sent.
fn put_table(instance: &str, wanted: Option<&BTreeSet<IpNetwork>>) -> Result<Outcome, Outcome> {
    let failed = |what: &'static str| {
        move |error: io::Error| match has_none(&error) {
            true => Outcome::Failed(
                "this kernel has no nftables (CONFIG_NF_TABLES_INET); `notrack.backend` may be \"iptables\""
                    .into(),
            ),
            false => Outcome::Failed(format!("{what}: {error}")),
        }
    };
    let table = Table::of(instance);
    let mut netfilter = Netfilter::open().map_err(failed("open netlink"))?;
    let found = table.look(&mut netfilter).map_err(failed("read nftables"))?;
    let requests = match (found, wanted) {
        (Found::Nothing, None) | (Found::Foreign, None) => return Ok(Outcome::Applied),
        (Found::Foreign, Some(_)) => {
            return Ok(Outcome::Conflict(format!("a table inet {} of somebody else", table.name)));
        }
        (Found::Own { handle, .. }, None) => vec![Table::removing(&handle)],
        (Found::Nothing, Some(wanted)) => table.making(wanted, None),
        (Found::Own { prefixes: Some(from), .. }, Some(wanted)) => table.changing(&from, wanted),
        (Found::Own { prefixes: None, handle }, Some(wanted)) => table.making(wanted, Some(&handle)),
    };
    netfilter.commit(&requests).map_err(failed("change nftables"))?;
    Ok(Outcome::Applied)
}

async fn put_chains(
    family: Family,
    instance: &str,
    wanted: Option<&BTreeSet<IpNetwork>>,
) -> Result<Outcome, Outcome> {
    let failed = |trouble: Trouble| Outcome::Failed(trouble.to_string());
    let saved = match programs::saved(family).await {
        Err(Trouble::Absent(_)) if wanted.is_none() => return Ok(Outcome::Applied),
        saved => saved.map_err(failed)?,
    };
    if let Some(script) = Chains::read(&saved, instance).script(wanted) {
        programs::restore(family, &script).await.map_err(failed)?;
    }
    Ok(Outcome::Applied)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(format!("looking at nftables ended early: {error}")))
}
