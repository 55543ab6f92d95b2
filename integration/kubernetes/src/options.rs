//! What a person says about which objects are taken.

use ipnetwork::IpNetwork;
use kube::core::{Expression, Selector};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The class of services that are netd's in any case.
pub const CLASS: &str = "netd.io/netd";

/// Which objects are taken, and what of them is believed.
#[derive(Clone, Debug)]
pub struct Options {
    /// The values of `spec.loadBalancerClass` that are netd's; an empty one stands for services without a class.
    pub classes: BTreeSet<String>,
    /// Only services with these labels.
    pub selector: Selector,
    /// Only objects of these namespaces; empty is all.
    pub namespaces: BTreeSet<String>,
    /// The addresses that services may name; empty: those that their status has, and no `externalIPs`.
    pub vips: Vec<IpNetwork>,
    /// Whether cluster IPs become VIPs.
    pub cluster_ips: bool,
    /// Whether services are taken.
    pub services: bool,
    /// Whether nodes are taken.
    pub nodes: bool,
    /// Whether egress policies are taken.
    pub egress: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            classes: [CLASS.to_owned(), String::new()].into(),
            selector: Selector::default(),
            namespaces: BTreeSet::new(),
            vips: Vec::new(),
            cluster_ips: false,
            services: true,
            nodes: true,
            egress: true,
        }
    }
}

impl Options {
    /// Whether objects of the namespace are taken.
    #[must_use]
    pub fn takes_namespace(&self, namespace: &str) -> bool {
        self.namespaces.is_empty() || self.namespaces.contains(namespace)
    }

    /// Whether a person has said that services may have the address.
    #[must_use]
    pub fn names_vip(&self, address: IpAddr) -> bool {
        self.vips.iter().any(|range| range.contains(address))
    }
}

/// Reads a label selector as `kubectl -l` takes it, without sets: `app=web,tier!=db,edge,!internal`.
///
/// # Errors
///
/// A sentence: which part is none.
pub fn parse_selector(text: &str) -> Result<Selector, String> {
    let is_word = |word: &str| {
        !word.is_empty()
            && word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '/' | '-' | '_'))
    };
    let mut found = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (key, expression) = if let Some((key, value)) = part.split_once("!=") {
            (key, Expression::NotEqual(key.trim().into(), value.trim().into()))
        } else if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
            (key, Expression::Equal(key.trim().into(), value.trim().into()))
        } else if let Some(key) = part.strip_prefix('!') {
            (key, Expression::DoesNotExist(key.trim().into()))
        } else {
            (part, Expression::Exists(part.into()))
        };
        if !is_word(key.trim()) {
            return Err(format!("`{part}` is not `KEY=VALUE`, `KEY!=VALUE`, `KEY` or `!KEY`"));
        }
        found.push(expression);
    }
    Ok(found.into_iter().collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use kube::core::SelectorExt as _;
    use std::collections::BTreeMap;

    #[test]
    fn every_form_of_a_selector_selects() {
        let selector = parse_selector("app=web, tier!=db,edge,!internal").unwrap();
        let labels = |text: &str| -> BTreeMap<String, String> {
            let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
            pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
        };
        assert!(selector.matches(&labels("app=web,edge=1")));
        for other in ["app=mail,edge=1", "app=web", "app=web,edge=1,tier=db", "app=web,edge=1,internal=1"] {
            assert!(!selector.matches(&labels(other)), "{other}");
        }
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        assert!(parse_selector("=web").is_err());
        assert!(parse_selector("app in (web)").is_err());
    }
}
