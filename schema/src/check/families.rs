//! The families of a service's VIPs and backends: each VIP has backends that it can use, and each backend a VIP.

use super::backends::Summary;
use crate::diagnostic::{Diagnoses, Draft};
use crate::model::{BackendFamily, Family, NoBackend};
use crate::raw::{Service, each};
use crate::span::Span;

/// A service, and where its backends are.
#[derive(Clone, Copy)]
pub(super) struct Served<'a> {
    pub(super) service: &'a Service,
    pub(super) backends: &'a Summary,
    pub(super) place: Span,
}

/// `vips` are the families of its VIPs. Backends of any family are there: a service without any may be meant.
pub(super) fn check(served: Served<'_>, vips: &[Family], diagnoses: &mut Diagnoses) {
    let family = served.service.backend_family;
    let chosen = match family.map(|at| at.value).unwrap_or_default() {
        BackendFamily::Same => None,
        BackendFamily::Ipv4 => Some(Family::Ipv4),
        BackendFamily::Ipv6 => Some(Family::Ipv6),
    };
    if let (Some(chosen), Some(at)) = (chosen, family) {
        chosen_family(served, chosen, at.span, diagnoses);
        nobody_open(served, chosen, diagnoses);
        return;
    }
    for family in Family::BOTH {
        let has_backend = served.backends.of(family).count > 0;
        match vips.contains(&family) {
            true if !has_backend => vip_alone(served, family, diagnoses),
            true => nobody_open(served, family, diagnoses),
            false => backend_alone(served, family, diagnoses),
        }
    }
}

fn chosen_family(served: Served<'_>, chosen: Family, asked: Span, diagnoses: &mut Diagnoses) {
    let other = other(chosen);
    let (word, other_word) = (chosen.word(), other.word());
    if served.backends.of(chosen).count == 0 {
        diagnoses.push(|| {
            Draft::error(format!("no VIP has a backend: there is none with an {word} address"))
                .label(asked, format!("{word} backends are asked for"))
                .label(served.place, format!("no {word} backend here"))
                .help(format!("add one, or set `backend_family = \"{}\"`", other.name()))
        });
    } else if let Some(unused) = served.backends.of(other).first {
        diagnoses.push(|| {
            Draft::warning(format!("the service does not use its {other_word} backends"))
                .label(unused, "nothing is sent there")
                .label(asked, format!("only {word} backends are asked for"))
        });
    }
}

/// A VIP that would be answered for, and serve nobody. One that a pool gives unasked is only doubted: who adds a range
/// to a pool does not see all of its services.
fn vip_alone(served: Served<'_>, family: Family, diagnoses: &mut Diagnoses) {
    let (word, other) = (family.word(), other(family).name());
    let service = served.service;
    let none_here = format!("no {word} backend here");
    let named = each(&service.vips).find(|vip| Family::of(vip.value.0) == family);
    let asked =
        service.families.as_ref().and_then(|asked| asked.value.items.iter().find(|at| at.value == family));
    diagnoses.push(|| match (named, asked, service.pool.as_ref()) {
        (Some(vip), _, _) => Draft::error(format!("the VIP {} has no {word} backend", vip.value.0))
            .label(vip.span, format!("an {word} VIP"))
            .label(served.place, none_here)
            .help(format!("add one, or give it the others with `backend_family = \"{other}\"`")),
        (None, Some(asked), _) => {
            Draft::error(format!("the service asks for an {word} VIP and has no {word} backend"))
                .label(asked.span, format!("an {word} VIP is asked for here"))
                .label(served.place, none_here)
                .help(format!(
                    "ask for `families = [\"{other}\"]` only, or give it the others with `backend_family = \"{other}\"`"
                ))
        }
        (None, None, pool) => {
            let draft = Draft::warning(format!("the service gets an {word} VIP and has no {word} backend"));
            let draft = match pool {
                Some(pool) => draft.label(pool.span, format!("gives an {word} VIP")),
                None => draft,
            };
            draft.label(served.place, none_here).help(format!(
                "leave it out with `families = [\"{other}\"]`, or give it the others with `backend_family = \"{other}\"`"
            ))
        }
    });
}

fn backend_alone(served: Served<'_>, family: Family, diagnoses: &mut Diagnoses) {
    let Some(backend) = served.backends.of(family).first else { return };
    let word = family.word();
    diagnoses.push(|| {
        let draft = Draft::warning(format!("an {word} backend in a service without an {word} VIP"))
            .label(backend, "nothing is sent there");
        let draft = match (&served.service.vips, &served.service.families) {
            (Some(vips), _) => draft.label(vips.span, format!("no {word} VIP here")),
            (None, Some(asked)) => draft.label(asked.span, format!("no {word} VIP is asked for")),
            (None, None) => draft,
        };
        draft.help(format!(
            "to send the packets of all VIPs to {word} backends, set `backend_family = \"{}\"`",
            family.name()
        ))
    });
}

/// Draining the last backend is a thing to do, so this is only a doubt; that all weights are 0 is refused elsewhere.
fn nobody_open(served: Served<'_>, family: Family, diagnoses: &mut Diagnoses) {
    let share = served.backends.of(family);
    let Some(name) = served.service.name.as_ref() else { return };
    if share.count == 0 || share.open > 0 || share.weight == 0 {
        return;
    }
    let word = family.word();
    diagnoses.push(|| {
        Draft::warning(format!("`{}` has no {word} backend that is given new flows", name.value.0))
            .label(served.place, "each has weight 0 or a `state` other than `\"active\"`")
            .label(name.span, new_flows(served))
    });
}

fn new_flows(served: Served<'_>) -> &'static str {
    match served.service.no_backend.map(|at| at.value).unwrap_or_default() {
        NoBackend::Reject => "its new flows are rejected, as `no_backend` says",
        NoBackend::Drop => "its new flows are dropped, as `no_backend` says",
    }
}

fn other(family: Family) -> Family {
    match family {
        Family::Ipv4 => Family::Ipv6,
        Family::Ipv6 => Family::Ipv4,
    }
}
