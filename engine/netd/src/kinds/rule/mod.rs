//! Policy rules: which packets look into which routing table.
//!
//! Key: the rule in the words of `ip rule`, which say all of it. Mark of ownership: the protocol number that everything of
//! netd's has. There are no updates: another rule is another resource, and none goes before all are made, nor as long as
//! what it is about is still led its way. A rule of somebody else that says the same under another protocol number is no
//! conflict, and stays.

mod target;

pub use target::RuleTarget;
pub(crate) use target::own_rules;

use crate::facts::Facts;
use crate::reach::Reach;
use crate::wireguard::Mesh;
use ipnetwork::IpNetwork;
use netd_core::{Described, DesiredKind, FieldChange, Key, KindName};
use netd_schema::{Config, Family, WireguardMode};
use serde::{Serialize, Serializer};
use std::sync::Arc;

/// The kind's name.
pub const NAME: KindName = "rule";

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleSpec {
    /// Whose packets.
    pub family: Family,
    /// Lower is asked first.
    pub priority: u32,
    /// Which of them.
    pub packets: Packets,
    /// Where they look.
    pub table: u32,
}

/// The packets that a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Packets {
    /// Those with a source of this prefix.
    From(IpNetwork),
    /// All but those with this firewall mark.
    NotMarked(u32),
    /// Those to this UDP port.
    UdpTo(u16),
}

impl RuleSpec {
    /// The key of the resource.
    #[must_use]
    pub fn key(&self) -> Key {
        let Self { family, priority, packets, table } = self;
        let family = family.name();
        let packets = match packets {
            Packets::From(prefix) => format!("from {prefix}"),
            Packets::NotMarked(mark) => format!("not fwmark {mark:#x}"),
            Packets::UdpTo(port) => format!("ipproto udp dport {port}"),
        };
        Key::new(format!("{priority} {family} {packets} lookup {table}"))
    }
}

impl Serialize for RuleSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map([("rule", self.key().as_str())])
    }
}

impl Described for RuleSpec {
    fn summary(&self) -> String {
        match self.packets {
            Packets::From(prefix) => format!("packets from {prefix} look into table {}", self.table),
            Packets::NotMarked(mark) => {
                format!("packets without mark {mark:#x} look into table {}", self.table)
            }
            Packets::UdpTo(port) => format!("packets to UDP port {port} look into table {}", self.table),
        }
    }

    fn changes(&self, observed: &Self) -> Vec<FieldChange> {
        let (from, to) = (observed.key().to_string(), self.key().to_string());
        FieldChange::between("rule", from, to).into_iter().collect()
    }
}

/// The rules that the file asks for: those that lead packets into WireGuard. They wait for nothing: where the device cannot
/// take packets yet, the table that they lead to refuses them.
///
/// # Errors
///
/// When the file lists nodes and this one is not among them.
pub fn desired(config: &Config, facts: &Facts) -> Result<DesiredKind, String> {
    let mut desired = DesiredKind::default();
    let Some(mesh) = Mesh::of(config, facts)? else { return Ok(desired) };
    if mesh.own_key().is_none() {
        return Ok(desired);
    }
    desired.stays = in_use(&mesh, config, facts);
    for family in [Family::Ipv4, Family::Ipv6] {
        let is_of_family = |prefix: &IpNetwork| prefix.is_ipv4() == (family == Family::Ipv4);
        if !mesh.others.iter().flat_map(|other| mesh.prefixes(other)).any(|prefix| is_of_family(&prefix)) {
            continue;
        }
        let table = mesh.settings.table;
        let own = mesh.me.pod_cidrs.iter().copied().filter(is_of_family);
        let packets: Vec<Packets> = match mesh.settings.mode {
            WireguardMode::Pods => own.map(Packets::From).collect(),
            WireguardMode::Nodes => vec![Packets::NotMarked(mesh.settings.mark)],
            WireguardMode::Overlay => {
                config.network.tunnel.iter().map(|tunnel| Packets::UdpTo(tunnel.port)).collect()
            }
        };
        for packets in packets {
            let spec = RuleSpec { family, priority: mesh.settings.rule_priority, packets, table };
            desired.table.insert(spec.key(), Arc::new(spec));
        }
    }
    Ok(desired)
}

/// Why no rule goes now: packets of pods are to go in a tunnel that is encrypted, and some still go as they did. In clear,
/// without the rules of before.
pub(super) fn in_use(mesh: &Mesh<'_>, config: &Config, facts: &Facts) -> Option<String> {
    if mesh.settings.mode != WireguardMode::Overlay || mesh.own_key().is_none() {
        return None;
    }
    let reach = Reach::new(config, facts).ok().flatten()?;
    let is_left = reach.is_led_as_before();
    is_left.then(|| "packets of pods are still led as before".to_owned())
}

/// Whether what goes to the tunnel's port is led into WireGuard, for ends of this family.
pub(super) fn leads_tunnel(mesh: &Mesh<'_>, config: &Config, facts: &Facts, family: Family) -> bool {
    let Some(tunnel) = config.network.tunnel else { return false };
    let (priority, table) = (mesh.settings.rule_priority, mesh.settings.table);
    let packets = Packets::UdpTo(tunnel.port);
    facts.rules.contains(&RuleSpec { family, priority, packets, table })
}
