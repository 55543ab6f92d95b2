//! Health checks through the tunnel are answered by backends with `[decap]` and nothing else.

use crate::{Backends, Lab, counts, section, web};
use netd_integration_tests::bed::{CLIENT_V4, CLIENT_V6};
use netd_integration_tests::desired::file;
use netd_integration_tests::netd::wait_until;
use std::time::Duration;

/// `fall` and `rise` times the interval take a second at most; a busy machine takes longer.
const SOON: Duration = Duration::from_secs(30);

#[test]
fn probes_come_out_of_the_tunnel_and_without_it_backends_are_down() {
    let Some(lab) = Lab::new() else { return };
    let backends = Backends::new(&lab, 2);
    let mut netds = backends.start(&section(""));
    let bed = &backends.bed;
    // The lb's way to the world, and so to the VIPs, is by the client.
    bed.lb.ip(&["route", "add", "default", "via", CLIENT_V4]);
    bed.lb.ip(&["route", "add", "default", "via", CLIENT_V6]);
    for mode in ["dsr-ipip", "dsr-gue"] {
        let check = "kind = \"tcp\", interval = \"500ms\", timeout = \"450ms\", rise = 2, fall = 3";
        bed.write(&file(&[web(2).with(&format!("mode = \"{mode}\"\nhealth_check = {{ {check} }}"))]));
        let _balancer = bed.start_ok();
        let before = counts(&backends.sites[0]).packets;
        // No client asks: these are probes, each of several packets.
        wait_until("checked", SOON, || counts(&backends.sites[0]).packets > before + 20);
        assert_eq!(bed.status()["notes"].to_string().matches("unhealthy").count(), 0, "{mode}");
        drop(netds.pop());
        assert_eq!(backends.sites[1].netd(&["teardown", "--yes"]).code, Some(0));
        bed.wait_at_most(SOON, "unhealthy", |report| {
            report["notes"].to_string().matches("is unhealthy").count() > 0
        });
        for _ in 0..10 {
            assert_eq!(crate::at(crate::WEB).map(|to| bed.ask_tcp(to)), [1, 1]);
        }
        netds.push(backends.sites[1].start_ok());
        bed.wait_at_most(SOON, "healthy", |report| !report["notes"].to_string().contains("unhealthy"));
    }
}
