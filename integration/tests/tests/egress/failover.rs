//! Gateways that die, are cut off, come back and are restarted: somebody has the address soon, and never two for long.

use crate::world::{EGRESS, SERVER, Waits, World, policy, wait_until};
use netd_integration_tests::netd::Daemon;
use netd_integration_tests::{Lab, mesh};
use std::path::Path;
use std::time::Instant;

/// Nodes of the mesh: a and b are the gateways, pods of all three are sources.
pub const A: usize = 0;
pub const B: usize = 1;
pub const C: usize = 2;

/// b is preferred. A node is late by seconds only where the machine has stopped altogether.
pub const WATCHED: &str = "gateways = [{ node = \"a\" }, { node = \"b\", priority = 10 }]\n\
                       [egress_failover]\ninterval = \"250ms\"\n";

/// Where somebody is to be missed soon.
pub const SOON: &str = "misses = 11\n";

/// Where nobody is to be missed, or none of those that live.
pub const LATE: &str = "misses = 20\n";

/// More seconds than an address without a farewell ever has, and fewer than one with it has for a long time.
const LEASE_LATE: u32 = 6;

pub struct Watched {
    pub world: World,
    pub netds: [Option<Daemon>; 3],
}

impl Watched {
    /// One of them has the addresses, and all know each other: b, unless gateways take nothing from each other.
    pub fn new(lab: &Lab, more: &str) -> Self {
        let watched = Self::with_files(lab, |_, _| file(more));
        if more.contains("preempt = false") {
            watched.wait_until_both_are_up();
            wait_until("one gateway has the addresses", || watched.holder().is_some());
        } else {
            watched.wait_for(B);
        }
        watched
    }

    /// With this file on each node, whose number and folder it may depend on.
    pub fn with_files(lab: &Lab, file: impl Fn(usize, &Path) -> String) -> Self {
        let world = World::new(lab);
        world.mesh.nodes[A].machine.ip(&["addr", "add", "192.168.33.10/24", "dev", "eth0"]);
        world.mesh.nodes[A].machine.ip(&["addr", "add", "2001:db8:33::10/64", "dev", "eth0", "nodad"]);
        for (number, node) in world.mesh.nodes.iter().enumerate() {
            node.site.write(&file(number, node.site.folder()));
        }
        let netds = [A, B, C].map(|node| Some(world.mesh.nodes[node].site.start()));
        Self { world, netds }
    }

    pub fn kill(&mut self, node: usize) {
        self.netds[node].take().unwrap().kill();
    }

    pub fn start(&mut self, node: usize) {
        self.netds[node] = Some(self.world.mesh.nodes[node].site.start());
    }

    /// The gateway whose kernel has the addresses of both families, while the other one's has none.
    pub fn holder(&self) -> Option<usize> {
        let count = |node: usize| {
            let shown = self.world.mesh.nodes[node].machine.ip(&["addr", "show", "dev", "eth0"]);
            EGRESS.iter().filter(|address| shown.contains(&format!("{address}/"))).count()
        };
        match [A, B].map(count) {
            [2, 0] => Some(A),
            [0, 2] => Some(B),
            _ => None,
        }
    }

    /// For so many seconds a gateway's kernel keeps its egress addresses, by family, if netd says nothing more.
    pub fn leases(&self, node: usize) -> Vec<u32> {
        let shown = self.world.mesh.nodes[node].machine.ip(&["-o", "addr", "show", "dev", "eth0"]);
        let of = |address: &&str| {
            let line = shown.lines().find(|line| line.contains(&format!("{address}/")))?;
            line.split_once("valid_lft ")?.1.split_once("sec")?.0.parse().ok()
        };
        EGRESS.iter().filter_map(of).collect()
    }

    pub fn wait_for_status(&self, node: usize, text: &str) {
        // One that has just started goes by what was so before.
        let is_known = |status: &str| !status.contains("it is not known yet which gateways live");
        wait_until(text, || {
            let status = self.world.mesh.nodes[node].site.netd(&["status"]).out;
            status.contains(text) && is_known(&status)
        });
    }

    pub fn wait_until_both_are_up(&self) {
        for node in [A, B, C] {
            self.wait_for_status(node, "Egress gateways: a up; b up");
        }
    }

