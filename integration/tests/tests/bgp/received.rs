//! Routes that the router sends, in a routing table of the file's choice.

use crate::world::{PATIENCE, World, announcing};
use netd_integration_tests::bed::{CLIENT_V4, LB_V4};
use netd_integration_tests::netd::wait_until;

/// The table.
const TABLE: &str = "100";

impl World {
    /// netd's routes in a table.
    fn routes(&self, table: &str) -> String {
        // A table that nothing is in is not there.
        let shown = self.bed.lb.try_ip(&["-4", "route", "show", "table", table, "proto", "177"]);
        shown.unwrap_or_default().trim().to_owned()
    }

    fn wait_for_routes(&self, expected: &[&str]) {
        let mut last = String::new();
        let holds = || {
            last = self.routes(TABLE);
            let lines: Vec<&str> = last.lines().collect();
            lines.len() == expected.len()
                && expected.iter().zip(lines).all(|(prefix, line)| line.starts_with(prefix))
        };
        wait_until(&format!("routes {expected:?}"), PATIENCE, holds);
        let by = format!("via {CLIENT_V4} dev eth0");
        assert!(last.lines().all(|line| line.contains(&by)), "{last}");
    }
}

#[test]
fn received_routes_are_in_their_table_as_long_as_the_session_lives_and_the_file_asks_for_them() {
    let Some(world) = World::new() else { return };
    let bed = &world.bed;
    let family = ["router bgp 64513", "address-family ipv4 unicast"];
    let network = |line: &str| world.frr.configure(&[family[0], family[1], line]);
    world.frr.configure(&[family[0], "no bgp network import-check"]);
    network("network 203.0.113.0/24");
    network("network 198.51.100.0/25");
    let plain = announcing("managed", &[10]);
    let importing = plain.replace("asn = 64513\n", "asn = 64513\nimport = { table = 100 }\n");
    bed.write(&importing);
    let daemon = bed.start_ok();
    world.told(&[10]);
    world.wait_for_routes(&["198.51.100.0/25", "203.0.113.0/24"]);
    assert_eq!(world.routes("main"), "");
    network("no network 203.0.113.0/24");
    world.wait_for_routes(&["198.51.100.0/25"]);

    // Another netd takes away nothing that it has not heard of yet.
    daemon.kill();
    let daemon = bed.start_ok();
    assert!(bed.status()["last_change"].is_null());
    world.wait_for_routes(&["198.51.100.0/25"]);

    world.frr.configure(&[family[0], &format!("neighbor {LB_V4} shutdown")]);
    world.wait_for_routes(&[]);
    world.frr.configure(&[family[0], &format!("no neighbor {LB_V4} shutdown")]);
    world.wait_for_routes(&["198.51.100.0/25"]);
    let sessions = world.frr.sessions(LB_V4);
    bed.write(&plain);
    bed.wait_ok();
    world.wait_for_routes(&[]);
    assert_eq!(world.frr.sessions(LB_V4), sessions);
    world.told(&[10]);
    daemon.stop();
}
