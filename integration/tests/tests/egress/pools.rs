//! Egress addresses from pools: given, seen by the server, kept, written into the file, and exhausted.

use crate::world::{BY_B, SERVER, Waits, World, policy, wait_until};
use netd_integration_tests::Lab;

/// What the pool gives first; the gateway's network has both.
const FIRST: [&str; 2] = ["192.168.33.96", "2001:db8:33::60"];

fn pool(v4: &str) -> String {
    format!("\n[[ip_pools]]\nname = \"out\"\nranges = [\"{v4}\", \"2001:db8:33::60-2001:db8:33::6f\"]\n")
}

/// The policy without addresses of its own.
fn from_pool() -> String {
    policy(BY_B).replace("ips = [\"192.168.33.100\", \"2001:db8:33::100\"]", "pool = \"out\"")
}

#[test]
fn an_address_of_a_pool_is_what_the_server_sees_and_it_stays_when_the_pool_grows() {
    let Some(lab) = Lab::new() else { return };
    let world = World::new(&lab);
    let gateway = &world.mesh.nodes[1].site;
    let network = "mode = \"cross-subnet\"\n";
    world.mesh.apply(&format!("{network}{}{}", pool("192.168.33.96/30"), from_pool()));
    let plan = gateway.netd(&["plan"]);
    assert!(!plan.out.contains("attachment") && !plan.out.contains(" vip "), "{plan:?}");
    let seen = |world: &World| {
        for (to, egress) in SERVER.iter().zip(FIRST) {
            assert_eq!(world.ask(0, to, Waits::ForAnswer).from.to_string(), egress);
        }
    };
    seen(&world);
    // Lower addresses come before the one that it has.
    let wider = format!("{network}{}{}", pool("192.168.33.64/26"), from_pool());
    world.mesh.write(&wider);
    for node in &world.mesh.nodes {
        node.site.apply();
    }
    seen(&world);
    let said = gateway.netd(&["allocate"]);
    assert!(said.out.contains("egress/legacy") && said.out.contains(FIRST[1]), "{said:?}");
    let said = gateway.netd(&["allocate", "--write"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let written = std::fs::read_to_string(gateway.config_file()).unwrap();
    let [v4, v6] = FIRST;
    assert_eq!(written.matches(&format!("ips = [\"{v4}\", \"{v6}\"]")).count(), 1, "{written}");
    assert!(gateway.netd(&["plan"]).out.contains("Nothing to do"));
}

#[test]
fn a_policy_that_cannot_keep_its_address_waits_to_be_allowed() {
    let Some(lab) = Lab::new() else { return };
    let world = World::new(&lab);
    let gateway = &world.mesh.nodes[1].site;
    let network = "mode = \"cross-subnet\"\n";
    world.mesh.write(&format!("{network}{}{}", pool("192.168.33.96/30"), from_pool()));
    gateway.apply();
    world.mesh.write(&format!("{network}{}{}", pool("192.168.33.104/30"), from_pool()));
    let plan = gateway.netd(&["plan"]);
    let brake = "it would RENUMBER egress/legacy/ipv4 from 192.168.33.96 to 192.168.33.104";
    assert!(plan.out.contains(brake), "{plan:?}");
    gateway.netd(&["apply"]);
    assert!(world.mesh.nodes[1].configuration().contains("192.168.33.96/32"));
    let (_, rest) = plan.out.split_once("--allow ").unwrap();
    let id = rest.split_whitespace().next().unwrap();
    let said = gateway.netd(&["apply", "--allow", id]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let after = world.mesh.nodes[1].configuration();
    assert!(after.contains("192.168.33.104/32") && !after.contains("192.168.33.96/32"), "{after}");
}

#[test]
fn packets_of_a_policy_for_which_the_pool_has_nothing_left_are_dropped_and_the_status_says_why() {
    let Some(lab) = Lab::new() else { return };
    let world = World::new(&lab);
    let first = from_pool();
    let second = first
        .replace("\"legacy\"", "\"other\"")
        .replace("10.244.0.0/16\", \"fd00:244::/32", "10.244.1.0/24\", \"fd00:244:1::/64");
    world.mesh.write(&format!("mode = \"vxlan\"\n{}{first}{second}", pool("192.168.33.96/32")));
    for node in &world.mesh.nodes {
        // One allocation waits.
        assert_eq!(node.site.netd(&["apply"]).code, Some(1));
    }
    world.ask_in_vain(0, SERVER[0], 5, || world.has_dropped(0, 5));
    let status = world.mesh.nodes[0].site.netd(&["status"]).out;
    assert!(status.contains("policy other: its pool has no IPv4 address for it"), "{status}");
    assert!(status.contains("pool out is exhausted: 1 of 1 IPv4 addresses are taken"), "{status}");
    // The other family, and other pods, are not concerned.
    assert_eq!(world.ask(0, SERVER[1], Waits::ForAnswer).from.to_string(), "2001:db8:33::61");
    assert_eq!(world.ask(1, SERVER[0], Waits::ForAnswer).from.to_string(), "192.168.33.96");
}

#[test]
fn a_balancers_pool_lets_answers_to_egress_addresses_through() {
    let Some(lab) = Lab::new() else { return };
    let world = World::new(&lab);
    let service = "\n[[services]]\nname = \"web\"\npool = \"out\"\nfamilies = [\"ipv4\"]\n\
                   ports = [{ protocol = \"tcp\", port = 80 }]\n";
    world.mesh.write(&format!("mode = \"vxlan\"\n{}{service}{}", pool("192.168.33.96/30"), from_pool()));
    let daemons: Vec<_> = world.mesh.nodes[..2].iter().map(|node| node.site.start_ok()).collect();
    wait_until("the program is there", || {
        world.mesh.nodes[1].machine.ip(&["-d", "link", "show", "eth0"]).contains("prog/xdp")
    });
    for (to, egress) in SERVER.iter().zip(["192.168.33.97", "2001:db8:33::60"]) {
        let seen = world.ask(0, to, Waits::ForAnswer);
        assert!(seen.from.to_string() == egress && seen.is_answered, "{seen:?}");
    }
    drop(daemons);
}
