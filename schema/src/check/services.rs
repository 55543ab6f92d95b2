//! Services and backend sets: unique names and VIPs, references, and families that fit.

use super::backends::{self, Summary};
use super::families::{self, Served};
use super::reference::Reference;
use super::requests::Pools;
use super::{Once, clients, health, ring};
use crate::diagnostic::{Diagnoses, Draft};
use crate::model::{Family, Protocol};
use crate::raw::{Address, BackendSet, Backends, LoadBalancer, Service, Top, each};
use crate::span::{At, Span};
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

/// The sets by name, what they hold, and which were used.
struct Sets<'a> {
    by_name: HashMap<&'a str, (&'a BackendSet, Summary)>,
    used: HashSet<&'a str>,
    /// Every set has a name that could be read.
    complete: bool,
}

pub(super) fn check(top: &Top, diagnoses: &mut Diagnoses) {
    let vips = all_vips(top);
    let pools = Pools::of(top);
    let balancer = top.load_balancer.as_ref().map(|at| &at.value);
    let mut sets = sets(top, &vips, diagnoses);
    let mut names = Once::new();
    let mut frontends: HashMap<(IpAddr, Protocol, u16), (Span, Span)> = HashMap::new();
    for at in each(&top.services) {
        let service = &at.value;
        if let Some(name) = &service.name {
            let what = || format!("two services are called `{}`", name.value.0);
            names.claim(&name.value, name.span, diagnoses, what);
        }
        claim_frontends(service, &mut frontends, diagnoses);
        clients::check(service, diagnoses);
        ring::names_without_use(service, diagnoses);
        if let Some(at) = &service.health_check {
            health::check(&at.value, diagnoses);
        }
        if let Some(own) = &service.backends {
            let summary = backends::check(own, diagnoses);
            vip_as_backend(own, &vips, diagnoses);
            check_against(service, (balancer, &pools), &summary, own.span, diagnoses);
        }
        if let Some(reference) = resolve(service, &mut sets, diagnoses)
            && let Some((_, summary)) = sets.by_name.get(reference.value)
        {
            check_against(service, (balancer, &pools), summary, reference.span, diagnoses);
        }
    }
    warn_unused(&sets, diagnoses);
}

fn all_vips(top: &Top) -> HashMap<IpAddr, Span> {
    let mut vips = HashMap::new();
    for vip in each(&top.services).flat_map(|service| each(&service.value.vips)) {
        vips.entry(vip.value.0).or_insert(vip.span);
    }
    vips
}

fn sets<'a>(top: &'a Top, vips: &HashMap<IpAddr, Span>, diagnoses: &mut Diagnoses) -> Sets<'a> {
    let complete = top.backend_sets.as_ref().is_none_or(|sets| sets.value.complete);
    let mut sets = Sets { by_name: HashMap::new(), used: HashSet::new(), complete };
    let mut names = Once::new();
    for set in each(&top.backend_sets).map(|at| &at.value) {
        let mut summary = Summary::default();
        if let Some(backends) = &set.backends {
            summary = backends::check(backends, diagnoses);
            vip_as_backend(backends, vips, diagnoses);
        }
        let Some(name) = &set.name else {
            sets.complete = false;
            continue;
        };
        let what = || format!("two backend sets are called `{}`", name.value.0);
        if names.claim(&name.value, name.span, diagnoses, what) {
            sets.by_name.insert(&name.value.0, (set, summary));
        }
    }
    sets
}

/// A packet tunnelled to a VIP would come back to the load balancer.
fn vip_as_backend(backends: &Backends, vips: &HashMap<IpAddr, Span>, diagnoses: &mut Diagnoses) {
    for address in backends.value.items.iter().filter_map(|backend| backend.value.address) {
        if let Some(vip) = vips.get(&address.value.0) {
            diagnoses.push(|| {
                Draft::error(format!("{} is a backend and a VIP", address.value.0))
                    .label(address.span, "a backend here")
                    .label(*vip, "a VIP here")
                    .help("give the address that the machine itself has, not the one that it serves")
            });
        }
    }
}

