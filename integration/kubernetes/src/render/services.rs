//! `[[services]]`: the addresses of a service, and the backends of its slices.

use super::claims::{Claims, Terms};
use super::endpoints::{self, Group};
use super::frontends::{self, Frontend, Pool};
use super::name;
use super::nodes::masked;
use super::table::{Section, Table, Writer};
use crate::note::{Note, ObjectRef, plain};
use crate::objects::{Key, Kind, Slice, State};
use crate::{Base, Index, Options};
use ipnetwork::IpNetwork;
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use kube::core::SelectorExt as _;
use netd_schema::{Family, Protocol};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Services with this label are another program's.
const PROXY_LABEL: &str = "service.kubernetes.io/service-proxy-name";

/// Where older manifests have what is `spec.loadBalancerSourceRanges` today.
const RANGES_ANNOTATION: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";

/// How long a client keeps its backend if the service does not say, and how long at most, in seconds.
const AFFINITY_DEFAULT: i32 = 10_800;
const AFFINITY_MAX: i32 = 86_400;

/// A service whose addresses have been given to it.
struct Granted {
    object: ObjectRef,
    frontends: Vec<Frontend>,
    groups: Vec<Group>,
    /// What its tables say besides.
    rest: Rest,
    told: Vec<String>,
}

/// What all tables of a service say.
struct Rest {
    affinity: Option<i32>,
    allow: BTreeSet<IpNetwork>,
    local: bool,
}

/// The tables of all services that are taken. Where two want the same address, the older one has it.
pub(super) fn tables(
    index: &Index,
    base: &Base,
    options: &Options,
    claims: &mut Claims,
    notes: &mut Vec<Note>,
) -> Vec<Table> {
    let slices = index.slices_by_service();
    let labels = BTreeMap::new();
    let is_taken = |(key, service): &(&Key, &Service)| {
        let labels = service.metadata.labels.as_ref().unwrap_or(&labels);
        options.takes_namespace(&key.namespace)
            && options.selector.matches(labels)
            && !labels.contains_key(PROXY_LABEL)
    };
    let mut services: Vec<(&Key, &Service)> = index.services.iter().filter(is_taken).collect();
    services.sort_by_key(|(key, service)| (service.metadata.creation_timestamp.clone(), *key));
    // Which addresses are VIPs decides about the backends of all.
    let granted: Vec<Granted> = services
        .into_iter()
        .filter_map(|(key, service)| {
            let slices = slices.get(&(key.namespace.as_str(), key.name.as_str())).map(Vec::as_slice);
            grant(key, service, slices.unwrap_or_default(), (base, options, claims), notes)
        })
        .collect();
    granted.into_iter().flat_map(|granted| granted.tables(claims, notes)).collect()
}

fn grant(
    key: &Key,
    service: &Service,
    slices: &[(&Key, &Slice)],
    (base, options, claims): (&Base, &Options, &mut Claims),
    notes: &mut Vec<Note>,
) -> Option<Granted> {
    let object = Kind::Service.object(key);
    let mut told = Vec::new();
    let granted = (|| {
        let mut frontends = frontends::of(service, base, options, &mut told);
        let spec = service.spec.as_ref().filter(|_| !frontends.is_empty())?;
        let ports = endpoints::ports(spec.ports.as_deref().unwrap_or_default(), &mut told);
        if ports.is_empty() {
            told.push("left out: it has no port that can be served".to_owned());
            return None;
        }
        let rest = rest(service, spec, &mut told)?;
        let claimed: BTreeSet<(Protocol, u16)> =
            ports.iter().map(|port| (port.protocol, port.number)).collect();
        for frontend in &mut frontends {
            let terms = Terms {
                local: rest.local,
                share: frontend.pool.as_ref().and_then(|pool| pool.share.clone()),
                pool: frontend.pool.is_some(),
            };
            frontend.vips.retain(|vip| match claims.vip(*vip, (&claimed, &terms), &object) {
                Ok(()) => true,
                Err(why) => {
                    told.push(format!("the address {vip} is left out: {why}"));
                    false
                }
            });
        }
        frontends.retain(|frontend| frontend.pool.is_some() || !frontend.vips.is_empty());
        let groups = endpoints::groups(ports, slices, &mut told);
        (!frontends.is_empty()).then_some((frontends, groups, rest))
    })();
    match granted {
        Some((frontends, groups, rest)) => Some(Granted { object, frontends, groups, rest, told }),
        None => {
            notes.extend(told.into_iter().map(|text| Note { object: object.clone(), text }));
            None
        }
    }
}

