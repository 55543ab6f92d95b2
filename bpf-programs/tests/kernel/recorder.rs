//! What the recorder hands over of packets, and to whom.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netd_bpf::Verdict;
use netd_bpf::abi::TCP;
use netd_bpf::recorder::{ANY_PORT, Capture, CaptureError, Counts, Filter, Header, Recorder, Size, abi};

use crate::bed::{Bed, CAPACITY, Tuple, fix_ipv4, in_own_world, key, numbered_v4};
use crate::packets::{V4, V6, VIP, four_services};
use crate::random::dice::Dice;
use crate::random::{bed_of, round};
use crate::reference::{Service, Unknown, Vip};

const HEADER: u64 = size_of::<Header>() as u64;
/// Words of a service's counter, and beyond.
const NO_BACKEND: u8 = 0;
const NO_EVENT: u8 = 16;

fn all(family: &str) -> Filter {
    let everything: IpNetwork = family.parse().unwrap();
    Filter {
        source: everything,
        destination: everything,
        source_ports: ANY_PORT,
        destination_ports: ANY_PORT,
        protocol: None,
    }
}

fn both_families() -> Capture {
    Capture { filters: vec![all("0.0.0.0/0"), all("::/0")], snaplen: 65535, share: 1 << 20 }
}

fn start(bed: &mut Bed) -> Recorder {
    bed.datapath.start_recording(Size::default()).unwrap_or_else(|error| panic!("{error}"))
}

fn polled(recorder: &mut Recorder) -> Vec<(Header, Vec<u8>)> {
    let mut records = Vec::new();
    recorder.poll(usize::MAX, |header, frame| records.push((*header, frame.to_vec())));
    records
}

#[test]
fn a_packet_is_recorded_as_it_came_in_and_as_it_left_under_one_id() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        four_services(&mut bed, 8080);
        let mut recorder = start(&mut bed);
        recorder.begin(&both_families()).unwrap();
        let mut ids = Vec::new();
        for frame in [V4.tcp(b"hello"), V4.udp(b"hello"), V6.tcp(b"hello"), V6.udp(b"hello")] {
            let (verdict, out) = bed.run(&frame);
            assert_eq!(verdict, Verdict::Transmit);
            let records = polled(&mut recorder);
            let [(came, before), (left, after)] = &records[..] else { panic!("{records:?}") };
            assert_eq!((before, after), (&frame, &out));
            assert_eq!((came.point, left.point, left.verdict), (0, 1, 3));
            assert_eq!((came.bytes, left.bytes), (frame.len() as u32, out.len() as u32));
            assert_eq!(came.id, left.id);
            assert_eq!((came.ifindex, left.backend, left.event), (1, 0, NO_EVENT));
            assert!(came.ns <= left.ns);
            ids.push(came.id);
        }
        ids.dedup();
        assert_eq!(ids.len(), 4);
    });
}

#[test]
fn what_does_not_leave_is_told_with_the_reason() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        bed.add(Service::new(key(VIP, 80, TCP), vec![], numbered_v4(0)));
        let mut recorder = start(&mut bed);
        recorder.begin(&both_families()).unwrap();
        assert_eq!(bed.run(&V4.tcp(b"x")).0, Verdict::Drop);
        let (stayed, frame) = polled(&mut recorder).pop().unwrap();
        assert_eq!((stayed.point, stayed.verdict, stayed.event, stayed.service), (2, 1, NO_BACKEND, 0));
        assert!(frame.is_empty());

        let other = Tuple("10.1.2.3", 1, "198.51.100.1", 80);
        bed.passes(&other.tcp(b"x"));
        let (stayed, _) = polled(&mut recorder).pop().unwrap();
        assert_eq!((stayed.verdict, stayed.event, stayed.service), (2, NO_EVENT, abi::NO_SERVICE));
    });
}

#[test]
fn frames_are_cut_to_what_is_wanted_and_their_lengths_are_told() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        four_services(&mut bed, 0);
        let mut recorder = start(&mut bed);
        let number = recorder.begin(&Capture { snaplen: 60, ..both_families() }).unwrap();
        let frame = V4.udp(&[7; 1000]);
        let (_, out) = bed.run(&frame);
        let records = polled(&mut recorder);
        let [(came, before), (left, after)] = &records[..] else { panic!("{records:?}") };
        assert_eq!((&before[..], &after[..]), (&frame[..60], &out[..60]));
        assert_eq!((came.bytes, left.bytes), (frame.len() as u32, out.len() as u32));
        let bytes = (frame.len() + out.len()) as u64;
        assert_eq!(recorder.counts(number), Counts { packets: 2, bytes, ..Counts::default() });
    });
}

