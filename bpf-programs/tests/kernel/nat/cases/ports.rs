//! Which port a flow gets.

use std::collections::BTreeSet;
use std::net::{TcpListener, UdpSocket};

use netd_bpf::nat::{Outer, Ports, Rules};

use super::super::bed::{NODE, OTHER_POD, OTHER_REMOTE, PORTS, outer, rules};
use super::super::talk::{Becomes, Case, Drops, PORT, Passes, SERVER, case};
use crate::bed::{INGRESS, ip as ip_command};
use crate::cases::layers::{ACK, FIN, SYN};

pub fn cases() -> Vec<Case> {
    let mut all = chosen();
    all.extend(few());
    all.extend(of_host());
    all
}

/// The rules with another range.
fn with_ports(first: u16, last: u16) -> Rules {
    Rules { devices: [(INGRESS, Outer { ports: Ports { first, last }, ..outer() })].into(), ..rules() }
}

fn chosen() -> Vec<Case> {
    vec![
        case("a port in the range stays", |t| {
            for port in [PORTS.first, 1025, 20_000, PORTS.last] {
                let packet = t.pod().udp(port, 80);
                t.leaves(&packet, Becomes(&t.outer(&packet)));
            }
        }),
        case("a port beside the range becomes one in it", |t| {
            for port in [0, 1, PORTS.first - 1, PORTS.last + 1, 65_535] {
                let given = t.leaves_by_port(&t.pod().udp(port, 80));
                assert!((PORTS.first..=PORTS.last).contains(&given), "{given}");
                let answer = t.remote().udp(80, given);
                t.comes(&answer, Becomes(&t.inner(&answer).port(port)));
            }
        }),
        case("a flow keeps the port that it got", |t| {
            let packet = t.pod().udp(40_000, 80);
            let port = t.leaves_by_port(&packet);
            for _ in 0..5 {
                assert_eq!(t.leaves_by_port(&packet), port);
            }
            assert_eq!(t.counted("created"), 1);
        }),
        case("a flow that was moved aside keeps the port that it got there", |t| {
            let first = t.pod().udp(PORT, 80);
            t.leaves(&first, Becomes(&t.outer(&first)));
            let second = t.from(&OTHER_POD).udp(PORT, 80);
            let port = t.leaves_by_port(&second);
            assert_eq!([(); 3].map(|()| t.leaves_by_port(&second)), [port; 3]);
            assert_eq!(t.counted("created"), 2);
        }),
        case("a flow that was moved aside stays there when its first choice becomes free", |t| {
            let first = t.pod().udp(PORT, 80);
            t.leaves(&first, Becomes(&t.outer(&first)));
            let second = t.from(&OTHER_POD).udp(PORT, 80);
            let port = t.leaves_by_port(&second);
            t.bed.age(100);
            assert_eq!(t.leaves_by_port(&second), port);
            t.bed.age(100);
            assert_eq!(t.leaves_by_port(&second), port);
            // The first flow is over, and may have its port again.
            t.leaves(&first, Becomes(&t.outer(&first)));
        }),
        case("remotes share ports", |t| {
            for (remote, port) in [(OTHER_REMOTE, 80), (super::super::bed::REMOTE, 81), (OTHER_REMOTE, 81)] {
                let packet = t.pod().to(t.address(&remote)).udp(PORT, port);
                t.leaves(&packet, Becomes(&t.outer(&packet)));
                let other = t.from(&OTHER_POD).to(t.address(&remote)).udp(PORT, port);
                assert_ne!(t.leaves_by_port(&other), PORT);
            }
        }),
        case("no two flows to a remote have a port in common", |t| {
            let mut given = BTreeSet::new();
            for port in 50_000..50_500 {
                assert!(given.insert(t.leaves_by_port(&t.pod().udp(port, 80))));
                assert!(given.insert(t.leaves_by_port(&t.from(&OTHER_POD).udp(port, 80))));
            }
        }),
        case("a new range does not move a flow", |t| {
            let (kept, hashed) = (t.pod().udp(PORT, 80), t.pod().udp(50_000, 80));
            let ports = [t.leaves_by_port(&kept), t.leaves_by_port(&hashed)];
            t.bed.set_rules(with_ports(33_000, 34_000));
            assert_eq!([t.leaves_by_port(&kept), t.leaves_by_port(&hashed)], ports);
            assert!(t.leaves_by_port(&t.pod().udp(PORT, 81)) >= 33_000);
        }),
        case("a flow stays where it is when somebody else gets its earlier port", |t| {
            t.bed.restart(with_ports(7000, 7003));
            let (first, second) = (t.from(&OTHER_POD).udp(7000, 80), t.pod().udp(7000, 80));
            t.leaves_by_port(&first);
            let earlier = t.leaves_by_port(&second);
            t.bed.age(200);
            t.bed.set_rules(with_ports(7000, 7100));
            assert_eq!(t.leaves_by_port(&first), 7000);
            let port = t.leaves_by_port(&second);
            assert_ne!(port, earlier);
            let answer = t.remote().udp(80, port);
            t.comes(&answer, Becomes(&t.inner(&answer).port(7000)));
            // A third flow begins at the port that was once the second one's, and the first one's becomes free.
            assert_eq!(t.leaves_by_port(&t.pod().udp(earlier, 80)), earlier);
            t.bed.age(200);
            assert_eq!(t.leaves_by_port(&second), port);
        }),
        case("of two mappings of a flow the newer one stays in force when the range changes", |t| {
            t.bed.restart(with_ports(7000, 7000));
            let packet = t.pod().udp(9, 80);
            assert_eq!(t.leaves_by_port(&packet), 7000);
            t.bed.age(200);
            t.bed.set_rules(with_ports(6000, 6000));
            assert_eq!(t.leaves_by_port(&packet), 6000);
            for range in [(9000, 9001), (5000, 5001), (9002, 9003)] {
                t.bed.set_rules(with_ports(range.0, range.1));
                assert_eq!(t.leaves_by_port(&packet), 6000);
            }
        }),
        case("a new outer address begins flows anew", |t| {
            let packet = t.pod().udp(PORT, 80);
            t.leaves(&packet, Becomes(&t.outer(&packet)));
            let mut other = rules();
            for outer in other.devices.values_mut() {
                outer.v4 = super::super::bed::OTHER_OF_NODE.0.parse().ok();
                outer.v6 = super::super::bed::OTHER_OF_NODE.1.parse().ok();
            }
            t.bed.set_rules(other);
            let moved = packet.clone().from(t.address(&super::super::bed::OTHER_OF_NODE));
            t.leaves(&packet, Becomes(&moved));
            // Nobody answers for the old address any more.
            t.comes(&t.remote().udp(80, PORT), Passes);
        }),
    ]
}

