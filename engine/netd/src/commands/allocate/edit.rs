//! Writes addresses into the text of the file: only the bytes that have to change do.

use crate::allocation::{EGRESS_PREFIX, Held};
use crate::commands::toml_text::{Edit, Written, applied, beside, name_of, parse, tables};
use anyhow::{Context as _, ensure};
use std::collections::BTreeSet;
use std::net::IpAddr;
use toml_edit::{Document, Item, Value};

/// Lists of tables that may have addresses from pools: the name of the list, the key that names addresses, and what is before
/// the name of one among those who have addresses.
const LISTS: [(&str, &str, &str); 2] = [("services", "vips", ""), ("egress", "ips", EGRESS_PREFIX)];

/// Has the `vips` of these services, and the `ips` of these policies, name all of their addresses.
///
/// # Errors
///
/// When the result would not mean that, and nothing else: the file is to be edited by hand then.
pub(super) fn edit(file: &str, text: &str, addresses: &Held) -> anyhow::Result<String> {
    let document = Document::parse(text).context("read the file")?;
    let mut edits = Vec::new();
    for (list, key, prefix) in LISTS {
        for table in tables(document.as_table().get(list)) {
            let own = name_of(table).and_then(|name| addresses.get(&format!("{prefix}{name}")));
            let Some(own) = own else { continue };
            let edit = name_all(text, (table, key), own);
            edits.extend(
                edit.with_context(|| format!("the place of one of `{list}` in the text is not known"))?,
            );
        }
    }
    let edited = applied(text, edits)?;
    let mut wanted = parse(file, text)?;
    for service in &mut wanted.services {
        if let Some(own) = addresses.get(&service.name) {
            service.vips = own.iter().copied().collect();
        }
    }
    for policy in &mut wanted.egress {
        if let Some(own) = addresses.get(&format!("{EGRESS_PREFIX}{}", policy.name)) {
            policy.ips = own.iter().copied().collect();
        }
    }
    ensure!(
        parse(file, &edited)? == wanted,
        "the addresses cannot be written in this form of the file; edit it by hand"
    );
    Ok(edited)
}

/// The change that names them: nothing, if all are named; `None` if the place is not known.
fn name_all(text: &str, (table, key): (Written<'_>, &str), own: &BTreeSet<IpAddr>) -> Option<Option<Edit>> {
    let Some(list) = table.as_like().get(key) else {
        return beside_the_pool(text, (table, key), own).map(Some);
    };
    let Some(Value::Array(list)) = list.as_value() else { return None };
    let named: BTreeSet<IpAddr> =
        list.iter().filter_map(|one| one.as_str()?.parse::<IpAddr>().ok()).collect();
    let missing: Vec<IpAddr> = own.difference(&named).copied().collect();
    let last = list.iter().last()?.span()?.end;
    Some((!missing.is_empty()).then(|| (last..last, format!(", {}", quoted(missing)))))
}

/// A new key behind `pool`.
fn beside_the_pool(text: &str, (table, key): (Written<'_>, &str), own: &BTreeSet<IpAddr>) -> Option<Edit> {
    let end = table.as_like().get("pool").and_then(Item::as_value)?.span()?.end;
    beside(text, table, end, &format!("{key} = [{}]", quoted(own.iter().copied().collect())))
}

fn quoted(addresses: Vec<IpAddr>) -> String {
    addresses.iter().map(|address| format!("\"{address}\"")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const BEFORE: &str = "version = 1
ip_pools = [{ name = \"public\", ranges = [\"192.0.2.0/24\", \"2001:db8:100::/64\"] }]

# First.
[[services]]
name = \"web\"
  pool = \"public\" # any of it
ports = [{ protocol = \"tcp\", port = 80 }]

[[services]]
pool = \"public\"
name = \"mail\"
vips = [
  \"192.0.2.25\", # known to everybody
]
ports = [{ protocol = \"tcp\", port = 25 }]
[[services]]
name = \"static\"
vips = [\"198.51.100.1\"]
ports = [{ protocol = \"tcp\", port = 80 }]
";

    fn addresses() -> Held {
        let of = |name: &str, all: [&str; 2]| (name.to_owned(), all.map(|one| one.parse().unwrap()).into());
        [of("web", ["192.0.2.7", "2001:db8:100::7"]), of("mail", ["192.0.2.25", "2001:db8:100::25"])].into()
    }

    fn changed(before: &str) -> Vec<String> {
        let after = edit("desired.toml", before, &addresses()).unwrap();
        assert_eq!(edit("desired.toml", &after, &addresses()).unwrap(), after, "twice is once");
        let lines = similar::TextDiff::from_lines(before, &after);
        let is_new = |change: &similar::Change<&str>| change.tag() != similar::ChangeTag::Equal;
        lines.iter_all_changes().filter(is_new).map(|change| change.to_string()).collect()
    }

    #[test]
    fn addresses_are_named_and_comments_order_and_form_stay() {
        let expected = [
            "+  vips = [\"192.0.2.7\", \"2001:db8:100::7\"]\n",
            "-  \"192.0.2.25\", # known to everybody\n",
            "+  \"192.0.2.25\", \"2001:db8:100::25\", # known to everybody\n",
        ];
        let signs = |line: &String| line.trim_start_matches(['+', '-', ' ']).to_owned();
        let unsigned: Vec<String> = expected.iter().map(|line| signs(&(*line).to_owned())).collect();
        assert_eq!(changed(BEFORE).iter().map(signs).collect::<Vec<_>>(), unsigned);
    }

    #[test]
    fn egress_policies_name_theirs_and_a_service_of_the_same_name_is_another() {
        let policy = "\n[[egress]]\nname = \"web\"\nsources = [\"10.244.0.0/16\", \"fd00::/32\"]\n\
                      pool = \"public\"\ngateways = []\n";
        let before = format!("{BEFORE}{policy}");
        let own = ["192.0.2.9", "2001:db8:100::9"].map(|one| one.parse().unwrap()).into();
        let after = edit("desired.toml", &before, &Held::from([("egress/web".to_owned(), own)])).unwrap();
        let named = "pool = \"public\"\nips = [\"192.0.2.9\", \"2001:db8:100::9\"]\ngateways";
        assert_eq!(after, before.replace("pool = \"public\"\ngateways", named));
    }

    #[test]
    fn services_between_braces_and_other_line_ends_are_edited_too() {
        let inline = "version = 1
ip_pools = [{ name = \"public\", ranges = [\"192.0.2.0/24\", \"2001:db8:100::/64\"] }]
services = [{ name = \"web\", pool = \"public\", ports = [{ protocol = \"tcp\", port = 80 }] }]
";
        assert!(changed(inline)[1].contains("pool = \"public\", vips = [\"192.0.2.7\", "));
        let crlf = BEFORE.replace('\n', "\r\n");
        let after = edit("desired.toml", &crlf, &addresses()).unwrap();
        assert!(
            after.contains("any of it\r\n  vips = [\"192.0.2.7\", \"2001:db8:100::7\"]\r\nports"),
            "{after}"
        );
    }
}
