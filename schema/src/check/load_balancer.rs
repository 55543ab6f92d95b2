//! The load balancer's own settings.

use super::{Once, family};
use crate::diagnostic::{Diagnoses, Draft};
use crate::raw::{LoadBalancer, each};
use ipnetwork::IpNetwork;
use std::ops::RangeInclusive;

/// A length of 0 would name all addresses, and 32 leaves no bits to spread.
const RSS_LENGTHS_V4: RangeInclusive<u8> = 1..=31;

/// Networks are not given more than a /32 (RFC 6177 and the registries' practice), so a shorter one would pretend to be
/// other networks; 128 leaves no bits to spread.
const RSS_LENGTHS_V6: RangeInclusive<u8> = 32..=127;

pub(super) fn check(settings: &LoadBalancer, diagnoses: &mut Diagnoses) {
    let mut devices = Once::new();
    for device in each(&settings.devices) {
        let what = || format!("the device `{}` is given twice", device.value.0);
        devices.claim(&device.value, device.span, diagnoses, what);
    }
    let mut families = Once::new();
    for prefix in each(&settings.rss_source) {
        let (network, span) = (prefix.value.0, prefix.span);
        let lengths = if network.is_ipv4() { RSS_LENGTHS_V4 } else { RSS_LENGTHS_V6 };
        if !lengths.contains(&network.prefix()) {
            let (from, to) = (lengths.start(), lengths.end());
            diagnoses.push(|| {
                Draft::error(format!("`load_balancer.rss_source` cannot be {network}"))
                    .label(span, format!("the length must be from {from} to {to}"))
            });
        }
        if let Some(why) = not_a_source(network) {
            diagnoses.push(|| {
                Draft::error(format!("`load_balancer.rss_source` cannot be {network}")).label(span, why)
            });
        }
        families.claim(network.is_ipv4(), span, diagnoses, || {
            format!(
                "`load_balancer.rss_source` has two {} prefixes; one per family is allowed",
                family(network.ip())
            )
        });
    }
}

fn not_a_source(network: IpNetwork) -> Option<&'static str> {
    let address = network.ip();
    if address.is_multicast() {
        return Some("a multicast address cannot be the source of a packet");
    }
    if address.is_loopback() {
        return Some("a loopback address cannot be the source of a packet");
    }
    None
}