    /// Waits until one gateway has the addresses alone, and c's pod comes by it in both families.
    pub fn wait_for(&self, holder: usize) {
        let began = Instant::now();
        wait_until("one gateway has the addresses", || self.holder() == Some(holder));
        for (to, egress) in SERVER.iter().zip(EGRESS) {
            let seen = self.world.ask(C, to, Waits::ForAnswer);
            assert!(seen.from.to_string() == egress && seen.is_answered, "{seen:?}");
        }
        eprintln!("node {holder} has them alone after {:?}", began.elapsed());
    }
}

/// The file of all nodes, with these lines about watching.
pub fn file(more: &str) -> String {
    mesh::file(&format!("mode = \"vxlan\"\n{}{more}", policy(WATCHED)))
}

#[test]
fn another_gateway_takes_over_from_a_killed_netd_whose_kernel_lets_go_of_the_address() {
    let Some(lab) = Lab::new() else { return };
    let mut watched = Watched::new(&lab, SOON);
    watched.kill(B);
    watched.wait_for(A);
    watched.wait_for_status(C, "Egress gateways: a up; b down");
    watched.start(B);
    watched.wait_for(B);
}

#[test]
fn a_gateway_whose_link_is_gone_gives_up_and_takes_back() {
    let Some(lab) = Lab::new() else { return };
    let watched = Watched::new(&lab, SOON);
    let wire = watched.world.server();
    wire.ip(&["link", "set", "to-b", "down"]);
    watched.wait_for(A);
    watched.wait_for_status(B, "this node hears 1 nodes, itself included, and has to hear 2");
    wire.ip(&["link", "set", "to-b", "up"]);
    watched.wait_for(B);
}

#[test]
fn a_gateway_that_is_heard_and_does_not_hear_is_none() {
    let Some(lab) = Lab::new() else { return };
    let watched = Watched::new(&lab, SOON);
    let gateway = &watched.world.mesh.nodes[B].machine;
    let nft = |text: &str| {
        let said = gateway.command("nft").arg(text).output().unwrap();
        assert!(said.status.success(), "{said:?}");
    };
    nft("add table inet deaf; add chain inet deaf in { type filter hook input priority 0; }; \
         add rule inet deaf in udp dport 9473 drop");
    watched.wait_for(A);
    nft("delete table inet deaf");
    watched.wait_for(B);
}

#[test]
fn gateways_that_do_not_hear_each_other_agree_by_a_node_that_hears_both() {
    let Some(lab) = Lab::new() else { return };
    let watched = Watched::new(&lab, LATE);
    let gateway = &watched.world.mesh.nodes[A].machine;
    let said = gateway
        .command("nft")
        .arg(
            "add table inet cut; add chain inet cut in { type filter hook input priority 0; }; \
              add rule inet cut in ip saddr 10.0.0.2 udp dport 9473 drop",
        )
        .output()
        .unwrap();
    assert!(said.status.success(), "{said:?}");
    watched.wait_for_status(A, "b up, as others hear it");
    watched.wait_for_status(B, "a up, as others hear it");
    watched.wait_for(B);
}

#[test]
fn one_that_comes_back_takes_nothing_back_where_the_file_says_so() {
    let Some(lab) = Lab::new() else { return };
    let mut watched = Watched::new(&lab, &format!("{LATE}preempt = false\n"));
    let [first, second] = if watched.holder() == Some(A) { [A, B] } else { [B, A] };
    watched.kill(first);
    watched.wait_for(second);
    watched.start(first);
    watched.wait_until_both_are_up();
    watched.wait_for(second);
}

#[test]
fn a_restart_of_the_gateway_in_force_moves_nothing() {
    let Some(lab) = Lab::new() else { return };
    let mut watched = Watched::new(&lab, LATE);
    watched.netds[B].take().unwrap().stop();
    // The others have answered: nobody takes over meanwhile.
    let leases = watched.leases(B);
    let log = watched.world.mesh.nodes[B].site.log();
    assert!(leases.len() == 2 && leases.iter().all(|it| *it > LEASE_LATE), "{leases:?}\n{log}");
    watched.wait_for(B);
    watched.start(B);
    watched.wait_until_both_are_up();
    watched.wait_for(B);
}
