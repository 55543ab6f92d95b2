//! What has to come out of the load balancer, in plain Rust: written from the formats and the published hashes, not
//! from the programs. Checksums are computed over everything, never updated.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use netd_bpf::Verdict;
use netd_bpf::abi::{
    ACTIVE, Backend, Counter, FrontendKey, IN_USE, READY, ServiceCounter, TCP, TERMINATING, UDP,
};

/// One VIP, port and protocol.
#[derive(Clone)]
pub struct Service {
    pub key: FrontendKey,
    pub seed: u32,
    pub slots: Vec<u16>,
    pub wide: bool,
    pub previous: Option<Vec<u16>>,
    pub wide_previous: bool,
    pub window_open: bool,
    pub backends: Vec<Backend>,
}

impl Service {
    pub fn new(key: FrontendKey, slots: Vec<u16>, backends: Vec<Backend>) -> Self {
        let (previous, seed) = (None, 0x71dc_da46);
        Self { key, seed, slots, wide: false, previous, wide_previous: false, window_open: false, backends }
    }
}

type FlowId = (IpAddr, u16, FrontendKey);

#[derive(Default)]
pub struct Model {
    pub services: Vec<Service>,
    /// Flow to counter and index.
    pub flows: BTreeMap<FlowId, (u32, u32)>,
    pub sent: BTreeMap<u32, Counter>,
    pub service_counters: BTreeMap<usize, ServiceCounter>,
}

/// A client's packet, taken apart.
struct Packet<'a> {
    client: IpAddr,
    client_port: u16,
    to: FrontendKey,
    /// From the IP header to the end of the frame.
    ip: &'a [u8],
    header_bytes: usize,
    ip_bytes: usize,
}

impl Model {
    pub fn run(&mut self, frame: &[u8]) -> (Verdict, Vec<u8>) {
        let untouched = |verdict| (verdict, frame.to_vec());
        let Some(packet) = parse(frame) else { return untouched(Verdict::Pass) };
        let found = self.services.iter().position(|service| service.key == packet.to);
        let Some(at) = found else { return untouched(Verdict::Pass) };
        let service = self.services[at].clone();
        let counters = self.service_counters.entry(at).or_default();
        let hash = flow_hash(&packet, service.seed);
        let slot =
            |slots: &[u16]| slots.get(hash.checked_rem(slots.len() as u32)? as usize).map(|s| u32::from(*s));
        let mut chosen = slot(&service.slots);
        let previous = slot(service.previous.as_deref().unwrap_or_default());
        if let (Some(current), Some(previous)) = (chosen, previous)
            && current != previous
        {
            let id = (packet.client, packet.client_port, packet.to);
            let kept = self.flows.get(&id).filter(|(counter, index)| {
                keeps(&service, *index)
                    && service.backends[*index as usize].counter == *counter
                    // A port that is used again does not go back to a backend that drains.
                    && !(is_syn(&packet) && service.backends[*index as usize].state != ACTIVE)
            });
            chosen = Some(match kept {
                Some((_, index)) => *index,
                None if !service.window_open => current,
                None => {
                    let stays = !is_syn(&packet) && keeps(&service, previous);
                    let index = if stays { previous } else { current };
                    if let Some(backend) = service.backends.get(index as usize) {
                        self.flows.insert(id, (backend.counter, index));
                        counters.kept_flows += 1;
                    }
                    index
                }
            });
        }
        let Some(backend) = chosen.and_then(|index| service.backends.get(index as usize)) else {
            counters.no_backend += 1;
            return untouched(Verdict::Drop);
        };
        if backend.flags & READY == 0 {
            counters.no_next_hop += 1;
            return untouched(Verdict::Drop);
        }
        let sent = self.sent.entry(backend.counter).or_default();
        sent.packets += 1;
        sent.bytes += packet.ip_bytes as u64;
        let verdict =
            if backend.ifindex == crate::bed::INGRESS { Verdict::Transmit } else { Verdict::Redirect };
        (verdict, encapsulated(&packet, backend))
    }
}

fn keeps(service: &Service, index: u32) -> bool {
    let backend = service.backends.get(index as usize);
    backend.is_some_and(|backend| backend.flags & IN_USE != 0 && backend.state <= TERMINATING)
}

