//! netd: one TOML file in force.
//!
//! A pass goes one way: [`source`] reads the file, `netd-schema` gives it a meaning, [`facts`] says what the node is,
//! [`kinds`] turn both into what is wanted and observe what is there, `netd-core` plans, targets apply.

pub mod facts;
pub mod kinds;
pub mod netlink;
pub mod source;
pub mod target;
