//! Walks through many changes, of the rings' lengths too, with flows of which some are silent for long: none leaves a
//! backend that stays.

use super::{Compared, NO_GUESS, Previous, previous};
use proptest::prelude::*;

const LENGTHS: [usize; 6] = [0, 3, 4, 4, 4, 5];
const HASHES: usize = 60;
const BACKENDS: u16 = 4;

/// What happens next.
#[derive(Clone, Debug)]
enum Event {
    /// The ring changes to this.
    Change(Vec<u16>),
    /// A connection with this hash begins.
    Begin(usize),
    /// The connection of this number, modulo how many there are, sends a packet.
    Packet(usize),
    /// No change has come for as long as a window is open.
    Close,
}

/// A connection: its hash, the backend that has it, and the one that its record says.
struct Flow {
    hash: usize,
    home: u16,
    record: Option<u16>,
    /// It was silent through a whole window; then it is not known any more.
    is_lost: bool,
}

/// What the program knows.
struct Frontend {
    ring: Vec<u16>,
    previous: Option<Previous>,
    is_open: bool,
}

fn at(ring: &[u16], hash: usize) -> Option<u16> {
    ring.get(hash.checked_rem(ring.len())?).copied()
}

impl Frontend {
    fn change(&mut self, next: Vec<u16>) {
        let compared = self.previous.as_ref().map(|previous| Compared {
            ring: &previous.ring,
            is_open: self.is_open,
            anywhere: previous.anywhere,
        });
        let previous = previous(&self.ring, compared, &next, |position| position < BACKENDS);
        if previous.is_some() && self.ring != next {
            self.is_open = true;
        }
        (self.ring, self.previous) = (next, previous);
    }

    /// Where a packet of a flow goes, if anywhere, and what is recorded, as section 3 of docs/datapath.md says.
    fn send(&self, flow: &mut Flow, is_first: bool) -> Option<u16> {
        let current = at(&self.ring, flow.hash);
        let Some(previous) = &self.previous else { return current };
        let guess = at(&previous.ring, flow.hash);
        let is_changed = guess != current;
        if (is_changed || previous.anywhere) && flow.record.is_some() {
            return flow.record;
        }
        let stays = self.is_open && is_changed && !is_first && guess != Some(NO_GUESS);
        let chosen = if stays { guess } else { current };
        if self.is_open && is_changed {
            flow.record = chosen;
        }
        chosen
    }
}

fn rings() -> impl Strategy<Value = Vec<u16>> {
    let of_length = |length| proptest::collection::vec(0..BACKENDS, length);
    proptest::sample::select(&LENGTHS[..]).prop_flat_map(of_length)
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        3 => rings().prop_map(Event::Change),
        2 => (0..HASHES).prop_map(Event::Begin),
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
                Event::Begin(hash) => {
                    let mut flow = Flow { hash, home: 0, record: None, is_lost: false };
                    if let Some(home) = frontend.send(&mut flow, true) {
                        flow.home = home;
                        flows.push(flow);
                    }
                }
                Event::Packet(number) if !flows.is_empty() => {
                    let at = number % flows.len();
                    let flow = &mut flows[at];
                    let went = frontend.send(flow, false);
                    prop_assert!(flow.is_lost || went == Some(flow.home), "from {} to {went:?}", flow.home);
                }
                Event::Packet(_) => {}
                Event::Close => {
                    frontend.is_open = false;
                    for flow in flows.iter_mut().filter(|flow| flow.record.is_none()) {
                        flow.is_lost |= Some(flow.home) != at(&frontend.ring, flow.hash);
                    }
                }
            }
        }
    }
}
