//! The brakes: plans that remove so much that a person has to say that it is meant.

use crate::plan::Plan;
use crate::resource::KindName;
use serde::Serialize;
use std::fmt;

/// A plan may delete this many resources of a kind without being asked about.
pub const DELETES_MAX_UNASKED: usize = 10;

/// Above [`DELETES_MAX_UNASKED`], a plan may delete this share of a kind, in percent, without being asked about.
pub const DELETES_PERCENT_MAX_UNASKED: usize = 20;

/// Why a plan is not applied until it is allowed by its identifier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "brake", rename_all = "kebab-case")]
pub enum Brake {
    /// More than a fifth of a kind, and more than ten, would go.
    ManyDeletes {
        /// The kind.
        kind: KindName,
        /// How many would go.
        deletes: usize,
        /// Of how many.
        observed: usize,
    },
    /// Nothing of a kind would be left.
    NothingLeft {
        /// The kind.
        kind: KindName,
        /// How many there are now.
        observed: usize,
    },
    /// Something that clients know by its address would have another one, or none.
    Renumber {
        /// The first: `web/ipv4`.
        first: String,
        /// Its address.
        from: String,
        /// Its next address, if it has one.
        to: Option<String>,
        /// How many more there are.
        more: usize,
    },
}

impl fmt::Display for Brake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ManyDeletes { kind, deletes, observed } => {
                write!(f, "it would delete {deletes} of {observed} resources of kind {kind}")
            }
            Self::NothingLeft { kind, observed } => {
                write!(f, "it would delete every resource of kind {kind} ({observed})")
            }
            Self::Renumber { first, from, to, more } => {
                let to = to.as_deref().unwrap_or("nothing");
                write!(f, "it would RENUMBER {first} from {from} to {to}")?;
                if *more > 0 { write!(f, ", and {more} more") } else { Ok(()) }
            }
        }
    }
}

impl Plan {
    /// What about this plan has to be allowed first; empty if it may simply be applied.
    ///
    /// `guarded` are the kinds that an operator lists in the file; kinds that only follow from them are not counted.
    #[must_use]
    pub fn brakes(&self, guarded: &[KindName]) -> Vec<Brake> {
        let mut brakes = Vec::new();
        for &kind in guarded {
            let Some(totals) = self.totals.get(kind) else { continue };
            let (deletes, observed) = (totals.deletes, totals.observed);
            if deletes > 0 && deletes == observed && totals.desired == 0 {
                brakes.push(Brake::NothingLeft { kind, observed });
            } else if deletes > DELETES_MAX_UNASKED && deletes * 100 > observed * DELETES_PERCENT_MAX_UNASKED
            {
                brakes.push(Brake::ManyDeletes { kind, deletes, observed });
            }
        }
        brakes
    }
}
