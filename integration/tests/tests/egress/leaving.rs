//! A gateway whose machine goes down: nobody waits for it.

use crate::failover::{A, B, LATE, Watched};
use netd_integration_tests::Lab;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

/// What a gateway says when it goes for good.
const SAID: &str = "the other gateways need not wait for this one";

#[test]
fn a_gateway_whose_machine_goes_down_is_not_waited_for() {
    let Some(lab) = Lab::new() else { return };
    let mut watched = Watched::new(&lab, LATE);
    let site = &watched.world.mesh.nodes[B].site;
    // The service manager, as it answers then.
    let folder = site.folder().join("bin");
    std::fs::create_dir(&folder).unwrap();
    let program = folder.join("systemctl");
    std::fs::write(&program, "#!/bin/sh\n[ \"$1\" = is-system-running ] && echo stopping\n").unwrap();
    std::fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    let path = format!("PATH={}:{}", folder.display(), std::env::var("PATH").unwrap());
    watched.netds[B].take().unwrap().stop();
    let log = folder.join("log");
    let said = std::fs::File::create(&log).unwrap();
    let netd = site.spawn_under(&["env", &path, "NOTIFY_SOCKET=/nowhere/notify"], said);
    watched.netds[B] = Some(netd);
    watched.wait_until_both_are_up();
    watched.wait_for(B);
    watched.netds[B].take().unwrap().stop();
    let said = std::fs::read_to_string(log).unwrap();
    assert!(watched.leases(B).is_empty() && said.contains(SAID), "{said}");
    watched.wait_for(A);
}
