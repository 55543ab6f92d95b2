//! A gobgpd that does not answer, forgets, or speaks for somebody else, too.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::file::{Service, two_services};
use super::node::{Node, pass, run};
use netd::fake::Fault;
use netd::kinds::{bgp_instance, bgp_path, bgp_peer, service};
use netd_core::Key;
use std::collections::BTreeMap;

#[test]
fn b1_b3_trouble_with_gobgpd_stays_with_bgp() {
    run(async {
        let (node, mut file) = (Node::new(), two_services());
        let mut reconciler = node.reconciler();
        pass(&mut reconciler, &node, &file).await;
        for kind in [bgp_instance::NAME, bgp_path::NAME, bgp_peer::NAME] {
            node.fakes[kind].world().blind = Some("gobgpd did not answer within 2 s".into());
        }
        node.took();
        file.services.remove(&1);
        file.services.insert(3, Service { vip: 3, backends: BTreeMap::from([(3, true)]) });
        let report = pass(&mut reconciler, &node, &file).await;
        let expected = [
            "create service/192.0.2.3:8003/tcp",
            "create vip/192.0.2.3",
            "delete vip/192.0.2.1",
            "delete service/192.0.2.1:8001/tcp",
        ];
        assert_eq!(node.took(), expected);
        let unread = report.kinds[bgp_path::NAME].unread.as_deref();
        assert_eq!(unread, Some("gobgpd did not answer within 2 s"));
        for kind in [bgp_instance::NAME, bgp_path::NAME, bgp_peer::NAME] {
            node.fakes[kind].world().blind = None;
        }
        pass(&mut reconciler, &node, &file).await;
        assert_eq!(node.took(), ["create bgp_path/192.0.2.3/32", "delete bgp_path/192.0.2.1/32"]);
    });
}

#[test]
fn an_announcement_that_fails_does_not_keep_services_from_being_removed() {
    run(async {
        let (node, mut file) = (Node::new(), two_services());
        let mut reconciler = node.reconciler();
        pass(&mut reconciler, &node, &file).await;
        node.took();
        file.services.remove(&1);
        file.services.insert(3, Service { vip: 3, backends: BTreeMap::from([(3, true)]) });
        let key = Key::new("192.0.2.3/32");
        let faults = [Fault::Fail("hung".into()), Fault::Fail("hung".into())];
        node.fakes[bgp_path::NAME].world().faults.insert(key, faults.into());
        pass(&mut reconciler, &node, &file).await;
        assert!(
            !node.has(service::NAME, "192.0.2.1:8001/tcp") && node.has(service::NAME, "192.0.2.3:8003/tcp")
        );
    });
}

#[test]
fn b2_what_a_gobgpd_forgot_is_told_again_paths_before_peers() {
    run(async {
        let (node, file) = (Node::new(), two_services());
        let mut reconciler = node.reconciler();
        pass(&mut reconciler, &node, &file).await;
        node.took();
        for kind in [bgp_instance::NAME, bgp_path::NAME, bgp_peer::NAME] {
            node.fakes[kind].world().owned.clear();
        }
        pass(&mut reconciler, &node, &file).await;
        let expected = [
            "create bgp_instance/managed",
            "create bgp_path/192.0.2.1/32",
            "create bgp_path/192.0.2.2/32",
            "create bgp_peer/10.0.0.1",
        ];
        assert_eq!(node.took(), expected);
    });
}

#[test]
fn b7_what_somebody_else_announces_is_a_conflict_and_stays() {
    run(async {
        let (node, file) = (Node::new(), two_services());
        let holder = "announced by somebody else through the same gobgpd";
        node.fakes[bgp_path::NAME].world().foreign.insert(Key::new("192.0.2.1/32"), holder.into());
        let mut reconciler = node.reconciler();
        let report = pass(&mut reconciler, &node, &file).await;
        let conflict = report.not_ready.iter().find(|one| one.key == "192.0.2.1/32").unwrap();
        assert_eq!(conflict.message, format!("held by {holder}"));
        assert_eq!(node.keys(bgp_path::NAME), ["192.0.2.2/32".to_owned()].into());
    });
}
