//! What comes from others than the balancers.

use crate::{Backends, Lab, counts, section};
use netd_integration_tests::bed::{TUNNEL_V4, TUNNEL_V6, backend_v4, backend_v6, vips};
use netd_integration_tests::frames::{Wire as _, datagram, frame, of_protocol};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

/// The port of a VIP at which a test listens itself.
const PORT: u16 = 9999;

const BALANCERS: [&str; 2] = [TUNNEL_V4, TUNNEL_V6];
const STRANGERS: [&str; 2] = ["203.0.113.5", "2001:db8:bad::5"];

/// From whom, and whether it was told with GUE, in this family of the outer header.
fn sent(backends: &Backends, from: [&str; 2], is_gue: bool, outer_v4: bool, text: &[u8]) -> Vec<Vec<u8>> {
    let bed = &backends.bed;
    let (from, to): (IpAddr, IpAddr) = match outer_v4 {
        true => (from[0].parse().unwrap(), backend_v4(1).into()),
        false => (from[1].parse().unwrap(), backend_v6(1).into()),
    };
    let around = |vip: IpAddr| {
        let client = if vip.is_ipv4() { "198.51.100.7:7" } else { "[2001:db8:9::7]:7" };
        let inner = datagram(client.parse().unwrap(), SocketAddr::new(vip, PORT), text);
        let outer = match is_gue {
            true => datagram(SocketAddr::new(from, 0xc001), SocketAddr::new(to, 6080), &inner),
            false => of_protocol(from, to, if vip.is_ipv4() { 4 } else { 41 }, &inner),
        };
        frame((&bed.lb, "b1"), (&bed.backends[0], "eth0"), &[], &outer)
    };
    vips(10).map(around).into()
}

#[test]
fn a_strangers_packets_do_not_get_in() {
    let Some(lab) = Lab::new() else { return };
    let backends = Backends::new(&lab, 1);
    let _netds = backends.start(&section(""));
    let bed = &backends.bed;
    let machine = &bed.backends[0];
    let sockets = vips(10).map(|vip| machine.run(|| UdpSocket::bind(SocketAddr::new(vip, PORT)).unwrap()));
    for socket in &sockets {
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    }
    for (is_gue, outer_v4) in [(false, true), (false, false), (true, true), (true, false)] {
        bed.lb.send_frames("b1", &sent(&backends, STRANGERS, is_gue, outer_v4, b"stranger"));
        // What was sent later has come, and nothing before it.
        bed.lb.send_frames("b1", &sent(&backends, BALANCERS, is_gue, outer_v4, b"balancer"));
        for socket in &sockets {
            let mut buffer = [0; 16];
            let (length, from) = socket.recv_from(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"balancer");
            assert_eq!(from.port(), 7);
        }
    }
    let counts = counts(&backends.sites[0]);
    assert_eq!((counts.packets, counts.strangers), (8, 8), "{counts:?}");
    let site = &backends.sites[0];
    assert_eq!(site.netd(&["apply"]).code, Some(0));
    let text = site.netd(&["status"]).out;
    assert!(text.contains("8 packets of tunnels from others than `from` were dropped"), "{text}");
}
