//! Deciding, without doing.
//!
//! Everything netd manages is a *resource* of a *kind*. What the file asks for and what the node has are both
//! tables of resources; [`plan`] compares them, [`Plan`] says what to change and in which order, and [`render`] shows
//! it. This crate does no I/O, reads no clock, and knows no kind by name.

mod backoff;
mod brake;
#[cfg(test)]
mod fake;
mod needs;
mod outcome;
mod pacing;
mod plan;
pub mod render;
mod resource;

pub use backoff::Backoff;
pub use brake::{Brake, DELETES_MAX_UNASKED, DELETES_PERCENT_MAX_UNASKED};
pub use outcome::{Outcome, Phase, Status};
pub use pacing::{FLIPS_MAX, FLIPS_WITHIN, Pacing};
pub use plan::{Action, Compared, Conflict, Held, Plan, PlanId, Remark, Step, Totals, Unread, plan};
pub use resource::{
    Described, Desired, DesiredKind, FieldChange, Key, KindName, Need, Observation, Observed, Reading,
    ResourceId, Spec, Table,
};
