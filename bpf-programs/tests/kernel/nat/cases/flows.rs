//! Flows out and back, and what is left alone.

use super::super::bed::{EXCLUDED, NODE, OTHER_OF_NODE, OTHER_POD, OTHER_REMOTE, POD, REMOTE};
use super::super::talk::{Becomes, Case, Drops, PORT, Passes, SERVER, Talk, case};
use crate::cases::layers::{ACK, FIN, Layers, PUSH, RST, SYN};

const WORD: u32 = (PORT as u32) << 16 | 7;

pub fn cases() -> Vec<Case> {
    let mut all = there_and_back();
    all.extend(left_alone());
    all.extend(checksums());
    all
}

fn there_and_back() -> Vec<Case> {
    vec![
        case("a connection goes out and its answers come back", |t| {
            let syn = t.pod().tcp(PORT, SERVER).syn();
            t.leaves(&syn, Becomes(&t.outer(&syn)));
            let answer = t.remote().tcp(SERVER, PORT).with(SYN | ACK);
            t.comes(&answer, Becomes(&t.inner(&answer)));
            for flags in [ACK, ACK | PUSH, ACK | FIN, RST] {
                let more = t.pod().tcp(PORT, SERVER).with(flags).data(b"GET /");
                t.leaves(&more, Becomes(&t.outer(&more)));
                let back = t.remote().tcp(SERVER, PORT).with(flags).data(b"HTTP/1.1 200");
                t.comes(&back, Becomes(&t.inner(&back)));
            }
            assert_eq!((t.counted("created"), t.counted("out_packets")), (1, 5));
        }),
        case("a question goes out and its answer comes back", |t| {
            let question = t.pod().udp(PORT, 53).data(b"who");
            t.leaves(&question, Becomes(&t.outer(&question)));
            let answer = t.remote().udp(53, PORT).data(b"I");
            t.comes(&answer, Becomes(&t.inner(&answer)));
        }),
        case("a ping goes out and its answer comes back", |t| {
            let ping = t.pod().ping(WORD, b"data");
            t.leaves(&ping, Becomes(&t.outer(&ping)));
            let pong = t.remote().pong(WORD, b"data");
            t.comes(&pong, Becomes(&t.inner(&pong)));
        }),
        case("a ping with a number that is not in the range gets another one", |t| {
            let ping = t.pod().ping(0x0007_0001, b"data");
            let id = t.leaves_by_port(&ping);
            let pong = t.remote().pong(u32::from(id) << 16 | 1, b"data");
            t.comes(&pong, Becomes(&t.inner(&pong).with_source_port(7)));
        }),
        case("data of an odd length and of none is translated", |t| {
            for data in [&b""[..], b"x", b"xyz", &[0xff; 1001]] {
                let packet = t.pod().udp(PORT, 80).data(data);
                t.leaves(&packet, Becomes(&t.outer(&packet)));
                let packet = t.pod().tcp(PORT, 80).data(data);
                t.leaves(&packet, Becomes(&t.outer(&packet)));
            }
        }),
        case("an answer comes back that the pod has not asked for yet, if the flow is known", |t| {
            let packet = t.pod().udp(PORT, 5000);
            t.leaves(&packet, Becomes(&t.outer(&packet)));
            for _ in 0..3 {
                let answer = t.remote().udp(5000, PORT).data(b"news");
                t.comes(&answer, Becomes(&t.inner(&answer)));
            }
        }),
        case("hops, classes and identifications stay", |t| {
            let packet = t.pod().hops(1).class(0xb9).id(0xabcd).udp(PORT, 80);
            t.leaves(&packet, Becomes(&t.outer(&packet)));
            let answer = t.remote().hops(7).class(0x03).label(0x12345).udp(80, PORT);
            t.comes(&answer, Becomes(&t.inner(&answer)));
        }),
        case("TCP and UDP with the same ports are two flows", |t| {
            let (tcp, udp) = (t.pod().tcp(PORT, 53).syn(), t.pod().udp(PORT, 53));
            t.leaves(&tcp, Becomes(&t.outer(&tcp)));
            t.leaves(&udp, Becomes(&t.outer(&udp)));
            assert_eq!(t.counted("created"), 2);
        }),
        case("a segment in the middle of a connection makes a mapping, too", |t| {
            let data = t.pod().tcp(PORT, SERVER).with(ACK).data(b"more");
            t.leaves(&data, Becomes(&t.outer(&data)));
            let back = t.remote().tcp(SERVER, PORT);
            t.comes(&back, Becomes(&t.inner(&back)));
        }),
        case("a reset of no connection goes nowhere", |t| {
            t.leaves(&t.pod().tcp(PORT, SERVER).with(RST), Drops("no_mapping"));
            t.leaves(&t.pod().tcp(PORT, SERVER).with(RST | ACK), Drops("no_mapping"));
            t.leaves(&t.pod().tcp(PORT, SERVER).with(RST | SYN), Drops("no_mapping"));
        }),
    ]
}

