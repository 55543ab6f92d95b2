//! Ping: what is answered, and what is not.

use super::hall::{PASSING, POOLED, REJECTING, SILENT};
use super::layers::{FAMILIES, Family, ip, v4, v6};
use super::{Case, case};
use crate::reference::Count::{EchoReplies, Malformed, Passed, UnknownPort};

const WORD: u32 = 0x1234_0001;

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for family in FAMILIES {
        answered(family, &mut cases);
        not_answered(family, &mut cases);
    }
    families_own(&mut cases);
    cases
}

fn answered(family: Family, cases: &mut Vec<Case>) {
    let over = |name: &str, packet| case(format!("{name} over {family}"), packet).counts(EchoReplies);
    for bytes in [0, 1, 8, 55, 56, 1400] {
        let data: Vec<u8> = (0..bytes).map(|k| k as u8).collect();
        let packet = ip(family).ping(WORD, &data);
        cases.push(
            over(&format!("a ping of {bytes} bytes is answered"), packet.clone())
                .answered(packet.turned().id(0).pong(WORD, &data)),
        );
    }
    let kept = ip(family).class(0xb9).id(0xabcd).ping(WORD, b"data");
    cases.push(
        over("traffic class and identification of a ping are kept", kept.clone())
            .answered(kept.turned().class(0xb9).id(0xabcd).pong(WORD, b"data")),
    );
    let padded = ip(family).ping(WORD, b"").behind(&[0xee; 10]);
    cases.push(
        over("what is behind a ping stays behind the answer", padded.clone())
            .answered(padded.turned().pong(WORD, b"").behind(&[0xee; 10])),
    );
    let wrong = ip(family).ping(WORD, b"data").sum(0x1111);
    // The type's byte falls by 8 (IPv6: grows by 1), so the checksum grows by 0x0800 (falls by 0x0100).
    let carried = if family == Family::V4 { 0x1911 } else { 0x1011 };
    cases.push(
        over("a wrong checksum of a ping stays as wrong", wrong.clone())
            .answered(wrong.turned().pong(WORD, b"data").sum(carried)),
    );
    let pooled = ip(family).to(POOLED[usize::from(family == Family::V6)]).ping(WORD, b"x");
    cases.push(
        over("a VIP of a pool answers if its entry says so", pooled.clone())
            .answered(pooled.turned().pong(WORD, b"x")),
    );
    let last = ip(family).hops(1).ping(WORD, b"x");
    cases.push(
        over("a ping on its last hop is answered", last.clone()).answered(last.turned().pong(WORD, b"x")),
    );
}

fn not_answered(family: Family, cases: &mut Vec<Case>) {
    let over = |name: &str, packet| case(format!("{name} over {family}"), packet);
    let ping = || ip(family).ping(WORD, b"data");
    cases.push(over("a VIP that answers no ping drops it", ping().at_vip(SILENT)).dropped(UnknownPort));
    cases.push(over("a VIP that rejects drops a ping", ping().at_vip(REJECTING)).dropped(UnknownPort));
    cases.push(
        over("a VIP that passes what is unknown passes a ping", ping().at_vip(PASSING))
            .passes()
            .counts(Passed),
    );
    cases.push(over("a ping to a group is not answered", ping().at_mac([0xff; 6])).dropped(UnknownPort));
    let kind = if family == Family::V4 { 8 } else { 128 };
    cases.push(
        over("an echo request with a code is none", ip(family).icmp(kind, 1, WORD, b"x"))
            .dropped(UnknownPort),
    );
    let reply = if family == Family::V4 { 0 } else { 129 };
    cases.push(over("an echo reply is dropped", ip(family).icmp(reply, 0, WORD, b"x")).dropped(UnknownPort));
    cases.push(over("a ping on no hop is dropped", ping().hops(0)).dropped(Malformed));
    let header = if family == Family::V4 { 20 } else { 0 };
    for bytes in [4, 7] {
        let short = ping().length(header + bytes);
        cases.push(over(&format!("a ping of {bytes} bytes is none"), short).dropped(UnknownPort));
    }
    cases.push(
        over("a ping that is longer than its frame is dropped", ping().length(header + 13))
            .dropped(Malformed),
    );
    let number = if family == Family::V4 { 1 } else { 58 };
    cases.push(over("ICMP without a byte is dropped", ip(family).raw(number, &[])).dropped(UnknownPort));
    cases.push(
        over("the first fragment of a ping is dropped", ping().fragment(0, true, 0x9001))
            .dropped(UnknownPort),
    );
    cases.push(
        over("the last fragment of a ping is dropped", ping().fragment(1, false, 0x9001))
            .dropped(UnknownPort),
    );
    let other = if family == Family::V4 { 58 } else { 1 };
    cases.push(
        over("the other family's ICMP is no ping", ip(family).raw(other, &[8, 0, 0xf7, 0xff, 0, 0, 0, 0]))
            .dropped(UnknownPort),
    );
}

fn families_own(cases: &mut Vec<Case>) {
    let zeros = v4().ping(0, &[0; 8]);
    cases.push(
        case("the answer to a ping of nothing but zeros has the checksum 0xffff", zeros.clone())
            .answered(zeros.turned().pong(0, &[0; 8]).sum(0xffff))
            .counts(EchoReplies),
    );
    let df = v4().flags(0).ping(WORD, b"x");
    cases.push(
        case("no DF, no DF in the answer", df.clone())
            .answered(df.turned().flags(0).pong(WORD, b"x"))
            .counts(EchoReplies),
    );
    let reserved = v4().flags(0xc0).ping(WORD, b"x");
    cases.push(
        case("of the flags of a ping only DF is kept", reserved.clone())
            .answered(reserved.turned().pong(WORD, b"x"))
            .counts(EchoReplies),
    );
    cases.push(case("a ping with options is dropped", v4().options(4).ping(WORD, b"x")).dropped(UnknownPort));
    let label = v6().label(0xabcde).ping(WORD, b"x");
    cases.push(
        case("the flow label of a ping is kept", label.clone())
            .answered(label.turned().label(0xabcde).pong(WORD, b"x"))
            .counts(EchoReplies),
    );
    cases.push(
        case("a ping behind an extension header is dropped", v6().hop_by_hop().ping(WORD, b"x"))
            .dropped(UnknownPort),
    );
    for kind in [130, 131, 132, 133, 134, 135, 136, 137, 143] {
        cases.push(
            case(format!("ICMPv6 of type {kind} is the kernel's"), v6().icmp(kind, 0, 0, &[0; 16])).passes(),
        );
    }
    for kind in [127, 138, 142, 144, 200] {
        cases.push(
            case(format!("ICMPv6 of type {kind} is not for the kernel"), v6().icmp(kind, 0, 0, &[0; 16]))
                .dropped(UnknownPort),
        );
    }
    let solicitation = || v6().from("::").icmp(135, 0, 0, &[0; 16]);
    cases.push(case("a neighbour solicitation from :: is the kernel's", solicitation()).passes());
    cases.push(case("a neighbour solicitation that lies is the kernel's", solicitation().length(0)).passes());
    cases.push(
        case(
            "a listener report behind a hop-by-hop header is the kernel's",
            v6().hop_by_hop().icmp(143, 0, 0, &[0; 4]),
        )
        .passes(),
    );
    for kind in [4, 5, 9, 10, 13, 17, 30] {
        cases.push(
            case(format!("ICMP of type {kind} is dropped"), v4().icmp(kind, 0, 0, &[0; 28]))
                .dropped(UnknownPort),
        );
    }
}
