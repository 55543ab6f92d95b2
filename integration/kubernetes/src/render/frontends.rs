//! Which addresses a service is to have.

use crate::note::plain;
use crate::{Base, Options};
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use netd_schema::Family;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The annotation that names a pool of the base file.
const POOL_ANNOTATION: &str = "netd.io/pool";

/// The annotation that says with which services an address of a pool is shared.
const SHARE_ANNOTATION: &str = "netd.io/share";

/// The addresses of a service, of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Frontend {
    /// What stands behind the name of the service; empty for what most services are about.
    pub(super) suffix: &'static str,
    pub(super) vips: BTreeSet<IpAddr>,
    pub(super) pool: Option<Pool>,
}

/// Where further addresses come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pool {
    pub(super) name: String,
    pub(super) share: Option<String>,
    /// `None` is those that the pool has.
    pub(super) families: Option<Vec<Family>>,
}

/// What the service asks for, as far as it can be given.
pub(super) fn of(service: &Service, base: &Base, options: &Options, told: &mut Vec<String>) -> Vec<Frontend> {
    let Some(spec) = &service.spec else {
        told.push("left out: it says nothing (`spec` is missing)".to_owned());
        return Vec::new();
    };
    let mut frontends = Vec::new();
    match spec.type_.as_deref().unwrap_or("ClusterIP") {
        "ExternalName" => {
            told.push("left out: a name elsewhere (ExternalName) has no packets to balance".to_owned());
            return Vec::new();
        }
        "LoadBalancer" => frontends.extend(load_balancer(service, spec, base, options, told)),
        "NodePort" => told.push("its node ports are left out: not supported by this version".to_owned()),
        "ClusterIP" => {}
        other => told.push(format!("its type `{}` is not known", plain(other))),
    }
    frontends.extend(external(spec, options, told));
    frontends.extend(cluster(spec, options, told));
    frontends
}

/// Whether the service asks for a load balancer of a class that is netd's.
pub(crate) fn is_asked(service: &Service, options: &Options) -> bool {
    let spec = service.spec.as_ref().filter(|spec| spec.type_.as_deref() == Some("LoadBalancer"));
    spec.is_some_and(|spec| options.classes.contains(spec.load_balancer_class.as_deref().unwrap_or_default()))
}

/// Addresses, and what of them is none.
fn addresses<'t>(
    what: &str,
    texts: impl IntoIterator<Item = &'t String>,
    told: &mut Vec<String>,
) -> BTreeSet<IpAddr> {
    let mut addresses = BTreeSet::new();
    for text in texts.into_iter().filter(|text| !text.is_empty()) {
        match text.parse::<IpAddr>() {
            Err(_) => told.push(format!("{what} `{}` is no address", plain(text))),
            Ok(address) => match netd_schema::unusable_address(address) {
                Some(why) => told.push(format!("{what} {address} is left out: {why}")),
                None => drop(addresses.insert(address)),
            },
        }
    }
    addresses
}

/// Only those that a person allows.
fn allowed(
    what: &str,
    found: BTreeSet<IpAddr>,
    options: &Options,
    told: &mut Vec<String>,
) -> BTreeSet<IpAddr> {
    let (named, others): (BTreeSet<_>, BTreeSet<_>) =
        found.into_iter().partition(|address| options.names_vip(*address));
    for address in others {
        told.push(format!("{what} {address} is left out: it is in no prefix of `--vips`"));
    }
    named
}

fn load_balancer(
    service: &Service,
    spec: &ServiceSpec,
    base: &Base,
    options: &Options,
    told: &mut Vec<String>,
) -> Option<Frontend> {
    if !is_asked(service, options) {
        let class = spec.load_balancer_class.clone().unwrap_or_default();
        let class =
            if class.is_empty() { "it has no class".to_owned() } else { format!("class {}", plain(&class)) };
        told.push(format!("its addresses of the load balancer are left out: {class}, which is not netd's"));
        return None;
    }
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = || status.and_then(|status| status.ingress.as_ref()).into_iter().flatten();
    for name in ingress().filter_map(|ingress| ingress.hostname.as_ref().filter(|_| ingress.ip.is_none())) {
        told.push(format!("the name `{}` is left out: netd needs an address", plain(name)));
    }
    let given = addresses("the address", ingress().filter_map(|ingress| ingress.ip.as_ref()), told);
    let asked = addresses("`spec.loadBalancerIP`", &spec.load_balancer_ip, told);
    let is_pooled = |address: &IpAddr| base.config.ip_pools.iter().any(|pool| pool.contains(*address));
    if !base.config.ip_pools.is_empty() && given.iter().all(is_pooled) {
        return pooled(service, spec, base, (given, asked), told);
    }
    // Who has the permission to write the status has given the address; who writes the service may ask for any.
    let vips = match (given.is_empty(), options.vips.is_empty()) {
        (true, _) => allowed("`spec.loadBalancerIP`", asked, options, told),
        (false, true) => given,
        (false, false) => allowed("the address", given, options, told),
    };
    if vips.is_empty() && told.is_empty() {
        told.push("it has no address yet, and the base file has no `[[ip_pools]]`".to_owned());
    }
    (!vips.is_empty()).then(|| Frontend { vips, ..Frontend::default() })
}

