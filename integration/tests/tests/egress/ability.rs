//! Gateways that live and cannot do their work, and those that come back before anybody has missed them.

use crate::failover::{A, B, SOON, Watched, file};
use crate::world::{EGRESS, wait_until};
use netd_integration_tests::Lab;

/// Fifteen seconds until somebody is missed: half of it is longer than a start takes on a busy machine.
const LATER: &str = "misses = 19\n";
const LONGER: &str = "interval = \"750ms\"";

/// Fewer seconds of a lease than a netd listens for before it knows who lives, and more than it takes to start.
const LEFT: u32 = 7;

#[test]
fn a_gateway_that_cannot_have_the_address_is_followed_and_takes_back_when_it_can() {
    let Some(lab) = Lab::new() else { return };
    let watched = Watched::new(&lab, SOON);
    let [_, address] = EGRESS;
    let foreign = |verb: &str| {
        let own = format!("{address}/64");
        watched.world.mesh.nodes[B].machine.ip(&["addr", verb, &own, "dev", "lo", "noprefixroute"]);
    };
    foreign("add");
    let why = format!("{address} is an address of lo that somebody else has put there");
    watched.wait_for_status(B, &format!("other gateways are preferred to this node: {why}"));
    watched.wait_for(A);
    watched.wait_until_both_are_up();
    foreign("del");
    watched.wait_for(B);
}

#[test]
fn a_netd_that_was_killed_and_is_back_before_it_is_missed_keeps_its_addresses() {
    let Some(lab) = Lab::new() else { return };
    let mut watched = Watched::with_files(&lab, |_, _| file(LATER).replace("interval = \"250ms\"", LONGER));
    watched.wait_for(B);
    watched.kill(B);
    wait_until("the leases are about to end", || watched.leases(B).iter().any(|left| *left <= LEFT));
    watched.start(B);
    wait_until("it knows who lives", || {
        assert_eq!(watched.holder(), Some(B), "{}", watched.world.mesh.nodes[B].site.log());
        let status = watched.world.mesh.nodes[B].site.netd(&["status"]).out;
        !status.contains("it is not known yet which gateways live")
    });
    watched.wait_for(B);
}
