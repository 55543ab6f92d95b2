//! Tables that are built ahead, together, for work that needs them one by one.

use super::{Request, in_parallel, table};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// Tables by all that they depend on.
#[derive(Debug, Default)]
pub struct Tables(HashMap<Request, Vec<u16>>);

impl Tables {
    /// Builds what is asked for on all processors, each table once.
    #[must_use]
    pub fn of(requests: impl IntoIterator<Item = Request>) -> Self {
        let distinct: HashSet<Request> = requests.into_iter().collect();
        let distinct: Vec<Request> = distinct.into_iter().collect();
        let built = tables(&distinct);
        Self(distinct.into_iter().zip(built).collect())
    }

    /// The table; one that was not asked for ahead is built now.
    #[must_use]
    pub fn table(&self, request: &Request) -> Cow<'_, [u16]> {
        match self.0.get(request) {
            Some(table) => Cow::Borrowed(table),
            None => Cow::Owned(table(&request.members, request.slots, request.seed)),
        }
    }
}

/// The table of each request, built on all processors.
#[must_use]
pub fn tables(requests: &[Request]) -> Vec<Vec<u16>> {
    let slots = requests.iter().map(|request| u64::from(request.slots)).sum();
    in_parallel(requests, slots, |Request { members, slots, seed }| table(members, *slots, *seed))
}