fn few() -> Vec<Case> {
    vec![
        case("a range of one port serves one flow to each remote", |t| {
            t.bed.restart(with_ports(7000, 7000));
            assert_eq!(t.leaves_by_port(&t.pod().udp(1, 80)), 7000);
            t.leaves(&t.pod().udp(2, 80), Drops("exhausted"));
            assert_eq!(t.leaves_by_port(&t.pod().udp(2, 81)), 7000);
            assert_eq!(t.leaves_by_port(&t.pod().tcp(2, 80).syn()), 7000);
        }),
        case("a range that is used up is counted, and serves again when a flow is over", |t| {
            t.bed.restart(with_ports(7000, 7007));
            let ports: BTreeSet<u16> = (1..=8).map(|port| t.leaves_by_port(&t.pod().udp(port, 80))).collect();
            assert_eq!(ports.len(), 8);
            for port in 100..110 {
                t.leaves(&t.pod().udp(port, 80), Drops("exhausted"));
            }
            t.bed.age(200);
            t.leaves_by_port(&t.pod().udp(100, 80));
        }),
        case("a closing connection gives its port only when there is no other one, and not at once", |t| {
            t.bed.restart(with_ports(7000, 7001));
            for port in [1, 2] {
                t.leaves_by_port(&t.pod().tcp(port, SERVER).syn());
            }
            let end = t.pod().tcp(1, SERVER).with(ACK | FIN);
            let port = t.leaves_by_port(&end);
            t.comes(
                &t.remote().tcp(SERVER, port).with(ACK | FIN),
                Becomes(&t.inner(&t.remote().tcp(SERVER, 1).with(ACK | FIN))),
            );
            t.leaves(&t.pod().tcp(3, SERVER).syn(), Drops("exhausted"));
            t.bed.age(20);
            assert_eq!(t.leaves_by_port(&t.pod().tcp(3, SERVER).syn()), port);
            assert_eq!(t.counted("reused"), 1);
            t.leaves(&t.pod().tcp(4, SERVER).syn(), Drops("exhausted"));
        }),
        case("an established connection gives its port to nobody", |t| {
            t.bed.restart(with_ports(7000, 7000));
            t.leaves_by_port(&t.pod().tcp(1, SERVER).syn());
            let answer = t.remote().tcp(SERVER, 7000).with(SYN | ACK);
            t.comes(&answer, Becomes(&t.inner(&answer).port(1)));
            t.bed.age(7000);
            t.leaves(&t.pod().tcp(2, SERVER).syn(), Drops("exhausted"));
            assert_eq!(t.leaves_by_port(&t.pod().tcp(1, SERVER)), 7000);
        }),
        case("pings are told apart by their numbers", |t| {
            t.bed.restart(with_ports(7000, 7001));
            let ids: BTreeSet<u16> = [1, 2].map(|id| t.leaves_by_port(&t.pod().ping(id << 16, b""))).into();
            assert_eq!(ids, [7000, 7001].into());
            t.leaves(&t.pod().ping(3 << 16, b""), Drops("exhausted"));
        }),
    ]
}

