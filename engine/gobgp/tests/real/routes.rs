//! Routes as routers show them: announced, changed, withdrawn, for some peers only, and by the thousand.

use crate::site::{Site, ip};
use crate::{ASN, OTHER_ASN, peer, wait_until};
use ipnetwork::{IpNetwork, Ipv4Network};
use netd_gobgp::{
    Announcement, Client, Community, Family, GracefulRestart, LargeCommunity, PeerConfig, Recipients,
    Restarting, SessionState,
};
use netd_lab::{Bird, Frr, Namespace, Running};
use rustix::process::Signal;
use serde_json::json;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

pub const V4: &str = "192.0.2.10/32";
pub const V6: &str = "2001:db8:100::10/128";

pub fn plain(prefix: &str) -> Announcement {
    Announcement::plain(prefix.parse().unwrap())
}

fn prefixes(texts: &[&str]) -> Vec<IpNetwork> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// A router with a session over IPv4 that carries both families.
fn router(site: &Site, asn: u32, more: &str) -> Frr {
    let left = Site::LEFT_V4;
    let neighbours = format!(
        "neighbor {left} remote-as {ASN}\nneighbor {left} timers 3 9\nneighbor {left} timers connect 1\n{more}"
    );
    Frr::start(&site.right, &site.file("frr"), asn, &neighbours, &format!("neighbor {left} activate"))
}

async fn established(client: &Client) {
    let right = ip(Site::RIGHT_V4);
    wait_until("established", async || {
        client.peers().await.unwrap()[&right].state == SessionState::Established
    })
    .await;
}

