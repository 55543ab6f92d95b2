//! `netd allocate`: which service and egress policy has which address, and the same written into the file.

mod edit;

use super::replace::{Beside, refuse_link};
use super::{agree, instance_of, node, table};
use crate::allocation::{self, AddressReport, Held, PoolReport, ServiceReport, WaitingReport};
use crate::api::Client;
use crate::cli::{AllocateArgs, Global, say};
use crate::ledger::Ledger;
use crate::source::{self, Reading};
use anyhow::{Context as _, anyhow, bail, ensure};
use netd_core::render::escape;
use netd_schema::Config;
use netd_state::StateDir;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::process::ExitCode;

pub(super) async fn run(global: &Global, args: &AllocateArgs) -> anyhow::Result<ExitCode> {
    let given = global;
    let global = &agree::with_daemon(given).await?;
    let report = report(global).await?;
    if args.write {
        write(global, given, args, &report)?;
    } else if args.json {
        say(&format!("{:#}\n", serde_json::to_value(&report)?))?;
    } else {
        say(&text(&report))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks the daemon, or looks.
async fn report(global: &Global) -> anyhow::Result<AddressReport> {
    if let Some(bytes) = Client::new(&instance_of(global).socket()).get("/v1/addresses").await? {
        return serde_json::from_slice(&bytes).context("the daemon's answer cannot be read");
    }
    let mut reconciler = node::for_reading(global)?;
    reconciler.addresses(&source::read(&global.config)).await.map_err(|why| anyhow!(why))
}

/// The file with the addresses that its services and egress policies have on this node, as far as that is remembered.
pub(super) fn resolved(global: &Global, config: Config) -> Config {
    let dir = StateDir::open_existing(&instance_of(global).state_dir).ok().flatten();
    let ledger = Ledger::read_only(dir.as_ref());
    let held = ledger.last_good().and_then(|last_good| {
        let parsed = netd_schema::parse(&last_good.source, last_good.text.as_bytes()).ok()?;
        Some(allocation::in_force(&parsed.config, &last_good.addresses))
    });
    allocation::allocate(&config, &held.unwrap_or_default()).resolve(&config).into_owned()
}

fn write(global: &Global, given: &Global, args: &AllocateArgs, report: &AddressReport) -> anyhow::Result<()> {
    let now = match source::read(&global.config) {
        Reading::Text(text) => text,
        Reading::Missing(why) | Reading::Refused(why) | Reading::Unreadable(why) | Reading::Unstable(why) => {
            bail!("{why}")
        }
    };
    ensure!(
        now.sha256 == report.config_sha256,
        "{} was changed meanwhile; nothing was written: try again",
        global.config.display()
    );
    refuse_moves(report, given)?;
    let file = global.config.display().to_string();
    let text = std::str::from_utf8(&now.bytes).context("read the file")?;
    let edited = edit::edit(&file, text, &by_service(report))?;
    if edited == text {
        say("The file names every address already; it stays as it is.\n")?;
        return Ok(say(&waiting(report))?);
    }
    say(&similar::TextDiff::from_lines(text, edited.as_str())
        .unified_diff()
        .header(&file, &file)
        .to_string())?;
    if args.dry_run {
        return Ok(());
    }
    refuse_link(&global.config, "write the addresses")?;
    Beside::write(&global.config, &edited, "allocate")?.put_in_place_of(&global.config, &now.sha256)?;
    say("The addresses are written. Nothing changes on this node by that.\n")?;
    Ok(say(&waiting(report))?)
}

/// An address in the file is an explicit wish: writing one that moves would allow the move unseen.
fn refuse_moves(report: &AddressReport, global: &Global) -> anyhow::Result<()> {
    let given = report.services.iter().map(|one| (&one.service, &one.instead_of));
    let waiting = report.waiting.iter().map(|one| (&one.service, &one.instead_of));
    let moved: BTreeSet<&str> =
        given.chain(waiting).filter(|(_, from)| !from.is_empty()).map(|(name, _)| name.as_str()).collect();
    ensure!(
        moved.is_empty(),
        "{} cannot keep the address: look at `netd plan{}`, and allow it or mend the pools first",
        moved.into_iter().collect::<Vec<_>>().join(", "),
        global.as_given()
    );
    Ok(())
}

fn by_service(report: &AddressReport) -> BTreeMap<String, BTreeSet<IpAddr>> {
    let mut all = Held::new();
    for ServiceReport { service, address, .. } in &report.services {
        all.entry(service.clone()).or_default().insert(*address);
    }
    all
}

fn text(report: &AddressReport) -> String {
    if report.pools.is_empty() {
        return "The file has no `[[ip_pools]]`; `netd explain-config ip_pools` says what they are.\n"
            .to_owned();
    }
    let rows = report.pools.iter().flat_map(pool).collect();
    let mut text = table::table(&["pool", "family", "total", "used", "free", "given to"], 2..5, rows);
    if !report.services.is_empty() {
        let rows = report.services.iter().map(service).collect();
        text.push('\n');
        text.push_str(&table::table(&["given to", "address", "pool", "", ""], [], rows));
    }
    text.push_str(&waiting(report));
    text
}

fn pool(pool: &PoolReport) -> Vec<Vec<String>> {
    let given = match (pool.drain, pool.auto_assign) {
        (true, _) => "nobody new: it is being drained".to_owned(),
        (false, false) => "who names it".to_owned(),
        (false, true) => format!("all, priority {}", pool.priority),
    };
    let row = |(family, in_use): (&str, Option<allocation::PoolUse>)| {
        let in_use = in_use?;
        let count =
            |count: u64| if count == u64::MAX { "2^64 or more".to_owned() } else { count.to_string() };
        let counts = [in_use.total, in_use.used, in_use.free].map(count);
        Some([vec![escape(&pool.name), family.to_owned()], counts.to_vec(), vec![given.clone()]].concat())
    };
    [("ipv4", pool.ipv4), ("ipv6", pool.ipv6)].into_iter().filter_map(row).collect()
}

fn service(service: &ServiceReport) -> Vec<String> {
    let ServiceReport { service, address, pool, origin, instead_of, file_alone } = service;
    let listed = |all: &[IpAddr]| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let remark = match (instead_of.is_empty(), file_alone) {
        (false, _) => format!("RENUMBER: it has {} now", listed(instead_of)),
        (true, Some(others)) if others.is_empty() => "the file alone would give it none".to_owned(),
        (true, Some(others)) => format!("the file alone would give it {}", listed(others)),
        (true, None) => String::new(),
    };
    vec![escape(service), address.to_string(), escape(pool), origin.word().to_owned(), remark]
}

/// Who has no address, a line each.
fn waiting(report: &AddressReport) -> String {
    let mut text = String::new();
    for WaitingReport { service, family, reason, instead_of: _ } in &report.waiting {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "{} has no {family} address: {}", escape(service), escape(reason));
    }
    match text.is_empty() {
        true => text,
        false => format!("\n{text}"),
    }
}
