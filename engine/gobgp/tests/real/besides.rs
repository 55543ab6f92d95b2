//! One prefix, and other attributes for one router than for another.

use crate::routes::{V4, V6, far_client, plain, second_router, with_router};
use crate::site::{Site, ip};
use crate::{ASN, OTHER_ASN, peer, wait_until};
use netd_gobgp::{
    Announcement, Besides, Client, Community, Family, LargeCommunity, ReceivedRoute, Recipients, Restarting,
    SessionState,
};
use netd_lab::Frr;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::process::Command;

const FAR: &str = "10.9.1.2";

/// What the far router of the same AS was told of both prefixes.
async fn at_far(far: &Client) -> Vec<ReceivedRoute> {
    let mut found = Vec::new();
    for family in Family::ALL {
        found.extend(far.received(ip("10.9.1.1"), family, 10).await.unwrap().routes);
    }
    found
}

fn of_both(besides: &BTreeMap<IpAddr, Besides>) -> [Announcement; 2] {
    let base = |prefix, next_hop| Announcement {
        next_hop,
        communities: [Community(1)].into(),
        besides: besides.clone(),
        ..plain(prefix)
    };
    [base(V4, None), base(V6, Some(ip(Site::LEFT_V6)))]
}

/// What both routers are told, once it is what it should be.
async fn told(
    far: &Client,
    frr: &Frr,
    near: impl Fn(&Value) -> bool,
    there: impl Fn(&ReceivedRoute) -> bool,
) {
    let mut last = (Vec::new(), Vec::new());
    let until = std::time::Instant::now() + crate::PATIENCE;
    loop {
        let (now, at_far) = ([("ipv4", V4), ("ipv6", V6)], at_far(far).await);
        let at_near: Vec<Value> = now.into_iter().map(|(family, prefix)| frr.path(family, prefix)).collect();
        if at_far.len() == 2 && at_far.iter().all(&there) && at_near.iter().all(&near) {
            return;
        }
        last = match std::time::Instant::now() < until {
            true => (at_near, at_far),
            false => panic!("near {:?}, far {:?}", last.0, last.1),
        };
        tokio::time::sleep(crate::STEP).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn b14_each_peer_is_told_its_own_attributes_and_a_change_of_them_resets_no_session() {
    let Some(site) = Site::new() else { return };
    let (_daemon, client) = site.daemon().await;
    let theirs = format!("unix://{}", site.file("gobgpd.sock").display());
    let gobgp = |words: &str| {
        let mut command = Command::new("/usr/bin/gobgp");
        let output = command.args(["--target", &theirs]).args(words.split(' ')).output().unwrap();
        assert!(output.status.success(), "{words}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    gobgp("policy statement add theirs");
    gobgp("policy statement theirs add action med set 999");
    gobgp("policy add theirs theirs");
    let statements = gobgp("policy statement theirs");

    let (_far, _running) = second_router(&site);
    let far = far_client(&site, ASN).await;
    let (right, other) = (ip(Site::RIGHT_V4), ip(FAR));
    let before = Besides { communities: [Community(2)].into(), ..Besides::default() };
    let all = [(other, Besides { local_pref: Some(300), ..before.clone() }), (right, before.clone())].into();
    // Before the peers, as netd does it.
    client.announce(&of_both(&all)).await.unwrap();
    client.add_peer(&peer(other, ASN), ASN, Restarting::No).await.unwrap();
    let frr = with_router(&site, &client, OTHER_ASN).await;
    wait_until("up", async || client.peers().await.unwrap()[&other].state == SessionState::Established).await;
    let near = |path: &Value| path["community"]["list"] == json!(["0:1", "0:2"]) && path["metric"].is_null();
    told(&far, &frr, near, |route| route.local_pref == Some(300) && route.communities.len() == 2).await;

    let near_only = Besides {
        large_communities: [LargeCommunity(64512, 1, 2)].into(),
        med: Some(0),
        prepend: vec![ASN; 2],
        ..before.clone()
    };
    let all = [(right, near_only.clone())].into();
    client.announce(&of_both(&all)).await.unwrap();
    client.say_no_more_than(&[(right, near_only)].into()).await.unwrap();
    let near = |path: &Value| {
        path["largeCommunity"]["list"] == json!(["64512:1:2"])
            && path["metric"] == 0
            && path["aspath"]["string"] == "64512 64512 64512"
    };
    let plainly = |route: &ReceivedRoute| {
        (route.communities.len(), route.local_pref, route.med) == (1, Some(100), None)
            && route.large_communities.is_empty()
            && route.as_path.is_empty()
    };
    told(&far, &frr, near, plainly).await;
    let announced = client.announced().await.unwrap().ours;
    assert_eq!(announced.into_values().collect::<Vec<_>>(), of_both(&all));
    assert_eq!(frr.neighbour(Site::LEFT_V4)["connectionsEstablished"], 1);
    assert_eq!(client.peers().await.unwrap()[&other].flaps, 0);
    assert_eq!(gobgp("policy statement theirs"), statements);

    // It is gone with its peer, and with the rest of netd's policies.
    let listed = || gobgp("policy statement").matches("StatementName netd:say:").count();
    assert_eq!(listed(), 1);
    let known = client.peers().await.unwrap().remove(&right).unwrap().config;
    client.delete_peer(&known, ASN).await.unwrap();
    assert_eq!(listed(), 0);
    client.unprepare().await.unwrap();
    assert_eq!(gobgp("policy statement theirs"), statements);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_for_one_peer_only_and_with_more_is_so() {
    let Some(site) = Site::new() else { return };
    let (_daemon, client) = site.daemon().await;
    let (_far, _running) = second_router(&site);
    let far = far_client(&site, ASN).await;
    let (right, other) = (ip(Site::RIGHT_V4), ip(FAR));
    client.add_peer(&peer(other, ASN), ASN, Restarting::No).await.unwrap();
    let frr = with_router(&site, &client, OTHER_ASN).await;
    wait_until("up", async || client.peers().await.unwrap()[&other].state == SessionState::Established).await;
    let besides = Besides { med: Some(u32::MAX), ..Besides::default() };
    let for_one =
        Announcement { to: Recipients::only([right]), besides: [(right, besides)].into(), ..plain(V4) };
    client.announce(std::slice::from_ref(&for_one)).await.unwrap();
    client.announce(&[plain("192.0.2.11/32")]).await.unwrap();
    wait_until("there", async || {
        frr.path("ipv4", V4)["metric"] == u32::MAX
            && frr.prefixes("ipv4") == 2
            && at_far(&far).await.len() == 1
    })
    .await;
    assert_eq!(at_far(&far).await[0].large_communities, []);
    assert_eq!(frr.path("ipv4", V4)["largeCommunity"], json!(null));
    assert_eq!(client.announced().await.unwrap().ours[&for_one.prefix], for_one);
}
