//! Translates files of other programs into netd's, and says in comments what has no translation.

mod cilium_bgp;
mod cilium_egress;
mod toml_lines;

pub use cilium_bgp::translate as cilium_bgp;
pub use cilium_egress::{Answers as EgressAnswers, translate as cilium_egress};
