//! Probes through the tunnel, without netd: all families in all families, every kind of question, GUE.

use crate::web::Web;
use crate::{PORT, bed, give_routes};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use netd::facts::{FactsReader, Path, resolve};
use netd::health::check::{HttpQuestion, Question};
use netd::health::probe::{Aim, Answer, ask};
use netd_bpf::probe_tunnel::{Outer, ProbeTunnel, mark};
use netd_integration_tests::bed::{backend_v4, backend_v6, index_of, vip_v4, vip_v6};
use netd_integration_tests::capture::Capture;
use netd_integration_tests::{Arrival, Bed, Lab};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(5);

/// Headers for a packet to the first backend by this address of its.
async fn outer(backend: IpAddr, gue_port: Option<u16>) -> Outer {
    let facts = FactsReader::new("lb".into()).read().await.unwrap();
    let Path { ifindex, destination_mac, source_mac, source, .. } = resolve(&facts, backend).unwrap();
    Outer {
        ifindex,
        destination_mac: destination_mac.0,
        source_mac: source_mac.0,
        source,
        destination: backend,
        gue_port,
        hop_limit: 33,
    }
}

/// Pings a backend directly, so that the kernel knows its MAC.
async fn meet(backend: IpAddr) {
    let aim = Aim { to: SocketAddr::new(backend, 0), from: None, mark: None };
    assert_eq!(ask(&aim, &Question::Icmp, LONG).await, Answer::Good);
}

/// What comes of a question to the VIP through the tunnel to a backend, on path 7.
fn asked(bed: &Bed, vip: IpAddr, backend: IpAddr, port: u16, question: &Question, wait: Duration) -> Answer {
    bed.lb.run_async(|| async {
        meet(backend).await;
        let mut tunnel = ProbeTunnel::load().unwrap();
        tunnel.set(7, &outer(backend, None).await).unwrap();
        tunnel.attach("eth0", index_of("eth0")).unwrap();
        let aim = Aim { to: SocketAddr::new(vip, port), from: None, mark: Some(mark(7)) };
        ask(&aim, question, wait).await
    })
}

/// Both VIPs through the tunnels of both families.
fn combinations() -> [(IpAddr, IpAddr); 4] {
    let backends: [IpAddr; 2] = [backend_v4(1).into(), backend_v6(1).into()];
    [
        (vip_v4(10), backends[0]),
        (vip_v6(10), backends[1]),
        (vip_v4(10), backends[1]),
        (vip_v6(10), backends[0]),
    ]
}

#[test]
fn connections_through_tunnels_of_all_families() {
    let Some(lab) = Lab::new() else { return };
    let bed = bed(&lab, &[Arrival::Decapsulate]);
    let web = Web::start(&bed.backends[0], 1, &[vip_v4(10), vip_v6(10)].map(|vip| (vip, PORT).into()));
    let question =
        HttpQuestion { is_tls: false, path: "/healthz".into(), host: None, status: vec![(200, 200)] };
    for (number, (vip, backend)) in combinations().into_iter().enumerate() {
        let answer = asked(&bed, vip, backend, PORT, &Question::Http(question.clone()), LONG);
        assert_eq!((answer, web.checks()), (Answer::Good, number + 1), "{vip} by {backend}");
        assert_eq!(asked(&bed, vip, backend, PORT, &Question::Tcp, LONG), Answer::Good, "{vip} by {backend}");
        let refused = asked(&bed, vip, backend, PORT + 1, &Question::Tcp, LONG);
        assert_eq!(refused, Answer::Bad("connection refused".into()), "{vip} by {backend}");
    }
}

#[test]
fn datagrams_and_echo_requests_through_tunnels_of_all_families() {
    let Some(lab) = Lab::new() else { return };
    let bed = bed(&lab, &[Arrival::Decapsulate]);
    for (vip, backend) in combinations() {
        let server = bed.backends[0].run(|| UdpSocket::bind((vip, 53))).unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 100];
            let (length, from) = server.recv_from(&mut buffer).unwrap();
            server.send_to(&buffer[..length], from).unwrap();
        });
        let question = Question::Udp { send: b"who?".to_vec(), expect: Some(b"who".to_vec()) };
        assert_eq!(asked(&bed, vip, backend, 53, &question, LONG), Answer::Good, "{vip} by {backend}");
        let question = Question::Udp { send: b"who?".to_vec(), expect: None };
        let refused = asked(&bed, vip, backend, 54, &question, LONG);
        assert_eq!(refused, Answer::Bad("connection refused".into()), "{vip} by {backend}");
        assert_eq!(asked(&bed, vip, backend, 0, &Question::Icmp, LONG), Answer::Good, "{vip} by {backend}");
    }
}

