//! Random frames: packets and tunnels' packets that were changed here and there.

use std::collections::BTreeMap;

use netd_bpf::strict::Tunnel;
use netd_bpf::tc::Side;

use super::{Bed, GENEVE_PORT, MARK, VXLAN_PORT, frame, in_tunnel, udp};
use crate::bed::in_own_world;
use crate::random::dice::Dice;

const FRAMES: usize = 60_000;

/// Of Ethernet and of IPv6, in bytes.
const HEADERS: usize = 14 + 40;

const V4: [&str; 6] = ["10.244.1.5", "10.244.2.9", "192.0.2.7", "10.0.0.1", "10.0.0.2", "198.51.100.1"];
const V6: [&str; 5] = ["fd00:244:1::5", "fd00:244:2::9", "2001:db8::1", "2001:db8::2", "::9"];

fn packet(dice: &mut Dice) -> Vec<u8> {
    let all: &[&str] = if dice.one_in(2) { &V4 } else { &V6 };
    let (from, to) = (dice.of(all), dice.of(all));
    let port = dice.of(&[53, 51_871, VXLAN_PORT, GENEVE_PORT]);
    let first = dice.of(&[0, 1, 4, 5]);
    let payload = [&[first, 0, 0, 0][..], &dice.bytes(60)].concat();
    udp(from, to, (40_000, port), &payload)
}

/// Makes a packet of IPv4, or of IPv6, a fragment of one of a few.
fn broken(dice: &mut Dice, frame: &mut Vec<u8>) {
    let id = dice.roll(4) as u8;
    let (offset, more) = (dice.of(&[0_u16, 0, 2, 0x10]), dice.one_in(2));
    if frame[12] == 8 {
        frame[18..20].copy_from_slice(&[0, id]);
        let flags = offset | if more { 0x2000 } else { 0 };
        frame[20..22].copy_from_slice(&flags.to_be_bytes());
        return;
    }
    let protocol = std::mem::replace(&mut frame[20], 44);
    let [high, low] = (offset << 3 | u16::from(more)).to_be_bytes();
    frame.splice(54..54, [protocol, 0, high, low, 0, 0, 0, id]);
}

fn any(dice: &mut Dice, tunnel: Tunnel) -> Vec<u8> {
    let inner = frame(&packet(dice));
    let mut frame = match dice.roll(3) {
        0 => inner,
        1 => in_tunnel("10.0.0.1", dice.of(&["10.0.0.2", "10.0.0.3"]), tunnel, &inner),
        _ => in_tunnel("2001:db8::1", "2001:db8::2", tunnel, &inner),
    };
    if dice.one_in(3) {
        broken(dice, &mut frame);
    }
    for _ in 0..dice.of(&[0, 0, 0, 1, 2, 5]) {
        let at = dice.roll(frame.len() as u64) as usize;
        match dice.roll(3) {
            0 => frame[at] = dice.roll(256) as u8,
            1 => frame[at] ^= 1 << dice.roll(8),
            _ => frame[at] = dice.of(&[0, 1, 4, 8, 17, 43, 44, 58, 60, 0x45, 0x46, 0x60, 0x81, 0xff]),
        }
    }
    if dice.one_in(6) {
        // The kernel runs nothing on a frame whose first header of IP is not whole.
        frame.truncate(HEADERS + dice.roll((frame.len() - HEADERS) as u64) as usize);
    }
    frame
}

#[test]
fn the_programs_say_of_random_frames_what_the_model_says() {
    in_own_world(|root| {
        let mut seen = BTreeMap::new();
        for (number, tunnel) in
            [Tunnel::Vxlan(VXLAN_PORT), Tunnel::Geneve(GENEVE_PORT)].into_iter().enumerate()
        {
            let mut bed = Bed::new(&root.join(number.to_string()), Some(tunnel));
            let mut dice = Dice::new(0x57 + number as u64);
            for _ in 0..FRAMES {
                let side = if dice.one_in(3) { Side::Ingress } else { Side::Egress };
                let frame = any(&mut dice, tunnel);
                let said = bed.run(side, &frame, dice.of(&[0, 0, MARK, 7]));
                *seen.entry(said).or_insert(0_usize) += 1;
            }
        }
        // Every outcome was among them, often.
        assert!(seen.len() == 6 && seen.values().all(|count| *count > FRAMES / 100), "{seen:?}");
    });
}
