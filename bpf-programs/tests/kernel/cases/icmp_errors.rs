//! ICMP errors from the network about flows.

use super::hall::{
    BACKEND_PORT, BY_GUE, CHANCE, CLOSED, CROSSED, DRAINING, ELSEWHERE, EMPTY, LEAVING, LISTED, MOVED,
    NARROW, NEW, OLD, OPEN, PASSING, PATHLESS, PLAIN, REFUSING, REJECTING, SPREAD, STICKY,
};
use super::layers::{FAMILIES, Family, Layers, ip, v4, v6};
use super::{Case, case};
use crate::reference::Count::{
    IcmpRelayed, Malformed, Martian, NoBackend, NoNextHop, Passed, RateLimited, TooBig, UnknownPort,
};
use crate::reference::Settings;

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for family in FAMILIES {
        types(family, &mut cases);
        ways(family, &mut cases);
        quotes(family, &mut cases);
        spoofed(family, &mut cases);
        ends(family, &mut cases);
    }
    families_own(&mut cases);
    cases
}

fn router(family: Family) -> Layers {
    ip(family).from(if family == Family::V4 { "203.0.113.1" } else { "2001:db8:ffff::1" })
}

/// What the backend of a frontend has sent to the client.
fn reply(family: Family, protocol: u8, port: u16) -> Layers {
    let mut reply = ip(family).transport(protocol, port).data(&[0x42; 40]);
    std::mem::swap(&mut reply.source, &mut reply.destination);
    match &mut reply.transport {
        super::layers::Transport::Tcp { ports, .. } | super::layers::Transport::Udp { ports, .. } => {
            *ports = (port, 12345);
        }
        _ => {}
    }
    reply
}

/// "Too big" about a packet.
fn about(family: Family, quoted: &[u8], port: u16) -> Layers {
    let (kind, code) = if family == Family::V4 { (3, 4) } else { (2, 0) };
    router(family).icmp(kind, code, 1400, quoted).about(port)
}

fn of_port(family: Family, port: u16) -> Layers {
    about(family, &reply(family, 17, port).ip(), port)
}

fn types(family: Family, cases: &mut Vec<Case>) {
    let kinds: &[(u8, u8)] = if family == Family::V4 {
        &[(3, 0), (3, 1), (3, 3), (3, 4), (3, 13), (3, 200), (11, 0), (11, 1), (12, 0)]
    } else {
        &[(1, 0), (1, 4), (2, 0), (3, 0), (3, 1), (4, 0), (4, 2)]
    };
    for (kind, code) in kinds {
        for (protocol, transport) in [(6, "TCP"), (17, "UDP")] {
            let packet =
                router(family).icmp(*kind, *code, 1400, &reply(family, protocol, PLAIN).ip()).about(PLAIN);
            let name =
                format!("an error {kind}/{code} about {transport} over {family} goes to the flow's backend");
            cases.push(case(name, packet).sent_to(0).counts(IcmpRelayed));
        }
    }
    let others: &[u8] = if family == Family::V4 { &[4, 5, 9] } else { &[5, 100, 127] };
    for kind in others {
        let packet = router(family).icmp(*kind, 0, 0, &reply(family, 17, PLAIN).ip());
        cases.push(
            case(format!("ICMP of type {kind} over {family} is no error about a flow"), packet)
                .dropped(UnknownPort),
        );
    }
}

fn ways(family: Family, cases: &mut Vec<Case>) {
    let over = |name: &str, packet| case(format!("{name} over {family}"), packet);
    let moved = reply(family, 6, MOVED);
    let mut inside = moved.clone();
    if let super::layers::Transport::Tcp { ports, sum, .. } = &mut inside.transport {
        ports.0 = BACKEND_PORT;
        // Only the message's own checksum follows the port.
        *sum = super::layers::Sum::Is(u16::from_be_bytes([
            moved.transport_bytes()[16],
            moved.transport_bytes()[17],
        ]));
    }
    let packet = about(family, &moved.ip(), MOVED);
    cases.push(
        over("the quoted port becomes the backend's", packet)
            .sent_to(0)
            .holding(about(family, &inside.ip(), MOVED))
            .counts(IcmpRelayed),
    );
    let behind = of_port(family, PLAIN).tag([0x81, 0, 0, 7]).class(0x21).id(0x3333).behind(&[1, 2, 3]);
    cases.push(over("a tagged error with something behind it", behind).sent_to(0).counts(IcmpRelayed));
    cases
        .push(over("an error is redirected, too", of_port(family, ELSEWHERE)).sent_to(0).counts(IcmpRelayed));
    cases.push(
        over("source ranges are not for routers", of_port(family, LISTED)).sent_to(0).counts(IcmpRelayed),
    );
    let wrong = of_port(family, MOVED).sum(0x1234);
    let mut udp = reply(family, 17, MOVED);
    let sum = u16::from_be_bytes([udp.transport_bytes()[6], udp.transport_bytes()[7]]);
    if let super::layers::Transport::Udp { ports, .. } = &mut udp.transport {
        ports.0 = BACKEND_PORT;
    }
    cases.push(
        over("a wrong checksum of an error stays as wrong", wrong)
            .sent_to(0)
            .holding(about(family, &udp.sum(sum).ip(), MOVED).sum(0xf2f4))
            .counts(IcmpRelayed),
    );
    cases.push(
        over(
            "in the window an error stays with the previous backend, without a record",
            of_port(family, OPEN),
        )
        .sent_to(OLD)
        .counts(IcmpRelayed),
    );
    cases.push(
        over("in the window an error stays with a draining backend", of_port(family, DRAINING))
            .sent_to(OLD)
            .counts(IcmpRelayed),
    );
    cases.push(
        over("an error follows the flow's record", recorded(family, CLOSED, 17))
            .recorded(12345, OLD, 5)
            .sent_to(OLD)
            .counts(IcmpRelayed),
    );
    cases.push(
        over("after the window an error goes where the ring says", of_port(family, CLOSED))
            .sent_to(NEW)
            .counts(IcmpRelayed),
    );
    cases.push(
        over("an error follows the client's record", recorded(family, STICKY, 17))
            .recorded(0, OLD, 5)
            .sent_to(OLD)
            .counts(IcmpRelayed),
    );
    cases.push(
        over("an error makes no client's record", of_port(family, STICKY)).sent_to(NEW).counts(IcmpRelayed),
    );
    cases.push(
        over("an error stays with the client's draining backend", recorded(family, STICKY, 17))
            .recorded(0, LEAVING, 5)
            .sent_to(LEAVING)
            .counts(IcmpRelayed),
    );
    cases.push(
        over("an error about a flow by chance follows the record", recorded(family, CHANCE, 17))
            .recorded(12345, LEAVING, 5)
            .sent_to(LEAVING)
            .counts(IcmpRelayed),
    );
}

