//! The file: a pure function from objects, what people wrote, and what they want taken.
//!
//! What an object says is judged here only as far as it decides about other objects; everything else is judged by the
//! schema, to whose eyes each table comes in the whole file (`whole`).

mod claims;
mod egress;
mod endpoints;
mod frontends;
mod name;
mod nodes;
mod services;
mod table;
mod whole;

use crate::note::{Note, ObjectRef};
use crate::{Base, Index, Options};
use claims::Claims;
use std::collections::BTreeSet;
use std::net::IpAddr;
use table::Table;

pub(crate) use frontends::is_asked;
pub(crate) use nodes::KEY_ANNOTATION;

/// What was made of the objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The file. The schema takes it.
    pub text: String,
    /// What of the objects is not in it, sorted.
    pub notes: Vec<Note>,
    /// How many tables came from objects.
    pub tables: usize,
    /// The tables of services of type `LoadBalancer`, in the order of the file.
    pub balanced: Vec<Balanced>,
}

/// A table of `[[services]]` by which clients of a load balancer reach a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Balanced {
    /// Its `name`.
    pub table: String,
    /// The service.
    pub object: ObjectRef,
    /// The addresses that it names.
    pub vips: BTreeSet<IpAddr>,
    /// Whether netd gives it addresses of a pool; `vips` are then those that it asks for.
    pub is_pooled: bool,
}

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// What people wrote and what objects say cannot be told apart in what the schema refuses.
    #[error("the file would have mistakes\n{0}")]
    Mistakes(String),
}

/// Makes the file. Equal objects give equal bytes, whatever order they came in.
///
/// # Errors
///
/// No file that the schema takes could be made; never because of what an object says, which is left out then.
pub fn render(index: &Index, base: &Base, options: &Options) -> Result<Rendered, RenderError> {
    let mut notes: Vec<Note> = index
        .refused
        .iter()
        .map(|(object, text)| Note { object: object.clone(), text: text.clone() })
        .collect();
    let mut claims = Claims::of(&base.config);
    let mut tables: Vec<Table> = Vec::new();
    if options.nodes {
        tables.extend(nodes::tables(index, base, &mut claims, &mut notes));
    }
    if options.egress {
        let policies = egress::tables(index, (base, options), &tables, &mut claims, &mut notes);
        tables.extend(policies);
    }
    if options.services {
        tables.extend(services::tables(index, base, options, &mut claims, &mut notes));
    }
    whole::assemble(base, tables, notes)
}
