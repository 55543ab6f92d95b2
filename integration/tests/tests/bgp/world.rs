//! One load balancer that tells a router of its VIPs: the router is where the client is.

use netd_gobgp::child::{Identity, Managed, Standing};
use netd_gobgp::{Client, Endpoint};
use netd_integration_tests::bed::{CLIENT_V4, LB_V4, vip_v4};
use netd_integration_tests::desired::{Service, file};
use netd_integration_tests::netd::{Daemon, wait_until};
use netd_integration_tests::{Bed, Lab, Site};
use netd_lab::{Frr, installed};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;

/// Longer than anything takes here, also on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A session ends when nothing was heard for so long.
pub const HOLD: Duration = Duration::from_secs(9);

/// The machines, with a router where the client is.
pub struct World {
    pub frr: Frr,
    pub bed: Bed,
    pub runtime: tokio::runtime::Runtime,
}

impl World {
    pub fn new() -> Option<Self> {
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

    /// As [`World::new`], with a netd whose own gobgpd has told the router of the VIPs with these numbers.
    pub fn announcing(numbers: &[u8]) -> Option<(Self, Daemon)> {
        Self::running(&announcing("managed", numbers), numbers)
    }

    /// As [`World::announcing`], with this file.
    pub fn running(text: &str, numbers: &[u8]) -> Option<(Self, Daemon)> {
        let world = Self::new()?;
        world.bed.write(text);
        let daemon = world.bed.start_ok();
        world.told(numbers);
        Some((world, daemon))
    }

    /// The prefixes of the services with these numbers arrive, and no others.
    pub fn told(&self, numbers: &[u8]) {
        let count = numbers.len() as u64;
        wait_until(&format!("told of {numbers:?}"), PATIENCE, || {
            let (v4, v6) = (self.frr.prefixes("ipv4"), self.frr.prefixes("ipv6"));
            (v4, v6) == (count, count) && numbers.iter().all(|number| self.path(*number)["valid"] == true)
        });
    }

    pub fn path(&self, number: u8) -> Value {
        self.frr.path("ipv4", &format!("{}/32", vip_v4(number)))
    }

    pub fn managed(&self) -> Identity {
        managed(&self.bed)
    }

    pub fn client(&self, socket: PathBuf) -> Option<Client> {
        self.runtime.block_on(Client::connect(&Endpoint::Unix(socket))).ok()
    }

    /// How many prefixes netd announces through its own daemon.
    pub fn announced(&self) -> usize {
        let Some(client) = self.client(self.bed.runtime_dir().join("gobgpd.sock")) else { return 0 };
        self.runtime.block_on(client.announced()).map_or(0, |announced| announced.ours.len())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // A test that failed leaves the daemon, which outlives netd.
        end_daemon(&self.bed);
    }
}

/// The gobgpd of a place's netd.
pub fn managed(site: &Site) -> Identity {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match runtime.block_on(Managed::new(&site.runtime_dir()).look()).unwrap() {
        Standing::Running(identity) => identity,
        Standing::Absent => panic!("there is no gobgpd: {}", site.log()),
    }
}

/// Ends the gobgpd of a place's netd, if there is one.
pub fn end_daemon(site: &Site) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    if let Err(error) = runtime.block_on(Managed::new(&site.runtime_dir()).stop()) {
        eprintln!("{error}");
    }
}

/// What a report says about a peer that is not as it should be.
pub fn note_of(report: &Value, peer: &str) -> String {
    let notes = report["notes"].as_array().cloned().unwrap_or_default();
    let about = notes.iter().find(|note| note["kind"] == "bgp_peer" && note["key"] == peer);
    about.map(|note| note["note"].as_str().unwrap_or_default().to_owned()).unwrap_or_default()
}

pub fn service(number: u8) -> Service {
    Service::new(&format!("web-{number}"), number).port("tcp", 80, 8080).backend(1).backend(2)
}

/// A file with these services, announced to the router through a gobgpd.
pub fn announcing(gobgpd: &str, numbers: &[u8]) -> String {
    let services: Vec<Service> = numbers.iter().map(|number| service(*number)).collect();
    let hold = HOLD.as_secs();
    format!(
        "{}\n[bgp]\nasn = 64512\nlisten_port = 179\ngobgpd = \"{gobgpd}\"\n\n[[bgp.peers]]\nname = \"router\"\n\
         address = \"{CLIENT_V4}\"\nasn = 64513\nhold = \"{hold}s\"\nfamilies = [\"ipv4\", \"ipv6\"]\n\
         graceful_restart = {{ restart = \"120s\" }}\n",
        file(&services)
    )
}

pub fn kill(identity: Identity, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(identity.pid).unwrap()).unwrap(), signal).unwrap();
}
