//! The JSON Schema and the reference page in the repository are those that the program generates.

#![allow(clippy::expect_used, clippy::panic, reason = "a test that cannot read its files fails")]

use std::path::{Path, PathBuf};

#[test]
fn the_json_schema_in_the_repository_is_up_to_date() {
    up_to_date("schema/desired.schema.json", &netd_schema::json_schema());
}

#[test]
fn the_reference_page_in_the_repository_is_up_to_date() {
    up_to_date("docs/configuration.md", &netd_schema::reference_markdown());
}

/// Compares a generated file; with `NETD_BLESS=1` in the environment it is written instead.
fn up_to_date(path: &str, generated: &str) {
    let file = repository().join(path);
    if std::env::var_os("NETD_BLESS").is_some() {
        std::fs::create_dir_all(file.parent().expect("it is below the repository")).expect("can be made");
        std::fs::write(&file, generated).expect("can be written");
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        kept == generated,
        "{path} is not what the program generates; write it again with `make schema`, or with \
         `NETD_BLESS=1 cargo test -p netd-schema --test generated`"
    );
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in the repository").to_owned()
}
