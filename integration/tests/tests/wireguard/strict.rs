//! Strict mode: whatever is done to device, rules, routes and netd, nothing of pods is seen in clear.

use crate::nodes::{Node, Nodes, PATIENCE};
use netd_integration_tests::netd::wait_until;

/// What of the pods' packets is seen on the wire if it is not encrypted, in the tunnel or not.
const CLEAR: &str = "(ip and net 10.244.0.0/16) or (ip6 and net fd00:244::/32) or udp port 8472";

const DIRECT: &str = "strict = { egress = true, ingress = true }";

const OVERLAY: &str = "mode = \"overlay\"\nstrict = { egress = true }\n\n[network]\nmode = \"vxlan\"";

/// How many packets the node has dropped for this reason.
fn dropped(of: &Node<'_>, reason: &str) -> u64 {
    let said = of.node.site.netd(&["wireguard", "show", "--json"]).json();
    said["strict_dropped"][reason].as_u64().unwrap_or_else(|| panic!("{said}"))
}

/// Takes away all that leads packets into WireGuard, and WireGuard.
fn strip(of: &Node<'_>) {
    for family in ["-4", "-6"] {
        while of.node.machine.try_ip(&[family, "rule", "del", "lookup", "201"]).is_ok() {}
        of.node.machine.ip(&[family, "route", "flush", "table", "201"]);
    }
    of.node.machine.ip(&["link", "del", of.interface()]);
}

/// Strips a node whose netd was killed; what would leave in clear then is dropped for this reason.
fn nothing_leaves_a_stripped_node(settings: &str, reason: &str) {
    let Some(all) = Nodes::new(2) else { return };
    all.write(settings);
    let [one, two] = all.two();
    let heard = all.listen(Some(CLEAR));
    let (daemon, _other) = (one.node.site.start_ok(), two.node.site.start_ok());
    one.wait_for(&two.pods());
    daemon.kill();
    strip(&one);
    for _ in 0..3 {
        for address in two.pods() {
            assert!(!one.reaches(&address));
        }
    }
    let _daemon = one.node.site.start_ok();
    one.wait_for(&two.pods());
    assert!(dropped(&one, reason) >= 6, "of both families");
    assert_eq!(heard.end(), "");
}

#[test]
fn without_device_rules_and_netd_nothing_leaves_in_clear() {
    nothing_leaves_a_stripped_node(DIRECT, "out-plain");
}

#[test]
fn without_device_rules_and_netd_nothing_leaves_in_clear_in_the_tunnel() {
    nothing_leaves_a_stripped_node(OVERLAY, "out-tunnel");
}

#[test]
fn what_comes_in_in_clear_from_pods_of_other_nodes_is_dropped() {
    let Some(all) = Nodes::new(2) else { return };
    all.write(DIRECT);
    let [one, two] = all.two();
    let _daemon = one.node.site.start_ok();
    two.node.machine.ip(&["route", "add", "10.244.1.0/24", "via", "10.0.0.1"]);
    two.node.machine.ip(&["route", "add", "fd00:244:1::/64", "via", "2001:db8::1"]);
    for (count, address) in one.pods().iter().enumerate() {
        wait_until("dropped", PATIENCE, || !two.reaches(address) && dropped(&one, "in-plain") > count as u64);
    }
    // What the nodes say to each other is no pod's.
    assert!(crate::nodes::ping(&two.node.machine, "10.0.0.1"));
}

#[test]
fn strict_mode_goes_with_the_file_and_leaves_nothing_behind() {
    let Some(all) = Nodes::new(2) else { return };
    let keys = all.write(DIRECT);
    let [one, _] = all.two();
    let _daemon = one.node.site.start_ok();
    let pins = one.node.site.bpf_dir().join("strict");
    assert!(pins.join("out/links/eth0").exists() && pins.join("in/links/eth0").exists());
    one.node.site.write(&all.text(&one, "", &keys));
    one.node.site.wait_ok();
    assert!(!pins.exists());
    let said = one.node.site.netd(&["wireguard", "show", "--json"]).json();
    assert!(said["strict_dropped"].is_null(), "{said}");
}
