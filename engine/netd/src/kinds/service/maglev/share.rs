//! What tables are told apart by: their digest, the backends' shares, and how much moves from one to another.

use sha2::{Digest, Sha256};

/// SHA-256 over the slots as little-endian 32-bit numbers, the backends numbered from one in the order of their names.
///
/// `order` is [`by_name`](super::by_name) of the table's members.
#[must_use]
pub fn digest(table: &[u16], order: &[u16]) -> String {
    let mut numbers = vec![0u32; order.len()];
    for (number, &member) in (1..).zip(order) {
        if let Some(place) = numbers.get_mut(usize::from(member)) {
            *place = number;
        }
    }
    let number = |member: &u16| numbers.get(usize::from(*member)).copied().unwrap_or(0);
    let bytes: Vec<u8> = table.iter().flat_map(|member| number(member).to_le_bytes()).collect();
    Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How many slots each of so many members has.
#[must_use]
pub fn slot_counts(table: &[u16], members: usize) -> Vec<u32> {
    let mut counts = vec![0; members];
    for &member in table {
        if let Some(count) = counts.get_mut(usize::from(member)) {
            *count += 1;
        }
    }
    counts
}

/// The share of flows, from 0 to 1, that come to another backend by the `after` table than by the `before` table, both
/// with the same numbers for the same backends.
///
/// Tables of one size are compared slot by slot, else as [`scattered`]: one flow's slots in tables of two sizes have
/// nothing to do with each other.
#[must_use]
pub fn moved(before: &[u16], after: &[u16]) -> f64 {
    if before.len() != after.len() {
        return scattered(before, after);
    }
    let differ = before.iter().zip(after).filter(|(before, after)| before != after).count();
    differ as f64 / before.len().max(1) as f64
}

/// As [`moved`], when another hash of the flows picks the slots: only the backends' shares tell how many stay.
#[must_use]
pub fn scattered(before: &[u16], after: &[u16]) -> f64 {
    let members = before.iter().chain(after).max().map_or(0, |&last| usize::from(last) + 1);
    let shares = |table: &[u16]| {
        let slots = table.len().max(1) as f64;
        slot_counts(table, members).into_iter().map(move |count| f64::from(count) / slots)
    };
    let stay: f64 = shares(before).zip(shares(after)).map(|(before, after)| before * after).sum();
    1.0 - stay
}

/// The share of all slots, from 0 to 1, that go from one backend to another although neither is `gone`, when that one
/// goes; both tables have the same numbers for the same backends.
#[must_use]
pub fn disturbed(before: &[u16], without: &[u16], gone: u16) -> f64 {
    let disturbed = before.iter().zip(without).filter(|(before, after)| **before != gone && before != after);
    disturbed.count() as f64 / before.len().max(1) as f64
}

/// A share, from 0 to 1, as people read it: `25.4 %`.
#[must_use]
pub fn percent(share: f64) -> String {
    match share * 100.0 {
        // What moves is not called nothing.
        little if little > 0.0 && little < 0.05 => "under 0.1 %".to_owned(),
        percent => format!("{percent:.1} %"),
    }
}
