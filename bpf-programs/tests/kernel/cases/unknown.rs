//! What is for a VIP or a pool, but for none of its services.

use super::hall::{ENTRYLESS, PASSING, PLAIN, POOLED, REJECTING, SILENT, unassigned};
use super::layers::{FAMILIES, Family, Layers, ip, v6};
use super::{Case, case};
use crate::reference::Count::{Malformed, Passed, UnknownPort};
use crate::reference::Unknown;

const NOBODY: u16 = 999;

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for family in FAMILIES {
        policies(family, &mut cases);
        pools(family, &mut cases);
        strangers(family, &mut cases);
        lies(family, &mut cases);
    }
    chains(&mut cases);
    cases
}

/// Packets that no service is for, each with a name.
fn kinds(family: Family) -> Vec<(&'static str, Layers)> {
    let other = if family == Family::V4 { 17 } else { 60 };
    assert_ne!(other, 6);
    vec![
        ("a SYN to an unknown port", ip(family).tcp(12345, NOBODY).syn()),
        ("an ACK to an unknown port", ip(family).tcp(12345, NOBODY)),
        ("UDP to an unknown port", ip(family).udp(12345, NOBODY)),
        ("TCP to port zero", ip(family).tcp(12345, 0)),
        ("an unknown protocol", ip(family).raw(47, &[0; 30])),
        ("ICMP of no known type", ip(family).icmp(99, 0, 0, &[0; 30])),
    ]
}

fn policies(family: Family, cases: &mut Vec<Case>) {
    for (name, packet) in kinds(family) {
        let over =
            |what: &str, vip: &str| case(format!("{name} over {family} {what}"), packet.clone().at_vip(vip));
        cases.push(over("is dropped by a VIP that drops", SILENT).dropped(UnknownPort));
        cases.push(over("passes a VIP that passes", PASSING).passes().counts(Passed));
    }
    let icmp = ip(family).at_vip(REJECTING).icmp(99, 0, 0, &[0; 30]);
    cases.push(
        case(format!("ICMP over {family} is not rejected by a VIP that rejects"), icmp).dropped(UnknownPort),
    );
}

fn pools(family: Family, cases: &mut Vec<Case>) {
    for (policy, name) in [(Unknown::Drop, "drops"), (Unknown::Pass, "passes"), (Unknown::Reject, "rejects")]
    {
        let to = |packet: Layers| packet.to(unassigned(family, policy));
        let over =
            |what: &str, packet| case(format!("{what} to a pool that {name} over {family}"), to(packet));
        let end = |case: Case| match policy {
            Unknown::Pass => case.passes().counts(Passed),
            Unknown::Drop | Unknown::Reject => case.dropped(UnknownPort),
        };
        cases.push(end(over("a ping", ip(family).ping(1, b"x"))));
        cases.push(end(over("a fragment of GRE", ip(family).raw(47, &[0; 32]).fragment(1, true, 0x9300))));
        if policy != Unknown::Reject {
            cases.push(end(over("a SYN", ip(family).tcp(12345, PLAIN).syn())));
            cases.push(end(over("UDP", ip(family).udp(12345, PLAIN))));
        }
    }
    let pooled = ip(family).to(POOLED[usize::from(family == Family::V6)]).udp(12345, NOBODY);
    cases.push(
        case(format!("a VIP's own policy counts before its pool's over {family}"), pooled)
            .dropped(UnknownPort),
    );
}

fn strangers(family: Family, cases: &mut Vec<Case>) {
    let elsewhere = if family == Family::V4 { "198.51.101.1" } else { "2001:db8:201::1" };
    for (name, packet) in kinds(family) {
        cases.push(
            case(format!("{name} over {family} to another address passes"), packet.to(elsewhere)).passes(),
        );
    }
    let entryless = |packet: Layers| packet.at_vip(ENTRYLESS);
    for (name, packet) in [
        ("a ping", ip(family).ping(1, b"x")),
        ("a fragment", ip(family).udp(12345, PLAIN).data(&[1; 64]).first(32, 0x9301)),
        ("UDP to an unknown port", ip(family).udp(12345, NOBODY)),
    ] {
        cases.push(
            case(format!("{name} over {family} passes a VIP without an entry"), entryless(packet)).passes(),
        );
    }
    let martian = if family == Family::V4 { "127.0.0.1" } else { "::1" };
    let odd = ip(family).to(elsewhere).from(martian).udp(1, 2).hops(0);
    cases.push(case(format!("what is not for a VIP over {family} passes, however odd"), odd).passes());
}

