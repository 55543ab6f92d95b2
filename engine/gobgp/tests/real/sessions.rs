//! Sessions with FRR and BIRD: up, refused, changed, left alone.

use crate::routes::{second_router, speaking};
use crate::site::{Site, ip};
use crate::{ASN, OTHER_ASN, PATIENCE, peer, wait_until};
use netd_gobgp::{Client, Event, Password, PeerConfig, Restarting, SessionState, Ttl, UpdateEffect};
use netd_lab::{Bird, Frr};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::process::Command;
use tokio::time::timeout;
use zeroize::Zeroizing;

fn password(text: &str) -> Option<Password> {
    Password::new(Zeroizing::new(text.into()))
}

async fn state(client: &Client, address: IpAddr) -> SessionState {
    client.peers().await.unwrap()[&address].state
}

async fn established(client: &Client, address: IpAddr) {
    wait_until("established", async || state(client, address).await == SessionState::Established).await;
}

/// A router in this AS that opens sessions from both of its addresses.
fn both_ways(site: &Site, asn: u32, more: &str) -> Frr {
    let neighbour = |address: &str| {
        format!(
            "neighbor {address} remote-as {ASN}\nneighbor {address} timers 3 9\nneighbor {address} timers connect 1\n"
        )
    };
    let neighbours = format!("{}{}{more}", neighbour(Site::LEFT_V4), neighbour(Site::LEFT_V6));
    let activate = format!("neighbor {} activate\nneighbor {} activate", Site::LEFT_V4, Site::LEFT_V6);
    Frr::start(&site.right, &site.file("frr"), asn, &neighbours, &activate)
}

