//! Random tables and random frames: the program and the model say the same, byte by byte, counts and records included.
//!
//! `NETD_LONG=1` runs a hundred times as many. What differs is printed with its seed; `NETD_SEED=<seed>` runs the round
//! of that seed alone.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

pub mod dice;
mod frames;
mod tables;

use crate::bed::{Bed, CAPACITY, hex, in_own_world};
use crate::reference::{Count, Settings};
use dice::Dice;
use frames::Stock;

/// Frames of one `make test`, and of a long run.
const FRAMES: u64 = 10_000_000;
const FRAMES_LONG: u64 = 1_000_000_000;

/// Frames with the same tables.
const ROUND: u64 = 20_000;
/// Rounds with the same program: loading one takes as long as thousands of frames.
const ROUNDS_PER_PROGRAM: u64 = 50;
/// Threads, each with a program and maps of its own.
const THREADS: u64 = 2;

/// How often each verdict came, and each count.
#[derive(Clone, Copy, Default)]
struct Seen {
    verdicts: [u64; 5],
    counts: [u64; 16],
}

#[test]
fn x1_the_program_and_the_model_agree_on_random_packets() {
    if let Some(seed) = number("NETD_SEED") {
        in_own_world(|root| {
            let mut bed = bed_of(root, seed / ROUNDS_PER_PROGRAM);
            println!("{:?}", round(&mut bed, seed).unwrap_or_else(|failure| panic!("{failure}")));
        });
        return;
    }
    let long = number("NETD_LONG").is_some_and(|long| long != 0);
    let rounds = if long { FRAMES_LONG } else { FRAMES } / ROUND;
    let programs = rounds.div_ceil(ROUNDS_PER_PROGRAM);
    let (next, sum, failure) = (AtomicU64::new(0), Mutex::new(Seen::default()), Mutex::new(None));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while failure.lock().unwrap().is_none() {
                    let program = next.fetch_add(1, Ordering::Relaxed);
                    if program >= programs {
                        break;
                    }
                    match rounds_of(program) {
                        Ok(seen) => sum.lock().unwrap().add(&seen),
                        Err(found) => *failure.lock().unwrap() = Some(found),
                    }
                }
            });
        }
    });
    if let Some(failure) = failure.into_inner().unwrap() {
        panic!("{failure}");
    }
    let Seen { verdicts, counts } = sum.into_inner().unwrap();
    let frames: u64 = verdicts.iter().sum();
    println!("{frames} frames; aborted, dropped, passed, transmitted, redirected: {verdicts:?}");
    let counted: Vec<_> = Count::ALL.into_iter().zip(counts).collect();
    println!("{counted:?}");
    assert!(verdicts[1..].iter().all(|times| *times >= frames / 50), "too few of one verdict");
    assert!(counts.iter().all(|times| *times >= frames / 10_000), "too few of one count");
}

/// The rounds of one loaded program; none where programs cannot be loaded.
fn rounds_of(program: u64) -> Result<Seen, String> {
    let mut outcome = Ok(Seen::default());
    in_own_world(|root| {
        let mut bed = bed_of(root, program);
        let seeds = program * ROUNDS_PER_PROGRAM..(program + 1) * ROUNDS_PER_PROGRAM;
        outcome = seeds.into_iter().try_fold(Seen::default(), |mut seen, seed| {
            for (sum, more) in seen.verdicts.iter_mut().zip(round(&mut bed, seed)?) {
                *sum += more;
            }
            Ok(seen)
        });
        if let Ok(seen) = &mut outcome {
            for counts in bed.model.counts.values() {
                seen.counts.iter_mut().zip(counts.0).for_each(|(sum, more)| *sum += more);
            }
        }
    });
    outcome
}

/// A bed with the settings of a program's number.
pub fn bed_of(root: &std::path::Path, program: u64) -> Bed {
    let mut dice = Dice::new(program);
    let settings = Settings {
        icmp_errors_per_second: if program % 8 == 3 { 0 } else { 1_000_000 },
        gue_port: dice.of(&[6080, 5555, 65535]),
        hop_limit: dice.of(&[64, 1, 255]),
        outer_dscp: dice.of(&[None, Some(0), Some(46), Some(63)]),
        copies_ecn: dice.one_in(2),
    };
    Bed::with(root, settings, &CAPACITY)
}

/// Other tables, and frames for them.
pub fn round(bed: &mut Bed, seed: u64) -> Result<[u64; 5], String> {
    let mut dice = Dice::new(seed);
    tables::lay(bed, &mut dice);
    let stock = Stock::new(&mut dice, seed);
    let (mut verdicts, mut frame) = ([0; 5], Vec::new());
    for number in 0..ROUND {
        stock.next(&mut dice, &mut frame);
        match bed.compare(&frame) {
            Ok(verdict) => verdicts[verdict as usize] += 1,
            Err(difference) => {
                let shorter = shortened(bed, &frame);
                return Err(format!(
                    "NETD_SEED={seed}, frame {number}\n{difference}\nshorter {}",
                    hex(&shorter)
                ));
            }
        }
    }
    match bed.differences()[..] {
        [] => Ok(verdicts),
        ref differences => Err(format!("NETD_SEED={seed}, after the round: {}", differences.join("\n"))),
    }
}

/// The shortest beginning of a frame on which the two still differ.
fn shortened(bed: &mut Bed, frame: &[u8]) -> Vec<u8> {
    let differing = (14..=frame.len()).find(|length| bed.compare(&frame[..*length]).is_err());
    frame[..differing.unwrap_or(frame.len())].to_vec()
}

impl Seen {
    fn add(&mut self, more: &Self) {
        self.verdicts.iter_mut().zip(more.verdicts).for_each(|(sum, more)| *sum += more);
        self.counts.iter_mut().zip(more.counts).for_each(|(sum, more)| *sum += more);
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}