/// An address of a pool: the one that is asked for, else the one that it has.
fn pooled(
    service: &Service,
    spec: &ServiceSpec,
    base: &Base,
    (given, asked): (BTreeSet<IpAddr>, BTreeSet<IpAddr>),
    told: &mut Vec<String>,
) -> Option<Frontend> {
    let annotation = |key: &str| service.metadata.annotations.as_ref()?.get(key).cloned();
    let pools = &base.config.ip_pools;
    let (name, pools): (String, Vec<_>) = match annotation(POOL_ANNOTATION) {
        Some(name) => {
            let Some(pool) = pools.iter().find(|pool| pool.name == name) else {
                told.push(format!("left out: the base file has no pool `{}`", plain(&name)));
                return None;
            };
            (name, vec![pool])
        }
        None => ("auto".to_owned(), pools.iter().filter(|pool| pool.auto_assign).collect()),
    };
    if pools.is_empty() {
        told.push(format!("left out: no pool may be chosen without the annotation {POOL_ANNOTATION}"));
        return None;
    }
    let holders = |address: &IpAddr| match name.as_str() {
        "auto" => base.config.ip_pools.iter().any(|pool| pool.contains(*address)),
        _ => pools.iter().any(|pool| pool.contains(*address)),
    };
    let mut vips = BTreeSet::new();
    for address in asked.into_iter().chain(given) {
        let is_new = vips.iter().all(|other| Family::of(*other) != Family::of(address));
        match (holders(&address), is_new) {
            (true, true) => drop(vips.insert(address)),
            (true, false) => {}
            (false, _) => {
                told.push(format!("{address} is not asked for: it is in no pool that it may come from"))
            }
        }
    }
    let has = |family: Family| pools.iter().any(|pool| pool.has(family));
    let wanted = |family: &Family| {
        let of = |text: &String| text.eq_ignore_ascii_case(family.word());
        spec.ip_families.as_ref().is_none_or(|families| families.is_empty() || families.iter().any(of))
    };
    let families: Vec<Family> =
        Family::BOTH.into_iter().filter(|family| has(*family) && wanted(family)).collect();
    if families.is_empty() {
        told.push("left out: the pool has no addresses of its families".to_owned());
        return None;
    }
    vips.retain(|vip| families.contains(&Family::of(*vip)));
    let all = Family::BOTH.into_iter().filter(|family| has(*family)).count();
    let families = (families.len() < all).then_some(families);
    let share = annotation(SHARE_ANNOTATION);
    Some(Frontend { suffix: "", vips, pool: Some(Pool { name, share, families }) })
}

/// Whoever writes a service may name any external address, that of somebody else too (CVE-2020-8554).
fn external(spec: &ServiceSpec, options: &Options, told: &mut Vec<String>) -> Option<Frontend> {
    let found = addresses("the external address", spec.external_ips.iter().flatten(), told);
    let vips = allowed("the external address", found, options, told);
    (!vips.is_empty()).then_some(Frontend { suffix: "external", vips, pool: None })
}

fn cluster(spec: &ServiceSpec, options: &Options, told: &mut Vec<String>) -> Option<Frontend> {
    let several = spec.cluster_ips.iter().flatten();
    let texts: BTreeSet<&String> =
        several.chain(&spec.cluster_ip).filter(|text| !text.is_empty() && *text != "None").collect();
    if texts.is_empty() {
        return None;
    }
    if !options.cluster_ips {
        let is_plain = spec.type_.as_deref().unwrap_or("ClusterIP") == "ClusterIP";
        if is_plain && spec.external_ips.as_ref().is_none_or(Vec::is_empty) {
            told.push("its cluster IPs are left out: `--cluster-ips` makes VIPs of them".to_owned());
        }
        return None;
    }
    let vips = addresses("the cluster IP", texts, told);
    (!vips.is_empty()).then_some(Frontend { suffix: "cluster", vips, pool: None })
}
