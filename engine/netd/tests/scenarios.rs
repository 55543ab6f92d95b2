//! Runs `tests/scenarios/*.txt`: commands and expected text in one file, on a world in memory.
//!
//! A line that is not indented is a command, a comment (`#`) or blank; the indented lines below a command belong to
//! it. With `UPDATE_EXPECT=1` in the environment the expected text is written anew.
//!
//! | command | meaning |
//! |---|---|
//! | `config` and a text | the file has this content |
//! | `config repeat N` and a text | the same, with `{n}` in its last paragraph counted from 1 to N |
//! | `config missing`, `config unreadable` | there is no file; it cannot be read |
//! | `link NAME`, `no-link NAME` | a device appears, goes |
//! | `pass`, `pass allow`, `pass allow ID` | one pass that was asked for; with the plan that is held back allowed, or another |
//! | `pass by-itself` | one pass that nobody asked for: what has to wait waits |
//! | `later SECONDS` | time goes by |
//! | `fail KIND [KEY]`, `unread KIND`, `panic KIND`, `blind`, `heal` | what goes wrong from now on; nothing |
//! | `exchange KIND` | resources of the kind take each other's places |
//! | `foreign KIND KEY HOLDER`, `no-foreign KIND KEY` | somebody else holds a key; lets go of it |
//! | `drift KIND KEY [SPEC]` | somebody changes, makes or deletes what netd owns |
//! | `crash-after N` | a pass that dies before operation N + 1; then a restart |
//! | `restart`, `restart without-state` | a new process; with nothing remembered |
//! | `teardown` | everything owned goes |
//! | `expect plan\|status\|ops\|world\|history\|records` | compares |
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod world;

use netd::ledger::Ledger;
use netd::reconcile::Reconciler;
use netd::report::{Reason, Report};
use netd::source::Reading;
use netd_core::render::{self, Colour, Limits};
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;
use world::{ORDER, Shared, kind_named, text};

#[test]
fn scenarios_do_what_they_say() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut paths: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut wrong = Vec::new();
    for path in paths {
        let before = std::fs::read_to_string(&path).unwrap();
        let after = runtime.block_on(play(&before));
        if after == before {
            continue;
        }
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(&path, &after).unwrap();
        }
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        wrong.push(format!("{name}\n{}", difference(&before, &after)));
    }
    assert!(wrong.is_empty(), "expected (-) and found (+):\n{}", wrong.join("\n"));
}

fn difference(before: &str, after: &str) -> String {
    similar::TextDiff::from_lines(before, after).unified_diff().context_radius(3).to_string()
}

struct Player {
    world: Shared,
    reconciler: Option<Reconciler>,
    reading: Reading,
    report: Report,
}

/// Plays the script and returns it as it would have to be for every expectation to hold.
async fn play(script: &str) -> String {
    let world = Shared::default();
    world.lock().links.push("eth0".into());
    let reconciler = Some(world.reconciler(Ledger::in_memory()));
    let reading = Reading::Missing("/etc/netd/desired.toml does not exist".into());
    let mut player = Player { world, reconciler, reading, report: Report::default() };
    let mut out = String::new();
    let mut lines = script.lines().peekable();
    while let Some(line) = lines.next() {
        writeln!(out, "{line}").unwrap();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut block = Vec::new();
        while let Some(line) = lines.next_if(|line| line.starts_with("  ") || is_inner_blank(line)) {
            block.push(line);
        }
        // Blank lines at the end of a block separate it from the next command.
        let blanks = block.iter().rev().take_while(|line| line.is_empty()).count();
        block.truncate(block.len() - blanks);
        let words: Vec<&str> = line.split_whitespace().collect();
        let shown = match words.as_slice() {
            ["expect", what] => player.shown(what).await,
            words => {
                player.play(words, &unindented(&block)).await;
                unindented(&block)
            }
        };
        for line in shown.lines() {
            let _ = if line.is_empty() { writeln!(out) } else { writeln!(out, "  {line}") };
        }
        out.push_str(&"\n".repeat(blanks));
    }
    out
}

fn is_inner_blank(line: &str) -> bool {
    line.is_empty()
}

fn unindented(block: &[&str]) -> String {
    block.iter().map(|line| format!("{}\n", line.strip_prefix("  ").unwrap_or(line))).collect()
}

impl Player {
    async fn play(&mut self, words: &[&str], block: &str) {
        match words {
            ["config"] => self.reading = text(block),
            ["config", "repeat", count] => self.reading = text(&repeated(block, count.parse().unwrap())),
            ["config", "missing"] => self.reading = Reading::Missing("there is no file".into()),
            ["config", "unreadable"] => self.reading = Reading::Unreadable("permission denied".into()),
            ["pass"] => self.pass(None).await,
            ["pass", "by-itself"] => {
                let reconciler = self.reconciler.as_mut().unwrap();
                self.report = reconciler.pass(&self.reading, Reason::FactsChanged, None).await;
            }
            ["later", seconds] => {
                self.world.lock().now += Duration::from_secs_f64(seconds.parse().unwrap());
            }
            ["pass", "allow"] => {
                let id = self.report.held_back.as_ref().map(|held| held.plan.clone());
                self.pass(id.as_deref()).await;
            }
            ["pass", "allow", id] => self.pass(Some(id)).await,
            ["crash-after", count] => self.crash(count.parse().unwrap()).await,
            ["restart"] => self.restart(false),
            ["restart", "without-state"] => self.restart(true),
            ["teardown"] => self.report = self.reconciler.as_mut().unwrap().tear_down().await,
            words => self.change_world(words),
        }
    }

