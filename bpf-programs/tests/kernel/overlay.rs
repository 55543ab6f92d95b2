//! The overlay's programs on frames: what is sent on and how, what is left to the stack; their pins and layouts.

use std::collections::BTreeMap;
use std::mem::offset_of;
use std::net::IpAddr;
use std::path::Path;

use etherparse::PacketBuilder;
use netd_bpf::Error;
use netd_bpf::abi::PoolKey;
use netd_bpf::overlay::abi::{self, Counts, Settings};
use netd_bpf::overlay::{Overlay, Role, Rules, Way};

use crate::bed::{in_own_world, ip};
use crate::layouts::{section, structs};
use crate::reference::checksum::checksum;

const TO_STACK: i32 = -1;
const SHOT: i32 = 2;
const REDIRECT: i32 = 7;

/// The device that the ways lead to, and its MTU.
const DEVICE: u32 = 10;
const MTU: usize = 1400;

const ETHERNET: usize = 14;
const TTL: usize = ETHERNET + 8;
const HOP_LIMIT: usize = ETHERNET + 7;

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn rules() -> Rules {
    let tunnel = |remote| Way::Tunnel { local: None, remote: address(remote), ifindex: DEVICE };
    let direct = |via| Way::Direct { via: address(via), ifindex: DEVICE };
    let ways = [
        ("10.244.0.0", 16, direct("10.0.0.9")),
        ("10.244.2.0", 24, tunnel("10.0.0.2")),
        ("10.244.3.0", 24, tunnel("2001:db8::3")),
        ("fd00:244:2::", 64, tunnel("10.0.0.2")),
        ("fd00:244:3::", 64, direct("fe80::3")),
        // It contains the mapped addresses, and is not meant for IPv4.
        ("::", 8, direct("fe80::8")),
    ];
    Rules {
        vni: 7,
        mtu: None,
        peers: ["10.0.0.2", "2001:db8::3"].map(address).into(),
        ways: ways.into_iter().map(|(prefix, bits, way)| ((address(prefix), bits), way)).collect(),
        pods: BTreeMap::from([(address("10.244.1.5"), DEVICE), (address("fd00:244:1::5"), DEVICE)]),
    }
}

fn overlay(root: &Path) -> Overlay {
    ip(&format!("link add near index {DEVICE} mtu {MTU} type veth peer name far"));
    let mut overlay = Overlay::prepare(root).unwrap_or_else(|error| panic!("{error}"));
    overlay.set_rules(&rules()).unwrap();
    overlay
}

/// A frame of UDP whose IP packet has so many bytes of payload.
fn frame(to: &str, hops: u8, payload: usize) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let builder = match address(to) {
        IpAddr::V4(to) => builder.ipv4([10, 244, 1, 5], to.octets(), hops),
        IpAddr::V6(to) => {
            let from: std::net::Ipv6Addr = "fd00:244:1::5".parse().unwrap();
            builder.ipv6(from.octets(), to.octets(), hops)
        }
    };
    let mut bytes = Vec::new();
    builder.udp(1, 2).write(&mut bytes, &vec![7; payload]).unwrap();
    bytes
}

/// The frame after one more router.
fn a_hop_later(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    if frame[12..14] == [0x86, 0xdd] {
        frame[HOP_LIMIT] -= 1;
        return frame;
    }
    frame[TTL] -= 1;
    frame[TTL + 2..TTL + 4].fill(0);
    let sum = checksum(&[&frame[ETHERNET..ETHERNET + 20]]);
    frame[TTL + 2..TTL + 4].copy_from_slice(&sum.to_be_bytes());
    frame
}

#[test]
fn the_longest_prefix_says_how_a_packet_is_sent_on() {
    in_own_world(|root| {
        let overlay = overlay(root);
        let (mut sent, mut sent_directly) = (0, 0);
        for (to, is_tunnel) in [
            ("10.244.2.9", true),
            ("10.244.3.9", true),
            ("10.244.9.9", false),
            ("fd00:244:2::9", true),
            ("fd00:244:3::9", false),
            ("::9", false),
        ] {
            let frame = frame(to, 64, 100);
            assert_eq!(overlay.run(Role::Send, &frame).unwrap(), (REDIRECT, a_hop_later(&frame)), "{to}");
            sent += u64::from(is_tunnel);
            sent_directly += u64::from(!is_tunnel);
            assert_eq!(overlay.counts(), Counts { sent, sent_directly, ..Counts::default() }, "{to}");
        }
    });
}

