//! The published vectors: hashes, slots, outer sources; and who is let in.

use super::hall::{BARRED, CROSSED_SPREAD, LISTED, SLOTS_251, SLOTS_16381, SPREAD, SPREAD_LESS, SPREAD_MORE};
use super::layers::{FAMILIES, Family, Layers, ip, v4, v6};
use super::{Case, case};
use crate::reference::Count;

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    vectors_of_slots(&mut cases);
    vectors_of_sources(&mut cases);
    crossed_sources(&mut cases);
    source_ranges(&mut cases);
    cases
}

/// To the VIP with this last number, which is like the service on port `like`.
fn first(last: &str, like: u16) -> Layers {
    v4().at_vip(last).tcp(12345, 80).about(like)
}

fn second(last: &str, like: u16) -> Layers {
    v4().at_vip(last).tcp(12346, 80).about(like)
}

fn third(last: &str, like: u16) -> Layers {
    v4().from("203.0.113.7").at_vip(last).tcp(53124, 443).about(like)
}

fn fourth(last: &str, like: u16) -> Layers {
    v6().at_vip(last).tcp(12345, 80).about(like)
}

fn vectors_of_slots(cases: &mut Vec<Case>) {
    let (wide, narrow) = (SLOTS_16381, SLOTS_251);
    for (name, packet, backend) in [
        ("10.1.2.3:12345 to port 80 (hash e35536fb) is in slot 8056 of 16381", first("64", wide), 0),
        ("10.1.2.3:12346 to port 80 (hash 8373e83e) is in slot 4598 of 16381", second("64", wide), 1),
        ("203.0.113.7:53124 to port 443 (hash b98ef36e) is in slot 9864 of 16381", third("64", wide), 2),
        ("[2001:db8::1]:12345 to port 80 (hash ba5f2c2b) is in slot 10504 of 16381", fourth("64", wide), 3),
        ("10.1.2.3:12345 to port 80 (hash e35536fb) is in slot 148 of 251", first("65", narrow), 0),
        ("10.1.2.3:12346 to port 80 (hash 8373e83e) is in slot 141 of 251", second("65", narrow), 1),
        ("203.0.113.7:53124 to port 443 (hash b98ef36e) is in slot 139 of 251", third("65", narrow), 2),
    ] {
        cases.push(case(name, packet).sent_to(backend));
    }
}

fn vectors_of_sources(cases: &mut Vec<Case>) {
    let (half, less, more) = (SPREAD, SPREAD_LESS, SPREAD_MORE);
    cases.push(
        case("10.1.2.3:12345 to port 80 comes from 10.9.22.91 of 10.9.0.0/16", first("61", half))
            .sent_to(0)
            .outer(|outer| outer.source = [10, 9, 22, 91].into()),
    );
    cases.push(
        case("10.1.2.3:12346 to port 80 comes from 10.9.111.238 of 10.9.0.0/16", second("61", half))
            .sent_to(0)
            .outer(|outer| outer.source = [10, 9, 111, 238].into()),
    );
    cases.push(
        case("203.0.113.7:53124 to port 443 comes from 10.9.207.110 of 10.9.0.0/16", third("61", half))
            .sent_to(0)
            .outer(|outer| outer.source = [10, 9, 207, 110].into()),
    );
    cases.push(
        case("10.1.2.3:12345 to port 80 comes from 10.9.8.22 of 10.9.8.0/24", first("62", less))
            .sent_to(0)
            .outer(|outer| outer.source = [10, 9, 8, 22].into()),
    );
    cases.push(
        case("10.1.2.3:12346 to port 80 comes from 10.9.8.111 of 10.9.8.0/24", second("62", less))
            .sent_to(0)
            .outer(|outer| outer.source = [10, 9, 8, 111].into()),
    );
    cases.push(
        case("203.0.113.7:53124 to port 443 comes from 10.9.8.207 of 10.9.8.0/24", third("62", less))
            .sent_to(0)
            .outer(|outer| outer.source = [10, 9, 8, 207].into()),
    );
    cases.push(
        case("10.1.2.3:12345 to port 80 comes from 22.91.244.22 of 0.0.0.0/0", first("63", more))
            .sent_to(0)
            .outer(|outer| outer.source = [22, 91, 244, 22].into()),
    );
    cases.push(
        case("[2001:db8::1]:12345 to port 80 comes from f00d::727e:fc50 of f00d::/96", fourth("61", half))
            .sent_to(0)
            .outer(|outer| outer.source = "f00d::727e:fc50".parse().unwrap()),
    );
    cases.push(
        case(
            "[2001:db8::1]:12345 to port 80 comes from f00d::2b7e:727e:fc50 of f00d::/80",
            fourth("62", less),
        )
        .sent_to(0)
        .outer(|outer| outer.source = "f00d::2b7e:727e:fc50".parse().unwrap()),
    );
    cases.push(
        case(
            "[2001:db8::1]:12345 to port 80 comes from f00d::2b7e:fc50:727e:fc50 of f00d::/64",
            fourth("63", more),
        )
        .sent_to(0)
        .outer(|outer| outer.source = "f00d::2b7e:fc50:727e:fc50".parse().unwrap()),
    );
}

fn crossed_sources(cases: &mut Vec<Case>) {
    cases.push(
        case(
            "an outer IPv4 source hashes the sum of an IPv6 client's words",
            v6().tcp(12345, CROSSED_SPREAD),
        )
        .sent_to(0)
        .outer(|outer| outer.source = [10, 9, 0xde, 0x82].into()),
    );
    cases.push(
        case("an outer IPv6 source hashes an IPv4 client's word", v4().tcp(12345, CROSSED_SPREAD))
            .sent_to(0)
            // The label is the low bits of the hash 0c5e5374.
            .outer(|outer| {
                (outer.source, outer.label) = ("f00d::da5b:f416".parse().unwrap(), 0xe_5374);
            }),
    );
}

fn source_ranges(cases: &mut Vec<Case>) {
    let v4_clients = [
        ("10.1.2.3", true, true),
        ("10.1.3.3", false, true),
        ("10.2.0.1", true, true),
        ("11.0.0.1", false, true),
        ("10.9.0.1", true, false),
    ];
    let v6_clients = [
        ("2001:db8::1", true, true),
        ("2001:db8:0:1::2", true, true),
        ("2001:db8:0:1::3", false, true),
        ("2001:db9::1", false, true),
        ("2001:db8:9::1", true, false),
    ];
    for (client, listed, barred) in v4_clients.into_iter().chain(v6_clients) {
        let packet = |port| if client.contains(':') { v6() } else { v4() }.from(client).udp(12345, port);
        for (port, allowed, name) in [(LISTED, listed, "allowed and denied"), (BARRED, barred, "denied")] {
            cases.push(if allowed {
                case(format!("{client} is let in by the ranges that are {name}"), packet(port)).sent_to(0)
            } else {
                let name = format!("{client} is kept out by the ranges that are {name}");
                case(name, packet(port)).dropped(Count::SourceDenied)
            });
        }
    }
    for family in FAMILIES {
        let stranger = if family == Family::V4 { "11.0.0.1" } else { "2001:db9::1" };
        let packet = ip(family).from(stranger).tcp(12345, LISTED).syn();
        let name = format!("a SYN over {family} of who is not let in is not answered");
        cases.push(case(name, packet).dropped(Count::SourceDenied));
    }
}
