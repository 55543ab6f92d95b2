//! The edits of files in every form that they are written in.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

const HEAD: &str = "version = 1 # the first\n\n";

/// A service `web` whose backends are written like this.
fn file(backends: &str) -> String {
    format!(
        "{HEAD}[[services]]\nname = \"web\"   # our site\nvips = [\"192.0.2.10\"]\nports = [{{ protocol = \"tcp\", port = 80 }}]\n{backends}"
    )
}

fn entries(addresses: &[&str]) -> BTreeSet<Entry> {
    addresses.iter().map(|address| (address.parse().unwrap(), None)).collect()
}

fn edited(before: &str, addresses: &[&str], wish: Wish) -> Edited {
    edit("desired.toml", before, "web", &entries(addresses), wish).unwrap()
}

/// Drains 10.1.0.2 and takes it back: the first is `after`, the second what there was.
#[track_caller]
fn there_and_back(before: &str, after: &str) {
    let (before, after) = (file(before), file(after));
    assert_eq!(edited(&before, &["10.1.0.2"], Wish::Drain).text, after);
    assert_eq!(edited(&after, &["10.1.0.2"], Wish::Undo).text, before);
}

#[test]
fn inline_tables_keep_their_form() {
    there_and_back(
        "backends = [ # all\n  { address = \"10.1.0.2\" }, # rack 1\n  {address=\"10.1.0.3\"},\n]\n",
        "backends = [ # all\n  { address = \"10.1.0.2\", state = \"terminating\" }, # rack 1\n  {address=\"10.1.0.3\"},\n]\n",
    );
    there_and_back(
        "backends = [{address=\"10.1.0.2\"}, { weight = 7, address = '10.1.0.3' }]",
        "backends = [{address=\"10.1.0.2\", state = \"terminating\"}, { weight = 7, address = '10.1.0.3' }]",
    );
}

#[test]
fn tables_under_headers_keep_their_form() {
    there_and_back(
        "\n  [[services.backends]]\n  address = \"10.1.0.2\" # rack 1\n  # not yet\n\n  [[services.backends]]\n  address = \"10.1.0.3\"\n",
        "\n  [[services.backends]]\n  address = \"10.1.0.2\" # rack 1\n  state = \"terminating\"\n  # not yet\n\n  [[services.backends]]\n  address = \"10.1.0.3\"\n",
    );
}

#[test]
fn a_file_without_a_last_newline_stays_so() {
    let before = file("[[services.backends]]\naddress = \"10.1.0.2\"");
    let after = edited(&before, &["10.1.0.2"], Wish::Drain).text;
    assert_eq!(after, format!("{before}\nstate = \"terminating\""));
}

#[test]
fn line_ends_of_windows_stay() {
    let before = file("[[services.backends]]\naddress = \"10.1.0.2\"\nweight = 5\n").replace('\n', "\r\n");
    let after = edited(&before, &["10.1.0.2"], Wish::Drain).text;
    assert_eq!(after, before.replace("weight = 5\r\n", "weight = 5\r\nstate = \"terminating\"\r\n"));
    assert_eq!(edited(&after, &["10.1.0.2"], Wish::Undo).text, before);
}

#[test]
fn a_state_that_is_written_is_replaced() {
    let before = file("backends = [{ state = 'active', address = \"10.1.0.2\" }]\n");
    let after = edited(&before, &["10.1.0.2"], Wish::Drain).text;
    assert_eq!(after, before.replace("'active'", "\"terminating\""));
    let back = edited(&after, &["10.1.0.2"], Wish::Undo).text;
    assert_eq!(back, file("backends = [{ address = \"10.1.0.2\" }]\n"));
}

#[test]
fn a_comment_at_the_state_stays() {
    let before =
        file("[[services.backends]]\naddress = \"10.1.0.2\"\nstate = \"terminating\" # since Monday\n");
    let after = edited(&before, &["10.1.0.2"], Wish::Undo).text;
    assert_eq!(after, before.replace("terminating", "active"));
}

#[test]
fn several_backends_are_changed_at_once() {
    let before = file("backends = [{ address = \"10.1.0.2\" }, { address = \"10.1.0.3\" }]\n");
    let after = edited(&before, &["10.1.0.2", "10.1.0.3"], Wish::Drain).text;
    let draining = |last| format!("{{ address = \"10.1.0.{last}\", state = \"terminating\" }}");
    assert_eq!(after, file(&format!("backends = [{}, {}]\n", draining(2), draining(3))));
}

#[test]
fn a_backend_of_a_set_is_changed_for_every_service_of_the_set() {
    let service = |name: &str, vip: &str| {
        format!(
            "[[services]]\nname = \"{name}\"\nvips = [\"{vip}\"]\nports = [{{ protocol = \"tcp\", port = 80 }}]\nbackend_set = \"machines\"\n"
        )
    };
    let set = "[[backend_sets]]\nname = \"machines\"\nbackends = [{ address = \"10.1.0.2\" }]\n";
    let before = format!("{HEAD}{}{}{set}", service("web", "192.0.2.10"), service("shop", "192.0.2.11"));
    let after = edited(&before, &["10.1.0.2"], Wish::Drain);
    assert_eq!(after.text, before.replace("10.1.0.2\" }", "10.1.0.2\", state = \"terminating\" }"));
    assert_eq!(after.shared_with, ["shop"]);
}

#[test]
fn only_the_service_that_was_named_is_changed() {
    let other = "[[services]]\nname = \"shop\"\nvips = [\"192.0.2.11\"]\nports = [{ protocol = \"tcp\", port = 80 }]\nbackends = [{ address = \"10.1.0.2\" }]\n";
    let before = format!("{}{other}", file("backends = [{ address = \"10.1.0.2\" }]\n"));
    let after = edited(&before, &["10.1.0.2"], Wish::Drain);
    assert!(after.text.ends_with(other), "{}", after.text);
    assert!(after.shared_with.is_empty());
}

#[test]
fn services_in_one_array_are_found_too() {
    let before = "version = 1\nservices = [{ name = \"web\", vips = [\"192.0.2.10\"], ports = [{ protocol = \"tcp\", port = 80 }], backends = [{ address = \"10.1.0.2\" }] }]\n";
    let after = edited(before, &["10.1.0.2"], Wish::Drain).text;
    assert_eq!(after, before.replace("10.1.0.2\" }", "10.1.0.2\", state = \"terminating\" }"));
}
