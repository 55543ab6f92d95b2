//! Lengths that lie, and headers that are not whole, of packets for services.

use super::hall::PLAIN;
use super::layers::{FAMILIES, Family, ip, v4, v6};
use super::{Case, case};
use crate::reference::Count::Malformed;

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for family in FAMILIES {
        let header: usize = if family == Family::V4 { 20 } else { 0 };
        for (protocol, transport, least) in [(6, "TCP", 20), (17, "UDP", 8)] {
            let packet = || ip(family).transport(protocol, PLAIN).data(b"hello");
            let said = |bytes: usize| packet().length(header + bytes);
            let over = |what: String, packet| case(format!("{transport} over {family} {what}"), packet);
            for bytes in [0, 1, least - 1] {
                cases.push(
                    over(format!("that says to have {bytes} bytes is malformed"), said(bytes))
                        .dropped(Malformed),
                );
            }
            for more in [1, 2, 1000] {
                let name = format!("that says to have {more} bytes more than the frame is malformed");
                cases.push(over(name, said(least + 5 + more)).dropped(Malformed));
            }
            let highest = packet().length(0xffff);
            cases.push(
                over("that says to be as long as can be is malformed".into(), highest).dropped(Malformed),
            );
            let shorter = said(least + 2);
            cases.push(over("that says to be shorter than the frame ends there".into(), shorter).sent_to(0));
            cases.push(over("with its header alone is sent".into(), said(least)).sent_to(0));
            cases.push(over("on no hop is malformed".into(), packet().hops(0)).dropped(Malformed));
            let ethernet = 14 + if family == Family::V4 { 20 } else { 40 };
            for bytes in [4, least - 1, least] {
                let name = format!("of a frame that ends after {bytes} bytes of it is malformed");
                cases.push(over(name, packet().cut(ethernet + bytes)).dropped(Malformed));
            }
            let no_ports = packet().cut(ethernet + 3);
            cases.push(
                over("whose ports the frame does not hold is malformed".into(), no_ports).dropped(Malformed),
            );
            for bytes in [14, ethernet - 1] {
                let name = format!("of a frame of {bytes} bytes passes");
                cases.push(over(name, packet().cut(bytes)).passes());
            }
        }
    }
    for words in 0..5 {
        let packet = v4().udp(12345, PLAIN).data(&[0; 40]).patch(0, 0x40 | words);
        cases.push(case(format!("an IPv4 header of {words} words passes"), packet).passes());
    }
    let beyond = v4().udp(12345, PLAIN).patch(0, 0x4f);
    cases.push(case("an IPv4 header that is longer than its frame passes", beyond).passes());
    let less = v4().options(20).udp(12345, PLAIN).length(39);
    cases.push(case("an IPv4 packet that is shorter than its header is malformed", less).dropped(Malformed));
    for version in [0, 5, 6, 15] {
        let packet = v4().udp(12345, PLAIN).data(&[0; 40]).patch(0, version << 4 | 5);
        cases.push(case(format!("version {version} where IPv4 should be passes"), packet).passes());
    }
    for version in [0, 4, 7, 15] {
        let packet = v6().udp(12345, PLAIN).patch(0, version << 4);
        cases.push(case(format!("version {version} where IPv6 should be passes"), packet).passes());
    }
    let odd_sum = v4().udp(12345, PLAIN).patch(10, 0x12);
    cases.push(case("a wrong checksum of the IPv4 header stays inside", odd_sum).sent_to(0));
    let odd_length = v4().udp(12345, PLAIN).data(b"hello").patch(24, 0xff);
    cases.push(case("the length in a UDP header is the backend's to judge", odd_length).sent_to(0));
    cases
}