fn lies(family: Family, cases: &mut Vec<Case>) {
    let header = if family == Family::V4 { 20 } else { 0 };
    for (name, packet) in [
        ("UDP that is longer than its frame", ip(family).udp(12345, NOBODY).length(header + 9)),
        ("TCP that is too short", ip(family).tcp(12345, NOBODY).length(header + 19)),
        ("UDP on no hop", ip(family).udp(12345, NOBODY).hops(0)),
        ("GRE that is longer than its frame", ip(family).raw(47, &[0; 4]).length(header + 5)),
        ("a TCP header that is cut off before its ports", ip(family).raw(6, &[0, 80, 0])),
    ] {
        let dropped = packet.clone().at_vip(SILENT);
        cases.push(case(format!("{name} over {family} is dropped"), dropped).dropped(Malformed));
        let rejecting = packet.clone().at_vip(REJECTING);
        cases.push(case(format!("{name} over {family} is not rejected"), rejecting).dropped(Malformed));
        let passing = packet.at_vip(PASSING);
        cases.push(
            case(format!("{name} over {family} passes a VIP that passes"), passing).passes().counts(Passed),
        );
    }
    if family == Family::V4 {
        for bytes in [0, 19] {
            let short = ip(family).raw(47, &[0; 4]).at_vip(SILENT).length(bytes);
            cases
                .push(case(format!("GRE in a packet of {bytes} bytes is dropped"), short).dropped(Malformed));
        }
    }
}

/// Extension headers, and what follows them.
fn chains(cases: &mut Vec<Case>) {
    let chain =
        |name: &str, packet: Layers| case(format!("a service behind {name} is found"), packet).sent_to(0);
    let udp = |packet: Layers| packet.udp(12345, PLAIN).data(b"hello");
    cases.push(chain("a hop-by-hop header", udp(v6().hop_by_hop())));
    cases.push(chain("destination options", udp(v6().destination_options())));
    cases.push(chain("a routing header with nothing left", udp(v6().routing(0))));
    cases.push(chain("an authentication header", udp(v6().authentication())));
    cases.push(chain("an atomic fragment's header", udp(v6().fragment_header(0, false, 7))));
    cases
        .push(chain("all of them", udp(v6().hop_by_hop().routing(0).authentication().destination_options())));
    cases.push(chain("eight headers", udp((0..8).fold(v6(), |packet, _| packet.destination_options()))));
    let mut long = vec![0; 1023];
    long[0] = 127;
    cases.push(chain("2,048 bytes of headers", udp(v6().header(60, &long).header(60, &long))));
    for (name, packet) in [
        ("nine headers", udp((0..9).fold(v6(), |packet, _| packet.destination_options()))),
        ("a routing header with a segment left", udp(v6().routing(1))),
        ("more than 2,048 bytes of headers", udp(v6().header(60, &long).header(60, &long).hop_by_hop())),
        ("encryption", v6().raw(50, &[0; 40])),
    ] {
        cases.push(case(format!("a service behind {name} is not found"), packet).dropped(UnknownPort));
    }
    let beyond = |number, bytes: &[u8]| v6().header(number, bytes).raw(17, &[]);
    for (name, packet) in [
        ("a header of less than eight bytes", beyond(60, &[0, 0, 0])),
        ("a header that ends behind the packet", beyond(60, &[1, 0, 0, 0, 0, 0, 0])),
        ("an authentication header that ends behind the packet", beyond(51, &[1, 0, 0, 0, 0, 0, 0])),
        ("headers that are longer than the packet says", udp(v6().hop_by_hop()).length(4)),
    ] {
        cases.push(case(format!("{name} is malformed"), packet).dropped(Malformed));
    }
    let cut = udp(v6().hop_by_hop()).length(8 + 7);
    cases.push(
        case("UDP behind a header that is shorter than its own header is malformed", cut).dropped(Malformed),
    );
}
