//! The hashes of a flow, as the load balancer's program computes them: which slot, and which outer source.
//!
//! All words are as a little-endian CPU loads them from the wire, so that every balancer of a tier computes the same.

use super::Packet;
use netd_schema::HashSeed;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What Jenkins' lookup3 starts from, in the kernel's form for three words.
const INITIAL: u32 = 0xdead_beef + (3 << 2);

/// The multiplier of the kernel's `hash_32`: the golden ratio.
const GOLDEN_RATIO_32: u32 = 0x61C8_8647;

/// The hash that chooses a slot. With affinity the client's port is left out.
#[must_use]
pub fn flow_hash(packet: &Packet, seed: HashSeed, has_affinity: bool) -> u32 {
    let client_port = if has_affinity { 0 } else { wire(packet.source.port()) };
    let ports = client_port << 16 | wire(packet.destination.port());
    let protocol = u32::from(packet.protocol.number());
    match packet.source.ip() {
        IpAddr::V4(client) => {
            let start = seed.flows_v4().wrapping_add(INITIAL);
            finish([client_word(client), ports, protocol].map(|word| word.wrapping_add(start)))
        }
        IpAddr::V6(client) => {
            let words = client_words(client);
            let mut state = [words[0], words[1], words[2]];
            mix(&mut state);
            add(&mut state, [words[3], ports, protocol]);
            mix(&mut state);
            add(&mut state, [seed.flows_v6(), 0, 0]);
            finish(state)
        }
    }
}

/// The outer source: `prefix`, its low `bits` bits replaced by a hash of the client.
#[must_use]
pub fn outer_source(packet: &Packet, prefix: IpAddr, bits: u8) -> IpAddr {
    let hint = wire(packet.destination.port()) << 16 | wire(packet.source.port());
    let hashed = |word: u32, bits: u32| match bits {
        0 => 0,
        bits => (word ^ hint).wrapping_mul(GOLDEN_RATIO_32) >> (32 - bits.min(32)),
    };
    let client = match packet.source.ip() {
        IpAddr::V4(client) => [client_word(client); 4],
        IpAddr::V6(client) => client_words(client),
    };
    let bits = u32::from(bits);
    match prefix {
        IpAddr::V4(prefix) => {
            let word = match packet.source.ip() {
                IpAddr::V4(_) => client[0],
                IpAddr::V6(_) => client.iter().fold(0, |all, word| all ^ word),
            };
            Ipv4Addr::from(u32::from(prefix) | hashed(word, bits)).into()
        }
        IpAddr::V6(prefix) => {
            let mut address = u128::from(prefix);
            for (from_end, word) in (0u32..).zip(client.iter().rev()) {
                let own_bits = bits.saturating_sub(32 * from_end).min(32);
                address |= u128::from(hashed(*word, own_bits)) << (32 * from_end);
            }
            Ipv6Addr::from(address).into()
        }
    }
}

fn wire(port: u16) -> u32 {
    u32::from(port.swap_bytes())
}

fn client_word(client: Ipv4Addr) -> u32 {
    u32::from_le_bytes(client.octets())
}

fn client_words(client: Ipv6Addr) -> [u32; 4] {
    let mut words = [0; 4];
    for (word, chunk) in words.iter_mut().zip(client.octets().as_chunks::<4>().0) {
        *word = u32::from_le_bytes(*chunk);
    }
    words
}

fn add(state: &mut [u32; 3], words: [u32; 3]) {
    for (part, word) in state.iter_mut().zip(words) {
        *part = part.wrapping_add(word);
    }
}

/// `__jhash_mix` of the kernel.
fn mix([a, b, c]: &mut [u32; 3]) {
    *a = a.wrapping_sub(*c) ^ c.rotate_left(4);
    *c = c.wrapping_add(*b);
    *b = b.wrapping_sub(*a) ^ a.rotate_left(6);
    *a = a.wrapping_add(*c);
    *c = c.wrapping_sub(*b) ^ b.rotate_left(8);
    *b = b.wrapping_add(*a);
    *a = a.wrapping_sub(*c) ^ c.rotate_left(16);
    *c = c.wrapping_add(*b);
    *b = b.wrapping_sub(*a) ^ a.rotate_left(19);
    *a = a.wrapping_add(*c);
    *c = c.wrapping_sub(*b) ^ b.rotate_left(4);
    *b = b.wrapping_add(*a);
}

/// `__jhash_final` of the kernel.
fn finish([mut a, mut b, mut c]: [u32; 3]) -> u32 {
    c = (c ^ b).wrapping_sub(b.rotate_left(14));
    a = (a ^ c).wrapping_sub(c.rotate_left(11));
    b = (b ^ a).wrapping_sub(a.rotate_left(25));
    c = (c ^ b).wrapping_sub(b.rotate_left(16));
    a = (a ^ c).wrapping_sub(c.rotate_left(4));
    b = (b ^ a).wrapping_sub(a.rotate_left(14));
    (c ^ b).wrapping_sub(b.rotate_left(24))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn packet(text: &str) -> Packet {
        text.parse().unwrap()
    }

    fn hash(text: &str) -> u32 {
        flow_hash(&packet(text), HashSeed::default(), false)
    }

    #[test]
    fn the_published_flow_hashes_come_out() {
        assert_eq!(hash("tcp 10.1.2.3:12345 > 192.0.2.10:80"), 0xe355_36fb);
        assert_eq!(hash("tcp 10.1.2.3:12346 > 192.0.2.10:80"), 0x8373_e83e);
        assert_eq!(hash("tcp 10.1.2.3:12345 > 192.0.2.11:80"), 0xe355_36fb);
        assert_eq!(hash("tcp 203.0.113.7:53124 > 192.0.2.10:443"), 0xb98e_f36e);
        assert_eq!(hash("tcp [2001:db8::1]:12345 > [2001:db8:100::10]:80"), 0xba5f_2c2b);
    }

    #[test]
    fn the_published_outer_sources_come_out() {
        let v4 = |prefix: &str, bits| {
            outer_source(&packet("tcp 10.1.2.3:12345 > 192.0.2.10:80"), prefix.parse().unwrap(), bits)
                .to_string()
        };
        assert_eq!((v4("10.9.0.0", 16), v4("10.9.8.0", 8)), ("10.9.22.91".into(), "10.9.8.22".into()));
        assert_eq!(v4("10.9.0.1", 0), "10.9.0.1");
        let v6 = |bits| {
            let packet = packet("tcp [2001:db8::1]:12345 > [2001:db8:100::10]:80");
            outer_source(&packet, "f00d::".parse().unwrap(), bits).to_string()
        };
        assert_eq!((v6(32), v6(48)), ("f00d::727e:fc50".into(), "f00d::2b7e:727e:fc50".into()));
        assert_eq!(v6(64), "f00d::2b7e:fc50:727e:fc50");
    }

    #[test]
    fn with_affinity_all_ports_of_a_client_hash_alike() {
        let affine = |text| flow_hash(&packet(text), HashSeed::default(), true);
        assert_eq!(affine("tcp 10.1.2.3:1 > 192.0.2.10:80"), affine("tcp 10.1.2.3:2 > 192.0.2.10:80"));
        assert_ne!(affine("tcp 10.1.2.3:1 > 192.0.2.10:80"), affine("tcp 10.1.2.4:1 > 192.0.2.10:80"));
    }
}
