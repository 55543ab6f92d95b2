//! netd as a whole: files that come into force or do not, kills and restarts, devices, addresses from pools, what is
//! counted. One binary, so that tests that wait do so side by side.

mod counters;
mod devices;
mod edits;
mod files;
mod kills;
mod noop;
mod pools;
mod process;
mod upgrade;
