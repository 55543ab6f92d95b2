//! From what was written to what it means: defaults filled in, references resolved, lists sorted.
//!
//! Runs after the checks found no error, so everything that is required is there.

use crate::model::{Backend, Config, LoadBalancer, Node, Port, Service, TableSize};
use crate::raw::{self, each};
use std::collections::HashMap;

pub(crate) fn lower(top: &raw::Top) -> Config {
    let sets: HashMap<&str, Vec<Backend>> = each(&top.backend_sets)
        .map(|at| &at.value)
        .filter_map(|set| Some((set.name.as_ref()?.value.0.as_str(), backends(&set.backends))))
        .collect();
    let mut services: Vec<Service> = each(&top.services).filter_map(|at| service(&at.value, &sets)).collect();
    services.sort_by(|a, b| a.name.cmp(&b.name));
    let mut nodes: Vec<Node> = each(&top.nodes).filter_map(|at| node(&at.value)).collect();
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    Config {
        allow_empty: top.allow_empty.is_some_and(|at| at.value),
        nodes,
        load_balancer: top.load_balancer.as_ref().map(|at| load_balancer(&at.value)).unwrap_or_default(),
        services,
        ip_pools: Vec::new(),
        decap: None,
        metrics: None,
    }
}

fn node(node: &raw::Node) -> Option<Node> {
    let mut pod_cidrs: Vec<_> = each(&node.pod_cidrs).map(|prefix| prefix.value.0).collect();
    pod_cidrs.sort();
    Some(Node {
        name: node.name.as_ref()?.value.0.clone(),
        addresses: each(&node.addresses).map(|address| address.value.0).collect(),
        pod_cidrs,
    })
}

fn load_balancer(raw: &raw::LoadBalancer) -> LoadBalancer {
    let mut devices: Vec<_> = each(&raw.devices).map(|device| device.value.0.clone()).collect();
    devices.sort();
    let mut rss_source: Vec<_> = each(&raw.rss_source).map(|prefix| prefix.value.0).collect();
    rss_source.sort();
    LoadBalancer {
        devices,
        mode: raw.mode.map(|at| at.value).unwrap_or_default(),
        table_size: raw.table_size.map_or(TableSize::Auto, |at| at.value),
        hash_seed: raw.hash_seed.map(|at| at.value).unwrap_or_default(),
        rss_source,
        ..LoadBalancer::default()
    }
}

fn service(raw: &raw::Service, sets: &HashMap<&str, Vec<Backend>>) -> Option<Service> {
    let mut vips: Vec<_> = each(&raw.vips).map(|vip| vip.value.0).collect();
    vips.sort();
    let mut ports: Vec<_> = each(&raw.ports).filter_map(|at| port(&at.value)).collect();
    ports.sort();
    let set = raw.backend_set.as_ref().and_then(|name| sets.get(name.value.0.as_str()));
    let backends = set.cloned().unwrap_or_else(|| backends(&raw.backends));
    Some(Service { name: raw.name.as_ref()?.value.0.clone(), vips, ports, backends, ..Service::default() })
}

fn port(raw: &raw::Port) -> Option<Port> {
    Some(Port {
        protocol: raw.protocol?.value,
        port: raw.port?.value.get(),
        backend_port: raw.backend_port.map(|at| at.value.get()),
    })
}

fn backends(raw: &Option<raw::Backends>) -> Vec<Backend> {
    let mut backends: Vec<_> = each(raw).filter_map(|at| backend(&at.value)).collect();
    backends.sort_by_key(|backend| (backend.address, backend.port));
    backends
}

fn backend(raw: &raw::Backend) -> Option<Backend> {
    Some(Backend {
        address: raw.address?.value.0,
        port: raw.port.map(|at| at.value.get()),
        weight: raw.weight.map_or(raw::WEIGHT_DEFAULT, |at| at.value.get()),
        state: raw.state.map(|at| at.value).unwrap_or_default(),
    })
}
