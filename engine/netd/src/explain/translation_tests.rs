//! Packets of pods and answers to them, explained by what the programs go by.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::fake;

const RANGE: Ports = Ports { first: 32_768, last: 65_535 };

fn prefix(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

fn view() -> View {
    let leaves = |address: &str| Rule::Translate {
        address: address.parse().unwrap(),
        first_port: RANGE.first,
        last_port: RANGE.last,
    };
    let table = [
        (prefix("192.168.33.0/24"), leaves("192.168.33.100")),
        (prefix("192.168.33.7/32"), Rule::Drop),
        (prefix("203.0.113.0/24"), Rule::NextHop { address: "10.0.0.2".parse().unwrap(), ifindex: 2 }),
        (prefix("198.51.100.0/24"), Rule::Pass),
    ];
    let table6 = [(prefix("2001:db8:33::/64"), leaves("2001:db8:33::100"))];
    let mut rules = nat::Rules::default();
    rules.sources.insert(("10.244.0.0".parse().unwrap(), 16));
    rules.exclude.insert(("10.0.0.0".parse().unwrap(), 8));
    let v4 = Some("192.0.2.1".parse().unwrap());
    rules.devices.insert(2, Outer { v4, v6: None, ports: Ports { first: 1024, last: 32_767 } });
    let tables = [(prefix("10.244.0.0/16"), table.into()), (prefix("fd00::/48"), table6.into())].into();
    let answered = ["192.168.33.100", "2001:db8:33::100", "192.0.2.1"].map(|at| at.parse().unwrap()).into();
    View { rules, tables, outwards: [2].into(), answered, ..View::default() }
}

fn facts() -> Facts {
    let mut facts = Facts::default();
    facts.links.insert(2, fake::link(2, "eth0"));
    facts.addresses.push(fake::address(2, "192.0.2.1".parse().unwrap(), 24));
    facts.routes.push(fake::route(prefix("0.0.0.0/0"), 2, Some("192.0.2.254".parse().unwrap())));
    facts.routes.push(fake::route(prefix("::/0"), 2, Some("fe80::1".parse().unwrap())));
    facts
}

fn explained(view: &View, text: &str) -> Option<Explanation> {
    view.explain(&facts(), &text.parse().unwrap())
}

fn said(view: &View, text: &str) -> (Verdict, String) {
    let answer = explained(view, text).unwrap();
    (answer.verdict, answer.reason)
}

fn flow(inner: &str, outer: &str, remote: &str) -> Translated {
    Translated {
        protocol: 6,
        inner: inner.parse().unwrap(),
        outer: outer.parse().unwrap(),
        remote: remote.parse().unwrap(),
    }
}

#[test]
fn the_longest_prefixes_say_what_becomes_of_a_pods_packet() {
    let view = view();
    for (packet, verdict, reason) in [
        ("tcp 10.244.1.5:4242 > 192.168.33.13:443", Verdict::Translate, "leaves as 192.168.33.100"),
        ("udp 10.244.1.5:4242 > 192.168.33.13:53", Verdict::Translate, "leaves as 192.168.33.100"),
        ("icmp 10.244.1.5 > 192.168.33.13", Verdict::Translate, "leaves as 192.168.33.100"),
        ("tcp [fd00::5]:4242 > [2001:db8:33::13]:443", Verdict::Translate, "leaves as 2001:db8:33::100"),
        ("tcp 10.244.1.5:4242 > 192.168.33.7:443", Verdict::Drop, "its egress policy has no gateway"),
        ("tcp 10.244.1.5:4242 > 203.0.113.9:443", Verdict::Steer, "to the gateway 10.0.0.2, as it is"),
        // Where no policy wants it, it is masqueraded like others.
        ("tcp 10.244.1.5:4242 > 198.51.100.9:443", Verdict::Translate, "leaves as 192.0.2.1"),
        ("tcp 10.244.1.5:4242 > 10.1.2.3:443", Verdict::Pass, "10.1.2.3 is in 10.0.0.0/8, which is excluded"),
    ] {
        assert_eq!(said(&view, packet), (verdict, reason.to_owned()), "{packet}");
    }
    assert_eq!(explained(&view, "tcp 10.99.0.1:4242 > 192.168.33.13:443"), None, "it is no pod's");
    let error = "icmp 203.0.113.1 > 192.168.33.100 too-big tcp 192.168.33.100:40000 > 192.168.33.13:443";
    assert_eq!(explained(&view, error), None);
}

#[test]
fn packets_that_leave_by_a_device_without_the_program_are_left_to_the_kernel() {
    let without = View { outwards: [3].into(), ..view() };
    for destination in ["192.168.33.13:443", "192.168.33.7:443", "203.0.113.9:443"] {
        let (verdict, reason) = said(&without, &format!("tcp 10.244.1.5:4242 > {destination}"));
        let why = "eth0 has no program that would look at it: left to the kernel";
        assert_eq!((verdict, reason.as_str()), (Verdict::Pass, why), "{destination}");
    }
    let (verdict, reason) = said(&without, "tcp 10.244.1.5:4242 > 198.51.100.9:443");
    assert_eq!((verdict, reason.as_str()), (Verdict::Pass, "eth0 does not masquerade"));
    let packet = "tcp 10.244.1.5:4242 > 192.168.33.13:443".parse().unwrap();
    let nowhere = view().explain(&Facts::default(), &packet).unwrap();
    assert_eq!(nowhere.verdict, Verdict::Pass, "{}", nowhere.reason);
}

#[test]
fn packets_of_the_node_itself_have_no_policy() {
    let mut facts = facts();
    facts.addresses.push(fake::address(2, "10.244.1.1".parse().unwrap(), 24));
    let packet: Packet = "tcp 10.244.1.1:4242 > 192.168.33.13:443".parse().unwrap();
    let explained = |view: &View| view.explain(&facts, &packet).unwrap();
    // It is in the pods' prefix, though, and that is what is asked for when something is masqueraded.
    let masqueraded = explained(&view());
    assert_eq!(
        (masqueraded.verdict, masqueraded.reason.as_str()),
        (Verdict::Translate, "leaves as 192.0.2.1")
    );
    let mut unmasqueraded = view();
    unmasqueraded.rules = nat::Rules::default();
    let alone = explained(&unmasqueraded);
    assert_eq!((alone.verdict, alone.may_have_policy(&packet)), (Verdict::Pass, false), "{}", alone.reason);
}

#[test]
fn answers_to_an_egress_address_come_through_until_it_is_forgotten() {
    let flow = flow("10.244.1.5:4242", "192.168.33.100:40000", "192.168.33.13:443");
    let mut view = View { flows: vec![flow], ..view() };
    let answer = "tcp 192.168.33.13:443 > 192.168.33.100:40000 ack";
    view.tables.clear();
    assert_eq!(explained(&view, answer).unwrap().pod, Some(flow.inner));
    view.answered.clear();
    assert_eq!(explained(&view, answer), None);
}

#[test]
fn what_the_load_balancer_said_comes_first() {
    let packet: Packet = "tcp 10.244.1.5:4242 > 192.168.33.13:443".parse().unwrap();
    let mut balanced = Explanation::new(&packet, Evidence::Program);
    balanced.step("vip", "192.168.33.13 is no VIP");
    let steps = view().explain(&facts(), &packet).unwrap().after(balanced).steps;
    let words: Vec<_> = steps.iter().map(|step| step.what).collect();
    assert_eq!(words, ["vip", "service", "egress", "leaves", "flow"]);
}

#[test]
fn a_flow_that_is_known_leaves_with_its_port_and_is_answered() {
    let flow = flow("10.244.1.5:4242", "192.168.33.100:40000", "192.168.33.13:443");
    let view = View { flows: vec![flow], ..view() };
    let answer = explained(&view, "tcp 10.244.1.5:4242 > 192.168.33.13:443 ack").unwrap();
    assert_eq!(answer.leaves_as, Some(flow.outer));
    let answer = explained(&view, "tcp 192.168.33.13:443 > 192.168.33.100:40000 ack").unwrap();
    assert_eq!((answer.verdict, answer.pod), (Verdict::Translate, Some(flow.inner)));
    let (verdict, reason) = said(&view, "tcp 192.168.33.13:443 > 192.168.33.100:40001 ack");
    assert_eq!(verdict, Verdict::Pass);
    assert!(reason.ends_with("it is the host's"), "{reason}");
    // Another pod's flow with the same port is a new one.
    let answer = explained(&view, "tcp 10.244.1.6:4242 > 192.168.33.13:443 ack").unwrap();
    assert_eq!(answer.leaves_as, None);
}

#[test]
fn a_flow_that_the_other_end_began_is_answered_from_the_pods_address() {
    let view = View { is_direct: true, ..view() };
    let verdict = |text| said(&view, text).0;
    assert_eq!(verdict("tcp 10.244.1.5:80 > 192.168.33.13:4242 ack"), Verdict::Pass);
    assert_eq!(verdict("udp 10.244.1.5:53 > 192.168.33.13:4242"), Verdict::Pass);
    assert_eq!(verdict("tcp 10.244.1.5:80 > 192.168.33.13:4242 syn"), Verdict::Translate);
}

#[test]
fn a_reset_of_no_flow_is_dropped() {
    assert_eq!(said(&view(), "tcp 10.244.1.5:80 > 192.168.33.13:4242 rst").0, Verdict::Drop);
}

#[test]
fn packets_of_a_family_without_an_address_are_dropped() {
    let mut view = view();
    view.rules.devices.insert(2, Outer { v4: None, v6: None, ports: Ports { first: 1024, last: 32_767 } });
    let (verdict, reason) = said(&view, "tcp 10.244.1.5:4242 > 198.51.100.9:443");
    assert_eq!((verdict, reason.as_str()), (Verdict::Drop, "eth0 has no address of this family to give"));
}

#[test]
fn a_flow_that_is_translated_goes_on_so_whoever_began_another_one() {
    let flow = flow("10.244.1.5:4242", "192.168.33.100:40000", "192.168.33.13:443");
    let view = View { flows: vec![flow], is_direct: true, ..view() };
    assert_eq!(said(&view, "tcp 10.244.1.5:4242 > 192.168.33.13:443 ack").0, Verdict::Translate);
}

#[test]
fn records_of_flows_to_pods_count_for_their_time() {
    const SECOND: u64 = 1_000_000_000;
    assert!(is_direct(6, 7440 * SECOND) && !is_direct(6, 7441 * SECOND));
    assert!(is_direct(17, 300 * SECOND) && !is_direct(17, 301 * SECOND));
}