/// None: not a whole TCP or UDP packet of a kind that can be balanced.
fn parse(frame: &[u8]) -> Option<Packet<'_>> {
    let ip = frame.get(14..)?;
    let be16 = |at: usize| Some(u16::from_be_bytes(ip.get(at..at + 2)?.try_into().ok()?));
    let (client, vip, protocol, header_bytes, ip_bytes): (IpAddr, IpAddr, u8, usize, usize) =
        match (frame[12], frame[13], ip.first()? >> 4) {
            (0x08, 0x00, 4) => {
                let octets = |at: usize| Some(<[u8; 4]>::try_from(ip.get(at..at + 4)?).ok()?.into());
                if be16(6)? & 0x3fff != 0 {
                    return None;
                }
                (octets(12)?, octets(16)?, *ip.get(9)?, usize::from(ip[0] & 15) * 4, usize::from(be16(2)?))
            }
            (0x86, 0xdd, 6) => {
                let octets = |at: usize| Some(<[u8; 16]>::try_from(ip.get(at..at + 16)?).ok()?.into());
                (octets(8)?, octets(24)?, *ip.get(6)?, 40, 40 + usize::from(be16(4)?))
            }
            _ => return None,
        };
    let least = match protocol {
        TCP => 20,
        UDP => 8,
        _ => return None,
    };
    if header_bytes < 20 || ip_bytes < header_bytes + least || ip_bytes > ip.len() {
        return None;
    }
    let to = FrontendKey { address: vip, port: be16(header_bytes + 2)?, protocol };
    Some(Packet { client, client_port: be16(header_bytes)?, to, ip, header_bytes, ip_bytes })
}

fn is_syn(packet: &Packet<'_>) -> bool {
    packet.to.protocol == TCP && packet.ip[packet.header_bytes + 13] & 0x12 == 0x02
}

/// Words as a little-endian CPU loads them from the wire.
fn words(address: IpAddr) -> Vec<u32> {
    match address {
        IpAddr::V4(address) => vec![u32::from_le_bytes(address.octets())],
        IpAddr::V6(address) => {
            address.octets().chunks(4).map(|c| u32::from_le_bytes(c.try_into().unwrap())).collect()
        }
    }
}

fn flow_hash(packet: &Packet<'_>, seed: u32) -> u32 {
    let ports = u32::from(packet.client_port.swap_bytes()) << 16 | u32::from(packet.to.port.swap_bytes());
    let protocol = u32::from(packet.to.protocol);
    let mut s: [u32; 3];
    match words(packet.client)[..] {
        [client] => {
            let start = seed.wrapping_add(0xdead_beef).wrapping_add(3 << 2);
            s = [client, ports, protocol].map(|word| word.wrapping_add(start));
        }
        [w0, w1, w2, w3] => {
            s = [w0, w1, w2];
            mix(&mut s);
            s = [s[0].wrapping_add(w3), s[1].wrapping_add(ports), s[2].wrapping_add(protocol)];
            mix(&mut s);
            s[0] = s[0].wrapping_add(seed);
        }
        _ => panic!("an address has one word or four"),
    }
    for (to, from, turn) in
        [(2, 1, 14), (0, 2, 11), (1, 0, 25), (2, 1, 16), (0, 2, 4), (1, 0, 14), (2, 1, 24)]
    {
        s[to] = (s[to] ^ s[from]).wrapping_sub(s[from].rotate_left(turn));
    }
    s[2]
}

fn mix(s: &mut [u32; 3]) {
    for (k, turn) in [4, 6, 8, 16, 19, 4].into_iter().enumerate() {
        let (to, from, third) = (k % 3, (k + 2) % 3, (k + 1) % 3);
        s[to] = s[to].wrapping_sub(s[from]) ^ s[from].rotate_left(turn);
        s[from] = s[from].wrapping_add(s[third]);
    }
}

/// The outer source: the prefix with `bits` hashed bits behind it.
fn outer_source(packet: &Packet<'_>, prefix: &[u8], bits: u32) -> Vec<u8> {
    let hint = u32::from(packet.to.port.swap_bytes()) << 16 | u32::from(packet.client_port.swap_bytes());
    let clients = words(packet.client);
    let last = clients.len() - 1;
    let word = |(k, (chunk, client)): (usize, (&[u8], &u32))| {
        let own_bits = bits.saturating_sub(32 * (last - k) as u32).min(32);
        let hashed = u64::from((client ^ hint).wrapping_mul(0x61C8_8647)) >> (32 - own_bits);
        (u32::from_be_bytes(chunk.try_into().unwrap()) | hashed as u32).to_be_bytes()
    };
    prefix.chunks(4).zip(&clients).enumerate().flat_map(word).collect()
}

