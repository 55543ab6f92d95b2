//! What this node's device says of itself and of the others: fingerprints, and never keys.

use crate::cli::{Global, say};
use crate::clock;
use crate::commands::duration::words;
use crate::commands::instance_of;
use crate::commands::node::check_rights;
use crate::commands::table;
use crate::kinds::strict;
use crate::metrics::by_reason;
use crate::wireguard::{Devices, Lane, Sort, names, said};
use anyhow::{anyhow, bail};
use netd_core::render::escape;
use netd_wireguard::{Device, Peer, PublicKey};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

pub(super) fn run(global: &Global, as_json: bool) -> anyhow::Result<ExitCode> {
    check_rights()?;
    let (_, config) = super::file(global)?;
    let Some(settings) = &config.wireguard else { bail!("the file has no `[wireguard]`") };
    let names = names(&config);
    let instance = instance_of(global);
    let mut devices = Devices::new(&instance.name.to_string(), instance.runtime_dir, instance.state_dir);
    let [interface, other] =
        [0, 1].map(|step| Lane::of(settings, settings.generation.wrapping_add(step)).interface);
    let found = devices.find(&interface);
    let (sort, device) = found.map_err(|error| anyhow!("{interface}: {}", said(&error)))?;
    let is_changing = config.nodes.iter().any(|node| node.wireguard.next_public_key.is_some());
    let beside = is_changing.then(|| devices.find(&other).ok()).flatten();
    let now = Duration::from_millis(clock::unix_ms());
    let dropped = strict::counted(&instance.bpf_dir).map_err(|why| anyhow!(why))?;
    let text = match as_json {
        true => {
            let mut value = as_value(&interface, sort, &device, &names, now);
            value["beside"] =
                beside.map(|(sort, device)| as_value(&other, sort, &device, &names, now)).into();
            value["strict_dropped"] = dropped.map(|counts| Value::from_iter(by_reason(&counts))).into();
            format!("{value:#}\n")
        }
        false => {
            let beside = beside.map(|(sort, device)| as_text(&other, sort, &device, &names, now));
            let beside = beside
                .map_or(String::new(), |text| format!("\nNothing is sent by the other device:\n{text}"));
            let dropped = dropped.map(|counts| {
                let told = strict::told(&counts).unwrap_or_else(|| "nothing was dropped".to_owned());
                format!("\nStrict mode: {told}.\n")
            });
            as_text(&interface, sort, &device, &names, now) + &beside + &dropped.unwrap_or_default()
        }
    };
    say(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// How many seconds ago the last handshake was; less than 0 where the clock was put back since.
fn age(peer: &Peer, now: Duration) -> Option<i64> {
    let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    peer.last_handshake.map(|at| seconds(now) - seconds(at))
}

fn age_in_words(peer: &Peer, now: Duration) -> String {
    let Some(seconds) = age(peer, now) else { return "never".to_owned() };
    let ago = words(Duration::from_secs(seconds.unsigned_abs()));
    if seconds < 0 { format!("in {ago}: the clock was put back") } else { format!("{ago} ago") }
}

fn as_value(
    interface: &str,
    sort: Sort,
    device: &Device,
    names: &BTreeMap<PublicKey, String>,
    now: Duration,
) -> Value {
    let peers: Vec<Value> = device
        .peers
        .iter()
        .map(|(key, peer)| {
            json!({
                "node": names.get(key),
                "fingerprint": key.fingerprint().to_string(),
                "endpoint": peer.endpoint.map(|endpoint| endpoint.to_string()),
                "handshake_age_seconds": age(peer, now),
                "received_bytes": peer.received,
                "sent_bytes": peer.sent,
                "allowed_ips": peer.allowed_ips.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "keepalive_seconds": (peer.keepalive > 0).then_some(peer.keepalive),
                "preshared_key": peer.preshared_key.is_some(),
            })
        })
        .collect();
    json!({
        "interface": interface,
        "device": sort.name(),
        "port": device.port,
        "mark": device.mark,
        "fingerprint": device.public_key.map(|key| key.fingerprint().to_string()),
        "peers": peers,
    })
}

fn as_text(
    interface: &str,
    sort: Sort,
    device: &Device,
    names: &BTreeMap<PublicKey, String>,
    now: Duration,
) -> String {
    let key = device.public_key.map_or("no key".to_owned(), |key| format!("key {}", key.fingerprint()));
    let head = format!(
        "{}: {} device, UDP port {}, mark {:#x}, {key}\n",
        escape(interface),
        sort.name(),
        device.port,
        device.mark
    );
    let rows: Vec<Vec<String>> = device
        .peers
        .iter()
        .map(|(key, peer)| {
            let name = names.get(key).map_or("not in the file".to_owned(), |name| escape(name).to_string());
            let allowed: Vec<String> = peer.allowed_ips.iter().map(ToString::to_string).collect();
            vec![
                name,
                key.fingerprint().to_string(),
                peer.endpoint.map_or("-".to_owned(), |endpoint| endpoint.to_string()),
                age_in_words(peer, now),
                peer.received.to_string(),
                peer.sent.to_string(),
                if allowed.is_empty() { "-".to_owned() } else { allowed.join(", ") },
            ]
        })
        .collect();
    if rows.is_empty() {
        return format!("{head}It has no peers.\n");
    }
    let columns = ["node", "key", "endpoint", "handshake", "received", "sent", "allowed"];
    format!("{head}\n{}", table::table(&columns, 4..6, rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w11_the_age_of_a_handshake_says_that_the_clock_was_put_back() {
        let at = |seconds| Duration::from_secs(seconds);
        let peer = Peer { last_handshake: Some(at(10_000)), ..Peer::default() };
        assert_eq!((age(&peer, at(10_012)), age_in_words(&peer, at(10_012)).as_str()), (Some(12), "12s ago"));
        assert_eq!(age(&peer, at(6_400)), Some(-3_600));
        assert_eq!(age_in_words(&peer, at(6_400)), "in 1h: the clock was put back");
        assert_eq!(age_in_words(&Peer::default(), at(1)), "never");
    }
}
