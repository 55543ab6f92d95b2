//! Fragments of both families.

use super::hall::{
    BACKEND_PORT, BY_GUE, CHANCE, CLOSED, ELSEWHERE, EMPTY, LISTED, MOVED, NARROW, OLD, OPEN, PASSING,
    PATHLESS, PLAIN, SILENT,
};
use super::layers::{FAMILIES, Family, Layers, ip, v4, v6};
use super::{Case, case};
use crate::reference::Count::{
    FragmentLost, Fragments, KeptFlows, Malformed, NoBackend, NoNextHop, Passed, SourceDenied, ToldTooBig,
    TooBig, UnknownPort,
};

pub fn cases() -> Vec<Case> {
    let mut ids = Ids(0x4000);
    let mut cases = Vec::new();
    for family in FAMILIES {
        for protocol in [6, 17] {
            in_order(family, protocol, &mut ids, &mut cases);
            lost(family, protocol, &mut ids, &mut cases);
        }
        way_of_the_first(family, &mut ids, &mut cases);
        odd(family, &mut ids, &mut cases);
        policies(family, &mut ids, &mut cases);
    }
    families_own(&mut ids, &mut cases);
    cases
}

/// Every case has fragments of its own, because records of fragments are not forgotten in between.
struct Ids(u32);

impl Ids {
    fn next(&mut self) -> u32 {
        self.0 += 1;
        self.0
    }
}

/// 104 bytes of transport header and data.
fn whole(family: Family, protocol: u8, port: u16) -> Layers {
    ip(family).transport(protocol, port).data(&vec![0xd7; if protocol == 6 { 84 } else { 96 }])
}

fn in_order(family: Family, protocol: u8, ids: &mut Ids, cases: &mut Vec<Case>) {
    let transport = if protocol == 6 { "TCP" } else { "UDP" };
    let over = |name: &str, packet| case(format!("{name} of {transport} over {family}"), packet);
    let whole = |port| whole(family, protocol, port);
    let id = ids.next();
    cases.push(over("the first fragment goes to the backend", whole(PLAIN).first(40, id)).sent_to(0));
    let id = ids.next();
    let later = whole(PLAIN).later(40, id);
    cases.push(
        over("a later fragment follows the first", later)
            .after(whole(PLAIN).first(40, id))
            .sent_to(0)
            .counts(Fragments),
    );
    let id = ids.next();
    let middle = whole(PLAIN).later(40, id);
    let middle = if family == Family::V4 { middle.flags(0x20) } else { more(middle) };
    cases.push(
        over("a fragment in the middle follows the first", middle)
            .after(whole(PLAIN).first(40, id))
            .sent_to(0)
            .counts(Fragments),
    );
    let id = ids.next();
    let moved = whole(MOVED);
    let inside = moved.clone().port(BACKEND_PORT).about(MOVED).first(40, id);
    cases.push(
        over("the first fragment gets the backend's port", moved.first(40, id)).sent_to(0).holding(inside),
    );
    let id = ids.next();
    let later = whole(MOVED).later(24, id);
    cases.push(
        over("a later fragment is not written to", later)
            .after(whole(MOVED).first(24, id))
            .sent_to(0)
            .counts(Fragments),
    );
    let id = ids.next();
    let later = whole(ELSEWHERE).tag([0x81, 0, 0, 3]).later(40, id);
    cases.push(
        over("a later fragment is redirected, too", later)
            .after(whole(ELSEWHERE).first(40, id))
            .sent_to(0)
            .counts(Fragments),
    );
    let id = ids.next();
    let twice = whole(PLAIN).later(40, id);
    cases.push(
        over("a fragment that comes twice goes twice", twice.clone())
            .after(whole(PLAIN).first(40, id))
            .after(twice)
            .sent_to(0)
            .counts(Fragments),
    );
}

