//! ICMP errors in both directions, with what they quote.

use super::super::bed::{NODE, OTHER_OF_NODE, POD, REMOTE, ROUTER};
use super::super::talk::{Becomes, Case, Drops, PORT, Passes, SERVER, Talk, case};
use crate::cases::layers::Layers;

/// What errors quote of a packet: as much as there is, as little as there has to be, and in between.
const QUOTES: [usize; 4] = [1000, 8, 18, 21];

pub fn cases() -> Vec<Case> {
    let mut all = coming();
    all.extend(leaving());
    all
}

/// One packet of each kind from the pod, which has left.
fn sent(t: &mut Talk<'_>) -> Vec<Layers> {
    let packets = vec![
        t.pod().tcp(PORT, SERVER).syn(),
        t.pod().udp(PORT, 33_434).data(b"trace"),
        t.pod().udp(PORT + 1, 33_434).data(b"trace").sum(0),
        t.pod().ping(u32::from(PORT) << 16, b"data"),
    ];
    packets.iter().for_each(|packet| t.leaves(packet, Becomes(&t.outer(packet))));
    packets
}

/// One packet of each kind to the pod, by the mappings of [`sent`]: as it comes in, and as the pod gets it.
fn received(t: &mut Talk<'_>) -> Vec<(Layers, Layers)> {
    sent(t);
    let packets = [
        t.remote().tcp(SERVER, PORT),
        t.remote().udp(33_434, PORT).data(b"late"),
        t.remote().udp(33_434, PORT + 1).data(b"late").sum(0),
        t.remote().pong(u32::from(PORT) << 16, b"data"),
    ];
    packets
        .into_iter()
        .map(|packet| {
            let inner = t.inner(&packet);
            t.comes(&packet, Becomes(&inner));
            (packet, inner)
        })
        .collect()
}

fn header(t: &Talk<'_>) -> usize {
    if t.is_v4() { 20 } else { 40 }
}

fn coming() -> Vec<Case> {
    vec![
        case("a router's error about what a pod sent reaches the pod as if it had sent it", |t| {
            for packet in sent(t) {
                for bytes in QUOTES {
                    let bytes = header(t) + bytes;
                    let error = t.from(&ROUTER).to(t.address(&NODE)).error_about(&t.outer(&packet), bytes);
                    let inner = t.from(&ROUTER).to(t.address(&POD)).error_about(&packet, bytes);
                    t.comes(&error, Becomes(&inner));
                }
            }
            assert_eq!(t.counted("errors_in"), 16);
        }),
        case("an error of every kind reaches the pod", |t| {
            let packet = sent(t).swap_remove(1);
            let kinds: &[u8] = if t.is_v4() { &[3, 11, 12] } else { &[1, 2, 3, 4] };
            for kind in kinds {
                let quoted = t.outer(&packet).inner();
                let error = t.from(&ROUTER).to(t.address(&NODE)).icmp(*kind, 0, 1280, &quoted);
                let inner = t.from(&ROUTER).to(t.address(&POD)).icmp(*kind, 0, 1280, &packet.inner());
                t.comes(&error, Becomes(&inner));
            }
        }),
        case("an error about what the host sent is the host's", |t| {
            sent(t);
            let own = t.from(&NODE).udp(PORT + 7, 33_434);
            t.comes(&t.from(&ROUTER).to(t.address(&NODE)).error_about(&own, 1000), Passes);
        }),
        case("an error whose quoted packet is not from where it goes is the host's", |t| {
            let packet = sent(t).swap_remove(1);
            let other = packet.clone().from(t.address(&OTHER_OF_NODE));
            t.comes(&t.from(&ROUTER).to(t.address(&NODE)).error_about(&other, 1000), Passes);
            t.comes(&t.from(&ROUTER).to(t.address(&NODE)).error_about(&packet, 1000), Passes);
        }),
        case("an error that quotes too little is the host's", |t| {
            let packet = sent(t).swap_remove(0);
            for bytes in [0, 8, header(t) - 1, header(t), header(t) + 7] {
                let error = t.from(&ROUTER).to(t.address(&NODE)).error_about(&t.outer(&packet), bytes);
                t.comes(&error, Passes);
            }
        }),
        case("an error that quotes a later fragment is the host's", |t| {
            let large = t.pod().udp(PORT, 80).data(&[7; 64]);
            t.leaves(&large, Becomes(&t.outer(&large)));
            let later = t.outer(&large).later(32, 99);
            t.comes(&t.from(&ROUTER).to(t.address(&NODE)).error_about(&later, 1000), Passes);
        }),
        case("an error that quotes a first fragment reaches the pod", |t| {
            let large = t.pod().udp(PORT, 80).data(&[7; 64]);
            t.leaves(&large, Becomes(&t.outer(&large)));
            let (outer, inner) = (t.outer(&large).first(32, 99), large.first(32, 99));
            let error = t.from(&ROUTER).to(t.address(&NODE)).error_about(&outer, 1000);
            t.comes(&error, Becomes(&t.from(&ROUTER).to(t.address(&POD)).error_about(&inner, 1000)));
        }),
        case("an error that quotes an echo's answer is the host's", |t| {
            sent(t);
            let pong = t.from(&NODE).pong(u32::from(PORT) << 16, b"data");
            t.comes(&t.from(&ROUTER).to(t.address(&NODE)).error_about(&pong, 1000), Passes);
        }),
        case("errors do not keep a flow alive", |t| {
            let packet = sent(t).swap_remove(1);
            let error = t.from(&ROUTER).to(t.address(&NODE)).error_about(&t.outer(&packet), 1000);
            t.bed.age(110);
            t.comes(&error, Becomes(&t.from(&ROUTER).to(t.address(&POD)).error_about(&packet, 1000)));
            t.bed.age(110);
            t.comes(&error, Passes);
        }),
        case("a quoted packet with a changed port gets the pod's", |t| {
            let packet = t.pod().udp(50_000, 33_434).data(b"trace");
            let port = t.leaves_by_port(&packet);
            let outer = t.outer(&packet).with_source_port(port);
            let error = t.from(&ROUTER).to(t.address(&NODE)).error_about(&outer, 1000);
            t.comes(&error, Becomes(&t.from(&ROUTER).to(t.address(&POD)).error_about(&packet, 1000)));
        }),
    ]
}