fn rest(service: &Service, spec: &ServiceSpec, told: &mut Vec<String>) -> Option<Rest> {
    let annotation = service.metadata.annotations.as_ref().and_then(|all| all.get(RANGES_ANNOTATION));
    let given = spec.load_balancer_source_ranges.clone().filter(|ranges| !ranges.is_empty());
    let given = given.or_else(|| annotation.map(|text| text.split(',').map(str::to_owned).collect()));
    let mut allow = BTreeSet::new();
    for text in given.iter().flatten().filter(|text| !text.trim().is_empty()) {
        match masked(text) {
            Some(range) => drop(allow.insert(range)),
            None => told.push(format!("the source range `{}` is no prefix", plain(text))),
        }
    }
    if given.is_some_and(|given| !given.is_empty()) && allow.is_empty() {
        told.push("left out: it is for some clients only, and none of them can be told".to_owned());
        return None;
    }
    let affinity = match spec.session_affinity.as_deref().unwrap_or("None") {
        "ClientIP" => {
            let config = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
            let seconds = config.and_then(|config| config.timeout_seconds).unwrap_or(AFFINITY_DEFAULT);
            Some(seconds.clamp(1, AFFINITY_MAX))
        }
        "None" | "" => None,
        other => {
            told.push(format!("its session affinity `{}` is not known", plain(other)));
            None
        }
    };
    let local = match spec.external_traffic_policy.as_deref().unwrap_or("Cluster") {
        "Local" => true,
        "Cluster" | "" => false,
        other => {
            told.push(format!("its external traffic policy `{}` is not known", plain(other)));
            false
        }
    };
    if local && spec.health_check_node_port.is_some_and(|port| port != 0) {
        told.push("its health check node port is left out: not supported by this version".to_owned());
    }
    Some(Rest { affinity, allow, local })
}

impl Granted {
    fn tables(mut self, claims: &mut Claims, notes: &mut Vec<Note>) -> Vec<Table> {
        let mut told = std::mem::take(&mut self.told);
        for group in &mut self.groups {
            group.backends.retain(|(address, _, _)| {
                let is_vip = claims.is_vip(*address);
                if is_vip {
                    told.push(format!("the backend {address} is left out: it is a VIP"));
                }
                !is_vip
            });
        }
        if self.groups.len() > 1 && self.rest.local {
            let left = self.groups.split_off(1).into_iter().flat_map(|group| group.ports);
            let left: Vec<String> = left.map(|(port, _)| port.number.to_string()).collect();
            told.push(format!(
                "the ports {} are left out: they have other backends than the first, and with \
                 `externalTrafficPolicy: Local` a node with one kind of them gets the packets of all",
                left.join(", ")
            ));
        }
        let mut tables = Vec::new();
        for frontend in &self.frontends {
            for (at, group) in self.groups.iter().enumerate() {
                for (suffix, part) in parts(frontend, group) {
                    let first = group.ports.first().map(|(port, _)| port).filter(|_| at > 0);
                    let port = first.map(|port| format!("{}-{}", port.number, port.protocol.name()));
                    let parts = [frontend.suffix, port.as_deref().unwrap_or_default(), suffix];
                    tables.extend(self.table(&part, group, parts, claims, &mut told));
                }
            }
        }
        let object = &self.object;
        notes.extend(told.into_iter().map(|text| Note { object: object.clone(), text }));
        tables
    }