/// Gives the loopback device of the namespace the node's addresses, so that sockets can have them.
fn with_addresses() {
    ip_command("link set lo up");
    for address in [NODE.0, NODE.1] {
        ip_command(&format!("address replace {address} dev lo"));
    }
}

fn of_host() -> Vec<Case> {
    vec![
        case("the host takes back a port that it uses", |t| {
            let pods = t.pod().udp(PORT, 80);
            t.leaves(&pods, Becomes(&t.outer(&pods)));
            t.leaves(&t.from(&NODE).udp(PORT, 80), Passes);
            assert_eq!(t.counted("yielded"), 1);
            t.comes(&t.remote().udp(80, PORT), Passes);
        }),
        case("the host takes back a number of pings that it uses", |t| {
            let pods = t.pod().ping(7000 << 16, b"");
            t.leaves(&pods, Becomes(&t.outer(&pods)));
            t.leaves(&t.from(&NODE).pong(7000 << 16, b""), Passes);
            assert_eq!(t.counted("yielded"), 0);
            t.leaves(&t.from(&NODE).ping(7000 << 16, b""), Passes);
            assert_eq!(t.counted("yielded"), 1);
        }),
        case("what the host sends to others takes nothing back", |t| {
            let pods = t.pod().udp(PORT, 80);
            t.leaves(&pods, Becomes(&t.outer(&pods)));
            t.leaves(&t.from(&NODE).udp(PORT, 81), Passes);
            t.leaves(&t.from(&NODE).udp(PORT + 1, 80), Passes);
            t.leaves(&t.from(&NODE).tcp(PORT, 80), Passes);
            t.leaves(&t.from(&NODE).to(t.address(&OTHER_REMOTE)).udp(PORT, 80), Passes);
            let answer = t.remote().udp(80, PORT);
            t.comes(&answer, Becomes(&t.inner(&answer)));
        }),
        case("the port of a listening socket is not given away", |t| {
            with_addresses();
            let listener = TcpListener::bind((t.address(&NODE), 21_000)).unwrap();
            t.bed.model.sockets.insert((6, 21_000));
            let port = t.leaves_by_port(&t.pod().tcp(21_000, SERVER).syn());
            assert_ne!(port, 21_000);
            assert_eq!(t.counted("ports_in_use"), 1);
            // UDP's is another one.
            let packet = t.pod().udp(21_000, 80);
            t.leaves(&packet, Becomes(&t.outer(&packet)));
            drop(listener);
        }),
        case("the port of a socket that is bound to every address is not given away", |t| {
            with_addresses();
            let any = if t.is_v4() { "0.0.0.0" } else { "::" };
            let socket = UdpSocket::bind((any, 21_001)).unwrap();
            t.bed.model.sockets.insert((17, 21_001));
            assert_ne!(t.leaves_by_port(&t.pod().udp(21_001, 80)), 21_001);
            drop(socket);
            // The flow stays where it is.
            assert_ne!(t.leaves_by_port(&t.pod().udp(21_001, 80)), 21_001);
            t.bed.model.sockets.clear();
            let other = t.pod().udp(21_001, 81);
            t.leaves(&other, Becomes(&t.outer(&other)));
        }),
        case("a flow keeps its port when a socket is bound to it", |t| {
            with_addresses();
            let packet = t.pod().udp(21_002, 80);
            t.leaves(&packet, Becomes(&t.outer(&packet)));
            let socket = UdpSocket::bind((t.address(&NODE), 21_002)).unwrap();
            t.leaves(&packet, Becomes(&t.outer(&packet)));
            let answer = t.remote().udp(80, 21_002);
            t.comes(&answer, Becomes(&t.inner(&answer)));
            drop(socket);
        }),
    ]
}
