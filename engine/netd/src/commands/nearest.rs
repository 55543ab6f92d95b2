//! Which name was probably meant.

use strsim::{jaro_winkler, normalized_damerau_levenshtein};

/// Longer names are not compared: no service has one, and comparing takes time by the square.
const COMPARED_BYTES_MAX: usize = 64;

/// Below this two names have nothing to do with each other.
const LIKENESS_MIN: f64 = 0.6;

/// The most similar of `names`, if it is similar enough to have been meant.
pub(super) fn nearest<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    if name.len() > COMPARED_BYTES_MAX {
        return None;
    }
    names
        .map(|known| {
            // A common beginning counts, and less than the letters do.
            let likeness = normalized_damerau_levenshtein(name, known).max(jaro_winkler(name, known) - 0.15);
            (likeness, known)
        })
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, known)| known)
}
