//! Running programs in turns on the same packets: nanoseconds above the empty program.

use aya::maps::ProgramArray;
use aya::programs::{ProgramFd, TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};

use crate::Outcome;
use crate::packets::Kind;

static HARNESS: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/harness.o"));

/// Packets of one turn: short, so that in some turns nothing else runs on the machine.
const PACKETS: u32 = 50_000;
/// Before the turns, so that tables of flows hold what they will.
const WARM_UP_MAX: u32 = 1_500_000;

/// Packets of a kind, from so many flows, spread over so many services.
#[derive(Clone, Copy)]
pub struct Traffic {
    pub kind: Kind,
    pub flows: u32,
    pub services: u32,
}

/// Nanoseconds for a packet.
#[derive(Clone, Copy)]
pub struct Cost {
    pub best: f64,
    pub median: f64,
    /// A quarter of the turns cost less.
    pub low: f64,
    /// A quarter of the turns cost more.
    pub high: f64,
}

impl Cost {
    fn of(mut turns: Vec<f64>) -> Self {
        turns.sort_by(f64::total_cmp);
        let at = |share: usize| turns[(turns.len() - 1) * share / 4];
        Self { best: at(0), median: at(2), low: at(1), high: at(3) }
    }
}

/// What each of the programs costs above the empty one, in their order; then what the empty one costs with all that is
/// around it.
pub fn measure(programs: &[&ProgramFd], traffic: &Traffic, rounds: usize) -> Outcome<(Vec<Cost>, Cost)> {
    let mut empty_object = load(traffic, 0, 0)?;
    let empty: &mut Xdp = empty_object.program_mut("empty").ok_or("no empty program")?.try_into()?;
    empty.load()?;
    let empty = empty.fd()?.try_clone()?;
    let mut harnesses = vec![Harness::around(&empty, traffic)?];
    for program in programs {
        harnesses.push(Harness::around(program, traffic)?);
    }
    for harness in &mut harnesses {
        harness.run((traffic.flows + traffic.flows / 4).clamp(PACKETS, WARM_UP_MAX))?;
    }
    let mut turns = vec![Vec::new(); harnesses.len()];
    for _ in 0..rounds {
        for (harness, turns) in harnesses.iter_mut().zip(&mut turns) {
            turns.push(harness.run(PACKETS)?);
        }
    }
    let empties = turns.remove(0);
    let above = |turns: Vec<f64>| turns.iter().zip(&empties).map(|(long, short)| long - short).collect();
    let costs = turns.into_iter().map(|turns| Cost::of(above(turns))).collect();
    Ok((costs, Cost::of(empties)))
}

/// The program that makes packets, before one that is measured.
struct Harness {
    object: Ebpf,
    /// It has the measured program.
    _calls: ProgramArray<aya::maps::MapData>,
    frame: Vec<u8>,
}

impl Harness {
    /// Runs the program once, to see how many bytes it puts before a packet.
    fn around(program: &ProgramFd, traffic: &Traffic) -> Outcome<Self> {
        let mut first = Self::with(program, traffic, 0)?;
        let mut out = vec![0; first.frame.len() + 256];
        let frame = first.frame.clone();
        let options =
            TestRunOptions { data_in: Some(&frame), data_out: Some(&mut out), ..TestRunOptions::default() };
        let said = first.program()?.test_run(options)?;
        let out = &out[..(said.data_size_out as usize).min(out.len())];
        let before = traffic.kind.put_before(&frame, out).ok_or("the packet is not in what comes out")?;
        Self::with(program, traffic, before)
    }

    fn with(program: &ProgramFd, traffic: &Traffic, put_before: u32) -> Outcome<Self> {
        let mut object = load(traffic, put_before, 0)?;
        let harness: &mut Xdp = object.program_mut("harness").ok_or("no harness")?.try_into()?;
        harness.load()?;
        let calls = object.take_map("measured").ok_or("no program array")?;
        let mut calls = ProgramArray::try_from(calls)?;
        calls.set(0, program, 0)?;
        Ok(Self { object, _calls: calls, frame: traffic.kind.frame() })
    }

    fn program(&mut self) -> Outcome<&mut Xdp> {
        Ok(self.object.program_mut("harness").ok_or("no harness")?.try_into()?)
    }

    /// Nanoseconds for each packet of many.
    fn run(&mut self, packets: u32) -> Outcome<f64> {
        let frame = std::mem::take(&mut self.frame);
        let options = TestRunOptions { data_in: Some(&frame), repeat: packets, ..TestRunOptions::default() };
        let said = self.program()?.test_run(options);
        self.frame = frame;
        Ok(said?.duration.as_secs_f64() * 1e9)
    }
}

/// The harness's programs, for some traffic; what the generator makes leaves by a device.
pub fn load(traffic: &Traffic, put_before: u32, out_device: u32) -> Outcome<Ebpf> {
    let kind = &traffic.kind;
    Ok(EbpfLoader::new()
        .override_global("flows", &traffic.flows, true)
        .override_global("services", &traffic.services, true)
        .override_global("first_vip", &kind.first_vip, true)
        .override_global("is_ipv6", &u32::from(!kind.is_ipv4), true)
        .override_global("tcp_flags", &kind.tcp_flags, true)
        .override_global("frame_bytes", &(kind.frame().len() as u32), true)
        .override_global("put_before", &put_before, true)
        .override_global("out_device", &out_device, true)
        .load(HARNESS)?)
}