pub async fn with_router(site: &Site, client: &Client, asn: u32) -> Frr {
    client.add_peer(&peer(ip(Site::RIGHT_V4), asn), ASN, Restarting::No).await.unwrap();
    let frr = router(site, asn, "");
    established(client).await;
    frr
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_shows_prefix_next_hop_and_attributes_of_both_families() {
    let Some(site) = Site::new() else { return };
    let (_daemon, client) = site.daemon().await;
    let said = |prefix: &str, next_hop| Announcement {
        next_hop,
        communities: [Community((64512 << 16) | 100), Community((64512 << 16) | 200)].into(),
        large_communities: [LargeCommunity(64512, 1, 2)].into(),
        med: Some(7),
        prepend: vec![ASN, ASN],
        ..plain(prefix)
    };
    let all = [said(V4, None), said(V6, Some(ip(Site::LEFT_V6)))];
    client.announce(&all).await.unwrap();
    let announced = client.announced().await.unwrap();
    assert_eq!(announced.ours.into_values().collect::<Vec<_>>(), all);
    let frr = with_router(&site, &client, OTHER_ASN).await;
    wait_until("there", async || frr.prefixes("ipv4") == 1 && frr.prefixes("ipv6") == 1).await;
    for (family, prefix, next_hop) in [("ipv4", V4, Site::LEFT_V4), ("ipv6", V6, Site::LEFT_V6)] {
        let path = frr.path(family, prefix);
        assert_eq!(path["nexthops"][0]["ip"], next_hop, "{path}");
        assert_eq!(path["aspath"]["string"], "64512 64512 64512", "{path}");
        assert_eq!(path["community"]["list"], json!(["64512:100", "64512:200"]), "{path}");
        assert_eq!(path["largeCommunity"]["list"], json!(["64512:1:2"]), "{path}");
        assert_eq!(path["metric"], 7, "{path}");
    }
    let right = ip(Site::RIGHT_V4);
    let sent = client.sent(right, Family::Ipv4, 10).await.unwrap().routes;
    assert_eq!((sent.len(), sent[0].prefix), (1, V4.parse().unwrap()));
    assert_eq!(client.peers_with_advertised().await.unwrap()[&right].traffic[&Family::Ipv6].advertised, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_of_the_same_as_sees_the_local_preference() {
    let Some(site) = Site::new() else { return };
    let (_daemon, client) = site.daemon().await;
    let frr = with_router(&site, &client, ASN).await;
    client.announce(&[Announcement { local_pref: Some(250), ..plain(V4) }]).await.unwrap();
    wait_until("there", async || frr.path("ipv4", V4)["locPrf"] == 250).await;
    assert_eq!(frr.path("ipv4", V4)["aspath"]["string"], "Local");
}

#[tokio::test(flavor = "multi_thread")]
async fn bird_shows_an_ipv4_prefix_with_an_ipv6_next_hop_over_an_ipv6_session() {
    let Some(site) = Site::new() else { return };
    let (_daemon, client) = site.daemon().await;
    client.announce(&[plain(V4), plain(V6)]).await.unwrap();
    client.add_peer(&peer(ip(Site::RIGHT_V6), OTHER_ASN), ASN, Restarting::No).await.unwrap();
    let protocol = format!(
        "local {} as {OTHER_ASN}; neighbor {} as {ASN}; connect delay time 1; connect retry time 2;",
        Site::RIGHT_V6,
        Site::LEFT_V6
    );
    let bird = Bird::start(&site.right, &site.file(""), &protocol);
    wait_until("there", async || bird.show("show route all").contains(V4)).await;
    let routes = bird.show("show route all");
    assert!(routes.contains(V6), "{routes}");
    let hops = routes.lines().filter(|line| line.contains("BGP.next_hop: fd09::1")).count();
    assert_eq!(hops, 2, "{routes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn b14_changed_attributes_and_withdrawals_reset_no_session() {
    let Some(site) = Site::new() else { return };
    let (_daemon, client) = site.daemon().await;
    let frr = with_router(&site, &client, OTHER_ASN).await;
    client.announce(&[plain(V4), plain("192.0.2.11/32")]).await.unwrap();
    wait_until("there", async || frr.prefixes("ipv4") == 2).await;
    client.announce(&[Announcement { med: Some(9), ..plain(V4) }]).await.unwrap();
    wait_until("changed", async || frr.path("ipv4", V4)["metric"] == 9).await;
    client.withdraw(&prefixes(&["192.0.2.11/32", "192.0.2.99/32"])).await.unwrap();
    wait_until("withdrawn", async || frr.prefixes("ipv4") == 1).await;
    let neighbour = frr.neighbour(Site::LEFT_V4);
    assert_eq!(
        (&neighbour["connectionsEstablished"], &neighbour["connectionsDropped"]),
        (&json!(1), &json!(0))
    );
}

/// A second router beside the first, in a namespace of its own.
pub fn second_router(site: &Site) -> (Namespace, Running) {
    let far = site.lab.namespace("far");
    site.left.veth("eth1", &far, "eth0");
    site.left.ip(&["addr", "add", "10.9.1.1/24", "dev", "eth1"]);
    far.ip(&["addr", "add", "10.9.1.2/24", "dev", "eth0"]);
    let socket = format!("unix://{}", site.file("far.sock").display());
    let running = Running::start(&far, "gobgpd", &["--api-hosts", &socket, "--pprof-disable"]);
    (far, running)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_goes_to_those_it_is_for_and_comes_and_goes_without_a_reset() {
    let Some(site) = Site::new() else { return };
    let (_daemon, client) = site.daemon().await;
    let (_far, _running) = second_router(&site);
    let far = far_client(&site, 64999).await;
    let (right, other) = (ip(Site::RIGHT_V4), ip("10.9.1.2"));
    client.add_peer(&peer(other, 64999), ASN, Restarting::No).await.unwrap();
    let frr = with_router(&site, &client, OTHER_ASN).await;
    wait_until("up", async || client.peers().await.unwrap()[&other].state == SessionState::Established).await;

    let community = [LargeCommunity(64512, 1, 2)];
    let for_whom = |to| Announcement { to, large_communities: community.into(), ..plain(V4) };
    let at_far = async || {
        let routes = far.received(ip("10.9.1.1"), Family::Ipv4, 10).await.unwrap().routes;
        routes.into_iter().map(|route| route.large_communities).collect::<Vec<_>>()
    };
    let steps = [
        (Recipients::only([right]), 1, 0),
        (Recipients::only([right, other]), 1, 1),
        (Recipients::only([other]), 0, 1),
        (Recipients::All, 1, 1),
        (Recipients::only([]), 0, 0),
    ];
    for (to, near_count, far_count) in steps {
        client.announce(&[for_whom(to.clone())]).await.unwrap();
        wait_until(&format!("as {to:?}"), async || {
            frr.prefixes("ipv4") == near_count && at_far().await.len() == far_count
        })
        .await;
        if near_count == 1 {
            assert_eq!(frr.path("ipv4", V4)["largeCommunity"]["list"], json!(["64512:1:2"]));
        }
        assert!(at_far().await.iter().all(|seen| seen == &community), "{:?}", at_far().await);
    }
    assert_eq!(frr.neighbour(Site::LEFT_V4)["connectionsEstablished"], 1);
}

pub async fn far_client(site: &Site, asn: u32) -> Client {
    let far = speaking(site, asn).await;
    // Only one side opens the session: two gobgpds that try at the same moments get into each other's way.
    let left = PeerConfig { import: true, passive: true, ..peer(ip("10.9.1.1"), ASN) };
    far.add_peer(&left, asn, Restarting::No).await.unwrap();
    far
}

/// The second router in this AS, without a peer.
pub async fn speaking(site: &Site, asn: u32) -> Client {
    let endpoint = crate::site::unix(&site.file("far.sock"));
    let mut far = None;
    wait_until("a second gobgpd", async || {
        far = Client::connect(&endpoint).await.ok();
        far.is_some()
    })
    .await;
    let far = far.unwrap();
    let global = netd_gobgp::Global { asn, router_id: [10, 9, 1, 2].into(), listen_port: Some(179) };
    far.start(&global).await.unwrap();
    far.prepare().await.unwrap();
    far
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_of_a_peer_are_seen_are_imported_only_when_asked_for_and_never_handed_on() {
    let Some(site) = Site::new() else { return };
    let (_daemon, client) = site.daemon().await;
    let (_far, _running) = second_router(&site);
    let far = far_client(&site, 64999).await;
    let theirs = PeerConfig { import: false, ..peer(ip("10.9.1.2"), 64999) };
    client.add_peer(&theirs, ASN, Restarting::No).await.unwrap();
    far.announce(&[plain("203.0.113.0/24")]).await.unwrap();
    let received = async || client.received(theirs.address, Family::Ipv4, 10).await.unwrap().routes;
    wait_until("received", async || !received().await.is_empty()).await;
    let route = received().await.remove(0);
    assert_eq!((route.prefix, route.next_hop), ("203.0.113.0/24".parse().unwrap(), Some(theirs.address)));
    assert_eq!(route.as_path, [64999]);
    let frr = with_router(&site, &client, OTHER_ASN).await;
    client.announce(&[plain(V4)]).await.unwrap();
    wait_until("there", async || frr.prefixes("ipv4") == 1).await;
    let accepted = async || client.peers().await.unwrap()[&theirs.address].traffic[&Family::Ipv4];
    assert_eq!(client.routes(Family::Ipv4).await.unwrap(), 1, "{:?}", accepted().await);

    let asked = PeerConfig { import: true, ..theirs.clone() };
    client.update_peer(&theirs, &asked, ASN).await.unwrap();
    wait_until("imported", async || client.routes(Family::Ipv4).await.unwrap() == 2).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(frr.prefixes("ipv4"), 1);
    client.update_peer(&asked, &theirs, ASN).await.unwrap();
    wait_until("given up", async || client.routes(Family::Ipv4).await.unwrap() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b7_a_foreign_path_of_the_same_prefix_stays_when_netds_goes() {
    let Some(site) = Site::new() else { return };
    let (_daemon, client) = site.daemon().await;
    let socket = format!("unix://{}", site.file("gobgpd.sock").display());
    let add = ["--target", &socket, "global", "rib", "add", V4, "nexthop", "10.9.0.77"];
    assert!(std::process::Command::new("/usr/bin/gobgp").args(add).status().unwrap().success());
    client.announce(&[plain(V4), plain("192.0.2.11/32")]).await.unwrap();
    let both = client.announced().await.unwrap();
    assert_eq!(both.ours.len(), 2);
    assert_eq!(both.foreign.into_keys().collect::<Vec<_>>(), prefixes(&[V4]));
    assert_eq!(client.routes(Family::Ipv4).await.unwrap(), 3);
    client.withdraw(&prefixes(&[V4, "192.0.2.11/32"])).await.unwrap();
    let left = client.announced().await.unwrap();
    assert_eq!((left.ours.len(), left.foreign.len()), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn b12_ten_thousand_prefixes_arrive_and_one_change_sends_one_update() {
    const COUNT: u32 = 10_000;
    let Some(site) = Site::new() else { return };
    let (_daemon, client) = site.daemon().await;
    let frr = with_router(&site, &client, OTHER_ASN).await;
    let nth = |n: u32| IpNetwork::V4(Ipv4Network::new(Ipv4Addr::from(0x0a40_0000 + n), 32).unwrap());
    let mut all: Vec<_> = (0..COUNT).map(|n| Announcement::plain(nth(n))).collect();
    let begin = Instant::now();
    client.announce(&all).await.unwrap();
    let streamed = begin.elapsed();
    wait_until("there", async || frr.prefixes("ipv4") == u64::from(COUNT)).await;
    eprintln!("10,000 prefixes: in the daemon after {streamed:?}, at the router after {:?}", begin.elapsed());

    let updates = || frr.neighbour(Site::LEFT_V4)["messageStats"]["updatesRecv"].as_u64().unwrap();
    let before = updates();
    all[1234].med = Some(1);
    client.announce(&all[1234..1235]).await.unwrap();
    wait_until("changed", async || frr.path("ipv4", &nth(1234).to_string())["metric"] == 1).await;
    assert_eq!(updates(), before + 1);

    let begin = Instant::now();
    assert_eq!(client.announced().await.unwrap().ours.len(), COUNT as usize);
    eprintln!("10,000 prefixes: listed in {:?}", begin.elapsed());
    client.withdraw(&all.iter().map(|one| one.prefix).collect::<Vec<_>>()).await.unwrap();
    wait_until("withdrawn", async || frr.prefixes("ipv4") == 0).await;
}

/// A session with a router that keeps routes across a restart, and one announcement on it.
async fn graceful(site: &Site, client: &Client) -> (PeerConfig, Frr) {
    let graceful = Some(GracefulRestart { restart_seconds: 60 });
    let wanted = PeerConfig { graceful_restart: graceful, ..peer(ip(Site::RIGHT_V4), OTHER_ASN) };
    client.announce(&[plain(V4)]).await.unwrap();
    client.add_peer(&wanted, ASN, Restarting::No).await.unwrap();
    let frr = router(site, OTHER_ASN, &format!("neighbor {} graceful-restart-helper", Site::LEFT_V4));
    (wanted, frr)
}

#[tokio::test(flavor = "multi_thread")]
async fn b8_a_helper_keeps_the_routes_of_a_killed_daemon_until_the_next_has_said_them_again() {
    let Some(site) = Site::new() else { return };
    let (daemon, client) = site.daemon().await;
    let (wanted, frr) = graceful(&site, &client).await;
    established(&client).await;
    wait_until("there", async || frr.prefixes("ipv4") == 1).await;
    let sent = client.peers_with_advertised().await.unwrap()[&wanted.address].traffic.clone();
    let counts = [Family::Ipv4, Family::Ipv6].map(|family| sent[&family].advertised);
    assert_eq!(counts, [1, 0], "the ends of what is sent are no routes");

    daemon.signal(Signal::KILL);
    drop(daemon);
    wait_until("noticed", async || !frr.is_established(Site::LEFT_V4)).await;
    assert_eq!(frr.path("ipv4", V4)["stale"], true);
    let (_daemon, client) = site.daemon().await;
    client.announce(&[plain(V4), plain("192.0.2.11/32")]).await.unwrap();
    client.add_peer(&wanted, ASN, Restarting::Yes).await.unwrap();
    wait_until("fresh", async || {
        let path = frr.path("ipv4", V4);
        assert_ne!(path["aspath"], json!(null), "the router has withdrawn the route");
        frr.prefixes("ipv4") == 2 && path["stale"] != true
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_knows_no_restarts_is_sent_as_many_routes_as_are_said() {
    let Some(site) = Site::new() else { return };
    let (_daemon, client) = site.daemon().await;
    let graceful_restart = Some(GracefulRestart { restart_seconds: 60 });
    let right = ip(Site::RIGHT_V4);
    client.announce(&[plain(V4)]).await.unwrap();
    let wanted = PeerConfig { graceful_restart, ..peer(right, OTHER_ASN) };
    client.add_peer(&wanted, ASN, Restarting::No).await.unwrap();
    let protocol = format!(
        "local {right} as {OTHER_ASN}; neighbor {} as {ASN}; graceful restart off; connect delay time 1;",
        Site::LEFT_V4
    );
    let bird = Bird::start(&site.right, &site.file(""), &protocol);
    wait_until("there", async || bird.show("show route all").contains(V4)).await;
    let sent = client.peers_with_advertised().await.unwrap()[&right].traffic.clone();
    assert_eq!(sent[&Family::Ipv4].advertised, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn b8_a_daemon_that_is_told_to_end_says_so_and_its_routes_go_at_once() {
    let Some(site) = Site::new() else { return };
    let (daemon, client) = site.daemon().await;
    let (_, frr) = graceful(&site, &client).await;
    wait_until("there", async || frr.prefixes("ipv4") == 1).await;
    daemon.signal(Signal::TERM);
    wait_until("gone", async || frr.path("ipv4", V4)["aspath"] == json!(null)).await;
}

/// A peer that nothing is known of.
#[tokio::test(flavor = "multi_thread")]
async fn routes_of_an_unknown_peer_are_an_error() {
    let Some(site) = Site::new() else { return };
    let (_daemon, client) = site.daemon().await;
    let unknown: IpAddr = ip("10.9.0.99");
    let error = client.received(unknown, Family::Ipv4, 10).await.unwrap_err();
    assert_eq!(error.to_string(), "gobgpd refuses to list routes: neighbor that has 10.9.0.99 doesn't exist");
}
