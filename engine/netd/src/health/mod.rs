//! Health checks: whether backends answer, as a fact for passes.
//!
//! ```text
//!   file, facts ─ Orders (pure) ─→ prober ─ probe ─→ answers ─→ Board: Tracker (pure) ─→ Verdicts ─→ facts
//!                                                                                                    │
//!                                    what the datapath is given ←─ kinds::service ←─ in_force (pure) ┘
//! ```
//!
//! One check is made for each distinct backend address, port, VIP and question, however many frontends share it. By
//! default it goes to the VIP through the same tunnel that clients' packets take to that backend, so that a backend
//! whose tunnel is broken is found unhealthy although its own address answers. See [`way`] for when that cannot be.
//!
//! A backend is in force until `fall` checks in a row failed; see [`verdict`]. When netd starts, what was in force stays
//! until all backends of a VIP have been judged once; see [`board`]. Without a running netd nobody checks, and what was
//! found last stays in force.

pub mod board;
pub mod check;
mod in_force;
pub mod probe;
mod prober;
mod source;
mod told;
pub mod tunnels;
pub mod verdict;
pub mod way;

pub use board::Board;
pub use in_force::{InForce, in_force};
pub use prober::{Orders, order, run};
pub use source::{Seed, WithVerdicts, seed};
pub use told::tell_why;
pub use verdict::{BackendId, Group, Unhealthy, Verdicts};
