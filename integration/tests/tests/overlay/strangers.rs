//! Nobody but nodes is let out of the tunnel.

use etherparse::PacketBuilder;
use netd_integration_tests::Lab;
use netd_integration_tests::mesh::{Mesh, addresses};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

/// Where the pod listens.
const PORT: u16 = 5000;

/// A packet for the pod of node a, as VXLAN has it.
fn tunnelled(vni: u32, text: &[u8]) -> Vec<u8> {
    let [IpAddr::V4(from), _] = addresses(1) else { panic!("the first is of IPv4") };
    let [IpAddr::V4(to), _] = addresses(0) else { panic!("the first is of IPv4") };
    let mut bytes = vec![0x08, 0, 0, 0];
    bytes.extend((vni << 8).to_be_bytes());
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
        .ipv4(from.octets(), to.octets(), 64)
        .udp(PORT, PORT)
        .write(&mut bytes, text)
        .unwrap();
    bytes
}

#[test]
fn a_stranger_and_another_network_are_dropped_and_told_of_and_a_node_is_heard() {
    let Some(lab) = Lab::new() else { return };
    let mesh = Mesh::new(&lab);
    mesh.apply("mode = \"vxlan\"\nvni = 77");
    let [node, ..] = &mesh.nodes;
    let [pod, _] = addresses(0);
    let heard = node.pod.run(|| UdpSocket::bind(SocketAddr::new(pod, PORT))).unwrap();
    heard.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let from_wire = mesh.wire.run(|| UdpSocket::bind("10.0.0.254:0")).unwrap();
    let from_node = mesh.nodes[1].machine.run(|| UdpSocket::bind("10.0.0.2:0")).unwrap();
    let tunnel: SocketAddr = "10.0.0.1:8472".parse().unwrap();
    from_wire.send_to(&tunnelled(77, b"stranger"), tunnel).unwrap();
    from_node.send_to(&tunnelled(78, b"elsewhere"), tunnel).unwrap();
    // Both were before it on the same device.
    let dropped = || {
        let root = node.site.bpf_dir().join("overlay");
        netd_bpf::overlay::Overlay::open(&root).unwrap().unwrap().counts().strangers
    };
    netd_integration_tests::netd::wait_until("dropped", Duration::from_secs(10), || dropped() >= 2);
    from_node.send_to(&tunnelled(77, b"node"), tunnel).unwrap();
    let mut buffer = [0; 64];
    let length = heard.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"node");
    let report = node.site.status().to_string();
    assert!(report.contains("2 packets of the tunnel were dropped"), "{report}");
}
