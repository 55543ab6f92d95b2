//! From what was written to what it means: defaults filled in, references resolved, lists sorted.
//!
//! Runs after the checks found no error, so everything that is required is there.

mod bgp;
mod egress;
mod network;
mod wireguard;

use crate::model::{
    Backend, CAPTURE_FILES_DEFAULT, CAPTURE_SNAPLEN_MAX, Capture, Config, Decap, HealthCheck, IpPool,
    LoadBalancer, Masquerade, Metrics, Node, Notrack, Port, Service, SourceRanges,
};
use crate::raw::{self, DeviceName, List, Prefix, each};
use crate::span::At;
use ipnetwork::IpNetwork;
use std::collections::HashMap;
use std::ops::RangeInclusive;

pub(crate) fn lower(top: &raw::Top) -> Config {
    let sets: HashMap<&str, Vec<Backend>> = each(&top.backend_sets)
        .map(|at| &at.value)
        .filter_map(|set| Some((set.name.as_ref()?.value.0.as_str(), backends(&set.backends))))
        .collect();
    let mut services: Vec<Service> = each(&top.services).filter_map(|at| service(&at.value, &sets)).collect();
    services.sort_by(|a, b| a.name.cmp(&b.name));
    let mut nodes: Vec<Node> = each(&top.nodes).filter_map(|at| node(&at.value)).collect();
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    let mut ip_pools: Vec<IpPool> = each(&top.ip_pools).filter_map(|at| ip_pool(&at.value)).collect();
    ip_pools.sort_by(|a, b| a.name.cmp(&b.name));
    let mut captures: Vec<Capture> = each(&top.captures).filter_map(|at| capture(&at.value)).collect();
    captures.sort_by(|a, b| a.name.cmp(&b.name));
    Config {
        allow_empty: top.allow_empty.is_some_and(|at| at.value),
        nodes,
        load_balancer: top.load_balancer.as_ref().map(|at| load_balancer(&at.value)).unwrap_or_default(),
        services,
        ip_pools,
        decap: top.decap.as_ref().map(|at| decap(&at.value)),
        metrics: top.metrics.as_ref().map(|at| Metrics {
            listen: at.value.listen.map_or(raw::Listen::standard(), |listen| listen.value).0,
        }),
        bgp: top.bgp.as_ref().and_then(|at| bgp::lower(&at.value)),
        network: top.network.as_ref().map(|at| network::lower(&at.value)).unwrap_or_default(),
        wireguard: top.wireguard.as_ref().map(|at| wireguard::lower(&at.value)),
        masquerade: top.masquerade.as_ref().map(|at| masquerade(&at.value)),
        egress: egress::lower(top),
        egress_failover: top.egress_failover.as_ref().map(|at| egress::failover(&at.value)),
        notrack: top.notrack.as_ref().map(|at| Notrack {
            cidrs: prefixes(&at.value.cidrs),
            backend: at.value.backend.map(|at| at.value).unwrap_or_default(),
        }),
        captures,
    }
}

fn node(node: &raw::Node) -> Option<Node> {
    Some(Node {
        name: node.name.as_ref()?.value.0.clone(),
        addresses: each(&node.addresses).map(|address| address.value.0).collect(),
        pod_cidrs: prefixes(&node.pod_cidrs),
        wireguard: node.wireguard.as_ref().map(|at| wireguard::node(&at.value)).unwrap_or_default(),
    })
}

