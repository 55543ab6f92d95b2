//! Which lines of a map are free, told from those that are in use.
//!
//! Nothing remembers allocations: the frontends in the kernel name all that is used, so the free lines are found anew
//! for each round of changes. A process that is killed between writing lines and naming them loses nothing.

/// The free lines of one map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Space {
    /// Free ranges as (first, length), ascending, not touching one another.
    free: Vec<(u32, u32)>,
    /// Ranges before this position were too short for what was asked last; the search goes on from here.
    from: usize,
}

impl Space {
    /// The lines below `capacity` that none of `used` (first line, number of lines) covers.
    pub fn new(capacity: u32, used: impl IntoIterator<Item = (u32, u32)>) -> Self {
        let mut used: Vec<(u32, u32)> = used.into_iter().filter(|&(_, lines)| lines > 0).collect();
        used.sort_unstable();
        let mut free = Vec::new();
        let mut next = 0u32;
        for (first, lines) in used {
            if first > next && next < capacity {
                free.push((next, first.min(capacity) - next));
            }
            next = next.max(first.saturating_add(lines));
        }
        if next < capacity {
            free.push((next, capacity - next));
        }
        Self { free, from: 0 }
    }

    /// Takes `lines` lines that lie together; `None` when there are none.
    pub fn take(&mut self, lines: u32) -> Option<u32> {
        if lines == 0 {
            return Some(0);
        }
        let count = self.free.len();
        let at = (0..count)
            .map(|step| (self.from + step) % count)
            .find(|&at| self.free.get(at).is_some_and(|&(_, free)| free >= lines))?;
        self.from = at;
        let (first, free) = self.free.get_mut(at)?;
        let taken = *first;
        *first += lines;
        *free -= lines;
        if *free == 0 {
            self.free.remove(at);
            self.from = 0;
        }
        Some(taken)
    }

    /// How many lines are free in all.
    #[must_use]
    pub fn free(&self) -> u64 {
        self.free.iter().map(|&(_, lines)| u64::from(lines)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn what_lies_between_used_ranges_is_free() {
        let mut space = Space::new(20, [(2, 3), (10, 5)]);
        assert_eq!(space.free(), 2 + 5 + 5);
        assert_eq!(space.take(4), Some(5));
        assert_eq!(space.take(5), Some(15));
        assert_eq!(space.take(3), None);
        assert_eq!(space.take(2), Some(0));
        assert_eq!(space.take(1), Some(9));
        assert_eq!(space.take(1), None);
    }

    #[test]
    fn shared_and_overlapping_ranges_are_used_once() {
        assert_eq!(Space::new(10, [(0, 4), (0, 4), (2, 4)]).free(), 4);
    }

    #[test]
    fn nothing_takes_no_room() {
        assert_eq!(Space::new(0, []).take(0), Some(0));
    }

    proptest! {
        #[test]
        fn taken_lines_are_within_capacity_and_never_used_twice(
            used in proptest::collection::vec((0u32..200, 0u32..20), 0..20),
            asked in proptest::collection::vec(0u32..30, 0..30),
        ) {
            let mut held: BTreeSet<u32> = used.iter().flat_map(|&(first, lines)| first..first + lines).collect();
            let mut space = Space::new(200, used);
            for lines in asked {
                if let Some(first) = space.take(lines) {
                    for line in first..first + lines {
                        prop_assert!(line < 200);
                        prop_assert!(held.insert(line), "line {} twice", line);
                    }
                }
            }
        }
    }
}