fn encapsulated(packet: &Packet<'_>, backend: &Backend) -> Vec<u8> {
    let mut inner = packet.ip.to_vec();
    if backend.port != [0, 0] {
        set_port(&mut inner, packet, backend.port);
    }
    let (v4, bits) = (packet.client.is_ipv4(), u32::from(backend.source_bits));
    let width = if v4 { 4 } else { 16 };
    let source = outer_source(packet, &backend.source[..width], bits);
    let destination = &backend.destination[..width];
    let mut frame = [backend.destination_mac, backend.source_mac].concat();
    if v4 {
        let length = (packet.ip_bytes as u16 + 20).to_be_bytes();
        let [id0, id1, df] = [packet.ip[4], packet.ip[5], packet.ip[6] & 0x40];
        let mut header = vec![0x45, packet.ip[1], length[0], length[1], id0, id1, df, 0, 64, 4, 0, 0];
        header.extend(source.iter().chain(destination));
        let sum = checksum(&[&header]).to_be_bytes();
        header[10..12].copy_from_slice(&sum);
        frame.extend([0x08, 0x00]);
        frame.extend(header);
    } else {
        frame.extend([0x86, 0xdd]);
        frame.extend(&packet.ip[..4]);
        frame.extend((packet.ip_bytes as u16).to_be_bytes());
        frame.extend([41, 64]);
        frame.extend(source.iter().chain(destination));
    }
    frame.extend(inner);
    frame
}

fn set_port(inner: &mut [u8], packet: &Packet<'_>, port: [u8; 2]) {
    let (start, end) = (packet.header_bytes, packet.ip_bytes);
    let at = start + if packet.to.protocol == TCP { 16 } else { 6 };
    let none = packet.to.protocol == UDP && inner[at..at + 2] == [0, 0];
    inner[start + 2..start + 4].copy_from_slice(&port);
    if none {
        return;
    }
    inner[at..at + 2].fill(0);
    let mut sum = l4_checksum(packet, &inner[start..end]);
    if sum == 0 && packet.to.protocol == UDP {
        sum = 0xffff;
    }
    inner[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

/// The checksum over the pseudo header and the segment: zero when the one that it contains is right.
fn l4_checksum(packet: &Packet<'_>, segment: &[u8]) -> u16 {
    let addresses = if packet.client.is_ipv4() { &packet.ip[12..20] } else { &packet.ip[8..40] };
    let length = (segment.len() as u32).to_be_bytes();
    checksum(&[addresses, &length, &[0, packet.to.protocol], segment])
}

/// Whether the IPv4 header's and the segment's checksums of a frame are right.
pub fn checksums_are_right(frame: &[u8]) -> bool {
    let packet = parse(frame).unwrap();
    let header = match packet.client {
        IpAddr::V4(_) => checksum(&[&packet.ip[..packet.header_bytes]]) == 0,
        IpAddr::V6(_) => true,
    };
    header && l4_checksum(&packet, &packet.ip[packet.header_bytes..packet.ip_bytes]) == 0
}

/// RFC 1071, over parts of which only the last may have an odd length.
pub fn checksum(parts: &[&[u8]]) -> u16 {
    let bytes: Vec<u8> = parts.concat();
    let word = |pair: &[u8]| u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0));
    let mut sum: u64 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[test]
fn the_model_computes_the_published_hashes() {
    let vip = FrontendKey { address: Ipv4Addr::new(192, 0, 2, 10).into(), port: 80, protocol: TCP };
    let packet = |client: &str, client_port, to| Packet {
        client: client.parse().unwrap(),
        client_port,
        to,
        ip: &[],
        header_bytes: 0,
        ip_bytes: 0,
    };
    assert_eq!(flow_hash(&packet("10.1.2.3", 12345, vip), 0x71dc_da46), 0xe355_36fb);
    assert_eq!(flow_hash(&packet("10.1.2.3", 12346, vip), 0x71dc_da46), 0x8373_e83e);
    let https = FrontendKey { port: 443, ..vip };
    assert_eq!(flow_hash(&packet("203.0.113.7", 53124, https), 0x71dc_da46), 0xb98e_f36e);
    assert_eq!(flow_hash(&packet("2001:db8::1", 12345, vip), 0x9250_5688), 0xba5f_2c2b);
    assert_eq!(outer_source(&packet("10.1.2.3", 12345, vip), &[10, 9, 0, 0], 16), [10, 9, 22, 91]);
}
