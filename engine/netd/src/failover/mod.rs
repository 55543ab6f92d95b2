//! Which gateways of egress policies live, as a fact for passes.
//!
//! ```text
//!   file ─ Task, Orders (pure) ─→ run ─ messages ─→ Watch (pure) ─→ Board: Seen ─→ facts ─→ which gateway is in force
//!   passes: what came of them ──→  │                                 └─→ Keeper: which addresses the kernel keeps
//! ```
//!
//! All nodes ask the gateways, and the gateways all nodes, by UDP from the address of the file; see [`message`]. Only a
//! way that carries packets in both directions counts: what proves that a node lives is the time of the asker's own that
//! it sends back. Nodes tell each other which gateways they hear, so that two gateways that do not hear each other, but
//! are heard by a third node, agree nevertheless; see [`watch`]. What passes find that this node cannot do is told to the
//! others; see `ability`.

mod ability;
mod board;
mod carried;
mod going;
mod keeper;
pub mod message;
mod orders;
mod run;
mod secret;
mod seen;
mod sockets;
mod source;
mod task;
pub mod watch;
mod wrong;

pub use board::Board;
pub use orders::Orders;
pub use run::{FAREWELL_MAX, Inputs, run};
pub use seen::{Peer, Seen, Standing};
pub use source::WithSeen;
pub use task::{Task, order};
