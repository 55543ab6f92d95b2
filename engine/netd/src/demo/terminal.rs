//! How the demo is told: headings, what commands printed, and claims with whether they hold.

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};

use crate::clock::Stopwatch;

/// Tells the story on standard output. A reader who has gone does not stop the demo.
pub(super) struct Story {
    colours: bool,
    chapters: u32,
    held: u32,
    failed: u32,
    clock: Stopwatch,
}

impl Story {
    pub(super) fn begin() -> Self {
        let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { colours, chapters: 0, held: 0, failed: 0, clock: Stopwatch::start() }
    }

    /// Whether the reader's terminal has colours.
    pub(super) fn colours(&self) -> bool {
        self.colours
    }

    pub(super) fn chapter(&mut self, title: &str) {
        self.chapters += 1;
        let heading = format!("{}. {title}", self.chapters);
        self.line(&format!("\n{}", self.paint("1", &heading)));
    }

    pub(super) fn say(&self, text: &str) {
        self.line(text);
    }

    /// What a command printed, set off.
    pub(super) fn quote(&self, text: &str) {
        for line in text.trim_matches('\n').lines() {
            self.line(format!("  {} {line}", self.paint("2", "|")).trim_end());
        }
    }

    /// A command that is run now.
    pub(super) fn command(&self, text: &str) {
        self.line(&format!("  {}", self.paint("2", &format!("$ {text}"))));
    }

    /// Something that has to hold; if it does not, the demo goes on, and fails at its end.
    pub(super) fn claim<E: Display>(&mut self, text: &str, holds: Result<(), E>) {
        match holds {
            Ok(()) => {
                self.held += 1;
                self.line(&format!("  {} {text}", self.paint("32", "ok    ")));
            }
            Err(reason) => {
                self.failed += 1;
                self.line(&format!("  {} {text}: {reason}", self.paint("31", "FAILED")));
            }
        }
    }

    /// The last words. Whether every claim held.
    pub(super) fn end(&self) -> anyhow::Result<()> {
        let (all, seconds) = (self.held + self.failed, self.clock.total().as_secs());
        self.line(&format!("\n{} of {all} claims held, in {seconds} seconds.", self.held));
        anyhow::ensure!(self.failed == 0, "{} of {all} claims did not hold", self.failed);
        Ok(())
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn line(&self, text: &str) {
        let _ = writeln!(std::io::stdout(), "{text}");
    }
}

/// Turns a condition into something to claim.
pub(super) fn check(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}
