//! VLAN tags, and frames that are not looked at.

use super::hall::{BACKEND_PORT, ELSEWHERE, MOVED, PLAIN, REJECTING, VIP_SERVICE};
use super::layers::{FAMILIES, SYN, ip, v4, v6};
use super::{Case, case};
use crate::reference::Count;

const Q: [u8; 4] = [0x81, 0x00, 0x00, 0x05];
const AD: [u8; 4] = [0x88, 0xa8, 0x60, 0x0a];

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    assert_eq!(VIP_SERVICE, 1);
    for family in FAMILIES {
        let over = |name: &str, packet| case(format!("{name} over {family}"), packet);
        for (tag, kind) in [(Q, "802.1Q"), (AD, "802.1ad")] {
            let tagged = || ip(family).tag(tag);
            cases.push(
                over(&format!("the {kind} tag stays on transmit"), tagged().tcp(12345, PLAIN).syn())
                    .sent_to(0),
            );
            cases.push(
                over(&format!("the {kind} tag goes on redirect"), tagged().udp(12345, ELSEWHERE)).sent_to(0),
            );
            let moved = tagged().udp(12345, MOVED).data(b"abc");
            cases.push(
                over(&format!("behind an {kind} tag the port is written"), moved.clone())
                    .sent_to(0)
                    .holding(moved.port(BACKEND_PORT).about(MOVED)),
            );
            cases.push(
                over(
                    &format!("a ping behind an {kind} tag is answered behind it"),
                    tagged().ping(0x0001_0002, b"data"),
                )
                .answered(answer(family).tag(tag).pong(0x0001_0002, b"data"))
                .counts(Count::EchoReplies),
            );
            let syn = tagged().at_vip(REJECTING).tcp(12345, 81).with(SYN).numbers(7, 0);
            cases.push(
                over(&format!("a RST behind an {kind} tag has it, too"), syn)
                    .answered(back(family).tag(tag).tcp(81, 12345).with(20).numbers(0, 8).window(0))
                    .counts(Count::UnknownPort)
                    .counts(Count::Rejected),
            );
        }
        for (outer, inner, names) in
            [(Q, Q, "two 802.1Q tags"), (AD, Q, "802.1ad and 802.1Q"), (AD, AD, "two 802.1ad tags")]
        {
            cases.push(
                over(&format!("{names} pass"), ip(family).tag(outer).tag(inner).tcp(12345, PLAIN)).passes(),
            );
        }
        for bytes in [14, 15, 16, 17] {
            let packet = ip(family).tag(Q).tcp(12345, PLAIN).cut(bytes);
            cases.push(over(&format!("a tagged frame of {bytes} bytes passes"), packet).passes());
        }
    }
    let claims = |packet: super::layers::Layers, high, low| {
        let (mut tagless, kind) = (packet, [high, low]);
        tagless.kind = Some(kind);
        tagless
    };
    for (high, low, name) in
        [(0x08, 0x06, "ARP"), (0x88, 0x47, "MPLS"), (0x00, 0x2e, "802.3"), (0x91, 0x00, "0x9100")]
    {
        cases.push(
            case(format!("{name} passes, whatever it holds"), claims(v4().tcp(12345, PLAIN), high, low))
                .passes(),
        );
    }
    cases.push(
        case("IPv4 that claims to be IPv6 passes", claims(v4().tcp(12345, PLAIN).data(&[0; 40]), 0x86, 0xdd))
            .passes(),
    );
    cases.push(
        case("IPv6 that claims to be IPv4 passes", claims(v6().tcp(12345, PLAIN), 0x08, 0x00)).passes(),
    );
    cases
}

/// From the VIP that answers to the client.
fn answer(family: super::layers::Family) -> super::layers::Layers {
    ip(family).turned()
}

/// From the VIP that rejects to the client, as a RST comes.
fn back(family: super::layers::Family) -> super::layers::Layers {
    ip(family).at_vip(REJECTING).turned()
}
