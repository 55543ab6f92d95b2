//! Rules that hold between keys, and between sections.

use crate::diagnostic::Diagnoses;
use crate::raw::Top;

pub(crate) fn check(_top: &Top, _diagnoses: &mut Diagnoses) {}
