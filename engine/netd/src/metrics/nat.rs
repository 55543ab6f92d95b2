//! The numbers of masquerading.

use super::encode::Out;
use netd_bpf::nat::abi::Counts;
use netd_bpf::nat::{Usage, Used};
use std::fmt;

/// Writes them; nothing on a node that does not masquerade.
pub(super) fn encode(counted: Option<&(Counts, Usage)>, out: &mut Out<'_>) -> fmt::Result {
    let Some((counts, usage)) = counted else { return Ok(()) };
    out.one("netd_nat_flows", "Flows that have an address of the node.", usage.flows.into())?;
    out.one("netd_nat_flows_max", "Flows that there is room for.", usage.capacity.into())?;
    let fullest = usage.fullest().map_or(0, |fullest| fullest.ports);
    let help = "Ports of one address that are in use for one remote, where most are.";
    out.one("netd_nat_ports_in_use_max", help, fullest.into())?;
    let addresses: Vec<(String, Used)> =
        usage.addresses.iter().map(|(address, used)| (address.to_string(), *used)).collect();
    let each = |value: fn(&Used) -> u32| {
        addresses.iter().map(move |(address, used)| ([("address", address.as_str())], value(used).into()))
    };
    let help = "Flows that leave with an address of the node.";
    out.gauge("netd_nat_address_flows", help, each(|used| used.flows))?;
    let help = "Ports of an address that are in use for one remote, where most are.";
    let most = |used: &Used| used.fullest.map_or(0, |fullest| fullest.ports);
    out.gauge("netd_nat_address_ports_in_use_max", help, each(most))?;
    let mut one = |name: &str, help: &str, value| out.counter(name, help, std::iter::once(([], value)));
    one("netd_nat_flows_made", "Flows that were given a port.", counts.created)?;
    one("netd_nat_flows_direct", "Flows to pods' own addresses.", counts.direct)?;
    let help = "Ports of closing connections that were given to another flow before their time.";
    one("netd_nat_ports_reused", help, counts.reused)?;
    one("netd_nat_ports_yielded", "Ports that the node took back for itself.", counts.yielded)?;
    let help = "Packets that went to the gateway of their egress policy.";
    one("netd_nat_steered_packets", help, counts.steered)?;
    out.counter(
        "netd_nat_packets",
        "Packets that were translated, by direction; errors are those of ICMP.",
        [
            ("out", counts.out_packets),
            ("in", counts.in_packets),
            ("errors-out", counts.errors_out),
            ("errors-in", counts.errors_in),
        ]
        .into_iter()
        .map(|(direction, count)| ([("direction", direction)], count)),
    )?;
    out.counter(
        "netd_nat_dropped_packets",
        "Packets of pods that were dropped on their way out, by reason.",
        dropped(counts).into_iter().map(|(reason, count)| ([("reason", reason)], count)),
    )
}

/// Packets that were dropped, by reason.
pub(crate) fn dropped(counts: &Counts) -> [(&'static str, u64); 9] {
    [
        ("exhausted", counts.exhausted),
        ("table-full", counts.table_full),
        ("no-mapping", counts.no_mapping),
        ("no-address", counts.no_address),
        ("malformed", counts.malformed),
        ("unsupported", counts.unsupported),
        ("fragment-lost", counts.fragment_lost),
        ("no-gateway", counts.no_gateway),
        ("looped", counts.looped),
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::encode::written;
    use super::*;
    use netd_bpf::nat::Fullest;

    #[test]
    fn flows_and_what_was_dropped_are_on_the_page() {
        let counts = Counts { created: 7, exhausted: 3, out_packets: 9, ..Counts::default() };
        let outer = "192.0.2.1".parse().unwrap();
        let remote = "198.51.100.9".parse().unwrap();
        let fullest = Some(Fullest { ports: 3, protocol: 6, remote, remote_port: 80, outer });
        let addresses = [(outer, Used { flows: 5, fullest })].into();
        let usage = Usage { flows: 5, over: 1, capacity: 4096, addresses };
        let page = written(move |out| encode(Some(&(counts, usage.clone())), out));
        for line in [
            "netd_nat_flows 5",
            "netd_nat_flows_max 4096",
            "netd_nat_ports_in_use_max 3",
            "netd_nat_address_flows{address=\"192.0.2.1\"} 5",
            "netd_nat_address_ports_in_use_max{address=\"192.0.2.1\"} 3",
            "netd_nat_flows_made_total 7",
            "netd_nat_packets_total{direction=\"out\"} 9",
            "netd_nat_dropped_packets_total{reason=\"exhausted\"} 3",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
        }
        assert_eq!(written(|out| encode(None, out)).trim(), "# EOF");
    }
}
