//! Packets between pods and nodes, over starts, ends and kills of netd: all arrive, and none is seen in clear.

use crate::nodes::{CLEAR_PINGS, Nodes, PATIENCE, ping, transfer};
use netd_integration_tests::netd::wait_until;
use std::process::Stdio;

/// More than any buffer on the way.
const TRANSFER_BYTES: usize = 8 * 1024 * 1024;

#[test]
fn pods_of_three_nodes_reach_each_other_and_nothing_of_it_is_seen_in_clear() {
    let Some(all) = Nodes::new(3) else { return };
    let heard = all.listen(None);
    all.write("");
    // The third is behind a router: there is no route to its pods, but for the one into WireGuard.
    let nodes = all.all();
    let daemons: Vec<_> = nodes.iter().map(|of| of.node.site.start()).collect();
    for of in &nodes {
        // Until then packets go as they did without netd.
        for family in ["-4", "-6"] {
            wait_until("led there", PATIENCE, || {
                of.node.machine.ip(&[family, "rule"]).contains("lookup 201")
            });
        }
    }
    for from in &nodes {
        for to in nodes.iter().filter(|to| to.at != from.at) {
            from.wait_for(&to.pods());
        }
    }
    let [one, two] = all.two();
    for address in two.pods() {
        transfer(&one.node.pod, &two.node.pod, &address, TRANSFER_BYTES);
    }
    // What is not for pods goes as it did.
    assert!(ping(&one.node.machine, "10.0.0.2") && ping(&one.node.machine, "2001:db8::2"));
    drop(daemons);
    assert_eq!(heard.end(), "");
}

#[test]
fn p1_kills_and_restarts_of_netd_cost_no_packet_and_show_none() {
    let Some(all) = Nodes::new(2) else { return };
    all.write("");
    let [one, two] = all.two();
    let (daemon, _other) = (one.node.site.start_ok(), two.node.site.start_ok());
    let [v4, v6] = two.pods();
    for address in [&v4, &v6] {
        wait_until("answered", PATIENCE, || one.reaches(address));
    }
    let heard = all.listen(None);
    let pings = |to: &str| {
        let mut command = one.node.pod.command("ping");
        command.args(["-q", "-i", "0.05", "-c", "100", "-W", "5", to]).stdout(Stdio::piped());
        command.spawn().unwrap()
    };
    let running = [pings(&v4), pings(&v6)];
    daemon.kill();
    let daemon = one.node.site.start_ok();
    let report = one.node.site.status();
    assert!(report.get("last_change").is_none_or(serde_json::Value::is_null), "{report}");
    daemon.stop();
    let _daemon = one.node.site.start_ok();
    for child in running {
        let said = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        assert!(said.contains(" 100 received"), "{said}");
    }
    assert_eq!(heard.end(), "");
}

#[test]
fn between_nodes_everything_is_encrypted_where_the_file_says_so() {
    let Some(all) = Nodes::new(2) else { return };
    all.write("mode = \"nodes\"\nmark = 0xe01\ntable = 100000\nrule_priority = 10");
    let [one, two] = all.two();
    let daemons = [one.node.site.start_ok(), two.node.site.start_ok()];
    let heard = all.listen(Some(CLEAR_PINGS));
    for address in ["10.0.0.2", "2001:db8::2"] {
        wait_until("answered", PATIENCE, || ping(&one.node.machine, address));
    }
    for address in two.pods() {
        wait_until("answered", PATIENCE, || one.reaches(&address) && ping(&one.node.machine, &address));
    }
    transfer(&one.node.machine, &two.node.machine, "10.0.0.2", TRANSFER_BYTES);
    drop(daemons);
    assert_eq!(heard.end(), "");
}

#[test]
fn a_teardown_removes_device_peers_routes_and_rules() {
    let Some(all) = Nodes::new(2) else { return };
    all.write("");
    let [one, _] = all.two();
    let before = (one.node.machine.ip(&["rule"]), one.node.machine.ip(&["-6", "rule"]));
    let daemon = one.node.site.start_ok();
    assert_ne!(one.node.machine.ip(&["rule"]), before.0);
    daemon.stop();
    let said = one.node.site.netd(&["teardown", "--yes"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!((one.node.machine.ip(&["rule"]), one.node.machine.ip(&["-6", "rule"])), before);
    assert_eq!(one.node.machine.ip(&["route", "show", "table", "all", "proto", "177"]), "");
    assert!(one.node.machine.try_ip(&["link", "show", one.interface()]).is_err());
    assert!(one.node.site.state_dir().join("wireguard.key").exists(), "the key stays for the next start");
}
