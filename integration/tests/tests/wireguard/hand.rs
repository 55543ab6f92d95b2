//! The other side is no netd: set up by hand with Debian's `wg` and wireguard-go.

use crate::nodes::{Nodes, PATIENCE, transfer};
use netd_integration_tests::netd::wait_until;
use netd_lab::Running;

#[test]
fn netd_speaks_to_a_peer_that_was_set_up_by_hand() {
    let Some(all) = Nodes::new(2) else { return };
    let keys = all.write("keepalive = \"1s\"");
    let [one, two] = all.two();
    let _daemon = one.node.site.start_ok();
    let _program = Running::start(&two.node.machine, "wireguard-go", &["-f", two.interface()]);
    let is_there = || two.node.machine.try_ip(&["link", "show", two.interface()]).is_ok();
    wait_until("made", PATIENCE, is_there);
    let key_file = two.node.site.state_dir().join("wireguard.key");
    let theirs = keys[0].clone().unwrap();
    wait_until("answering", PATIENCE, || {
        two.node.machine.command("wg").args(["show", two.interface()]).output().unwrap().status.success()
    });
    two.wg(&[
        "set",
        two.interface(),
        "private-key",
        &key_file.display().to_string(),
        "listen-port",
        "51871",
        "peer",
        &theirs,
        "endpoint",
        "10.0.0.1:51871",
        "allowed-ips",
        "10.244.1.0/24,fd00:244:1::/64",
    ]);
    two.node.machine.ip(&["link", "set", two.interface(), "mtu", "1420", "up"]);
    for prefix in ["10.244.1.0/24", "fd00:244:1::/64"] {
        two.node.machine.ip(&["route", "add", prefix, "dev", two.interface()]);
    }
    let heard = all.listen(None);
    for address in two.pods() {
        wait_until("answered", PATIENCE, || one.reaches(&address));
        transfer(&one.node.pod, &two.node.pod, &address, 1024 * 1024);
    }
    for address in one.pods() {
        transfer(&two.node.pod, &one.node.pod, &address, 1024 * 1024);
    }
    let said = one.node.site.netd(&["wireguard", "show", "--json"]).json();
    let peer = &said["peers"][0];
    assert_eq!((&peer["node"], &peer["keepalive_seconds"]), (&"b".into(), &1.into()), "{said}");
    assert!(peer["handshake_age_seconds"].as_u64().is_some_and(|age| age < 60), "{said}");
    assert!(peer["received_bytes"].as_u64().is_some_and(|bytes| bytes > 1_000_000), "{said}");
    let text = one.node.site.netd(&["wireguard", "show"]).out;
    for key in keys.into_iter().flatten() {
        assert!(!text.contains(&key) && !said.to_string().contains(&key), "a key is shown");
    }
    assert_eq!(heard.end(), "");
}