fn lost(family: Family, protocol: u8, ids: &mut Ids, cases: &mut Vec<Case>) {
    let transport = if protocol == 6 { "TCP" } else { "UDP" };
    let over = |name: &str, packet| case(format!("{name} of {transport} over {family}"), packet);
    let whole = |port| whole(family, protocol, port);
    let id = ids.next();
    cases.push(
        over("a later fragment before the first is lost", whole(PLAIN).later(40, id)).dropped(FragmentLost),
    );
    let id = ids.next();
    let first = whole(PLAIN).first(40, id);
    cases.push(
        over("a fragment of another packet is lost", whole(PLAIN).later(40, ids.next()))
            .after(first)
            .dropped(FragmentLost),
    );
    let id = ids.next();
    let stranger = if family == Family::V4 { "10.1.2.4" } else { "2001:db8::2" };
    let other = whole(PLAIN).from(stranger).later(40, id);
    cases.push(
        over("a fragment of another client is lost", other)
            .after(whole(PLAIN).first(40, id))
            .dropped(FragmentLost),
    );
    let id = ids.next();
    let other = whole(PLAIN).at_vip("11").later(40, id);
    cases.push(
        over("a fragment for another VIP is lost", other)
            .after(whole(PLAIN).first(40, id))
            .dropped(FragmentLost),
    );
    let id = ids.next();
    let other = super::fragments::whole(family, if protocol == 6 { 17 } else { 6 }, PLAIN).later(40, id);
    cases.push(
        over("a fragment of another protocol than that", other)
            .after(whole(PLAIN).first(40, id))
            .dropped(FragmentLost),
    );
    for bytes in [8, if protocol == 6 { 16 } else { 8 }] {
        if bytes == 8 && protocol == 17 {
            continue;
        }
        let name = format!("a first fragment with {bytes} bytes");
        cases.push(over(&name, whole(PLAIN).first(bytes, ids.next())).dropped(Malformed));
    }
    let least = if protocol == 6 { 24 } else { 8 };
    cases.push(
        over(
            &format!("a first fragment with {least} bytes is enough"),
            whole(PLAIN).first(least, ids.next()),
        )
        .sent_to(0),
    );
}

/// The later fragments' way is that of the flow.
fn way_of_the_first(family: Family, ids: &mut Ids, cases: &mut Vec<Case>) {
    let over = |name: &str, packet| case(format!("{name} over {family}"), packet);
    let udp = |port| whole(family, 17, port);
    let parts = |whole: Layers, id| (whole.clone().first(40, id), whole.later(40, id));
    let (first, _) = parts(udp(OPEN), ids.next());
    cases.push(
        over("a first fragment in the window is recorded as a flow", first).sent_to(OLD).counts(KeptFlows),
    );
    let (first, later) = parts(udp(OPEN), ids.next());
    cases.push(
        over("a later fragment follows the flow's record", later).after(first).sent_to(OLD).counts(Fragments),
    );
    let (first, later) = parts(udp(CLOSED), ids.next());
    cases.push(
        over("a flow's record counts for its fragments", later)
            .recorded(12345, 0, 5)
            .after(first)
            .sent_to(0)
            .counts(Fragments),
    );
    let (first, later) = parts(udp(CHANCE), ids.next());
    cases.push(
        over("a later fragment of a flow by chance follows the record", later)
            .recorded(12345, OLD, 5)
            .after(first)
            .sent_to(OLD)
            .counts(Fragments),
    );
    let (first, _) = parts(udp(PATHLESS), ids.next());
    cases.push(over("a first fragment without a path", first).dropped(NoNextHop));
    let (first, later) = parts(udp(PATHLESS), ids.next());
    cases.push(
        over("what follows a first fragment that was dropped is lost", later)
            .after(first)
            .dropped(FragmentLost),
    );
    let (first, _) = parts(udp(EMPTY), ids.next());
    cases.push(over("a first fragment without a backend", first).dropped(NoBackend));
    let stranger = if family == Family::V4 { "11.0.0.1" } else { "2001:db9::1" };
    let (first, later) = parts(udp(LISTED).from(stranger), ids.next());
    cases.push(over("a first fragment of who is not let in", first.clone()).dropped(SourceDenied));
    cases.push(
        over("later fragments of who is not let in are lost", later).after(first).dropped(FragmentLost),
    );
    let (first, later) = parts(udp(LISTED), ids.next());
    cases.push(
        over("later fragments of who is let in are sent", later).after(first).sent_to(0).counts(Fragments),
    );
    let syn = ip(family).tcp(12345, OPEN).syn().data(&[1; 84]);
    let (first, later) = parts(syn, ids.next());
    cases.push(over("a SYN in a first fragment is one", first.clone()).sent_to(2).counts(KeptFlows));
    cases.push(
        over("what follows it is none, but follows it", later).after(first).sent_to(2).counts(Fragments),
    );
}

