//! Whole passes with the real kinds of the datapath and of BGP, on targets in memory: what is announced, when, and what
//! it stands on. The decision is compared with one that was written on its own, from the words of the file's reference.

mod file;
mod node;
mod order;
mod properties;
mod trouble;
#[path = "../world/mod.rs"]
mod world;
