//! For tests: what was stored in mapped memory, in order, and death before any of the stores.

use std::cell::RefCell;

/// What a test wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A word of an array was written.
    Store { array: usize, word: usize, value: u64 },
    /// A grace period was waited for.
    Grace,
}

#[derive(Default)]
struct Trace {
    events: Vec<Event>,
    until_death: Option<usize>,
}

thread_local! {
    static TRACE: RefCell<Trace> = RefCell::default();
}

/// The next `stores` stores are made, and none after them.
pub(crate) fn die_after(stores: Option<usize>) {
    TRACE.with_borrow_mut(|trace| trace.until_death = stores);
}

/// What happened since the last call.
pub(crate) fn take() -> Vec<Event> {
    TRACE.with_borrow_mut(|trace| std::mem::take(&mut trace.events))
}

/// Notes a store; false if the thread is dead.
pub(crate) fn store(array: usize, word: usize, value: u64) -> bool {
    TRACE.with_borrow_mut(|trace| {
        match &mut trace.until_death {
            Some(0) => return false,
            Some(left) => *left -= 1,
            None => {}
        }
        trace.events.push(Event::Store { array, word, value });
        true
    })
}

/// Notes a grace period.
pub(crate) fn grace() {
    TRACE.with_borrow_mut(|trace| trace.events.push(Event::Grace));
}