fn odd(family: Family, ids: &mut Ids, cases: &mut Vec<Case>) {
    let over = |name: &str, packet| case(format!("{name} over {family}"), packet);
    let id = ids.next();
    cases.push(
        over("a TCP fragment of offset 1", ip(family).raw(6, &[0; 40]).fragment(1, false, id))
            .dropped(Malformed),
    );
    cases.push(
        over(
            "a UDP fragment of offset 1 is a later one",
            ip(family).raw(17, &[0; 40]).fragment(1, false, id),
        )
        .dropped(FragmentLost),
    );
    cases.push(
        over(
            "a fragment at the very end is a later one",
            ip(family).raw(17, &[0; 8]).fragment(0x1fff, true, id),
        )
        .dropped(FragmentLost),
    );
    cases.push(
        over("a later fragment without data", ip(family).raw(17, &[]).fragment(9, false, id))
            .dropped(FragmentLost),
    );
    cases.push(
        over("a first fragment without data", ip(family).raw(17, &[]).fragment(0, true, id))
            .dropped(Malformed),
    );
    let header = if family == Family::V4 { 20 } else { 0 };
    let lies = whole(family, 17, PLAIN).later(40, id).length(header + 8 + 200);
    cases.push(over("a fragment that is longer than its frame", lies).dropped(Malformed));
    let martian = if family == Family::V4 { "127.0.0.1" } else { "::1" };
    cases.push(
        over("a later fragment of a martian", whole(family, 17, PLAIN).from(martian).later(40, id))
            .dropped(crate::reference::Count::Martian),
    );
    cases.push(
        over("a fragment on no hop", whole(family, 17, PLAIN).later(40, id).hops(0)).dropped(Malformed),
    );
    let id = ids.next();
    let narrow = |port| ip(family).udp(12345, port).data(&vec![0; 1400]);
    let later = narrow(NARROW).later(40, id);
    let first = narrow(NARROW).first(40, id);
    cases.push(over("a later fragment that is too big is not answered", later).after(first).dropped(TooBig));
    let id = ids.next();
    let first = narrow(NARROW).first(800, id);
    if family == Family::V4 {
        cases.push(over("a first fragment that is too big, without DF", first).dropped(TooBig));
    } else {
        let answer = first.turned().icmp(2, 0, 560, &first.ip()[..104]);
        cases.push(
            over("a first fragment that is too big is answered", first)
                .answered(answer)
                .counts(TooBig)
                .counts(ToldTooBig),
        );
    }
}