#[test]
fn what_is_captured_and_what_is_lost_are_all_that_was_seen() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        four_services(&mut bed, 0);
        let size = Size { ring_bytes: 4096, ..Size::default() };
        let mut recorder = bed.datapath.start_recording(size).unwrap();
        let number = recorder.begin(&both_families()).unwrap();
        let frame = V6.udp(&[7; 200]);
        let mut out = 0;
        for _ in 0..50 {
            out = bed.run(&frame).1.len();
        }
        let counts = recorder.counts(number);
        assert_eq!(counts.packets + counts.lost_packets, 100);
        assert_eq!(counts.bytes + counts.lost_bytes, 50 * (frame.len() + out) as u64);
        assert!(counts.lost_packets > 50, "{counts:?}");
        assert_eq!(polled(&mut recorder).len() as u64, counts.packets);
        bed.run(&frame);
        assert_eq!(polled(&mut recorder).len(), 2, "there is room again");
    });
}

#[test]
fn a_capture_has_no_more_of_the_ring_than_its_share() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        four_services(&mut bed, 0);
        let mut recorder = start(&mut bed);
        let frame = V4.udp(&[7; 100]);
        let share = 3 * (HEADER + frame.len() as u64) as u32;
        let small =
            recorder.begin(&Capture { share, snaplen: frame.len() as u32, ..both_families() }).unwrap();
        let large = recorder.begin(&both_families()).unwrap();
        for _ in 0..10 {
            bed.run(&frame);
        }
        assert_eq!(recorder.counts(large).packets, 20);
        let counts = recorder.counts(small);
        assert_eq!(counts.packets + counts.lost_packets, 20);
        assert!((1..=3).contains(&counts.packets), "{counts:?}");
        let records = polled(&mut recorder);
        let of = |number: u8| {
            records
                .iter()
                .filter(|(header, _)| header.captures >> number & 1 == 1 && header.point != 2)
                .count() as u64
        };
        assert_eq!((of(small), of(large)), (counts.packets, 20));
        bed.run(&frame);
        assert!(recorder.counts(small).packets > counts.packets, "what was taken out may be used again");
    });
}

#[test]
fn later_fragments_are_recorded_by_the_ports_of_the_first() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        four_services(&mut bed, 0);
        bed.add_vip(Vip { address: VIP.parse().unwrap(), ping: false, unknown: Unknown::Drop, service: 9 });
        let mut recorder = start(&mut bed);
        let filter = Filter { destination_ports: 80..=80, protocol: Some(17), ..all("0.0.0.0/0") };
        recorder.begin(&Capture { filters: vec![filter], ..both_families() }).unwrap();
        let fragment = |offset: u16, id: u8| {
            let mut frame = V4.udp(&[7; 64]);
            frame[18..20].copy_from_slice(&[9, id]);
            frame[20..22].copy_from_slice(&offset.to_be_bytes());
            fix_ipv4(&mut frame);
            frame
        };
        let cases = [
            (fragment(0x2000, 1), Verdict::Transmit, 2),
            (fragment(9, 1), Verdict::Transmit, 2),
            (fragment(9, 2), Verdict::Drop, 0),
        ];
        for (frame, verdict, records) in cases {
            assert_eq!(bed.run(&frame).0, verdict);
            assert_eq!(polled(&mut recorder).len(), records);
        }
    });
}

#[test]
fn the_program_that_records_says_what_the_other_one_says() {
    in_own_world(|root| {
        let mut bed = bed_of(root, 1);
        let mut recorder = start(&mut bed);
        let number = recorder.begin(&both_families()).unwrap();
        for seed in 900_000..900_003 {
            round(&mut bed, seed).unwrap_or_else(|failure| panic!("{failure}"));
        }
        assert!(recorder.counts(number).lost_packets > 1000, "the ring is full most of the time");
    });
}

#[test]
fn the_next_generation_records_as_the_one_before_it() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        let mut recorder = start(&mut bed);
        let number = recorder.begin(&both_families()).unwrap();
        bed.passes(&V4.tcp(b"before"));
        bed.datapath = bed.datapath.next_generation(&CAPACITY, &abi_settings()).unwrap();
        bed.passes(&V4.tcp(b"after"));
        assert_eq!(recorder.counts(number).packets, 2);
        let recording = bed.datapath.program_id().unwrap();
        bed.datapath.stop_recording().unwrap();
        assert_ne!(bed.datapath.program_id().unwrap(), recording);
        assert!(!root.join("recorder").exists());
        bed.passes(&V4.tcp(b"later"));
        assert_eq!(recorder.counts(number).packets, 2);
    });
}

fn abi_settings() -> netd_bpf::abi::Settings {
    netd_bpf::abi::Settings {
        hop_limit: 64,
        outer_dscp: netd_bpf::abi::COPY,
        copies_ecn: 1,
        has_pools: 1,
        ..Default::default()
    }
}

