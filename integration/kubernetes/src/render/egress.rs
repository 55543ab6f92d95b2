//! `[[egress]]`: Cilium's egress policies, with the addresses of the pods that they choose.

use super::claims::Claims;
use super::name;
use super::nodes::masked;
use super::table::{Section, Table, Writer};
use crate::note::{Note, ObjectRef, plain};
use crate::objects::{Chosen, Gateways, Key, Kind, Pod, Policy};
use crate::{Base, Index, Options};
use ipnetwork::IpNetwork;
use kube::core::{Selector, SelectorExt as _};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The tables of all policies; `tables` are those of the nodes. Of two with the same address the older one has it.
pub(super) fn tables(
    index: &Index,
    (base, options): (&Base, &Options),
    nodes: &[Table],
    claims: &mut Claims,
    notes: &mut Vec<Note>,
) -> Vec<Table> {
    let own = base.config.nodes.iter().map(|node| node.name.as_str());
    let names: BTreeSet<&str> = nodes.iter().map(|table| table.name.as_str()).chain(own).collect();
    let mut policies: Vec<(&(Kind, Key), &Policy)> = index.policies.iter().collect();
    policies.sort_by_key(|(key, policy)| (policy.created.clone(), *key));
    let mut tables = Vec::new();
    for ((kind, key), policy) in policies {
        let object = kind.object(key);
        let mut told = Vec::new();
        let made = Making { index, options, names: &names, object: &object, told: &mut told };
        match made.table(policy, claims) {
            Ok(table) => tables.push(table),
            Err(why) => told.push(format!("left out: {why}")),
        }
        notes.extend(told.into_iter().map(|text| Note { object: object.clone(), text }));
    }
    tables
}

/// One table in the making.
struct Making<'a> {
    index: &'a Index,
    options: &'a Options,
    names: &'a BTreeSet<&'a str>,
    object: &'a ObjectRef,
    told: &'a mut Vec<String>,
}

