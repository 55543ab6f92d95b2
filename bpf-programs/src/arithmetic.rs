//! What user space computes for the programs, so that they need not: how rings lie in their lines, the multiplier that
//! stands for a division, the constant part of a checksum.

use std::net::Ipv4Addr;

use crate::abi::{Backend, IN_USE, LINE_BYTES};

/// The lines that a ring of `slots` slots takes.
#[must_use]
pub const fn ring_lines(slots: u32, wide: bool) -> u32 {
    let per_line = if wide { LINE_BYTES / 2 } else { LINE_BYTES };
    slots.div_ceil(per_line as u32)
}

/// The bytes of a ring as they lie in `rings`, filled up with zeros to whole lines. Narrow slots keep the low byte.
#[must_use]
pub fn ring_bytes(slots: &[u16], wide: bool) -> Vec<u8> {
    let mut bytes: Vec<u8> = if wide {
        slots.iter().flat_map(|slot| slot.to_ne_bytes()).collect()
    } else {
        slots.iter().map(|&slot| slot as u8).collect()
    };
    bytes.resize(bytes.len().next_multiple_of(LINE_BYTES), 0);
    bytes
}

/// The slots that [`ring_bytes`] wrote; fewer when `bytes` is too short.
#[must_use]
pub fn ring_slots(bytes: &[u8], slots: u32, wide: bool) -> Vec<u16> {
    let slots = slots as usize;
    if wide {
        bytes.chunks_exact(2).take(slots).map(|b| u16::from_ne_bytes([b[0], b[1]])).collect()
    } else {
        bytes.iter().take(slots).map(|&b| u16::from(b)).collect()
    }
}

/// The digest that a frontend carries of its ring, over the bytes of all its lines.
#[must_use]
pub fn ring_digest(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytes)
}

/// The multiplier with which the programs find `hash % slots` without a division.
///
/// With `m = floor((2^32 - 1) / slots)` the quotient `(hash * m) >> 32` is right or one too small, because
/// `hash / slots - hash * m / 2^32` is at most `hash / 2^32`, which is below one; so the remainder is at most one
/// subtraction away. Zero for a ring without slots.
#[must_use]
pub const fn magic(slots: u32) -> u32 {
    match u32::MAX.checked_div(slots) {
        Some(magic) => magic,
        None => 0,
    }
}

/// The slot of a flow: what the programs compute.
#[must_use]
pub const fn slot(hash: u32, slots: u32, magic: u32) -> u32 {
    let quotient = ((hash as u64 * magic as u64) >> 32) as u32;
    let rest = hash.wrapping_sub(quotient.wrapping_mul(slots));
    if rest >= slots { rest.wrapping_sub(slots) } else { rest }
}

/// What most lines of a block have as their counter, less their position: lines that came together have counters that
/// follow one another. Zero without backends.
#[must_use]
pub fn first_counter(lines: &[Backend]) -> u32 {
    let in_use = (0..).zip(lines).filter(|(_, line)| line.flags & IN_USE != 0);
    let firsts = in_use.map(|(position, line)| line.counter.wrapping_sub(position));
    // What more than half of them say is left at the end (Boyer and Moore); without such a majority, something is.
    let (first, _) = firsts.fold((0, 0u32), |(first, votes), next| match votes {
        0 => (next, 1),
        _ if next == first => (first, votes + 1),
        _ => (first, votes - 1),
    });
    first
}

/// The constant part of the outer IPv4 header's checksum: the folded ones' complement sum, in native byte order, of
/// version and header length (TOS zero), `source` and `destination`.
///
/// The program adds the TOS, the total length, the identification, the DF bit, TTL and protocol and the hashed bits of
/// the source, and complements. With a hashed source, `source` is the prefix with zeros behind it.
#[must_use]
pub fn presum(source: Ipv4Addr, destination: Ipv4Addr) -> u16 {
    let [s0, s1, s2, s3] = source.octets();
    let [d0, d1, d2, d3] = destination.octets();
    let words = [[0x45, 0x00], [s0, s1], [s2, s3], [d0, d1], [d2, d3]];
    let sum: u32 = words.iter().map(|word| u32::from(u16::from_ne_bytes(*word))).sum();
    let once = (sum & 0xffff) + (sum >> 16);
    ((once & 0xffff) + (once >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cilium's table sizes, Katran's, and the corners.
    const SIZES: [u32; 18] = [
        1,
        2,
        3,
        64,
        251,
        509,
        1021,
        2039,
        4093,
        8191,
        16381,
        32749,
        65521,
        65537,
        131_071,
        1_048_573,
        1 << 31,
        u32::MAX,
    ];

    #[test]
    fn a_slot_is_the_remainder_for_every_table_size() {
        for slots in SIZES {
            let magic = magic(slots);
            let near =
                |at: u64| (at.saturating_sub(70_000)..at + 70_000).filter_map(|h| u32::try_from(h).ok());
            let top = u32::MAX - u32::MAX % slots;
            let multiples = (0..200_000u64).map(|k| (k * 21_474) / u64::from(slots) * u64::from(slots));
            let around = multiples.flat_map(|m| [m.saturating_sub(1), m, m + 1]);
            let around = around.filter_map(|h| u32::try_from(h).ok());
            let hashes =
                near(0).chain(near(1 << 31)).chain(near(u64::from(top))).chain(near(1 << 32)).chain(around);
            for hash in hashes {
                assert_eq!(slot(hash, slots, magic), hash % slots, "{hash} % {slots}");
            }
        }
    }

    #[test]
    fn ring_bytes_fill_whole_lines_and_come_back() {
        let slots: Vec<u16> = (0..251).collect();
        for wide in [false, true] {
            let bytes = ring_bytes(&slots, wide);
            assert_eq!(bytes.len(), ring_lines(251, wide) as usize * LINE_BYTES);
            assert_eq!(ring_slots(&bytes, 251, wide), slots);
        }
        assert_eq!((ring_lines(64, false), ring_lines(65, false), ring_lines(64, true)), (1, 2, 2));
    }

    #[test]
    fn the_first_counter_is_that_of_most_lines() {
        let line = |counter| Backend { flags: IN_USE, counter, ..Backend::default() };
        let free = Backend { counter: 99, ..Backend::default() };
        assert_eq!(first_counter(&[]), 0);
        assert_eq!(first_counter(&[line(7), line(8), line(9)]), 7);
        assert_eq!(first_counter(&[line(3), line(8), line(20), line(10), line(11)]), 7);
        assert_eq!(first_counter(&[free, line(8), free, line(10)]), 7);
        assert_eq!(first_counter(&[free, free, line(0)]), u32::MAX - 1, "it wraps, as the programs do");
    }

    #[test]
    fn a_presum_completes_to_a_valid_header() {
        let presum = presum(Ipv4Addr::new(10, 0, 0, 11), Ipv4Addr::new(10, 1, 0, 2));
        let header: [u8; 20] = [0x45, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 11, 10, 1, 0, 2];
        let sum: u32 = header.chunks(2).map(|w| u32::from(u16::from_ne_bytes([w[0], w[1]]))).sum();
        assert_eq!(u32::from(presum), (sum & 0xffff) + (sum >> 16));
    }
}
