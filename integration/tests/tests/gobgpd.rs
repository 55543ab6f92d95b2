//! netd, gobgpd and a router: what the router is told, and what it does not notice.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use netd_gobgp::child::{Identity, Managed, Standing};
use netd_gobgp::{Announcement, Client, Endpoint, Global};
use netd_integration_tests::bed::{CLIENT_V4, LB_V4, LB_V6, vip_v4, vip_v6};
use netd_integration_tests::desired::{Service, file};
use netd_integration_tests::netd::wait_until;
use netd_integration_tests::{Bed, Lab};
use netd_lab::{Frr, Running, installed};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Longer than anything takes here, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A session ends when nothing was heard for so long.
const HOLD: Duration = Duration::from_secs(9);

/// The machines, with a router where the client is.
struct World {
    frr: Frr,
    bed: Bed,
    runtime: tokio::runtime::Runtime,
}

impl World {
    fn new() -> Option<Self> {
        if !installed(&[("gobgpd", "gobgpd"), Frr::PROGRAM]) {
            return None;
        }
        let lab = Lab::new()?;
        let bed = Bed::new(&lab, 2);
        let neighbours = format!(
            "neighbor {LB_V4} remote-as 64512\nneighbor {LB_V4} timers 3 9\nneighbor {LB_V4} timers connect 1\n\
             neighbor {LB_V4} graceful-restart-helper\n"
        );
        let activate = format!("neighbor {LB_V4} activate");
        let frr = Frr::start(&bed.client, &bed.folder().join("frr"), 64513, &neighbours, &activate);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Some(Self { frr, bed, runtime })
    }

    /// The prefixes of the services with these numbers arrive, and no others.
    fn told(&self, numbers: &[u8]) {
        let count = numbers.len() as u64;
        wait_until(&format!("told of {numbers:?}"), PATIENCE, || {
            let (v4, v6) = (self.frr.prefixes("ipv4"), self.frr.prefixes("ipv6"));
            (v4, v6) == (count, count) && numbers.iter().all(|number| self.path(*number)["valid"] == true)
        });
    }

    fn path(&self, number: u8) -> Value {
        self.frr.path("ipv4", &format!("{}/32", vip_v4(number)))
    }

    fn managed(&self) -> Identity {
        let mut managed = Managed::new(&self.bed.runtime_dir());
        match self.runtime.block_on(managed.look()).unwrap() {
            Standing::Running(identity) => identity,
            Standing::Absent => panic!("there is no gobgpd: {}", self.bed.log()),
        }
    }

    fn client(&self, socket: PathBuf) -> Option<Client> {
        self.runtime.block_on(Client::connect(&Endpoint::Unix(socket))).ok()
    }

    /// How many prefixes netd announces through its own daemon.
    fn announced(&self) -> usize {
        let Some(client) = self.client(self.bed.runtime_dir().join("gobgpd.sock")) else { return 0 };
        self.runtime.block_on(client.announced()).map_or(0, |announced| announced.ours.len())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // A test that failed leaves the daemon, which outlives netd.
        if let Err(error) = self.runtime.block_on(Managed::new(&self.bed.runtime_dir()).stop()) {
            eprintln!("{error}");
        }
    }
}

fn service(number: u8) -> Service {
    Service::new(&format!("web-{number}"), number).port("tcp", 80, 8080).backend(1).backend(2)
}

/// A file with these services, announced to the router through a gobgpd.
fn announcing(gobgpd: &str, numbers: &[u8]) -> String {
    let services: Vec<Service> = numbers.iter().map(|number| service(*number)).collect();
    let hold = HOLD.as_secs();
    format!(
        "{}\n[bgp]\nasn = 64512\nlisten_port = 179\ngobgpd = \"{gobgpd}\"\n\n[[bgp.peers]]\nname = \"router\"\n\
         address = \"{CLIENT_V4}\"\nasn = 64513\nhold = \"{hold}s\"\nfamilies = [\"ipv4\", \"ipv6\"]\n\
         graceful_restart = {{ restart = \"120s\" }}\n",
        file(&services)
    )
}

fn kill(identity: Identity, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(identity.pid).unwrap()).unwrap(), signal).unwrap();
}

#[test]
fn vips_are_announced_and_withdrawn_one_by_one_and_a_teardown_ends_the_daemon() {
    let Some(world) = World::new() else { return };
    let bed = &world.bed;
    bed.write(&announcing("managed", &[10, 11]));
    let daemon = bed.start_ok();
    world.told(&[10, 11]);
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
    let Some(world) = World::new() else { return };
    let bed = &world.bed;
    let text =
        announcing("managed", &[10, 11]).replace("asn = 64512\n", "asn = 64512\non_exit = \"withdraw\"\n");
    bed.write(&text);
    let daemon = bed.start_ok();
    world.told(&[10, 11]);
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
    let Some(world) = World::new() else { return };
    let bed = &world.bed;
    bed.write(&announcing("managed", &[10, 11]));
    let daemon = bed.start_ok();
    world.told(&[10, 11]);
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
    let Some(world) = World::new() else { return };
    let bed = &world.bed;
    bed.write(&announcing("managed", &[10, 11]));
    let daemon = bed.start_ok();
    world.told(&[10, 11]);
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
    let Some(world) = World::new() else { return };
    let bed = &world.bed;
    bed.write(&announcing("managed", &[10, 11]));
    let daemon = bed.start_ok();
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
