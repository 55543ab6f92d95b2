//! Every mode, over both families, with the network stack and past it.

use netd_integration_tests::Lab;
use netd_integration_tests::mesh::{Mesh, addresses};

/// The pairs of nodes that are on one link, and all.
const ON_LINK: [(usize, usize); 2] = [(0, 1), (1, 0)];
const ALL: [(usize, usize); 4] = [(0, 1), (1, 0), (0, 2), (2, 1)];

/// Without programs on the pods' devices, and with them.
const WAYS: [&str; 2] = ["", "pod_devices = [\"lxc*\"]\n"];

/// Sends from the pod of node a to that of another node.
fn ping(mesh: &Mesh, to: usize) {
    for address in addresses(to) {
        let mut ping = mesh.nodes[0].pod.command("ping");
        let status =
            ping.args(["-q", "-c", "2", "-i", "0.1", "-W", "10", &address.to_string()]).output().unwrap();
        assert!(status.status.success(), "{address}: {}", String::from_utf8_lossy(&status.stdout));
    }
}

#[test]
fn a_tunnel_of_vxlan_carries_both_families_over_ipv4_and_its_packets_have_the_vni() {
    let Some(lab) = Lab::new() else { return };
    let mesh = Mesh::new(&lab);
    for way in WAYS {
        mesh.apply(&format!("mode = \"vxlan\"\nvni = 77\n{way}"));
        mesh.assert_reach(&ALL);
        let seen = mesh.seen(0, "udp port 8472", || ping(&mesh, 1));
        assert!(seen.contains("IP 10.0.0.1.") && seen.contains("instance 77"), "{seen}");
    }
}

#[test]
fn a_tunnel_over_ipv6_carries_both_families_and_its_outer_packets_have_checksums() {
    let Some(lab) = Lab::new() else { return };
    let mesh = Mesh::new(&lab);
    for way in WAYS {
        mesh.apply(&format!("mode = \"vxlan\"\nunderlay = \"ipv6\"\nport = 4789\n{way}"));
        mesh.assert_reach(&ALL);
        // The kernel does not take one without (RFC 8200): it would not be there.
        let seen = mesh.seen(0, "udp port 4789", || ping(&mesh, 2));
        assert!(seen.contains("IP6 2001:db8::1.") && seen.contains("vni 1"), "{seen}");
    }
}

#[test]
fn across_subnets_what_is_on_link_is_direct_and_the_rest_in_the_tunnel() {
    let Some(lab) = Lab::new() else { return };
    let mesh = Mesh::new(&lab);
    for way in WAYS {
        mesh.apply(&format!("mode = \"cross-subnet\"\n{way}"));
        mesh.assert_reach(&ALL);
        let direct = mesh.seen(0, "icmp and dst 10.244.2.2", || ping(&mesh, 1));
        assert!(direct.contains("10.244.1.2 > 10.244.2.2"), "{direct}");
        let tunnelled = mesh.seen(0, "udp port 8472", || ping(&mesh, 2));
        assert!(tunnelled.contains("> 10.0.9.3.8472") && tunnelled.contains("instance 1"), "{tunnelled}");
    }
}

#[test]
fn direct_routes_reach_what_is_on_link_and_say_so_of_what_is_not() {
    let Some(lab) = Lab::new() else { return };
    let mesh = Mesh::new(&lab);
    for way in WAYS {
        mesh.write(&format!("mode = \"direct\"\n{way}"));
        for node in &mesh.nodes {
            node.site.netd(&["apply"]);
        }
        mesh.assert_reach(&ON_LINK);
        let report = mesh.nodes[0].site.status();
        let text = report.to_string();
        assert!(
            text.contains("node c (10.0.9.3) is not directly reachable: it is behind 10.0.0.254"),
            "{text}"
        );
    }
}

#[test]
fn programs_send_and_deliver_packets_of_pods_and_hops_are_counted_as_by_the_stack() {
    let Some(lab) = Lab::new() else { return };
    let mesh = Mesh::new(&lab);
    mesh.apply("mode = \"vxlan\"\npod_devices = [\"lxc*\"]");
    mesh.assert_reach(&[(0, 1)]);
    let counts = |node: usize| {
        let root = mesh.nodes[node].site.bpf_dir().join("overlay");
        netd_bpf::overlay::Overlay::open(&root).unwrap().unwrap().counts()
    };
    let (sender, receiver) = (counts(0), counts(1));
    assert!(sender.sent > 0 && receiver.delivered > 0, "{sender:?} {receiver:?}");
    assert_eq!((sender.strangers, receiver.strangers), (0, 0));
    // Two routers are between the pods.
    let mut once = mesh.nodes[0].pod.command("ping");
    let output = once.args(["-c", "1", "-W", "10", "10.244.2.2"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("ttl=62"), "{text}");
    // One that has no hop left is answered by the router where it ends.
    let mut short = mesh.nodes[0].pod.command("ping");
    let output = short.args(["-c", "1", "-t", "1", "-W", "10", "10.244.2.2"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("Time to live exceeded"), "{text}");
}
