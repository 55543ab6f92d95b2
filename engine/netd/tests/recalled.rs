//! The file that another version of netd accepted: it stays in force, whatever this version thinks of it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod world;

use netd::ledger::{Acceptance, Ledger};
use netd::report::{FileState, Reason, Word};
use netd_state::Digest;
use world::{SERVICE, Shared, text};

/// Refused by what came later: a VIP of a family of which no backend is.
const OUTDATED: &str = r#"version = 1

[[services]]
name = "web"
vips = ["192.0.2.10", "2001:db8::10"]
ports = [{ protocol = "tcp", port = 80 }]
backends = [{ address = "10.1.0.2" }]
"#;

fn remembering(accepted: &str) -> Ledger {
    let mut ledger = Ledger::in_memory();
    ledger.accept(Acceptance {
        text: accepted,
        sha256: Digest::of(accepted),
        source: "/etc/netd/desired.toml",
        summary: "",
        is_unjudged: false,
        addresses: &netd::allocation::Held::new(),
    });
    ledger
}

#[tokio::test]
async fn p20_a_file_that_a_newer_rule_refuses_stays_in_force() {
    assert!(netd_schema::parse("file", OUTDATED.as_bytes()).is_err());
    let world = Shared::default();
    let mut reconciler = world.reconciler(remembering(OUTDATED));
    let report = reconciler.pass(&text(OUTDATED), Reason::Startup, None).await;
    assert_eq!(report.kinds[SERVICE].ready, 2, "{report:?}");
    assert_eq!((report.word, report.config.state), (Word::ConfigInvalid, FileState::Invalid));
    let said = report.config.warnings.join("\n");
    assert!(said.contains("number 1 of the history stays in force") && said.contains("line 5"), "{said}");
    assert!(report.config.diagnostics.contains("2001:db8::10"), "{}", report.config.diagnostics);

    // What somebody removes is there again.
    world.lock().owned.clear();
    let again = reconciler.pass(&text(OUTDATED), Reason::Resync, None).await;
    assert_eq!((again.pass.applied, again.kinds[SERVICE].ready), (2, 2));

    let mended = OUTDATED.replace(", \"2001:db8::10\"", "");
    let report = reconciler.pass(&text(&mended), Reason::ConfigChanged, None).await;
    assert_eq!((report.word, report.kinds[SERVICE].desired), (Word::Ok, 1));
    assert!(report.config.warnings.is_empty(), "{:?}", report.config.warnings);
}

#[tokio::test]
async fn p21_a_last_good_file_that_means_nothing_to_this_version_leaves_everything_as_it_is() {
    let newer = OUTDATED.replace("name = \"web\"", "name = \"web\"\nquality = \"of a later version\"");
    let world = Shared::default();
    world.lock().owned.insert((SERVICE, "192.0.2.99:80/tcp".into()), "10.1.0.9".into());
    let mut reconciler = world.reconciler(remembering(&newer));
    let report = reconciler.pass(&text(&newer), Reason::Startup, None).await;
    assert_eq!((report.word, report.pass.applied), (Word::ConfigInvalid, 0));
    let said = report.config.warnings.join("\n");
    assert!(said.contains("number 1 of the history, means nothing to this version"), "{said}");
    assert!(world.lock().ops.is_empty());
}

/// An accepted file whose name means nothing was damaged: its services would be thought to have no backends.
#[tokio::test]
async fn p21_a_last_good_file_with_a_name_that_nothing_has_leaves_everything_as_it_is() {
    let damaged = OUTDATED.replace("backends = [{ address = \"10.1.0.2\" }]", "backend_set = \"gone\"");
    let world = Shared::default();
    world.lock().owned.insert((SERVICE, "192.0.2.10:80/tcp".into()), "10.1.0.2".into());
    let mut reconciler = world.reconciler(remembering(&damaged));
    let report = reconciler.pass(&text(&damaged), Reason::Startup, None).await;
    assert_eq!((report.word, report.pass.applied), (Word::ConfigInvalid, 0));
    let said = report.config.warnings.join("\n");
    assert!(said.contains("means nothing to this version: line 7") && said.contains("gone"), "{said}");
    assert!(world.lock().ops.is_empty());
}
