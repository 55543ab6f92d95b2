//! From the gateway's own pods and from those of other nodes, directly and in a tunnel, in both families.

use crate::world::{BY_B, EGRESS, OTHER, SERVER, Waits, World, pod, policy};
use netd_integration_tests::Lab;

/// Asserts that the traffic of these nodes' pods comes to the server with the egress address, and other traffic does not.
fn assert_leaves(world: &World, nodes: &[usize]) {
    for &node in nodes {
        for (to, (egress, other)) in SERVER.iter().zip(EGRESS.iter().zip(OTHER)) {
            let seen = world.ask(node, to, Waits::ForAnswer);
            assert_eq!(seen.from.to_string(), *egress, "node {node} to {to}");
            assert!(seen.is_answered && seen.port >= 32_768, "{seen:?}");
            assert_eq!(world.transfer(node, to).to_string(), *egress, "node {node} to {to}");
            world.ping(node, to);
            let seen = world.ask(node, other, Waits::Not);
            assert_eq!(seen.from, pod(node, other), "node {node} to {other}");
        }
    }
}

#[test]
fn the_announcements_example_holds_on_one_link_and_across_subnets() {
    let Some(lab) = Lab::new() else { return };
    let world = World::new(&lab);
    world.mesh.apply(&format!("mode = \"cross-subnet\"\n{}", policy(BY_B)));
    assert_leaves(&world, &[1, 0, 2]);
}

#[test]
fn it_holds_in_a_tunnel_from_every_node_also_past_the_stack() {
    let Some(lab) = Lab::new() else { return };
    let world = World::new(&lab);
    for way in ["", "pod_devices = [\"lxc*\"]\n"] {
        world.mesh.apply(&format!("mode = \"vxlan\"\nvni = 77\n{way}{}", policy(BY_B)));
        assert_leaves(&world, &[0, 1, 2]);
    }
}

#[test]
fn pods_reach_pods_and_nodes_as_they_are_whatever_a_policy_is_for() {
    let Some(lab) = Lab::new() else { return };
    let world = World::new(&lab);
    let everywhere = policy(BY_B).replace(
        "destinations = [\"192.168.33.13/32\", \"2001:db8:33::13/128\"]\n",
        "exclude = [\"10.0.0.0/8\", \"2001:db8::/64\"]\n",
    );
    world.mesh.apply(&format!("mode = \"vxlan\"\n{everywhere}"));
    world.mesh.assert_reach(&[(0, 1), (1, 0), (0, 2), (2, 1)]);
    assert_leaves(&world, &[0, 1]);
}

#[test]
fn flows_of_masqueraded_pods_have_the_policys_address_first() {
    let Some(lab) = Lab::new() else { return };
    let world = World::new(&lab);
    let masquerade = "\n[masquerade]\n";
    world.mesh.apply(&format!("mode = \"vxlan\"\n{}{masquerade}", policy(BY_B)));
    for (to, egress) in SERVER.iter().zip(EGRESS) {
        assert_eq!(world.ask(0, to, Waits::ForAnswer).from.to_string(), egress);
    }
    let seen = world.ask(0, OTHER[0], Waits::ForAnswer);
    assert!(seen.from.to_string() == "10.0.0.1" && seen.is_answered, "{seen:?}");
}

#[test]
fn without_a_gateway_packets_are_dropped_and_counted() {
    let Some(lab) = Lab::new() else { return };
    let world = World::new(&lab);
    world.mesh.apply(&format!("mode = \"vxlan\"\n{}", policy("gateways = []")));
    world.ask_in_vain(0, SERVER[0], 5, || world.has_dropped(0, 5));
    world.ask_in_vain(0, SERVER[1], 5, || world.has_dropped(0, 10));
    let status = world.mesh.nodes[0].site.netd(&["status"]);
    assert!(status.out.contains("policy legacy: it has no gateway"), "{status:?}");
}

#[test]
fn a_node_that_cannot_reach_the_gateway_drops_and_says_why() {
    let Some(lab) = Lab::new() else { return };
    let world = World::new(&lab);
    // The third node is behind a router, where nobody knows of pods.
    world.mesh.write(&format!("mode = \"direct\"\n{}", policy(BY_B)));
    for node in &world.mesh.nodes[1..] {
        node.site.netd(&["apply"]);
    }
    world.ask_in_vain(2, SERVER[0], 5, || world.has_dropped(2, 5));
    let status = world.mesh.nodes[2].site.netd(&["status"]);
    assert!(status.out.contains("policy legacy: node b (10.0.0.2) is not directly reachable"), "{status:?}");
}

#[test]
fn explain_says_what_becomes_of_a_pods_packets_and_of_the_answers() {
    let Some(lab) = Lab::new() else { return };
    let world = World::new(&lab);
    world.mesh.apply(&format!("mode = \"vxlan\"\n{}", policy(BY_B)));
    let explained = |node: usize, packet: &str| {
        let told = world.mesh.nodes[node].site.netd(&["explain", "--json", packet]);
        assert_eq!(told.code, Some(0), "{packet}: {told:?}");
        serde_json::from_str::<serde_json::Value>(&told.out).unwrap()
    };
    for (to, egress) in SERVER.iter().zip(EGRESS) {
        let sent = world.ask(0, to, Waits::ForAnswer);
        let shown = |address: std::net::IpAddr, port| std::net::SocketAddr::new(address, port).to_string();
        let packet = |port| format!("udp {} > {}", shown(pod(0, to), port), shown(to.parse().unwrap(), 7000));
        let steered = explained(0, &packet(sent.own_port));
        assert_eq!(
            (&steered["verdict"], &steered["policy"]),
            (&"steer".into(), &"legacy".into()),
            "{steered:#}"
        );
        let leaves = explained(1, &packet(sent.own_port));
        let outer = shown(egress.parse().unwrap(), sent.port);
        assert_eq!(
            (&leaves["verdict"], &leaves["leaves_as"]),
            (&"translate".into(), &outer.into()),
            "{leaves:#}"
        );
        let answer = format!(
            "udp {} > {}",
            shown(to.parse().unwrap(), 7000),
            shown(egress.parse().unwrap(), sent.port)
        );
        let turned = explained(1, &answer);
        assert_eq!(turned["pod"], shown(pod(0, to), sent.own_port), "{turned:#}");
        let other = explained(1, &packet(sent.own_port).replace(":7000", ":7001"));
        assert_eq!((&other["verdict"], &other["leaves_as"]), (&"translate".into(), &serde_json::Value::Null));
    }
    let left_alone = format!("udp {}:5353 > {}:7000", pod(0, OTHER[0]), OTHER[0]);
    let told = world.mesh.nodes[0].site.netd(&["explain", &left_alone]);
    assert!(told.out.contains("is no VIP") || told.err.contains("nothing is loaded"), "{told:?}");
}
