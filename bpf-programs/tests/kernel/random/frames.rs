//! Random frames: sound ones of every kind, and what becomes of them when somebody changes a little.

use super::dice::Dice;
use super::tables::{FIRST_PORT, PORTS, vips};
use crate::cases::layers::{ACK, FIN, Family, Layers, PUSH, RST, SYN, Transport, ip};

/// Clients are numbered from 1 on.
pub const CLIENTS: u64 = 12;
pub const CLIENT_PORTS: std::ops::Range<u16> = 1000..1020;

/// Sound frames of one round; the others are made from them.
pub struct Stock {
    frames: Vec<Vec<u8>>,
    /// Of a round, so that records of fragments of another one say nothing.
    ids: u16,
}

/// Sound packets in a stock; some are two frames.
const STOCK: usize = 512;

impl Stock {
    pub fn new(dice: &mut Dice, round: u64) -> Self {
        let ids = (round as u16 & 0x0fff) << 4;
        let frames = (0..STOCK).flat_map(|_| sound(dice, ids)).map(|packet| packet.bytes()).collect();
        Self { frames, ids }
    }

    /// Writes the next frame into a buffer.
    pub fn next(&self, dice: &mut Dice, frame: &mut Vec<u8>) {
        frame.clear();
        frame.extend_from_slice(&self.frames[dice.roll(self.frames.len() as u64) as usize]);
        vary(dice, frame);
        for _ in 0..dice.of(&[0, 0, 0, 1, 1, 1, 2, 3]) {
            damage(dice, frame, self.ids);
        }
        // Shorter ones are refused before a program sees them.
        frame.resize(frame.len().max(14), 0);
    }
}

/// A packet, or both of its fragments.
fn sound(dice: &mut Dice, ids: u16) -> Vec<Layers> {
    let family = dice.of(&[Family::V4, Family::V6]);
    let vip = dice.of(&vips(family));
    let mut packet = ip(family).to(vip).from(&client(dice, family)).class(dice.roll(256) as u8);
    packet =
        packet.label(dice.roll(1 << 20) as u32).id(dice.roll(1 << 16) as u16).hops(1 + dice.roll(255) as u8);
    packet = packet.flags(dice.of(&[0, 0x40, 0x40, 0x80]));
    if dice.one_in(6) {
        packet = packet.tag(dice.of(&[[0x81, 0, 0, 5], [0x88, 0xa8, 0x20, 9]]));
    }
    if family == Family::V4 && dice.one_in(6) {
        packet = packet.options(4 * (1 + dice.roll(10)) as usize);
    }
    if family == Family::V6 && dice.one_in(4) {
        packet = chain(dice, packet);
    }
    packet = transport(dice, packet, family, vip);
    if dice.one_in(8) {
        let bytes = dice.roll(30);
        packet = packet.behind(&dice.bytes(bytes));
    }
    let length = packet.transport_bytes().len() as u64;
    if length >= 64 && dice.one_in(5) {
        let (id, at) = (u32::from(ids) + dice.roll(16) as u32, 8 * (1 + dice.roll(7)) as usize);
        return vec![packet.clone().first(at, id), packet.later(at, id)];
    }
    vec![packet]
}

/// Few, so that flows, records and ranges meet; sometimes one that no client has.
fn client(dice: &mut Dice, family: Family) -> String {
    if dice.one_in(30) {
        let vip = dice.of(&vips(family));
        return match family {
            Family::V4 => dice.of(&["127.0.0.1", "0.0.0.1", "224.0.0.1", "255.255.255.255", vip]).into(),
            Family::V6 => dice.of(&["::", "::1", "ff02::1", "::ffff:1.2.3.4", vip]).into(),
        };
    }
    client_address(family, 1 + dice.roll(CLIENTS))
}

pub fn client_address(family: Family, number: u64) -> String {
    if family == Family::V4 { format!("10.1.2.{number}") } else { format!("2001:db8::{number}") }
}

fn chain(dice: &mut Dice, mut packet: Layers) -> Layers {
    for _ in 0..dice.of(&[1, 1, 2, 3, 8, 9]) {
        packet = match dice.roll(6) {
            0 => packet.hop_by_hop(),
            1 => packet.destination_options(),
            2 => packet.routing(u8::from(dice.one_in(4))),
            3 => packet.authentication(),
            4 => packet.fragment_header(0, false, dice.roll(100) as u32),
            _ => {
                let units = dice.roll(20);
                let mut bytes = dice.bytes(7 + 8 * units);
                (bytes[0], bytes[2]) = (units as u8, 0);
                packet.header(dice.of(&[0, 43, 60]), &bytes)
            }
        };
    }
    packet
}

fn transport(dice: &mut Dice, packet: Layers, family: Family, vip: &str) -> Layers {
    let (from, to) = ports(dice);
    let length = dice.of(&[0, 1, 20, 57, 64, 100, 500, 1200, 1460]) + dice.roll(4);
    let data = dice.bytes(length);
    match dice.roll(16) {
        0..6 => {
            let flags = dice.of(&[
                SYN,
                SYN,
                ACK,
                ACK,
                ACK | PUSH,
                FIN | ACK,
                RST,
                RST | ACK,
                SYN | ACK,
                0,
                SYN | RST,
            ]);
            let (seq, ack) = (dice.roll(1 << 32) as u32, dice.roll(1 << 32) as u32);
            packet.tcp(from, to).with(flags).numbers(seq, ack).data(&data)
        }
        6..11 => {
            let packet = packet.udp(from, to).data(&data);
            if dice.one_in(6) { packet.sum(0) } else { packet }
        }
        11 => packet.ping(dice.roll(1 << 32) as u32, &data),
        12 => packet.icmp(dice.roll(256) as u8, dice.roll(3) as u8, 0, &data),
        13 => packet.raw(dice.of(&[2, 4, 41, 47, 50, 58, 1, 59, 132, 255]), &data),
        _ => {
            let quoted = reply(dice, family, vip);
            let kind = if family == Family::V4 { dice.of(&[3, 11, 12]) } else { dice.of(&[1, 2, 3, 4]) };
            packet.icmp(kind, dice.roll(5) as u8, 1400, &quoted)
        }
    }
}

