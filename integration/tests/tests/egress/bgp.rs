//! Egress addresses that are on no link: a router learns from the gateway where they are, and a server behind it sees them.

use crate::world::{PATIENCE, Waits, World, ask};
use netd_gobgp::child::Managed;
use netd_integration_tests::netd::{Daemon, wait_until};
use netd_integration_tests::{Lab, Namespace, mesh};
use netd_lab::{Frr, installed};

/// The server, on a link behind the router.
const SERVER: [&str; 2] = ["198.51.100.13", "2001:db8:51::13"];

/// Routed to whoever announces them.
const EGRESS: [&str; 2] = ["203.0.113.100", "2001:db8:113::100"];

/// Soon missed, and not for a moment in which the machine is busy.
const WATCHED: &str = "[egress_failover]\ninterval = \"250ms\"\nmisses = 11\n";

/// The machines, with a router where nodes a and b have their default routes to, and netds on both.
struct Routed {
    daemons: Vec<Daemon>,
    frr: Frr,
    server: Namespace,
    world: World,
}

impl Routed {
    /// With this gateway, whose netd is not watched.
    fn new(gateway: &str) -> Option<Self> {
        let mut routed = Self::prepared()?;
        routed.world.mesh.write(&file(&[gateway], ""));
        for node in &routed.world.mesh.nodes[..2] {
            routed.daemons.push(node.site.start_ok());
        }
        Some(routed)
    }

    /// With both nodes as gateways, b preferred, and the third node to hear them.
    fn watched() -> Option<Self> {
        let mut routed = Self::prepared()?;
        routed.world.mesh.write(&file(&["a", "b"], WATCHED));
        for node in &routed.world.mesh.nodes {
            routed.daemons.push(node.site.start());
        }
        Some(routed)
    }

    /// Without netds.
    fn prepared() -> Option<Self> {
        if !installed(&[("gobgpd", "gobgpd"), Frr::PROGRAM, ("zebra", "frr")]) {
            return None;
        }
        let lab = Lab::new()?;
        let world = World::new(&lab);
        let server = lab.namespace("server");
        let router = &world.mesh.wire;
        router.veth("to-s", &server, "eth0");
        for (own, other, server_has) in
            [("198.51.100.254", SERVER[0], "24"), ("2001:db8:51::fe", SERVER[1], "64")]
        {
            router.ip(&["addr", "add", &format!("{own}/{server_has}"), "dev", "to-s", "nodad"]);
            server.ip(&["addr", "add", &format!("{other}/{server_has}"), "dev", "eth0", "nodad"]);
            server.ip(&["route", "add", "default", "via", own]);
        }
        let neighbours: String = ["10.0.0.1", "10.0.0.2"]
            .map(|own| {
                format!("neighbor {own} remote-as 64512\nneighbor {own} timers 3 9\nneighbor {own} timers connect 1\n")
            })
            .concat();
        let activate = "neighbor 10.0.0.1 activate\nneighbor 10.0.0.2 activate\n";
        let folder = world.mesh.nodes[0].site.folder().join("frr");
        let frr = Frr::routing(router, &folder, 64513, &neighbours, activate);
        Some(Self { daemons: Vec::new(), frr, server, world })
    }

    /// The router's kernel sends packets for both egress addresses to this node, and to no other.
    fn leads_to(&self, v4: &str, v6: &str) {
        for (egress, family, via) in [(EGRESS[0], "-4", v4), (EGRESS[1], "-6", v6)] {
            wait_until(&format!("{egress} is reached by {via}"), PATIENCE, || {
                let routes = self.world.mesh.wire.ip(&[family, "route", "show", egress]);
                routes.lines().count() == 1 && routes.contains(&format!("via {via} "))
            });
        }
    }

    /// As [`Routed::leads_to`], and the router is told of no other way.
    fn leads_only_to(&self, v4: &str, v6: &str) {
        self.leads_to(v4, v6);
        assert_eq!((self.frr.prefixes("ipv4"), self.frr.prefixes("ipv6")), (1, 1));
    }

    fn assert_seen(&self, nodes: [usize; 2]) {
        for (to, egress) in SERVER.iter().zip(EGRESS) {
            for node in nodes {
                let seen = ask(&self.world.mesh.nodes[node].pod, &self.server, to, Waits::ForAnswer);
                assert!(seen.from.to_string() == egress && seen.is_answered, "node {node}: {seen:?}");
            }
        }
    }
}

impl Drop for Routed {
    fn drop(&mut self) {
        self.daemons.clear();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for node in &self.world.mesh.nodes {
            if let Err(error) = runtime.block_on(Managed::new(&node.site.runtime_dir()).stop()) {
                eprintln!("{error}");
            }
        }
    }
}

