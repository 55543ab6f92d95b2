//! `netd drain` without a daemon: what becomes of the file, and when nothing does.
#![allow(clippy::unwrap_used, reason = "tests")]

use assert_cmd::Command;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const FILE: &str = r#"version = 1   # keep me

[[services]]
name = "web"
vips = ["192.0.2.10"]
ports = [{ protocol = "tcp", port = 80, backend_port = 8080 }]
backends = [
  { address = "10.1.0.2" },   # rack 1
  { address = "10.1.0.3", weight = 50 },
]

[[services]]
name = "shop"
vips = ["192.0.2.11"]
ports = [{ protocol = "tcp", port = 80 }]
backend_set = "machines"

[[services]]
name = "blog"
vips = ["192.0.2.12"]
ports = [{ protocol = "tcp", port = 80 }]
backend_set = "machines"

[[backend_sets]]
name = "machines"
backends = [{ address = "10.1.0.4" }, { address = "10.1.0.5" }]
"#;

struct Desk {
    _dir: TempDir,
    file: PathBuf,
}

impl Desk {
    fn new(text: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("desired.toml");
        std::fs::write(&file, text).unwrap();
        Self { _dir: dir, file }
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.file).unwrap()
    }

    /// The exit code, standard output and standard error of `netd drain`.
    fn drain(&self, words: &[&str]) -> (Option<i32>, String, String) {
        drain(&self.file, words)
    }
}

fn drain(file: &Path, words: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::cargo_bin("netd").unwrap();
    command.env_clear().args(["--instance", "test-of-draining", "drain"]).args(words);
    let output = command.arg("--config").arg(file).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn one_line_of_the_file_changes_and_is_shown() {
    let desk = Desk::new(FILE);
    let (code, out, err) = desk.drain(&["web", "10.1.0.2"]);
    assert_eq!(code, Some(0), "{err}");
    let after = "{ address = \"10.1.0.2\", state = \"terminating\" },   # rack 1";
    assert_eq!(desk.text(), FILE.replace("{ address = \"10.1.0.2\" },   # rack 1", after));
    for part in
        ["-  { address = \"10.1.0.2\" },   # rack 1\n", &format!("+  {after}\n"), "No netd is running"]
    {
        assert!(out.contains(part), "{part} in\n{out}");
    }
    let (code, out, _) = desk.drain(&["web", "10.1.0.2:8080"]);
    assert_eq!((code, out.contains("drains already")), (Some(0), true), "{out}");
    let (code, _, err) = desk.drain(&["web", "10.1.0.2", "--undo"]);
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(desk.text(), FILE);
}

#[test]
fn a_dry_run_changes_nothing() {
    let desk = Desk::new(FILE);
    let (code, out, _) = desk.drain(&["web", "10.1.0.3", "--dry-run"]);
    assert_eq!(code, Some(0));
    assert!(out.contains("+  { address = \"10.1.0.3\", weight = 50, state = \"terminating\" },"), "{out}");
    assert_eq!(desk.text(), FILE);
}

#[test]
fn what_is_not_there_is_an_error_with_what_was_meant() {
    let desk = Desk::new(FILE);
    for (words, part) in [
        (["wbe", "10.1.0.2"], "did you mean `web`?"),
        (["web", "10.1.0.22"], "did you mean `10.1.0.2`?"),
        (["web", "10.1.0.2:80"], "at port 8080"),
        (["web", "rack-1"], "write 10.1.0.2"),
    ] {
        let (code, _, err) = desk.drain(&words);
        assert_eq!(code, Some(1), "{words:?}");
        assert!(err.contains(part), "{words:?}: {err}");
    }
    assert_eq!(desk.text(), FILE);
}

#[test]
fn a_backend_that_others_share_needs_a_yes() {
    let desk = Desk::new(FILE);
    let (code, _, err) = desk.drain(&["shop", "10.1.0.4"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("blog has too") && err.contains("--yes"), "{err}");
    assert_eq!(desk.text(), FILE);
    assert_eq!(desk.drain(&["shop", "10.1.0.4", "--yes"]).0, Some(0));
    assert_eq!(desk.text(), FILE.replace("10.1.0.4\" }", "10.1.0.4\", state = \"terminating\" }"));
}

#[test]
fn the_last_backend_needs_a_yes() {
    let desk = Desk::new(FILE);
    assert_eq!(desk.drain(&["web", "10.1.0.2"]).0, Some(0));
    let (code, _, err) = desk.drain(&["web", "10.1.0.3"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("will find no backend"), "{err}");
}

#[test]
fn a_file_that_is_a_symlink_is_left_to_whoever_manages_it() {
    let desk = Desk::new(FILE);
    let link = desk.file.with_file_name("link.toml");
    std::os::unix::fs::symlink("desired.toml", &link).unwrap();
    let (code, out, err) = drain(&link, &["web", "10.1.0.2"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("is a symlink to desired.toml: drain it where that file is kept"), "{err}");
    assert!(out.contains("+  { address"), "what to change there is shown: {out}");
    assert_eq!(desk.text(), FILE);
}

#[test]
fn a_file_with_mistakes_is_not_edited() {
    let desk = Desk::new(&FILE.replace("weight = 50", "wieght = 50"));
    let (code, _, err) = desk.drain(&["web", "10.1.0.2"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("correct them first") && err.contains("wieght"), "{err}");
}

#[test]
fn without_a_daemon_there_is_nothing_to_wait_for() {
    let desk = Desk::new(FILE);
    let (code, _, err) = desk.drain(&["web", "10.1.0.2", "--wait", "5s"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("no netd is running"), "{err}");
    assert_eq!(desk.text(), FILE);
}

#[test]
fn c23_many_that_edit_at_once_lose_nothing() {
    // Each tries until nobody was faster: what another wrote meanwhile is never written over.
    let backends: String = (1..=8).map(|last| format!("  {{ address = \"10.2.0.{last}\" }},\n")).collect();
    let text = format!(
        "version = 1\n[[services]]\nname = \"web\"\nvips = [\"192.0.2.10\"]\nports = [{{ protocol = \"tcp\", port = 80 }}]\nbackends = [\n{backends}  {{ address = \"10.2.0.99\" }},\n]\n"
    );
    let desk = Desk::new(&text);
    std::thread::scope(|scope| {
        for last in 1..=8 {
            let desk = &desk;
            scope.spawn(move || {
                let done = (0..200).any(|_| desk.drain(&["web", &format!("10.2.0.{last}")]).0 == Some(0));
                assert!(done, "10.2.0.{last}");
            });
        }
    });
    assert_eq!(desk.text().matches("terminating").count(), 8, "{}", desk.text());
}
