//! Packets of services: what is put before them, and the port that changes.

use super::hall::{
    BACKEND_PORT, BY_GUE, CROSSED, CROSSED_BY_GUE, ELSEWHERE, ENTRYLESS, MOVED, PASSING, PATHLESS, PLAIN,
    REJECTING, SILENT,
};
use super::layers::{ACK, FAMILIES, FIN, Family, Layers, PUSH, RST, SYN, ip, v4, v6};
use super::{Case, case};
use crate::reference::{Count, Settings};

const TCP: u8 = 6;
const UDP: u8 = 17;

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for family in FAMILIES {
        plain(family, &mut cases);
        ports(family, &mut cases);
        outer_bytes(family, &mut cases);
    }
    flow_hashes_outside(&mut cases);
    policies(&mut cases);
    cases
}

fn plain(family: Family, cases: &mut Vec<Case>) {
    for (flags, name) in [
        (SYN, "SYN"),
        (SYN | ACK, "SYN with ACK"),
        (ACK, "ACK"),
        (ACK | PUSH, "PSH"),
        (ACK | FIN, "FIN"),
        (RST, "RST"),
        (0, "packet without flags"),
        (0xff, "packet with all flags"),
    ] {
        cases.push(
            case(
                format!("a TCP {name} over {family} goes to the backend"),
                ip(family).tcp(12345, PLAIN).with(flags),
            )
            .sent_to(0),
        );
    }
    for (bytes, name) in [(0, "without data"), (1, "with one byte"), (1400, "with 1,400 bytes")] {
        for protocol in [TCP, UDP] {
            let packet = ip(family).transport(protocol, PLAIN).data(&vec![0xa5; bytes]);
            let transport = if protocol == TCP { "TCP" } else { "UDP" };
            cases.push(
                case(format!("{transport} over {family} {name} stays as it is inside"), packet).sent_to(0),
            );
        }
    }
    let to = |packet: Layers, what: &str| case(format!("{what} over {family}"), packet);
    cases.push(
        to(
            ip(family).tcp(12345, PLAIN).syn().behind(&[0x77; 9]),
            "what is behind the packet stays behind it",
        )
        .sent_to(0),
    );
    cases.push(
        to(ip(family).udp(12345, ELSEWHERE), "a backend behind another device gets it by redirect")
            .sent_to(0),
    );
    cases.push(
        to(ip(family).udp(12345, PATHLESS), "a backend without a path gets nothing")
            .dropped(Count::NoNextHop),
    );
    cases.push(to(ip(family).tcp(0, PLAIN), "a client's port may be zero").sent_to(0));
    cases.push(to(ip(family).tcp(65535, PLAIN), "a client's port may be the highest").sent_to(0));
    cases.push(to(ip(family).tcp(12345, PLAIN).hops(1), "a hop limit of one is one").sent_to(0));
    for vip in [REJECTING, PASSING, SILENT, ENTRYLESS] {
        let name = format!("the service of the VIP .{vip} is balanced whatever its policy");
        cases.push(to(ip(family).at_vip(vip).tcp(12345, PLAIN).syn(), &name).sent_to(0));
    }
}

