//! Numbers for Prometheus: what is counted, how it is written, and who may ask for it how often.
//!
//! [`Page`] is the text, made when somebody asks; `tally` counts passes as they end; `totals` keeps sums from falling;
//! `encode` writes; `server` listens. That there is a listener follows from the file: see [`crate::kinds::metrics`].

mod bgp;
mod encode;
mod gateways;
mod nat;
mod page;
mod server;
mod strict;
mod tally;
mod totals;
mod wireguard;

pub(crate) use nat::dropped as nat_dropped;
pub use page::{Page, Sources};
pub use server::Listener;
pub(crate) use strict::by_reason;
