//! Sources that no client can have.

use super::hall::{MOVED, PASSING, PLAIN, REJECTING};
use super::layers::{ACK, FAMILIES, Family, SYN, VIP, VIP6, ip, v6};
use super::{Case, case};
use crate::reference::Count::{self, Martian};

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let v4_odd = [
        "0.0.0.0",
        "0.1.2.3",
        "127.0.0.1",
        "127.255.255.255",
        "224.0.0.1",
        "239.1.2.3",
        "240.0.0.1",
        "255.255.255.255",
    ];
    let v6_odd = ["::", "::1", "ff02::1", "ffff::1", "::ffff:10.1.2.3"];
    let v4_good = ["1.0.0.1", "126.1.2.3", "128.0.0.1", "223.255.255.255", "169.254.1.1"];
    let v6_good = ["::2", "fe80::1", "fdff::1", "::fffe:10.1.2.3", "64:ff9b::1"];
    for (sources, odd) in [(&v4_odd[..], true), (&v6_odd, true), (&v4_good, false), (&v6_good, false)] {
        for source in sources {
            let packet = if source.contains(':') { ip(Family::V6) } else { ip(Family::V4) }.from(source);
            let service = packet.clone().udp(12345, PLAIN);
            cases.push(if odd {
                case(format!("{source} is no client of a service"), service).dropped(Martian)
            } else {
                case(format!("{source} is a client"), service).sent_to(0)
            });
            if odd {
                let unknown = packet.clone().at_vip(REJECTING).tcp(12345, 99).syn();
                cases.push(case(format!("{source} gets no answer"), unknown).dropped(Martian));
                let ping = packet.ping(1, b"x");
                cases.push(case(format!("{source} gets no answer to a ping"), ping).dropped(Martian));
            }
        }
    }
    for family in FAMILIES {
        themselves(family, &mut cases);
    }
    cases.push(
        case("a martian behind an extension header is one", v6().from("::1").hop_by_hop().udp(12345, PLAIN))
            .dropped(Martian),
    );
    cases
}

/// Services that would talk to each other.
fn themselves(family: Family, cases: &mut Vec<Case>) {
    let over = |name: &str, packet| case(format!("{name} over {family}"), packet);
    let vip = if family == Family::V4 { VIP } else { VIP6 };
    let (other, one) = if family == Family::V4 {
        ("192.0.2.11", "192.0.2.20")
    } else {
        ("2001:db8:100::11", "2001:db8:100::20")
    };
    cases.push(
        over("a packet from the VIP to itself is a martian", ip(family).from(vip).tcp(12345, PLAIN))
            .dropped(Martian),
    );
    cases.push(
        over("a ping from the VIP to itself is a martian", ip(family).from(vip).ping(1, b"x"))
            .dropped(Martian),
    );
    let from = |source: &str| ip(family).from(source);
    cases.push(
        over("a SYN from a service to a service is a martian", from(other).tcp(PLAIN, PLAIN).syn())
            .dropped(Martian),
    );
    cases.push(
        over("UDP from a service to a service is a martian", from(other).udp(PLAIN, MOVED)).dropped(Martian),
    );
    cases.push(
        over(
            "a SYN with ACK from a service to a service is none",
            from(other).tcp(PLAIN, PLAIN).with(SYN | ACK),
        )
        .sent_to(0),
    );
    cases.push(over("an ACK from a service to a service is none", from(other).tcp(PLAIN, PLAIN)).sent_to(0));
    cases.push(over("a SYN from a VIP's other port is none", from(other).tcp(12345, PLAIN).syn()).sent_to(0));
    cases.push(over("UDP from a VIP's other port is none", from(other).udp(12345, PLAIN)).sent_to(0));
    cases.push(
        over("a SYN from a service to an unknown port is a martian", from(one).tcp(PLAIN, 999).syn())
            .dropped(Martian),
    );
    cases.push(
        over(
            "UDP from a service to an unknown port of a VIP that passes is a martian",
            from(one).at_vip(PASSING).udp(PLAIN, 999),
        )
        .dropped(Martian),
    );
    cases.push(
        over("an ACK from a service to an unknown port is just unknown", from(one).tcp(PLAIN, 999))
            .dropped(Count::UnknownPort),
    );
    let fragment = from(other).udp(PLAIN, PLAIN).data(&[1; 64]).first(32, 0x9100);
    cases.push(over("a first fragment from a service to a service is a martian", fragment).dropped(Martian));
}
