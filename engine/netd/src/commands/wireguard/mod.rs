//! `netd wireguard`: this node's public key, also written into the file, and what its device says of the others.

mod edit;
mod show;

use super::replace::{Beside, refuse_link};
use super::{agree, instance_of, node::node_name};
use crate::cli::{Global, PubkeyArgs, WireguardArgs, WireguardCommand, say};
use crate::source::{self, Reading};
use crate::wireguard::{KEY_FILE, next_file, own_key};
use anyhow::{Context as _, anyhow, bail, ensure};
use netd_schema::Config;
use netd_state::StateDir;
use netd_wireguard::{KeyFileError, PublicKey, create, read};
use std::path::PathBuf;
use std::process::ExitCode;

pub(super) async fn run(global: &Global, args: &WireguardArgs) -> anyhow::Result<ExitCode> {
    let global = &agree::with_daemon(global).await?;
    match &args.command {
        WireguardCommand::Show { json } => show::run(global, *json),
        WireguardCommand::Pubkey(args) => pubkey(global, args),
    }
}

/// The file as it is read now, and what it means.
fn file(global: &Global) -> anyhow::Result<(source::SourceText, Config)> {
    let now = match source::read(&global.config) {
        Reading::Text(text) => text,
        Reading::Missing(why) | Reading::Refused(why) | Reading::Unreadable(why) | Reading::Unstable(why) => {
            bail!("{why}")
        }
    };
    let name = global.config.display().to_string();
    match netd_schema::parse(&name, &now.bytes) {
        Ok(parsed) => Ok((now, parsed.config)),
        Err(mistakes) => bail!("{}", mistakes.render(false)),
    }
}

fn pubkey(global: &Global, args: &PubkeyArgs) -> anyhow::Result<ExitCode> {
    let file = file(global);
    let named = file.as_ref().ok().and_then(|(_, config)| config.wireguard.as_ref()?.key_file.clone());
    let key_file = match named {
        Some(path) => path,
        None => {
            let state_dir = instance_of(global).state_dir;
            // As the daemon makes it: nobody else looks in there.
            StateDir::open(&state_dir)?;
            state_dir.join(KEY_FILE)
        }
    };
    let key = if args.next { next_key(key_file)? } else { present_key(key_file)? };
    if !args.write {
        say(&format!("{}\n", key.to_base64()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let (now, _) = file?;
    let name = global.config.display().to_string();
    let text = std::str::from_utf8(&now.bytes).context("read the file")?;
    let place = if args.next { edit::Place::Next } else { edit::Place::Present };
    let edited = edit::edit(&name, text, &node_name(global), place, key)?;
    if edited == text {
        say("The file has this key already; it stays as it is.\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    say(&similar::TextDiff::from_lines(text, edited.as_str())
        .unified_diff()
        .header(&name, &name)
        .to_string())?;
    if args.dry_run {
        return Ok(ExitCode::SUCCESS);
    }
    refuse_link(&global.config, "write the key")?;
    Beside::write(&global.config, &edited, "wireguard")?.put_in_place_of(&global.config, &now.sha256)?;
    say("The public key is written. Give the file to the other nodes, too.\n")?;
    Ok(ExitCode::SUCCESS)
}

fn present_key(path: PathBuf) -> anyhow::Result<PublicKey> {
    let (key, _) = own_key(&path, None).map_err(|why| anyhow!(why))?;
    Ok(key.public())
}

fn next_key(path: PathBuf) -> anyhow::Result<PublicKey> {
    let next = next_file(&path);
    let key = match read(&next) {
        Err(KeyFileError::Missing { .. }) => create(&next)?,
        other => other?,
    };
    ensure!(read(&path)?.public() != key.public(), "{} holds the present key", next.display());
    Ok(key.public())
}
