//! Plans, edits, the address and who else has it, announcements, kills and the end.

use crate::world::{BY_B, EGRESS, SERVER, Waits, World, policy, wait_until};
use netd_integration_tests::Lab;
use netd_integration_tests::netd::Daemon;

#[test]
fn a_plan_says_what_is_done_and_after_it_there_is_nothing_to_do() {
    let Some(lab) = Lab::new() else { return };
    let world = World::new(&lab);
    let [source, gateway, _] = &world.mesh.nodes;
    world.mesh.write(&format!("mode = \"cross-subnet\"\n{}", policy(BY_B)));
    let plan = gateway.site.netd(&["plan"]);
    for line in [
        "+ masquerade eth0  for egress policies only",
        "+ egress 10.244.0.0/16  to 192.168.33.13/32: leaves here as 192.168.33.100, ports 32768-65535",
        "+ address 192.168.33.100  on eth0",
        "+ address 2001:db8:33::100  on eth0",
    ] {
        assert!(plan.out.contains(line), "{line} in {}", plan.out);
    }
    let plan = source.site.netd(&["plan"]);
    // Until the gateway is resolved, nothing is sent past it.
    assert!(plan.out.contains("+ egress 10.244.0.0/16  to 192.168.33.13/32: dropped"), "{plan:?}");
    assert!(!plan.out.contains("+ address"), "{plan:?}");
    for node in [source, gateway] {
        node.site.apply();
        let plan = node.site.netd(&["plan"]);
        assert_eq!(plan.code, Some(0), "{plan:?}");
    }
}

#[test]
fn p1_flows_go_on_through_edits_and_kills_of_both_netds() {
    let Some(lab) = Lab::new() else { return };
    let world = World::new(&lab);
    let nodes = &world.mesh.nodes[..2];
    let network = "mode = \"cross-subnet\"\n";
    world.mesh.write(&format!("{network}{}", policy(BY_B)));
    let mut daemons: Vec<_> = nodes.iter().map(|node| node.site.start_ok()).collect();
    let first = world.ask(0, SERVER[0], Waits::ForAnswer);
    assert_eq!(first.from.to_string(), EGRESS[0]);
    for edit in
        ["port_range = \"40000-41000\"", "exclude = [\"192.168.33.14/32\"]\nport_range = \"1024-65535\""]
    {
        world.mesh.write(&format!("{network}{}", policy(&format!("{BY_B}\n{edit}"))));
        nodes.iter().for_each(|node| {
            node.site.wait_ok();
        });
        daemons.into_iter().for_each(Daemon::kill);
        for to in SERVER {
            assert!(world.ask(0, to, Waits::ForAnswer).is_answered);
        }
        daemons = nodes.iter().map(|node| node.site.start_ok()).collect();
    }
    drop(daemons);
    for node in nodes {
        let said = node.site.netd(&["teardown", "--yes", "--state"]);
        assert_eq!(said.code, Some(0), "{said:?}");
        assert!(!node.site.bpf_dir().join("nat").exists());
        assert!(!node.configuration().contains(EGRESS[0]));
    }
}

#[test]
fn every_node_says_which_gateway_a_policy_has_and_the_gateway_how_its_addresses_are_used() {
    let Some(lab) = Lab::new() else { return };
    let world = World::new(&lab);
    world.mesh.write(&format!("mode = \"cross-subnet\"\n{}", policy(BY_B)));
    let [source, gateway, _] = &world.mesh.nodes;
    let shown = |site: &netd_integration_tests::Site| -> serde_json::Value {
        let said = site.netd(&["egress", "legacy", "--json"]);
        assert_eq!(said.code, Some(0), "{said:?}");
        serde_json::from_str(&said.out).unwrap()
    };
    // Without daemons, and then asked of them.
    for node in [source, gateway] {
        node.site.apply();
    }
    assert_eq!(shown(&source.site)["policies"][0]["addresses"][0]["state"], "node b has it");
    let daemons: Vec<_> = [source, gateway].iter().map(|node| node.site.start_ok()).collect();
    world.ask(0, SERVER[0], Waits::ForAnswer);
    let policy = shown(&gateway.site)["policies"][0].clone();
    let address = &policy["addresses"][0];
    assert_eq!((&policy["gateway"], &policy["why"]), (&"b".into(), &"it is the only one".into()), "{policy}");
    assert_eq!((&address["address"], &address["state"]), (&EGRESS[0].into(), &"on eth0".into()), "{policy}");
    assert_eq!(address["usage"]["remote"], "udp 192.168.33.13:7000", "{policy}");
    let policy = shown(&source.site)["policies"][0].clone();
    assert_eq!((&policy["gateway"], &policy["is_here"]), (&"b".into(), &false.into()), "{policy}");
    let said = source.site.netd(&["egress"]);
    assert!(said.out.contains("node b has it") && said.out.contains("packets sent to gateways"), "{said:?}");
    assert_eq!(source.site.netd(&["egress", "other"]).code, Some(1));
    drop(daemons);
}

