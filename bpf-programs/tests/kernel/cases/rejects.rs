//! What is said to clients whose packets nobody takes.

use super::hall::{REFUSING, REJECTING, unassigned};
use super::layers::{ACK, FAMILIES, FIN, Family, Layers, PUSH, RST, SYN, ip, v4, v6};
use super::{Case, case};
use crate::reference::Count::{self, NoBackend, RateLimited, Rejected, UnknownPort};
use crate::reference::{Settings, Unknown};

const NOBODY: u16 = 999;

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for family in FAMILIES {
        resets(family, &mut cases);
        errors(family, &mut cases);
        silences(family, &mut cases);
        of_services(family, &mut cases);
        of_pools(family, &mut cases);
    }
    other_protocols(&mut cases);
    chains(&mut cases);
    cases
}

fn to_nobody(family: Family) -> Layers {
    ip(family).at_vip(REJECTING).tcp(12345, NOBODY)
}

fn reset(packet: &Layers) -> Layers {
    packet.turned().tcp(packet.frontend_port().unwrap(), 12345).window(0)
}

/// The sequence number, the acknowledged one and the flags that a RST has to have.
fn resets(family: Family, cases: &mut Vec<Case>) {
    let data = &[0x5a; 10][..];
    let high = u32::MAX - 3;
    for (name, flags, numbers, data, expected) in [
        ("a SYN", SYN, (100, 0), &b""[..], (0, 101, RST | ACK)),
        ("a SYN with data", SYN, (100, 0), data, (0, 111, RST | ACK)),
        ("a SYN with FIN", SYN | FIN, (100, 0), b"", (0, 102, RST | ACK)),
        ("a SYN with a stray acknowledged number", SYN, (100, 77), b"", (0, 101, RST | ACK)),
        ("a FIN without ACK", FIN, (100, 0), data, (0, 111, RST | ACK)),
        ("data without ACK", PUSH, (100, 0), data, (0, 110, RST | ACK)),
        ("nothing", 0, (100, 0), b"", (0, 100, RST | ACK)),
        ("a SYN near the end of the numbers", SYN, (high, 0), data, (0, 7, RST | ACK)),
        ("an ACK", ACK, (100, 200), b"", (200, 0, RST)),
        ("an ACK with data", ACK | PUSH, (100, 200), data, (200, 0, RST)),
        ("a FIN with ACK", FIN | ACK, (100, 200), b"", (200, 0, RST)),
        ("a SYN with ACK", SYN | ACK, (100, 200), b"", (200, 0, RST)),
    ] {
        let packet = to_nobody(family).with(flags).numbers(numbers.0, numbers.1).data(data);
        let answer = reset(&packet).with(expected.2).numbers(expected.0, expected.1);
        cases.push(
            case(format!("{name} over {family} is answered with the RST that belongs to it"), packet)
                .answered(answer)
                .counts(UnknownPort)
                .counts(Rejected),
        );
    }
    let odd = to_nobody(family).syn().class(0xff).id(0x9999).numbers(100, 0);
    cases.push(
        case(format!("a RST over {family} has nothing of the packet's header"), odd.clone())
            .answered(reset(&odd).with(RST | ACK).numbers(0, 1001 - 900))
            .counts(UnknownPort)
            .counts(Rejected),
    );
    let with_options = to_nobody(family).syn().words(6).numbers(100, 0).data(&[2, 4, 5, 0xb4, 1, 2]);
    cases.push(
        case(format!("TCP options over {family} are no data"), with_options.clone())
            .answered(reset(&with_options).with(RST | ACK).numbers(0, 103))
            .counts(UnknownPort)
            .counts(Rejected),
    );
    let padded = to_nobody(family).syn().numbers(100, 0).behind(&[0; 6]);
    cases.push(
        case(format!("padding over {family} is no data, and is not answered"), padded.clone())
            .answered(reset(&padded).with(RST | ACK).numbers(0, 101))
            .counts(UnknownPort)
            .counts(Rejected),
    );
}

fn errors(family: Family, cases: &mut Vec<Case>) {
    for bytes in [0, 1, 2, 3, 4, 56, 57, 1000] {
        let packet = ip(family).at_vip(REJECTING).class(0x2e).id(0x4321).label(0x54321).udp(12345, NOBODY);
        let packet = packet.data(&vec![0x66; bytes]);
        let back = packet.turned().class(0x2e).id(0x4321).label(0x54321);
        let answer = if family == Family::V4 {
            back.icmp(3, 3, 0, &packet.ip()[..28])
        } else {
            let whole = packet.ip();
            back.icmp(1, 4, 0, &whole[..(whole.len() & !3).min(104)])
        };
        cases.push(
            case(
                format!("UDP with {bytes} bytes over {family} is told that the port is unreachable"),
                packet,
            )
            .answered(answer)
            .counts(UnknownPort)
            .counts(Rejected),
        );
    }
}

