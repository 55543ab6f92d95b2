//! Maglev tables, bit-exact with Cilium's: which backend each slot of a service's ring belongs to.
//!
//! A table is a function of the backends' names, their weights, the number of slots and the seed, and of nothing
//! else: two balancers with the same file choose the same backend for the same packet. The algorithm is that of
//! Eisenbud and others, "Maglev: A Fast and Reliable Software Network Load Balancer" (NSDI 2016), section 3.4; the names,
//! the hash and the way weights are counted are Cilium's.

use netd_schema::{Protocol, TABLE_SIZES, TableSize};
use std::net::SocketAddr;

/// Slots per backend that "auto" provides at least: twice the hundred of the Maglev paper, so that a service can
/// double before its table changes size, which moves most of its flows.
const AUTO_SLOTS_PER_BACKEND: usize = 200;

/// "auto" does not go below this size: a service that grows from one backend to ten keeps its table size.
const AUTO_SLOTS_MIN: u32 = 2039;

/// One backend of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// What is hashed, and what the backends are sorted by; see [`name`].
    pub name: String,
    /// Its share relative to the others; not 0.
    pub weight: u16,
}

/// The name under which a backend is hashed: the frozen form of Cilium's later versions.
#[must_use]
pub fn name(backend: SocketAddr, protocol: Protocol) -> String {
    let protocol = match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
    };
    format!("[{backend}/{protocol},State:active]")
}

/// The number of slots that a service with so many backends gets.
#[must_use]
pub fn table_size(size: TableSize, backends: usize) -> u32 {
    match size {
        TableSize::Fixed(slots) => slots,
        TableSize::Auto => {
            let enough = |&&slots: &&u32| {
                slots >= AUTO_SLOTS_MIN && slots as usize >= backends.saturating_mul(AUTO_SLOTS_PER_BACKEND)
            };
            let largest = TABLE_SIZES[TABLE_SIZES.len() - 1];
            TABLE_SIZES.iter().find(enough).copied().unwrap_or(largest)
        }
    }
}

/// The table: for each of `slots` slots, the position in `members` of the backend that it belongs to.
///
/// Empty when there are no members. `slots` is a prime, at least 3; positions fit because a service has at most
/// 65,535 backends.
#[must_use]
pub fn table(members: &[Member], slots: u32, seed: u32) -> Vec<u16> {
    const FREE: u16 = u16::MAX;
    if members.is_empty() {
        return Vec::new();
    }
    let mut walks: Vec<Walk> = members
        .iter()
        .zip(0u16..)
        .map(|(member, position)| Walk::new(&member.name, position, slots, seed))
        .collect();
    walks.sort_by(|a, b| members[usize::from(a.member)].name.cmp(&members[usize::from(b.member)].name));
    let mut turns = Turns::new(walks.iter().map(|walk| members[usize::from(walk.member)].weight));
    let mut table = vec![FREE; slots as usize];
    for _ in 0..slots {
        let walk = &mut walks[turns.next()];
        while table[walk.at as usize] != FREE {
            walk.step(slots);
        }
        table[walk.at as usize] = walk.member;
        walk.step(slots);
    }
    table
}

/// A backend's walk over the slots in the order in which it prefers them.
struct Walk {
    member: u16,
    at: u32,
    skip: u32,
}

impl Walk {
    fn new(name: &str, member: u16, slots: u32, seed: u32) -> Self {
        let (h1, h2) = murmur3(name.as_bytes(), seed);
        let slots = u64::from(slots);
        // Both remainders are below `slots`, which is 32 bits wide.
        let (at, skip) = (h1 % slots, h2 % (slots - 1) + 1);
        Self { member, at: at as u32, skip: skip as u32 }
    }

    fn step(&mut self, slots: u32) {
        self.at += self.skip;
        if self.at >= slots {
            self.at -= slots;
        }
    }
}

/// Whose turn it is: one after the other, or by weight.
///
/// Cilium's way to count weights: at turn n, counted from one over all slots, a backend is passed over while n times
/// its weight has not reached its counter; when it takes a slot, its counter grows by the sum of all weights.
struct Turns {
    weights: Vec<f64>,
    counters: Vec<f64>,
    sum: f64,
    weighted: bool,
    taken: u64,
}

impl Turns {
    fn new(weights: impl Iterator<Item = u16>) -> Self {
        let weights: Vec<u16> = weights.collect();
        let sum: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
        let count = weights.len().max(1);
        let weights: Vec<f64> = weights.into_iter().map(f64::from).collect();
        let counters = weights.iter().map(|weight| weight / count as f64).collect();
        Self { weights, counters, sum: sum as f64, weighted: sum / count as u64 > 1, taken: 0 }
    }

    fn next(&mut self) -> usize {
        let count = self.weights.len();
        let mut at = (self.taken % count as u64) as usize;
        self.taken += 1;
        if !self.weighted {
            return at;
        }
        let turn = self.taken as f64;
        while turn * self.weights[at] < self.counters[at] {
            at = if at + 1 == count { 0 } else { at + 1 };
        }
        self.counters[at] += self.sum;
        at
    }
}

/// MurmurHash3, x64, 128 bits, by Austin Appleby: the two halves.
#[must_use]
pub fn murmur3(data: &[u8], seed: u32) -> (u64, u64) {
    const C1: u64 = 0x87c3_7b91_1142_53d5;
    const C2: u64 = 0x4cf5_ad43_2745_937f;
    let mix1 = |k: u64| k.wrapping_mul(C1).rotate_left(31).wrapping_mul(C2);
    let mix2 = |k: u64| k.wrapping_mul(C2).rotate_left(33).wrapping_mul(C1);
    let (mut h1, mut h2) = (u64::from(seed), u64::from(seed));
    let mut blocks = data.chunks_exact(16);
    for block in &mut blocks {
        let (low, high) = block.split_at(8);
        h1 ^= mix1(word(low));
        h1 = h1.rotate_left(27).wrapping_add(h2).wrapping_mul(5).wrapping_add(0x52dc_e729);
        h2 ^= mix2(word(high));
        h2 = h2.rotate_left(31).wrapping_add(h1).wrapping_mul(5).wrapping_add(0x3849_5ab5);
    }
    let tail = blocks.remainder();
    let (low, high) = tail.split_at(tail.len().min(8));
    h2 ^= mix2(word(high));
    h1 ^= mix1(word(low));
    h1 ^= data.len() as u64;
    h2 ^= data.len() as u64;
    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    h1 = finish(h1);
    h2 = finish(h2);
    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    (h1, h2)
}

/// Up to eight bytes, least significant first; none are zero.
fn word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte))
}

fn finish(mut k: u64) -> u64 {
    k ^= k >> 33;
    k = k.wrapping_mul(0xff51_afd7_ed55_8ccd);
    k ^= k >> 33;
    k = k.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    k ^ k >> 33
}

#[cfg(test)]
#[path = "maglev_tests.rs"]
mod tests;
