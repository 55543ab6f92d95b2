//! The tunnel of probes where the kernel has no links to its hook: a filter, which outlives a killed process.

use netd_bpf::probe_tunnel::{Hook, Outer, ProbeTunnel, mark};
use netd_integration_tests::bed::{TUNNEL_V4, TUNNEL_V6, backend_v4, backend_v6, device_to, index_of, vips};
use netd_integration_tests::capture::Capture;
use netd_integration_tests::{Arrival, Bed, Lab};
use std::net::IpAddr;

const LB_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xfe];
const BACKEND_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// The path of probes to the backend, by the family of its address.
fn path(destination: IpAddr) -> (u16, Outer) {
    let (number, source) = if destination.is_ipv4() { (4, TUNNEL_V4) } else { (6, TUNNEL_V6) };
    let outer = Outer {
        ifindex: index_of(&device_to(1)),
        destination_mac: BACKEND_MAC,
        source_mac: LB_MAC,
        source: source.parse().unwrap(),
        destination,
        gue_port: None,
        hop_limit: 64,
    };
    (number, outer)
}

/// The tunnel on the device to the backend, with its program as a filter and these paths.
fn as_filter(destinations: [IpAddr; 2]) -> ProbeTunnel {
    let mut tunnel = ProbeTunnel::load_for(Hook::Filter).unwrap();
    for (number, outer) in destinations.map(path) {
        tunnel.set(number, &outer).unwrap();
    }
    for _ in 0..2 {
        tunnel.attach(&device_to(1), index_of(&device_to(1))).unwrap();
    }
    tunnel
}

fn filters(bed: &Bed) -> usize {
    let output =
        bed.lb.command("tc").args(["filter", "show", "dev", &device_to(1), "egress"]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).lines().filter(|line| line.contains("handle 0x")).count()
}

/// One echo request to the VIP, as a probe of this path; nobody answers it in its tunnel.
fn ping(bed: &Bed, vip: IpAddr, number: Option<u16>) {
    let mut command = bed.lb.command("ping");
    if let Some(number) = number {
        command.args(["-m", &mark(number).to_string()]);
    }
    let done = command.args(["-n", "-c", "1", "-W", "1", &vip.to_string()]).output().unwrap();
    assert!(done.status.code().is_some_and(|code| code < 2), "{done:?}");
}

#[test]
fn without_links_probes_go_through_a_filter_that_takes_the_place_of_an_earlier_one() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::with(&lab, &[Arrival::Leave]);
    let device = device_to(1);
    bed.backends[0].ip(&["link", "set", "eth0", "address", "02:00:00:00:00:01"]);
    bed.lb.ip(&["link", "set", &device, "address", "02:00:00:00:00:fe"]);
    for (vip, source) in vips(10).into_iter().zip([TUNNEL_V4, TUNNEL_V6]) {
        let vip = vip.to_string();
        bed.lb.ip(&[
            "neigh",
            "replace",
            &vip,
            "lladdr",
            "02:00:00:00:00:01",
            "dev",
            &device,
            "nud",
            "permanent",
        ]);
        bed.lb.ip(&["route", "replace", &vip, "dev", &device, "src", source]);
    }
    let backend: [IpAddr; 2] = [backend_v4(1).into(), backend_v6(1).into()];
    let nobody: [IpAddr; 2] = [backend_v4(99).into(), backend_v6(99).into()];
    // A process that was killed leaves its filter, and what it filled.
    bed.lb.run(|| std::mem::forget(as_filter(nobody)));
    assert_eq!(filters(&bed), 1);
    let mut tunnel = bed.lb.run(|| as_filter(backend));
    assert_eq!(filters(&bed), 1);
    let wrapped = [("ip proto 4", "10.0.0.254 > 10.0.0.1: IP"), ("ip6 proto 41", "fd00::fe > fd00::1: IP6")];
    for ((vip, number), (filter, words)) in vips(10).into_iter().zip([4, 6]).zip(wrapped) {
        let capture = Capture::first(&bed, &bed.backends[0], filter);
        ping(&bed, vip, Some(number));
        let text = capture.wait().text;
        assert!(
            text.contains(words) && text.contains(&vip.to_string()) && !text.contains("bad cksum"),
            "{text}"
        );
        // What is no probe goes its way.
        let plain = if vip.is_ipv4() { "icmp" } else { "icmp6 and ip6[40] == 128" };
        let capture = Capture::first(&bed, &bed.backends[0], plain);
        ping(&bed, vip, None);
        assert!(capture.wait().text.contains(&vip.to_string()));
    }
    bed.lb.run(|| tunnel.detach(index_of(&device))).unwrap();
    assert_eq!(filters(&bed), 0);
}
