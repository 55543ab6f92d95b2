//! Resources for tests: things that have a colour.

use crate::resource::{Described, FieldChange, Key, Spec, Table};
use std::sync::Arc;

#[derive(Debug, PartialEq, serde::Serialize)]
pub(crate) struct Colour(&'static str);

impl Described for Colour {
    fn summary(&self) -> String {
        self.0.into()
    }

    fn changes(&self, observed: &Self) -> Vec<FieldChange> {
        vec![FieldChange::changed("colour", observed.0, self.0)]
    }
}

/// Things of these colours, by their keys.
pub(crate) fn table(keys: &[(&str, &'static str)]) -> Table {
    keys.iter().map(|(key, colour)| (Key::new(key), Arc::new(Colour(colour)) as Arc<dyn Spec>)).collect()
}