fn leaving() -> Vec<Case> {
    vec![
        case("a pod's error about what came to it leaves as if the node had got it", |t| {
            for (outer, inner) in received(t) {
                for bytes in QUOTES {
                    let bytes = header(t) + bytes;
                    let error = t.pod().error_about(&inner, bytes);
                    t.leaves(
                        &error,
                        Becomes(&t.from(&NODE).to(t.address(&REMOTE)).error_about(&outer, bytes)),
                    );
                }
            }
            assert_eq!(t.counted("errors_out"), 16);
        }),
        case("the host's error about what came to a pod quotes what came to the node", |t| {
            for (outer, inner) in received(t) {
                let error = t.from(&OTHER_OF_NODE).error_about(&inner, 1000);
                t.leaves(&error, Becomes(&t.from(&OTHER_OF_NODE).error_about(&outer, 1000)));
            }
        }),
        case("the host's error about what came to itself passes", |t| {
            received(t);
            let own = t.remote().udp(33_434, PORT);
            t.leaves(&t.from(&NODE).error_about(&own, 1000), Passes);
        }),
        case("the host's error about a pod's flow that it does not know passes", |t| {
            let unknown = t.inner(&t.remote().udp(33_434, PORT));
            t.leaves(&t.from(&NODE).error_about(&unknown, 1000), Passes);
        }),
        case("a pod's error about nothing known does not leave", |t| {
            let unknown = t.inner(&t.remote().udp(33_434, PORT));
            t.leaves(&t.pod().error_about(&unknown, 1000), Drops("no_mapping"));
            t.leaves(&t.pod().error_about(&unknown, header(t) + 7), Drops("no_mapping"));
            t.leaves(&t.pod().icmp(3, 1, 0, b""), Drops("no_mapping"));
            let other = t.inner(&t.remote()).raw(132, &[0; 20]);
            t.leaves(&t.pod().error_about(&other, 1000), Drops("no_mapping"));
        }),
        case("an error in fragments does not leave", |t| {
            let (_, inner) = received(t).swap_remove(1);
            let error = t.pod().error_about(&inner, 1000);
            t.leaves(&error.clone().first(32, 5), Drops("unsupported"));
            t.leaves(&error.later(32, 5), Drops("fragment_lost"));
        }),
        case("an error in fragments that comes in is the host's", |t| {
            let packet = sent(t).swap_remove(1);
            let error = t.from(&ROUTER).to(t.address(&NODE)).error_about(&t.outer(&packet), 1000);
            t.comes(&error.clone().first(32, 5), Passes);
            t.comes(&error.later(32, 5), Passes);
        }),
    ]
}
