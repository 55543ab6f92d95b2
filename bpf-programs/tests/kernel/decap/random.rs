//! Random frames: tunnels that were changed here and there, and their parts put together wrongly.

use std::net::IpAddr;

use super::bed::{
    BALANCER, BALANCER6, Bed, ELSEWHERE, ELSEWHERE6, NODE, NODE6, STRANGER, STRANGER6, Way, inner_packets,
    with_ecn,
};
use super::model::Counted;
use crate::bed::in_own_world;
use crate::random::dice::Dice;

const FRAMES: usize = 200_000;

fn way(dice: &mut Dice) -> Way {
    let is_v4 = dice.one_in(2);
    let from = if is_v4 { [BALANCER, BALANCER, STRANGER] } else { [BALANCER6, BALANCER6, STRANGER6] };
    let to = if is_v4 { [NODE, "10.9.0.1", NODE, ELSEWHERE] } else { [NODE6, NODE6, NODE6, ELSEWHERE6] };
    Way {
        from: dice.of(&from),
        to: dice.of(&to),
        is_gue: dice.one_in(2),
        tag: dice.of(&[None, None, Some(0x8100), Some(0x88a8)]),
        ecn: dice.roll(4) as u8,
    }
}

fn inner(dice: &mut Dice) -> Vec<u8> {
    let packets = inner_packets();
    let ecn = dice.roll(4) as u8;
    let mut packet = with_ecn(&packets[dice.roll(4) as usize], ecn);
    if dice.one_in(4) {
        let to: IpAddr = dice.of(&[ELSEWHERE, ELSEWHERE6, "198.18.0.1", "198.18.0.2"]).parse().unwrap();
        match to {
            IpAddr::V4(to) if packet[0] >> 4 == 4 => packet[16..20].copy_from_slice(&to.octets()),
            IpAddr::V6(to) if packet[0] >> 4 == 6 => packet[24..40].copy_from_slice(&to.octets()),
            _ => {}
        }
    }
    packet
}

fn frame(dice: &mut Dice) -> Vec<u8> {
    let (way, inner) = (way(dice), inner(dice));
    let mut frame = way.frame(&inner);
    // Most changes are where headers are.
    for _ in 0..dice.of(&[0, 0, 1, 1, 2, 5]) {
        let at = dice.roll(frame.len() as u64) as usize;
        match dice.roll(4) {
            0 => frame[at] = dice.roll(256) as u8,
            1 => frame[at] ^= 1 << dice.roll(8),
            2 => frame[at] = dice.of(&[0, 1, 4, 6, 17, 41, 0x40, 0x45, 0x60, 0xff]),
            _ => frame[at] = frame[at].wrapping_add(dice.of(&[1, 255])),
        }
    }
    match dice.roll(8) {
        0 => frame.truncate(14 + dice.roll(frame.len() as u64 - 14) as usize),
        1 => {
            let count = dice.roll(40);
            frame.extend(dice.bytes(count));
        }
        2 => {
            let (at, count) = (dice.roll(frame.len() as u64) as usize, dice.roll(8));
            let bytes = dice.bytes(count);
            frame.splice(at..at, bytes);
        }
        _ => {}
    }
    frame
}

#[test]
fn the_program_says_of_random_frames_what_the_model_says() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        let mut dice = Dice::new(0x6040);
        let mut seen = std::collections::BTreeMap::new();
        for _ in 0..FRAMES {
            let (_, _, counted) = bed.run(&frame(&mut dice));
            let name = match counted {
                Counted::Taken(_) => "taken".to_owned(),
                other => format!("{other:?}"),
            };
            *seen.entry(name).or_insert(0_usize) += 1;
        }
        // Every outcome was among them, often.
        assert!(seen.len() == 6 && seen.values().all(|count| *count > FRAMES / 200), "{seen:?}");
    });
}

#[test]
fn bytes_without_any_sense_pass() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        let mut dice = Dice::new(1);
        for _ in 0..20_000 {
            let count = 14 + dice.roll(200);
            let mut frame = dice.bytes(count);
            frame[12..14].copy_from_slice(&dice.of(&[[8, 0], [0x86, 0xdd], [0x81, 0]]));
            bed.passes(&frame);
        }
    });
}
