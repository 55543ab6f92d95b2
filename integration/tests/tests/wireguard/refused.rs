//! What is to be encrypted is refused until the tunnel can take it, from the first packet on. The nodes have no default
//! route here, so whatever is seen in clear is netd's doing.

use crate::nodes::{Node, Nodes, PATIENCE};
use netd_integration_tests::netd::wait_until;
use std::fs::Permissions;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Stdio};

/// Two nodes that know a way to nobody but each other.
fn secluded() -> Option<Nodes> {
    let all = Nodes::new(2)?;
    for of in all.two() {
        for family in ["-4", "-6"] {
            of.node.machine.ip(&[family, "route", "del", "default"]);
        }
    }
    Some(all)
}

/// Pings to both addresses of a pod, hundreds in a second, until it is dropped.
struct Flood([Child; 2]);

impl Flood {
    fn start(from: &Node<'_>, to: &Node<'_>) -> Self {
        Self(to.pods().map(|address| {
            let mut command = from.node.pod.command("ping");
            command.args(["-q", "-i", "0.003", &address]).stdout(Stdio::null()).stderr(Stdio::null());
            command.spawn().unwrap()
        }))
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Waits until packets to the pods of the other node are led to them, encrypted or not.
fn wait_for_routes(of: &Node<'_>) {
    for (family, prefix) in [("-4", "10.244.2.0/24"), ("-6", "fd00:244:2::/64")] {
        wait_until("led there", PATIENCE, || {
            of.node.machine.ip(&[family, "route", "show", prefix]).contains("177")
        });
    }
}

#[test]
fn a_node_that_starts_for_the_first_time_sends_nothing_in_clear() {
    let Some(all) = secluded() else { return };
    all.write("");
    let [one, two] = all.two();
    let heard = all.listen(None);
    let _flood = (Flood::start(&one, &two), Flood::start(&two, &one));
    let _daemons = [one.node.site.start(), two.node.site.start()];
    one.wait_for(&two.pods());
    assert_eq!(heard.end(), "");
}

#[test]
fn to_a_node_that_is_added_nothing_goes_in_clear() {
    let Some(all) = secluded() else { return };
    let keys = all.write("");
    let [one, two] = all.two();
    one.node.site.write(&all.text(&one, "", &keys[..1]));
    let _daemons = [one.node.site.start_ok(), two.node.site.start_ok()];
    let heard = all.listen(None);
    let _flood = (Flood::start(&one, &two), Flood::start(&two, &one));
    one.node.site.write(&all.text(&one, "", &keys));
    one.wait_for(&two.pods());
    assert_eq!(heard.end(), "");
}

#[test]
fn w2_with_a_key_file_that_is_refused_a_node_that_starts_sends_nothing_in_clear() {
    let Some(all) = secluded() else { return };
    all.write("");
    let [one, two] = all.two();
    let file = one.node.site.state_dir().join("wireguard.key");
    std::fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    let heard = all.listen(None);
    let _flood = Flood::start(&one, &two);
    let _daemon = one.node.site.start();
    wait_for_routes(&one);
    one.node.site.wait("refused", |report| report.to_string().contains("chmod 600"));
    for address in two.pods() {
        assert!(!one.reaches(&address));
    }
    assert_eq!(heard.end(), "");
    std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    let _other = two.node.site.start_ok();
    one.node.site.wait_ok();
    one.wait_for(&two.pods());
}

#[test]
fn w9_with_a_port_that_is_taken_a_node_that_starts_sends_nothing_in_clear() {
    let Some(all) = secluded() else { return };
    all.write("");
    let [one, two] = all.two();
    let taken = one.node.machine.run(|| UdpSocket::bind("0.0.0.0:51871").unwrap());
    let heard = all.listen(None);
    let _flood = Flood::start(&one, &two);
    let (_daemon, _other) = (one.node.site.start(), two.node.site.start_ok());
    wait_for_routes(&one);
    one.node.site.wait("said", |report| report.to_string().contains("UDP port 51871 is in use"));
    for address in two.pods() {
        assert!(!one.reaches(&address));
    }
    assert_eq!(heard.end(), "");
    drop(taken);
    one.node.site.wait_ok();
    one.wait_for(&two.pods());
}

#[test]
fn what_is_in_clear_by_choice_goes_on_while_the_rest_is_refused() {
    let Some(all) = secluded() else { return };
    let keys = all.write("");
    let [one, two] = all.two();
    // The other node has no key, and this one has no port: it would encrypt nothing anyway.
    let text = all.text(&one, "", &[keys[0].clone(), None]);
    one.node.site.write(&text);
    two.node.site.write(&all.text(&two, "", &[keys[0].clone(), None]));
    let _taken = one.node.machine.run(|| UdpSocket::bind("0.0.0.0:51871").unwrap());
    let _daemons = [one.node.site.start(), two.node.site.start()];
    one.wait_for(&two.pods());
    for address in ["10.0.0.2", "2001:db8::2"] {
        assert!(crate::nodes::ping(&one.node.machine, address));
    }
}

#[test]
fn a_rule_of_somebody_else_that_says_the_same_or_more_stays() {
    let Some(all) = secluded() else { return };
    all.write("");
    let [one, _] = all.two();
    let add = |more: &[&str]| {
        let words = ["rule", "add", "from", "10.244.1.0/24", "lookup", "201", "priority", "1"];
        one.node.machine.ip(&[&words, more].concat());
    };
    let shown = || one.node.machine.ip(&["rule", "show", "priority", "1"]);
    add(&["protocol", "99"]);
    let before = shown();
    let daemon = one.node.site.start_ok();
    assert_ne!(shown(), before, "netd makes its own");
    add(&["protocol", "177", "iif", "eth0"]);
    daemon.stop();
    let said = one.node.site.netd(&["teardown", "--yes"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let after = shown();
    assert!(after.starts_with(&before) && after.contains("iif eth0"), "{after}");
    assert_eq!(after.lines().count(), 2, "{after}");
}

#[test]
fn a_program_of_the_same_name_in_another_network_namespace_is_not_taken_for_the_nodes() {
    let Some(all) = secluded() else { return };
    all.write("");
    let [one, two] = all.two();
    let program = netd_lab::Running::start(&two.node.machine, "wireguard-go", &["-f", one.interface()]);
    wait_until("answering", PATIENCE, || {
        two.node.machine.command("wg").args(["show", one.interface()]).output().unwrap().status.success()
    });
    let said = one.node.site.netd(&["wireguard", "show"]);
    assert!(said.code == Some(1) && said.err.contains("no such WireGuard device"), "{said:?}");
    two.node.machine.ip(&["link", "del", one.interface()]);
    drop(program);
}
