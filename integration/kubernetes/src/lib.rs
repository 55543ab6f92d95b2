//! The Kubernetes adapter: objects of a cluster in, the file that netd reads out.
//!
//! netd learns nothing about Kubernetes: this is one more author of its file. Objects are kept in an [`Index`], from which
//! [`render()`] makes the file: a pure function, so that whatever order events came in, the same objects give the same bytes.

mod back;
mod base;
mod index;
mod note;
mod objects;
mod options;
mod read;
mod render;
mod run;
mod write;

pub use back::{Back, KeyOf, LeaseName};
pub use base::{Base, BaseError};
pub use index::Index;
pub use note::{Note, ObjectRef};
pub use options::{CLASS, Options, parse_selector};
pub use read::{ReadError, read_dir};
pub use render::{Balanced, RenderError, Rendered, render};
pub use run::{Run, RunError, run};
pub use write::{WriteError, Written, write};
