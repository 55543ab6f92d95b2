//! The demo, as `make demo` runs it: it succeeds, is quick, and leaves nothing behind, also when it is stopped halfway.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What the demo promises.
const DEMO_TIME_MAX: Duration = Duration::from_secs(120);

#[test]
fn the_demo_holds_what_it_claims_and_leaves_nothing_behind() {
    let Some(demo) = start() else { return };
    let (pid, began) = (demo.id(), Instant::now());
    let output = demo.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{text}\n{errors}", output.status);
    assert!(began.elapsed() < DEMO_TIME_MAX, "{:?}", began.elapsed());
    assert!(!text.contains('\x1b'), "no colours where there is no terminal");
    assert_eq!(left_of(pid), Vec::<String>::new());
}

#[test]
fn a_demo_that_is_interrupted_under_traffic_leaves_nothing_behind() {
    let Some(mut demo) = start() else { return };
    wait_for(&mut demo, "HTTP through the VIPs");
    send("-INT", demo.id());
    let mut errors = String::new();
    demo.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert!(!demo.wait().unwrap().success());
    assert!(errors.contains("interrupted"), "{errors}");
    assert_eq!(left_of(demo.id()), Vec::<String>::new());
}

#[test]
fn what_a_killed_demo_leaves_is_removed_by_the_next_one() {
    let Some(mut killed) = start() else { return };
    wait_for(&mut killed, "HTTP through the VIPs");
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert!(!left_of(killed.id()).is_empty(), "a killed demo cannot clean up");
    let mut next = start().unwrap();
    wait_for(&mut next, "Seven network namespaces");
    assert_eq!(left_of(killed.id()), Vec::<String>::new());
    send("-TERM", next.id());
    assert!(!next.wait().unwrap().success());
    assert_eq!(left_of(next.id()), Vec::<String>::new());
}

fn start() -> Option<Child> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: the demo needs root");
        return None;
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_netd"));
    command.arg("demo").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Some(command.spawn().unwrap())
}

/// Reads what the demo says until it has said this; the rest of what it says is read and dropped.
fn wait_for(demo: &mut Child, text: &str) {
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    let found = lines.by_ref().any(|line| line.unwrap().contains(text));
    assert!(found, "the demo ended without {text:?}");
    std::thread::spawn(move || lines.for_each(drop));
}

fn send(signal: &str, pid: u32) {
    assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
}

/// What carries the name of a demo: namespaces, folders, mounts, processes.
fn left_of(pid: u32) -> Vec<String> {
    let names = [format!("netd-demo-{pid}"), format!("demo-{pid}")];
    let is_its = |text: &str| names.iter().any(|name| text.contains(name.as_str()));
    let folders = ["/run/netns", "/run/netd"].map(Path::new).into_iter();
    let mut left: Vec<String> = folders
        .chain([std::env::temp_dir().as_path()])
        .flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten().flatten())
        .map(|entry| entry.path().display().to_string())
        .filter(|path| is_its(path))
        .collect();
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    left.extend(mounts.lines().filter(|line| is_its(line)).map(str::to_owned));
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let command_lines = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    left.extend(
        command_lines
            .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
            .filter(|line| is_its(line)),
    );
    left
}
