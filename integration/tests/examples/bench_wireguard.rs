//! A network of 1,000 nodes with two pod prefixes each, encrypted: how long one of them takes from nothing to all peers,
//! routes and rules, for a change of one node, and for a look that finds nothing to do. Each is one `netd apply`, from its
//! start to its end.
//!
//! `cargo run --release -p netd-integration-tests --example bench_wireguard [NODES]`

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement prints, and stops when something fails"
)]

use netd_integration_tests::Lab;
use netd_integration_tests::mesh::{Mesh, Node};
use netd_wireguard::PublicKey;
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

const ROUNDS: usize = 3;

fn main() {
    let count: u16 = std::env::args().nth(1).map_or(1_000, |text| text.parse().unwrap());
    let Some(lab) = Lab::new() else { return };
    let mesh = Mesh::new(&lab);
    let [node, ..] = &mesh.nodes;
    node.machine.ip(&["addr", "add", "10.9.0.1/16", "dev", "eth0"]);
    let (mut bring_up, mut change, mut nothing) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bring_up.push(applied(node, &file(node, count, 0)));
        nothing.push(applied(node, &file(node, count, 0)));
        change.push(applied(node, &file(node, count, 1)));
        let said = node.site.netd(&["teardown", "--yes"]);
        assert_eq!(said.code, Some(0), "{said:?}");
    }
    println!("| nodes | from nothing | one node changes | nothing to do |");
    println!("| {count} | {:.0?} | {:.0?} | {:.0?} |", median(bring_up), median(change), median(nothing));
}

/// How long it takes until the node is as this says.
fn applied(node: &Node, file: &str) -> Duration {
    node.site.write(file);
    let began = Instant::now();
    node.site.apply();
    began.elapsed()
}

/// The file of all nodes; in the `edition` that is not 0, one has moved, and has another key.
fn file(node: &Node, count: u16, edition: u16) -> String {
    let interface = node.site.instance();
    let mut text = format!("version = 1\n[wireguard]\ninterface = \"{interface}\"\ndevice = \"auto\"\n");
    let own = node.site.node();
    let mut add = |name: &str, number: u16, edition: u16| {
        let [high, low] = number.to_be_bytes();
        let key = key(number, edition);
        let address = if edition == 0 { number } else { number + 20_000 };
        let [address_high, address_low] = address.to_be_bytes();
        let _ = write!(
            text,
            "[[nodes]]\nname = \"{name}\"\naddresses = [\"10.9.{address_high}.{address_low}\"]\n\
             pod_cidrs = [\"10.{}.{low}.0/24\", \"10.{}.{low}.0/24\"]\nwireguard = {{ public_key = \"{key}\" }}\n",
            100 + high,
            150 + high,
        );
    };
    add(own, 1, 0);
    (2..=count).for_each(|number| add(&format!("n{number}"), number, if number == 2 { edition } else { 0 }));
    // Its own key is its file's.
    let said = own_key(node, &text);
    text.replace(&key(1, 0), &said)
}

/// Somebody's public key.
fn key(number: u16, edition: u16) -> String {
    PublicKey::from_bytes(Sha256::digest([number.to_be_bytes(), edition.to_be_bytes()].concat()).into())
        .to_base64()
}

/// The public key of the node's own.
fn own_key(node: &Node, text: &str) -> String {
    node.site.write(text);
    let said = node.site.netd(&["wireguard", "pubkey"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    said.out.trim().to_owned()
}

fn median(mut found: Vec<Duration>) -> Duration {
    found.sort();
    found[found.len() / 2]
}
