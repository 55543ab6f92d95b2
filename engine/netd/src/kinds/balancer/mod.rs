//! What is decided for the load balancer as a whole and is a constant of its program: outer headers, limits.
//!
//! One resource. Mark of ownership: the maps that are pinned under netd's own directory. An update costs no packet: a
//! new program with the same content is made beside the old one, then the links are turned over.

mod target;

pub use target::BalancerTarget;

use crate::facts::Facts;
use netd_bpf::abi::{COPY, Settings};
use netd_core::{Described, DesiredKind, FieldChange, Key, KindName};
use netd_schema::{Config, OuterDscp, OuterEcn};
use serde::Serialize;
use std::sync::Arc;

/// The kind's name.
pub const NAME: KindName = "balancer";

/// The key of the only resource.
const KEY: &str = "settings";

/// The settings by the words of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BalancerSpec {
    /// TTL and hop limit of outer headers.
    pub hop_limit: u8,
    /// The DSCP of outer headers; `None`: the inner one.
    pub outer_dscp: Option<u8>,
    /// Whether the inner ECN bits are copied.
    pub copies_ecn: bool,
    /// Where GUE goes.
    pub gue_port: u16,
    /// How many ICMP errors are sent, and relayed, in a second.
    pub icmp_errors_per_second: u32,
    /// Whether unassigned addresses of pools have a policy.
    pub has_pools: bool,
}

impl BalancerSpec {
    fn of(config: &Config) -> Self {
        let load_balancer = &config.load_balancer;
        Self {
            hop_limit: load_balancer.hop_limit,
            outer_dscp: match load_balancer.outer_dscp {
                OuterDscp::Copy => None,
                OuterDscp::Fixed(dscp) => Some(dscp),
            },
            copies_ecn: load_balancer.outer_ecn == OuterEcn::Copy,
            gue_port: load_balancer.gue_port,
            icmp_errors_per_second: load_balancer.icmp_errors_per_second,
            has_pools: config.balanced_pools().next().is_some(),
        }
    }

    fn settings(&self) -> Settings {
        Settings {
            icmp_errors_per_second: self.icmp_errors_per_second,
            gue_port: self.gue_port.to_be_bytes(),
            hop_limit: self.hop_limit,
            outer_dscp: self.outer_dscp.unwrap_or(COPY),
            copies_ecn: u8::from(self.copies_ecn),
            has_pools: u8::from(self.has_pools),
            ..Settings::default()
        }
    }

    fn held(settings: &Settings) -> Self {
        Self {
            hop_limit: settings.hop_limit,
            outer_dscp: (settings.outer_dscp != COPY).then_some(settings.outer_dscp),
            copies_ecn: settings.copies_ecn != 0,
            gue_port: u16::from_be_bytes(settings.gue_port),
            icmp_errors_per_second: settings.icmp_errors_per_second,
            has_pools: settings.has_pools != 0,
        }
    }
}

/// The settings that the file asks for; none where there is nothing to balance.
///
/// # Errors
///
/// None.
pub fn desired(config: &Config, _facts: &Facts) -> Result<DesiredKind, String> {
    let mut desired = DesiredKind::default();
    if config.services.is_empty() && config.balanced_pools().next().is_none() {
        // Settings without services do nothing; they go with the maps.
        desired.kept.insert(Key::new(KEY));
    } else {
        desired.table.insert(Key::new(KEY), Arc::new(BalancerSpec::of(config)));
    }
    Ok(desired)
}

fn dscp_word(dscp: Option<u8>) -> String {
    dscp.map_or_else(|| "copy".into(), |dscp| dscp.to_string())
}

fn ecn_word(copies: bool) -> &'static str {
    if copies { "copy" } else { "clear" }
}

impl Described for BalancerSpec {
    fn summary(&self) -> String {
        format!(
            "hop limit {}, outer DSCP {}, outer ECN {}",
            self.hop_limit,
            dscp_word(self.outer_dscp),
            ecn_word(self.copies_ecn)
        )
    }

    fn changes(&self, observed: &Self) -> Vec<FieldChange> {
        let errors = |spec: &Self| format!("{}/s", spec.icmp_errors_per_second);
        let pools = |spec: &Self| if spec.has_pools { "looked up" } else { "none" };
        let compared = [
            FieldChange::between("hop limit", observed.hop_limit, self.hop_limit),
            FieldChange::between("outer DSCP", dscp_word(observed.outer_dscp), dscp_word(self.outer_dscp)),
            FieldChange::between("outer ECN", ecn_word(observed.copies_ecn), ecn_word(self.copies_ecn)),
            FieldChange::between("GUE port", observed.gue_port, self.gue_port),
            FieldChange::between("ICMP errors", errors(observed), errors(self)),
            FieldChange::between("pools", pools(observed), pools(self)),
        ];
        compared.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn some() -> BalancerSpec {
        BalancerSpec {
            hop_limit: 12,
            outer_dscp: Some(46),
            copies_ecn: false,
            gue_port: 6635,
            icmp_errors_per_second: 7,
            has_pools: true,
        }
    }

    #[test]
    fn settings_say_all_of_a_spec() {
        assert_eq!(BalancerSpec::held(&some().settings()), some());
        let default = BalancerSpec::of(&Config::default());
        assert_eq!(default.settings(), Settings::default());
        assert_eq!(some().changes(&default).len(), 6);
    }

    #[test]
    fn without_services_nothing_is_asked_for_and_nothing_is_removed() {
        let desired = desired(&Config::default(), &Facts::default()).unwrap();
        assert!(desired.table.is_empty() && desired.kept.contains(KEY));
    }
}
