//! Live frames: a generator sends them through a pair of devices to a balancer in the driver, which sends them back to
//! a sink; all three take turns on one CPU. Millions of packets a second.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use aya::Ebpf;
use aya::maps::{Array, MapData};
use aya::programs::{ProgramFd, TestRun, TestRunAttrs, TestRunOptions, Xdp};
use netd_bpf::{Mode, links};

use crate::Outcome;
use crate::harness::{Traffic, load};
use crate::world::{FAR, NEAR, World};

/// Frames that the kernel makes and sends at once.
const BATCH: u32 = 64;
/// Packets of one turn.
const PACKETS: u32 = 100_000;
const WARM_UP_MAX: u32 = 500_000;

/// Millions of packets a second, and the share of packets that came back.
#[derive(Clone, Copy)]
pub struct Rate {
    pub median: f64,
    pub arrived: f64,
}

/// What goes through with the empty program, and with each of the others, in their order.
pub fn measure(
    world: &World,
    programs: &[&ProgramFd],
    traffic: &Traffic,
    rounds: usize,
) -> Outcome<Vec<Rate>> {
    let root = world.root("links");
    let mut road = Road::new(&root, world, traffic)?;
    let empty: &mut Xdp = road.object.program_mut("empty").ok_or("no empty program")?.try_into()?;
    empty.load()?;
    let empty = empty.fd()?.try_clone()?;
    let all: Vec<&ProgramFd> = std::iter::once(&empty).chain(programs.iter().copied()).collect();
    for program in &all {
        road.run(program, (traffic.flows + traffic.flows / 4).clamp(PACKETS, WARM_UP_MAX))?;
    }
    let mut turns = vec![Vec::new(); all.len()];
    for _ in 0..rounds {
        for (program, turns) in all.iter().zip(&mut turns) {
            turns.push(road.run(program, PACKETS)?);
        }
    }
    links::detach(&root, FAR)?;
    links::detach(&root, NEAR)?;
    Ok(turns.into_iter().map(rate).collect())
}

fn rate(turns: Vec<(f64, f64)>) -> Rate {
    let mut rates: Vec<f64> = turns.iter().map(|(ns, _)| 1e3 / ns).collect();
    rates.sort_by(f64::total_cmp);
    let arrived = turns.iter().map(|(_, arrived)| arrived).sum::<f64>() / turns.len() as f64;
    Rate { median: rates[rates.len() / 2], arrived }
}

/// The generator and the sink, and what lies between them.
struct Road<'a> {
    root: &'a Path,
    far: u32,
    object: Ebpf,
    sink: Ebpf,
    frame: Vec<u8>,
}

impl<'a> Road<'a> {
    fn new(root: &'a Path, world: &World, traffic: &Traffic) -> Outcome<Self> {
        let mut object = load(traffic, 0, world.near)?;
        let mut sink = load(traffic, 0, 0)?;
        for (object, name) in [(&mut object, "generator"), (&mut sink, "sink")] {
            let program: &mut Xdp = object.program_mut(name).ok_or("no such program")?.try_into()?;
            program.load()?;
        }
        let program: &mut Xdp = sink.program_mut("sink").ok_or("no sink")?.try_into()?;
        links::attach(root, NEAR, world.near, Mode::Native, program.fd()?.as_fd())?;
        Ok(Self { root, far: world.far, object, sink, frame: traffic.kind.frame() })
    }

    /// Nanoseconds for a packet, and the share of them that arrived.
    fn run(&mut self, program: &ProgramFd, packets: u32) -> Outcome<(f64, f64)> {
        self.put(program.as_fd())?;
        let before = self.taken()?;
        let generator: &mut Xdp = self.object.program_mut("generator").ok_or("no generator")?.try_into()?;
        let options = TestRunOptions {
            data_in: Some(&self.frame),
            repeat: packets,
            attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
            ..TestRunOptions::default()
        };
        let ns = generator.test_run(options)?.duration.as_secs_f64() * 1e9;
        let arrived = self.taken()?.wrapping_sub(before);
        Ok((ns, f64::from(arrived) / f64::from(packets)))
    }

    fn put(&self, program: BorrowedFd<'_>) -> Outcome<()> {
        Ok(links::attach(self.root, FAR, self.far, Mode::Native, program)?)
    }

    fn taken(&self) -> Outcome<u32> {
        let rounds: Array<&MapData, u32> = self.sink.map("rounds").ok_or("no map of rounds")?.try_into()?;
        Ok(rounds.get(&0, 0)?)
    }
}
