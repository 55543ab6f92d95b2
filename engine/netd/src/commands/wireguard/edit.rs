//! Writes a public key into the text of the file: only the bytes that have to change do.

use crate::commands::toml_text::{Edit, Written, applied, beside, name_of, parse, tables};
use anyhow::{Context as _, ensure};
use netd_wireguard::PublicKey;
use toml_edit::{Document, Item, Value};

/// Which key of a node is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The one that it has.
    Present,
    /// The one that it changes to.
    Next,
}

impl Place {
    fn name(self) -> &'static str {
        match self {
            Self::Present => "public_key",
            Self::Next => "next_public_key",
        }
    }
}

/// Has the node of this name have the key.
///
/// # Errors
///
/// When the file lists no such node, or the result would not mean that and nothing else: it is to be edited by hand then.
pub(super) fn edit(
    file: &str,
    text: &str,
    node: &str,
    place: Place,
    key: PublicKey,
) -> anyhow::Result<String> {
    let document = Document::parse(text).context("read the file")?;
    let nodes = tables(document.as_table().get("nodes"));
    let table = nodes.into_iter().find(|table| name_of(*table) == Some(node));
    let table = table.with_context(|| format!("the file has no `[[nodes]]` called {node:?}; see --node"))?;
    let change = change(text, table, place, key).context("the place of the key in the text is not known")?;
    let edited = applied(text, vec![change])?;
    let mut wanted = parse(file, text)?;
    for found in wanted.nodes.iter_mut().filter(|found| found.name == node) {
        let new = Some(netd_schema::PublicKey(*key.bytes()));
        match place {
            Place::Present => found.wireguard.public_key = new,
            Place::Next => found.wireguard.next_public_key = new,
        }
    }
    ensure!(
        parse(file, &edited)? == wanted,
        "the key cannot be written in this form of the file; edit it by hand"
    );
    Ok(edited)
}

fn change(text: &str, table: Written<'_>, place: Place, key: PublicKey) -> Option<Edit> {
    let assignment = format!("{} = \"{}\"", place.name(), key.to_base64());
    let wireguard = match table.as_like().get("wireguard") {
        None => {
            let end = table.as_like().get("name").and_then(Item::as_value)?.span()?.end;
            return beside(text, table, end, &format!("wireguard = {{ {assignment} }}"));
        }
        Some(Item::Value(Value::InlineTable(inline))) => Written::Inline(inline),
        Some(Item::Table(headed)) => Written::Headed(headed),
        Some(_) => return None,
    };
    if let Some(old) = wireguard.as_like().get(place.name()) {
        return Some((old.as_value()?.span()?, format!("\"{}\"", key.to_base64())));
    }
    let last = wireguard.as_like().iter().filter_map(|(_, item)| Some(item.as_value()?.span()?.end)).max()?;
    beside(text, wireguard, last, &assignment)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const KEY: PublicKey = PublicKey::from_bytes([7; 32]);

    fn changed(node: &str, place: Place) -> String {
        let old = PublicKey::from_bytes([9; 32]).to_base64();
        let before = format!(
            "version = 1\n\n# The first.\n[[nodes]]\nname = \"a\" # here\naddresses = [\"10.0.0.1\"]\n\n[[nodes]]\n\
             name = \"b\"\naddresses = [\"10.0.0.2\"]\nwireguard = {{ public_key = \"{old}\" }} # b's\n\n[[nodes]]\n\
             name = \"c\"\n[nodes.wireguard]\nendpoint = \"198.51.100.3:1\"\n"
        );
        let after = edit("desired.toml", &before, node, place, KEY).unwrap();
        assert_eq!(edit("desired.toml", &after, node, place, KEY).unwrap(), after, "twice is once");
        let lines = similar::TextDiff::from_lines(&before, &after);
        let is_new = |change: &similar::Change<&str>| change.tag() == similar::ChangeTag::Insert;
        let new: String = lines.iter_all_changes().filter(is_new).map(|change| change.to_string()).collect();
        new.replace(&KEY.to_base64(), "KEY").replace(&old, "OLD")
    }

    #[test]
    fn a_key_is_written_wherever_the_node_has_its_place_and_comments_stay() {
        let cases = [
            ("a", Place::Present, "wireguard = { public_key = \"KEY\" }\n"),
            ("b", Place::Present, "wireguard = { public_key = \"KEY\" } # b's\n"),
            ("b", Place::Next, "wireguard = { public_key = \"OLD\", next_public_key = \"KEY\" } # b's\n"),
            ("c", Place::Present, "public_key = \"KEY\"\n"),
        ];
        for (node, place, expected) in cases {
            assert_eq!(changed(node, place), expected, "{node}");
        }
    }

    #[test]
    fn a_node_that_the_file_does_not_list_gets_no_key() {
        let why = edit("desired.toml", "version = 1\n", "a", Place::Present, KEY).unwrap_err().to_string();
        assert_eq!(why, "the file has no `[[nodes]]` called \"a\"; see --node");
    }
}
