//! By what way nodes ask each other, and who is heard: IPv6 alone, and a common secret.

use crate::failover::{A, B, C, SOON, Watched, file};
use netd_integration_tests::Lab;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// A file with a secret that nobody else may read; the line that names it.
fn key(folder: &Path, secret: &str) -> String {
    let path = folder.join("failover.key");
    std::fs::write(&path, secret).unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    format!("{SOON}key_file = \"{}\"\n", path.display())
}

#[test]
fn gateways_that_have_ipv6_alone_ask_each_other_by_it_and_take_over() {
    let Some(lab) = Lab::new() else { return };
    let mut watched = Watched::with_files(&lab, |_, _| {
        let text = file(SOON);
        ["10.0.0.1", "10.0.0.2", "10.0.9.3"]
            .iter()
            .fold(text, |text, address| text.replace(&format!("\"{address}\", "), ""))
    });
    watched.wait_for(B);
    for node in [A, B, C] {
        let ports = watched.world.mesh.nodes[node].machine.command("ss").args(["-Hlun"]).output().unwrap();
        let ports = String::from_utf8_lossy(&ports.stdout).into_owned();
        let asked: Vec<&str> = ports.lines().filter(|line| line.contains(":9473")).collect();
        assert!(asked.len() == 1 && asked.iter().all(|line| line.contains("[2001:db8:")), "{ports}");
    }
    watched.kill(B);
    watched.wait_for(A);
    watched.start(B);
    watched.wait_for(B);
}

#[test]
fn with_a_key_only_those_are_heard_that_have_it() {
    let Some(lab) = Lab::new() else { return };
    let secret =
        |node| if node == C { "another secret of some length" } else { "the secret of the gateways" };
    let mut watched = Watched::with_files(&lab, |node, folder| file(&key(folder, secret(node))));
    watched.wait_for_status(A, "Egress gateways: a up; b up");
    watched.wait_for_status(B, "Egress gateways: a up; b up");
    watched.wait_for_status(C, "Egress gateways: a down; b down");
    // A node that has the key counts from its start on.
    let site = &watched.world.mesh.nodes[C].site;
    key(site.folder(), secret(A));
    watched.kill(C);
    watched.start(C);
    watched.wait_for(B);
    watched.wait_until_both_are_up();
    watched.kill(B);
    watched.wait_for(A);
}

#[test]
fn a_node_that_cannot_read_its_key_hears_nobody_and_says_so() {
    let Some(lab) = Lab::new() else { return };
    let watched = Watched::with_files(&lab, |node, folder| {
        let more = key(folder, if node == C { "short" } else { "the secret of the gateways" });
        file(&more)
    });
    watched.wait_for_status(A, "Egress gateways: a up; b up");
    watched.wait_for_status(C, "The egress gateways are not watched: the key file");
    watched.wait_for_status(C, "holds fewer than 16 bytes");
}
