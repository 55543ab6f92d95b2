//! Packets that are longer, with the outer headers, than the path takes.

use super::hall::{BACKEND_PORT, CROSSED, NARROW, NARROW_MOVED, NARROW_MTU};
use super::layers::{FAMILIES, Family, Layers, ip, v4, v6};
use super::{Case, case};
use crate::reference::Count::{RateLimited, ToldTooBig, TooBig};
use crate::reference::Settings;

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for family in FAMILIES {
        for protocol in [6, 17] {
            limits(family, protocol, &mut cases);
        }
        told(family, &mut cases);
    }
    let fits = v4().udp(12345, CROSSED).data(&[0; 1000]);
    cases.push(
        case("a path that takes more is not too narrow", fits)
            .sent_to(0)
            .outer(|outer| outer.label = 0xb_d760),
    );
    cases.push(
        case("without DF nobody is told", v4().flags(0).udp(12345, NARROW).data(&[0; 600])).dropped(TooBig),
    );
    let options = v4().options(40).id(0x77).class(0x12).tcp(12345, NARROW).data(&[9; 600]);
    cases.push(
        case("the options of what was too big are quoted", options.clone())
            .answered(options.turned().id(0x77).class(0x12).icmp(3, 4, 580, &options.ip()[..68]))
            .counts(TooBig)
            .counts(ToldTooBig),
    );
    let long = v6().hop_by_hop().udp(12345, NARROW).data(&[9; 600]);
    cases.push(
        case("extension headers of what was too big are quoted", long.clone())
            .answered(long.turned().icmp(2, 0, 560, &long.ip()[..104]))
            .counts(TooBig)
            .counts(ToldTooBig),
    );
    cases
}

/// The most that the path takes, and one more.
fn limits(family: Family, protocol: u8, cases: &mut Vec<Case>) {
    let transport = if protocol == 6 { "TCP" } else { "UDP" };
    let outer = if family == Family::V4 { 20 } else { 40 };
    let headers = outer + if protocol == 6 { 20 } else { 8 };
    let most = usize::from(NARROW_MTU) - outer - headers;
    let packet = |bytes: usize| ip(family).transport(protocol, NARROW).data(&vec![0x3c; bytes]);
    cases.push(
        case(format!("{transport} over {family} of just the path's size is sent"), packet(most)).sent_to(0),
    );
    cases.push(
        case(
            format!("{transport} over {family} of one byte more is not, and the client is told"),
            packet(most + 1),
        )
        .answered(told_about(&packet(most + 1)))
        .counts(TooBig)
        .counts(ToldTooBig),
    );
    let behind = packet(most).behind(&[0; 50]);
    cases.push(
        case(format!("what is behind {transport} over {family} makes it no bigger"), behind).sent_to(0),
    );
}

fn told(family: Family, cases: &mut Vec<Case>) {
    let over = |name: &str, packet| case(format!("{name} over {family}"), packet);
    let moved = ip(family).tcp(12345, NARROW_MOVED).data(&[7; 600]);
    cases.push(
        over("the client is told with the port that it wrote", moved.clone())
            .answered(told_about(&moved))
            .counts(TooBig)
            .counts(ToldTooBig),
    );
    assert_ne!(NARROW_MOVED, BACKEND_PORT);
    let tagged = ip(family).tag([0x81, 0, 0, 9]).udp(12345, NARROW).data(&[7; 600]);
    let mut answer = told_about(&tagged);
    answer.tags = tagged.tags.clone();
    cases.push(
        over("the client behind a tag is told behind it", tagged)
            .answered(answer)
            .counts(TooBig)
            .counts(ToldTooBig),
    );
    let group = ip(family).at_mac([0x33, 0x33, 0, 0, 0, 1]).udp(12345, NARROW).data(&[7; 600]);
    cases.push(over("what came to a group is too big in silence", group).dropped(TooBig));
    let none = Settings { icmp_errors_per_second: 0, ..Settings::default() };
    let packet = ip(family).udp(12345, NARROW).data(&[7; 600]);
    cases.push(
        over("with no errors allowed the client is not told", packet)
            .under(none)
            .dropped(TooBig)
            .counts(RateLimited),
    );
}

/// What the client is told: the size that its packets may have, and the beginning of its own.
fn told_about(packet: &Layers) -> Layers {
    let back = packet.turned().class(packet.class).id(packet.id).label(packet.label);
    if packet.is_v4() {
        back.icmp(3, 4, u32::from(NARROW_MTU) - 20, &packet.ip()[..28])
    } else {
        back.icmp(2, 0, u32::from(NARROW_MTU) - 40, &packet.ip()[..104])
    }
}