fn load_balancer(raw: &raw::LoadBalancer) -> LoadBalancer {
    let standard = LoadBalancer::default();
    LoadBalancer {
        devices: devices(&raw.devices),
        mode: raw.mode.map_or(standard.mode, |at| at.value),
        table_size: raw.table_size.map_or(standard.table_size, |at| at.value),
        hash_seed: raw.hash_seed.map_or(standard.hash_seed, |at| at.value),
        rss_source: prefixes(&raw.rss_source),
        hop_limit: raw.hop_limit.map_or(standard.hop_limit, |at| at.value.byte()),
        outer_dscp: raw.outer_dscp.map_or(standard.outer_dscp, |at| at.value),
        outer_ecn: raw.outer_ecn.map_or(standard.outer_ecn, |at| at.value),
        gue_port: raw.gue_port.map_or(standard.gue_port, |at| at.value.get()),
        icmp_errors_per_second: raw
            .icmp_errors_per_second
            .map_or(standard.icmp_errors_per_second, |at| at.value.wide()),
    }
}

fn ip_pool(raw: &raw::IpPool) -> Option<IpPool> {
    let standard = IpPool::default();
    let mut ranges: Vec<_> = each(&raw.ranges).flat_map(|range| range.value.prefixes()).collect();
    ranges.sort();
    Some(IpPool {
        name: raw.name.as_ref()?.value.0.clone(),
        ranges,
        unassigned: raw.unassigned.map_or(standard.unassigned, |at| at.value),
        auto_assign: raw.auto_assign.map_or(standard.auto_assign, |at| at.value),
        priority: raw.priority.map_or(standard.priority, |at| at.value.get()),
        drain: raw.drain.map_or(standard.drain, |at| at.value),
        avoid: raw.avoid.map_or(standard.avoid, |at| at.value),
    })
}

fn decap(raw: &raw::Decap) -> Decap {
    Decap {
        devices: devices(&raw.devices),
        from: prefixes(&raw.from),
        to: prefixes(&raw.to),
        gue_port: raw.gue_port.map_or(Decap::default().gue_port, |at| at.value.get()),
    }
}

fn capture(raw: &raw::Capture) -> Option<Capture> {
    let mut nodes: Vec<_> = each(&raw.nodes).map(|node| node.value.0.clone()).collect();
    nodes.sort();
    let mut filters: Vec<_> = each(&raw.filters).map(|filter| filter.value.clone()).collect();
    filters.sort();
    filters.dedup();
    Some(Capture {
        name: raw.name.as_ref()?.value.0.clone(),
        nodes,
        filters,
        snaplen: raw.snaplen.map_or(CAPTURE_SNAPLEN_MAX, |at| at.value.wide()),
        packets: raw.packets.map(|at| at.value.wide().into()),
        bytes: raw.bytes.map(|at| at.value.0),
        duration: raw.duration.map(|at| at.value.0),
        format: raw.format.map(|at| at.value).unwrap_or_default(),
        file_bytes: raw.file_bytes.map(|at| at.value.0),
        files: raw.files.map_or(CAPTURE_FILES_DEFAULT, |at| at.value.wide()),
    })
}

fn masquerade(raw: &raw::Masquerade) -> Masquerade {
    let standard = Masquerade::default();
    let mut addresses: Vec<_> = each(&raw.addresses).map(|address| address.value.0).collect();
    addresses.sort();
    Masquerade {
        devices: devices(&raw.devices),
        source: prefixes(&raw.source),
        exclude: prefixes(&raw.exclude),
        addresses,
        ports: raw.ports.map_or(standard.ports, |at| at.value),
        flows: raw.flows.map_or(standard.flows, |at| at.value.wide()),
    }
}