#[test]
fn what_is_not_known_and_what_needs_an_answer_is_left_to_the_stack_as_it_came() {
    in_own_world(|root| {
        let overlay = overlay(root);
        let arp = [&[2; 12][..], &[8, 6], &[0; 46]].concat();
        let mut of_no_version = frame("10.244.2.9", 64, 100);
        of_no_version[ETHERNET] = 0x55;
        let too_big = MTU - 20 - 8 + 1;
        let frames = [
            frame("198.51.100.9", 64, 100),
            frame("2001:db8::9", 64, 100),
            frame("10.244.2.9", 1, 100),
            frame("10.244.2.9", 0, 100),
            frame("fd00:244:2::9", 1, 100),
            frame("10.244.2.9", 64, too_big),
            frame("fd00:244:2::9", 64, too_big - 20),
            arp,
            of_no_version,
        ];
        for frame in &frames {
            assert_eq!(overlay.run(Role::Send, frame).unwrap(), (TO_STACK, frame.clone()));
        }
        assert_eq!(overlay.counts(), Counts::default());
        let fits = frame("10.244.2.9", 64, too_big - 1);
        assert_eq!(overlay.run(Role::Send, &fits).unwrap().0, REDIRECT);
    });
}

#[test]
fn what_is_larger_than_the_file_allows_is_left_to_the_stack_although_the_device_would_take_it() {
    in_own_world(|root| {
        let mut overlay = overlay(root);
        overlay.set_rules(&Rules { mtu: Some(1300), ..rules() }).unwrap();
        for (to, header) in [("10.244.9.9", 20 + 8), ("10.244.2.9", 20 + 8), ("fd00:244:3::9", 40 + 8)] {
            for (payload, expected) in [(1300 - header, REDIRECT), (1301 - header, TO_STACK)] {
                assert_eq!(overlay.run(Role::Send, &frame(to, 64, payload)).unwrap().0, expected, "{to}");
            }
        }
    });
}

#[test]
fn the_checksum_is_right_after_every_hop() {
    in_own_world(|root| {
        let overlay = overlay(root);
        for hops in 2..=255 {
            for to in ["10.244.2.9", "10.244.255.254", "fd00:244:2::9"] {
                let frame = frame(to, hops, 0);
                let (_, out) = overlay.run(Role::Send, &frame).unwrap();
                assert_eq!(out, a_hop_later(&frame), "{to} {hops}");
            }
        }
    });
}

#[test]
fn what_did_not_come_out_of_a_tunnel_is_not_received() {
    in_own_world(|root| {
        let overlay = overlay(root);
        let frame = frame("10.244.1.5", 64, 100);
        assert_eq!(overlay.run(Role::Receive, &frame).unwrap().0, SHOT);
        assert_eq!(overlay.counts(), Counts { strangers: 1, ..Counts::default() });
    });
}

#[test]
fn rules_are_read_as_they_were_set_and_found_again() {
    in_own_world(|root| {
        let mut first = Overlay::prepare(root).unwrap();
        assert_eq!(first.rules().unwrap(), Rules::default());
        assert!(Overlay::open(root).unwrap().is_none(), "it is not complete yet");
        first.complete().unwrap();
        for rules in [rules(), Rules { ways: BTreeMap::new(), vni: 8, ..rules() }, Rules::default(), rules()]
        {
            first.set_rules(&rules).unwrap();
            let found = Overlay::open(root).unwrap().unwrap();
            assert_eq!(found.rules().unwrap(), rules);
            assert!(found.is_current());
        }
        std::fs::remove_file(root.join("g1/ways")).unwrap();
        let refused = Overlay::open(root).map(|found| found.is_some());
        assert!(matches!(refused, Err(Error::Incompatible { .. })), "{refused:?}");
        Overlay::retire_all(root).unwrap();
        assert!(Overlay::open(root).unwrap().is_none());
    });
}

#[test]
fn every_struct_has_the_same_members_at_the_same_places() {
    let object = include_bytes!(concat!(env!("OUT_DIR"), "/tc_overlay.o"));
    let built = structs(section(object, ".BTF"));
    macro_rules! layout {
        ($type:ty: $($member:ident),+) => {
            (size_of::<$type>(), vec![$((stringify!($member).to_owned(), offset_of!($type, $member))),+])
        };
    }
    let user_space = BTreeMap::from([
        ("overlay_prefix", layout!(PoolKey: bits, address)),
        ("overlay_way", layout!(abi::Way: remote, local, ifindex, how, is_v6, pods_are_v6, zero)),
        ("overlay_settings", layout!(Settings: abi_version, vni, program_digest, mtu, zero)),
        ("overlay_counts", layout!(Counts: sent, sent_directly, received, delivered, strangers, reserved)),
    ]);
    for (name, layout) in user_space {
        assert_eq!(built.get(name), Some(&layout), "struct {name}");
    }
}
