//! Datagrams in fragments: all of them reach the one backend that whole ones of the flow reach.

use crate::{DNS, at, servers, web};
use netd_integration_tests::bed::CLIENT_V4;
use netd_integration_tests::capture::Recording;
use netd_integration_tests::desired::file;
use netd_integration_tests::frames::{Wire as _, datagram, fragments, frame};
use netd_integration_tests::{Bed, Lab};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

/// Three fragments.
const BYTES: usize = 4000;

/// What fits into a packet of 1,500 bytes, and eight divides.
const FRAGMENT_BYTES: usize = 1448;

fn pattern() -> Vec<u8> {
    (0..BYTES).map(|at| (at % 241) as u8).collect()
}

/// The number of the backend that answered a datagram, which has come back whole.
fn answer(socket: &UdpSocket) -> Option<u8> {
    let mut buffer = vec![0; BYTES + 2];
    let length = socket.recv(&mut buffer).ok()?;
    assert!(buffer[1..length] == pattern(), "{length} bytes came back");
    Some(buffer[0])
}

#[test]
fn large_datagrams_arrive_whole_where_small_ones_of_the_flow_do() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 3);
    let _servers = servers(&bed);
    bed.write(&file(&[web(3)]));
    let _netd = bed.start_ok();
    let recording = Recording::start(&bed, &bed.client, "eth0", &format!("src {CLIENT_V4} and udp"));
    let mut answered = [0; 3];
    for to in at(DNS) {
        for port in 20000..20012 {
            let small = bed.ask_udp_from(port, to).unwrap();
            let socket = bed.client_udp(port, to);
            for _ in 0..2 {
                socket.send(&pattern()).unwrap();
                assert_eq!(answer(&socket), Some(small), "port {port} to {to}");
            }
            answered[usize::from(small) - 1] += 1;
        }
    }
    assert!(answered.iter().all(|&flows| flows > 0), "{answered:?}");
    let seen = recording.end();
    assert!(seen.iter().any(|packet| packet.contains("offset 1480, flags [+]")), "no fragments: {seen:#?}");
}

/// How long an answer is waited for that comes, and one that does not.
const ARRIVES: Duration = Duration::from_secs(10);
const LOST: Duration = Duration::from_millis(700);

/// Fragments of one datagram in this order, and which backend answered it.
fn in_order(
    bed: &Bed,
    to: SocketAddr,
    identification: u16,
    order: &[usize],
    patience: Duration,
) -> Option<u8> {
    const PORT: u16 = 23456;
    let socket = bed.client_udp(PORT, to);
    socket.set_read_timeout(Some(patience)).unwrap();
    let from = SocketAddr::new(crate::client(to.ip()), PORT);
    let pieces = fragments(&datagram(from, to, &pattern()), FRAGMENT_BYTES, identification);
    let ends = ((&bed.client, "eth0"), (&bed.lb, "eth0"));
    let frames: Vec<Vec<u8>> = pieces.iter().map(|piece| frame(ends.0, ends.1, &[], piece)).collect();
    let ordered: Vec<Vec<u8>> = order.iter().map(|&piece| frames[piece].clone()).collect();
    bed.client.send_frames("eth0", &ordered);
    answer(&socket)
}

#[test]
fn fragments_may_come_in_any_order_behind_the_first() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 3);
    let _servers = servers(&bed);
    bed.write(&file(&[web(3)]));
    let _netd = bed.start_ok();
    for to in at(DNS) {
        let whole = bed.ask_udp_from(23456, to);
        assert!(whole.is_some());
        for (order, identification) in [[0, 1, 2], [0, 2, 1]].into_iter().zip(100..) {
            assert_eq!(in_order(&bed, to, identification, &order, ARRIVES), whole, "{order:?} to {to}");
        }
        // Nobody knows where a fragment goes before the first has told; the datagram is lost, as on any way.
        assert_eq!(in_order(&bed, to, 200, &[1, 0, 2], LOST), None, "{to}");
        assert_eq!(in_order(&bed, to, 201, &[1, 2, 0], LOST), None, "{to}");
        // The sender of a record that exists says the rest again, and it arrives.
        assert_eq!(in_order(&bed, to, 202, &[1, 0, 2, 1], ARRIVES), whole, "{to}");
    }
}

#[test]
fn fragments_of_ports_without_a_service_reach_nobody() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 1);
    let _servers = servers(&bed);
    bed.write(&file(&[web(1).with("unknown_port = \"reject\"")]));
    let _netd = bed.start_ok();
    let [asked, behind] = [&bed.client, &bed.backends[0]].map(|machine| {
        Recording::start(
            &bed,
            machine,
            "eth0",
            "icmp or (icmp6 and ip6[40] < 128) or udp port 54 or ip6 proto 44",
        )
    });
    for to in at(54) {
        assert_eq!(in_order(&bed, to, 7, &[0, 1, 2], LOST), None);
    }
    assert_eq!(behind.end(), Vec::<String>::new());
    let asked = asked.end();
    assert!(!asked.iter().any(|packet| packet.contains("unreachable")), "fragments are rejected: {asked:#?}");
}
