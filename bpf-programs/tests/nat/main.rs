//! Pods reach a server outside, both families, by the node's address: real sockets, through the programs on a device.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod world;

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use netd_bpf::nat::{EgressRule, EgressRules, Nat, Ports};

use world::{
    GATEWAY, GATEWAY_MAC, NODE, OUTSIDE, PATIENCE, PODS, PORTS, SERVER, World, in_world, index, ip,
    wait_until,
};

#[test]
fn connections_carry_megabytes_both_ways() {
    in_world(|world| {
        let came = world.listen_tcp(80);
        for (server, node) in SERVER.into_iter().zip(NODE) {
            let sent: Vec<u8> = (0..4_000_000_u32).map(|at| ((at * 31) >> 3) as u8).collect();
            let mut stream = connect(world, server, 80);
            let mut writer = stream.try_clone().unwrap();
            let received = std::thread::scope(|scope| {
                scope.spawn(|| writer.write_all(&sent).unwrap());
                let mut received = vec![0; sent.len()];
                stream.read_exact(&mut received).unwrap();
                received
            });
            assert!(received == sent, "what came back over {server} is not what was sent");
            assert_seen_as(came.recv_timeout(PATIENCE).unwrap(), node);
        }
        let counts = world.nat.counts();
        assert_eq!((counts.created, counts.malformed, counts.no_mapping), (2, 0, 0));
    });
}

#[test]
fn datagrams_and_their_fragments_come_back() {
    in_world(|world| {
        let came = world.listen_udp(5000);
        for (server, node) in SERVER.into_iter().zip(NODE) {
            let socket = World::udp(&world.pod, server, 0);
            for bytes in [0, 1, 1400, 1473, 8000, 60_000] {
                let sent: Vec<u8> = (0..bytes).map(|at: u32| (at * 7) as u8).collect();
                socket.send_to(&sent, (server, 5000)).unwrap();
                let mut buffer = vec![0; 1 << 16];
                let (count, from) =
                    socket.recv_from(&mut buffer).unwrap_or_else(|why| panic!("{bytes}: {why}"));
                assert_eq!((&buffer[..count], from.ip()), (&sent[..], ip(server)));
                assert_seen_as(came.recv_timeout(PATIENCE).unwrap(), node);
            }
        }
        assert_eq!(world.nat.counts().created, 2);
    });
}

#[test]
fn pings_come_back_small_and_in_fragments() {
    in_world(|world| {
        for server in SERVER {
            for bytes in ["8", "56", "4000"] {
                let mut ping = world.pod.command("ping");
                let output = ping.args(["-c", "2", "-i", "0.2", "-W", "10", "-s", bytes, server]).output();
                let output = output.unwrap();
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                assert!(output.status.success() && text.contains(" 0% packet loss"), "{text}");
            }
        }
        assert!(world.nat.counts().in_packets >= 12);
    });
}

#[test]
fn a_pod_hears_that_nobody_listens() {
    in_world(|world| {
        for server in SERVER {
            let socket = World::udp(&world.pod, server, 0);
            socket.connect((server, 33_434)).unwrap();
            socket.send(b"trace").unwrap();
            let refused = socket.recv(&mut [0; 16]).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        }
        assert_eq!(world.nat.counts().errors_in, 2);
    });
}

/// The server's late answers: the pod says that nobody listens, and the server understands.
#[test]
fn a_server_hears_that_the_pod_does_not_listen_any_more() {
    in_world(|world| {
        for server in SERVER {
            let listening = World::udp(&world.server, server, 6000);
            let asking = World::udp(&world.pod, server, 0);
            asking.send_to(b"question", (server, 6000)).unwrap();
            let (_, from) = listening.recv_from(&mut [0; 16]).unwrap();
            drop(asking);
            listening.connect(from).unwrap();
            listening.send(b"late").unwrap();
            let refused = listening.recv(&mut [0; 16]).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        }
        assert_eq!(world.nat.counts().errors_out, 2);
    });
}

#[test]
fn routes_are_traced_through_the_node() {
    in_world(|world| {
        if !netd_lab::installed(&[("traceroute", "traceroute")]) {
            return;
        }
        for server in SERVER {
            let mut trace = world.pod.command("traceroute");
            let output = trace.args(["-n", "-q", "1", "-w", "10", "-m", "4", server]).output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let hops: Vec<&str> =
                text.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
            let gateway = if server.contains(':') { "fd00:244:1::1" } else { "10.244.1.1" };
            assert_eq!(hops, [gateway, server], "{text}");
        }
    });
}

