//! Frames behind a tag of 802.1Q.

use crate::{DNS, assert_sound, at, client, servers, web, with};
use netd_integration_tests::capture::Recording;
use netd_integration_tests::desired::file;
use netd_integration_tests::frames::{Wire as _, datagram, frame};
use netd_integration_tests::{Bed, Lab};
use std::net::SocketAddr;
use std::time::Duration;

/// The tag's identifier.
const TAG: u16 = 7;

/// The answer goes the way of the routes, without a tag.
#[test]
fn packets_behind_one_tag_reach_a_backend_and_behind_two_the_kernel() {
    const PORT: u16 = 23456;
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 3);
    let _servers = servers(&bed);
    bed.write(&file(&[web(3)]));
    let _netd = bed.start_ok();
    for to in at(DNS) {
        let plain = bed.ask_udp_from(PORT, to);
        let socket = bed.client_udp(PORT, to);
        let from = SocketAddr::new(client(to.ip()), PORT);
        for (tags, expected) in [(&[TAG][..], plain), (&[TAG, TAG], None), (&[], plain)] {
            let patience = if expected.is_some() { 10_000 } else { 700 };
            socket.set_read_timeout(Some(Duration::from_millis(patience))).unwrap();
            let packet = datagram(from, to, b"tagged");
            bed.client.send_frames("eth0", &[frame((&bed.client, "eth0"), (&bed.lb, "eth0"), tags, &packet)]);
            let mut buffer = [0; 16];
            let answer = socket.recv(&mut buffer).ok().map(|length| {
                assert_eq!(&buffer[1..length], b"tagged");
                buffer[0]
            });
            assert_eq!(answer, expected, "{tags:?} to {to}");
        }
    }
}

#[test]
fn what_the_program_answers_keeps_the_tag() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 1);
    bed.write(&file(&[web(1).with("unknown_port = \"reject\"")]));
    let _netd = bed.start_ok();
    let recording = Recording::start(&bed, &bed.client, "eth0", "vlan 7");
    for to in at(54) {
        let from = SocketAddr::new(client(to.ip()), 23456);
        let packet = datagram(from, to, b"tagged");
        bed.client.send_frames("eth0", &[frame((&bed.client, "eth0"), (&bed.lb, "eth0"), &[TAG], &packet)]);
    }
    let seen = recording.end();
    assert_sound(&seen);
    assert_eq!(with(&seen, &["192.0.2.10 > 10.1.2.3", "udp port 54 unreachable"]).len(), 1, "{seen:#?}");
    assert_eq!(with(&seen, &["2001:db8:100::10 > 2001:db8::1", "udp port 54"]).len(), 1, "{seen:#?}");
}
