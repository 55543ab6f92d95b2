//! The edits that the demo makes to its file, as a person with an editor would make them.

use anyhow::{Context as _, ensure};
use std::path::Path;

/// What the demo starts with.
pub(super) const FILE: &str = include_str!("../../../../examples-config/demo.toml");

/// A fourth backend, for both families.
pub(super) fn add_fourth_backend(text: &str) -> anyhow::Result<String> {
    let text = after(text, "  { address = \"10.1.0.3\" },\n", "  { address = \"10.1.0.4\" },\n")?;
    after(&text, "  { address = \"2001:db8:b::3\" },\n", "  { address = \"2001:db8:b::4\" },\n")
}

/// The second backend keeps the connections that it has, and gets no new ones.
pub(super) fn drain_second_backend(text: &str) -> anyhow::Result<String> {
    let text = instead(text, "\"10.1.0.2\" }", "\"10.1.0.2\", state = \"terminating\" }")?;
    instead(&text, "\"2001:db8:b::2\" }", "\"2001:db8:b::2\", state = \"terminating\" }")
}

/// A mistake: a key that does not exist.
pub(super) fn misspell_a_key(text: &str) -> anyhow::Result<String> {
    instead(text, "backends = [", "backend = [")
}

/// Puts a new file in the place of the old one at once, as editors do.
pub(super) fn save(path: &Path, text: &str) -> anyhow::Result<()> {
    let new = path.with_extension("toml.new");
    std::fs::write(&new, text).with_context(|| format!("write {}", new.display()))?;
    std::fs::rename(&new, path).with_context(|| format!("rename {}", new.display()))
}

fn after(text: &str, line: &str, new: &str) -> anyhow::Result<String> {
    instead(text, line, &format!("{line}{new}"))
}

fn instead(text: &str, old: &str, new: &str) -> anyhow::Result<String> {
    ensure!(text.matches(old).count() == 1, "the demo's file does not contain {old:?} exactly once");
    Ok(text.replacen(old, new, 1))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use netd_schema::{BackendState, Config};

    fn config(text: &str) -> Config {
        netd_schema::parse("demo.toml", text.as_bytes()).unwrap().config
    }

    #[test]
    fn the_added_backends_are_active() {
        let config = config(&add_fourth_backend(FILE).unwrap());
        let active = config.services[0].backends.iter().filter(|one| one.state == BackendState::Active);
        assert_eq!(active.count(), 8);
    }

    #[test]
    fn one_backend_drains_in_both_families() {
        let text = drain_second_backend(&add_fourth_backend(FILE).unwrap()).unwrap();
        let service = &config(&text).services[0];
        let draining = service.backends.iter().filter(|one| one.state == BackendState::Terminating);
        let addresses: Vec<String> = draining.map(|one| one.address.to_string()).collect();
        assert_eq!(addresses, ["10.1.0.2", "2001:db8:b::2"]);
    }

    #[test]
    fn the_misspelt_file_is_refused_with_the_key_that_was_meant() {
        let mistakes = netd_schema::parse("demo.toml", misspell_a_key(FILE).unwrap().as_bytes()).unwrap_err();
        assert!(mistakes.to_string().contains("backends"), "{mistakes}");
    }
}
