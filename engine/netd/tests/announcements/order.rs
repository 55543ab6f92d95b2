//! What is announced when: after what it stands on, and withdrawn before.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::file::two_services;
use super::node::{Node, pass, run};
use super::world;
use netd::fake::Fault;
use netd::kinds::{bgp_path, service};
use netd_core::Key;
use netd_core::render::{self, Colour, Limits};

#[test]
fn b9_a_vip_is_announced_after_its_datapath_and_withdrawn_before_it_goes() {
    run(async {
        let (node, mut file) = (Node::new(), two_services());
        let mut reconciler = node.reconciler();
        pass(&mut reconciler, &node, &file).await;
        let up = [
            "create service/192.0.2.1:8001/tcp",
            "create service/192.0.2.2:8002/tcp",
            "create vip/192.0.2.1",
            "create vip/192.0.2.2",
            "create attachment/eth0",
            "create bgp_instance/managed",
            "create bgp_path/192.0.2.1/32",
            "create bgp_path/192.0.2.2/32",
            "create bgp_peer/10.0.0.1",
        ];
        assert_eq!(node.took(), up);
        file.services.remove(&1);
        pass(&mut reconciler, &node, &file).await;
        let down =
            ["delete bgp_path/192.0.2.1/32", "delete vip/192.0.2.1", "delete service/192.0.2.1:8001/tcp"];
        assert_eq!(node.took(), down);
        reconciler.tear_down().await;
        let all = [
            "delete bgp_peer/10.0.0.1",
            "delete bgp_path/192.0.2.2/32",
            "delete bgp_instance/managed",
            "delete attachment/eth0",
            "delete vip/192.0.2.2",
            "delete service/192.0.2.2:8002/tcp",
        ];
        assert_eq!(node.took(), all);
    });
}

#[test]
fn b9_a_service_that_fails_keeps_its_vip_from_being_announced_and_no_other() {
    run(async {
        let (node, file) = (Node::new(), two_services());
        let faults = [Fault::Fail("full".into()), Fault::Fail("full".into())];
        let key = Key::new("192.0.2.1:8001/tcp");
        node.fakes[service::NAME].world().faults.insert(key, faults.into());
        let mut reconciler = node.reconciler();
        let report = pass(&mut reconciler, &node, &file).await;
        assert_eq!(node.keys(bgp_path::NAME), ["192.0.2.2/32".to_owned()].into());
        let waits = report.not_ready.iter().find(|one| one.key == "192.0.2.1/32").unwrap();
        assert_eq!(waits.message, "create: it waits for service/192.0.2.1:8001/tcp");
        pass(&mut reconciler, &node, &file).await;
        assert_eq!(node.keys(bgp_path::NAME).len(), 2);
    });
}

#[test]
fn the_time_of_a_withdrawal_makes_a_pass() {
    run(async {
        let (node, mut file) = (Node::new(), two_services());
        let mut reconciler = node.reconciler();
        pass(&mut reconciler, &node, &file).await;
        file.sick.insert(1, 3);
        let report = pass(&mut reconciler, &node, &file).await;
        assert_eq!(report.next_try_ms, Some(2_000));
        file.sick.insert(1, 5);
        let report = pass(&mut reconciler, &node, &file).await;
        assert_eq!((report.next_try_ms, node.keys(bgp_path::NAME).len()), (None, 1));
    });
}

#[test]
fn a_plan_reads_like_a_sentence() {
    run(async {
        let (node, file) = (Node::new(), two_services());
        node.verdicts(&file);
        let rule = "[[bgp.announcements]]\ncommunities = [\"64512:100\"]\n";
        let reading = world::text(&format!("{}{rule}", file.text()));
        let plan = node.reconciler().preview(&reading).await.unwrap().plan;
        let text = render::text(&plan, &[], Colour::Never, Limits::NONE);
        assert!(text.contains("  + announce 192.0.2.1/32 to 10.0.0.1 (community 64512:100)\n"), "{text}");
        assert!(text.contains("  + bgp_instance managed  AS 64512, router identifier 10.0.0.11\n"), "{text}");
        assert!(text.contains("  + bgp_peer 10.0.0.1  AS 64513, ipv4\n"), "{text}");
    });
}
