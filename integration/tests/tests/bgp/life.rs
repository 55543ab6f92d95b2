//! What the router is told over the life of netd and of gobgpd, and what it does not notice.

use crate::world::{HOLD, PATIENCE, World, announcing, kill};
use netd_gobgp::{Announcement, Global};
use netd_integration_tests::bed::{LB_V4, LB_V6, vip_v4, vip_v6};
use netd_integration_tests::netd::wait_until;
use netd_lab::Running;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

#[test]
fn vips_are_announced_and_withdrawn_one_by_one_and_a_teardown_ends_the_daemon() {
    let Some((world, daemon)) = World::announcing(&[10, 11]) else { return };
    let bed = &world.bed;
    assert_eq!(world.path(10)["nexthops"][0]["ip"], LB_V4);
    let v6 = world.frr.path("ipv6", &format!("{}/128", vip_v6(10)));
    assert_eq!(v6["nexthops"][0]["ip"], LB_V6, "{v6}");
    bed.write(&announcing("managed", &[10, 11, 12]));
    bed.wait_ok();
    world.told(&[10, 11, 12]);
    bed.write(&announcing("managed", &[10, 12]));
    bed.wait_ok();
    world.told(&[10, 12]);
    assert_eq!(world.frr.sessions(LB_V4), Some(1));
    daemon.stop();
    world.told(&[10, 12]);
    let gobgpd = world.managed();
    let said = bed.netd(&["teardown", "--yes"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(!gobgpd.is_alive());
    world.told(&[]);
}

#[test]
fn what_is_announced_is_taken_back_at_the_end_where_the_file_says_so() {
    let text =
        announcing("managed", &[10, 11]).replace("asn = 64512\n", "asn = 64512\non_exit = \"withdraw\"\n");
    let Some((world, daemon)) = World::running(&text, &[10, 11]) else { return };
    let bed = &world.bed;
    daemon.stop();
    world.told(&[]);
    assert!(world.frr.is_established(LB_V4));
    let daemon = bed.start_ok();
    world.told(&[10, 11]);
    assert_eq!(world.frr.sessions(LB_V4), Some(1));
    daemon.kill();
}

#[test]
fn b16_a_killed_netd_costs_no_session_and_the_next_one_changes_nothing() {
    let Some((world, daemon)) = World::announcing(&[10, 11]) else { return };
    let bed = &world.bed;
    let gobgpd = world.managed();
    daemon.kill();
    std::thread::sleep(HOLD + Duration::from_secs(2));
    world.told(&[10, 11]);
    let updates = || world.frr.neighbour(LB_V4)["messageStats"]["updatesRecv"].clone();
    let before = updates();
    let daemon = bed.start_ok();
    let report = bed.status();
    assert!(report.get("last_change").is_none_or(Value::is_null), "{report}");
    assert_eq!((world.managed(), updates(), world.frr.sessions(LB_V4)), (gobgpd, before, Some(1)));
    daemon.stop();
}

#[test]
fn b2_a_killed_gobgpd_is_started_and_filled_again_and_no_route_is_withdrawn() {
    let Some((world, daemon)) = World::announcing(&[10, 11]) else { return };
    let bed = &world.bed;
    let gobgpd = world.managed();
    let begin = Instant::now();
    kill(gobgpd, Signal::KILL);
    wait_until("filled again", PATIENCE, || world.announced() == 4);
    eprintln!("filled again after {:?}", begin.elapsed());
    assert_ne!(world.managed(), gobgpd);
    wait_until("another session", PATIENCE, || {
        for number in [10, 11] {
            assert_ne!(world.path(number), json!(null), "the router has withdrawn the VIP");
        }
        world.frr.sessions(LB_V4) == Some(2) && world.path(10)["stale"] != true
    });
    bed.wait_ok();
    daemon.stop();
}

#[test]
fn b3_a_hung_gobgpd_keeps_nothing_else_from_being_done() {
    let Some((world, daemon)) = World::announcing(&[10, 11]) else { return };
    let bed = &world.bed;
    let gobgpd = world.managed();
    kill(gobgpd, Signal::STOP);
    bed.write(&announcing("managed", &[10, 11, 12]));
    let vip = vip_v4(12).to_string();
    wait_until("balanced", PATIENCE, || bed.frontends().iter().any(|line| line.contains(&vip)));
    let report = bed.wait("troubled", |report| report["word"] != "ok");
    assert!(report.to_string().contains("gobgpd does not answer"), "{report}");
    kill(gobgpd, Signal::CONT);
    bed.wait_ok();
    world.told(&[10, 11, 12]);
    daemon.stop();
}

#[test]
fn b7_another_gobgpd_keeps_what_is_not_netds() {
    let Some(world) = World::new() else { return };
    let bed = &world.bed;
    let socket = bed.folder().join("theirs.sock");
    let at = format!("unix://{}", socket.display());
    let _theirs = Running::start(&bed.lb, "gobgpd", &["--api-hosts", &at, "--pprof-disable"]);
    wait_until("a gobgpd", PATIENCE, || world.client(socket.clone()).is_some());
    let global = Global { asn: 64512, router_id: [9, 9, 9, 9].into(), listen_port: Some(179) };
    let theirs = Announcement::plain("203.0.113.0/24".parse().unwrap());
    let client = world.client(socket.clone()).unwrap();
    world.runtime.block_on(client.start(&global)).unwrap();
    let gobgp = |words: &str| {
        let mut command = std::process::Command::new("/usr/bin/gobgp");
        command.args(["--target", &at]).args(words.split(' '));
        assert!(command.status().unwrap().success(), "{words}");
    };
    gobgp("global rib add 203.0.113.0/24");
    gobgp("neighbor add 10.9.9.9 as 65000");

    bed.write(&announcing(&at, &[10, 11]));
    bed.apply();
    wait_until("told", PATIENCE, || world.frr.prefixes("ipv4") == 3);
    let peers = world.runtime.block_on(client.peers()).unwrap();
    assert_eq!(peers.values().map(|peer| peer.is_ours).collect::<Vec<_>>(), [true, false]);
    assert_eq!(bed.apply().code, Some(0));
    assert_eq!(world.frr.sessions(LB_V4), Some(1));

    let said = bed.netd(&["teardown", "--yes"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let peers = world.runtime.block_on(client.peers()).unwrap();
    assert_eq!(peers.values().map(|peer| peer.is_ours).collect::<Vec<_>>(), [false]);
    let announced = world.runtime.block_on(client.announced()).unwrap();
    assert!(announced.ours.is_empty());
    assert_eq!(announced.foreign.into_keys().collect::<Vec<_>>(), [theirs.prefix]);
}

#[test]
fn b1_a_gobgpd_that_is_not_there_is_a_status_and_the_rest_is_done() {
    let Some(world) = World::new() else { return };
    let bed = &world.bed;
    let socket = bed.folder().join("theirs.sock");
    let at = format!("unix://{}", socket.display());
    bed.write(&announcing(&at, &[10]));
    let daemon = bed.start();
    let report = bed.wait("troubled", |report| report["word"] != "ok" && !bed.frontends().is_empty());
    assert!(report.to_string().contains("no gobgpd at unix://"), "{report}");
    let _theirs = Running::start(&bed.lb, "gobgpd", &["--api-hosts", &at, "--pprof-disable"]);
    bed.wait_ok();
    world.told(&[10]);
    daemon.stop();
}
