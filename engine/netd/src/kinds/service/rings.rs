//! From one ring to the next: which lines the backends have, and which flows must not move.
//!
//! A backend keeps its line's position for as long as the frontend has it, whatever block of lines the frontend moves
//! to. So two rings of a frontend can be compared slot by slot, and the program needs to look for a flow's record only in
//! slots where they differ. The previous ring says where the flows of a moved slot were; records are made as their
//! packets come by.

use netd_bpf::abi::{ACTIVE, Backend, IN_USE, READY, TERMINATING};
use std::collections::BTreeSet;

/// For how long a flow without a record is taken for one that was there before the ring changed, in seconds.
///
/// Longer than TCP's keep-alive probes on a connection that a program cares about, shorter than people wait for a drained
/// host. A flow that is idle for longer and has no record moves.
pub const WINDOW_SECONDS: u32 = 900;

/// In a previous ring: flows may have records, and one without a record is new. Names no line; in a narrow ring it is
/// the largest byte.
pub const NO_GUESS: u16 = u16::MAX;

/// Positions of a ring with one-byte slots are below this; its largest byte is [`NO_GUESS`].
pub const NARROW_POSITIONS: u16 = 255;

/// Gives each backend a position: the one that it has, else the lowest that no backend has and no flow may name.
///
/// `found` is, for each wanted backend, the position that it has now. `None` when 65,535 positions are not enough.
pub fn positions(found: &[Option<u16>], taken: &BTreeSet<u16>) -> Option<Vec<u16>> {
    let mut free = (0..NO_GUESS).filter(|position| !taken.contains(position));
    found.iter().map(|found| found.or_else(|| free.next())).collect()
}

/// Whether flows that a line has may stay on it: not without a way to its backend.
#[must_use]
pub fn keeps_flows(line: &Backend) -> bool {
    line.flags & IN_USE != 0 && line.flags & READY != 0 && (line.state == ACTIVE || line.state == TERMINATING)
}

/// The ring that a frontend is compared with.
#[derive(Clone, Copy, Debug)]
pub struct Compared<'a> {
    /// The older ring.
    pub ring: &'a [u16],
    /// Whether flows without a record are still taken for the older ring's.
    pub is_open: bool,
    /// Whether records are looked for where the rings agree, too.
    pub anywhere: bool,
}

/// What a frontend is to be compared with after a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Previous {
    /// Where flows without a record are, while the window is open.
    pub ring: Vec<u16>,
    /// As in [`Compared`].
    pub anywhere: bool,
}

/// What the slots' flows have to be compared with after a change; `None` when no slot's flows need it.
///
/// - `current`: the ring that is being replaced; `compared`: the one that it is still compared with, if any;
///   `next`: the new one. A ring of another length is another function of the flow.
/// - `keeps`: whether flows may stay at a position, in the new block of lines.
///
/// Flows with records may be on any backend that their slot ever had, so a slot that is being compared goes on being
/// compared, and all are as soon as the length changes. Flows without a record are where the program would send them
/// now: by the older ring while the window is open, because whoever has sent something since in a slot that differs has
/// a record; else, and where that ring has no guess, by the current one.
#[must_use]
pub fn previous(
    current: &[u16],
    compared: Option<Compared<'_>>,
    next: &[u16],
    keeps: impl Fn(u16) -> bool,
) -> Option<Previous> {
    let guess = |position: u16| if keeps(position) { position } else { NO_GUESS };
    let older = compared.map(|older| older.ring).unwrap_or_default();
    let aligned = older.len() == current.len();
    let mut ring: Vec<u16> = match compared {
        Some(Compared { is_open: true, .. }) if aligned => {
            let unrecorded = |(&older, &current)| guess(if older == NO_GUESS { current } else { older });
            older.iter().zip(current).map(unrecorded).collect()
        }
        Some(Compared { is_open, .. }) if is_open || current.is_empty() => {
            older.iter().copied().map(guess).collect()
        }
        Some(_) | None => current.iter().copied().map(guess).collect(),
    };
    let anywhere = compared.is_some_and(|older| older.anywhere || !aligned || current.len() != next.len());
    if anywhere || ring.len() != next.len() {
        let tells = anywhere || ring.iter().any(|&position| position != NO_GUESS);
        return tells.then_some(Previous { ring, anywhere });
    }
    for (slot, guessed) in ring.iter_mut().enumerate() {
        let is_compared = compared.is_some() && older[slot] != current[slot];
        match is_compared {
            // Records are looked for in slots that differ only.
            true if *guessed == next[slot] => *guessed = NO_GUESS,
            false if *guessed == NO_GUESS => *guessed = next[slot],
            true | false => {}
        }
    }
    (ring != next).then_some(Previous { ring, anywhere })
}