/// The backend's port is written, and checksums are as right as they were.
fn ports(family: Family, cases: &mut Vec<Case>) {
    for protocol in [TCP, UDP] {
        let transport = if protocol == TCP { "TCP" } else { "UDP" };
        for data in [&b""[..], b"a", b"ab", b"hello world"] {
            let packet = ip(family).transport(protocol, MOVED).data(data);
            let name = format!("{} bytes of {transport} over {family} get the backend's port", data.len());
            cases.push(case(name, packet.clone()).sent_to(0).holding(packet.port(BACKEND_PORT).about(MOVED)));
        }
    }
    let udp = ip(family).udp(12345, MOVED).data(b"hello");
    let inside = |packet: Layers| packet.port(BACKEND_PORT).about(MOVED);
    cases.push(
        case(format!("UDP over {family} without a checksum stays without"), udp.clone().sum(0))
            .sent_to(0)
            .holding(inside(udp.clone().sum(0))),
    );
    // Chosen so that the sum over everything else is such that the checksum becomes zero.
    let (zero, becomes_zero) = (zero_after(family, UDP), zero_after(family, TCP));
    cases.push(
        case(format!("a UDP checksum over {family} that becomes zero is written as 0xffff"), zero.clone())
            .sent_to(0)
            .holding(inside(zero).sum(0xffff)),
    );
    cases.push(
        case(format!("a TCP checksum over {family} that becomes zero is zero"), becomes_zero.clone())
            .sent_to(0)
            .holding(inside(becomes_zero).sum(0)),
    );
    // Port 81 becomes 8080: the sum grows by 7,999, so the checksum falls by as much.
    for (sum, carried) in [(0x1234, 0xf2f4), (0x8000, 0x60c1), (0x1f40, 0x0001)] {
        for protocol in [TCP, UDP] {
            let packet = ip(family).transport(protocol, MOVED).sum(sum);
            let transport = if protocol == TCP { "TCP" } else { "UDP" };
            let name =
                format!("the wrong {transport} checksum {sum:#06x} over {family} stays as wrong as it was");
            cases.push(case(name, packet.clone()).sent_to(0).holding(inside(packet).sum(carried)));
        }
    }
    let all_ones = ip(family).udp(12345, MOVED).sum(0xffff);
    cases.push(
        case(
            format!("a UDP checksum of 0xffff over {family} is a sum and not an absent one"),
            all_ones.clone(),
        )
        .sent_to(0)
        .holding(inside(all_ones).sum(0xe0c0)),
    );
}

/// A packet whose right checksum with the backend's port is zero.
fn zero_after(family: Family, protocol: u8) -> Layers {
    let at = |filler: u16| ip(family).transport(protocol, MOVED).data(&filler.to_be_bytes());
    let sum_at = if protocol == TCP { 16 } else { 6 };
    let sum = |filler: u16| {
        let bytes = at(filler).port(BACKEND_PORT).transport_bytes();
        u16::from_be_bytes([bytes[sum_at], bytes[sum_at + 1]])
    };
    // A filler that is as large as the checksum is with none.
    let filler = sum(0);
    assert!(matches!(sum(filler), 0 | 0xffff));
    at(filler)
}

fn outer_bytes(family: Family, cases: &mut Vec<Case>) {
    for class in [0x00, 0x01, 0x02, 0x03, 0xb8, 0xff] {
        let packet = ip(family).class(class).udp(12345, PLAIN);
        cases.push(
            case(format!("the traffic class {class:#04x} of {family} is outside, too"), packet).sent_to(0),
        );
    }
    if family == Family::V4 {
        for (flags, name) in [(0x00, "no DF"), (0x40, "DF"), (0x80, "the reserved bit"), (0xc0, "it and DF")]
        {
            let packet = v4().id(0xabcd).flags(flags).tcp(12345, PLAIN);
            cases.push(
                case(format!("of {name} only DF is outside, the identification as it is"), packet).sent_to(0),
            );
        }
        for bytes in [4, 20, 40] {
            let packet = v4().options(bytes).tcp(12345, MOVED).data(b"x");
            let name = format!("{bytes} bytes of IPv4 options stay inside, the outer header has none");
            cases.push(case(name, packet.clone()).sent_to(0).holding(packet.port(BACKEND_PORT).about(MOVED)));
        }
    } else {
        let packet = v6().label(0xa_bcde).class(0x5a).tcp(12345, PLAIN);
        cases.push(case("the flow label of IPv6 is outside, too", packet).sent_to(0));
    }
}