fn left_alone() -> Vec<Case> {
    vec![
        case("a destination that is excluded is met as it is", |t| {
            for packet in [t.pod().tcp(PORT, 80).syn(), t.pod().udp(PORT, 80), t.pod().ping(WORD, b"")] {
                t.leaves(&packet.to(t.address(&EXCLUDED)), Passes);
            }
            t.leaves(&t.pod().to(t.address(&EXCLUDED)).raw(132, &[0; 20]), Passes);
            assert_eq!(t.counted("created"), 0);
        }),
        case("who is no pod is not translated", |t| {
            for source in [&REMOTE, &OTHER_OF_NODE, &NODE, &EXCLUDED] {
                let from = t.from(source).to(t.address(&OTHER_REMOTE));
                t.leaves(&from.clone().tcp(PORT, 80).syn(), Passes);
                t.leaves(&from.clone().udp(PORT, 80), Passes);
                t.leaves(&from.clone().raw(47, &[0; 30]), Passes);
                t.leaves(&from.ping(WORD, b""), Passes);
            }
        }),
        case("what comes in for a port that nobody has is the host's", |t| {
            for packet in
                [t.remote().tcp(80, PORT).syn(), t.remote().udp(80, PORT), t.remote().pong(WORD, b"")]
            {
                t.comes(&packet, Passes);
            }
        }),
        case("nobody but the remote is let in", |t| {
            let packet = t.pod().udp(PORT, 80);
            t.leaves(&packet, Becomes(&t.outer(&packet)));
            t.comes(&t.remote().udp(81, PORT), Passes);
            t.comes(&t.remote().udp(80, PORT + 1), Passes);
            t.comes(&t.remote().tcp(80, PORT), Passes);
            t.comes(&t.remote().from(t.address(&OTHER_REMOTE)).udp(80, PORT), Passes);
            t.comes(&t.remote().to(t.address(&OTHER_OF_NODE)).udp(80, PORT), Passes);
            let answer = t.remote().udp(80, PORT);
            t.comes(&answer, Becomes(&t.inner(&answer)));
        }),
        case("a ping of the node is the host's", |t| {
            let ping = t.pod().ping(WORD, b"");
            t.leaves(&ping, Becomes(&t.outer(&ping)));
            t.comes(&t.remote().ping(WORD, b""), Passes);
        }),
        case("a pod's answer to a ping of its own address stays", |t| {
            t.comes(&t.remote().to(t.address(&POD)).ping(WORD, b"x"), Passes);
            t.leaves(&t.pod().pong(WORD, b"x"), Passes);
        }),
        case("what comes in for others passes", |t| {
            let through = t.from(&OTHER_REMOTE).to(t.address(&REMOTE));
            t.comes(&through.clone().tcp(1, 2), Passes);
            t.comes(&through.udp(1, 2), Passes);
        }),
        case("a family without an outer address does not leave", |t| {
            let mut rules = super::super::bed::rules();
            rules.devices.values_mut().for_each(|outer| (outer.v4, outer.v6) = (None, None));
            t.bed.restart(rules);
            t.leaves(&t.pod().tcp(PORT, 80).syn(), Drops("no_address"));
            t.leaves(&t.pod().raw(132, &[0; 20]), Drops("no_address"));
            t.leaves(&t.from(&NODE).udp(PORT, 80), Passes);
        }),
        case("on a device that is not listed nothing is masqueraded", |t| {
            let mut rules = super::super::bed::rules();
            rules.devices = rules.devices.into_values().map(|outer| (77, outer)).collect();
            t.bed.restart(rules);
            t.leaves(&t.pod().udp(PORT, 80), Passes);
        }),
        case("a device without an address of a family lets nothing of it leave", |t| {
            let mut rules = super::super::bed::rules();
            rules.devices.values_mut().for_each(|outer| (outer.v4, outer.v6) = (None, None));
            t.bed.restart(rules);
            t.leaves(&t.pod().udp(PORT, 80), Drops("no_address"));
        }),
        case("protocols without ports do not leave", |t| {
            for protocol in [47, 50, 51, 132, 4, 41, 2, 59] {
                t.leaves(&t.pod().raw(protocol, &[0; 32]), Drops("unsupported"));
            }
            let other = if t.is_v4() { 58 } else { 1 };
            t.leaves(&t.pod().raw(other, &[8, 0, 0, 0, 0, 1, 0, 1]), Drops("unsupported"));
        }),
        case("messages of ICMP that are no echo and no error do not leave", |t| {
            let kinds = if t.is_v4() { [5, 13, 4] } else { [133, 135, 100] };
            for kind in kinds {
                t.leaves(&t.pod().icmp(kind, 0, WORD, b""), Drops("unsupported"));
                t.comes(&t.remote().icmp(kind, 0, WORD, b""), Passes);
            }
        }),
    ]
}

