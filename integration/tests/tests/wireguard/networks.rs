//! What is encrypted, in every network between the nodes: directly or in a tunnel, through the network stack or past it, over
//! both families. Nothing of it is seen in clear, also while one changes to another.

use crate::nodes::{Nodes, transfer};

/// More than any buffer on the way.
const TRANSFER_BYTES: usize = 4 * 1024 * 1024;

/// Between all three, there and back.
const PAIRS: [(usize, usize); 4] = [(0, 1), (1, 0), (0, 2), (2, 1)];

const PAST_THE_STACK: &str = "pod_devices = [\"lxc*\"]";

/// Goes from one `[network]` to the next, with these lines of `[wireguard]`.
fn each_network(settings: &str, networks: &[&str]) {
    let Some(all) = Nodes::new(3) else { return };
    let keys = all.write(&format!("{settings}\n[network]\n{}", networks[0]));
    let mut heard = None;
    for network in networks {
        for of in all.all() {
            let text = all.text(&of, &format!("{settings}\n[network]\n{network}"), &keys);
            of.node.site.write(&text);
            of.node.site.apply();
        }
        heard.get_or_insert_with(|| all.listen(None));
        all.mesh.assert_reach(&PAIRS);
        all.mesh.assert_done();
    }
    let [one, two] = all.two();
    for address in two.pods() {
        transfer(&one.node.pod, &two.node.pod, &address, TRANSFER_BYTES);
    }
    assert_eq!(heard.unwrap().end(), "");
}

/// Every tunnel, and with it whether pods' packets go past the stack.
fn networks() -> Vec<String> {
    let modes = ["mode = \"vxlan\"", "mode = \"cross-subnet\"", "mode = \"vxlan\"\nunderlay = \"ipv6\""];
    modes.iter().flat_map(|mode| [(*mode).to_owned(), format!("{mode}\n{PAST_THE_STACK}")]).collect()
}

#[test]
fn packets_of_pods_are_encrypted_whatever_network_is_there_without_it() {
    let networks = networks();
    each_network("mode = \"pods\"", &networks.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn packets_of_nodes_and_pods_are_encrypted_whatever_network_is_there_without_it() {
    let networks = networks();
    each_network("mode = \"nodes\"", &networks.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn a_tunnel_inside_of_wireguard_carries_both_families_over_both_families() {
    let past = |mode: &str| format!("{mode}\n{PAST_THE_STACK}");
    let (v4, v6) = ("mode = \"vxlan\"", "mode = \"vxlan\"\nunderlay = \"ipv6\"");
    each_network("mode = \"overlay\"", &[v4, &past(v4), &past(v6), v6]);
}

#[test]
fn a_tunnel_inside_of_wireguard_leaves_the_nodes_own_packets_alone_and_fits() {
    let Some(all) = Nodes::new(2) else { return };
    all.write("mode = \"overlay\"\n[network]\nmode = \"vxlan\"");
    let [one, two] = all.two();
    for of in [&one, &two] {
        of.node.site.apply();
    }
    one.wait_for(&two.pods());
    let tunnel = one.node.tunnel().unwrap();
    assert!(one.node.machine.ip(&["link", "show", &tunnel]).contains("mtu 1370 "), "1500 - 80 - 50");
    let allowed = one.wg(&["show", one.interface(), "allowed-ips"]);
    assert!(allowed.contains("10.0.0.2/32 2001:db8::2/128") && !allowed.contains("10.244."), "{allowed}");
    // Packets as large as they may be: one byte more would come in two pieces.
    for (address, header) in two.pods().iter().zip([28, 48]) {
        let size = (1370 - header).to_string();
        let mut ping = one.node.pod.command("ping");
        let said =
            ping.args(["-q", "-c", "1", "-W", "10", "-M", "do", "-s", &size, address]).output().unwrap();
        assert!(said.status.success(), "{address}: {}", String::from_utf8_lossy(&said.stdout));
    }
    let seen = all.mesh.seen(0, "icmp", || {
        assert!(crate::nodes::ping(&one.node.machine, "10.0.0.2"));
    });
    assert!(seen.contains("10.0.0.1 > 10.0.0.2"), "{seen}");
}

#[test]
fn from_one_mode_to_another_nothing_is_seen_in_clear() {
    let Some(all) = Nodes::new(2) else { return };
    let network = format!("[network]\nmode = \"vxlan\"\n{PAST_THE_STACK}");
    let settings = |mode: &str| format!("mode = \"{mode}\"\n{network}");
    let keys = all.write(&settings("pods"));
    let apply = |mode: &str| {
        for of in all.two() {
            of.node.site.write(&all.text(&of, &settings(mode), &keys));
            of.node.site.apply();
        }
    };
    apply("pods");
    let heard = all.listen(None);
    let (sent, back) = all.mesh.stream(0, 1, || {
        for mode in ["overlay", "nodes", "overlay", "pods", "nodes", "pods"] {
            apply(mode);
        }
    });
    println!("{} of {sent} packets were lost in six changes of the mode", sent - back);
    all.mesh.assert_reach(&[(0, 1), (1, 0)]);
    assert_eq!(heard.end(), "");
}
