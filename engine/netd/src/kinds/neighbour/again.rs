//! Next hops follow from where the backends are: as long as none comes or goes, they are the same.

use crate::facts::Facts;
use crate::target::Before;
use netd_core::DesiredKind;
use netd_schema::Config;
use std::net::IpAddr;
use std::sync::Arc;

/// See [`crate::target::Again`].
#[must_use]
pub fn again(config: &Config, facts: &Facts, before: &Before<'_>) -> Option<Arc<DesiredKind>> {
    let is_same = config.load_balancer == before.config.load_balancer
        && facts.no_redirects == before.facts.no_redirects
        && facts.has_ways_of(before.facts)
        // Which gateways are on link follows from more than this.
        && config.egress.is_empty()
        && before.config.egress.is_empty()
        && backends(config).eq(backends(before.config));
    is_same.then(|| Arc::clone(before.desired))
}

fn backends(config: &Config) -> impl Iterator<Item = IpAddr> {
    config.services.iter().flat_map(|service| &service.backends).map(|backend| backend.address)
}
