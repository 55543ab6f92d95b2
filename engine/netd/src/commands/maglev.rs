//! `netd maglev`: which share of the flows each backend of a service gets, and what would move without it.

use super::{agree, allocate, node, table, traffic};
use crate::allocation;
use crate::api::Client;
use crate::balancer::Balancer;
use crate::cli::{Global, MaglevArgs, say};
use crate::commands::instance_of;
use crate::kinds::service::maglev::percent;
use crate::kinds::service::tables::{self, FrontendTable, REMOVALS_MAX};
use crate::report::FormatVersion;
use crate::source::{self, Reading};
use anyhow::{Context as _, anyhow, bail};
use base64::Engine as _;
use netd_core::render::escape;
use netd_schema::{Algorithm, Config, HashNames};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::ExitCode;

pub(super) async fn run(global: &Global, args: &MaglevArgs) -> anyhow::Result<ExitCode> {
    let shown = match args.offline {
        true => {
            let config = read(&global.config, global.color.is_on()).map_err(|why| anyhow!(why))?;
            Shown {
                in_force: None,
                asked_for: Ok(asked_for(&allocation::from_the_file_alone(&config), &args.service)?),
            }
        }
        false => online(&agree::with_daemon(global).await?, &args.service).await?,
    };
    let frontends = shown.frontends(args)?;
    if args.json {
        let frontends: Vec<Value> = frontends.iter().map(Frontend::json).collect();
        let all =
            json!({ "version": FormatVersion::default(), "service": args.service, "frontends": frontends });
        say(&format!("{all:#}\n"))?;
    } else {
        let texts: Vec<String> = frontends.iter().map(Frontend::text).collect();
        say(&texts.join("\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The tables of a service.
struct Shown {
    /// What the maps hold; `None` if they were not to be asked.
    in_force: Option<BTreeMap<String, FrontendTable>>,
    /// What the file asks for, or why that is not known.
    asked_for: Result<BTreeMap<String, FrontendTable>, String>,
}

async fn online(global: &Global, service: &str) -> anyhow::Result<Shown> {
    let in_force = held(global, service).await?;
    let config = read(&global.config, false).map(|config| allocate::resolved(global, config));
    let asked_for = match config {
        // The service may be in force although the file does not have it any more.
        Ok(config) if !in_force.is_empty() && named(&config, service).is_none() => Ok(BTreeMap::new()),
        Ok(config) => Ok(asked_for(&config, service)?),
        Err(why) if in_force.is_empty() => bail!(why),
        Err(why) => Err(why),
    };
    Ok(Shown { in_force: Some(in_force), asked_for })
}

/// Asks the daemon, which may see pins that this process does not; without one, looks.
async fn held(global: &Global, service: &str) -> anyhow::Result<BTreeMap<String, FrontendTable>> {
    // Nothing else is the name of a service.
    let is_name = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-');
    if service.is_empty() || !service.chars().all(is_name) {
        return Ok(BTreeMap::new());
    }
    let client = Client::new(&instance_of(global).socket());
    if let Some(bytes) = client.get(&format!("/v1/maglev/{service}")).await? {
        return serde_json::from_slice(&bytes).context("the daemon's answer cannot be read");
    }
    node::check_rights()
        .map_err(|error| error.context("`--offline` computes the table from the file alone"))?;
    in_force(&instance_of(global).bpf_dir, service).map_err(|why| anyhow!(why))
}

/// The tables of the maps that are pinned below this folder; none without any.
pub(crate) fn in_force(bpf_dir: &Path, service: &str) -> Result<BTreeMap<String, FrontendTable>, String> {
    Balancer::new(bpf_dir.to_owned())
        .with_maps(|maps| match maps {
            Some(maps) => tables::in_force(maps, service),
            None => Ok(BTreeMap::new()),
        })
        .and_then(|tables| tables)
}

fn named<'c>(config: &'c Config, service: &str) -> Option<&'c netd_schema::Service> {
    config.services.iter().find(|known| known.name == service)
}

pub(super) fn read(file: &Path, has_colour: bool) -> Result<Config, String> {
    match source::read(file) {
        Reading::Text(text) => netd_schema::parse(&file.display().to_string(), &text.bytes)
            .map(|parsed| parsed.config)
            .map_err(|mistakes| mistakes.render(has_colour)),
        Reading::Missing(why) | Reading::Refused(why) | Reading::Unreadable(why) | Reading::Unstable(why) => {
            Err(why)
        }
    }
}

fn asked_for(config: &Config, service: &str) -> anyhow::Result<BTreeMap<String, FrontendTable>> {
    let Some(known) = named(config, service) else {
        let known = config.services.iter().map(|service| service.name.as_str());
        bail!("there is no service `{}`{}", escape(service), traffic::hint(service, known));
    };
    if known.algorithm == Algorithm::Random {
        bail!("service {service} has no Maglev table: its backends are picked at random");
    }
    tables::asked_for(config, service).map_err(|why| anyhow!(why))
}

/// One frontend as it is shown.
struct Frontend<'s> {
    key: &'s str,
    /// The table that is shown: of the maps if they hold one, else of the file.
    table: &'s FrontendTable,
    is_in_force: bool,
    differences: Vec<String>,
}

static NO_TABLES: BTreeMap<String, FrontendTable> = BTreeMap::new();

impl Shown {
    fn frontends(&self, args: &MaglevArgs) -> anyhow::Result<Vec<Frontend<'_>>> {
        let asked_for = self.asked_for.as_ref().unwrap_or(&NO_TABLES);
        let in_force = self.in_force.as_ref().unwrap_or(&NO_TABLES);
        let keys: BTreeSet<&String> = asked_for.keys().chain(in_force.keys()).collect();
        let only = args
            .frontend
            .as_deref()
            .map(|wanted| named_frontend(&keys, &args.service, wanted))
            .transpose()?;
        let mut frontends = Vec::new();
        for key in keys {
            if only.as_ref().is_some_and(|only| only != key) {
                continue;
            }
            let (held, asked) = (in_force.get(key), asked_for.get(key));
            let Some(table) = held.or(asked) else { continue };
            let differences = match &self.asked_for {
                _ if self.in_force.is_none() => Vec::new(),
                Ok(_) => differences(held, asked),
                Err(why) => vec![format!("the file cannot be compared: {why}")],
            };
            frontends.push(Frontend { key, table, is_in_force: held.is_some(), differences });
        }
        Ok(frontends)
    }
}

