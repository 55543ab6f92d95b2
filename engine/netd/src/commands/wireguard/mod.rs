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
    let listed =
        file.as_ref().ok().and_then(|(_, config)| config.node(&node_name(global))?.wireguard.public_key);
    let listed = listed.map(|key| PublicKey::from_bytes(key.0));
    let key = if args.next { next_key(key_file, listed)? } else { present_key(key_file, listed)? };
    if !args.write {
        let text = format!("{}\n", key.to_base64());
        match &args.output {
            Some(path) => Beside::write(path, &text, "wireguard")?.put_in_place(path)?,
            None => say(&text)?,
        }
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

/// The key that the file lists, if its private one is here: of two that of the second file, once they were swapped.
fn present_key(path: PathBuf, listed: Option<PublicKey>) -> anyhow::Result<PublicKey> {
    let is_next = listed.is_some() && own_key(&path, listed).is_ok_and(|(_, is_next)| is_next);
    if let Some(listed) = listed.filter(|_| is_next) {
        return Ok(listed);
    }
    let (key, _) = own_key(&path, None).map_err(|why| anyhow!(why))?;
    Ok(key.public())
}

fn next_key(path: PathBuf, listed: Option<PublicKey>) -> anyhow::Result<PublicKey> {
    let next = next_file(&path);
    let key = match read(&next) {
        Err(KeyFileError::Missing { .. }) => create(&next)?,
        other => other?,
    };
    let present = read(&path)?.public();
    ensure!(present != key.public(), "{} holds the present key", next.display());
    ensure!(
        listed != Some(key.public()),
        "the file lists the next key as the present one: remove `next_public_key` and let netd take it, before there is \
         another"
    );
    Ok(key.public())
}
