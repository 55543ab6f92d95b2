//! Whatever the kernel sends, rtnetlink can decode what is left of it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::*;
use netlink_packet_core::{NLM_F_DUMP_INTR, NLMSG_DONE, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use proptest::prelude::*;

type Decoded = NetlinkMessage<RouteNetlinkMessage>;

fn datagram(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let like = Message { kind, flags: NLM_F_DUMP_INTR, sequence: 7, payload };
    put_message(&mut bytes, &like, kind, payload);
    bytes
}

fn decoded(datagram: &[u8]) -> Vec<Decoded> {
    let sifted = sift(datagram);
    let mut messages = Vec::new();
    let mut rest = sifted.as_slice();
    while !rest.is_empty() {
        let message = Decoded::deserialize(rest).unwrap();
        rest = &rest[usize::try_from(message.header.length).unwrap()..];
        messages.push(message);
    }
    messages
}

fn link(attributes: &[(u16, &[u8])]) -> LinkMessage {
    let mut payload = vec![0; 16];
    for (kind, value) in attributes {
        put_attribute(&mut payload, *kind, value);
    }
    let [message]: [Decoded; 1] = decoded(&datagram(RTM_NEWLINK, &payload)).try_into().unwrap();
    assert_eq!((message.header.flags, message.header.sequence_number), (NLM_F_DUMP_INTR, 7));
    let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) = message.payload else {
        panic!("{message:?}");
    };
    link
}

#[test]
fn attributes_that_nobody_reads_or_that_are_odd_do_not_cost_the_link() {
    let mut info = Vec::new();
    put_attribute(&mut info, 2, &[1]);
    put_attribute(&mut info, 1, b"vxlan\0");
    put_attribute(&mut info, 2, &[1]);
    // An odd MTU, statistics that are cut off, and details of a VXLAN that are none.
    let found = link(&[(3, b"eth0\0"), (4, &[1]), (7, &[0; 3]), (18, &info), (26, &[9])]);
    let kind = LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Vxlan)]);
    assert_eq!(found.attributes, [LinkAttribute::IfName("eth0".into()), kind]);
}

#[test]
fn a_port_of_a_bond_without_a_kind_of_its_own_is_handed_on() {
    let mut info = Vec::new();
    put_attribute(&mut info, 4, b"bond\0");
    assert_eq!(link(&[(3, b"eth0\0"), (18, &info)]).attributes, [LinkAttribute::IfName("eth0".into())]);
}

#[test]
fn a_name_that_is_not_utf_8_is_made_readable() {
    assert_eq!(link(&[(3, b"a\xffb\0")]).attributes, [LinkAttribute::IfName("a\u{fffd}b".into())]);
}

#[test]
fn a_next_hop_object_is_heard_as_a_route_of_the_main_table() {
    let [message]: [Decoded; 1] = decoded(&datagram(RTM_NEWNEXTHOP, &[0; 8])).try_into().unwrap();
    let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(route)) = message.payload else {
        panic!("{message:?}");
    };
    assert_eq!(route.header.table, 254);
}

#[test]
fn what_is_cut_off_becomes_an_overrun() {
    let mut whole = datagram(RTM_NEWLINK, &[0; 16]);
    whole.extend(datagram(RTM_NEWLINK, &[0; 16]));
    let found = decoded(&whole[..whole.len() - 4]);
    assert!(matches!(found[1].payload, NetlinkPayload::Overrun(_)), "{found:?}");
    let found = decoded(&datagram(RTM_NEWNEIGH, &[0; 4]));
    assert!(matches!(found[0].payload, NetlinkPayload::Overrun(_)), "{found:?}");
}

#[test]
fn the_end_of_a_dump_is_handed_on_as_it_is() {
    let found = decoded(&datagram(NLMSG_DONE, &(-105i32).to_ne_bytes()));
    assert!(matches!(&found[0].payload, NetlinkPayload::Done(done) if done.code == -105), "{found:?}");
}

proptest! {
    #[test]
    fn every_message_is_handed_on_decodable(
        kind in RTM_NEWLINK..=RTM_GETNEIGH,
        header in proptest::collection::vec(any::<u8>(), 16),
        attributes in proptest::collection::vec((0u16..50, proptest::collection::vec(any::<u8>(), 0..24)), 0..8),
    ) {
        // There is no 23, 27 and 31.
        prop_assume!(kind <= RTM_SETLINK || kind % 4 != 3);
        let fixed_len = match kind {
            RTM_NEWLINK..=RTM_SETLINK => 16,
            RTM_NEWADDR..=RTM_GETADDR => 8,
            _ => 12,
        };
        let mut payload = header[..fixed_len].to_vec();
        for (kind, value) in &attributes {
            put_attribute(&mut payload, *kind, value);
        }
        let found = decoded(&datagram(kind, &payload));
        prop_assert_eq!(found.len(), 1);
        prop_assert!(matches!(found[0].payload, NetlinkPayload::InnerMessage(_)));
        prop_assert_eq!(found[0].header.message_type, kind);
    }
}
