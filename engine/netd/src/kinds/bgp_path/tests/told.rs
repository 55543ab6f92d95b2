//! Which peer is told what, by the rules of the file.

use super::*;

#[test]
fn communities_of_all_rules_unite_and_the_rest_is_that_of_the_most_specific() {
    let rules = "
        [[bgp.announcements]]
        communities = [\"64512:1\"]
        med = 10
        [[bgp.announcements]]
        services = [\"web\"]
        communities = [\"64512:2\", \"no-export\"]
        large_communities = [\"64512:1:2\"]
        med = 20
        [[bgp.announcements]]
        peers = [\"10.0.0.1\"]
        med = 30
        prepend = 2
    ";
    expect(
        &file("", &format!("{PEER}{rules}")),
        &[
            "announce 192.0.2.10/32 to 10.0.0.1 (communities 64512:1 64512:2 no-export, large community 64512:1:2, \
         MED 20, prepended 2×)",
            "announce 192.0.2.53/32 to 10.0.0.1 (community 64512:1, MED 30, prepended 2×)",
        ],
    );
}

const THREE_PEERS: &str = "
    [[bgp.peers]]
    name = \"tor-1\"
    address = \"10.0.0.1\"
    asn = 64513
    [[bgp.peers]]
    name = \"tor-2\"
    address = \"10.0.0.2\"
    asn = 64513
    [[bgp.peers]]
    name = \"reflector\"
    address = \"10.0.0.3\"
    asn = 64512
";

#[test]
fn a_rule_with_peers_tells_only_them() {
    let rules = "[[bgp.announcements]]\nservices = [\"web\"]\npeers = [\"tor-2\", \"reflector\"]\n\
        local_preference = 200\n";
    let config = file("announce = []", &format!("{THREE_PEERS}{rules}"));
    expect(&config, &["announce 192.0.2.10/32 to 10.0.0.2, 10.0.0.3 (local preference 200)"]);
    let spec = desired(&config, &facts(&config)).unwrap().table.remove("192.0.2.10/32").unwrap();
    let to = spec.as_any().downcast_ref::<PathSpec>().unwrap().to.clone();
    assert_eq!(to, Recipients::Only([ip("10.0.0.2"), ip("10.0.0.3")].into()));
}

#[test]
fn every_peer_of_the_family_is_every_peer_whoever_comes_later() {
    let one = desired(&file("", PEER), &facts(&file("", PEER))).unwrap();
    let three = desired(&file("", THREE_PEERS), &facts(&file("", PEER))).unwrap();
    let spec = |desired: &DesiredKind| Arc::clone(desired.table.get("192.0.2.10/32").unwrap());
    assert!(spec(&three).satisfied_by(spec(&one).as_ref()));
    assert!(spec(&three).changes(spec(&one).as_ref()).is_empty());
}

#[test]
fn each_peer_is_told_what_the_rules_ask_for_it() {
    let for_one = "[[bgp.announcements]]\nservices = [\"web\"]\npeers = [\"tor-2\"]\ncommunities = [\"64512:9\"]\nmed = 5\n";
    expect(
        &file("", &format!("{THREE_PEERS}{for_one}")),
        &[
            "announce 192.0.2.10/32 to 10.0.0.1, 10.0.0.2, 10.0.0.3 (10.0.0.2 also community 64512:9, MED 5)",
            "announce 192.0.2.53/32 to 10.0.0.1, 10.0.0.2, 10.0.0.3",
        ],
    );
    let for_all = "[[bgp.announcements]]\nservices = [\"web\"]\nprepend = 1\nlocal_preference = 200\n";
    expect(
        &file("", &format!("{THREE_PEERS}{for_all}")),
        &[
            "announce 192.0.2.10/32 to 10.0.0.1, 10.0.0.2, 10.0.0.3 (local preference 200; \
             10.0.0.1 also prepended 1×; 10.0.0.2 also prepended 1×)",
            "announce 192.0.2.53/32 to 10.0.0.1, 10.0.0.2, 10.0.0.3",
        ],
    );
}

#[test]
fn a_change_of_what_one_peer_is_told_is_a_change_of_that() {
    let spec = |med: u32| {
        let rule = format!("[[bgp.announcements]]\npeers = [\"tor-2\"]\nmed = {med}\n");
        let config = file("", &format!("{THREE_PEERS}{rule}"));
        desired(&config, &facts(&config)).unwrap().table.remove("192.0.2.10/32").unwrap()
    };
    let change =
        netd_core::FieldChange::changed("to single peers", "10.0.0.2 also MED 5", "10.0.0.2 also MED 6");
    assert_eq!(spec(6).changes(spec(5).as_ref()), [change]);
}

const V6: &str = r#"
[[services]]
name = "six"
vips = ["2001:db8:100::10"]
ports = [{ protocol = "tcp", port = 80 }]
backends = [{ address = "2001:db8:1::2" }]
"#;

#[test]
fn a_peer_is_told_of_the_families_that_it_has_each_with_a_next_hop_of_its_own() {
    let one = |families: &str| file("announce = [\"vips\"]", &format!("{PEER}families = {families}\n{V6}"));
    expect(&one("[\"ipv4\"]"), &[WEB, DNS]);
    expect(
        &one("[\"ipv4\", \"ipv6\"]"),
        &[WEB, DNS, "announce 2001:db8:100::10/128 to 10.0.0.1 (next hop 2001:db8::11)"],
    );
}

#[test]
fn with_extended_next_hops_ipv4_needs_no_address_of_its_own() {
    let peer = |extra: &str| {
        format!(
            "[[bgp.peers]]\naddress = \"2001:db8::1\"\nasn = 64513\nfamilies = [\"ipv4\", \"ipv6\"]\n{extra}\n{V6}"
        )
    };
    expect(
        &file("", &peer("extended_next_hop = true")),
        &[
            "announce 192.0.2.10/32 to 2001:db8::1",
            "announce 192.0.2.53/32 to 2001:db8::1",
            "announce 2001:db8:100::10/128 to 2001:db8::1",
        ],
    );
    expect(
        &file("", &peer("")),
        &[
            "announce 192.0.2.10/32 to 2001:db8::1 (next hop 10.0.0.11)",
            "announce 192.0.2.53/32 to 2001:db8::1 (next hop 10.0.0.11)",
            "announce 2001:db8:100::10/128 to 2001:db8::1",
        ],
    );
}

#[test]
fn without_an_address_of_the_family_there_is_no_next_hop() {
    let text = format!("{BASE}{V6}[bgp]\nasn = 64512\n{PEER}families = [\"ipv6\"]\n")
        .replace("\"10.0.0.11\", \"2001:db8::11\"", "\"10.0.0.11\"");
    let config = parse(&text);
    let mut facts = facts(&config);
    facts.addresses.truncate(1);
    // It needs a source to be in reach at all.
    facts.addresses.push(Address { global: false, ..facts.addresses[0] });
    let why = "this node has no IPv6 address that could be the next hop for 10.0.0.1";
    let shown = shown(&config, &facts);
    assert!(shown.contains(why), "{shown}");
}