fn ports(dice: &mut Dice) -> (u16, u16) {
    let to =
        if dice.one_in(12) { dice.roll(1 << 16) as u16 } else { FIRST_PORT + dice.roll(PORTS.into()) as u16 };
    let from =
        if dice.one_in(20) { to } else { CLIENT_PORTS.start + dice.roll(CLIENT_PORTS.len() as u64) as u16 };
    (from, to)
}

/// The beginning of what a backend has sent to a client.
fn reply(dice: &mut Dice, family: Family, vip: &str) -> Vec<u8> {
    let client = if family == Family::V4 {
        format!("10.1.2.{}", 1 + dice.roll(12))
    } else {
        format!("2001:db8::{}", 1 + dice.roll(12))
    };
    let (client_port, port) = ports(dice);
    let mut packet = ip(family).from(vip).to(&client);
    if family == Family::V4 && dice.one_in(5) {
        packet = packet.options(8);
    }
    if family == Family::V6 && dice.one_in(5) {
        packet = packet.fragment_header(u16::from(dice.one_in(4)), dice.one_in(2), 5);
    }
    packet = if dice.one_in(2) { packet.tcp(port, client_port) } else { packet.udp(port, client_port) };
    debug_assert!(!matches!(packet.transport, Transport::Raw { .. }));
    let mut bytes = packet.data(&[0x21; 40]).ip();
    if dice.one_in(2) {
        bytes.truncate(dice.roll(bytes.len() as u64 + 1) as usize);
    }
    bytes
}

/// Another flow of the same shape: the last byte of the client's port.
fn vary(dice: &mut Dice, frame: &mut [u8]) {
    let at = if frame[12] == 0x08 { 35 } else { 55 };
    if dice.one_in(2) && at < frame.len() {
        frame[at] = frame[at].wrapping_add(dice.roll(8) as u8);
    }
}

fn damage(dice: &mut Dice, frame: &mut Vec<u8>, ids: u16) {
    let headers = frame.len().min(120) as u64;
    if headers < 40 {
        return;
    }
    let v4 = frame[12] == 0x08;
    match dice.roll(13) {
        0 | 1 => {
            let at = dice.roll(headers) as usize;
            frame[at] ^= 1 << dice.roll(8);
        }
        2 => {
            let at = dice.roll(headers) as usize;
            frame[at] = dice.of(&[0, 1, 0x7f, 0x80, 0xff]);
        }
        3 => frame.truncate(14 + dice.roll(frame.len() as u64 - 13) as usize),
        4 => {
            let bytes = dice.roll(40);
            frame.extend(dice.bytes(bytes));
        }
        // The length says a little more or less.
        5 => {
            let at = if v4 { 16 } else { 18 };
            let length = u16::from_be_bytes([frame[at], frame[at + 1]]);
            let other = length.wrapping_add(dice.roll(64) as u16).wrapping_sub(32);
            frame[at..at + 2].copy_from_slice(&other.to_be_bytes());
        }
        6 => drop(frame.splice(12..12, [0x81, 0, 0, 9])),
        7 if v4 => frame[14] = 0x40 | dice.roll(16) as u8,
        8 if v4 => {
            let words = 1 + dice.roll(10);
            let length = u16::from_be_bytes([frame[16], frame[17]]).wrapping_add(words as u16 * 4);
            frame[14] = (frame[14] & 0xf0) | ((frame[14] & 15) + words as u8).min(15);
            frame[16..18].copy_from_slice(&length.to_be_bytes());
            drop(frame.splice(34..34, dice.bytes(words * 4)));
        }
        8 if frame.len() > 54 => {
            let next = std::mem::replace(&mut frame[20], dice.of(&[0, 43, 44, 51, 60]));
            let length = u16::from_be_bytes([frame[18], frame[19]]).wrapping_add(8);
            frame[18..20].copy_from_slice(&length.to_be_bytes());
            drop(frame.splice(54..54, [next, 0, 0, 0, 0, 0, 0, 0]));
        }
        // A fragment, perhaps with ports of a flow.
        9 if v4 => {
            let id = (ids + dice.roll(16) as u16).to_be_bytes();
            let place = dice.of(&[[0x20, 0], [0x20, 1], [0, 1], [0, 2], [0, 0xb9], [0x40, 0], [0x60, 0]]);
            frame[18..22].copy_from_slice(&[id[0], id[1], place[0], place[1]]);
        }
        // The flags of TCP, or something else's bytes.
        10 => {
            let at = if v4 { 47 } else { 67 };
            if at < frame.len() {
                frame[at] = dice.roll(64) as u8;
            }
        }
        // A checksum.
        11 => {
            let base = if v4 { 34 } else { 54 };
            let at = base + dice.of(&[2, 6, 16]);
            if at + 2 <= frame.len() {
                let sum = dice.of(&[[0, 0], [0xff, 0xff], [0, 1], [0x12, 0x34]]);
                frame[at..at + 2].copy_from_slice(&sum);
            }
        }
        _ => {
            let at = if v4 { 23 } else { 20 };
            frame[at] = dice.of(&[0, 1, 6, 17, 43, 44, 47, 51, 58, 59, 60, 255]);
        }
    }
}
