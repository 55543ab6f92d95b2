//! What routers hear of VIPs beyond their addresses: each its own attributes, and aggregates.

use crate::world::{PATIENCE, World, announcing};
use netd_integration_tests::bed::{CLIENT_V4, LB_V4, TUNNEL_V4, vip_v4, vip_v6};
use netd_integration_tests::netd::wait_until;
use netd_lab::{Bird, installed};
use std::os::unix::fs::PermissionsExt as _;

/// Where the second router is: on the machine of the first backend.
const SECOND: &str = "10.0.0.1";

/// Waits until birdc shows all of these of the route to a prefix.
fn shows(bird: &Bird, prefix: &str, parts: &[&str]) {
    let mut last = String::new();
    let holds = || {
        last = bird.show(&format!("show route all {prefix}"));
        parts.iter().all(|part| last.contains(part))
    };
    wait_until(&format!("{prefix} with {parts:?}"), PATIENCE, holds);
}

#[test]
fn b14_two_routers_hear_other_attributes_of_one_vip_and_a_new_rule_resets_neither_session() {
    if !installed(&[Bird::PROGRAM]) {
        return;
    }
    let Some(world) = World::new() else { return };
    let bed = &world.bed;
    let file = bed.folder().join("password");
    std::fs::write(&file, "s3cret\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let protocol = format!(
        "local {SECOND} as 64512; neighbor {TUNNEL_V4} as 64512; multihop 2; password \"s3cret\"; hold time 9; \
         connect delay time 1; connect retry time 2;"
    );
    let bird = Bird::start(&bed.backends[0], bed.folder(), &protocol);
    let base = announcing("managed", &[10, 11]);
    let peer = format!(
        "\n[[bgp.peers]]\nname = \"second\"\naddress = \"{SECOND}\"\nasn = 64512\nsource = \"{TUNNEL_V4}\"\n\
         password_file = \"{}\"\nfamilies = [\"ipv4\", \"ipv6\"]\n",
        file.display()
    );
    let rules = |preference: u32| {
        format!(
            "\n[[bgp.announcements]]\ncommunities = [\"64512:1\"]\nprepend = 1\n\n[[bgp.announcements]]\n\
             services = [\"web-10\"]\npeers = [\"second\"]\nlarge_communities = [\"64512:7:8\"]\n\
             local_preference = {preference}\n"
        )
    };
    bed.write(&format!("{base}{peer}{}", rules(300)));
    let daemon = bed.start_ok();
    world.told(&[10, 11]);
    let both = |number| [format!("{}/32", vip_v4(number)), format!("{}/128", vip_v6(number))];
    for prefix in both(10) {
        shows(&bird, &prefix, &["local_pref: 300", "(64512,1)", "(64512, 7, 8)"]);
    }
    for prefix in both(11) {
        shows(&bird, &prefix, &["local_pref: 100", "(64512,1)"]);
        assert!(!bird.show(&format!("show route all {prefix}")).contains("large_community"));
    }
    let at_first = || {
        let path = world.path(10);
        assert_eq!(path["aspath"]["string"], "64512 64512", "{path}");
        assert_eq!(path["community"]["string"], "64512:1", "{path}");
        assert!(path["largeCommunity"].is_null(), "{path}");
    };
    at_first();
    let since = bird.show("show protocols netd");

    bed.write(&format!("{base}{peer}{}", rules(400)));
    for prefix in both(10) {
        shows(&bird, &prefix, &["local_pref: 400", "(64512, 7, 8)"]);
    }
    bed.wait_ok();
    at_first();
    assert_eq!(bird.show("show protocols netd"), since);
    assert_eq!(world.frr.sessions(LB_V4), Some(1));

    // Nothing is left of the rule when it is gone, and another netd finds all as it should be.
    bed.write(&format!("{base}{peer}"));
    wait_until("plain", PATIENCE, || !bird.show("show route all").contains("64512,"));
    bed.wait_ok();
    daemon.kill();
    let daemon = bed.start_ok();
    assert!(bed.status()["last_change"]["applied"].as_u64().is_none_or(|applied| applied == 0));
    assert_eq!(bird.show("show protocols netd"), since);
    daemon.stop();
}

#[test]
fn an_aggregate_is_announced_for_vips_and_what_nobody_has_of_it_is_refused() {
    let text = announcing("managed", &[10, 11]);
    let rule = "\n[[bgp.announcements]]\naggregate = { ipv4 = 24, ipv6 = 64 }\n";
    let Some(world) = World::new() else { return };
    let bed = &world.bed;
    bed.write(&format!("{text}{rule}"));
    let daemon = bed.start_ok();
    wait_until("told", PATIENCE, || {
        (world.frr.prefixes("ipv4"), world.frr.prefixes("ipv6")) == (1, 1)
            && world.frr.path("ipv4", "192.0.2.0/24")["valid"] == true
            && world.frr.path("ipv6", "2001:db8:100::/64")["valid"] == true
    });
    for (family, prefix) in [("-4", "192.0.2.0/24"), ("-6", "2001:db8:100::/64")] {
        let route = bed.lb.ip(&[family, "route", "show", "proto", "177", "type", "unreachable"]);
        assert!(route.contains(prefix), "{route}");
    }
    for nobody in [vip_v4(77), vip_v6(77)] {
        let mut ping = bed.client.command("ping");
        let said = ping.args(["-c", "1", "-W", "10", &nobody.to_string()]).output().unwrap();
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(said.to_lowercase().contains("unreachable") || said.contains("No route"), "{said}");
    }
    // One of two VIPs is enough for it.
    bed.write(&format!("{}{rule}", announcing("managed", &[11])));
    bed.wait_ok();
    assert_eq!(world.frr.path("ipv4", "192.0.2.0/24")["valid"], true);
    assert_eq!(world.frr.sessions(LB_V4), Some(1));
    daemon.stop();
    let said = bed.netd(&["teardown", "--yes"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(bed.lb.ip(&["-4", "route", "show", "proto", "177"]).trim(), "");
}

#[test]
fn what_cilium_says_of_bgp_is_imported_and_announced() {
    let Some(world) = World::new() else { return };
    let bed = &world.bed;
    let yaml = bed.folder().join("bgp.yaml");
    let text = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: bgp-config\ndata:\n  config.yaml: |\n    peers:\n      \
         - peer-address: {CLIENT_V4}\n        peer-asn: 64513\n        my-asn: 64512\n    address-pools:\n      \
         - name: default\n        protocol: bgp\n        addresses:\n          - 192.0.2.32/28\n"
    );
    std::fs::write(&yaml, text).unwrap();
    let imported = bed.netd(&["import", "cilium-bgp", &yaml.display().to_string()]);
    assert_eq!(imported.code, Some(0), "{imported:?}");
    let service = "\n[[services]]\nname = \"web\"\npool = \"default\"\nports = [{ protocol = \"tcp\", port = 80 }]\n\
                   backends = [{ address = \"10.0.0.1\" }]\n";
    // Its router opens sessions, too, and Cilium's MetalLB does not listen.
    bed.write(&format!(
        "{}{service}\n[[bgp.announcements]]\npools = [\"default\"]\ncommunities = [\"64512:9\"]\n{}",
        imported.out, "\n[load_balancer]\ndevices = [\"eth0\"]\n"
    ));
    let said = bed.netd(&["validate"]);
    assert_eq!(said.code, Some(0), "{said:?}\n{}", imported.out);
    let daemon = bed.start_ok();
    wait_until("told", PATIENCE, || {
        world.frr.path("ipv4", "192.0.2.32/32")["community"]["string"] == "64512:9"
    });
    daemon.stop();
}