/// The frontend that is meant: `192.0.2.10:80/tcp`, or without its protocol where there is only one.
fn named_frontend(keys: &BTreeSet<&String>, service: &str, wanted: &str) -> anyhow::Result<String> {
    let is_meant =
        |key: &str| key == wanted || key.rsplit_once('/').is_some_and(|(place, _)| place == wanted);
    let meant: Vec<&str> = keys.iter().map(|key| key.as_str()).filter(|key| is_meant(key)).collect();
    match meant.as_slice() {
        [one] => Ok((*one).to_owned()),
        [] => bail!(
            "{service} has no frontend {}{}",
            escape(wanted),
            traffic::hint(wanted, keys.iter().map(|key| key.as_str()))
        ),
        several => bail!(
            "{} is a frontend of {service} with several protocols: {}",
            escape(wanted),
            several.join(", ")
        ),
    }
}

/// Where what is in force is not what the file asks for, a clause each.
fn differences(held: Option<&FrontendTable>, asked: Option<&FrontendTable>) -> Vec<String> {
    let (held, asked) = match (held, asked) {
        (Some(held), Some(asked)) => (held, asked),
        (Some(_), None) => return vec!["the file does not ask for it".into()],
        (None, Some(_)) => return vec!["it is not in force".into()],
        (None, None) => return Vec::new(),
    };
    let mut found = Vec::new();
    if !held.intact {
        found.push("the slots are not those that were written".to_owned());
    }
    if held.slots.len() != asked.slots.len() {
        found.push(format!("the file asks for {} slots", asked.slots.len()));
    }
    if held.seed != asked.seed {
        found.push(format!("the file asks for the seed {}", base64(asked)));
    }
    let weights = |table: &FrontendTable| -> BTreeMap<_, u16> {
        table.sockets.iter().copied().zip(table.members.iter().map(|member| member.weight)).collect()
    };
    let (before, after) = (weights(held), weights(asked));
    for (backend, weight) in &after {
        match before.get(backend) {
            None => found.push(format!("the file asks for {backend} too")),
            Some(held) if held != weight => {
                found.push(format!("the file asks for weight {weight} of {backend}"));
            }
            Some(_) => {}
        }
    }
    for backend in before.keys().filter(|backend| !after.contains_key(backend)) {
        found.push(format!("the file does not ask for {backend}"));
    }
    let moved = held.moved(asked);
    if moved > 0.0 {
        found.push(format!("by the file's table {} of flows would go elsewhere", percent(moved)));
    }
    found
}