#[test]
fn no_more_captures_are_begun_than_there_can_be_and_an_ended_one_makes_room() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        let mut recorder = start(&mut bed);
        let numbers: Vec<u8> =
            (0..abi::CAPTURES_MAX).map(|_| recorder.begin(&both_families()).unwrap()).collect();
        assert!(matches!(recorder.begin(&both_families()), Err(CaptureError::TooMany)));
        recorder.end(numbers[5]).unwrap();
        assert!(matches!(recorder.begin(&both_families()), Err(CaptureError::TooMany)), "it is not drained");
        assert!(recorder.is_drained(numbers[5]));
        recorder.forget(numbers[5]);
        let again = recorder.begin(&both_families()).unwrap();
        assert_eq!(again, numbers[5]);
        bed.passes(&V4.tcp(b"x"));
        assert_eq!(polled(&mut recorder)[0].0.captures, u32::MAX);
    });
}

/// Few addresses, ports and protocols, so that many filters match.
const ADDRESSES: [&str; 4] = ["10.0.0.1", "10.0.0.2", "10.0.1.1", "10.128.0.1"];
const ADDRESSES6: [&str; 4] = ["fd00::1", "fd00::2", "fd00:0:0:1::1", "fd80::1"];
const PORTS: [u16; 6] = [0, 1, 80, 81, 1024, 65535];
const PROTOCOLS: [u8; 4] = [6, 17, 132, 89];

fn random_filter(dice: &mut Dice) -> Filter {
    let (addresses, lengths) =
        if dice.one_in(2) { (ADDRESSES, [0, 9, 24, 32]) } else { (ADDRESSES6, [0, 9, 64, 128]) };
    let mut prefix = || {
        let address: IpAddr = dice.of(&addresses).parse().unwrap();
        let network = IpNetwork::new(address, dice.of(&lengths)).unwrap();
        IpNetwork::new(network.network(), network.prefix()).unwrap()
    };
    let (source, destination) = (prefix(), prefix());
    let mut ports = || match dice.roll(4) {
        0 => 80..=80,
        1 => 80..=81,
        _ => ANY_PORT,
    };
    let (source_ports, destination_ports) = (ports(), ports());
    let protocol = if dice.one_in(2) { Some(dice.of(&PROTOCOLS)) } else { None };
    Filter { source, destination, source_ports, destination_ports, protocol }
}

fn random_frame(dice: &mut Dice) -> (Vec<u8>, netd_bpf::recorder::Tuple) {
    let addresses = if dice.one_in(2) { ADDRESSES } else { ADDRESSES6 };
    let (from, to) = (dice.of(&addresses), dice.of(&addresses));
    let (source_port, destination_port) = (dice.of(&PORTS), dice.of(&PORTS));
    let protocol = dice.of(&PROTOCOLS);
    let tuple = Tuple(from, source_port, to, destination_port);
    let mut frame = if protocol == 6 { tuple.tcp(b"x") } else { tuple.udp(b"x") };
    if from.contains(':') {
        frame[20] = protocol;
    } else {
        frame[23] = protocol;
        fix_ipv4(&mut frame);
    }
    let packet = netd_bpf::recorder::Tuple {
        source: from.parse().unwrap(),
        destination: to.parse().unwrap(),
        protocol,
        ports: (protocol != 89).then_some((source_port, destination_port)),
    };
    (frame, packet)
}

#[test]
fn captures_get_what_their_filters_match_while_others_come_and_go() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        let mut recorder = start(&mut bed);
        let mut dice = Dice::new(7);
        let mut under_way: BTreeMap<u8, Vec<Filter>> = BTreeMap::new();
        let (mut refused, mut wanted) = (0, 0);
        for _ in 0..300 {
            if under_way.len() > 6 || (!under_way.is_empty() && dice.one_in(3)) {
                let number = dice.of(&under_way.keys().copied().collect::<Vec<_>>());
                recorder.end(number).unwrap();
                recorder.forget(number);
                under_way.remove(&number);
            } else {
                let filters: Vec<Filter> = (0..=dice.roll(5)).map(|_| random_filter(&mut dice)).collect();
                match recorder.begin(&Capture { filters: filters.clone(), ..both_families() }) {
                    Ok(number) => assert!(under_way.insert(number, filters).is_none()),
                    Err(CaptureError::Masks(_)) => refused += 1,
                    Err(other) => panic!("{other}"),
                }
            }
            for _ in 0..20 {
                let (frame, packet) = random_frame(&mut dice);
                bed.datapath.run(&frame).unwrap();
                let expected = under_way
                    .iter()
                    .filter(|(_, filters)| filters.iter().any(|filter| filter.matches(&packet)));
                let expected = expected.fold(0, |captures, (number, _)| captures | 1 << number);
                let got = polled(&mut recorder).first().map_or(0, |(header, _)| header.captures);
                assert_eq!(got, expected, "{packet:?} of {under_way:?}");
                wanted += u32::from(expected != 0);
            }
        }
        assert!(refused > 0 && wanted > 1000, "{refused} refused, {wanted} wanted");
    });
}
