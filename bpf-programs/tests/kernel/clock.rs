//! What depends on time: limits, and how old records may be.

use aya::maps::{HashMap, Map, MapData};
use netd_bpf::Verdict;
use netd_bpf::abi::TCP;

use crate::bed::{Bed, CAPACITY, in_own_world, key, now_ns, numbered_v4};
use crate::cases::hall::{MOVED, PLAIN, REFUSING, STICKY};
use crate::cases::hall_of;
use crate::cases::layers::{ACK, FAMILIES, Layers, ip, v4};
use crate::reference::{Count, FlowId, Record, Service, Settings};

const SECOND_NS: u64 = 1_000_000_000;

/// How often something was counted, over all services.
fn counted(bed: &mut Bed, count: Count) -> u64 {
    let of = |service| bytemuck::cast::<_, [u64; 16]>(bed.maps().service_counter(service).unwrap());
    (0..CAPACITY.services).map(of).map(|counts| counts[count as usize]).sum()
}

/// An error of the network about a flow of a service.
fn error_about(port: u16) -> Layers {
    let mut reply = v4().udp(port, 12345);
    std::mem::swap(&mut reply.source, &mut reply.destination);
    v4().from("203.0.113.1").icmp(3, 1, 0, &reply.ip())
}

#[test]
fn x7_errors_that_are_made_and_errors_that_are_relayed_are_limited_each_by_itself() {
    const LIMIT: u32 = 20;
    const SENT: u64 = 1000;
    in_own_world(|root| {
        let mut bed = hall_of(root, Settings { icmp_errors_per_second: LIMIT, ..Settings::default() });
        let (rejected, relayed) =
            (ip(FAMILIES[0]).tcp(1, REFUSING).syn().bytes(), error_about(PLAIN).bytes());
        for (frame, count) in [(rejected, Count::Rejected), (relayed, Count::IcmpRelayed)] {
            let before = counted(&mut bed, Count::RateLimited);
            let start = now_ns() / SECOND_NS;
            for _ in 0..SENT {
                bed.datapath.run(&frame).unwrap();
            }
            // The limit is that of each second by the clock.
            let seconds = now_ns() / SECOND_NS - start + 1;
            let (sent, limited) = (counted(&mut bed, count), counted(&mut bed, Count::RateLimited) - before);
            assert!((1..=u64::from(LIMIT) * seconds).contains(&sent), "{sent} in {seconds} seconds");
            assert_eq!(sent + limited, SENT);
            // The next second allows as many again.
            std::thread::sleep(std::time::Duration::from_millis(1100));
            assert_eq!(bed.datapath.run(&frame).unwrap().0, Verdict::Transmit);
        }
    });
}

#[test]
fn a_limit_below_the_number_of_cpus_is_one_for_each() {
    in_own_world(|root| {
        let mut bed = hall_of(root, Settings { icmp_errors_per_second: 1, ..Settings::default() });
        let frame = ip(FAMILIES[0]).udp(1, REFUSING).bytes();
        assert_eq!(bed.datapath.run(&frame).unwrap().0, Verdict::Transmit);
        assert_eq!(counted(&mut bed, Count::Rejected), 1);
    });
}

#[test]
fn a_fragments_record_is_valid_for_thirty_seconds() {
    for (seconds, verdict) in [(0, Verdict::Transmit), (29, Verdict::Transmit), (31, Verdict::Drop)] {
        in_own_world(|root| {
            let bed = hall_of(root, Settings::default());
            for (family, id) in FAMILIES.into_iter().zip([1, 2]) {
                let whole = ip(family).udp(12345, PLAIN).data(&[1; 64]);
                assert_eq!(
                    bed.datapath.run(&whole.clone().first(32, id).bytes()).unwrap().0,
                    Verdict::Transmit
                );
                age_fragments(root, seconds * SECOND_NS);
                assert_eq!(bed.datapath.run(&whole.later(32, id).bytes()).unwrap().0, verdict, "{seconds} s");
            }
        });
    }
}

/// Makes all records of fragments so much older.
fn age_fragments(root: &std::path::Path, by_ns: u64) {
    let data = MapData::from_pin(root.join("g1/fragments")).unwrap();
    let mut map = HashMap::<_, [u8; 40], [u64; 2]>::try_from(Map::LruHashMap(data)).unwrap();
    for (key, [ports, seen_ns]) in map.iter().map(Result::unwrap).collect::<Vec<_>>() {
        map.insert(key, [ports, seen_ns - by_ns], 0).unwrap();
    }
}

/// When the only record was last seen, after a packet; it was last seen so long ago before.
fn seen_after(bed: &mut Bed, packet: &Layers, port: u16, client_port: u16, ago_ns: u64) -> (u64, u64) {
    bed.forget_flows();
    let to = key("192.0.2.10", port, TCP);
    let service = bed.model.services.iter().find(|service| service.key == to).unwrap();
    let counter = service.backends[2].counter;
    let seen_ns = now_ns() - ago_ns;
    let client = "10.1.2.3".parse().unwrap();
    bed.record(FlowId { client, client_port, to }, Record { counter, index: 2, seen_ns });
    bed.run(&packet.bytes());
    let records = bed.maps().flows().unwrap();
    assert_eq!(records.len(), 1);
    (seen_ns, records[0].1.seen_ns)
}

#[test]
fn the_time_of_a_record_is_written_once_a_second() {
    in_own_world(|root| {
        let mut bed = hall_of(root, Settings::default());
        for (port, client_port) in [(92, 12345), (STICKY, 0)] {
            let packet = v4().tcp(12345, port).with(ACK);
            // On a busy machine the second may be over before the packet comes.
            let in_time = (0..100).any(|_| {
                let (before, after) = seen_after(&mut bed, &packet, port, client_port, 0);
                assert!(after == before || now_ns() > before + SECOND_NS, "port {port}");
                after == before
            });
            assert!(in_time, "port {port}");
            let (before, after) = seen_after(&mut bed, &packet, port, client_port, 2 * SECOND_NS);
            assert!(after >= before + 2 * SECOND_NS, "port {port}");
        }
    });
}

#[test]
fn x7_an_error_about_a_flow_does_not_keep_its_record_alive() {
    in_own_world(|root| {
        let mut bed = hall_of(root, Settings::default());
        let mut reply = v4().tcp(92, 12345);
        std::mem::swap(&mut reply.source, &mut reply.destination);
        let error = v4().from("203.0.113.1").icmp(3, 1, 0, &reply.ip());
        let (before, after) = seen_after(&mut bed, &error, 92, 12345, 5 * SECOND_NS);
        assert_eq!(after, before);
    });
}

#[test]
fn a_client_is_new_when_its_timeout_is_over() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        let mut service = Service::new(key("192.0.2.10", MOVED, TCP), vec![1; 251], numbered_v4(3));
        service.affinity = Some(100);
        bed.add(service);
        let packet = v4().tcp(12345, MOVED).with(ACK);
        for (ago_ns, kept) in [(50 * SECOND_NS, true), (101 * SECOND_NS, false)] {
            let (_, after) = seen_after(&mut bed, &packet, MOVED, 0, ago_ns);
            let records = bed.maps().flows().unwrap();
            assert_eq!(records[0].1.index == 2, kept, "{after}");
        }
    });
}