/// An error whose flow has a record: the case sets it for this protocol.
fn recorded(family: Family, port: u16, protocol: u8) -> Layers {
    Layers {
        flow: Some((ip(family).source, protocol)),
        ..about(family, &reply(family, protocol, port).ip(), port)
    }
}

fn quotes(family: Family, cases: &mut Vec<Case>) {
    let header = if family == Family::V4 { 20 } else { 40 };
    let whole = reply(family, 17, PLAIN).ip();
    for bytes in [4, 5, 8, 20] {
        let name = format!("a quote of the header and {bytes} bytes over {family} is enough");
        cases.push(case(name, about(family, &whole[..header + bytes], PLAIN)).sent_to(0).counts(IcmpRelayed));
    }
    for bytes in [0, 1, header - 1, header, header + 3] {
        let name = format!("a quote of {bytes} bytes over {family} says nothing");
        cases.push(case(name, about(family, &whole[..bytes], PLAIN)).dropped(UnknownPort));
    }
    let outer = if family == Family::V4 { 20 } else { 0 };
    let said = about(family, &whole, PLAIN).length(outer + 8 + header + 3);
    cases.push(
        case(format!("what is behind an error over {family} is not quoted"), said).dropped(UnknownPort),
    );
    let lies = about(family, &whole, PLAIN).length(outer + 8 + whole.len() + 1);
    cases
        .push(case(format!("an error over {family} that is longer than its frame"), lies).dropped(Malformed));
    let mut longer = reply(family, 17, PLAIN);
    longer.length = Some(9000);
    cases.push(
        case(
            format!("the length of the quoted packet over {family} does not matter"),
            about(family, &longer.ip(), PLAIN),
        )
        .sent_to(0)
        .counts(IcmpRelayed),
    );
    let first = reply(family, 17, PLAIN).first(24, 9);
    cases.push(
        case(format!("a quoted first fragment over {family} has ports"), about(family, &first.ip(), PLAIN))
            .sent_to(0)
            .counts(IcmpRelayed),
    );
    let later = reply(family, 17, PLAIN).later(24, 9);
    cases.push(
        case(format!("a quoted later fragment over {family} has none"), about(family, &later.ip(), PLAIN))
            .dropped(UnknownPort),
    );
    let as_fragment = about(family, &whole, PLAIN).fragment(0, true, 0x9400);
    cases.push(case(format!("an error over {family} that is a fragment"), as_fragment).dropped(UnknownPort));
}

