//! How long flows live.

use super::super::bed::OTHER_POD;
use super::super::talk::{Becomes, Case, PORT, Passes, SERVER, Talk, case};
use crate::cases::layers::{ACK, FIN, Layers, RST, SYN};

pub fn cases() -> Vec<Case> {
    let mut all = of_tcp();
    all.extend(of_others());
    all
}

/// After so many seconds the flow's answers still come, after as many more they do not. Neither are looked at by what is
/// asked: an answer that comes would let the flow live longer.
fn lives(t: &mut Talk<'_>, answer: &Layers, inner: &Layers, seconds: u64) {
    t.bed.age(seconds - 10);
    t.comes(answer, Becomes(inner));
    t.bed.age(seconds + 10);
    t.comes(answer, Passes);
}

fn established(t: &mut Talk<'_>) -> (Layers, Layers) {
    let syn = t.pod().tcp(PORT, SERVER).syn();
    t.leaves(&syn, Becomes(&t.outer(&syn)));
    let answer = t.remote().tcp(SERVER, PORT);
    let accepted = answer.clone().with(SYN | ACK);
    t.comes(&accepted, Becomes(&t.inner(&accepted)));
    let inner = t.inner(&answer);
    (answer, inner)
}

fn sends(t: &mut Talk<'_>, flags: u8) {
    let segment = t.pod().tcp(PORT, SERVER).with(flags);
    t.leaves(&segment, Becomes(&t.outer(&segment)));
}

fn receives(t: &mut Talk<'_>, flags: u8) {
    let segment = t.remote().tcp(SERVER, PORT).with(flags);
    t.comes(&segment, Becomes(&t.inner(&segment)));
}

/// Silent for so long, a flow of TCP is over or not.
fn is_over_after(t: &mut Talk<'_>, seconds: u64) -> bool {
    t.bed.age(seconds);
    let made = t.counted("created");
    sends(t, ACK);
    t.counted("created") > made
}

fn of_tcp() -> Vec<Case> {
    vec![
        case("a connection that nobody answers lives for four minutes", |t| {
            sends(t, SYN);
            assert!(!is_over_after(t, 230));
            assert!(is_over_after(t, 250));
        }),
        case("an established connection lives for two hours and four minutes", |t| {
            let (answer, inner) = established(t);
            lives(t, &answer, &inner, 7440);
        }),
        case("a half-closed connection lives as long as an open one", |t| {
            established(t);
            sends(t, ACK | FIN);
            assert!(!is_over_after(t, 7400));
            receives(t, ACK);
            assert!(!is_over_after(t, 7400));
        }),
        case("a connection that both have closed lives for four minutes", |t| {
            established(t);
            sends(t, ACK | FIN);
            receives(t, ACK | FIN);
            assert!(!is_over_after(t, 230));
            assert!(is_over_after(t, 250));
        }),
        case("a connection that the pod resets lives for four minutes", |t| {
            established(t);
            sends(t, RST);
            t.bed.age(230);
            receives(t, RST);
            assert!(is_over_after(t, 250));
        }),
        case("a connection that goes on after a reset lives as long as before", |t| {
            established(t);
            receives(t, RST);
            sends(t, ACK);
            assert!(!is_over_after(t, 7400));
        }),
        case("a closing connection begins anew with the pod's next SYN", |t| {
            established(t);
            sends(t, ACK | FIN);
            receives(t, ACK | FIN);
            sends(t, SYN);
            assert_eq!(t.counted("created"), 1);
            receives(t, SYN | ACK);
            assert!(!is_over_after(t, 7400));
        }),
        case("a SYN of an established connection changes nothing", |t| {
            established(t);
            sends(t, SYN);
            assert!(!is_over_after(t, 7400));
        }),
        case("what the pod sends keeps a connection alive", |t| {
            established(t);
            for _ in 0..3 {
                assert!(!is_over_after(t, 7400));
            }
        }),
        case("what comes in keeps a connection alive", |t| {
            established(t);
            for _ in 0..3 {
                t.bed.age(7400);
                receives(t, ACK);
            }
        }),
        case("a connection that is over gets its port again, for it is asked for first", |t| {
            established(t);
            assert!(is_over_after(t, 7500));
            assert_eq!(t.counted("created"), 2);
        }),
    ]
}

fn of_others() -> Vec<Case> {
    vec![
        case("a flow of UDP that is answered lives for five minutes", |t| {
            let packet = t.pod().udp(PORT, 5000);
            t.leaves(&packet, Becomes(&t.outer(&packet)));
            let answer = t.remote().udp(5000, PORT);
            t.comes(&answer, Becomes(&t.inner(&answer)));
            let inner = t.inner(&answer);
            lives(t, &answer, &inner, 300);
        }),
        case("a flow of UDP that nobody answers lives for two minutes", |t| {
            let packet = t.pod().udp(PORT, 5000);
            for (seconds, made) in [(0, 1), (110, 1), (130, 2)] {
                t.bed.age(seconds);
                t.leaves(&packet, Becomes(&t.outer(&packet)));
                assert_eq!(t.counted("created"), made);
            }
        }),
        case("a question to a name server lives for half a minute", |t| {
            let packet = t.pod().udp(PORT, 53);
            t.leaves(&packet, Becomes(&t.outer(&packet)));
            let answer = t.remote().udp(53, PORT);
            let inner = t.inner(&answer);
            lives(t, &answer, &inner, 30);
        }),
        case("a ping lives for a minute", |t| {
            let ping = t.pod().ping(u32::from(PORT) << 16, b"");
            t.leaves(&ping, Becomes(&t.outer(&ping)));
            let pong = t.remote().pong(u32::from(PORT) << 16, b"");
            let inner = t.inner(&pong);
            lives(t, &pong, &inner, 60);
        }),
        case("the port of a flow that is over is anybody's", |t| {
            let packet = t.pod().udp(PORT, 5000);
            t.leaves(&packet, Becomes(&t.outer(&packet)));
            t.bed.age(130);
            let other = t.from(&OTHER_POD).udp(PORT, 5000);
            t.leaves(&other, Becomes(&t.outer(&other)));
            let answer = t.remote().udp(5000, PORT);
            t.comes(&answer, Becomes(&answer.clone().to(t.address(&OTHER_POD))));
        }),
    ]
}