#[test]
fn a_port_of_a_socket_of_the_host_is_not_stolen() {
    in_world(|world| {
        let came = world.listen_udp(5000);
        // A port for each family: a socket that is gone may live on in a process that another test is just starting.
        for (port, (server, node)) in (21_000..).zip(SERVER.into_iter().zip(NODE)) {
            let of_host = World::udp(&world.node, server, port);
            let of_pod = World::udp(&world.pod, server, port);
            of_pod.send_to(b"pod", (server, 5000)).unwrap();
            of_pod.recv_from(&mut [0; 16]).unwrap();
            let pods = came.recv_timeout(PATIENCE).unwrap();
            assert_seen_as(pods, node);
            assert_ne!(pods.port(), port);
            of_host.send_to(b"host", (server, 5000)).unwrap();
            of_host.recv_from(&mut [0; 16]).unwrap();
            assert_eq!(came.recv_timeout(PATIENCE).unwrap().port(), port);
            of_pod.send_to(b"pod", (server, 5000)).unwrap();
            of_pod.recv_from(&mut [0; 16]).unwrap();
            assert_eq!(came.recv_timeout(PATIENCE).unwrap(), pods);
        }
        assert_eq!(world.nat.counts().yielded, 0);
    });
}

#[test]
fn who_reaches_a_pod_by_its_own_address_is_answered_from_it() {
    in_world(|world| {
        for (server, (pod, node)) in SERVER.into_iter().zip(PODS.into_iter().zip(NODE)) {
            let wide = if pod.contains(':') { "fd00:244::/32" } else { "10.244.0.0/16" };
            world.server.ip(&["route", "add", wide, "via", node]);
            let listening = World::udp(&world.pod, pod, 7000);
            let asking = World::udp(&world.server, pod, 0);
            asking.connect((pod, 7000)).unwrap();
            asking.send(b"question").unwrap();
            let (_, from) = listening.recv_from(&mut [0; 16]).unwrap();
            assert_eq!(from.ip(), ip(server));
            listening.send_to(b"answer", from).unwrap();
            // A connected socket takes nothing from another address.
            asking.recv(&mut [0; 16]).unwrap();
        }
        assert_eq!((world.nat.counts().direct, world.nat.counts().created), (2, 0));
    });
}

#[test]
fn twenty_eight_thousand_flows_to_one_destination_fit_and_more_than_the_range_are_counted() {
    in_world(|world| {
        let listening = World::udp(&world.server, SERVER[0], 9000);
        let server = (SERVER[0], 9000);
        for port in 33_000..61_000 {
            World::udp(&world.pod, SERVER[0], port).send_to(b"x", server).unwrap();
        }
        let counts = world.nat.counts();
        assert_eq!((counts.created, counts.exhausted, counts.table_full), (28_000, 0, 0));
        world.nat.forget().unwrap();
        world.set_ports(Ports { first: 2000, last: 2099 });
        for port in 33_000..33_200 {
            // The kernel tells the sender of a drop on its own way out, which this is not.
            World::udp(&world.pod, SERVER[0], port).send_to(b"x", server).unwrap();
        }
        let counts = world.nat.counts();
        assert_eq!((counts.created, counts.exhausted), (28_100, 100));
        drop(listening);
    });
}

#[test]
fn flows_go_on_while_programs_are_replaced() {
    in_world(|world| {
        let came = world.listen_tcp(80);
        let mut streams: Vec<TcpStream> = SERVER.iter().map(|server| connect(world, server, 80)).collect();
        let seen: Vec<SocketAddr> = streams.iter().map(|_| came.recv_timeout(PATIENCE).unwrap()).collect();
        world.set_ports(Ports { first: 40_000, last: 41_000 });
        for stream in &mut streams {
            stream.write_all(b"still there?").unwrap();
            stream.read_exact(&mut [0; 12]).unwrap();
        }
        assert!(seen.iter().all(|from| from.port() <= PORTS.last));
        assert_eq!(world.nat.counts().created, 2);
    });
}