fn service(raw: &raw::Service, sets: &HashMap<&str, Vec<Backend>>) -> Option<Service> {
    let mut vips: Vec<_> = each(&raw.vips).map(|vip| vip.value.0).collect();
    vips.sort();
    let mut ports: Vec<_> = each(&raw.ports).filter_map(|at| port(&at.value)).collect();
    ports.sort();
    let set = raw.backend_set.as_ref().and_then(|name| sets.get(name.value.0.as_str()));
    let mut families: Option<Vec<_>> =
        raw.families.as_ref().map(|families| families.value.items.iter().map(|at| at.value).collect());
    families.iter_mut().for_each(|families| families.sort());
    let ranges = raw.source_ranges.as_ref().map(|at| &at.value);
    let standard = Service::default();
    Some(Service {
        name: raw.name.as_ref()?.value.0.clone(),
        vips,
        pool: raw.pool.as_ref().map(|at| at.value.0.clone()),
        families,
        share: raw.share.as_ref().map(|at| at.value.0.clone()),
        ports,
        backends: set.cloned().unwrap_or_else(|| backends(&raw.backends)),
        algorithm: raw.algorithm.map_or(standard.algorithm, |at| at.value),
        affinity: raw.affinity.map(|at| at.value.0),
        udp_idle: raw.udp_idle.map_or(standard.udp_idle, |at| at.value.0),
        source_ranges: ranges.map_or(standard.source_ranges, |ranges| SourceRanges {
            allow: prefixes(&ranges.allow),
            deny: prefixes(&ranges.deny),
        }),
        table_size: raw.table_size.map(|at| at.value),
        hash_names: raw.hash_names.map_or(standard.hash_names, |at| at.value),
        no_backend: raw.no_backend.map_or(standard.no_backend, |at| at.value),
        ping: raw.ping.map_or(standard.ping, |at| at.value),
        unknown_port: raw.unknown_port.map_or(standard.unknown_port, |at| at.value),
        backend_family: raw.backend_family.map_or(standard.backend_family, |at| at.value),
        mode: raw.mode.map_or(standard.mode, |at| at.value),
        health_check: raw.health_check.as_ref().and_then(|at| health_check(&at.value)),
        traffic_policy: raw.traffic_policy.map_or(standard.traffic_policy, |at| at.value),
    })
}

fn health_check(raw: &raw::HealthCheck) -> Option<HealthCheck> {
    let standard = HealthCheck::default();
    Some(HealthCheck {
        kind: raw.kind?.value,
        port: raw.port.map(|at| at.value.get()),
        interval: raw.interval.map_or(standard.interval, |at| at.value.0),
        timeout: raw.timeout.map_or(standard.timeout, |at| at.value.0),
        rise: raw.rise.map_or(standard.rise, |at| at.value.wide()),
        fall: raw.fall.map_or(standard.fall, |at| at.value.wide()),
        via: raw.via.map_or(standard.via, |at| at.value),
        path: raw.path.as_ref().map_or(standard.path, |at| at.value.0.clone()),
        host: raw.host.as_ref().map(|at| at.value.0.clone()),
        status: raw
            .status
            .as_ref()
            .map_or(standard.status, |_| merged(each(&raw.status).map(|at| at.value.0.clone()).collect())),
        send: raw.send.as_ref().map_or(standard.send, |at| at.value.0.clone().into_bytes()),
        expect: raw.expect.as_ref().map(|at| at.value.0.clone().into_bytes()),
        floor: raw.floor.map_or(standard.floor, |at| at.value.byte()),
    })
}

/// The same numbers in as few ranges as possible.
fn merged(mut ranges: Vec<RangeInclusive<u16>>) -> Vec<RangeInclusive<u16>> {
    ranges.sort_by_key(|range| (*range.start(), *range.end()));
    let mut merged: Vec<RangeInclusive<u16>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if *range.start() <= last.end().saturating_add(1) => {
                *last = *last.start()..=*last.end().max(range.end());
            }
            _ => merged.push(range),
        }
    }
    merged
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

fn devices<const MIN: usize, const MAX: usize>(raw: &Option<At<List<DeviceName, MIN, MAX>>>) -> Vec<String> {
    let mut devices: Vec<_> = each(raw).map(|device| device.value.0.clone()).collect();
    devices.sort();
    devices
}

fn prefixes<const MIN: usize, const MAX: usize>(raw: &Option<At<List<Prefix, MIN, MAX>>>) -> Vec<IpNetwork> {
    let mut prefixes: Vec<_> = each(raw).map(|prefix| prefix.value.0).collect();
    prefixes.sort();
    prefixes
}
