//! Cilium's egress policies of both generations, as one; and the pods that they choose.

use crate::note::plain;
use k8s_openapi::api::core::v1::Pod as GivenPod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, Time};
use kube::core::{DynamicObject, Selector};
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The annotation that names the gateways of a policy that has no way to say them, with commas between.
const GATEWAYS_ANNOTATION: &str = "netd.io/gateways";

/// Labels by their keys.
pub(crate) type Labels = BTreeMap<String, String>;

/// A pod, reduced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) labels: Labels,
    /// The node that it runs on; empty before there is one.
    pub(crate) node: String,
    /// None for pods on the host's network, which are not told from the host, and for those that have ended.
    pub(crate) addresses: BTreeSet<IpAddr>,
}

impl Pod {
    pub(crate) fn of(given: &GivenPod) -> Self {
        let status = given.status.as_ref();
        let phase = status.and_then(|status| status.phase.as_deref()).unwrap_or_default();
        let is_on_host = given.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true));
        let given_ips = status.filter(|_| !is_on_host && phase != "Succeeded" && phase != "Failed");
        let texts = given_ips.and_then(|status| status.pod_ips.as_ref()).into_iter().flatten();
        let addresses = texts.filter_map(|ip| ip.ip.parse::<IpAddr>().ok());
        let addresses: BTreeSet<IpAddr> =
            addresses.filter(|ip| netd_schema::unusable_address(*ip).is_none()).collect();
        if addresses.is_empty() {
            // Whoever chooses it chooses nothing: it need not be remembered what it is like.
            return Self { labels: Labels::new(), node: String::new(), addresses };
        }
        let node = given.spec.as_ref().and_then(|spec| spec.node_name.clone());
        let labels = given.metadata.labels.clone();
        Self { labels: labels.unwrap_or_default(), node: node.unwrap_or_default(), addresses }
    }
}

/// What a policy says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Policy {
    pub(crate) created: Option<Time>,
    pub(crate) uid: Option<String>,
    pub(crate) pods: Vec<Chosen>,
    pub(crate) destinations: Vec<String>,
    pub(crate) excluded: Vec<String>,
    /// The egress addresses, as they are written.
    pub(crate) addresses: BTreeSet<String>,
    pub(crate) gateways: Gateways,
}

/// Pods of namespaces and on nodes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Chosen {
    pub(crate) pods: Selector,
    /// `None` is all of them.
    pub(crate) namespaces: Option<Selector>,
    /// As `namespaces`.
    pub(crate) nodes: Option<Selector>,
}

/// The nodes that may be the gateway.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Gateways {
    Labelled(Vec<Selector>),
    Named(BTreeSet<String>),
}

/// Either kind, as it is written.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    selectors: Option<Vec<PodRule>>,
    /// The older kind's name for them.
    egress: Option<Vec<PodRule>>,
    #[serde(rename = "destinationCIDRs")]
    destination_cidrs: Option<Vec<String>>,
    #[serde(rename = "excludedCIDRs")]
    excluded_cidrs: Option<Vec<String>>,
    #[serde(rename = "egressSourceIP")]
    egress_source_ip: Option<String>,
    egress_gateway: Option<Gateway>,
    egress_gateways: Option<Vec<Gateway>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodRule {
    pod_selector: Option<LabelSelector>,
    namespace_selector: Option<LabelSelector>,
    node_selector: Option<LabelSelector>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Gateway {
    node_selector: Option<LabelSelector>,
    #[serde(rename = "egressIP")]
    egress_ip: Option<String>,
}

impl Policy {
    /// The policy; or why it is none.
    pub(super) fn of(mut given: DynamicObject) -> Result<Self, String> {
        let spec = given.data.get_mut("spec").map(Value::take).unwrap_or_default();
        let spec = Option::<Spec>::deserialize(spec)
            .map_err(|error| format!("it cannot be read: {}", plain(&error.to_string())))?;
        let Spec {
            selectors,
            egress,
            destination_cidrs,
            excluded_cidrs,
            egress_source_ip,
            egress_gateway,
            egress_gateways,
        } = spec.unwrap_or_default();
        let mut pods = Vec::new();
        for rule in selectors.into_iter().chain(egress).flatten() {
            pods.push(Chosen {
                pods: selector(rule.pod_selector.unwrap_or_default())?,
                namespaces: rule.namespace_selector.map(selector).transpose()?,
                nodes: rule.node_selector.map(selector).transpose()?,
            });
        }
        let mut addresses: BTreeSet<String> =
            egress_source_ip.into_iter().filter(|ip| !ip.is_empty()).collect();
        let mut labelled = Vec::new();
        for gateway in egress_gateway.into_iter().chain(egress_gateways.into_iter().flatten()) {
            addresses.extend(gateway.egress_ip.filter(|ip| !ip.is_empty()));
            labelled.push(selector(gateway.node_selector.unwrap_or_default())?);
        }
        let annotation = given.metadata.annotations.as_ref().and_then(|all| all.get(GATEWAYS_ANNOTATION));
        let gateways = match annotation {
            Some(names) => Gateways::Named(names.split(',').map(|name| name.trim().to_owned()).collect()),
            None if labelled.is_empty() => {
                return Err(format!("it has no gateway: name nodes in the annotation {GATEWAYS_ANNOTATION}"));
            }
            None => Gateways::Labelled(labelled),
        };
        if addresses.is_empty() {
            return Err("it has no egress address: netd needs one that is nobody else's".to_owned());
        }
        Ok(Policy {
            created: given.metadata.creation_timestamp,
            uid: given.metadata.uid,
            pods,
            destinations: destination_cidrs.unwrap_or_default(),
            excluded: excluded_cidrs.unwrap_or_default(),
            addresses,
            gateways,
        })
    }
}

fn selector(given: LabelSelector) -> Result<Selector, String> {
    Selector::try_from(given)
        .map_err(|error| format!("a selector cannot be read: {}", plain(&error.to_string())))
}
