//! What the tests against the real kernel stand on: network namespaces that they make and remove themselves.
//!
//! A test begins with `let Some(lab) = Lab::new() else { return };`, which prints why when it cannot run.

pub mod bed;
pub mod capture;
pub mod crowd;
pub mod desired;
pub mod dice;
pub mod echo;
pub mod frames;
mod lab;
pub mod mesh;
pub mod netd;
pub mod pair;
pub mod restless;
mod site;
pub mod snapshot;
pub mod trace;

pub use bed::{Arrival, Bed};
pub use lab::{Lab, Namespace};
pub use pair::Pair;
pub use site::Site;
