//! What a packet costs: nanoseconds above a program that does nothing, measured in turns with it and with two plain
//! load balancers of the kinds that others are; then millions of packets a second through a pair of devices.
//!
//! `cargo run -p netd-bpf --example ns_per_packet`, as root: the time is the kernel's, so that the profile does not
//! matter. What the harness undoes of a program's work, a few nanoseconds, is counted in. Figures move with the
//! machine; compare ratios, of one run. Arguments: the number of rounds, and the tables that are wanted (`packets`,
//! `features`, `recorder`, `live`, `size`), else all.

mod balancer;
mod harness;
mod live;
mod packets;
mod peers;
mod recorded;
mod tables;
mod world;

use std::error::Error;

use tables::Bench;
use world::World;

/// Turns of each program.
const ROUNDS: usize = 15;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let rounds = match arguments.first().and_then(|first| first.parse().ok()) {
        Some(rounds) => {
            arguments.remove(0);
            rounds
        }
        None => ROUNDS,
    };
    if !world::is_root() {
        return Err("loading programs needs root".into());
    }
    let world = World::new()?;
    let bench = Bench { world, rounds };
    let is_wanted = |table: &str| arguments.is_empty() || arguments.iter().any(|wanted| wanted == table);
    if is_wanted("packets") {
        bench.packets()?;
    }
    if is_wanted("features") {
        bench.features()?;
    }
    if is_wanted("recorder") {
        bench.recorder()?;
    }
    if is_wanted("live") {
        bench.live()?;
    }
    if is_wanted("size") {
        bench.size()?;
    }
    Ok(())
}