/// A VIP, protocol and port belong to one service.
fn claim_frontends(
    service: &Service,
    frontends: &mut HashMap<(IpAddr, Protocol, u16), (Span, Span)>,
    diagnoses: &mut Diagnoses,
) {
    let mut own_vips = Once::new();
    let mut own_ports = Once::new();
    let vips: Vec<&At<Address>> = each(&service.vips)
        .filter(|vip| {
            own_vips
                .claim(vip.value, vip.span, diagnoses, || format!("the VIP {} is given twice", vip.value.0))
        })
        .collect();
    for port in each(&service.ports) {
        let (Some(protocol), Some(number)) = (port.value.protocol, port.value.port) else { continue };
        let (protocol, number) = (protocol.value, number.value.get());
        let what = || format!("the port {}/{number} is given twice", protocol.name());
        if !own_ports.claim((protocol, number), port.span, diagnoses, what) {
            continue;
        }
        for vip in &vips {
            let frontend = (vip.value.0, protocol, number);
            if let Some((first_vip, first_port)) = frontends.insert(frontend, (vip.span, port.span)) {
                diagnoses.push(|| {
                    let (ip, protocol) = (vip.value.0, protocol.name());
                    Draft::error(format!("two services have {ip} with port {protocol}/{number}"))
                        .label(vip.span, "this VIP")
                        .label(port.span, "with this port")
                        .label(first_vip, "was given here")
                        .label(first_port, "with this port")
                });
            }
        }
    }
}

/// The name of the set that a service uses, if there is one.
fn resolve<'a>(service: &'a Service, sets: &mut Sets<'a>, diagnoses: &mut Diagnoses) -> Option<At<&'a str>> {
    let reference = service.backend_set.as_ref()?;
    let name = reference.value.0.as_str();
    if let Some(own) = &service.backends {
        diagnoses.push(|| {
            Draft::error("a service has either `backends` or a `backend_set`")
                .label(reference.span, "the set is named here")
                .label(own.span, "backends of its own are here")
        });
    }
    sets.used.insert(name);
    if !sets.by_name.contains_key(name) && sets.complete {
        let (what, header, span) = ("backend set", "[[backend_sets]]", reference.span);
        Reference { what, header, name, span }.unknown(sets.by_name.keys().copied(), diagnoses);
    }
    service.backends.is_none().then_some(At { value: name, span: reference.span })
}

/// Backends for each VIP and none without use; no two that are the same for a port; a table that they fit.
fn check_against(
    service: &Service,
    (balancer, pools): (Option<&LoadBalancer>, &Pools<'_>),
    summary: &Summary,
    place: Span,
    diagnoses: &mut Diagnoses,
) {
    same_for_a_port(service, summary, diagnoses);
    ring::check(service, balancer, summary, place, diagnoses);
    if !summary.complete || !summary.has_backends() {
        return;
    }
    if let Some(vips) = vip_families(service, pools).filter(|vips| !vips.is_empty()) {
        families::check(Served { service, backends: summary, place }, &vips, diagnoses);
    }
}

/// The families of a service's VIPs; `None` if that cannot be told.
fn vip_families(service: &Service, pools: &Pools<'_>) -> Option<Vec<Family>> {
    if service.pool.is_some() {
        return pools.families_for(service);
    }
    let vips = service.vips.as_ref().filter(|vips| vips.value.complete)?;
    Some(vips.value.items.iter().map(|vip| Family::of(vip.value.0)).collect())
}

/// Two backends of one address whose ports are written differently and still are the same.
fn same_for_a_port(service: &Service, summary: &Summary, diagnoses: &mut Diagnoses) {
    for (address, places) in &summary.several_ports {
        for port in each(&service.ports) {
            let Some(number) = port.value.port else { continue };
            let default = port.value.backend_port.unwrap_or(number).value.get();
            let Some((_, without)) = places.iter().find(|(own, _)| own.is_none()) else { continue };
            let Some((_, with)) = places.iter().find(|(own, _)| *own == Some(default)) else { continue };
            diagnoses.push(|| {
                Draft::error(format!("the backend {address} with port {default} is given twice"))
                    .label(*with, "says so itself")
                    .label(*without, "gets the port from the service")
                    .label(port.span, "here")
            });
        }
    }
}

fn warn_unused(sets: &Sets<'_>, diagnoses: &mut Diagnoses) {
    for (name, (set, _)) in &sets.by_name {
        if let Some(at) = set.name.as_ref().filter(|_| !sets.used.contains(name)) {
            diagnoses.push(|| {
                Draft::warning(format!("no service uses the backend set `{name}`"))
                    .label(at.span, "named by no `services.backend_set`")
            });
        }
    }
}