#[test]
fn with_gue_the_inner_packet_follows_the_udp_header() {
    let Some(lab) = Lab::new() else { return };
    let bed = bed(&lab, &[Arrival::Leave]);
    for (vip, backend) in combinations() {
        let capture = Capture::first(&bed, &bed.backends[0], "udp port 6080");
        bed.lb.run_async(|| async {
            meet(backend).await;
            let mut tunnel = ProbeTunnel::load().unwrap();
            tunnel.set(9, &outer(backend, Some(6080)).await).unwrap();
            tunnel.attach("eth0", index_of("eth0")).unwrap();
            let aim = Aim { to: SocketAddr::new(vip, 53), from: None, mark: Some(mark(9)) };
            let question = Question::Udp { send: b"inside".to_vec(), expect: None };
            ask(&aim, &question, Duration::from_millis(100)).await
        });
        let frame = capture.wait().frame;
        let packet = SlicedPacket::from_ethernet(&frame).unwrap();
        let (to, hops) = match &packet.net {
            Some(NetSlice::Ipv4(ip)) => (IpAddr::from(ip.header().destination_addr()), ip.header().ttl()),
            Some(NetSlice::Ipv6(ip)) => {
                (IpAddr::from(ip.header().destination_addr()), ip.header().hop_limit())
            }
            other => panic!("{other:?}"),
        };
        assert_eq!((to, hops), (backend, 33));
        let Some(TransportSlice::Udp(udp)) = &packet.transport else { panic!("no UDP: {packet:?}") };
        assert_eq!((udp.destination_port(), udp.checksum()), (6080, 0));
        assert!(udp.source_port() >= 0xc000);
        let inner = SlicedPacket::from_ip(udp.payload()).unwrap();
        let inner_to = match &inner.net {
            Some(NetSlice::Ipv4(ip)) => IpAddr::from(ip.header().destination_addr()),
            Some(NetSlice::Ipv6(ip)) => IpAddr::from(ip.header().destination_addr()),
            other => panic!("{other:?}"),
        };
        let Some(TransportSlice::Udp(asked)) = &inner.transport else { panic!("no UDP: {inner:?}") };
        assert_eq!((inner_to, asked.destination_port(), asked.payload()), (vip, 53, &b"inside"[..]));
    }
}

#[test]
fn a_probe_whose_path_is_gone_goes_nowhere() {
    let Some(lab) = Lab::new() else { return };
    let bed = bed(&lab, &[Arrival::Decapsulate]);
    let (vip, backend) = combinations()[0];
    let _web = Web::start(&bed.backends[0], 1, &[(vip, PORT).into()]);
    let answer = bed.lb.run_async(|| async {
        meet(backend).await;
        let mut tunnel = ProbeTunnel::load().unwrap();
        tunnel.set(7, &outer(backend, None).await).unwrap();
        tunnel.remove(7).unwrap();
        tunnel.remove(7).unwrap();
        tunnel.attach("eth0", index_of("eth0")).unwrap();
        let aim = Aim { to: SocketAddr::new(vip, PORT), from: None, mark: Some(mark(7)) };
        ask(&aim, &Question::Tcp, Duration::from_millis(300)).await
    });
    assert_eq!(answer, Answer::Bad("no answer within 300ms".into()));
}

#[test]
fn k8_a_device_that_has_the_index_of_another_gets_the_program_too() {
    let Some(lab) = Lab::new() else { return };
    let bed = bed(&lab, &[Arrival::Decapsulate]);
    let (vip, backend) = combinations()[0];
    let _web = Web::start(&bed.backends[0], 1, &[(vip, PORT).into()]);
    bed.lb.run_async(|| async {
        meet(backend).await;
        let index = index_of("eth0");
        let mut tunnel = ProbeTunnel::load().unwrap();
        tunnel.set(7, &outer(backend, None).await).unwrap();
        tunnel.attach("eth0", index).unwrap();
        bed.lb.ip(&["link", "del", "eth0"]);
        bed.connect_client(Some(index));
        give_routes(&bed);
        assert_eq!(index_of("eth0"), index);
        tunnel.attach("eth0", index).unwrap();
        let aim = Aim { to: SocketAddr::new(vip, PORT), from: None, mark: Some(mark(7)) };
        assert_eq!(ask(&aim, &Question::Tcp, LONG).await, Answer::Good);
    });
}

#[test]
fn the_program_leaves_with_its_owner() {
    let Some(lab) = Lab::new() else { return };
    let bed = bed(&lab, &[Arrival::Decapsulate]);
    let aim = Aim { to: SocketAddr::new(vip_v4(10), 53), from: None, mark: Some(mark(7)) };
    let question = Question::Udp { send: b"alone".to_vec(), expect: None };
    bed.lb.run(|| {
        let mut tunnel = ProbeTunnel::load().unwrap();
        tunnel.attach("eth0", index_of("eth0")).unwrap();
        tunnel.attach("eth0", index_of("eth0")).unwrap();
        assert_eq!(tunnel.devices().count(), 1);
    });
    // Nobody catches it any more.
    let capture = Capture::first(&bed, &bed.client, "udp port 53");
    bed.lb.run_async(|| async { ask(&aim, &question, Duration::from_millis(100)).await });
    assert!(capture.wait().text.contains("192.0.2.10.53"));
}