fn policies(family: Family, ids: &mut Ids, cases: &mut Vec<Case>) {
    let over = |name: &str, packet| case(format!("{name} over {family}"), packet);
    let nobody = |vip: &str| whole(family, 17, 999).at_vip(vip);
    cases.push(
        over("a first fragment to an unknown port", nobody(SILENT).first(40, ids.next()))
            .dropped(UnknownPort),
    );
    cases.push(
        over(
            "a first fragment to an unknown port passes a VIP that passes",
            nobody(PASSING).first(40, ids.next()),
        )
        .passes()
        .counts(Passed),
    );
    cases.push(
        over(
            "a later fragment without a first passes a VIP that passes",
            nobody(PASSING).later(40, ids.next()),
        )
        .passes()
        .counts(Passed),
    );
    cases.push(
        over(
            "a first fragment with less than its header passes a VIP that passes",
            ip(family).at_vip(PASSING).raw(6, &[0; 8]).fragment(0, true, 1),
        )
        .passes()
        .counts(Passed),
    );
    cases.push(
        over(
            "a TCP fragment of offset 1 passes a VIP that passes",
            ip(family).at_vip(PASSING).raw(6, &[0; 8]).fragment(1, true, 1),
        )
        .passes()
        .counts(Passed),
    );
    cases.push(
        over(
            "a fragment of GRE is an unknown protocol",
            ip(family).at_vip(SILENT).raw(47, &[0; 8]).fragment(1, true, 1),
        )
        .dropped(UnknownPort),
    );
    let id = ids.next();
    let served = whole(family, 17, PLAIN).at_vip(PASSING).about(PLAIN);
    cases.push(
        over(
            "a service's later fragment goes to its backend where a VIP passes",
            served.clone().later(40, id),
        )
        .after(served.first(40, id))
        .sent_to(0)
        .counts(Fragments),
    );
}

fn families_own(ids: &mut Ids, cases: &mut Vec<Case>) {
    let id = ids.next();
    let first = whole(Family::V4, 17, PLAIN).first(40, id).flags(0x60);
    cases.push(case("DF of a first fragment is outside, MF is not", first).sent_to(0));
    let id = ids.next();
    let options = v4().options(12).udp(12345, PLAIN).data(&[5; 96]);
    cases.push(
        case("a later fragment has fewer options", whole(Family::V4, 17, PLAIN).later(40, id))
            .after(options.first(40, id))
            .sent_to(0)
            .counts(Fragments),
    );
    let id = ids.next();
    let behind =
        |packet: Layers| Layers { chain: [v6().hop_by_hop().chain, packet.chain.clone()].concat(), ..packet };
    let udp = || whole(Family::V6, 17, PLAIN);
    cases.push(case("a first fragment behind another header", behind(udp().first(40, id))).sent_to(0));
    cases.push(
        case("a later fragment behind another header", behind(udp().later(40, id)))
            .after(behind(udp().first(40, id)))
            .sent_to(0)
            .counts(Fragments),
    );
    let id = ids.next();
    let between =
        v6().fragment_header(0, true, id).destination_options().raw(17, &udp().transport_bytes()[..40]);
    cases.push(case("TCP or UDP has to follow the fragment header directly", between).dropped(UnknownPort));
    let atomic_first = v6()
        .fragment_header(0, false, 3)
        .fragment_header(0, true, ids.next())
        .raw(17, &udp().transport_bytes()[..40]);
    cases.push(case("an atomic fragment's header is passed over", atomic_first.about(PLAIN)).sent_to(0));
    let reserved = v6().header(44, &[0xff, 0, 6, 0, 0, 0, 9]).udp(12345, PLAIN);
    cases.push(case("reserved bits make no fragment", reserved).sent_to(0));
    let id = 0x00ff_0000 + ids.next();
    let low = udp().later(40, id & 0xffff);
    cases.push(
        case("all 32 bits of an identification count", low).after(udp().first(40, id)).dropped(FragmentLost),
    );
    let id = ids.next();
    let gue = || whole(Family::V4, 17, BY_GUE);
    cases.push(
        case("a later fragment's GUE port is the flow's", gue().later(40, id))
            .after(gue().first(40, id))
            .sent_to(0)
            .outer(|outer| outer.gue = Some((0xc000 | 0x0e66, 6080)))
            .counts(Fragments),
    );
}

/// The fragment header says that more follows.
fn more(mut packet: Layers) -> Layers {
    if let Some((44, bytes)) = packet.chain.last_mut() {
        bytes[2] |= 1;
    }
    packet
}
