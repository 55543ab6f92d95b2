//! What others do to the device, and what is wrong with keys and ports: put right, or said, and never in clear.

use crate::nodes::{Nodes, PATIENCE};
use netd_integration_tests::netd::wait_until;
use std::fs::Permissions;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt as _;

/// The resources of a kind that are not ready, and why.
fn whys(report: &serde_json::Value) -> String {
    report["resources"].to_string() + &report["not_ready"].to_string() + &report.to_string()
}

#[test]
fn w10_a_device_that_is_removed_comes_back_and_nothing_goes_in_clear_meanwhile() {
    let Some(all) = Nodes::new(2) else { return };
    all.write("");
    let [one, two] = all.two();
    let _daemons = [one.node.site.start_ok(), two.node.site.start_ok()];
    let [v4, v6] = two.pods();
    one.wait_for(&[v4.clone(), v6.clone()]);
    let heard = all.listen(None);
    for _ in 0..3 {
        one.node.machine.ip(&["link", "del", one.interface()]);
        wait_until("answered again", PATIENCE, || one.reaches(&v4) && one.reaches(&v6));
    }
    one.node.site.wait_ok();
    assert_eq!(heard.end(), "");
}

#[test]
fn w10_without_its_device_and_without_netd_nothing_goes_in_clear() {
    let Some(all) = Nodes::new(2) else { return };
    all.write("");
    let [one, two] = all.two();
    let (daemon, _other) = (one.node.site.start_ok(), two.node.site.start_ok());
    let [v4, v6] = two.pods();
    one.wait_for(&[v4.clone(), v6.clone()]);
    daemon.kill();
    let heard = all.listen(None);
    one.node.machine.ip(&["link", "del", one.interface()]);
    for _ in 0..3 {
        assert!(!one.reaches(&v4) && !one.reaches(&v6));
    }
    assert_eq!(heard.end(), "");
    let _daemon = one.node.site.start_ok();
    wait_until("answered again", PATIENCE, || one.reaches(&v4) && one.reaches(&v6));
}

#[test]
fn w10_a_peer_that_is_removed_and_a_rule_that_is_removed_come_back() {
    let Some(all) = Nodes::new(2) else { return };
    let keys = all.write("");
    let [one, two] = all.two();
    let _daemons = [one.node.site.start_ok(), two.node.site.start_ok()];
    let [v4, _] = two.pods();
    one.wait_for(std::slice::from_ref(&v4));
    one.wg(&["set", one.interface(), "peer", keys[1].as_deref().unwrap(), "remove"]);
    // Nothing announces that; the next look finds it.
    one.node.site.apply();
    wait_until("answered again", PATIENCE, || one.reaches(&v4));
    let rules = one.node.machine.ip(&["rule"]);
    one.node.machine.ip(&["rule", "del", "from", "10.244.1.0/24", "lookup", "201"]);
    wait_until("back", PATIENCE, || one.node.machine.ip(&["rule"]) == rules);
}

