//! A desired file in which two services stay as they are while others come, go and change at every step.

#![allow(clippy::unwrap_used, reason = "the scaffolding of tests says what went wrong and stops")]

use crate::bed::{Bed, vips};
use crate::desired::{Service, file};
use crate::dice::Dice;
use crate::echo::{Flow, Port, Servers, Tally};
use std::net::SocketAddr;

/// How many services are changed.
const OTHERS: u8 = 8;

/// The numbers of the VIPs of those that stay; the others' begin after them.
const STEADY: [u8; 2] = [10, 11];

/// The port of all services.
const PORT: u16 = 53;

/// The file, step by step.
pub struct Restless {
    dice: Dice,
    others: Vec<Option<Service>>,
}

impl Restless {
    /// A first file; the same seed gives the same files.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut made = Self { dice: Dice::new(seed), others: vec![None; usize::from(OTHERS)] };
        for _ in 0..OTHERS {
            made.step();
        }
        made
    }

    /// Changes one service: it comes, goes, or gets other backends, weights or states.
    pub fn step(&mut self) {
        let at = self.dice.below(u64::from(OTHERS)) as u8;
        let is_there = self.others[usize::from(at)].is_some();
        let goes = is_there && self.dice.below(4) == 0;
        self.others[usize::from(at)] = (!goes).then(|| self.other(at));
    }

    fn other(&mut self, at: u8) -> Service {
        let mut service = Service::new(&format!("other-{at}"), 20 + at).port("udp", PORT, PORT);
        if self.dice.below(2) == 0 {
            service = service.port("tcp", PORT, 8080);
        }
        for backend in 1..=3 {
            service = match self.dice.below(5) {
                0 => service,
                1 => service.backend_with(backend, "state = \"terminating\""),
                2 => service.backend_with(backend, &format!("weight = {}", 1 + self.dice.below(200))),
                _ => service.backend(backend),
            };
        }
        service
    }

    /// The file as it is now. It never asks for nothing, nor for so little that a brake would hold it back.
    #[must_use]
    pub fn text(&self) -> String {
        let steady = STEADY.map(|vip| {
            Service::new(&format!("steady-{vip}"), vip)
                .port("udp", PORT, PORT)
                .backend(1)
                .backend(2)
                .backend(3)
        });
        let services: Vec<Service> =
            steady.into_iter().chain(self.others.iter().flatten().cloned()).collect();
        file(&services)
    }
}

/// Where the services that stay are.
pub fn steady() -> impl Iterator<Item = SocketAddr> {
    STEADY.into_iter().flat_map(vips).map(|vip| SocketAddr::new(vip, PORT))
}

/// Servers for the services that stay.
#[must_use]
pub fn servers(bed: &Bed) -> Servers {
    Servers::start(bed, &steady().map(Port::Udp).collect::<Vec<_>>())
}

/// Steady traffic to the services that stay, over both families.
#[must_use]
pub fn flows(bed: &Bed) -> Vec<Flow> {
    for address in steady() {
        assert!(bed.ask_udp(address).is_some(), "{address} does not answer before the test has begun");
    }
    steady().map(|address| Flow::start(bed, address)).collect()
}

/// Ends the traffic; every packet has to have been answered. How many there were.
pub fn assert_whole(flows: Vec<Flow>) -> u32 {
    let tallies: Vec<Tally> = flows.into_iter().map(Flow::end).collect();
    tallies.iter().for_each(Tally::assert_whole);
    tallies.iter().map(|tally| tally.sent).sum()
}
