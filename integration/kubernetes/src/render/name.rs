//! What an object is called in the file, where names are shorter and have fewer letters.

use sha2::{Digest as _, Sha256};

/// As the schema has it.
const CHARACTERS_MAX: usize = 63;

/// Bytes of the hash behind a name that had to be changed: with 8 hexadecimal digits no two of the objects of a cluster
/// get the same by chance; where somebody makes it so, the older one has the name.
const HASH_BYTES: usize = 4;

/// The parts with dots between them; with a hash of them behind, where that is no name or would be too long.
pub(super) fn of(parts: &[&str]) -> String {
    let joined = parts.join(".");
    let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
    if !joined.is_empty() && joined.len() <= CHARACTERS_MAX && joined.chars().all(is_allowed) {
        return joined;
    }
    let digest = Sha256::digest(joined.as_bytes());
    let hash: String = digest.iter().take(HASH_BYTES).map(|byte| format!("{byte:02x}")).collect();
    let kept = CHARACTERS_MAX - hash.len() - 1;
    let readable = joined.chars().take(kept).map(|c| if is_allowed(c) { c } else { '-' });
    format!("{}-{hash}", readable.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn a_name_that_fits_stays() {
        assert_eq!(of(&["shop", "web"]), "shop.web");
    }

    #[test]
    fn long_names_that_begin_alike_stay_apart() {
        let (one, other) = ("x".repeat(100) + "1", "x".repeat(100) + "2");
        assert_ne!(of(&["shop", &one]), of(&["shop", &other]));
        assert_eq!(of(&["shop", &one]).len(), 63);
    }

    #[test]
    fn letters_that_no_name_has_are_replaced() {
        let name = of(&["shop", "w\"\n]eb é"]);
        assert!(name.starts_with("shop.w---eb---"), "{name}");
        assert!(name.is_ascii() && name.len() <= 63);
    }
}