fn silences(family: Family, cases: &mut Vec<Case>) {
    let over = |name: &str, packet| case(format!("{name} over {family}"), packet);
    cases.push(over("a RST is never answered", to_nobody(family).with(RST)).dropped(UnknownPort));
    cases.push(
        over("a RST with ACK is never answered", to_nobody(family).with(RST | ACK)).dropped(UnknownPort),
    );
    cases.push(
        over("a SYN with RST is never answered", to_nobody(family).with(SYN | RST)).dropped(UnknownPort),
    );
    cases.push(
        over("a TCP header of four words is not answered", to_nobody(family).words(4)).dropped(UnknownPort),
    );
    cases.push(
        over("a TCP header that is longer than its packet is not answered", to_nobody(family).words(6))
            .dropped(UnknownPort),
    );
    for (mac, name) in [([0xff; 6], "everybody"), ([1, 0, 0x5e, 0, 0, 1], "a group")] {
        let syn = to_nobody(family).syn().at_mac(mac);
        cases.push(over(&format!("a SYN that came to {name} is not answered"), syn).dropped(UnknownPort));
        let udp = ip(family).at_vip(REJECTING).udp(12345, NOBODY).at_mac(mac);
        cases.push(over(&format!("UDP that came to {name} is not answered"), udp).dropped(UnknownPort));
    }
    let fragment = |first: bool| {
        let whole = ip(family).at_vip(REJECTING).udp(12345, NOBODY).data(&[1; 64]);
        if first { whole.first(32, 0x9201) } else { whole.later(32, 0x9201) }
    };
    cases.push(over("a first fragment is not rejected", fragment(true)).dropped(UnknownPort));
    cases.push(over("a later fragment is not rejected", fragment(false)).dropped(Count::FragmentLost));
    let none = Settings { icmp_errors_per_second: 0, ..Settings::default() };
    cases.push(
        over("with no errors allowed a SYN is not answered", to_nobody(family).syn())
            .under(none)
            .dropped(UnknownPort)
            .counts(RateLimited),
    );
    cases.push(
        over("with no errors allowed UDP is not answered", ip(family).udp(12345, REFUSING))
            .under(none)
            .dropped(NoBackend)
            .counts(RateLimited),
    );
    cases.push(
        over("with no errors allowed a RST is not even refused an answer", to_nobody(family).with(RST))
            .under(none)
            .dropped(UnknownPort),
    );
}

/// A service without backends.
fn of_services(family: Family, cases: &mut Vec<Case>) {
    let over = |name: &str, packet| case(format!("{name} over {family}"), packet);
    let syn = ip(family).tcp(12345, REFUSING).syn().numbers(5, 0);
    cases.push(
        over("a service without backends resets a SYN", syn.clone())
            .answered(reset(&syn).with(RST | ACK).numbers(0, 6))
            .counts(NoBackend)
            .counts(Rejected),
    );
    let udp = ip(family).udp(12345, REFUSING).data(b"hello");
    let answer = if family == Family::V4 {
        udp.turned().icmp(3, 3, 0, &udp.ip()[..28])
    } else {
        udp.turned().icmp(1, 4, 0, &udp.ip()[..52])
    };
    cases.push(
        over("a service without backends says so to UDP", udp)
            .answered(answer)
            .counts(NoBackend)
            .counts(Rejected),
    );
    cases.push(
        over("a service without backends answers no RST", ip(family).tcp(12345, REFUSING).with(RST))
            .dropped(NoBackend),
    );
    let first = ip(family).udp(12345, REFUSING).data(&[1; 64]).first(32, 0x9202);
    cases.push(over("a service without backends rejects no fragment", first).dropped(NoBackend));
}

fn of_pools(family: Family, cases: &mut Vec<Case>) {
    let syn = ip(family).to(unassigned(family, Unknown::Reject)).tcp(12345, 80).syn().numbers(5, 0);
    cases.push(
        case(format!("an unassigned address of a pool resets over {family}"), syn.clone())
            .answered(reset(&syn).with(RST | ACK).numbers(0, 6))
            .counts(UnknownPort)
            .counts(Rejected),
    );
}