#[test]
fn a_pod_leaves_the_gateway_with_the_egress_address() {
    in_world(|world| {
        const EGRESS: [&str; 2] = ["192.0.2.50", "2001:db8:1::50"];
        let came = world.listen_tcp(80);
        for (server, egress) in SERVER.into_iter().zip(EGRESS) {
            let bits = if egress.contains(':') { "128" } else { "32" };
            world.node.ip(&["address", "add", &format!("{egress}/{bits}"), "dev", "out0"]);
            let ports = Ports { first: 50_000, last: 50_999 };
            set_egress(world, server, EgressRule::Translate { address: ip(egress), ports });
            let mut stream = connect(world, server, 80);
            let from = came.recv_timeout(PATIENCE).unwrap();
            assert!(from.ip() == ip(egress) && (50_000..51_000).contains(&from.port()), "{from}");
            stream.write_all(b"question").unwrap();
            stream.read_exact(&mut [0; 8]).unwrap();
        }
        assert_eq!(world.nat.counts().created, 2);
    });
}

/// Another node has become the gateway, and the address is not gone yet.
#[test]
fn answers_to_an_egress_address_that_rules_have_left_reach_the_pod_while_the_node_has_it() {
    in_world(|world| {
        for (server, egress) in SERVER.into_iter().zip(["192.0.2.50", "2001:db8:1::50"]) {
            let bits = if egress.contains(':') { "128" } else { "32" };
            world.node.ip(&["address", "add", &format!("{egress}/{bits}"), "dev", "out0"]);
            let ports = Ports { first: 50_000, last: 50_999 };
            set_egress(world, server, EgressRule::Translate { address: ip(egress), ports });
            let listening = World::udp(&world.server, server, 7000);
            let asking = World::udp(&world.pod, server, 0);
            asking.send_to(b"question", (server, 7000)).unwrap();
            let (_, from) = listening.recv_from(&mut [0; 16]).unwrap();
            assert_eq!(from.ip(), ip(egress));
            set_egress(world, server, EgressRule::Drop);
            listening.send_to(b"answer", from).unwrap();
            let (bytes, of) = asking.recv_from(&mut [0; 16]).unwrap();
            assert_eq!((bytes, of.ip()), (6, ip(server)));
            world.nat.forget_addresses(&BTreeSet::new()).unwrap();
            let before = world.nat.counts().in_packets;
            listening.connect(from).unwrap();
            listening.send(b"late").unwrap();
            let refused = listening.recv(&mut [0; 16]).unwrap_err();
            assert_eq!(
                (refused.kind(), world.nat.counts().in_packets),
                (ErrorKind::ConnectionRefused, before)
            );
        }
    });
}

/// By the device that it would leave by anyway, where it meets the program again.
#[test]
fn a_packet_for_a_gateway_on_link_goes_there_as_it_is() {
    in_world(|world| {
        for (server, pod) in SERVER.into_iter().zip(PODS) {
            let rule = EgressRule::NextHop { address: ip(server), ifindex: world.uplink };
            set_egress(world, server, rule);
            let listening = World::udp(&world.server, server, 7000);
            let asking = World::udp(&world.pod, server, 7001);
            for _ in 0..3 {
                asking.send_to(b"question", (server, 7000)).unwrap();
                let (_, from) = listening.recv_from(&mut [0; 16]).unwrap();
                assert_eq!(from, SocketAddr::new(ip(pod), 7001));
            }
        }
        let counts = world.nat.counts();
        assert_eq!((counts.steered, counts.created, counts.no_gateway), (6, 0, 0));
    });
}

/// The kernel sends what has waited by the node's own routes, to another neighbour.
#[test]
fn a_packet_that_waited_for_the_gateways_ethernet_address_goes_to_nobody_else() {
    in_world(|world| {
        world.add_gateway();
        for (at, (server, (gateway, outside))) in
            SERVER.into_iter().zip(GATEWAY.into_iter().zip(OUTSIDE)).enumerate()
        {
            set_egress(world, server, EgressRule::NextHop { address: ip(gateway), ifindex: world.uplink });
            let listening = World::udp(&world.server, outside, 7000);
            let asking = World::udp(&world.pod, outside, 0);
            let neighbour = || world.node.ip(&["neigh", "show", gateway, "dev", "out0"]);
            asking.send_to(b"waits", (outside, 7000)).unwrap();
            wait_until("the packet waits", || neighbour().contains("INCOMPLETE"));
            world.node.ip(&["neigh", "replace", gateway, "lladdr", GATEWAY_MAC, "dev", "out0"]);
            wait_until("the packet is dropped", || world.nat.counts().no_gateway == at as u64 + 1);
            asking.send_to(b"comes", (outside, 7000)).unwrap();
            let mut buffer = [0; 16];
            let (bytes, from) = listening.recv_from(&mut buffer).unwrap();
            assert_eq!((&buffer[..bytes], from.ip()), (&b"comes"[..], ip(PODS[at])));
        }
        assert_eq!(world.nat.counts().looped, 0);
    });
}

