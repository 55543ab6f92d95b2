//! Whose turn it is to take a slot: one member after the other, or by weight.

/// The members' turns, by weight.
///
/// Cilium's way to count: at turn n, counted from one over all slots, a member is passed over while n times its weight
/// has not reached its counter; when it takes a slot, its counter grows by the sum of all weights.
pub(super) struct Turns {
    weights: Vec<f64>,
    counters: Vec<f64>,
    sum: f64,
    /// Where the next turn begins to look: one after the other, whoever took a slot.
    begin: usize,
    turn: f64,
}

impl Turns {
    /// `None` when the weights are not counted: they are all the same, which gives the turns that no weights give, or
    /// their mean is below two, where Cilium does not look at them.
    pub(super) fn weighted(weights: &[u16]) -> Option<Self> {
        let sum: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
        let count = weights.len().max(1);
        let is_equal = weights.iter().all(|weight| Some(weight) == weights.first());
        if is_equal || sum / count as u64 <= 1 {
            return None;
        }
        let weights: Vec<f64> = weights.iter().copied().map(f64::from).collect();
        let counters = weights.iter().map(|weight| weight / count as f64).collect();
        Some(Self { weights, counters, sum: sum as f64, begin: 0, turn: 0.0 })
    }

    pub(super) fn next(&mut self) -> usize {
        let count = self.weights.len();
        let mut at = self.begin;
        self.begin = following(at, count);
        self.turn += 1.0;
        // Ends: what all counters lack together is less than what one turn gives all weights together.
        while self.turn * self.weights[at] < self.counters[at] {
            at = following(at, count);
        }
        self.counters[at] += self.sum;
        at
    }
}

/// The position after this one, round and round.
pub(super) fn following(at: usize, count: usize) -> usize {
    if at + 1 == count { 0 } else { at + 1 }
}