fn base64(table: &FrontendTable) -> String {
    base64::engine::general_purpose::STANDARD.encode(table.seed.0)
}

/// The word of the file.
fn form(names: HashNames) -> &'static str {
    match names {
        HashNames::Cilium => "cilium",
        HashNames::Cilium110 => "cilium-1.10",
    }
}

impl Frontend<'_> {
    fn json(&self) -> Value {
        let table = self.table;
        let without = table.disturbed_without();
        let slots = table.slots.len().max(1) as f64;
        let backend = |(number, count): (usize, u32)| {
            json!({
                "number": number + 1,
                "name": table.members[number].name,
                "address": table.sockets[number].ip(),
                "port": table.sockets[number].port(),
                "weight": table.members[number].weight,
                "slots": count,
                "percent": 100.0 * f64::from(count) / slots,
                "others_moved_without_percent": without.as_ref().map(|shares| 100.0 * shares[number]),
            })
        };
        json!({
            "frontend": self.key,
            "source": if self.is_in_force { "maps" } else { "file" },
            "table_size": table.slots.len(),
            "hash_seed": base64(table),
            "hash_names": form(table.names),
            "sha256": table.digest(),
            "backends": table.slot_counts().into_iter().enumerate().map(backend).collect::<Vec<_>>(),
            "differences": self.differences,
        })
    }

    fn text(&self) -> String {
        let table = self.table;
        let source = if self.is_in_force { "in force" } else { "of the file" };
        let mut text = format!(
            "{} {source}: {} slots, seed {}, names {}\nsha256 {}\n",
            self.key,
            table.slots.len(),
            base64(table),
            form(table.names),
            table.digest()
        );
        let without = table.disturbed_without();
        let slots = table.slots.len().max(1) as f64;
        let row = |(number, count): (usize, u32)| {
            vec![
                table.sockets[number].to_string(),
                table.members[number].weight.to_string(),
                count.to_string(),
                percent(f64::from(count) / slots),
                without.as_ref().map_or_else(|| "?".to_owned(), |shares| percent(shares[number])),
            ]
        };
        let head = ["backend", "weight", "slots", "share", "others moved without it"];
        let rows: Vec<_> = table.slot_counts().into_iter().enumerate().map(row).collect();
        match rows.is_empty() {
            true => text.push_str("No backend is given flows.\n"),
            false => text.push_str(&table::table(&head, 1..5, rows)),
        }
        if without.is_none() {
            text.push_str(&format!("What moves without a backend is computed for {REMOVALS_MAX} at most.\n"));
        }
        for difference in &self.differences {
            text.push_str(&format!("! {difference}\n"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_frontend_is_named_without_its_protocol_where_it_has_one() {
        let all = ["192.0.2.10:80/tcp", "192.0.2.10:53/tcp", "192.0.2.10:53/udp", "[2001:db8::1]:80/tcp"];
        let all = all.map(str::to_owned);
        let keys: BTreeSet<&String> = all.iter().collect();
        let named = |wanted| named_frontend(&keys, "web", wanted).map_err(|error| error.to_string());
        assert_eq!(named("192.0.2.10:80").unwrap(), "192.0.2.10:80/tcp");
        assert_eq!(named("[2001:db8::1]:80").unwrap(), "[2001:db8::1]:80/tcp");
        assert_eq!(named("192.0.2.10:53/udp").unwrap(), "192.0.2.10:53/udp");
        let why = named("192.0.2.10:53").unwrap_err();
        assert!(why.ends_with("several protocols: 192.0.2.10:53/tcp, 192.0.2.10:53/udp"), "{why}");
        let why = named("192.0.2.10:81/tcp").unwrap_err();
        assert!(why.starts_with("web has no frontend 192.0.2.10:81/tcp; "), "{why}");
        assert!(why.contains("192.0.2.10:80/tcp"), "{why}");
    }
}