    fn table(
        &self,
        frontend: &Frontend,
        group: &Group,
        suffixes: [&str; 3],
        claims: &mut Claims,
        told: &mut Vec<String>,
    ) -> Option<Table> {
        let mut parts = vec![self.object.namespace.as_str(), self.object.name.as_str()];
        parts.extend(suffixes.into_iter().filter(|suffix| !suffix.is_empty()));
        let name = name::of(&parts);
        if let Err(owner) = claims.name("services", &name, &self.object) {
            told.push(format!("left out: {owner} has a service called `{name}`"));
            return None;
        }
        let mut writer = Writer::new(Section::Services, self.object.clone(), name);
        if frontend.suffix.is_empty() {
            writer.balanced(&frontend.vips, frontend.pool.is_some());
        }
        writer.list("vips", &frontend.vips);
        if let Some(pool) = &frontend.pool {
            write_pool(pool, self.groups.len() > 1, &self.object, &mut writer);
        }
        let ports: Vec<String> = group
            .ports
            .iter()
            .map(|(port, target)| {
                let (protocol, number) = (port.protocol.name(), port.number);
                match target.filter(|target| *target != number) {
                    Some(target) => {
                        format!("{{ protocol = \"{protocol}\", port = {number}, backend_port = {target} }}")
                    }
                    None => format!("{{ protocol = \"{protocol}\", port = {number} }}"),
                }
            })
            .collect();
        writer.raw("ports", format!("[{}]", ports.join(", ")));
        if let Some(seconds) = self.rest.affinity {
            writer.text("affinity", &format!("{seconds}s"));
        }
        if !self.rest.allow.is_empty() {
            let ranges: Vec<String> = self.rest.allow.iter().map(|range| format!("\"{range}\"")).collect();
            writer.raw("source_ranges", format!("{{ allow = [{}] }}", ranges.join(", ")));
        }
        if self.rest.local {
            writer.text("traffic_policy", "local");
        }
        writer.tables(
            "backends",
            group.backends.iter().filter(|(address, _, _)| is_used(frontend, *address)).map(backend),
        );
        Some(writer.finish())
    }
}

/// A VIP needs a backend of its family, if there is any backend: what has none is a table of its own.
fn parts(frontend: &Frontend, group: &Group) -> Vec<(&'static str, Frontend)> {
    let has = |family: Family| group.backends.iter().any(|(address, _, _)| Family::of(*address) == family);
    let families: BTreeSet<Family> = frontend.vips.iter().map(|vip| Family::of(*vip)).collect();
    let (served, alone): (Vec<Family>, Vec<Family>) = families.into_iter().partition(|family| has(*family));
    if served.is_empty() || alone.is_empty() || frontend.pool.is_some() {
        return vec![("", frontend.clone())];
    }
    let of = |family: Family| Frontend {
        vips: frontend.vips.iter().copied().filter(|vip| Family::of(*vip) == family).collect(),
        ..frontend.clone()
    };
    let first = served.into_iter().map(|family| ("", of(family)));
    first.chain(alone.into_iter().map(|family| (family.name(), of(family)))).collect()
}

/// Whether a packet for one of the VIPs can go to the backend.
fn is_used(frontend: &Frontend, address: IpAddr) -> bool {
    let family = Family::of(address);
    let of_pool = |pool: &Pool| pool.families.as_ref().is_none_or(|families| families.contains(&family));
    frontend.vips.iter().any(|vip| Family::of(*vip) == family) || frontend.pool.as_ref().is_some_and(of_pool)
}

/// Several tables of one service share its address, with a word that no other service says.
fn write_pool(pool: &Pool, is_split: bool, object: &ObjectRef, writer: &mut Writer) {
    writer.text("pool", &pool.name);
    if let Some(families) = &pool.families {
        writer.list("families", families.iter().map(|family| family.name()));
    }
    match &pool.share {
        Some(share) => writer.text("share", share),
        None if is_split => writer.text("share", &name::of(&[&object.namespace, &object.name])),
        None => {}
    }
}

fn backend((address, port, state): &(IpAddr, Option<u16>, State)) -> String {
    let port = port.map(|port| format!(", port = {port}")).unwrap_or_default();
    let state = match state {
        State::Active => "",
        State::Terminating => ", state = \"terminating\"",
        State::Quarantined => ", state = \"quarantined\"",
    };
    format!("{{ address = \"{address}\"{port}{state} }}")
}
