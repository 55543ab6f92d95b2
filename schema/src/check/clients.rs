//! `source_ranges` of a service: each prefix says one thing, and there are clients that it is about.

use super::{Once, family};
use crate::diagnostic::{Diagnoses, Draft};
use crate::raw::{Service, SourceRanges, each};
use ipnetwork::IpNetwork;
use std::net::IpAddr;

pub(super) fn check(service: &Service, diagnoses: &mut Diagnoses) {
    let Some(at) = &service.source_ranges else { return };
    let ranges = &at.value;
    if ranges.allow.is_none() && ranges.deny.is_none() {
        diagnoses.push(|| {
            Draft::error("`services.source_ranges` says nothing")
                .label(at.span, "give `allow`, `deny` or both")
                .help("without `source_ranges` all clients are let in")
        });
    }
    contradictions(ranges, diagnoses);
    families(service, ranges, diagnoses);
}

fn contradictions(ranges: &SourceRanges, diagnoses: &mut Diagnoses) {
    let (mut allowed, mut denied) = (Once::new(), Once::new());
    for prefix in each(&ranges.allow) {
        let what = || format!("{} is allowed twice", prefix.value.0);
        allowed.claim(prefix.value, prefix.span, diagnoses, what);
    }
    for prefix in each(&ranges.deny) {
        let what = || format!("{} is denied twice", prefix.value.0);
        denied.claim(prefix.value, prefix.span, diagnoses, what);
        if let Some(first) = allowed.place(&prefix.value) {
            diagnoses.push(|| {
                Draft::error(format!("{} is allowed and denied", prefix.value.0))
                    .label(prefix.span, "denied here")
                    .label(first, "allowed here")
            });
        }
    }
}

/// Of a family that the VIPs do not have, no client comes; of a family that `allow` does not have, none is let in.
fn families(service: &Service, ranges: &SourceRanges, diagnoses: &mut Diagnoses) {
    let Some(vips) = service.vips.as_ref().filter(|vips| vips.value.complete && service.pool.is_none())
    else {
        return;
    };
    let vip_of = |ip: IpAddr| vips.value.items.iter().find(|vip| vip.value.0.is_ipv4() == ip.is_ipv4());
    for prefix in each(&ranges.allow).chain(each(&ranges.deny)) {
        let network: IpNetwork = prefix.value.0;
        if vip_of(network.ip()).is_none() {
            diagnoses.push(|| {
                let family = family(network.ip());
                Draft::warning(format!("no client of {network} can reach this service anyhow"))
                    .label(prefix.span, format!("an {family} prefix"))
                    .label(vips.span, format!("no {family} VIP here"))
            });
        }
    }
    let Some(allow) =
        ranges.allow.as_ref().filter(|allow| allow.value.complete && !allow.value.items.is_empty())
    else {
        return;
    };
    let shut_out =
        vips.value.items.iter().find(|vip| {
            allow.value.items.iter().all(|prefix| prefix.value.0.is_ipv4() != vip.value.0.is_ipv4())
        });
    if let Some(vip) = shut_out {
        diagnoses.push(|| {
            let family = family(vip.value.0);
            Draft::warning(format!("no client can reach the VIP {}", vip.value.0))
                .label(vip.span, format!("its clients have {family} addresses"))
                .label(allow.span, format!("no {family} prefix is allowed here"))
        });
    }
}
