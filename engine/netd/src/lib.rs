//! netd: one TOML file in force.
//!
//! A pass goes one way: [`source`] reads the file, `netd-schema` gives it a meaning, [`facts`] says what the node is,
//! [`kinds`] turn both into what is wanted and observe what is there, `netd-core` plans, targets apply. [`reconcile`]
//! walks that way once; [`engine`] decides when; [`daemon`] runs it; [`commands`] are what a person types.

pub mod allocation;
pub mod api;
pub mod balancer;
pub mod cli;
pub mod clock;
pub mod commands;
#[doc(hidden)]
pub mod conformance;
pub mod daemon;
pub mod demo;
pub mod egress;
pub mod engine;
pub mod explain;
pub mod facts;
pub mod failover;
#[doc(hidden)]
pub mod fake;
pub mod health;
pub mod import;
pub mod instance;
pub mod kinds;
pub mod ledger;
pub mod log;
pub mod metrics;
pub mod netlink;
pub mod netns_lock;
pub mod pins;
mod reach;
pub mod reconcile;
pub mod recorder;
pub mod report;
mod seen;
pub mod source;
pub mod speaker;
pub mod target;
pub mod wireguard;