#[test]
fn the_segment_is_told_of_both_addresses_when_they_have_come() {
    let Some(lab) = Lab::new() else { return };
    let world = World::new(&lab);
    let (gateway, server) = (&world.mesh.nodes[1], world.server());
    for egress in EGRESS {
        // What another gateway, which is gone, has left in the server's memory.
        let before =
            ["neigh", "replace", egress, "lladdr", "02:00:00:00:00:99", "dev", "br0", "nud", "stale"];
        server.ip(&before);
    }
    world.mesh.write(&format!("mode = \"cross-subnet\"\n{}", policy(BY_B)));
    let netd = gateway.site.start_ok();
    let shown = gateway.machine.ip(&["-o", "link", "show", "eth0"]);
    let (_, rest) = shown.split_once("link/ether ").unwrap();
    let mac = rest.split_whitespace().next().unwrap();
    for egress in EGRESS {
        wait_until("the server knows", || server.ip(&["neigh", "show", egress, "dev", "br0"]).contains(mac));
    }
    drop(netd);
}

#[test]
fn an_address_of_somebody_else_is_a_conflict_and_stays() {
    let Some(lab) = Lab::new() else { return };
    let world = World::new(&lab);
    let gateway = &world.mesh.nodes[1];
    gateway.machine.ip(&["addr", "add", "192.168.33.100/24", "dev", "eth0"]);
    world.mesh.write(&format!("mode = \"cross-subnet\"\n{}", policy(BY_B)));
    let plan = gateway.site.netd(&["plan"]);
    assert!(plan.out.contains("an address of eth0 that somebody else has put there"), "{plan:?}");
    gateway.site.netd(&["apply"]);
    assert!(gateway.configuration().contains("192.168.33.100/24"));
    let said = gateway.site.netd(&["teardown", "--yes", "--state"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(gateway.configuration().contains("192.168.33.100/24"));
}

#[test]
fn an_address_of_ipv6_that_another_machine_had_comes_when_that_is_gone() {
    let Some(lab) = Lab::new() else { return };
    let world = World::new(&lab);
    let (gateway, server) = (&world.mesh.nodes[1], world.server());
    let [_, address] = EGRESS;
    gateway.machine.sysctl("net/ipv6/conf/eth0/accept_dad", "1");
    let of_another = format!("{address}/128");
    server.ip(&["addr", "add", &of_another, "dev", "br0", "nodad"]);
    world.mesh.write(&format!("mode = \"cross-subnet\"\n{}", policy(BY_B)));
    let netd = gateway.site.start();
    let shown = || gateway.machine.ip(&["-6", "addr", "show", "dev", "eth0", "to", address]);
    wait_until("the other machine is seen", || shown().contains("dadfailed"));
    server.ip(&["addr", "del", &of_another, "dev", "br0"]);
    wait_until("the address is there", || {
        let shown = shown();
        shown.contains(address) && !shown.contains("dadfailed") && !shown.contains("tentative")
    });
    drop(netd);
}

#[test]
fn an_address_that_somebody_removes_is_put_back() {
    let Some(lab) = Lab::new() else { return };
    let world = World::new(&lab);
    let gateway = &world.mesh.nodes[1];
    world.mesh.write(&format!("mode = \"cross-subnet\"\n{}", policy(BY_B)));
    let netd = gateway.site.start_ok();
    gateway.machine.ip(&["addr", "del", "192.168.33.100/32", "dev", "eth0"]);
    wait_until("it is back", || gateway.configuration().contains("inet 192.168.33.100/32"));
    drop(netd);
}

#[test]
fn s13_the_last_policy_goes_only_when_it_is_allowed() {
    let Some(lab) = Lab::new() else { return };
    let world = World::new(&lab);
    let gateway = &world.mesh.nodes[1];
    world.mesh.write(&format!("mode = \"cross-subnet\"\n{}", policy(BY_B)));
    gateway.site.apply();
    world.mesh.write("mode = \"cross-subnet\"\n");
    let plan = gateway.site.netd(&["plan"]);
    assert!(plan.out.contains("it would delete every resource of kind egress (2)"), "{plan:?}");
    let (_, rest) = plan.out.split_once("--allow ").unwrap();
    let id = rest.split_whitespace().next().unwrap();
    let said = gateway.site.netd(&["apply", "--allow", id]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(!gateway.configuration().contains(EGRESS[0]) && !gateway.site.bpf_dir().join("nat").exists());
}
