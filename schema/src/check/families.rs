//! The families of a service's VIPs and backends.

use super::backends::Summary;
use super::family;
use crate::diagnostic::{Diagnoses, Draft};
use crate::model::{BackendFamily, Family};
use crate::raw::{Service, each};
use crate::span::Span;

/// As [`check`], where VIPs of these families come from a pool.
pub(super) fn check_pooled(
    service: &Service,
    pool: Span,
    families: &[Family],
    backends: &Summary,
    diagnoses: &mut Diagnoses,
) {
    let is_same = service.backend_family.is_none_or(|at| at.value == BackendFamily::Same);
    for (wanted, backend) in [(Family::Ipv4, backends.first_v4), (Family::Ipv6, backends.first_v6)] {
        if !is_same || backend.is_some() || !families.contains(&wanted) {
            continue;
        }
        let other = if wanted == Family::Ipv4 { Family::Ipv6 } else { Family::Ipv4 };
        diagnoses.push(|| {
            let word = wanted.word();
            let (place, why) = match &service.families {
                Some(asked) => (asked.span, format!("an {word} VIP is asked for here")),
                None => (pool, format!("gives an {word} VIP")),
            };
            Draft::warning(format!("the service gets an {word} VIP and has no {word} backend"))
                .label(place, why)
                .help(format!(
                    "leave it out with `families = [\"{0}\"]`, or give it the others with `backend_family = \"{0}\"`",
                    other.name()
                ))
        });
    }
}

/// Every VIP has backends, and every backend a VIP. Some of the service are there: a service without any may be meant.
pub(super) fn check(service: &Service, backends: &Summary, place: Span, diagnoses: &mut Diagnoses) {
    let chosen = service.backend_family.filter(|at| at.value != BackendFamily::Same);
    match chosen {
        Some(chosen) => {
            let v4 = chosen.value == BackendFamily::Ipv4;
            chosen_family(v4, chosen.span, backends, place, diagnoses);
        }
        None => same_family(service, backends, place, diagnoses),
    }
}

fn chosen_family(v4: bool, chosen: Span, backends: &Summary, place: Span, diagnoses: &mut Diagnoses) {
    let (wanted, other) = if v4 { ("IPv4", "IPv6") } else { ("IPv6", "IPv4") };
    let [used, unused] =
        if v4 { [backends.first_v4, backends.first_v6] } else { [backends.first_v6, backends.first_v4] };
    if used.is_none() {
        diagnoses.push(|| {
            Draft::warning(format!("no VIP has a backend: there is none with an {wanted} address"))
                .label(chosen, format!("{wanted} backends are asked for"))
                .label(place, format!("no {wanted} backend here"))
                .help(format!("add one, or set `backend_family = \"{}\"`", other.to_lowercase()))
        });
    } else if let Some(unused) = unused {
        diagnoses.push(|| {
            Draft::warning(format!("the service does not use its {other} backends"))
                .label(unused, "nothing is sent there")
                .label(chosen, format!("only {wanted} backends are asked for"))
        });
    }
}

fn same_family(service: &Service, backends: &Summary, place: Span, diagnoses: &mut Diagnoses) {
    let vip_of = |v4: bool| each(&service.vips).find(|vip| vip.value.0.is_ipv4() == v4);
    let word = |v4: bool| if v4 { "ipv4" } else { "ipv6" };
    for (v4, backend) in [(true, backends.first_v4), (false, backends.first_v6)] {
        match (vip_of(v4), backend) {
            (Some(vip), None) => diagnoses.push(|| {
                let family = family(vip.value.0);
                Draft::warning(format!("the VIP {} has no {family} backend", vip.value.0))
                    .label(vip.span, format!("an {family} VIP"))
                    .label(place, format!("no {family} backend here"))
                    .help(format!("add one, or give it the others with `backend_family = \"{}\"`", word(!v4)))
            }),
            (None, Some(backend)) => diagnoses.push(|| {
                let family = if v4 { "IPv4" } else { "IPv6" };
                let draft =
                    Draft::warning(format!("an {family} backend in a service without an {family} VIP"))
                        .label(backend, "nothing is sent there");
                let draft = match &service.vips {
                    Some(vips) => draft.label(vips.span, format!("no {family} VIP here")),
                    None => draft,
                };
                draft.help(format!(
                    "to send the packets of all VIPs to {family} backends, set `backend_family = \"{}\"`",
                    word(v4)
                ))
            }),
            _ => {}
        }
    }
}