#[test]
fn a_packet_goes_to_no_gateway_that_it_comes_from() {
    in_world(|world| {
        world.add_gateway();
        for (at, (server, (gateway, outside))) in
            (1..).zip(SERVER.into_iter().zip(GATEWAY.into_iter().zip(OUTSIDE)))
        {
            // A machine on the link that takes this node for the gateway.
            let (pod, bits, node) = if outside.contains(':') {
                ("fd00:244:1::77", "128", NODE[1])
            } else {
                ("10.244.1.77", "32", NODE[0])
            };
            world.node.ip(&["neigh", "replace", gateway, "lladdr", GATEWAY_MAC, "dev", "out0"]);
            let own = format!("{pod}/{bits}");
            let mut add = vec!["address", "add", &own, "dev", "lo"];
            add.extend(outside.contains(':').then_some("nodad"));
            world.server.ip(&add);
            let to = if outside.contains(':') { "2001:db8:9::8" } else { "198.51.100.8" };
            world.server.ip(&["route", "add", to, "via", node]);
            let socket = world.server.run(|| std::net::UdpSocket::bind((pod, 0))).unwrap();
            set_egress(world, server, EgressRule::NextHop { address: ip(server), ifindex: world.uplink });
            socket.send_to(b"round", (to, 7000)).unwrap();
            wait_until("the packet is dropped", || world.nat.counts().looped == at);
            // Another machine on the same link is a way, though.
            set_egress(world, server, EgressRule::NextHop { address: ip(gateway), ifindex: world.uplink });
            socket.send_to(b"on", (to, 7000)).unwrap();
            wait_until("the packet is steered", || world.nat.counts().steered == 2 * at);
        }
        let counts = world.nat.counts();
        assert_eq!((counts.looped, counts.no_gateway), (2, 0));
    });
}

/// What leaves by a bridge leaves by its port, too, with programs and the same addresses on both.
#[test]
fn flows_go_through_a_bridge_and_its_port() {
    in_world(|world| {
        let came = world.listen_tcp(80);
        let node = &world.node;
        node.ip(&["link", "add", "br0", "type", "bridge"]);
        node.ip(&["address", "flush", "dev", "out0"]);
        node.ip(&["link", "set", "out0", "master", "br0"]);
        for address in ["192.0.2.1/24", "2001:db8:1::1/64"] {
            node.ip(&["address", "add", address, "dev", "br0", "nodad"]);
        }
        node.ip(&["link", "set", "br0", "up"]);
        let bridge = index(node, "br0");
        world.set_devices(&[world.uplink, bridge], PORTS);
        let nat = &mut world.nat;
        world.node.run(move || nat.attach("br0", bridge)).unwrap();
        for (server, outer) in SERVER.into_iter().zip(NODE) {
            let mut stream = connect(world, server, 80);
            assert_seen_as(came.recv_timeout(PATIENCE).unwrap(), outer);
            for _ in 0..3 {
                stream.write_all(b"question").unwrap();
                stream.read_exact(&mut [0; 8]).unwrap();
            }
        }
        let counts = world.nat.counts();
        assert_eq!((counts.created, counts.yielded, counts.direct), (2, 0, 0));
        let (node, pins) = (&world.node, &world.pins);
        node.run(|| Nat::detach(pins, "br0")).unwrap();
    });
}

/// One rule, for packets of the pod to everywhere in a server's family.
fn set_egress(world: &mut World, server: &str, rule: EgressRule) {
    let (pods, everywhere) = if server.contains(':') {
        ((ip("fd00:244:1::"), 64), (ip("::"), 0))
    } else {
        ((ip("10.244.1.0"), 24), (ip("0.0.0.0"), 0))
    };
    let rules = EgressRules { sources: [(pods, 1)].into(), rules: [((1, everywhere), rule)].into() };
    world.nat.set_egress(&rules).unwrap();
}

fn connect(world: &World, server: &str, port: u16) -> TcpStream {
    let to = SocketAddr::new(ip(server), port);
    let stream = world.pod.run(|| TcpStream::connect_timeout(&to, PATIENCE)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn assert_seen_as(from: SocketAddr, node: &str) {
    assert_eq!(from.ip(), ip(node));
    assert!((PORTS.first..=PORTS.last).contains(&from.port()), "{from}");
}
