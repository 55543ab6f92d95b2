//! Ten thousand prefixes: what goes over the wire when one of them changes, and what netd asks of gobgpd when none does.

use crate::world::{PATIENCE, World, announcing};
use netd_integration_tests::bed::{LB_V4, vip_v4};
use netd_integration_tests::capture::Recording;
use netd_integration_tests::netd::wait_until;
use netd_lab::{Running, installed};
use std::net::Ipv4Addr;

/// Of a node's pods, beside one VIP.
const PODS: u32 = 9_999;

/// Where a gobgpd is that can be listened to.
const LOOPBACK: &str = "127.0.0.1:50051";

/// Ten thousand prefixes, and another community of the only VIP.
fn many(gobgpd: &str, community: u16) -> String {
    let pods: Vec<String> =
        (0..PODS).map(|number| format!("\"{}/28\"", Ipv4Addr::from((64 << 24) + number * 16))).collect();
    let text = announcing(gobgpd, &[10]).replace("families = [\"ipv4\", \"ipv6\"]", "families = [\"ipv4\"]");
    let text = text.replace("asn = 64512\n", "asn = 64512\nannounce = [\"vips\", \"pod-cidrs\"]\n");
    format!(
        "{text}\n[[bgp.announcements]]\nwhat = [\"vips\"]\nservices = [\"web-10\"]\ncommunities = [\"64512:{community}\"]\n\n\
         [[nodes]]\nname = \"lb\"\naddresses = [\"{LB_V4}\"]\npod_cidrs = [{}]\n",
        pods.join(", ")
    )
}

fn told_of_all(world: &World) {
    wait_until("told of all", PATIENCE, || world.frr.prefixes("ipv4") == u64::from(PODS) + 1);
}

#[test]
fn b12_of_ten_thousand_prefixes_one_changes_and_one_update_is_on_the_wire() {
    let Some(world) = World::new().filter(|_| installed(&[("tshark", "tshark")])) else { return };
    let bed = &world.bed;
    bed.write(&many("managed", 1));
    let daemon = bed.start_ok();
    told_of_all(&world);

    let recording = Recording::start(bed, &bed.client, "eth0", "tcp port 179");
    bed.write(&many("managed", 2));
    let vip = format!("{}/32", vip_v4(10));
    wait_until("changed", PATIENCE, || world.frr.path("ipv4", &vip)["community"]["string"] == "64512:2");
    bed.wait_ok();
    // The router tells the node back what it was told by it, in its own time.
    let from_node = format!("bgp.type == 2 && ip.src == {LB_V4} && !tcp.analysis.retransmission");
    let messages = recording.fields(&from_node, "bgp.type");
    let updates: usize =
        messages.iter().map(|types| types.split(',').filter(|one| *one == "2").count()).sum();
    assert_eq!(updates, 1, "{messages:?}");
    assert_eq!(world.frr.sessions(LB_V4), Some(1));
    assert_eq!(world.frr.prefixes("ipv4"), u64::from(PODS) + 1);
    daemon.stop();
}

#[test]
fn a_pass_that_finds_ten_thousand_prefixes_as_they_should_be_changes_and_lists_nothing() {
    let Some(world) = World::new().filter(|_| installed(&[("tshark", "tshark")])) else { return };
    let bed = &world.bed;
    let recording = Recording::start(bed, &bed.lb, "lo", "tcp port 50051");
    let _gobgpd = Running::start(&bed.lb, "gobgpd", &["--api-hosts", LOOPBACK, "--pprof-disable"]);
    let file = many(&format!("http://{LOOPBACK}"), 1);
    bed.write(&file);
    let daemon = bed.start_ok();
    told_of_all(&world);
    // Whatever was still to be found out is found out in this pass, and the next one is measured.
    bed.write(&format!("{file}# once\n"));
    bed.wait_ok();
    let pass = bed.status()["pass"]["number"].clone();
    let mark = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    bed.write(&format!("{file}# twice\n"));
    let report = bed.wait_ok();
    assert_ne!(report["pass"]["number"], pass);
    assert_eq!(report["pass"]["applied"], 0, "{report}");

    let calls = |calls: Vec<String>| -> Vec<String> {
        calls
            .iter()
            .flat_map(|line| line.split(','))
            .map(|path| path.rsplit('/').next().unwrap().into())
            .collect()
    };
    let calls = calls(
        recording.fields(&format!("http2.headers.path && frame.time_epoch > {mark}"), "http2.headers.path"),
    );
    eprintln!("{calls:?}");
    let reading = ["GetBgp", "GetTable", "ListPeer", "ListDefinedSet"];
    assert!(!calls.is_empty() && calls.iter().all(|call| reading.contains(&call.as_str())), "{calls:?}");
    daemon.stop();
}
