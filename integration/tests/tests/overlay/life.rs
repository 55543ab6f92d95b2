//! Files that change under traffic, netd that dies, devices that are taken or lost, and the end.

use netd_integration_tests::Lab;
use netd_integration_tests::mesh::Mesh;
use std::net::UdpSocket;

#[test]
fn changing_the_mode_in_two_steps_loses_no_packet() {
    let Some(lab) = Lab::new() else { return };
    let mesh = Mesh::new(&lab);
    for way in ["", "pod_devices = [\"lxc*\"]\n"] {
        let network = |lines: &str| {
            mesh.write(&format!("{lines}\n{way}"));
            for node in &mesh.nodes[..2] {
                node.site.wait("settled", |report| {
                    let text = std::fs::read(node.site.config_file()).unwrap();
                    let digest = netd_integration_tests::netd::digest(&text);
                    // Directly there is no way to c, and the tunnel stays as long as it leads there.
                    let pending = report["not_ready"].as_array().map_or(0, Vec::len);
                    report["config"]["in_force"]["sha256"] == digest.as_str() && pending <= 4
                });
            }
        };
        mesh.write(&format!("mode = \"direct\"\n{way}"));
        let daemons: Vec<_> = mesh.nodes[..2].iter().map(|node| node.site.start()).collect();
        network("mode = \"direct\"");
        mesh.assert_reach(&[(0, 1)]);
        let (sent, back) = mesh.stream(0, 1, || {
            network("mode = \"direct\"\ntunnel = \"vxlan\"");
            network("mode = \"vxlan\"\ntunnel = \"vxlan\"");
            network("mode = \"cross-subnet\"\ntunnel = \"vxlan\"");
            network("mode = \"vxlan\"");
            network("mode = \"direct\"\ntunnel = \"vxlan\"");
            network("mode = \"direct\"");
        });
        assert!(sent > 100 && back == sent, "{} of {sent} packets were lost", sent - back);
        daemons.into_iter().for_each(netd_integration_tests::netd::Daemon::stop);
    }
}

/// How many are lost is chance; what is sure is that those come through that are sent when both nodes are done.
#[test]
fn changing_the_mode_in_one_step_loses_packets_only_until_both_nodes_are_done() {
    let Some(lab) = Lab::new() else { return };
    let mesh = Mesh::new(&lab);
    let change = |mode: &str| {
        let lines = format!("mode = \"{mode}\"");
        mesh.write(&lines);
        for node in &mesh.nodes[..2] {
            node.site.wait("settled", |report| {
                let text = std::fs::read(node.site.config_file()).unwrap();
                let digest = netd_integration_tests::netd::digest(&text);
                let pending = report["not_ready"].as_array().map_or(0, Vec::len);
                report["config"]["in_force"]["sha256"] == digest.as_str() && pending <= 4
            });
        }
    };
    mesh.write("mode = \"direct\"");
    let daemons: Vec<_> = mesh.nodes[..2].iter().map(|node| node.site.start()).collect();
    change("direct");
    mesh.assert_reach(&[(0, 1)]);
    for mode in ["vxlan", "direct"] {
        let (sent, back) = mesh.stream(0, 1, || change(mode));
        println!("to {mode} in one step: {} of {sent} packets were lost", sent - back);
        let (sent, back) = mesh.stream(0, 1, || mesh.assert_reach(&[(1, 0)]));
        assert!(sent > 0 && back == sent, "{} of {sent} packets were lost in mode {mode}", sent - back);
    }
    daemons.into_iter().for_each(netd_integration_tests::netd::Daemon::stop);
}

#[test]
fn killing_and_restarting_netd_changes_nothing_and_loses_nothing() {
    let Some(lab) = Lab::new() else { return };
    let mesh = Mesh::new(&lab);
    mesh.apply("mode = \"vxlan\"\npod_devices = [\"lxc*\"]");
    let daemon = mesh.nodes[0].site.start_ok();
    mesh.assert_reach(&[(0, 2)]);
    let before = mesh.nodes[0].configuration();
    let (sent, back) = mesh.stream(0, 2, || {
        daemon.kill();
        let again = mesh.nodes[0].site.start_ok();
        again.kill();
    });
    assert!(sent > 10 && back == sent, "{} of {sent} packets were lost", sent - back);
    assert_eq!(mesh.nodes[0].configuration(), before);
    mesh.assert_done();
}

#[test]
fn a_teardown_leaves_nothing() {
    let Some(lab) = Lab::new() else { return };
    let mesh = Mesh::new(&lab);
    let [node, ..] = &mesh.nodes;
    let before = node.configuration();
    mesh.apply("mode = \"vxlan\"\npod_devices = [\"lxc*\"]");
    assert!(node.tunnel().is_some());
    let said = node.site.netd(&["teardown", "--yes"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(node.configuration(), before);
    assert!(!node.site.bpf_dir().join("overlay").exists());
}

#[test]
fn a_device_that_somebody_removes_comes_back_with_its_routes() {
    let Some(lab) = Lab::new() else { return };
    let mesh = Mesh::new(&lab);
    mesh.apply("mode = \"vxlan\"\npod_devices = [\"lxc*\"]");
    let [node, ..] = &mesh.nodes;
    let _daemon = node.site.start_ok();
    let device = node.tunnel().unwrap();
    node.machine.ip(&["link", "del", &device]);
    mesh.assert_reach(&[(0, 1)]);
    node.site.wait_ok();
    mesh.assert_done();
}

#[test]
fn a_foreign_device_of_the_name_is_a_conflict_and_stays_as_it_is() {
    let Some(lab) = Lab::new() else { return };
    let mesh = Mesh::new(&lab);
    mesh.apply("mode = \"vxlan\"");
    let [node, ..] = &mesh.nodes;
    let device = node.tunnel().unwrap();
    node.machine.ip(&["link", "del", &device]);
    node.machine.ip(&["link", "add", &device, "type", "vxlan", "id", "9", "dstport", "9999", "dev", "eth0"]);
    let before = node.machine.ip(&["-d", "link", "show", &device]);
    let said = node.site.netd(&["apply"]);
    assert_ne!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains("a vxlan device without the alias netd:"), "{said:?}");
    assert_eq!(node.machine.ip(&["-d", "link", "show", &device]), before);
    node.machine.ip(&["link", "del", &device]);
    node.site.apply();
    assert_eq!(node.tunnel(), Some(device));
}

#[test]
fn a_port_that_is_in_use_is_told_of() {
    let Some(lab) = Lab::new() else { return };
    let mesh = Mesh::new(&lab);
    let [node, ..] = &mesh.nodes;
    let _taken = node.machine.run(|| UdpSocket::bind("0.0.0.0:8472")).unwrap();
    mesh.write("mode = \"vxlan\"");
    let said = node.site.netd(&["apply"]);
    assert!(said.out.contains("UDP port 8472 is in use on this node"), "{said:?}");
}

#[test]
fn k33_a_tunnel_that_the_kernel_does_not_have_is_told_of_and_the_one_in_use_stays() {
    let Some(lab) = Lab::new() else { return };
    let mesh = Mesh::new(&lab);
    let probe = lab.namespace("probe");
    if probe.try_ip(&["link", "add", "g", "type", "geneve", "external"]).is_ok() {
        eprintln!("SKIPPED: this kernel has geneve");
        return;
    }
    mesh.apply("mode = \"vxlan\"");
    mesh.write("mode = \"geneve\"");
    let said = mesh.nodes[0].site.netd(&["apply"]);
    assert!(said.out.contains("this kernel has no geneve"), "{said:?}");
    mesh.assert_reach(&[(0, 1), (0, 2)]);
}
