//! Walks through many changes, with flows of which some are silent for long: none leaves a backend that stays.

use super::{Compared, NO_GUESS, previous};
use proptest::prelude::*;

const SLOTS: usize = 4;
const BACKENDS: u16 = 4;

/// What happens next.
#[derive(Clone, Debug)]
enum Event {
    /// The ring changes to this.
    Change(Vec<u16>),
    /// A connection begins in this slot.
    Begin(usize),
    /// The connection of this number, modulo how many there are, sends a packet.
    Packet(usize),
    /// No change has come for as long as a window is open.
    Close,
}

/// A connection: the slot of its hash, the backend that has it, and the one that its record says.
struct Flow {
    slot: usize,
    home: u16,
    record: Option<u16>,
    /// It was silent through a whole window; then it is not known any more.
    is_lost: bool,
}

/// What the program knows.
struct Frontend {
    ring: Vec<u16>,
    previous: Option<Vec<u16>>,
    is_open: bool,
}

impl Frontend {
    fn change(&mut self, next: Vec<u16>) {
        let compared = self.previous.as_deref().map(|ring| Compared { ring, is_open: self.is_open });
        let previous = previous(&self.ring, compared, &next, |position| position < BACKENDS);
        if previous.is_some() && self.ring != next {
            self.is_open = true;
        }
        (self.ring, self.previous) = (next, previous);
    }

    /// The backend that a slot is compared with, if it is.
    fn guess(&self, slot: usize) -> Option<u16> {
        let guess = self.previous.as_ref().map(|ring| ring[slot])?;
        (guess != self.ring[slot]).then_some(guess)
    }

    /// Where a packet of a flow goes, and what is recorded, as section 3 of docs/datapath.md says.
    fn send(&self, flow: &mut Flow, is_first: bool) -> u16 {
        let current = self.ring[flow.slot];
        let Some(guess) = self.guess(flow.slot) else { return current };
        if let Some(record) = flow.record {
            return record;
        }
        let chosen = if self.is_open && !is_first && guess != NO_GUESS { guess } else { current };
        flow.record = self.is_open.then_some(chosen);
        chosen
    }
}

fn rings() -> impl Strategy<Value = Vec<u16>> {
    proptest::collection::vec(0..BACKENDS, SLOTS)
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        3 => rings().prop_map(Event::Change),
        2 => (0..SLOTS).prop_map(Event::Begin),
        4 => any::<usize>().prop_map(Event::Packet),
        1 => Just(Event::Close),
    ];
    proptest::collection::vec(event, 0..60)
}

proptest! {
    #[test]
    fn no_flow_leaves_a_backend_that_stays_unless_it_was_silent_through_a_window(
        first in rings(),
        events in events(),
    ) {
        let mut frontend = Frontend { ring: first, previous: None, is_open: false };
        let mut flows: Vec<Flow> = Vec::new();
        for event in events {
            match event {
                Event::Change(next) => frontend.change(next),
                Event::Begin(slot) => {
                    let mut flow = Flow { slot, home: 0, record: None, is_lost: false };
                    flow.home = frontend.send(&mut flow, true);
                    flows.push(flow);
                }
                Event::Packet(number) if !flows.is_empty() => {
                    let at = number % flows.len();
                    let flow = &mut flows[at];
                    let went = frontend.send(flow, false);
                    prop_assert!(flow.is_lost || went == flow.home, "from {} to {went}", flow.home);
                }
                Event::Packet(_) => {}
                Event::Close => {
                    frontend.is_open = false;
                    for flow in flows.iter_mut().filter(|flow| flow.record.is_none()) {
                        flow.is_lost |= flow.home != frontend.ring[flow.slot];
                    }
                }
            }
        }
    }
}
