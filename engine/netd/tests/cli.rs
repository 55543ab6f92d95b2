//! The command line from outside: help, exit codes, and what works without rights and without a daemon.
#![allow(clippy::unwrap_used, reason = "tests")]

use assert_cmd::Command;
use std::path::PathBuf;
use tempfile::TempDir;

const GOOD: &str = r#"version = 1

[[services]]
name = "web"
vips = ["192.0.2.10"]
ports = [{ protocol = "tcp", port = 80 }]
backends = [{ address = "10.1.0.2" }]
"#;

const BAD: &str = r#"version = 1
servics = []
vips = 7
"#;

fn netd() -> Command {
    let mut command = Command::cargo_bin("netd").unwrap();
    command.env_clear().args(["--instance", "test-of-the-command-line"]);
    command
}

fn file(dir: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn stdout(command: &mut Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

fn stderr(command: &mut Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn every_command_explains_itself_with_an_example() {
    for command in [
        "run",
        "plan",
        "apply",
        "validate",
        "schema",
        "explain-config",
        "status",
        "history",
        "rollback",
        "teardown",
        "services",
        "completions",
        "man",
    ] {
        let (code, help) = stdout(netd().args([command, "--help"]));
        assert_eq!(code, Some(0), "{command}");
        assert!(help.contains(&format!("netd {command}")), "{command}: {help}");
    }
}

#[test]
fn a_good_file_is_valid() {
    let dir = TempDir::new().unwrap();
    let (code, out) = stdout(netd().arg("validate").arg(file(&dir, "good.toml", GOOD)));
    assert_eq!(code, Some(0));
    assert!(out.ends_with("good.toml: ok\n"), "{out}");
}

#[test]
fn every_mistake_of_every_file_is_shown() {
    let dir = TempDir::new().unwrap();
    let (good, bad, missing) =
        (file(&dir, "good.toml", GOOD), file(&dir, "bad.toml", BAD), dir.path().join("none.toml"));
    let (code, out) = stdout(netd().arg("validate").args([good, bad, missing]));
    assert_eq!(code, Some(1));
    for part in ["good.toml: ok", "bad.toml:2:1", "services", "bad.toml:3:1", "none.toml does not exist"] {
        assert!(out.contains(part), "{part} in\n{out}");
    }
}

#[test]
fn validate_speaks_json() {
    let dir = TempDir::new().unwrap();
    let (code, out) = stdout(netd().args(["validate", "--json"]).arg(file(&dir, "bad.toml", BAD)));
    assert_eq!(code, Some(1));
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(value.pointer("/0/valid"), Some(&serde_json::Value::Bool(false)));
    assert_eq!(value.pointer("/0/diagnostics/0/line"), Some(&serde_json::json!(2)));
}

#[test]
fn the_schema_is_json() {
    let (code, out) = stdout(netd().arg("schema"));
    assert_eq!(code, Some(0));
    assert!(serde_json::from_str::<serde_json::Value>(&out).unwrap().is_object());
}

#[test]
fn a_key_is_explained_and_an_unknown_one_is_an_error() {
    let (code, out) = stdout(netd().args(["explain-config", "services.backends.weight"]));
    assert_eq!(code, Some(0), "{out}");
    let (code, error) = stderr(netd().args(["explain-config", "servics"]));
    assert_eq!(code, Some(1));
    assert!(error.starts_with("error: "), "{error}");
}

#[test]
fn completions_and_manual_pages_are_made() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, out) = stdout(netd().args(["completions", shell]));
        assert!(code == Some(0) && out.contains("netd"), "{shell}");
    }
    let dir = TempDir::new().unwrap();
    assert_eq!(stdout(netd().args(["man", "--dir"]).arg(dir.path())).0, Some(0));
    for page in ["netd.1", "netd-plan.1", "netd-run.1"] {
        assert!(dir.path().join(page).exists(), "{page}");
    }
}

#[test]
fn an_instance_name_that_leads_elsewhere_is_refused() {
    let output = Command::cargo_bin("netd").unwrap().args(["--instance", "../x", "status"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("a-z, 0-9 and -"));
}

#[test]
fn without_rights_the_sentence_names_the_capabilities() {
    let dir = TempDir::new().unwrap();
    let path = file(&dir, "good.toml", GOOD);
    // Drops every capability where the test runs as root; as another user there is none to drop.
    let is_root = rustix::process::geteuid().is_root();
    let netd = assert_cmd::cargo::cargo_bin("netd");
    let mut command = match is_root {
        true => {
            let mut command = Command::new("setpriv");
            command.args(["--bounding-set=-all", "--inh-caps=-all"]).arg(netd);
            command
        }
        false => Command::new(netd),
    };
    let (code, error) = stderr(command.args(["--instance", "test-of-the-command-line", "plan"]).arg(path));
    assert_eq!(code, Some(1));
    assert!(error.contains("CAP_NET_ADMIN and CAP_BPF"), "{error}");
}

#[test]
fn a_plan_towards_a_bad_file_is_an_error_with_its_mistakes() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let (code, error) = stderr(netd().arg("plan").arg(file(&dir, "bad.toml", BAD)));
    assert_eq!(code, Some(1));
    assert!(error.contains("bad.toml:2:1"), "{error}");
}
