//! Pods of different nodes reach each other, directly and in tunnels, whatever happens to files, devices and netd.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod life;
mod modes;
mod strangers;