#[cfg(test)]
#[path = "rings_walks.rs"]
mod walks;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn open(ring: &[u16]) -> Compared<'_> {
        Compared { ring, is_open: true, anywhere: false }
    }

    /// What is compared where only slots that differ are.
    fn previous(
        current: &[u16],
        compared: Option<Compared<'_>>,
        next: &[u16],
        keeps: impl Fn(u16) -> bool,
    ) -> Option<Vec<u16>> {
        let previous = super::previous(current, compared, next, keeps)?;
        assert!(!previous.anywhere, "{previous:?}");
        Some(previous.ring)
    }

    fn anywhere(ring: &[u16]) -> Option<Previous> {
        Some(Previous { ring: ring.to_vec(), anywhere: true })
    }

    #[test]
    fn a_backend_keeps_its_position_and_a_new_one_takes_the_lowest_that_is_free() {
        let taken = BTreeSet::from([0, 1, 3]);
        assert_eq!(positions(&[Some(3), None, Some(0), None], &taken), Some(vec![3, 2, 0, 4]));
    }

    #[test]
    fn more_backends_than_positions_are_refused() {
        let taken = (1..NO_GUESS).collect();
        assert_eq!(positions(&[None], &taken), Some(vec![0]));
        assert_eq!(positions(&[None, None], &taken), None);
    }

    #[test]
    fn only_a_ring_that_differs_is_kept_for_comparison() {
        assert_eq!(previous(&[0, 1, 0], None, &[0, 1, 0], |_| true), None);
        assert_eq!(previous(&[0, 1, 0], None, &[0, 1, 2], |_| true), Some(vec![0, 1, 0]));
    }

    #[test]
    fn flows_of_a_backend_that_is_gone_move_at_once() {
        assert_eq!(previous(&[0, 1, 1], None, &[0, 2, 0], |position| position != 1), None);
        assert_eq!(previous(&[0, 1, 1], None, &[2, 2, 0], |position| position != 1), Some(vec![0, 2, 0]));
    }

    #[test]
    fn a_second_change_keeps_the_older_guess_where_a_slot_is_being_compared() {
        // Slot 0 moved from 0 to 1 before; now slot 1 moves from 1 to 2.
        assert_eq!(previous(&[1, 1], Some(open(&[0, 1])), &[1, 2], |_| true), Some(vec![0, 1]));
        // The slot that moved moves again: unrecorded flows are the oldest ones.
        assert_eq!(previous(&[1, 1], Some(open(&[0, 1])), &[2, 1], |_| true), Some(vec![0, 1]));
    }

    #[test]
    fn a_slot_that_comes_back_is_still_compared_for_the_flows_that_began_in_between() {
        assert_eq!(previous(&[1], Some(open(&[0])), &[0], |_| true), Some(vec![NO_GUESS]));
    }

    #[test]
    fn a_slot_that_came_back_and_moves_again_has_its_oldest_flows_where_it_was() {
        assert_eq!(previous(&[0], Some(open(&[NO_GUESS])), &[2], |_| true), Some(vec![0]));
    }

    #[test]
    fn a_compared_slot_whose_oldest_backend_is_gone_is_still_compared() {
        assert_eq!(previous(&[1], Some(open(&[3])), &[1], |position| position != 3), Some(vec![NO_GUESS]));
        assert_eq!(
            previous(&[1], Some(open(&[NO_GUESS])), &[1], |position| position < 3),
            Some(vec![NO_GUESS])
        );
    }

    #[test]
    fn after_the_window_the_current_ring_is_the_guess() {
        let closed = Compared { is_open: false, ..open(&[0, 0]) };
        assert_eq!(previous(&[1, 0], Some(closed), &[1, 2], |_| true), Some(vec![NO_GUESS, 0]));
        assert_eq!(previous(&[1, 0], Some(closed), &[2, 0], |_| true), Some(vec![1, 0]));
    }

    #[test]
    fn s8_the_ring_before_a_change_of_length_stays_the_guess_while_the_window_is_open() {
        let of_length = [3, 4];
        for next in [&[0, 2, 0][..], &[0, 1, 0, 1, 0]] {
            let kept = super::previous(&[0, 1, 0], Some(open(&of_length)), next, |_| true);
            assert_eq!(kept, anywhere(&of_length));
            let closed = Compared { is_open: false, ..open(&of_length) };
            let kept = super::previous(&[0, 1, 0], Some(closed), next, |_| true);
            assert_eq!(kept, anywhere(&[0, 1, 0]));
        }
    }

    #[test]
    fn s8_a_change_of_length_goes_on_looking_for_the_records_that_there_are() {
        let next = [0, 1, 0, 1, 0];
        let kept = super::previous(&[1, 1, 0], Some(open(&[0, 1, 0])), &next, |_| true);
        assert_eq!(kept, anywhere(&[0, 1, 0]));
        let kept = super::previous(&[1, 1, 0], Some(open(&[NO_GUESS, 1, 2])), &next, |kept| kept != 2);
        assert_eq!(kept, anywhere(&[1, 1, NO_GUESS]));
    }

    #[test]
    fn s8_records_that_are_anywhere_stay_there() {
        let older = Compared { anywhere: true, ..open(&[0, 1]) };
        assert_eq!(super::previous(&[0, 1], Some(older), &[0, 1], |_| true), anywhere(&[0, 1]));
    }

    #[test]
    fn s8_flows_are_kept_while_there_is_no_ring() {
        assert_eq!(previous(&[0, 1], None, &[], |position| position == 0), Some(vec![0, NO_GUESS]));
        assert_eq!(previous(&[0, 1], None, &[], |_| false), None);
        let closed = Compared { is_open: false, ..open(&[0, 1]) };
        for next in [&[][..], &[2, 2]] {
            assert_eq!(super::previous(&[], Some(closed), next, |_| true), anywhere(&[0, 1]));
        }
    }

    #[test]
    fn a_ring_of_another_length_is_compared_as_it_is() {
        assert_eq!(previous(&[0, 1, 0], None, &[0, 1, 0, 1, 0], |_| true), Some(vec![0, 1, 0]));
        let kept = previous(&[0, 1, 0], None, &[0, 2, 0, 2, 0], |position| position != 1);
        assert_eq!(kept, Some(vec![0, NO_GUESS, 0]));
    }

    #[test]
    fn without_a_ring_before_there_is_nothing_to_compare() {
        assert_eq!(previous(&[], None, &[0], |_| true), None);
        assert_eq!(previous(&[], None, &[], |_| true), None);
    }
}
