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
        "maglev",
        "backends",
        "drain",
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
    for page in
        ["netd.8", "netd-plan.8", "netd-run.8", "netd-drain.8", "netd-backends.8", "netd-history-show.8"]
    {
        let text = std::fs::read_to_string(dir.path().join(page)).unwrap();
        assert!(text.contains(".TH netd") && text.contains(" 8 "), "{page}: {text}");
    }
}

#[test]
fn the_manual_describes_every_option() {
    let (_, page) = stdout(netd().arg("man"));
    for described in ["maps and links are pinned", "lines of the log look", "What is logged", "has colours"] {
        assert!(page.contains(described), "{described}");
    }
}

#[test]
fn the_help_of_a_command_is_about_the_command() {
    let (_, help) = stdout(netd().args(["history", "show", "--help"]));
    assert!(help.contains("--config") && help.contains("netd --help"), "{help}");
    assert!(!help.contains("--bpf-dir") && !help.contains("--log-level"), "{help}");
    let (_, help) = stdout(netd().arg("--help"));
    assert!(help.contains("--bpf-dir") && help.contains("--log-level"), "{help}");
    // Hidden is not gone.
    let (code, _) = stdout(netd().args(["schema", "--bpf-dir", "/nowhere", "--color", "never"]));
    assert_eq!(code, Some(0));
}

#[test]
fn a_plan_towards_a_bad_file_speaks_json_too() {
    let dir = TempDir::new().unwrap();
    let (code, out) = stdout(netd().args(["plan", "--json"]).arg(file(&dir, "bad.toml", BAD)));
    assert_eq!(code, Some(1));
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(value.pointer("/diagnostics/0/line"), Some(&serde_json::json!(2)));
    assert_eq!(value.get("version"), Some(&serde_json::json!(1)));
}

#[test]
fn an_other_file_than_that_of_the_daemon_is_refused() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let daemon = Daemon::start("test-of-an-other-file", "/etc/netd/own.toml");
    for command in [&["plan"][..], &["apply"], &["rollback", "1", "--yes"], &["history", "diff", "1"]] {
        let other = ["--instance", "test-of-an-other-file", "--config", "other.toml"];
        let (code, error) = stderr(Command::cargo_bin("netd").unwrap().args(command).args(other));
        assert_eq!(code, Some(1), "{command:?}");
        for part in ["/etc/netd/own.toml", "other.toml", "netd plan other.toml"] {
            assert!(error.contains(part), "{command:?}: {error}");
        }
    }
    drop(daemon);
}

#[test]
fn what_does_not_depend_on_the_file_says_which_one_it_is_about() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let daemon = Daemon::start("test-of-the-file-told", "/etc/netd/own.toml");
    for command in [&["status"][..], &["teardown", "--yes"]] {
        let words = ["--instance", "test-of-the-file-told", "--config"];
        let (_, told) =
            stderr(Command::cargo_bin("netd").unwrap().args(command).args(words).arg("other.toml"));
        assert!(told.contains("/etc/netd/own.toml") && told.contains("other.toml"), "{command:?}: {told}");
        let own =
            Command::cargo_bin("netd").unwrap().args(command).args(words).arg("/etc/netd/own.toml").output();
        assert!(own.unwrap().stderr.is_empty(), "{command:?}");
    }
    drop(daemon);
}

#[test]
fn without_config_the_file_of_the_daemon_is_meant() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let link = dir.path().join("own.toml");
    std::os::unix::fs::symlink("elsewhere.toml", &link).unwrap();
    let daemon = Daemon::start("test-of-the-own-file", &link.display().to_string());
    let mut command = Command::cargo_bin("netd").unwrap();
    let (code, error) =
        stderr(command.args(["rollback", "1", "--yes", "--instance", "test-of-the-own-file"]));
    assert_eq!(code, Some(1));
    assert!(error.contains("own.toml is a symlink to elsewhere.toml"), "{error}");
    drop(daemon);
}

/// Answers every request with a report that names this file.
struct Daemon {
    dir: PathBuf,
}

impl Daemon {
    fn start(instance: &str, config: &str) -> Self {
        use std::io::{Read as _, Write as _};
        let dir = PathBuf::from("/run/netd").join(instance);
        std::fs::create_dir_all(&dir).unwrap();
        let report = netd::report::Report {
            config: netd::report::ConfigReport { path: config.into(), ..Default::default() },
            ..Default::default()
        };
        let body = serde_json::to_string(&report).unwrap();
        let _ = std::fs::remove_file(dir.join("netd.sock"));
        let listener = std::os::unix::net::UnixListener::bind(dir.join("netd.sock")).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 4096]).unwrap();
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
                stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
            }
        });
        Self { dir }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
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
    assert!(error.contains("CAP_NET_ADMIN, CAP_BPF and CAP_PERFMON"), "{error}");
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

#[test]
fn the_public_key_goes_into_a_file_that_everybody_may_read_and_replaces_a_link() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = TempDir::new().unwrap();
    let (state, output) = (dir.path().join("state"), dir.path().join("key.pub"));
    let of = |arguments: &[&str]| {
        let mut command = netd();
        command.arg("--config").arg(dir.path().join("none.toml")).arg("--state-dir").arg(&state);
        stdout(command.args(["wireguard", "pubkey"]).args(arguments))
    };
    let other = file(&dir, "other", "");
    std::os::unix::fs::symlink(&other, &output).unwrap();
    assert_eq!(of(&["--output", output.to_str().unwrap()]), (Some(0), String::new()));
    let written = std::fs::read_to_string(&output).unwrap();
    assert_eq!(of(&[]), (Some(0), written));
    assert_eq!(std::fs::read_to_string(&other).unwrap(), "");
    let mode = std::fs::symlink_metadata(&output).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
}
