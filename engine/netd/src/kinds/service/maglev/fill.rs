//! Gives every slot to the member that asks for it first, as the textbook does, with fewer and cheaper steps.
//!
//! The textbook walks each member's order of slots one by one and skips those that are taken. Here an order is never
//! written down: a step is one addition and one conditional subtraction, and a taken slot is one bit. Most steps of a
//! walk are made when few slots are free. So the last ones are given away the other way round: each free slot is asked
//! for its place in the member's order, and the least place wins.

/// A member's walk over the slots, in the order in which it asks for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Walk {
    /// What is written into the slots that it takes.
    pub(super) member: u16,
    /// The slot that it asks for next; below the number of slots.
    pub(super) at: u32,
    /// How many slots on it asks then; from 1 to one less than the number of slots.
    pub(super) skip: u32,
}

/// The table of `slots` slots; `turn` says whose turn it is, as a position in `walks`.
///
/// `slots` is a prime below 2³¹: the sum of two slots fits 32 bits, and each walk comes by every slot.
pub(super) fn fill(walks: &mut [Walk], slots: u32, mut turn: impl FnMut() -> usize) -> Vec<u16> {
    let mut table = vec![0; slots as usize];
    let mut taken = Taken::new(slots);
    // With F of M slots free a walk takes M / F steps to the next one, and asking all takes F: equal at the root.
    for _ in slots.isqrt()..slots {
        let walk = &mut walks[turn()];
        while !taken.take(walk.at) {
            walk.step(slots);
        }
        table[walk.at as usize] = walk.member;
        walk.step(slots);
    }
    let mut free: Vec<u32> = (0..slots).filter(|&slot| !taken.has(slot)).collect();
    let mut places: Vec<Option<Places>> = vec![None; walks.len()];
    while !free.is_empty() {
        let at = turn();
        let places = places[at].get_or_insert_with(|| Places::new(&walks[at], slots));
        let slot = free.swap_remove(places.first(&free));
        table[slot as usize] = walks[at].member;
    }
    table
}

impl Walk {
    fn step(&mut self, slots: u32) {
        self.at = reduced(self.at + self.skip, slots);
    }
}

/// A number below twice `slots`, modulo `slots`: what would be below zero wraps round to a large number.
fn reduced(number: u32, slots: u32) -> u32 {
    number.min(number.wrapping_sub(slots))
}

/// A bit for each slot.
struct Taken(Vec<u64>);

impl Taken {
    fn new(slots: u32) -> Self {
        Self(vec![0; slots.div_ceil(u64::BITS) as usize])
    }

    fn has(&self, slot: u32) -> bool {
        self.0[(slot / u64::BITS) as usize] >> (slot % u64::BITS) & 1 == 1
    }

    /// Takes the slot; `false` if it was taken.
    fn take(&mut self, slot: u32) -> bool {
        let word = &mut self.0[(slot / u64::BITS) as usize];
        let bit = 1 << (slot % u64::BITS);
        let was_free = *word & bit == 0;
        *word |= bit;
        was_free
    }
}

/// How many steps a walk is from a slot, without walking.
///
/// After n steps a walk is at `at + n * skip`, so n is `(slot - at) / skip`, all modulo the number of slots. Dividing by
/// `skip` is multiplying by its inverse; that product is reduced without dividing, by Shoup's method: the quotient
/// by `slots` is estimated from `inverse * 2³² / slots`, and is at most one too small.
#[derive(Clone, Copy)]
struct Places {
    slots: u32,
    at: u32,
    inverse: u32,
    scaled: u32,
}

impl Places {
    fn new(walk: &Walk, slots: u32) -> Self {
        let inverse = inverse(walk.skip, slots);
        let scaled = ((u64::from(inverse) << 32) / u64::from(slots)) as u32;
        Self { slots, at: walk.at, inverse, scaled }
    }

    fn of(&self, slot: u32) -> u32 {
        let ahead = slot + self.slots - self.at;
        let quotient = ((u64::from(ahead) * u64::from(self.scaled)) >> 32) as u32;
        let rest = ahead.wrapping_mul(self.inverse).wrapping_sub(quotient.wrapping_mul(self.slots));
        reduced(rest, self.slots)
    }

    /// Which of these slots the walk comes by first, as a position; 0 if there are none.
    fn first(&self, free: &[u32]) -> usize {
        let mut best = (u32::MAX, 0);
        for (position, &slot) in free.iter().enumerate() {
            let place = self.of(slot);
            if place < best.0 {
                best = (place, position);
            }
        }
        best.1
    }
}

/// The number that multiplied by `number` gives 1 modulo the prime `modulus`, by Euclid's extended algorithm.
fn inverse(number: u32, modulus: u32) -> u32 {
    let (mut rest, mut next_rest) = (i64::from(modulus), i64::from(number));
    let (mut factor, mut next_factor) = (0i64, 1i64);
    while next_rest != 0 {
        let quotient = rest / next_rest;
        (rest, next_rest) = (next_rest, rest - quotient * next_rest);
        (factor, next_factor) = (next_factor, factor - quotient * next_factor);
    }
    // Factors stay between -modulus and modulus.
    factor.rem_euclid(i64::from(modulus)) as u32
}