    fn change_world(&mut self, words: &[&str]) {
        let mut world = self.world.lock();
        match words {
            ["link", name] => world.links.push((*name).to_owned()),
            ["no-link", name] => world.links.retain(|link| link != name),
            ["fail", kind] => world.failing.push((kind_named(kind), String::new())),
            ["fail", kind, key] => world.failing.push((kind_named(kind), (*key).to_owned())),
            ["unread", kind] => world.unread.push(kind_named(kind)),
            ["panic", kind] => world.panicking.push(kind_named(kind)),
            ["exchange", kind] => world.exchanging.push(kind_named(kind)),
            ["blind"] => world.facts_fail = true,
            ["heal"] => {
                world.failing.clear();
                world.unread.clear();
                world.panicking.clear();
                world.facts_fail = false;
            }
            ["foreign", kind, key, holder] => {
                world.foreign.insert((kind_named(kind), (*key).to_owned()), (*holder).to_owned());
            }
            ["no-foreign", kind, key] => {
                world.foreign.remove(&(kind_named(kind), (*key).to_owned())).unwrap();
            }
            ["drift", kind, key] => {
                world.owned.remove(&(kind_named(kind), (*key).to_owned())).unwrap();
            }
            ["drift", kind, key, spec @ ..] => {
                world.owned.insert((kind_named(kind), (*key).to_owned()), spec.join(" "));
            }
            words => panic!("what is {words:?}?"),
        }
    }

    async fn pass(&mut self, allowed: Option<&str>) {
        let reconciler = self.reconciler.as_mut().unwrap();
        self.report = reconciler.pass(&self.reading, Reason::Asked, allowed).await;
    }

    async fn crash(&mut self, ops: usize) {
        self.world.lock().ops_left = Some(ops);
        let died = std::sync::Arc::clone(&self.world.lock().died);
        let reconciler = self.reconciler.as_mut().unwrap();
        tokio::select! {
            _ = reconciler.pass(&self.reading, Reason::Asked, None) => panic!("it ended before operation {ops}"),
            () = died.notified() => {}
        }
        self.world.lock().ops_left = None;
        self.restart(false);
    }

    fn restart(&mut self, without_state: bool) {
        let ledger = self.reconciler.take().unwrap().into_setup().ledger;
        let ledger = if without_state { Ledger::in_memory() } else { ledger };
        self.reconciler = Some(self.world.reconciler(ledger));
        self.report = Report::default();
    }

    async fn shown(&mut self, what: &str) -> String {
        match what {
            "plan" => match self.reconciler.as_mut().unwrap().preview(&self.reading).await {
                Ok(preview) => render::text(&preview.plan, &preview.brakes, Colour::Never, Limits::SCREEN),
                Err(why) => format!("no plan: {why}\n"),
            },
            "status" => status(&self.report),
            "ops" => lines(std::mem::take(&mut self.world.lock().ops)),
            "world" => {
                let world = self.world.lock();
                let of = |kind| world.owned.iter().filter(move |((of, _), _)| *of == kind);
                lines(
                    ORDER.into_iter().flat_map(of).map(|((kind, key), spec)| format!("{kind}/{key} {spec}")),
                )
            }
            "history" => {
                let history = self.reconciler.as_ref().unwrap().ledger().store().history();
                lines(history.into_iter().map(|entry| format!("{} {}", entry.number, entry.summary)))
            }
            "records" => {
                let records = self.reconciler.as_ref().unwrap().ledger().records();
                lines(records.into_iter().map(|(key, record)| {
                    format!("{}/{} generation {} {}", key.kind, key.key, record.generation, record.status)
                }))
            }
            what => panic!("what is {what}?"),
        }
    }
}

fn lines(lines: impl IntoIterator<Item = String>) -> String {
    let text: String = lines.into_iter().map(|line| format!("{line}\n")).collect();
    if text.is_empty() { "nothing\n".into() } else { text }
}

fn status(report: &Report) -> String {
    let mut out = format!("{}\n", report.word);
    if !report.config.message.is_empty() {
        let _ = writeln!(out, "file {}: {}", report.config.state.words(), report.config.message);
    }
    match &report.config.in_force {
        Some(now) => writeln!(out, "in force: {}", now.number).unwrap(),
        None => writeln!(out, "in force: nothing").unwrap(),
    }
    if let Some(held) = &report.held_back {
        for brake in &held.brakes {
            let _ = writeln!(out, "held back: {brake}");
        }
        let _ = writeln!(out, "allow by: {}", held.command);
    }
    for (kind, counts) in &report.kinds {
        if let Some(why) = &counts.unread {
            let _ = writeln!(out, "{kind} unread: {why}");
        }
    }
    for resource in &report.not_ready {
        let _ = writeln!(out, "{}/{} {}: {}", resource.kind, resource.key, resource.phase, resource.message);
    }
    if report.drift.resources > 0 {
        let _ = writeln!(out, "drift: {}, last {}", report.drift.resources, report.drift.last.join(" "));
    }
    if report.next_try_ms.is_some() {
        let _ = writeln!(out, "is tried again");
    }
    out
}

/// The text with its last paragraph repeated, `{n}` counted from 1.
fn repeated(block: &str, count: usize) -> String {
    let (head, last) = block.trim_end().rsplit_once("\n\n").unwrap();
    let repeats: String =
        (1..=count).map(|n| format!("\n{}\n", last.replace("{n}", &n.to_string()))).collect();
    format!("{head}\n{repeats}")
}