/// The file of both nodes.
fn file(gateways: &[&str], more: &str) -> String {
    let gateways = gateways
        .iter()
        .zip(1..)
        .map(|(node, priority)| format!("{{ node = \"{node}\", priority = {priority} }}"));
    let gateways = gateways.collect::<Vec<_>>().join(", ");
    let ([server_v4, server_v6], [v4, v6]) = (SERVER, EGRESS);
    format!(
        "mode = \"cross-subnet\"\n\
         \n[[egress]]\nname = \"legacy\"\nsources = [\"10.244.0.0/16\", \"fd00:244::/32\"]\n\
         destinations = [\"{server_v4}/32\", \"{server_v6}/128\"]\nips = [\"{v4}\", \"{v6}\"]\n\
         gateways = [{gateways}]\nannounce = [\"arp\", \"bgp\"]\n\
         {more}\n[bgp]\nasn = 64512\nannounce = []\nlisten_port = 179\n\
         \n[[bgp.peers]]\naddress = \"10.0.0.254\"\nasn = 64513\nhold = \"9s\"\nfamilies = [\"ipv4\", \"ipv6\"]\n"
    )
}

#[test]
fn a_router_learns_egress_addresses_from_the_gateway_alone_and_a_file_that_moves_it_moves_them() {
    let Some(routed) = Routed::new("b") else { return };
    let nodes = &routed.world.mesh.nodes;
    routed.leads_only_to("10.0.0.2", "2001:db8::2");
    routed.assert_seen([0, 1]);
    routed.world.mesh.write(&file(&["a"], ""));
    routed.leads_only_to("10.0.0.1", "2001:db8::1");
    for egress in EGRESS {
        wait_until("the old gateway has given it up", PATIENCE, || {
            !nodes[1].configuration().contains(egress)
        });
    }
    routed.assert_seen([0, 1]);
}

#[test]
fn an_address_that_the_gateway_cannot_have_is_not_announced_and_one_that_it_loses_comes_back() {
    let Some(routed) = Routed::new("b") else { return };
    let gateway = &routed.world.mesh.nodes[1];
    routed.leads_only_to("10.0.0.2", "2001:db8::2");
    routed.world.mesh.write(&file(&["a"], ""));
    routed.leads_only_to("10.0.0.1", "2001:db8::1");
    // Somebody else takes it on the node that is to be the gateway again.
    wait_until("it is free", PATIENCE, || !gateway.configuration().contains(EGRESS[0]));
    gateway.machine.ip(&["addr", "add", "203.0.113.100/24", "dev", "eth0"]);
    routed.world.mesh.write(&file(&["b"], ""));
    wait_until("the other family is", PATIENCE, || {
        let routes = routed.world.mesh.wire.ip(&["-6", "route", "show", EGRESS[1]]);
        routes.contains("via 2001:db8::2 ")
    });
    wait_until("it is withdrawn", PATIENCE, || {
        routed.world.mesh.wire.ip(&["-4", "route", "show", EGRESS[0]]).is_empty()
    });
    gateway.machine.ip(&["addr", "del", "203.0.113.100/24", "dev", "eth0"]);
    routed.leads_only_to("10.0.0.2", "2001:db8::2");
}

#[test]
fn the_route_moves_with_the_address_although_a_killed_netds_gobgpd_goes_on_announcing_it() {
    let Some(mut routed) = Routed::watched() else { return };
    let gateway = &routed.world.mesh.nodes[1];
    routed.leads_to("10.0.0.2", "2001:db8::2");
    routed.assert_seen([0, 2]);
    routed.daemons.remove(1).kill();
    routed.leads_to("10.0.0.1", "2001:db8::1");
    routed.assert_seen([0, 2]);
    // It is still told of both ways, and goes by the one that came last.
    let told = routed.frr.show(&format!("show bgp ipv4 unicast {}/32", EGRESS[0]));
    assert!(told.contains("from 10.0.0.1") && told.contains("from 10.0.0.2"), "{told}");
    routed.daemons.push(gateway.site.start());
    routed.leads_to("10.0.0.2", "2001:db8::2");
    routed.assert_seen([0, 2]);
}

#[test]
fn a_gateway_that_withdraws_when_it_stops_leaves_route_and_address_to_the_other() {
    let Some(mut routed) = Routed::watched() else { return };
    let nodes = &routed.world.mesh.nodes;
    routed.leads_to("10.0.0.2", "2001:db8::2");
    let text = file(&["a", "b"], WATCHED).replace("[bgp]\n", "[bgp]\non_exit = \"withdraw\"\n");
    nodes[1].site.write(&mesh::file(&text));
    wait_until("the file is in force", PATIENCE, || {
        nodes[1].site.status()["config"]["state"] == "accepted"
            && nodes[1].site.netd(&["plan"]).out.contains("Nothing to do")
    });
    routed.daemons.remove(1).stop();
    assert!(!nodes[1].configuration().contains(EGRESS[0]));
    routed.leads_only_to("10.0.0.1", "2001:db8::1");
    routed.assert_seen([0, 2]);
}