impl Making<'_> {
    fn table(mut self, policy: &Policy, claims: &mut Claims) -> Result<Table, String> {
        let ips = self.addresses(policy);
        let has = |address: IpAddr| ips.iter().any(|ip| ip.is_ipv4() == address.is_ipv4());
        let sources: BTreeSet<IpNetwork> =
            self.sources(&policy.pods).into_iter().filter(|ip| has(*ip)).map(IpNetwork::from).collect();
        let is_source = |address: IpAddr| sources.iter().any(|source| source.is_ipv4() == address.is_ipv4());
        let ips: BTreeSet<IpAddr> = ips.iter().copied().filter(|ip| is_source(*ip)).collect();
        if ips.is_empty() {
            return Err(
                "it chooses no pod that has an address of the families of its egress address".to_owned()
            );
        }
        let gateways = self.gateways(&policy.gateways)?;
        let goes = |network: &IpNetwork| ips.iter().any(|ip| ip.is_ipv4() == network.is_ipv4());
        let (destinations, others): (BTreeSet<IpNetwork>, BTreeSet<IpNetwork>) =
            self.prefixes("the destination", &policy.destinations).into_iter().partition(goes);
        for other in others {
            self.told.push(format!(
                "the destination {other} is left out: no pod or egress address is of its family"
            ));
        }
        if destinations.is_empty() {
            return Err("it has no destination of the families of its egress address".to_owned());
        }
        let is_in = |network: &IpNetwork| destinations.iter().any(|to| to.is_ipv4() == network.is_ipv4());
        let exclude: BTreeSet<IpNetwork> =
            self.prefixes("the exception", &policy.excluded).into_iter().filter(is_in).collect();
        let is_gone = |ip: &&IpAddr| destinations.iter().all(|to| to.is_ipv4() != ip.is_ipv4());
        if let Some(ip) = ips.iter().find(is_gone) {
            return Err(format!("nothing leaves with {ip}: no destination is of its family"));
        }
        let name = name::of(&[&self.object.name]);
        if let Err(owner) = claims.name("egress", &name, self.object) {
            return Err(format!("{owner} has a policy called `{name}`"));
        }
        for ip in &ips {
            claims
                .egress_address(*ip, self.object)
                .map_err(|why| format!("its egress address {ip}: {why}"))?;
        }
        let mut writer = Writer::new(Section::Egress, self.object.clone(), name);
        writer.list("sources", &sources);
        writer.list("destinations", &destinations);
        writer.list("exclude", &exclude);
        writer.list("ips", &ips);
        let gateways: Vec<String> = gateways.iter().map(|node| format!("{{ node = \"{node}\" }}")).collect();
        writer.raw("gateways", format!("[{}]", gateways.join(", ")));
        Ok(writer.finish())
    }

    fn addresses(&mut self, policy: &Policy) -> BTreeSet<IpAddr> {
        let mut ips = BTreeSet::new();
        for text in &policy.addresses {
            match text.parse::<IpAddr>() {
                Ok(ip) => drop(ips.insert(ip)),
                Err(_) => self.told.push(format!("the egress address `{}` is none", plain(text))),
            }
        }
        ips
    }

    fn sources(&self, chosen: &[Chosen]) -> BTreeSet<IpAddr> {
        let mut sources = BTreeSet::new();
        for Chosen { pods, namespaces, nodes } in chosen {
            let namespaces = namespaces.as_ref().map(|selector| {
                let labelled = self.index.namespaces.iter();
                labelled.filter(|(_, labels)| selector.matches(labels)).map(|(key, _)| key.name.as_str())
            });
            let namespaces: Option<BTreeSet<&str>> = namespaces.map(Iterator::collect);
            let nodes = nodes.as_ref().map(|selector| self.nodes(std::slice::from_ref(selector)));
            let is_chosen = |key: &Key, pod: &Pod| {
                self.options.takes_namespace(&key.namespace)
                    && namespaces.as_ref().is_none_or(|all| all.contains(key.namespace.as_str()))
                    && nodes.as_ref().is_none_or(|all| all.contains(pod.node.as_str()))
                    && pods.matches(&pod.labels)
            };
            let found = self.index.pods.iter().filter(|(key, pod)| is_chosen(key, pod));
            sources.extend(found.flat_map(|(_, pod)| &pod.addresses));
        }
        sources
    }

    /// The names of the nodes that one of the selectors chooses.
    fn nodes(&self, selectors: &[Selector]) -> BTreeSet<&str> {
        let none = BTreeMap::new();
        let nodes = self.index.nodes.iter().filter(|(_, node)| {
            let labels = node.metadata.labels.as_ref().unwrap_or(&none);
            selectors.iter().any(|selector| selector.matches(labels))
        });
        nodes.map(|(key, _)| key.name.as_str()).collect()
    }

    /// Nodes that are in the file; an order among them that Cilium has by name netd has by its own choice.
    fn gateways(&mut self, gateways: &Gateways) -> Result<BTreeSet<String>, String> {
        let found: BTreeSet<String> = match gateways {
            Gateways::Named(names) => names.clone(),
            Gateways::Labelled(selectors) => self.nodes(selectors).into_iter().map(str::to_owned).collect(),
        };
        let (known, others): (BTreeSet<String>, BTreeSet<String>) =
            found.into_iter().partition(|name| self.names.contains(name.as_str()));
        for name in others {
            self.told.push(format!("the gateway `{}` is left out: the file has no such node", plain(&name)));
        }
        match known.is_empty() {
            true => Err("none of its gateways is a node of the file".to_owned()),
            false => Ok(known),
        }
    }

    fn prefixes(&mut self, what: &str, texts: &[String]) -> Vec<IpNetwork> {
        let mut prefixes = Vec::new();
        for text in texts {
            match masked(text) {
                Some(prefix) => prefixes.push(prefix),
                None => self.told.push(format!("{what} `{}` is no prefix", plain(text))),
            }
        }
        prefixes
    }
}