async fn both_families_come_up(asn: u32) {
    let Some(site) = Site::new() else { return };
    let (_daemon, client) = site.daemon().await;
    let mut watch = client.watch().await.unwrap();
    for address in [Site::RIGHT_V4, Site::RIGHT_V6] {
        client.add_peer(&peer(ip(address), asn), ASN, Restarting::No).await.unwrap();
    }
    let frr = both_ways(&site, asn, "");
    let mut told = BTreeSet::new();
    while told.len() < 2 {
        let Event::Session { peer, state } = timeout(PATIENCE, watch.next()).await.unwrap().unwrap();
        if state == SessionState::Established {
            told.insert(peer);
        }
    }
    assert!(frr.is_established(Site::LEFT_V4) && frr.is_established(Site::LEFT_V6));
    let peers = client.peers().await.unwrap();
    let seen = &peers[&ip(Site::RIGHT_V4)];
    assert_eq!(seen.config, peer(ip(Site::RIGHT_V4), asn));
    assert!(seen.is_ours && seen.is_admitted && seen.since.is_some() && seen.hindrance().is_none());
    assert_eq!(seen.router_id, Some([10, 9, 0, 2].into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_with_another_as_come_up_over_both_families() {
    both_families_come_up(OTHER_ASN).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_within_the_as_come_up_over_both_families() {
    both_families_come_up(ASN).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_with_bird_comes_up_with_ttl_security_a_source_and_a_password() {
    let Some(site) = Site::new() else { return };
    site.left.ip(&["addr", "add", "10.9.0.7/24", "dev", "eth0"]);
    let (_daemon, client) = site.daemon().await;
    let wanted = PeerConfig {
        ttl: Ttl::Security,
        source: Some(ip("10.9.0.7")),
        password: password("s3cret"),
        ..peer(ip(Site::RIGHT_V4), OTHER_ASN)
    };
    client.add_peer(&wanted, ASN, Restarting::No).await.unwrap();
    let bird = Bird::start(
        &site.right,
        &site.file(""),
        &format!(
            "local {} as {OTHER_ASN}; neighbor 10.9.0.7 as {ASN}; ttl security on; password \"s3cret\"; hold time 9; \
             connect delay time 1; connect retry time 2;",
            Site::RIGHT_V4
        ),
    );
    established(&client, ip(Site::RIGHT_V4)).await;
    assert!(bird.is_established());
    assert_eq!(client.peers().await.unwrap()[&ip(Site::RIGHT_V4)].config, wanted);
}

/// Whether a machine has met a packet with a password that is not the peer's.
fn refused_for_its_password(site: &Site) -> bool {
    [&site.left, &site.right].into_iter().any(|machine| {
        let counts = machine.run(|| std::fs::read_to_string("/proc/thread-self/net/netstat")).unwrap();
        let mut lines = counts.lines().filter(|line| line.starts_with("TcpExt:"));
        let names = lines.next().unwrap().split(' ');
        let place = names.into_iter().position(|name| name == "TCPMD5Failure").unwrap();
        lines.next().unwrap().split(' ').nth(place).is_some_and(|count| count != "0")
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn b6_a_wrong_password_keeps_the_session_down_and_the_right_one_brings_it_up() {
    let Some(site) = Site::new() else { return };
    let (_daemon, client) = site.daemon().await;
    let address = ip(Site::RIGHT_V4);
    let wrong = PeerConfig { password: password("wrong"), ..peer(address, OTHER_ASN) };
    client.add_peer(&wrong, ASN, Restarting::No).await.unwrap();
    let _frr = both_ways(&site, OTHER_ASN, &format!("neighbor {} password right\n", Site::LEFT_V4));
    wait_until("refused", async || refused_for_its_password(&site)).await;
    let seen = client.peers().await.unwrap().remove(&address).unwrap();
    assert_ne!(seen.state, SessionState::Established);
    let expected = "no connection: the peer does not listen, is not reachable, or has another password";
    assert_eq!(seen.hindrance(), Some(expected));

    let right = PeerConfig { password: password("right"), ..wrong };
    let effect = client.update_peer(&seen.config, &right, ASN).await.unwrap();
    assert_eq!(effect, UpdateEffect::SessionReset);
    established(&client, address).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_with_another_gobgpd_comes_up_with_a_password() {
    let Some(site) = Site::new() else { return };
    let (_daemon, client) = site.daemon().await;
    let (_far, _running) = second_router(&site);
    let (left, right) = (ip("10.9.1.1"), ip("10.9.1.2"));
    let far = speaking(&site, OTHER_ASN).await;
    let theirs = PeerConfig { password: password("s3cret"), passive: true, ..peer(left, ASN) };
    far.add_peer(&theirs, OTHER_ASN, Restarting::No).await.unwrap();
    let wanted = PeerConfig { password: password("s3cret"), ..peer(right, OTHER_ASN) };
    client.add_peer(&wanted, ASN, Restarting::No).await.unwrap();
    established(&client, right).await;
    assert_eq!(state(&far, left).await, SessionState::Established);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_is_given_up_is_given_up_by_the_listening_socket_too() {
    let Some(site) = Site::new() else { return };
    let (_daemon, client) = site.daemon().await;
    let open = PeerConfig { passive: true, ..peer(ip(Site::RIGHT_V4), OTHER_ASN) };
    let secret = PeerConfig { password: password("secret"), ..open.clone() };
    client.add_peer(&secret, ASN, Restarting::No).await.unwrap();
    client.delete_peer(&secret, ASN).await.unwrap();
    assert!(client.peers().await.unwrap().is_empty());
    client.add_peer(&open, ASN, Restarting::No).await.unwrap();
    let _frr = both_ways(&site, OTHER_ASN, "");
    established(&client, ip(Site::RIGHT_V4)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b6_a_wrong_as_is_told_apart_from_a_peer_that_is_not_there() {
    let Some(site) = Site::new() else { return };
    let (_daemon, client) = site.daemon().await;
    let both = [Site::RIGHT_V4, Site::RIGHT_V6].map(ip);
    for address in both {
        client.add_peer(&peer(address, 64999), ASN, Restarting::No).await.unwrap();
    }
    client.add_peer(&peer(ip("10.9.0.99"), OTHER_ASN), ASN, Restarting::No).await.unwrap();
    let _frr = both_ways(&site, OTHER_ASN, "");
    wait_until("ended", async || {
        let peers = client.peers().await.unwrap();
        both.iter().all(|address| peers[address].notifications != (0, 0))
    })
    .await;
    let peers = client.peers().await.unwrap();
    let expected = "the session was ended from here: is the peer of another AS than the file says?";
    for address in both {
        assert_eq!(peers[&address].hindrance(), Some(expected), "{:?}", peers[&address]);
    }
    let expected = "no connection: the peer does not listen, is not reachable, or wants a password";
    assert_eq!(peers[&ip("10.9.0.99")].hindrance(), Some(expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn b14_new_timers_reset_no_session_and_a_new_ttl_does() {
    let Some(site) = Site::new() else { return };
    let (_daemon, client) = site.daemon().await;
    let first = peer(ip(Site::RIGHT_V4), OTHER_ASN);
    client.add_peer(&first, ASN, Restarting::No).await.unwrap();
    let frr = both_ways(&site, OTHER_ASN, "");
    established(&client, first.address).await;
    let sessions = || frr.sessions(Site::LEFT_V4);
    assert_eq!(sessions(), Some(1));

    let seen = client.peers().await.unwrap().remove(&first.address).unwrap();
    let slower =
        PeerConfig { hold_seconds: 30, keepalive_seconds: 10, name: "renamed".into(), import: true, ..first };
    let effect = client.update_peer(&seen.config, &slower, ASN).await.unwrap();
    assert_eq!(effect, UpdateEffect::InPlace);
    let again = client.peers().await.unwrap().remove(&slower.address).unwrap();
    assert_eq!(again.config, PeerConfig { name: seen.config.name, ..slower.clone() });
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!((sessions(), again.since), (Some(1), seen.since));

    let farther = PeerConfig { ttl: Ttl::Multihop(5), ..slower };
    let effect = client.update_peer(&again.config, &farther, ASN).await.unwrap();
    assert_eq!(effect, UpdateEffect::SessionReset);
    wait_until("up again", async || sessions() == Some(2)).await;
    assert_eq!(client.peers().await.unwrap()[&farther.address].config, farther);
}

#[tokio::test(flavor = "multi_thread")]
async fn b7_foreign_peers_and_policies_stay_as_they_are() {
    let Some(site) = Site::new() else { return };
    let (_daemon, client) = site.daemon().await;
    let socket = format!("unix://{}", site.file("gobgpd.sock").display());
    let gobgp = |words: &str| {
        let mut command = Command::new("/usr/bin/gobgp");
        command.args(["--target", &socket]).args(words.split(' '));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{words}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    gobgp("neighbor add 10.9.0.50 as 65000");
    gobgp("policy neighbor add theirs 10.9.0.50/32");
    gobgp("policy statement keep add condition neighbor theirs any");
    gobgp("policy statement keep add action accept");
    gobgp("policy add theirs keep");
    gobgp("global policy export add theirs default accept");
    let all = || {
        let policies = gobgp("global policy export");
        let lines = policies.lines().filter(|line| !line.contains("netd:")).collect::<Vec<_>>().join("\n");
        [lines, gobgp("policy theirs"), gobgp("policy neighbor theirs")].join("\n")
    };
    let before = all();

    let ours = peer(ip(Site::RIGHT_V4), OTHER_ASN);
    client.prepare().await.unwrap();
    client.add_peer(&ours, ASN, Restarting::No).await.unwrap();
    client.prepare().await.unwrap();
    let foreign = &client.peers().await.unwrap()[&ip("10.9.0.50")];
    assert!(!foreign.is_ours && !foreign.is_admitted && foreign.config.asn == 65000);
    client.delete_peer(&ours, ASN).await.unwrap();
    assert_eq!(all(), before);
    assert_eq!(client.peers().await.unwrap().len(), 1);
    // What was admitted was dismissed, so that it can be added again.
    client.add_peer(&ours, ASN, Restarting::No).await.unwrap();
    client.delete_peer(&ours, ASN).await.unwrap();
    assert!(client.is_started_by_netd().await.unwrap());
    client.unprepare().await.unwrap();
    assert!(gobgp("global policy export").contains("theirs"));
    for words in
        ["global policy export", "policy", "policy statement", "policy neighbor", "policy large-community"]
    {
        assert!(!gobgp(words).contains("netd"), "{words}: {}", gobgp(words));
    }
    client.prepare().await.unwrap();
}
