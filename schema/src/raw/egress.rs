//! `[[egress]]` and `[egress_groups]`.

use super::number::Within;
use super::pool::PoolName;
use super::table::raw_table;
use super::word::{Address, Name, NodeName, Prefix, Refused, Word, word_schema};
use super::{List, Raw, Reader};
use crate::diagnostic::{Draft, quote};
use crate::document::Item;
use crate::model::{EgressAnnounce, OnNoGateway, PortRange};
use crate::span::{At, Span};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::json;
use std::borrow::Cow;
use std::net::IpAddr;

/// What is preferred among gateways.
pub(crate) type GatewayPriority = Within<0, 65_535>;

/// So many policies fit the maps of the kernel programs (as many as Cilium's).
pub(crate) const EGRESS_MAX: usize = 16_384;

/// So many prefixes a list may have: each is compared with those of the other list.
const PREFIXES_MAX: usize = 4096;

raw_table! {
    /// Traffic that leaves through a gateway, with an address of its own: what comes from `sources` and goes to
    /// `destinations` is sent to one of the `gateways`, which puts its egress address in place of the pod's. Where
    /// several policies match a packet, the one with the longest matching prefix of `destinations` has it; among
    /// several with the same, the one with the longest matching prefix of `sources`; then the first by name.
    pub(crate) struct Egress {
        /// Unique among the policies; shown in plans and by `netd egress`.
        required name: Name, like "legacy-db";
        /// Whose packets: prefixes of pods, and names of `egress_groups`. A pod that appears at an address of a prefix
        /// is covered from its first packet on. Packets of the node's own sockets are never taken.
        required sources: List<Source, 1>, like ["10.244.0.0/16"];
        /// Where to. Without it, everywhere: in each family of `ips`, with a `pool` in each family of `sources`.
        optional destinations: List<Prefix, 1, PREFIXES_MAX>, like ["192.168.33.13/32"];
        /// Where not, within `destinations`. Another policy may match there; otherwise the packets leave as if there
        /// were none.
        optional exclude: List<Prefix, 0, PREFIXES_MAX> = [""; 0], like ["192.168.33.128/25"];
        /// The egress addresses, at most one of a family. Nobody else may have them: the gateway in force adds them to
        /// its device towards the destinations, and answers for them there. Needed unless there is a `pool`; with one,
        /// they are addresses that the policy asks for.
        optional ips: List<Address, 1, 2>, like ["192.168.33.100", "2001:db8:33::100"];
        /// The name of one of the `[[ip_pools]]`, which gives an address of each family that both `sources` and
        /// `destinations` have and `ips` has not; `auto`, any pool whose `auto_assign` is not off. What a policy was given
        /// it keeps.
        optional pool: PoolName, like "egress";
        /// The nodes that may be the gateway. In force is the one with the highest priority; among several with the
        /// same, one that the names of policy and node decide, so that policies are spread over them.
        required gateways: List<Gateway>, like [json!({ "node": "lb-1" })];
        /// What becomes of the packets while there is no gateway, or no way to it: `drop`, nobody sees another address
        /// of theirs; `pass`, they leave as if there were no policy.
        optional on_no_gateway: OnNoGateway = "drop", like "pass";
        /// How the network learns where the egress addresses are, when the gateway in force has added them: `arp`, by
        /// gratuitous ARP and unsolicited neighbour advertisements; `bgp`, by routes to them, which every peer is told of.
        /// Without any, it has to know already.
        optional announce: List<EgressAnnounce> = ["arp"], like ["arp", "bgp"];
        /// The ports that are given away, and numbers of pings.
        optional port_range: PortRange = "32768-65535", like "1024-65535";
        /// Whether packets for addresses of nodes, and for pods, are taken, too, if they are for `destinations`.
        optional in_cluster: bool = false, like true;
    }
    at least one of [ips, pool]
}

raw_table! {
    /// A node that may be the gateway.
    pub(crate) struct Gateway {
        /// The name of one of the `[[nodes]]`.
        required node: NodeName, like "lb-1";
        /// Higher is preferred.
        optional priority: GatewayPriority = 0, like 10;
    }
}

word_schema!(Source);

/// Whose packets a policy is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    Prefix(Prefix),
    Group(Name),
}

impl Word for Source {
    const WHAT: &'static str = "a prefix, or the name of a group";

    fn parse(text: &str) -> Result<Self, Refused> {
        match text.contains(['/', ':']) || text.parse::<IpAddr>().is_ok() {
            true => Prefix::parse(text).map(Self::Prefix),
            false => Name::parse(text).map(Self::Group),
        }
    }

    fn schema() -> Schema {
        json_schema!({
            "type": "string",
            "title": "a prefix, with no bits beyond its length, or the name of one of the `egress_groups`",
            "pattern": "^([0-9A-Fa-f:.]+/[0-9]{1,3}|[a-z0-9._-]{1,63})$",
        })
    }
}

/// Prefixes by the names of their groups, in the order of the file.
#[derive(Debug)]
pub(crate) struct EgressGroups {
    pub(crate) groups: Vec<Group>,
    /// All could be read.
    pub(crate) complete: bool,
}

/// A group of prefixes that policies name.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) name: At<Name>,
    pub(crate) prefixes: Option<At<List<Prefix, 1>>>,
}

impl Raw for EgressGroups {
    fn read(item: &Item<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let table = reader.table(item)?;
        let mut groups = Vec::with_capacity(table.entries.len());
        for entry in &table.entries {
            let Some(name) = group_name(&entry.key, entry.key_span, reader) else { continue };
            let prefixes = List::read(&entry.item, reader).map(|value| At { value, span: entry.item.span });
            groups.push(Group { name, prefixes });
        }
        let is_whole = |group: &Group| group.prefixes.as_ref().is_some_and(|list| list.value.complete);
        let complete = groups.len() == table.entries.len() && groups.iter().all(is_whole);
        Some(Self { groups, complete })
    }
}

fn group_name(key: &str, span: Span, reader: &mut Reader<'_>) -> Option<At<Name>> {
    let refused = match Name::parse(key) {
        Ok(_) if key.parse::<IpAddr>().is_ok() => {
            Refused::because("an address, which would not name a group")
        }
        Ok(value) => return Some(At { value, span }),
        Err(refused) => refused,
    };
    reader.report(|| {
        let draft = Draft::error(format!("a group of `egress_groups` cannot be called {}", quote(key)))
            .label(span, refused.why);
        match refused.help {
            Some(help) => draft.help(help),
            None => draft,
        }
    });
    None
}

impl JsonSchema for EgressGroups {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "EgressGroups".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "propertyNames": <Name as Word>::schema(),
            "additionalProperties": generator.subschema_for::<List<Prefix, 1>>(),
        })
    }
}