/// The published hash of 10.1.2.3:12345 to port 80 is 0xe35536fb, that of \[2001:db8::1\]:12345 0xba5f2c2b; here the
/// ports are those of the hall, whose hashes are computed by a transcription of the published functions.
fn flow_hashes_outside(cases: &mut Vec<Case>) {
    let packet = |family: Family, port| ip(family).class(0xb9).id(0x1234).tcp(12345, port).data(b"hello");
    for (family, port) in [
        (Family::V4, BY_GUE),
        (Family::V6, BY_GUE),
        (Family::V4, CROSSED_BY_GUE),
        (Family::V6, CROSSED_BY_GUE),
    ] {
        let name = format!(
            "GUE puts UDP before {family} for the service on port {port}, its source port from the hash"
        );
        let sent = case(name, packet(family, port)).sent_to(0);
        cases.push(match (family, port) {
            (Family::V4, BY_GUE) => sent.outer(|outer| outer.gue = Some((gue_port(V4_BY_GUE), 6080))),
            (Family::V6, BY_GUE) => sent.outer(|outer| outer.gue = Some((gue_port(V6_BY_GUE), 6080))),
            (Family::V4, _) => sent.outer(|outer| {
                (outer.gue, outer.label) =
                    (Some((gue_port(V4_CROSSED_BY_GUE), 6080)), V4_CROSSED_BY_GUE & 0xf_ffff);
            }),
            (Family::V6, _) => sent.outer(|outer| outer.gue = Some((gue_port(V6_CROSSED_BY_GUE), 6080))),
        });
    }
    cases.push(
        case("IPv4 in IPv6: the flow label is the low bits of the hash", packet(Family::V4, CROSSED))
            .sent_to(0)
            .outer(|outer| outer.label = V4_CROSSED & 0xf_ffff),
    );
    cases.push(case("IPv6 in IPv4: identification 0 and DF", packet(Family::V6, CROSSED)).sent_to(0));
    cases.push(
        case("IPv6 in IPv4: DF is set whatever is inside", v6().label(7).udp(12345, CROSSED).data(&[1; 500]))
            .sent_to(0),
    );
}

/// Flow hashes of the usual client to ports 83, 84 and 85.
const V4_BY_GUE: u32 = 0x1d9_39bc;
const V6_BY_GUE: u32 = 0x4ccf_5a82;
const V4_CROSSED: u32 = 0xe752_c5bc;
const V4_CROSSED_BY_GUE: u32 = 0xf1b2_54fe;
const V6_CROSSED_BY_GUE: u32 = 0x9439_e4d4;

fn gue_port(hash: u32) -> u16 {
    0xc000 | (hash & 0x3fff) as u16
}

fn policies(cases: &mut Vec<Case>) {
    let usual = Settings::default();
    for family in FAMILIES {
        let packet = || ip(family).class(0xbb).udp(12345, PLAIN).data(b"hello");
        let under =
            |name: &str, settings| case(format!("{name} over {family}"), packet()).under(settings).sent_to(0);
        cases.push(
            under("the outer hop limit is the configured one", Settings { hop_limit: 9, ..usual })
                .outer(|outer| outer.hops = 9),
        );
        cases.push(
            under("a hop limit of 255", Settings { hop_limit: 255, ..usual }).outer(|outer| outer.hops = 255),
        );
        cases.push(
            under("an outer DSCP of its own leaves the ECN bits", Settings { outer_dscp: Some(10), ..usual })
                .outer(|outer| outer.class = 10 << 2 | 3),
        );
        cases.push(
            under("an outer DSCP of zero", Settings { outer_dscp: Some(0), ..usual })
                .outer(|outer| outer.class = 3),
        );
        cases.push(
            under("an outer DSCP of 63", Settings { outer_dscp: Some(63), ..usual })
                .outer(|outer| outer.class = 0xff),
        );
        cases.push(
            under("cleared ECN bits leave the DSCP", Settings { copies_ecn: false, ..usual })
                .outer(|outer| outer.class = 0xb8),
        );
        let both = Settings { outer_dscp: Some(1), copies_ecn: false, ..usual };
        cases.push(under("both policies together", both).outer(|outer| outer.class = 4));
    }
    let other_port = Settings { gue_port: 5555, ..usual };
    cases.push(
        case("GUE goes to the configured port", v4().udp(12345, BY_GUE)).under(other_port).sent_to(0).outer(
            |outer| {
                outer.gue = Some((gue_port(V4_BY_GUE_UDP), 5555));
            },
        ),
    );
}

/// Of UDP to port 83.
const V4_BY_GUE_UDP: u32 = 0x3777_8e66;
