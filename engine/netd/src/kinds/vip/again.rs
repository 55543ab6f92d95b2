//! VIPs follow from little of a file: as long as that is the same, so are they.

use crate::facts::Facts;
use crate::target::Before;
use netd_core::DesiredKind;
use netd_schema::{Config, Egress, Service};
use std::sync::Arc;

/// See [`crate::target::Again`].
#[must_use]
pub fn again(config: &Config, facts: &Facts, before: &Before<'_>) -> Option<Arc<DesiredKind>> {
    let is_same = config.ip_pools == before.config.ip_pools
        && facts.addresses == before.facts.addresses
        && config.services.len() == before.config.services.len()
        && config.services.iter().zip(&before.config.services).all(|(now, then)| has_vips_of(now, then))
        && config.egress.len() == before.config.egress.len()
        && config.egress.iter().zip(&before.config.egress).all(|(now, then)| has_addresses_of(now, then));
    is_same.then(|| Arc::clone(before.desired))
}

fn has_vips_of(now: &Service, then: &Service) -> bool {
    now.name == then.name
        && now.vips == then.vips
        && now.pool == then.pool
        && now.ping == then.ping
        && now.unknown_port == then.unknown_port
}

fn has_addresses_of(now: &Egress, then: &Egress) -> bool {
    now.ips == then.ips && now.pool == then.pool
}
