//! Many new flows at once: who is there already keeps its backend.

use netd_bpf::Capacity;
use netd_bpf::abi::TCP;

use crate::bed::{Bed, CAPACITY, Tuple, in_own_world, key, number_of, numbered_v4, numbered_v6};
use crate::reference::{Service, Settings};

const VIP: &str = "192.0.2.10";

/// How large the flood is: ten times as many new flows come as there is room for records.
struct Flood {
    room: u32,
    syns: u32,
    established: u16,
}

const USUAL: Flood = Flood { room: 1024, syns: 10_240, established: 500 };

/// With `NETD_LONG=1`: a minute or two.
const LONG: Flood = Flood { room: 1_000_000, syns: 10_000_000, established: 5000 };

/// A SYN of one of very many clients.
fn syn_of(number: u32, port: u16) -> Vec<u8> {
    let client = std::net::Ipv4Addr::from(0x0b00_0000 + number).to_string();
    Tuple(&client, 1 + (number % 60_000) as u16, VIP, port).syn()
}

#[test]
fn x8_k34_a_flood_of_new_flows_moves_none_of_an_unchanged_service_and_none_that_was_there_before_the_window()
{
    let Flood { room, syns, established } =
        if std::env::var_os("NETD_LONG").is_some() { LONG } else { USUAL };
    in_own_world(|root| {
        let mut bed = Bed::with(root, Settings::default(), &Capacity { flows: room, ..CAPACITY });
        let ring = |first: u16| (0..251).map(|slot| first + slot % 5).collect::<Vec<_>>();
        bed.add(Service::new(key(VIP, 80, TCP), ring(0), numbered_v4(10)));
        let mut changed = Service::new(key(VIP, 81, TCP), ring(5), numbered_v4(10));
        (changed.previous, changed.window_open) = (Some(ring(0)), true);
        bed.add(changed);
        let frames_of =
            |port: u16| (1..=established).map(move |k| Tuple("10.1.2.3", k, VIP, port).tcp(b"data"));
        let backends = |bed: &mut Bed| {
            let frames: Vec<_> = frames_of(80).chain(frames_of(81)).collect();
            frames.iter().map(|frame| number_of(&bed.datapath.run(frame).unwrap().1)).collect::<Vec<_>>()
        };
        let before = backends(&mut bed);
        for number in 0..syns {
            bed.datapath.run(&syn_of(number, 81)).unwrap();
        }
        assert_eq!(backends(&mut bed), before);
    });
}

/// Few, so that a slot's worth of tuples is soon found.
const SLOTS: u16 = 61;

/// How often each slot is expected.
const EACH: usize = 20;

#[test]
fn x10_tuples_that_were_chosen_for_one_slot_spread_over_all_slots_of_a_balancer_with_another_seed() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        for (vip, backends) in
            [(VIP, numbered_v4(SLOTS.into())), ("2001:db8:100::10", numbered_v6(SLOTS.into()))]
        {
            let known = Service::new(key(vip, 80, TCP), (0..SLOTS).collect(), backends);
            let secret = Service { key: key(vip, 80, TCP), seed: 0x5ec2_e7ed, ..known.clone() };
            bed.add(known);
            let is_v4 = vip.contains('.');
            let tuple = |bed: &Bed, number: usize| {
                let client = if is_v4 {
                    format!("10.9.{}.{}", (number >> 8) & 255, number & 255)
                } else {
                    format!("2001:db8::{:x}:{:x}", number >> 16, number & 0xffff)
                };
                let frame = Tuple(&client, 1024 + (number * 7 % 60_000) as u16, vip, 80).syn();
                number_of(&bed.datapath.run(&frame).unwrap().1)
            };
            let chosen: Vec<usize> =
                (0..).filter(|&number| tuple(&bed, number) == 0).take(EACH * usize::from(SLOTS)).collect();
            bed.add(secret);
            let mut counts = vec![0.0; SLOTS.into()];
            chosen.iter().for_each(|&number| counts[tuple(&bed, number) as usize] += 1.0);
            let each = EACH as f64;
            let chi_square: f64 = counts.iter().map(|count| (count - each) * (count - each) / each).sum();
            // Of 60 degrees of freedom, and six standard deviations.
            assert!(chi_square < 126.0, "{chi_square} over {vip}");
        }
    });
}

#[test]
fn x9_packets_that_begin_no_flow_make_no_records() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        let mut service = Service::new(key(VIP, 80, TCP), vec![2; 251], numbered_v4(3));
        (service.previous, service.window_open) = (Some(vec![1; 251]), true);
        bed.add(service);
        for port in 1..=2000 {
            let mut frame = Tuple("10.1.2.3", port, VIP, 80).tcp(b"");
            // RST, RST with ACK, FIN alone, nothing.
            frame[47] = [0x04, 0x14, 0x01, 0x00][usize::from(port % 4)];
            bed.run(&frame);
        }
        assert_eq!(bed.maps().flows().unwrap(), []);
    });
}

#[test]
fn chance_takes_each_backend_as_often_as_the_ring_names_it() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        let ring = (0..1000).map(|slot| u16::from(slot % 4 == 0)).collect();
        let mut service = Service::new(key(VIP, 80, TCP), ring, numbered_v4(2));
        service.random = true;
        bed.add(service);
        const FLOWS: u32 = 4000;
        let of_one = (0..FLOWS).filter(|number| number_of(&bed.run(&syn_of(*number, 80)).1) == 1).count();
        // A quarter, give or take six standard deviations.
        assert!((836..=1164).contains(&of_one), "{of_one} of {FLOWS}");
    });
}