fn spoofed(family: Family, cases: &mut Vec<Case>) {
    let over = |name: &str, packet| case(format!("{name} over {family}"), packet);
    let mut other = reply(family, 17, PLAIN);
    other.source = ip(family).at_vip("11").destination;
    cases.push(
        over("an error about another VIP's flow is dropped", about(family, &other.ip(), PLAIN))
            .dropped(UnknownPort),
    );
    let forward = ip(family).udp(12345, PLAIN).data(&[1; 20]);
    cases.push(
        over("an error about a client's packet is dropped", about(family, &forward.ip(), PLAIN))
            .dropped(UnknownPort),
    );
    cases.push(
        over(
            "an error about a port without a service is dropped",
            about(family, &reply(family, 17, 999).ip(), 999),
        )
        .dropped(UnknownPort),
    );
    let mut gre = reply(family, 17, PLAIN);
    gre.transport =
        super::layers::Transport::Raw { protocol: 47, bytes: vec![0, 80, 0x30, 0x39, 0, 0, 0, 0] };
    cases.push(over("an error about GRE is dropped", about(family, &gre.ip(), PLAIN)).dropped(UnknownPort));
    let mut quoted = reply(family, 17, PLAIN).ip();
    quoted[0] ^= 0x20;
    cases.push(
        over("an error about a packet of another version is dropped", about(family, &quoted, PLAIN))
            .dropped(UnknownPort),
    );
    let martian = if family == Family::V4 { "127.0.0.1" } else { "::1" };
    cases.push(
        over("an error from a martian is dropped", of_port(family, PLAIN).from(martian)).dropped(Martian),
    );
    cases.push(
        over(
            "an error for a VIP that rejects is not rejected",
            about(family, &reply(family, 17, 999).ip(), 999).at_vip(REJECTING),
        )
        .dropped(UnknownPort),
    );
    cases.push(
        over(
            "an error for a VIP that passes",
            about(family, &reply(family, 17, 999).ip(), 999).at_vip(PASSING),
        )
        .passes()
        .counts(Passed),
    );
}

fn ends(family: Family, cases: &mut Vec<Case>) {
    let over = |name: &str, packet| case(format!("{name} over {family}"), packet);
    cases.push(over("an error about a flow without a path", of_port(family, PATHLESS)).dropped(NoNextHop));
    cases.push(over("an error about a flow without a backend", of_port(family, EMPTY)).dropped(NoBackend));
    cases.push(over("an error is not rejected", of_port(family, REFUSING)).dropped(NoBackend));
    let none = Settings { icmp_errors_per_second: 0, ..Settings::default() };
    cases.push(
        over("with no errors allowed none is relayed", of_port(family, PLAIN))
            .under(none)
            .dropped(RateLimited),
    );
    let mut long = reply(family, 17, NARROW);
    if let super::layers::Transport::Udp { data, .. } = &mut long.transport {
        *data = vec![0; 600];
    }
    cases.push(
        over("an error that is too big is dropped in silence", about(family, &long.ip(), NARROW))
            .dropped(TooBig),
    );
}

fn families_own(cases: &mut Vec<Case>) {
    let relayed = |name: &str, packet| case(name, packet).sent_to(0).counts(IcmpRelayed);
    let whole = reply(Family::V4, 17, PLAIN);
    let mut options = whole.clone();
    options.options = vec![1; 12];
    cases.push(relayed("quoted options are passed over", about(Family::V4, &options.ip(), PLAIN)));
    cases.push(
        case("quoted options that are cut off say nothing", about(Family::V4, &options.ip()[..28], PLAIN))
            .dropped(UnknownPort),
    );
    let mut short = whole.ip();
    short[0] = 0x44;
    cases.push(
        case("a quoted header of four words says nothing", about(Family::V4, &short, PLAIN))
            .dropped(UnknownPort),
    );
    cases.push(relayed("an error with options of its own", of_port(Family::V4, PLAIN).options(8)));
    cases.push(relayed("an error behind an extension header", of_port(Family::V6, PLAIN).hop_by_hop()));
    let mut chain = reply(Family::V6, 17, PLAIN);
    chain = chain.hop_by_hop();
    cases.push(
        case(
            "a quoted chain other than a fragment header says nothing",
            about(Family::V6, &chain.ip(), PLAIN),
        )
        .dropped(UnknownPort),
    );
    let cut = reply(Family::V6, 17, PLAIN).fragment_header(0, false, 1);
    cases.push(relayed("a quoted atomic fragment has ports", about(Family::V6, &cut.ip(), PLAIN)));
    cases.push(
        case(
            "a quoted fragment header that is cut off says nothing",
            about(Family::V6, &cut.ip()[..47], PLAIN),
        )
        .dropped(UnknownPort),
    );
    cases.push(
        case("an error in a crossed tunnel has the flow's hash", of_port(Family::V4, CROSSED))
            .sent_to(0)
            .outer(|outer| outer.label = 0xb_d760)
            .counts(IcmpRelayed),
    );
    cases.push(
        case(
            "an error by GUE has the flow's hash",
            v4().from("203.0.113.1").icmp(3, 4, 1400, &reply(Family::V4, 17, BY_GUE).ip()).about(BY_GUE),
        )
        .sent_to(0)
        .outer(|outer| outer.gue = Some((0xc000 | 0x0e66, 6080)))
        .counts(IcmpRelayed),
    );
    cases.push(
        case("the outer source of an error is the flow's", of_port(Family::V4, SPREAD))
            .sent_to(0)
            .outer(|outer| outer.source = [10, 9, 0xa2, 0x5b].into())
            .counts(IcmpRelayed),
    );
    cases.push(
        case("ICMPv6 in IPv4 is not an error", v4().from("203.0.113.1").raw(58, &[1; 60]))
            .dropped(UnknownPort),
    );
    cases.push(
        case("ICMP in IPv6 is not an error", v6().from("2001:db8:ffff::1").raw(1, &[3; 80]))
            .dropped(UnknownPort),
    );
}
