//! Reads the desired file and watches it: what it says now, and when it says something else.
//!
//! ```text
//!   directories ── notify ─┐
//!   clock ─────── poll ────┼─→ settle (pure): read now? deliver? ─→ read ─→ Delivery
//!   reread() ──────────────┘
//! ```
//!
//! [`read`](mod@read) makes one attempt at the file and never blocks on what is not a regular file; `chain` says
//! which directories decide what the path means; `events` turns what notify reports into hints; `settle` decides,
//! without I/O and without a clock; `watch` is the thread that carries the decisions out.
//!
//! Half-written files are kept out by evidence: a rename or a writer's close says that the content is whole,
//! a quiet period stands in for it where neither can be seen, and whatever is delivered was read twice with the same
//! result. What is delivered may still be wrong (cut off by its author, for instance): that is for the schema and the
//! planner to refuse. The last good file is the caller's to keep.

mod chain;
mod events;
pub mod read;
pub mod settle;
pub mod watch;

#[cfg(test)]
mod chain_tests;
#[cfg(test)]
mod read_tests;
#[cfg(test)]
mod settle_tests;
#[cfg(test)]
mod storm_tests;
#[cfg(test)]
mod watch_tests;

pub use read::{FILE_BYTES_MAX, Reading, SourceText, Stamp, read};
pub use settle::Pace;
pub use watch::{Counters, Delivery, Watch, WatchMode};
