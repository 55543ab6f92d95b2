//! Which addresses services and egress policies have where nothing is remembered: those that the datapath goes by.

use super::Held;
use super::claim::owner_of;
use crate::egress::Rule;
use crate::kinds::egress::{self, EgressSpec};
use crate::kinds::service::{self, ServiceSpec};
use netd_core::{KindName, Observed, Reading};
use netd_schema::Config;
use std::net::IpAddr;

/// What the frontends in the datapath say, and for policies of the file the rules by which packets leave here. A node that is
/// not a policy's gateway does not know its address.
///
/// # Errors
///
/// Why they could not be read: what they have is then not known, which is not nothing.
pub fn carried(observed: &Observed, config: &Config) -> Result<Held, String> {
    let mut held = Held::new();
    for frontend in found::<ServiceSpec>(observed, service::NAME)? {
        held.entry(frontend.service.clone()).or_default().insert(frontend.vip);
    }
    let tables = found::<EgressSpec>(observed, egress::NAME)?;
    for policy in config.egress.iter().filter(|policy| policy.pool.is_some()) {
        let own = tables.iter().filter(|table| policy.sources.contains(&table.source));
        let rules = own.flat_map(|table| policy.destinations.iter().filter_map(|to| table.rules.get(to)));
        let addresses: Vec<IpAddr> = rules
            .filter_map(|rule| match rule {
                Rule::Translate { address, .. } => Some(*address),
                Rule::Tunnel { .. } | Rule::NextHop { .. } | Rule::Drop | Rule::Pass => None,
            })
            .collect();
        if !addresses.is_empty() {
            held.entry(owner_of(policy)).or_default().extend(addresses);
        }
    }
    Ok(held)
}

fn found<Spec: 'static>(observed: &Observed, kind: KindName) -> Result<Vec<&Spec>, String> {
    match observed.0.get(kind) {
        Some(Reading::Known(found)) => {
            Ok(found.owned.values().filter_map(|spec| spec.as_any().downcast_ref::<Spec>()).collect())
        }
        Some(Reading::Unknown(why)) => Err(why.clone()),
        None => Ok(Vec::new()),
    }
}
