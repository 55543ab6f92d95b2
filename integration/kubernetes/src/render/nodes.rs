//! `[[nodes]]`: addresses, pod prefixes, and the WireGuard key that an annotation has.

use super::claims::Claims;
use super::table::{Section, Table, Writer};
use crate::note::{Note, ObjectRef, plain};
use crate::objects::{Key, Kind};
use crate::{Base, Index};
use ipnetwork::IpNetwork;
use k8s_openapi::api::core::v1::Node;
use netd_schema::PublicKey;
use std::net::IpAddr;

/// The annotation that holds the node's public key, as `netd wireguard pubkey` prints it there.
pub(crate) const KEY_ANNOTATION: &str = "netd.io/wireguard-public-key";

/// The tables of all nodes that people do not describe themselves.
pub(super) fn tables(index: &Index, base: &Base, claims: &mut Claims, notes: &mut Vec<Note>) -> Vec<Table> {
    let mut nodes: Vec<(&Key, &Node)> = index.nodes.iter().collect();
    nodes.sort_by_key(|(key, node)| (node.metadata.creation_timestamp.clone(), *key));
    let mut tables = Vec::new();
    for (key, node) in nodes {
        let object = Kind::Node.object(key);
        let mut told = Vec::new();
        tables.extend(table(&object, node, base, claims, &mut told));
        notes.extend(told.into_iter().map(|text| Note { object: object.clone(), text }));
    }
    tables
}

fn table(
    object: &ObjectRef,
    node: &Node,
    base: &Base,
    claims: &mut Claims,
    told: &mut Vec<String>,
) -> Option<Table> {
    if let Err(owner) = claims.name("nodes", &object.name, object) {
        told.push(format!("left out: {owner} has a node of that name"));
        return None;
    }
    let mut writer = Writer::new(Section::Nodes, object.clone(), object.name.clone());
    writer.list("addresses", addresses(object, node, claims, told));
    writer.list("pod_cidrs", pod_cidrs(object, node, base, claims, told));
    if let Some(key) = public_key(object, node, claims, told) {
        writer.raw("wireguard", format!("{{ public_key = \"{key}\" }}"));
    }
    Some(writer.finish())
}

/// The `InternalIP`s, in the order that the node gives them.
fn addresses(object: &ObjectRef, node: &Node, claims: &mut Claims, told: &mut Vec<String>) -> Vec<IpAddr> {
    let given = node.status.as_ref().and_then(|status| status.addresses.as_ref());
    let mut addresses = Vec::new();
    for given in given.into_iter().flatten().filter(|address| address.type_ == "InternalIP") {
        let Ok(address) = given.address.parse::<IpAddr>() else {
            told.push(format!("the address `{}` is none", plain(&given.address)));
            continue;
        };
        if addresses.contains(&address) {
            continue;
        }
        if let Some(why) = netd_schema::unusable_address(address) {
            told.push(format!("the address {address} is left out: {why}"));
            continue;
        }
        match claims.node_address(address, object) {
            Ok(()) => addresses.push(address),
            Err(why) => told.push(format!("the address {address} is left out: {why}")),
        }
    }
    addresses
}

fn pod_cidrs(
    object: &ObjectRef,
    node: &Node,
    base: &Base,
    claims: &mut Claims,
    told: &mut Vec<String>,
) -> Vec<IpNetwork> {
    let spec = node.spec.as_ref();
    let several = spec.and_then(|spec| spec.pod_cidrs.clone()).unwrap_or_default();
    let one = spec.and_then(|spec| spec.pod_cidr.clone()).into_iter();
    let mut cidrs: Vec<IpNetwork> = Vec::new();
    for text in one.filter(|_| several.is_empty()).chain(several.clone()) {
        let Some(cidr) = masked(&text) else {
            told.push(format!("the pod prefix `{}` is none", plain(&text)));
            continue;
        };
        if cidrs.contains(&cidr) {
            continue;
        }
        let pools = base.config.ip_pools.iter().flat_map(|pool| &pool.ranges);
        if pools.into_iter().any(|range| range.contains(cidr.ip()) || cidr.contains(range.ip())) {
            told.push(format!(
                "the pod prefix {cidr} is left out: a pool of the base file has addresses of it"
            ));
            continue;
        }
        match claims.pods(cidr, object) {
            Ok(()) => cidrs.push(cidr),
            Err(owner) => {
                told.push(format!("the pod prefix {cidr} is left out: {owner} has addresses of it"));
            }
        }
    }
    cidrs
}

/// A prefix, without bits beyond its length.
pub(super) fn masked(text: &str) -> Option<IpNetwork> {
    let network = text.trim().parse::<IpNetwork>().ok().filter(|_| text.contains('/'))?;
    IpNetwork::new(network.network(), network.prefix()).ok()
}

/// What is no key is not repeated: it may be a private one.
fn public_key(
    object: &ObjectRef,
    node: &Node,
    claims: &mut Claims,
    told: &mut Vec<String>,
) -> Option<String> {
    let text = node.metadata.annotations.as_ref()?.get(KEY_ANNOTATION)?;
    let key = match text.parse::<PublicKey>() {
        Ok(key) => key,
        Err(why) => {
            told.push(format!("the annotation {KEY_ANNOTATION} is no public key: it {why}"));
            return None;
        }
    };
    match claims.key(key, object) {
        Ok(()) => Some(text.clone()),
        Err(owner) => {
            told.push(format!("its public key is left out: {owner} has the same"));
            None
        }
    }
}
