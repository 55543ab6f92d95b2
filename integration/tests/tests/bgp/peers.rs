//! Sessions as the file describes them, and what is shown of them.

use crate::world::{PATIENCE, World, announcing, end_daemon, note_of};
use netd_integration_tests::bed::{CLIENT_V4, CLIENT_V6, LB_V4, vip_v4, vip_v6};
use netd_integration_tests::netd::wait_until;
use netd_integration_tests::{Bed, Lab};
use netd_lab::{Bird, installed};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt as _;

/// An address of the balancer that nothing chooses by itself.
const SOURCE: &str = "2001:db8::fe";

/// A balancer with BIRD where the client is.
struct Birds {
    bird: Bird,
    bed: Bed,
}

impl Birds {
    fn new(protocol: &str) -> Option<Self> {
        if !installed(&[("gobgpd", "gobgpd"), Bird::PROGRAM]) {
            return None;
        }
        let lab = Lab::new()?;
        let bed = Bed::new(&lab, 2);
        bed.lb.ip(&["addr", "add", &format!("{SOURCE}/64"), "dev", "eth0", "nodad"]);
        Some(Self { bird: Bird::start(&bed.client, bed.folder(), protocol), bed })
    }
}

impl Drop for Birds {
    fn drop(&mut self) {
        end_daemon(&self.bed);
    }
}

#[test]
fn over_ipv6_bird_hears_ipv4_with_an_ipv6_next_hop_from_a_source_with_a_password_and_with_ttl_security() {
    let protocol = format!(
        "local {CLIENT_V6} as 64513; neighbor {SOURCE} as 64512; ttl security on; password \"s3cret\"; hold time 9; \
         connect delay time 1; connect retry time 2;"
    );
    let Some(world) = Birds::new(&protocol) else { return };
    let Birds { bird, bed } = &world;
    let file = bed.folder().join("password");
    std::fs::write(&file, "s3cret\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let text = announcing("managed", &[10]).replace(CLIENT_V4, CLIENT_V6);
    let with = |ttl_security: bool| {
        format!(
            "{text}source = \"{SOURCE}\"\npassword_file = \"{}\"\nextended_next_hop = true\n\
             ttl_security = {ttl_security}\n",
            file.display()
        )
    };
    bed.write(&with(true));
    let daemon = bed.start_ok();
    let vips = [format!("{}/32", vip_v4(10)), format!("{}/128", vip_v6(10))];
    let told = || {
        let routes = bird.show("show route all");
        let hops = routes.lines().filter(|line| line.contains(&format!("BGP.next_hop: {SOURCE}"))).count();
        hops == 2 && vips.iter().all(|vip| routes.contains(vip))
    };
    wait_until("told", PATIENCE, told);
    // BIRD hears nobody who might be further away.
    bed.write(&with(false));
    wait_until("refused", PATIENCE, || !bird.is_established());
    bed.wait_at_most(PATIENCE, "said", |report| note_of(report, CLIENT_V6).contains("no connection"));
    bed.write(&with(true));
    wait_until("told again", PATIENCE, told);
    daemon.stop();
}

#[test]
fn a_passive_peer_is_waited_for() {
    let text = announcing("managed", &[10]) + "passive = true\n";
    let Some((world, daemon)) = World::running(&text, &[10]) else { return };
    assert_eq!(world.frr.neighbour(LB_V4)["portForeign"], 179);
    daemon.stop();
}

#[test]
fn bfd_is_said_to_be_missing_and_everything_else_is_done() {
    let Some(world) = World::new() else { return };
    let bed = &world.bed;
    let text = announcing("managed", &[10]);
    bed.write(&format!("{text}bfd = {{ transmit = \"300ms\" }}\n"));
    let daemon = bed.start();
    let report = bed.wait_at_most(PATIENCE, "said", |report| {
        report["not_ready"].to_string().contains("gobgpd 3 does not support BFD: remove `bfd`")
    });
    assert_eq!(report["not_ready"].as_array().map(Vec::len), Some(1), "{report}");
    assert_eq!(bed.frontends().len(), 2);
    bed.write(&text);
    world.told(&[10]);
    daemon.stop();
}

#[test]
fn plan_and_commands_show_what_is_announced_to_whom_and_what_was_sent() {
    let Some(world) = World::new() else { return };
    let bed = &world.bed;
    let rule = "\n[[bgp.announcements]]\ncommunities = [\"64512:100\"]\n";
    let vip = format!("{}/32", vip_v4(10));
    bed.write(&format!("{}{rule}", announcing("managed", &[10])));
    let daemon = bed.start_ok();
    world.told(&[10]);
    daemon.stop();
    bed.write(&format!("{}{rule}", announcing("managed", &[10, 11])));
    let planned = bed.netd(&["plan"]);
    let line = format!("+ announce {}/32 to {CLIENT_V4} (community 64512:100)", vip_v4(11));
    assert!(planned.out.contains(&line) && !planned.out.contains(&vip), "{planned:?}");
    let daemon = bed.start_ok();
    world.told(&[10, 11]);
    world.frr.configure(&["router bgp 64513", "no bgp network import-check"]);
    world.frr.configure(&["router bgp 64513", "address-family ipv4 unicast", "network 203.0.113.0/24"]);

    let listed = |words: &[&str]| -> Value { bed.netd(&[&["bgp", "--json"], words].concat()).json() };
    let peers = || listed(&["peers"])[0].clone();
    wait_until("counted", PATIENCE, || {
        let peer = peers();
        let counts = &peer["families"]["ipv4"];
        counts["advertised"].as_u64() >= Some(2) && counts["received"].as_u64() >= Some(1)
    });
    let peer = peers();
    assert_eq!(
        (&peer["peer"], &peer["name"], &peer["state"]),
        (&json!(CLIENT_V4), &json!("router"), &json!("established"))
    );
    assert_eq!(peer["is_netds"], true);
    let find = |words: &[&str], prefix: &str| {
        let routes = listed(words).as_array().cloned().unwrap_or_default();
        routes.into_iter().find(|route| route["prefix"] == prefix).unwrap_or_default()
    };
    let announced = find(&["routes"], &vip);
    assert_eq!((&announced["to"], &announced["communities"]), (&json!("every peer"), &json!(["64512:100"])));
    let advertised = find(&["routes", "advertised", "router"], &vip);
    assert_eq!((&advertised["peer"], &advertised["next_hop"]), (&json!(CLIENT_V4), &json!(LB_V4)));
    let received = find(&["routes", "received"], "203.0.113.0/24");
    assert_eq!((&received["as_path"], &received["next_hop"]), (&json!([64513]), &json!(CLIENT_V4)));
    let report = bed.status();
    assert_eq!(
        (&report["bgp"]["established"], &report["bgp"]["announced"]["ipv6"]),
        (&json!(1), &json!(2)),
        "{report}"
    );
    daemon.stop();
}
