//! Translates files of other programs into netd's, and says in comments what has no translation.

mod cilium_bgp;
mod toml_lines;

pub use cilium_bgp::translate as cilium_bgp;
