//! Random services and random packets: the program and the model say the same, byte by byte.

use netd_bpf::Verdict;
use netd_bpf::abi::{Backend, IN_USE, READY, TCP, UDP, presum};

use crate::bed::{Bed, INGRESS, Tuple, fix_ipv4, in_own_world, key, numbered_v4, numbered_v6};
use crate::reference::Service;

/// Xorshift: the same packets in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }

    fn bytes(&mut self, count: u64) -> Vec<u8> {
        (0..count).map(|_| self.roll(256) as u8).collect()
    }
}

const VIPS_V4: [&str; 2] = ["192.0.2.10", "192.0.2.11"];
const VIPS_V6: [&str; 2] = ["2001:db8:100::10", "2001:db8:100::11"];

fn random_service(dice: &mut Dice, vip: &str, port: u16, protocol: u8) -> Service {
    let count = 1 + dice.roll(300);
    let slots = [0, 1, 251, 509, 1021][dice.roll(5) as usize];
    let ring = |dice: &mut Dice| (0..slots).map(|_| dice.roll(count + 1) as u16).collect::<Vec<_>>();
    let v4 = !vip.contains(':');
    let mut backends = if v4 { numbered_v4(count as u32) } else { numbered_v6(count as u32) };
    for backend in &mut backends {
        random_backend(dice, backend, v4);
    }
    let mut service = Service::new(key(vip, port, protocol), ring(dice), backends);
    service.seed = dice.roll(1 << 32) as u32;
    service.wide = count >= 255 || dice.one_in(3);
    if dice.one_in(2) {
        service.previous = Some(ring(dice));
        service.wide_previous = count >= 255 || dice.one_in(3);
        service.window_open = dice.one_in(2);
    }
    service
}

fn random_backend(dice: &mut Dice, backend: &mut Backend, v4: bool) {
    backend.destination_mac = dice.bytes(6).try_into().unwrap();
    backend.flags = [READY | IN_USE, READY | IN_USE, READY | IN_USE, IN_USE, READY][dice.roll(5) as usize];
    backend.ifindex = INGRESS + u32::from(dice.one_in(2));
    backend.state = dice.roll(4) as u8;
    backend.port = if dice.one_in(2) { dice.bytes(2).try_into().unwrap() } else { [0, 0] };
    backend.source_bits = if dice.one_in(2) { dice.roll(if v4 { 33 } else { 129 }) as u8 } else { 0 };
    let width = if v4 { 32 } else { 128 };
    let prefix = u128::from_be_bytes(dice.bytes(16).try_into().unwrap());
    let keep = width - u32::from(backend.source_bits);
    let mask = if keep == 0 { 0 } else { u128::MAX << (128 - keep) };
    backend.source = (prefix & mask).to_be_bytes();
    if v4 {
        backend.source[4..].fill(0);
        let address = |bytes: [u8; 16]| <[u8; 4]>::try_from(&bytes[..4]).unwrap().into();
        backend.checksum = presum(address(backend.source), address(backend.destination));
    }
}

fn random_frame(dice: &mut Dice) -> Vec<u8> {
    let v4 = dice.one_in(2);
    let (vips, client) = if v4 { (VIPS_V4, "10.1.2.") } else { (VIPS_V6, "2001:db8::") };
    let client = format!("{client}{}", 1 + dice.roll(20));
    let tuple =
        Tuple(&client, 1 + dice.roll(40) as u16, vips[dice.roll(2) as usize], 80 + dice.roll(3) as u16);
    let length = dice.roll(60);
    let payload = dice.bytes(length);
    let mut frame = match dice.roll(5) {
        0 => tuple.syn(),
        1 | 2 => tuple.tcp(&payload),
        _ => tuple.udp(&payload),
    };
    if v4 && dice.one_in(4) {
        let words = 1 + dice.roll(10);
        let options = dice.bytes(words * 4);
        let length = u16::from_be_bytes([frame[16], frame[17]]) + words as u16 * 4;
        frame.splice(34..34, options);
        frame[14] += words as u8;
        frame[16..18].copy_from_slice(&length.to_be_bytes());
    }
    if v4 {
        frame[15] = dice.roll(256) as u8;
        let id = dice.bytes(2);
        frame[18..20].copy_from_slice(&id);
        frame[20] = [0x00, 0x40, 0x40, 0x80, 0x20][dice.roll(5) as usize];
        fix_ipv4(&mut frame);
    } else {
        frame[14] = 0x60 | dice.roll(16) as u8;
        frame[15..18].copy_from_slice(&dice.bytes(3));
    }
    if dice.one_in(6) {
        let padding = dice.roll(30);
        frame.extend(dice.bytes(padding));
    }
    frame
}

#[test]
fn x1_the_program_and_the_model_agree_on_random_packets() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
        for port in 80..82 {
            for protocol in [TCP, UDP] {
                for vip in VIPS_V4.into_iter().chain(VIPS_V6) {
                    let service = random_service(&mut dice, vip, port, protocol);
                    bed.add(service);
                }
            }
        }
        let mut verdicts = [0; 5];
        for _ in 0..40_000 {
            let frame = random_frame(&mut dice);
            // Damage that leaves the checksums alone, because the model computes them anew: where the packet ends.
            let end =
                if dice.one_in(10) { 14 + dice.roll(frame.len() as u64 - 13) as usize } else { frame.len() };
            let (verdict, _) = bed.run(&frame[..end]);
            verdicts[verdict as usize] += 1;
        }
        let rare = [Verdict::Drop, Verdict::Pass, Verdict::Transmit, Verdict::Redirect];
        assert!(rare.iter().all(|verdict| verdicts[*verdict as usize] > 2000), "{verdicts:?}");
        counters_agree(&mut bed);
    });
}

fn counters_agree(bed: &mut Bed) {
    let (sent, services) = (bed.model.sent.clone(), bed.model.service_counters.clone());
    for (index, expected) in sent {
        assert_eq!(bed.maps().counter(index).unwrap(), expected, "counter {index}");
    }
    for (service, expected) in services {
        assert_eq!(bed.maps().service_counter(service as u32).unwrap(), expected, "service {service}");
    }
}

#[test]
fn x1_bytes_that_mean_nothing_are_not_encapsulated_by_mistake() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        bed.add(Service::new(key(VIPS_V4[0], 80, UDP), vec![0; 251], numbered_v4(1)));
        bed.add(Service::new(key(VIPS_V6[0], 80, UDP), vec![0; 251], numbered_v6(1)));
        let mut dice = Dice(42);
        for _ in 0..20_000 {
            let mut frame = random_frame(&mut dice);
            let at = dice.roll(frame.len() as u64) as usize;
            frame[at] ^= 1 << dice.roll(8);
            bed.run(&frame);
        }
    });
}
