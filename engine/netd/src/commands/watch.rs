//! Looks at the counters once, or again and again, and has them drawn: anew on a terminal, as further lines elsewhere.

use super::rates::{Rates, rates};
use super::traffic::{self, FileOrder};
use crate::cli::{Global, WatchArgs, say};
use crate::clock;
use crate::kinds::service::ServiceTraffic;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// A service as it is drawn.
pub(super) struct Shown {
    pub(super) traffic: ServiceTraffic,
    /// Absent at the first look, and without --watch.
    pub(super) rates: Option<Rates>,
}

/// How what was seen is written.
pub(super) struct Pictures {
    /// For a person.
    pub(super) table: fn(&[Shown], &[String]) -> String,
    /// Lines for whoever reads on: without a terminal.
    pub(super) lines: fn(&Shown) -> Vec<String>,
    /// For programs.
    pub(super) json: fn(&[Shown]) -> Value,
}

/// Homes the cursor and clears what is below it.
const CLEAR: &str = "\u{1b}[H\u{1b}[J";

/// Draws the services of these names.
///
/// # Errors
///
/// A name that no service has, and counters that cannot be read.
pub(super) async fn run(
    global: &Global,
    args: &WatchArgs,
    names: &[String],
    pictures: &Pictures,
) -> anyhow::Result<ExitCode> {
    let order = FileOrder::of(global).await;
    let first = traffic::chosen(traffic::look(global).await?, names, &order)?;
    let mut look = Look { at: clock::now(), services: first };
    order.sort(&mut look.services);
    let Some(seconds) = args.watch else {
        let shown = look.shown(None);
        match args.json {
            true => say(&format!("{:#}\n", (pictures.json)(&shown)))?,
            false => say(&(pictures.table)(&shown, names))?,
        }
        return Ok(ExitCode::SUCCESS);
    };
    let pace = Duration::from_secs(seconds.into());
    draw(args, names, pictures, pace, &look.shown(None))?;
    loop {
        tokio::time::sleep(pace).await;
        let mut services = traffic::only(traffic::look(global).await?, names);
        order.sort(&mut services);
        let next = Look { at: clock::now(), services };
        draw(args, names, pictures, pace, &next.shown(Some(&look)))?;
        look = next;
    }
}

/// The counters at one moment.
struct Look {
    at: Instant,
    services: Vec<ServiceTraffic>,
}

impl Look {
    fn shown(&self, before: Option<&Self>) -> Vec<Shown> {
        let earlier: BTreeMap<&str, &ServiceTraffic> = before
            .iter()
            .flat_map(|look| &look.services)
            .map(|service| (service.service.as_str(), service))
            .collect();
        let elapsed = before.map(|before| self.at.saturating_duration_since(before.at));
        let shown = |now: &ServiceTraffic| Shown {
            rates: elapsed.map(|elapsed| rates(earlier.get(now.service.as_str()).copied(), now, elapsed)),
            traffic: now.clone(),
        };
        self.services.iter().map(shown).collect()
    }
}

fn draw(
    args: &WatchArgs,
    names: &[String],
    pictures: &Pictures,
    pace: Duration,
    shown: &[Shown],
) -> std::io::Result<()> {
    if args.json {
        let value = json!({ "at_unix_ms": clock::unix_ms(), "services": (pictures.json)(shown) });
        return say(&format!("{value}\n"));
    }
    let now = clock::shown(clock::unix_ms());
    if !std::io::stdout().is_terminal() {
        let lines = shown.iter().flat_map(pictures.lines);
        return say(&lines.fold(String::new(), |mut text, line| {
            // Writing into a String cannot fail.
            let _ = writeln!(text, "{now} {line}");
            text
        }));
    }
    let table = (pictures.table)(shown, names);
    let text = format!("{now}, every {} s; Ctrl-C ends\n\n{table}", pace.as_secs());
    say(&format!("{CLEAR}{}", fitted(&text, console::Term::stdout().size())))
}

/// What of a text fits a screen of these rows and columns: a table that scrolls cannot be drawn over.
fn fitted(text: &str, (rows, columns): (u16, u16)) -> String {
    // The cursor stands in the last row.
    let room = usize::from(rows).saturating_sub(1);
    let count = text.lines().count();
    let cut = |line: &str| format!("{}\n", line.chars().take(columns.into()).collect::<String>());
    if count <= room {
        return text.lines().map(cut).collect();
    }
    let kept = room.saturating_sub(1);
    let lines: String = text.lines().take(kept).map(cut).collect();
    format!("{lines}{}", cut(&format!("and {} lines more", count - kept)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_is_filled_and_not_scrolled() {
        assert_eq!(fitted("a\nb\nc\n", (4, 80)), "a\nb\nc\n");
        assert_eq!(fitted("a\nb\nc\nd\n", (4, 80)), "a\nb\nand 2 lines more\n");
        assert_eq!(fitted("abc\n", (4, 2)), "ab\n");
        assert_eq!(fitted("a\nb\n", (0, 80)), "and 2 lines more\n");
    }
}
