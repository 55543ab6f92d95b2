//! Programs on devices where the kernel has no links for them: filters of tc, beside those of others.
#![allow(clippy::unwrap_used, reason = "tests")]

use netd_integration_tests::Lab;
use netd_integration_tests::mesh::{Mesh, file};
use netd_integration_tests::netd::Said;
use std::path::PathBuf;

/// netd as on a kernel before Linux 6.6.
const WITHOUT_LINKS: [&str; 2] = ["env", "NETD_TEST_WITHOUT_TCX=1"];

/// Nodes whose pods' packets go past the stack.
fn mesh(lab: &Lab) -> Mesh {
    let mesh = Mesh::new(lab);
    mesh.write("mode = \"vxlan\"\npod_devices = [\"lxc*\"]");
    mesh
}

fn netd(mesh: &Mesh, node: usize, command: &[&str]) -> Said {
    mesh.nodes[node].site.netd_under(&WITHOUT_LINKS, command).output().unwrap().into()
}

fn apply(mesh: &Mesh) {
    for node in 0..3 {
        let said = netd(mesh, node, &["apply"]);
        assert_eq!(said.code, Some(0), "{said:?}");
        assert_eq!(netd(mesh, node, &["plan"]).code, Some(0));
    }
}

/// What `tc` says on node a.
fn tc(mesh: &Mesh, arguments: &[&str]) -> String {
    let output = mesh.nodes[0].machine.command("tc").args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The filter of netd's on what comes from node a's pod, and its priority.
fn own(mesh: &Mesh) -> Option<(String, String)> {
    let shown = tc(mesh, &["filter", "show", "dev", "lxc1", "ingress"]);
    let name = format!("netd {}", mesh.nodes[0].site.bpf_dir().join("overlay").display());
    let line = shown.lines().find(|line| line.contains(&name))?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "pref").unwrap();
    Some((line.to_owned(), words[at + 1].to_owned()))
}

/// A map of the programs in force on node a.
fn map(mesh: &Mesh) -> PathBuf {
    let root = mesh.nodes[0].site.bpf_dir().join("overlay");
    let folders = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path().join("pods"));
    folders.into_iter().find(|path| path.exists()).unwrap()
}

#[test]
fn filters_take_the_place_of_links_and_those_of_others_stay() {
    let Some(lab) = Lab::new() else { return };
    let mesh = mesh(&lab);
    tc(&mesh, &["qdisc", "add", "dev", "lxc1", "clsact"]);
    let foreign = ["filter", "add", "dev", "lxc1", "ingress", "pref", "40000", "protocol", "all", "u32"];
    tc(&mesh, &[&foreign[..], &["match", "u32", "0x1", "0xffffffff", "at", "0", "flowid", "1:1"]].concat());
    let before = tc(&mesh, &["filter", "show", "dev", "lxc1", "ingress"]);
    apply(&mesh);
    mesh.assert_reach(&[(0, 1), (1, 2), (2, 0)]);
    let (line, priority) = own(&mesh).unwrap();
    assert!(line.contains("direct-action") && priority == "40001", "{line}");

    // What somebody takes off comes back.
    tc(&mesh, &["filter", "del", "dev", "lxc1", "ingress", "pref", &priority]);
    assert_eq!(netd(&mesh, 0, &["plan"]).code, Some(2));
    apply(&mesh);
    assert!(own(&mesh).is_some());

    let said = netd(&mesh, 0, &["teardown", "--yes"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(tc(&mesh, &["filter", "show", "dev", "lxc1", "ingress"]), before);
    assert!(!mesh.nodes[0].site.bpf_dir().join("overlay").exists());
}

#[test]
fn a_program_is_replaced_in_its_filter_without_losing_a_packet() {
    let Some(lab) = Lab::new() else { return };
    let mesh = mesh(&lab);
    apply(&mesh);
    mesh.assert_reach(&[(0, 1)]);
    let mut lines = vec![own(&mesh).unwrap().0];
    let (sent, back) = mesh.stream(0, 1, || {
        for _ in 0..5 {
            // Programs without one of their pins are as good as those of another version.
            std::fs::remove_file(map(&mesh)).unwrap();
            let said = netd(&mesh, 0, &["apply"]);
            assert_eq!(said.code, Some(0), "{said:?}");
            lines.push(own(&mesh).unwrap().0);
        }
    });
    assert!(sent > 10 && back == sent, "{} of {sent} packets were lost", sent - back);
    assert!(lines.windows(2).all(|pair| pair[0] != pair[1]), "{lines:?}");
    assert_eq!(netd(&mesh, 0, &["plan"]).code, Some(0));
}

#[test]
fn a_device_that_goes_and_comes_back_gets_its_filter_again() {
    let Some(lab) = Lab::new() else { return };
    let mesh = mesh(&lab);
    apply(&mesh);
    let node = &mesh.nodes[0];
    node.machine.ip(&["link", "del", "lxc1"]);
    assert_eq!(netd(&mesh, 0, &["apply"]).code, Some(0));
    node.machine.veth("lxc1", &node.pod, "eth0");
    node.site.write(&file("mode = \"vxlan\"\npod_devices = [\"lxc*\"]"));
    assert_eq!(netd(&mesh, 0, &["apply"]).code, Some(0));
    assert!(own(&mesh).is_some());
}