#[test]
fn w13_a_device_and_rules_of_others_stay_as_they_are() {
    let Some(all) = Nodes::new(2) else { return };
    all.write("");
    let [one, _] = all.two();
    let other = format!("{}x", one.interface());
    let _program = netd_lab::Running::start(&one.node.machine, "wireguard-go", &["-f", &other]);
    wait_until("made", PATIENCE, || one.node.machine.try_ip(&["link", "show", &other]).is_ok());
    wait_until("answering", PATIENCE, || {
        one.node.machine.command("wg").args(["show", &other]).output().unwrap().status.success()
    });
    one.wg(&["set", &other, "listen-port", "40000", "fwmark", "0x7"]);
    one.node.machine.ip(&["rule", "add", "from", "10.99.0.0/16", "lookup", "201", "priority", "1"]);
    let before = (one.wg(&["show", &other, "dump"]), one.node.machine.ip(&["-o", "link", "show", &other]));
    let daemon = one.node.site.start_ok();
    daemon.stop();
    let said = one.node.site.netd(&["teardown", "--yes"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(
        (one.wg(&["show", &other, "dump"]), one.node.machine.ip(&["-o", "link", "show", &other])),
        before
    );
    assert!(one.node.machine.ip(&["rule"]).contains("from 10.99.0.0/16 lookup 201"));
}

#[test]
fn a_device_of_the_name_that_is_somebody_elses_is_a_conflict_and_stays() {
    let Some(all) = Nodes::new(2) else { return };
    all.write("");
    let [one, _] = all.two();
    one.node.machine.ip(&["link", "add", one.interface(), "up", "type", "bridge"]);
    let _daemon = one.node.site.start();
    let report = one.node.site.wait("a conflict", |report| whys(report).contains("that netd did not make"));
    assert_ne!(report["word"], "ok");
    // It is up, and would take what is led into it.
    for family in ["-4", "-6"] {
        let routes = one.node.machine.ip(&[family, "route", "show", "table", "all", "proto", "177"]);
        assert!(routes.contains("unreachable") && !routes.contains(one.interface()), "{routes}");
    }
    assert!(one.node.machine.ip(&["-d", "link", "show", one.interface()]).contains("bridge"));
}

#[test]
fn w9_a_port_that_somebody_has_is_said_and_the_old_one_stays() {
    let Some(all) = Nodes::new(2) else { return };
    let keys = all.write("");
    let [one, two] = all.two();
    let _daemons = [one.node.site.start_ok(), two.node.site.start_ok()];
    let [v4, _] = two.pods();
    one.wait_for(std::slice::from_ref(&v4));
    let taken = one.node.machine.run(|| UdpSocket::bind("0.0.0.0:40001").unwrap());
    one.node.site.write(&all.text(&one, "port = 40001", &keys));
    one.node.site.wait("said", |report| whys(report).contains("UDP port 40001 is in use"));
    assert_eq!(one.wg(&["show", one.interface(), "listen-port"]).trim(), "51871");
    drop(taken);
    one.node.site.wait_ok();
    assert_eq!(one.wg(&["show", one.interface(), "listen-port"]).trim(), "40001");
}

#[test]
fn w2_a_key_file_that_others_can_read_is_refused_and_the_device_keeps_its_key() {
    let Some(all) = Nodes::new(2) else { return };
    all.write("");
    let [one, two] = all.two();
    let (daemon, _other) = (one.node.site.start_ok(), two.node.site.start_ok());
    let [v4, _] = two.pods();
    one.wait_for(std::slice::from_ref(&v4));
    daemon.kill();
    let file = one.node.site.state_dir().join("wireguard.key");
    std::fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    let _daemon = one.node.site.start();
    one.node.site.wait("refused", |report| whys(report).contains("chmod 600"));
    assert!(one.reaches(&v4));
    std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    one.node.site.wait_ok();
}

#[test]
fn w2_between_nodes_another_mark_holds_also_while_the_key_is_refused() {
    let Some(all) = Nodes::new(2) else { return };
    let keys = all.write("mode = \"nodes\"");
    let [one, two] = all.two();
    let _daemons = [one.node.site.start_ok(), two.node.site.start_ok()];
    one.wait_for(&two.pods());
    let file = one.node.site.state_dir().join("wireguard.key");
    std::fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    let heard = all.listen(Some(crate::nodes::CLEAR_PINGS));
    one.node.site.write(&all.text(&one, "mode = \"nodes\"\nmark = 0xe01", &keys));
    one.node.site.wait("refused", |report| whys(report).contains("chmod 600"));
    wait_until("marked", PATIENCE, || one.wg(&["show", one.interface(), "fwmark"]).trim() == "0xe01");
    // Else WireGuard's own packets would be led into its device again.
    one.wait_for(&two.pods());
    assert_eq!(heard.end(), "");
    std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    one.node.site.wait_ok();
}

#[test]
fn w4_an_endpoint_that_a_peer_told_itself_is_left_alone_until_the_file_says_another() {
    let Some(all) = Nodes::new(2) else { return };
    let keys = all.write("");
    let [one, two] = all.two();
    let _daemons = [one.node.site.start_ok(), two.node.site.start_ok()];
    let [v4, _] = two.pods();
    one.wait_for(std::slice::from_ref(&v4));
    // The peer goes on from another port, as behind a NAT that forgot.
    let key = |at: usize| format!("public_key = \"{}\"", keys[at].as_deref().unwrap());
    let known = format!("{}, endpoint = \"10.0.0.1:51871\"", key(0));
    two.node.site.write(&all.text(&two, "port = 40002", &keys).replace(&key(0), &known));
    two.node.site.wait_ok();
    let of_one = one.pods()[0].clone();
    let endpoint = || one.wg(&["show", one.interface(), "endpoints"]);
    wait_until("heard", PATIENCE, || {
        two.reaches(&of_one);
        endpoint().contains(":40002")
    });
    one.node.site.apply();
    assert!(endpoint().contains(":40002"), "{}", endpoint());
    // From now on the peer says nothing, so that it cannot tell the device again.
    two.node.machine.ip(&["link", "set", "eth0", "down"]);
    let moved = format!("{}, endpoint = \"10.0.0.2:40003\"", key(1));
    let text = all.text(&one, "", &keys).replace(&key(1), &moved);
    one.node.site.write(&text);
    one.node.site.wait_ok();
    assert!(endpoint().contains(":40003"), "{}", endpoint());
}