fn other_protocols(cases: &mut Vec<Case>) {
    for protocol in [2, 4, 47, 50, 58, 132, 255] {
        let packet = v4().at_vip(REJECTING).id(0x77).raw(protocol, &[9; 12]);
        cases.push(
            case(format!("protocol {protocol} over IPv4 is told that it is unreachable"), packet.clone())
                .answered(packet.turned().id(0x77).icmp(3, 2, 0, &packet.ip()[..28]))
                .counts(UnknownPort)
                .counts(Rejected),
        );
    }
    for bytes in [0, 1, 7] {
        let packet = v4().at_vip(REJECTING).raw(47, &vec![9; bytes]);
        cases.push(
            case(format!("{bytes} bytes of a protocol are too few to be quoted"), packet)
                .dropped(UnknownPort),
        );
    }
    let eight = v4().at_vip(REJECTING).options(8).raw(47, &[9; 8]);
    cases.push(
        case("8 bytes of a protocol behind options are quoted with them", eight.clone())
            .answered(eight.turned().icmp(3, 2, 0, &eight.ip()[..36]))
            .counts(UnknownPort)
            .counts(Rejected),
    );
    for protocol in [1, 4, 41, 47, 50, 59, 132, 255] {
        let packet = v6().at_vip(REJECTING).raw(protocol, &[9; 13]);
        cases.push(
            case(format!("next header {protocol} is told to be unknown"), packet.clone())
                .answered(packet.turned().icmp(4, 1, 6, &packet.ip()[..52]))
                .counts(UnknownPort)
                .counts(Rejected),
        );
    }
    cases.push(
        case(
            "next header 47 with nothing behind it is told to be unknown",
            v6().at_vip(REJECTING).raw(47, &[]),
        )
        .answered(v6().at_vip(REJECTING).turned().icmp(4, 1, 6, &v6().at_vip(REJECTING).raw(47, &[]).ip()))
        .counts(UnknownPort)
        .counts(Rejected),
    );
}

/// Where the header that is not known was named.
fn chains(cases: &mut Vec<Case>) {
    let base = || v6().at_vip(REJECTING);
    for (name, packet, pointer) in [
        ("behind a hop-by-hop header", base().hop_by_hop().raw(47, &[9; 8]), 40),
        ("behind two headers", base().hop_by_hop().destination_options().raw(47, &[9; 8]), 48),
        ("behind an authentication header", base().authentication().raw(47, &[9; 8]), 40),
        ("behind an atomic fragment's header", base().fragment_header(0, false, 7).raw(47, &[9; 8]), 40),
        ("that is a routing header with segments left", base().routing(1).tcp(1, 80), 6),
        ("that is a second routing header with segments left", base().hop_by_hop().routing(1).tcp(1, 80), 40),
    ] {
        let answer = packet.turned().icmp(4, 1, pointer, &packet.ip()[..packet.ip().len().min(104)]);
        cases.push(
            case(format!("a header {name} is told to be unknown"), packet)
                .answered(answer)
                .counts(UnknownPort)
                .counts(Rejected),
        );
    }
    let nine = (0..9).fold(base(), |packet, _| packet.destination_options()).udp(12345, 80);
    cases.push(
        case("a ninth extension header is told to be unknown", nine.clone())
            .answered(nine.turned().icmp(4, 1, 40 + 56, &nine.ip()[..104]))
            .counts(UnknownPort)
            .counts(Rejected),
    );
    let mut long = vec![0; 1031];
    long[0] = 128;
    let too_long = base().header(60, &long).header(60, &long).udp(12345, 80);
    cases.push(
        case("a chain of more than 2,048 bytes ends in an unknown header", too_long.clone())
            .answered(too_long.turned().icmp(4, 1, 40, &too_long.ip()[..104]))
            .counts(UnknownPort)
            .counts(Rejected),
    );
    for (name, packet) in [
        ("a hop-by-hop header", base().hop_by_hop()),
        ("eight extension headers", (0..8).fold(base(), |packet, _| packet.destination_options())),
    ] {
        let packet = packet.tcp(12345, NOBODY).syn().numbers(5, 0);
        cases.push(
            case(format!("a SYN behind {name} is reset without it"), packet.clone())
                .answered(reset(&packet).with(RST | ACK).numbers(0, 6))
                .counts(UnknownPort)
                .counts(Rejected),
        );
    }
}
