//! Maglev tables, bit-exact with Cilium's: which backend each slot of a service's ring belongs to.
//!
//! A table is a function of the backends' names, their weights, the number of slots and the seed, and of nothing
//! else: two balancers with the same file choose the same backend for the same packet. The algorithm is that of
//! Eisenbud and others, "Maglev: A Fast and Reliable Software Network Load Balancer" (NSDI 2016), section 3.4; the names,
//! the hash and the way weights are counted are Cilium's.
//!
//! A table is always built from nothing: with one member more or less every turn after the first round goes to another
//! member, and what a turn takes depends on all turns before it, so nothing of an earlier table is known to be right.

mod fill;
mod murmur3;
mod parallel;
mod share;
mod tables;
mod turns;

pub use murmur3::murmur3;
pub use parallel::in_parallel;
pub use share::{digest, disturbed, moved, percent, scattered, slot_counts};
pub use tables::{Tables, tables};

use fill::{Walk, fill};
use netd_schema::{HashNames, Protocol, TABLE_SIZES, TableSize};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use turns::{Turns, following};

/// Slots per backend that "auto" provides at least: twice the hundred of the Maglev paper, so that a service can
/// double before its table changes size, which moves most of its flows.
const AUTO_SLOTS_PER_BACKEND: usize = 200;

/// "auto" does not go below this size: a service that grows from one backend to ten keeps its table size.
const AUTO_SLOTS_MIN: u32 = 2039;

/// One backend of a table.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Member {
    /// What is hashed, and what the backends are sorted by; see [`name`].
    pub name: String,
    /// Its share relative to the others; not 0.
    pub weight: u16,
}

/// All that a table depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// The backends, at most 65,535; their order only says how the table numbers them.
    pub members: Vec<Member>,
    /// The number of slots: a prime below 2³¹, at least 3.
    pub slots: u32,
    /// Seeds the hash over the names.
    pub seed: u32,
}

/// The name under which a backend is hashed.
#[must_use]
pub fn name(backend: SocketAddr, protocol: Protocol, form: HashNames) -> String {
    let protocol = match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
    };
    match form {
        // Cilium froze the text of its own structure at that time.
        HashNames::Cilium => format!("[{backend}/{protocol},State:active]"),
        HashNames::Cilium110 => backend.to_string(),
    }
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

/// The table: for each slot, the position in `members` of the backend that it belongs to.
///
/// Empty when there are no members. For the ranges see [`Request`].
#[must_use]
pub fn table(members: &[Member], slots: u32, seed: u32) -> Vec<u16> {
    if members.is_empty() {
        return Vec::new();
    }
    let order = by_name(members);
    let walk = |&member: &u16| Walk::new(&members[usize::from(member)].name, member, slots, seed);
    let mut walks: Vec<Walk> = order.iter().map(walk).collect();
    let weights: Vec<u16> = order.iter().map(|&member| members[usize::from(member)].weight).collect();
    match Turns::weighted(&weights) {
        Some(mut turns) => fill(&mut walks, slots, || turns.next()),
        None => {
            let mut next = 0;
            fill(&mut walks, slots, || {
                let turn = next;
                next = following(turn, weights.len());
                turn
            })
        }
    }
}

/// The positions of the members, sorted by name: a table's own order, in which every balancer numbers them.
#[must_use]
pub fn by_name(members: &[Member]) -> Vec<u16> {
    let shared = shared_beginning(members);
    let leading = |member: &Member| leading(&member.name.as_bytes()[shared..]);
    let mut order: Vec<(u128, u16)> =
        members.iter().zip(0u16..).map(|(member, position)| (leading(member), position)).collect();
    let name = |position: u16| &members[usize::from(position)].name;
    order.sort_by(|one, other| one.0.cmp(&other.0).then_with(|| name(one.1).cmp(name(other.1))));
    order.into_iter().map(|(_, position)| position).collect()
}

/// How many bytes all names begin with alike.
fn shared_beginning(members: &[Member]) -> usize {
    let Some((first, others)) = members.split_first() else { return 0 };
    let first = first.name.as_bytes();
    others.iter().fold(first.len(), |shared, other| {
        let alike = first[..shared].iter().zip(other.name.as_bytes()).take_while(|(one, other)| one == other);
        alike.count()
    })
}

/// The first bytes as a number: where the numbers of two texts differ, they are in the texts' order. They decide nearly
/// always, and a number is compared at once.
fn leading(text: &[u8]) -> u128 {
    let mut bytes = [0; 16];
    let length = text.len().min(bytes.len());
    bytes[..length].copy_from_slice(&text[..length]);
    u128::from_be_bytes(bytes)
}

impl Walk {
    fn new(name: &str, member: u16, slots: u32, seed: u32) -> Self {
        let (h1, h2) = murmur3(name.as_bytes(), seed);
        let slots = u64::from(slots);
        // Both remainders are below `slots`, which is 32 bits wide.
        let (at, skip) = (h1 % slots, h2 % (slots - 1) + 1);
        Self { member, at: at as u32, skip: skip as u32 }
    }
}

#[cfg(test)]
mod tests;
