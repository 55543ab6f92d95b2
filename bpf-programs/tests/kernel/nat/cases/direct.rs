//! Flows to pods' own addresses, which are answered from them.

use super::super::bed::{EXCLUDED, OTHER_REMOTE, POD};
use super::super::talk::{Becomes, Case, PORT, Passes, SERVER, Talk, case};
use crate::cases::layers::{ACK, FIN, Layers, RST, SYN};

pub fn cases() -> Vec<Case> {
    vec![
        case("a connection to a pod's own address is answered from it", |t| {
            comes_for_pod(t, SYN);
            for flags in [SYN | ACK, ACK, ACK | FIN] {
                t.leaves(&answer(t, flags), Passes);
            }
            assert_eq!((t.counted("direct"), t.counted("created")), (1, 0));
        }),
        case("a pod's acceptance is enough where the rest comes in by another device", |t| {
            for flags in [SYN | ACK, ACK, ACK | FIN, RST] {
                t.leaves(&answer(t, flags), Passes);
            }
            assert_eq!(t.counted("direct"), 1);
        }),
        case("a question to a pod's own address is answered from it", |t| {
            t.comes(&t.remote().to(t.address(&POD)).udp(9000, 53), Passes);
            t.leaves(&t.pod().udp(53, 9000), Passes);
            // To nobody else.
            t.leaves_by_port(&t.pod().udp(53, 9001));
            t.leaves_by_port(&t.pod().to(t.address(&OTHER_REMOTE)).udp(53, 9000).clone());
        }),
        case("a reset that comes in makes no record", |t| {
            comes_for_pod(t, RST | ACK);
            assert_eq!(t.counted("direct"), 0);
            let data = answer(t, ACK);
            t.leaves(&data, Becomes(&t.outer(&data)));
        }),
        case("whoever is excluded needs no record", |t| {
            let asks = t.from(&EXCLUDED).to(t.address(&POD));
            t.comes(&asks.clone().tcp(SERVER, PORT).syn(), Passes);
            t.comes(&asks.udp(9000, 53), Passes);
            t.leaves(&t.pod().to(t.address(&EXCLUDED)).udp(53, 9000), Passes);
            assert_eq!(t.counted("direct"), 0);
        }),
        case("a pod's own connection is its own, whatever came before from there", |t| {
            comes_for_pod(t, SYN);
            let own = answer(t, SYN);
            t.leaves(&own, Becomes(&t.outer(&own)));
            let data = answer(t, ACK);
            t.leaves(&data, Becomes(&t.outer(&data)));
        }),
        case("a record of UDP counts for five minutes after the last packet", |t| {
            let (question, answered) =
                (t.remote().to(t.address(&POD)).udp(9000, PORT), t.pod().udp(PORT, 9000));
            t.comes(&question, Passes);
            for _ in 0..3 {
                t.bed.age(290);
                t.leaves(&answered, Passes);
            }
            t.bed.age(290);
            t.comes(&question, Passes);
            t.bed.age(290);
            t.leaves(&answered, Passes);
            t.bed.age(310);
            t.leaves(&answered, Becomes(&t.outer(&answered)));
            assert_eq!(t.counted("direct"), 1);
        }),
        case("a record of TCP counts for two hours and four minutes", |t| {
            comes_for_pod(t, SYN);
            t.bed.age(7430);
            t.leaves(&answer(t, ACK), Passes);
            t.bed.age(7450);
            let late = answer(t, ACK);
            t.leaves(&late, Becomes(&t.outer(&late)));
        }),
        case("an error about a direct flow passes", |t| {
            let question = t.remote().to(t.address(&POD)).udp(9000, PORT).data(b"x");
            t.comes(&question, Passes);
            t.leaves(&t.pod().error_about(&question, 1000), Passes);
        }),
        case("an error about a ping to the pod's own address passes", |t| {
            let ping = t.remote().to(t.address(&POD)).ping(7 << 16, b"x");
            t.leaves(&t.pod().error_about(&ping, 1000), Passes);
        }),
        case("a direct flow may send fragments", |t| {
            t.comes(&t.remote().to(t.address(&POD)).udp(9000, PORT), Passes);
            let large = t.pod().udp(PORT, 9000).data(&[7; 64]);
            t.leaves(&large.clone().first(32, 77), Passes);
            t.leaves(&large.later(32, 77), Passes);
        }),
        case("an answer to a ping may be in fragments", |t| {
            let large = t.pod().pong(7 << 16, &[7; 64]);
            t.leaves(&large.clone().first(32, 78), Passes);
            t.leaves(&large.later(32, 78), Passes);
        }),
        case("a first fragment to a pod's own address makes a record", |t| {
            let large = t.remote().to(t.address(&POD)).udp(9000, PORT).data(&[7; 64]);
            t.comes(&large.clone().first(32, 79), Passes);
            t.comes(&large.later(32, 79), Passes);
            t.leaves(&t.pod().udp(PORT, 9000), Passes);
        }),
    ]
}

fn comes_for_pod(t: &mut Talk<'_>, flags: u8) {
    t.comes(&t.remote().to(t.address(&POD)).tcp(SERVER, PORT).with(flags), Passes);
}

fn answer(t: &Talk<'_>, flags: u8) -> Layers {
    t.pod().tcp(PORT, SERVER).with(flags)
}
