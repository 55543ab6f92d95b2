//! The published hashes: of a flow, and of the outer source.

use std::net::IpAddr;

use super::{FlowId, Service};

/// Cilium's flow hash; a service with affinity leaves the client's port out.
pub fn flow_hash(service: &Service, flow: &FlowId) -> u32 {
    let client_port = if service.affinity.is_some() { 0 } else { flow.client_port };
    hash(flow.client, client_port, flow.to.port, flow.to.protocol, service.seed)
}

/// The low bits of an outer source: `prefix` is of the outer family, the client of the inner one.
pub fn outer_source(flow: &FlowId, prefix: &[u8], bits: u32) -> Vec<u8> {
    let hint = u32::from(flow.to.port.swap_bytes()) << 16 | u32::from(flow.client_port.swap_bytes());
    let client = words(flow.client);
    let clients = match (client.len(), prefix.len()) {
        (4, 4) => vec![client.iter().fold(0, |sum, word| sum ^ word)],
        (1, 16) => client.repeat(4),
        _ => client,
    };
    let last = clients.len() - 1;
    let word = |(k, (chunk, client)): (usize, (&[u8], &u32))| {
        let own_bits = bits.saturating_sub(32 * (last - k) as u32).min(32);
        let hashed = u64::from((client ^ hint).wrapping_mul(0x61C8_8647)) >> (32 - own_bits);
        (u32::from_be_bytes(chunk.try_into().expect("four bytes")) | hashed as u32).to_be_bytes()
    };
    prefix.chunks(4).zip(&clients).enumerate().flat_map(word).collect()
}

fn hash(client: IpAddr, client_port: u16, port: u16, protocol: u8, seed: u32) -> u32 {
    let ports = u32::from(client_port.swap_bytes()) << 16 | u32::from(port.swap_bytes());
    let protocol = u32::from(protocol);
    let mut s: [u32; 3];
    match words(client)[..] {
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

/// Words as a little-endian CPU loads them from the wire.
fn words(address: IpAddr) -> Vec<u32> {
    let octets = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    octets.chunks(4).map(|word| u32::from_le_bytes(word.try_into().expect("four bytes"))).collect()
}

#[test]
fn the_model_computes_the_published_hashes() {
    let of = |client: &str, port, to, seed| hash(client.parse().unwrap(), port, to, 6, seed);
    assert_eq!(of("10.1.2.3", 12345, 80, 0x71dc_da46), 0xe355_36fb);
    assert_eq!(of("10.1.2.3", 12346, 80, 0x71dc_da46), 0x8373_e83e);
    assert_eq!(of("203.0.113.7", 53124, 443, 0x71dc_da46), 0xb98e_f36e);
    assert_eq!(of("2001:db8::1", 12345, 80, 0x9250_5688), 0xba5f_2c2b);
}
