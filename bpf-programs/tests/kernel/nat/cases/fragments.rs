//! Packets in fragments.

use super::super::bed::{NODE, OTHER_POD, OTHER_REMOTE};
use super::super::talk::{Becomes, Case, Drops, PORT, Passes, case};
use crate::cases::layers::Layers;

const ID: u32 = 0x1234;

pub fn cases() -> Vec<Case> {
    vec![
        case("later fragments of what leaves follow their first one", |t| {
            for (packet, id) in [
                (t.pod().udp(PORT, 80).data(&[7; 100]), ID),
                (t.pod().tcp(PORT, 80).data(&[7; 100]), ID + 1),
                (t.pod().ping(u32::from(PORT) << 16, &[7; 100]), ID + 2),
            ] {
                let outer = t.outer(&packet);
                t.leaves(&packet.clone().first(48, id), Becomes(&outer.clone().first(48, id)));
                t.leaves(&packet.clone().later(48, id), Becomes(&outer.clone().later(48, id)));
                t.leaves(&packet.later(96, id), Becomes(&outer.later(96, id)));
            }
            assert_eq!(t.counted("out_packets"), 9);
        }),
        case("later fragments of what comes in follow their first one", |t| {
            let asked = t.pod().udp(PORT, 80);
            t.leaves(&asked, Becomes(&t.outer(&asked)));
            let answer = t.remote().udp(80, PORT).data(&[7; 100]);
            let inner = t.inner(&answer);
            t.comes(&answer.clone().first(48, ID), Becomes(&inner.clone().first(48, ID)));
            t.comes(&answer.clone().later(48, ID), Becomes(&inner.clone().later(48, ID)));
            t.comes(&answer.later(96, ID), Becomes(&inner.later(96, ID)));
        }),
        case("a later fragment without its first one does not leave", |t| {
            let packet = t.pod().udp(PORT, 80).data(&[7; 100]);
            t.leaves(&packet.clone().later(48, ID), Drops("fragment_lost"));
            t.leaves(&packet.clone().first(48, ID), Becomes(&t.outer(&packet).first(48, ID)));
            t.leaves(&packet.clone().later(48, ID + 1), Drops("fragment_lost"));
            t.leaves(&packet.clone().from(t.address(&OTHER_POD)).later(48, ID), Drops("fragment_lost"));
            t.leaves(&packet.to(t.address(&OTHER_REMOTE)).later(48, ID), Drops("fragment_lost"));
        }),
        case("a later fragment that comes in without its first one is the host's", |t| {
            t.comes(&t.remote().udp(80, PORT).data(&[7; 100]).later(48, ID), Passes);
        }),
        case("the host's fragments are the host's", |t| {
            let own = t.from(&NODE).udp(PORT, 80).data(&[7; 100]);
            t.leaves(&own.clone().first(48, ID), Passes);
            t.leaves(&own.later(48, ID), Passes);
            let coming = t.remote().udp(80, PORT + 9).data(&[7; 100]);
            t.comes(&coming.clone().first(48, ID), Passes);
            t.comes(&coming.later(48, ID), Passes);
        }),
        case("a first fragment is waited for no longer than half a minute", |t| {
            let packet = t.pod().tcp(PORT, 80).data(&[7; 100]);
            let outer = t.outer(&packet);
            t.leaves(&packet.clone().first(48, ID), Becomes(&outer.clone().first(48, ID)));
            t.bed.age(20);
            t.leaves(&packet.clone().later(48, ID), Becomes(&outer.later(48, ID)));
            t.bed.age(20);
            t.leaves(&packet.later(48, ID), Drops("fragment_lost"));
        }),
        case("a first fragment for the host ends what another one with its identification began", |t| {
            let asked = t.pod().udp(PORT, 80);
            t.leaves(&asked, Becomes(&t.outer(&asked)));
            let answer = t.remote().udp(80, PORT).data(&[7; 100]);
            t.comes(&answer.clone().first(48, ID), Becomes(&t.inner(&answer).first(48, ID)));
            let own = t.remote().udp(80, PORT + 1).data(&[8; 100]);
            t.comes(&own.clone().first(48, ID), Passes);
            t.comes(&own.later(48, ID), Passes);
        }),
        case("a first fragment that is dropped ends what another one with its identification began", |t| {
            let packet = t.pod().tcp(PORT, 80).data(&[7; 100]);
            t.leaves(&packet.clone().first(48, ID), Becomes(&t.outer(&packet).first(48, ID)));
            t.leaves(&packet.clone().first(8, ID), Drops("malformed"));
            t.leaves(&packet.later(48, ID), Drops("fragment_lost"));
        }),
        case("a first fragment that holds too little is not read", |t| {
            let packet = t.pod().tcp(PORT, 80).data(&[7; 100]);
            t.leaves(&packet.clone().first(16, ID), Drops("malformed"));
            t.leaves(&packet.first(8, ID), Drops("malformed"));
        }),
        case("fragments of a destination that is excluded pass", |t| {
            let packet = t.pod().to(t.address(&super::super::bed::EXCLUDED)).udp(PORT, 80).data(&[7; 100]);
            t.leaves(&packet.clone().first(48, ID), Passes);
            t.leaves(&packet.later(48, ID), Passes);
        }),
        case("the same identification of another protocol is another packet, over IPv4", |t| {
            let (udp, tcp) = (t.pod().udp(PORT, 80).data(&[7; 100]), t.pod().tcp(PORT, 80).data(&[7; 100]));
            t.leaves(&udp.clone().first(48, ID), Becomes(&t.outer(&udp).first(48, ID)));
            if t.is_v4() {
                t.leaves(&tcp.later(48, ID), Drops("fragment_lost"));
            } else {
                t.leaves(&tcp.clone().later(48, ID), Becomes(&t.outer(&tcp).later(48, ID)));
            }
        }),
        case("a packet that says of itself that it is its only fragment is whole", |t| {
            if t.is_v4() {
                return;
            }
            let packet: Layers = t.pod().fragment_header(0, false, 9).udp(PORT, 80);
            t.leaves(&packet, Becomes(&t.outer(&packet)));
            let answer = t.remote().fragment_header(0, false, 9).udp(80, PORT);
            t.comes(&answer, Becomes(&t.inner(&answer)));
        }),
        case("a first fragment with a port that has to change changes it", |t| {
            let packet = t.pod().udp(50_000, 80).data(&[7; 100]);
            let port = t.leaves_by_port(&packet);
            let outer = t.outer(&packet).with_source_port(port);
            t.leaves(&packet.clone().first(48, ID), Becomes(&outer.clone().first(48, ID)));
            t.leaves(&packet.later(48, ID), Becomes(&outer.later(48, ID)));
        }),
    ]
}
