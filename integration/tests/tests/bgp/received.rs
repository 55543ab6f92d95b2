//! Routes that the router sends, in a routing table of the file's choice.

use crate::world::{PATIENCE, World, announcing};
use netd_integration_tests::bed::{CLIENT_V4, CLIENT_V6, LB_V4, LB_V6};
use netd_integration_tests::netd::wait_until;

/// The table.
const TABLE: &str = "100";

impl World {
    /// netd's routes in a table, `-4` or `-6`.
    fn routes(&self, family: &str, table: &str) -> String {
        // A table that nothing is in is not there.
        let shown = self.bed.lb.try_ip(&[family, "route", "show", "table", table, "proto", "177"]);
        shown.unwrap_or_default().trim().to_owned()
    }

    fn wait_for_routes(&self, expected: &[&str]) {
        self.wait_for(("-4", CLIENT_V4), expected);
    }

    fn wait_for(&self, (family, router): (&str, &str), expected: &[&str]) {
        let mut last = String::new();
        let holds = || {
            last = self.routes(family, TABLE);
            let lines: Vec<&str> = last.lines().collect();
            lines.len() == expected.len()
                && expected.iter().zip(lines).all(|(prefix, line)| line.starts_with(prefix))
        };
        wait_until(&format!("routes {expected:?}"), PATIENCE, holds);
        let by = format!("via {router} dev eth0");
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
    assert_eq!(world.routes("-4", "main"), "");
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

#[test]
fn routes_of_both_families_are_taken_and_those_that_nobody_else_has_are_left_out_and_said() {
    let Some(world) = World::new() else { return };
    let bed = &world.bed;
    let router = "router bgp 64513";
    world.frr.configure(&[
        router,
        "no bgp network import-check",
        &format!("neighbor {LB_V6} remote-as 64512"),
        &format!("neighbor {LB_V6} timers connect 1"),
        "address-family ipv6 unicast",
        &format!("neighbor {LB_V6} activate"),
    ]);
    let network =
        |family: &str, prefix: &str| world.frr.configure(&[router, family, &format!("network {prefix}")]);
    let (v4, v6) = ("address-family ipv4 unicast", "address-family ipv6 unicast");
    for prefix in ["0.0.0.0/0", "169.254.7.0/24", "203.0.113.0/24"] {
        network(v4, prefix);
    }
    for prefix in ["2001:db8:f00::/48", "::/0", "fd00:244:2::/64"] {
        network(v6, prefix);
    }
    // The session over IPv4 carries IPv4 only here, because the router names itself as the next hop by its address.
    let nodes = format!(
        "\n[[nodes]]\nname = \"lb\"\naddresses = [\"{LB_V4}\", \"{LB_V6}\"]\n\n[[nodes]]\nname = \"other\"\n\
         addresses = [\"2001:db8::77\"]\npod_cidrs = [\"fd00:244:2::/64\"]\n"
    );
    let plain =
        announcing("managed", &[10]).replace("families = [\"ipv4\", \"ipv6\"]", "families = [\"ipv4\"]");
    let text = plain.replace("asn = 64513\n", "asn = 64513\nimport = { table = 100 }\n");
    let six = format!(
        "\n[[bgp.peers]]\nname = \"router-6\"\naddress = \"{CLIENT_V6}\"\nasn = 64513\nfamilies = [\"ipv6\"]\n\
         import = {{ table = 100 }}\n{nodes}"
    );
    bed.write(&format!("{text}{six}"));
    let daemon = bed.start_ok();
    world.wait_for(("-4", CLIENT_V4), &["203.0.113.0/24"]);
    world.wait_for(("-6", CLIENT_V6), &["2001:db8:f00::/48"]);
    let report = bed.wait_at_most(PATIENCE, "said", |report| {
        let notes = report["notes"].to_string();
        notes.contains("1 to everywhere (`import.default_route` takes it), 1 to where nothing is routed (169.254.7.0/24)")
            && notes.contains("1 to pods of the file (fd00:244:2::/64)")
    });
    assert_eq!(report["word"], "ok", "{report}");
    let chosen = "import = { table = 100, default_route = true }";
    bed.write(&format!("{text}{six}").replace("import = { table = 100 }", chosen));
    world.wait_for(("-4", CLIENT_V4), &["default", "203.0.113.0/24"]);
    world.wait_for(("-6", CLIENT_V6), &["2001:db8:f00::/48", "default"]);
    daemon.stop();
}
