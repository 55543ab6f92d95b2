//! Which word was probably meant.

use strsim::{jaro_winkler, normalized_damerau_levenshtein};

/// Longer words are not compared: no key is that long, and comparing takes time by the square.
const COMPARED_BYTES_MAX: usize = 64;

/// The most similar of `words`, if it is similar enough to have been meant.
pub(crate) fn nearest<'w>(word: &str, words: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    if word.len() > COMPARED_BYTES_MAX {
        return None;
    }
    let word = word.to_lowercase().replace('-', "_");
    words
        .map(|known| {
            let other = known.replace('-', "_");
            let likeness =
                normalized_damerau_levenshtein(&word, &other).max(jaro_winkler(&word, &other) - 0.15);
            (likeness, known)
        })
        .filter(|(likeness, _)| *likeness >= 0.6)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known)
}

/// Help for an unknown key of `table`.
pub(crate) fn meant(table: &str, key: &str, known: &[(&'static str, bool)]) -> Option<String> {
    // One key or several: that is a slip here, whatever other tables have.
    let number = |name: &&str| name.strip_suffix('s') == Some(key) || key.strip_suffix('s') == Some(*name);
    if let Some(name) = known.iter().map(|(name, _)| *name).find(number) {
        return Some(format!("did you mean `{name}`?"));
    }
    let elsewhere: Vec<String> = super::keys()
        .iter()
        .filter(|doc| doc.name() == key && doc.table() != table)
        .map(|doc| format!("`{}`", doc.path))
        .collect();
    if !elsewhere.is_empty() {
        return Some(format!("there is {}; is the key below the wrong header?", elsewhere.join(" and ")));
    }
    if let Some(near) = nearest(key, known.iter().map(|(name, _)| *name)) {
        return Some(format!("did you mean `{near}`?"));
    }
    let keys: Vec<String> =
        known.iter().filter(|(_, acts)| *acts).map(|(name, _)| format!("`{name}`")).collect();
    Some(format!("the keys here are {}", keys.join(", ")))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_other_number_of_a_key_is_meant_before_a_key_of_another_table() {
        let known = [("backends", true), ("vips", true)];
        for (typed, meant) in [("backend", "backends"), ("vip", "vips")] {
            let help = super::meant("services", typed, &known);
            assert_eq!(help.as_deref(), Some(format!("did you mean `{meant}`?").as_str()));
        }
    }
}