fn checksums() -> Vec<Case> {
    vec![
        case("a UDP checksum of zero stays zero", |t| {
            let packet = t.pod().udp(PORT, 80).data(b"x").sum(0);
            t.leaves(&packet, Becomes(&t.outer(&packet)));
            let answer = t.remote().udp(80, PORT).data(b"x").sum(0);
            t.comes(&answer, Becomes(&t.inner(&answer)));
        }),
        case("every UDP checksum is right, the one that would be zero too", |t| {
            // As many different sums as there are, by two bytes of data.
            for word in (0..=0xffff_u16).step_by(97) {
                let packet = t.pod().udp(PORT, 80).data(&word.to_be_bytes());
                t.leaves(&packet, Becomes(&t.outer(&packet)));
            }
            for word in words_of_zero_sums(t) {
                let packet = t.pod().udp(PORT, 80).data(&word.to_be_bytes());
                t.leaves(&packet, Becomes(&t.outer(&packet)));
                let answer = t.remote().udp(80, PORT).data(&word.to_be_bytes());
                t.comes(&answer, Becomes(&t.inner(&answer)));
            }
        }),
        case("a wrong checksum stays wrong by as much", |t| {
            // Both are off by one, so the difference of the two right ones is that of the two wrong ones.
            let right = t.pod().tcp(PORT, 80).data(b"x");
            let (before, after) = (sum_of(&right), sum_of(&t.outer(&right)));
            let off = |sum: u16| if sum == 0xfffe { 0 } else { sum + 1 };
            let wrong = right.sum(off(before));
            t.leaves(&wrong, Becomes(&t.outer(&wrong).sum(off(after))));
        }),
        case("frames that are longer than their packets are translated all the same", |t| {
            let packet = t.pod().udp(PORT, 80).data(b"x").behind(&[0xee; 9]);
            t.leaves(&packet, Becomes(&t.outer(&packet)));
        }),
        case("two pods with the same ports are told apart", |t| {
            let (one, other) = (t.pod().udp(PORT, 80), t.from(&OTHER_POD).udp(PORT, 80));
            t.leaves(&one, Becomes(&t.outer(&one)));
            let port = t.leaves_by_port(&other);
            assert_ne!(port, PORT);
            let answer = t.remote().udp(80, port);
            t.comes(&answer, Becomes(&answer.clone().to(t.address(&OTHER_POD)).port(PORT)));
            let answer = t.remote().udp(80, PORT);
            t.comes(&answer, Becomes(&t.inner(&answer)));
        }),
    ]
}

/// The transport checksum that a TCP packet carries.
fn sum_of(packet: &Layers) -> u16 {
    let bytes = packet.transport_bytes();
    u16::from_be_bytes([bytes[16], bytes[17]])
}

/// Two bytes of data with which the packet that leaves, or that comes in, has a sum of zero.
fn words_of_zero_sums(t: &Talk<'_>) -> Vec<u16> {
    let is_zero = |packet: Layers| packet.transport_bytes()[6..8] == [0xff, 0xff];
    let either = |word: &u16| {
        let data = word.to_be_bytes();
        is_zero(t.outer(&t.pod().udp(PORT, 80).data(&data)))
            || is_zero(t.inner(&t.remote().udp(80, PORT).data(&data)))
    };
    let found: Vec<u16> = (0..=0xffff).filter(either).collect();
    assert!(!found.is_empty());
    found
}
