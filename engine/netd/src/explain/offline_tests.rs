#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

const FILE: &str = r#"
version = 1
[load_balancer]
table_size = 16381
rss_source = ["10.9.0.0/16"]
[[ip_pools]]
name = "public"
ranges = ["192.0.2.0/24"]
unassigned = "reject"
[[services]]
name = "web"
vips = ["192.0.2.10", "2001:db8:100::10"]
ports = [{ protocol = "tcp", port = 80, backend_port = 8080 }]
backends = [{ address = "10.0.0.1" }, { address = "10.0.0.2" }, { address = "10.0.0.3" }, { address = "fd00::1" }]
source_ranges = { allow = ["10.0.0.0/8", "2001:db8::/32"], deny = ["10.66.0.0/16"] }
[[services]]
name = "empty"
vips = ["192.0.2.11"]
ports = [{ protocol = "udp", port = 53 }]
"#;

fn answer(packet: &str) -> Explanation {
    let config = netd_schema::parse("desired.toml", FILE.as_bytes()).unwrap().config;
    explain(&config, &packet.parse().unwrap()).unwrap()
}

#[test]
fn the_published_vector_comes_out_of_the_file() {
    let answer = answer("tcp 10.1.2.3:12345 > 192.0.2.10:80");
    assert_eq!(answer.verdict, Verdict::Forward);
    assert_eq!(
        (answer.flow_hash, answer.table_size, answer.slot),
        (Some(0xe355_36fb), Some(16_381), Some(8056))
    );
    assert_eq!(answer.outer_source.unwrap().to_string(), "10.9.22.91");
    assert_eq!(answer.outer_destination, answer.backend.map(|backend| backend.ip()));
    assert_eq!(answer.backend.unwrap().port(), 8080);
    let json = serde_json::to_value(&answer).unwrap();
    assert_eq!((&json["verdict"], &json["flow_hash"]), (&"forward".into(), &"e35536fb".into()));
}

#[test]
fn both_families_have_their_own_backends() {
    let answer = answer("tcp [2001:db8::1]:12345 > [2001:db8:100::10]:80");
    assert_eq!((answer.flow_hash, answer.slot), (Some(0xba5f_2c2b), Some(10_504)));
    assert_eq!(answer.backend.unwrap().to_string(), "[fd00::1]:8080");
    assert_eq!(answer.outer_source, None);
}

#[test]
fn the_longest_prefix_lets_a_client_in_or_not() {
    assert_eq!(answer("tcp 10.66.1.1:1 > 192.0.2.10:80").verdict, Verdict::Drop);
    let stranger = answer("tcp 203.0.113.7:1 > 192.0.2.10:80");
    assert!(stranger.verdict == Verdict::Drop && stranger.reason.contains("none of the prefixes"));
}

#[test]
fn what_no_service_takes_has_the_policy_of_its_vip_or_pool() {
    assert_eq!(answer("tcp 10.1.2.3:1 > 192.0.2.10:81").verdict, Verdict::Drop);
    assert_eq!(answer("tcp 10.1.2.3:1 > 192.0.2.99:81").verdict, Verdict::Reject);
    assert_eq!(answer("tcp 10.1.2.3:1 > 198.51.100.1:81").verdict, Verdict::Pass);
}

#[test]
fn a_reset_is_never_answered() {
    let answer = answer("tcp 10.1.2.3:1 > 192.0.2.99:81 rst");
    assert_eq!(answer.verdict, Verdict::Drop);
    assert!(answer.reason.contains("nobody answers a reset"));
}

#[test]
fn a_service_without_backends_rejects_by_default() {
    let answer = answer("udp 10.1.2.3:1 > 192.0.2.11:53");
    assert_eq!((answer.verdict, answer.slot), (Verdict::Reject, None));
    assert!(answer.text().contains("verdict   reject: the service has no backend"), "{}", answer.text());
}

#[test]
fn a_ping_of_a_vip_is_answered_and_never_refused() {
    let ping = answer("icmp 10.1.2.3 > 192.0.2.10");
    assert_eq!((ping.verdict, ping.backend, ping.flow_hash), (Verdict::Answer, None, None));
    assert_eq!(answer("icmp 2001:db8::1 > 2001:db8:100::10").verdict, Verdict::Answer);
    let unassigned = answer("icmp 10.1.2.3 > 192.0.2.99");
    assert_eq!(unassigned.verdict, Verdict::Drop, "{}", unassigned.text());
    assert!(unassigned.reason.contains("nobody answers ICMP so"));
    assert_eq!(answer("icmp 10.1.2.3 > 198.51.100.1").verdict, Verdict::Pass);
}

#[test]
fn an_icmp_error_goes_where_its_flow_goes_whoever_sends_it() {
    let flow = answer("tcp 10.1.2.3:12345 > 192.0.2.10:80 ack");
    let error = answer("icmp 203.0.113.1 > 192.0.2.10 too-big tcp 192.0.2.10:80 > 10.1.2.3:12345");
    assert_eq!(error.verdict, Verdict::Forward);
    assert_eq!((error.flow_hash, error.backend), (flow.flow_hash, flow.backend));
    assert_eq!(error.outer_source, flow.outer_source);
    let strange = answer("icmp 203.0.113.1 > 192.0.2.99 expired udp 192.0.2.99:81 > 10.1.2.3:12345");
    assert_eq!(strange.verdict, Verdict::Drop);
}

#[test]
fn a_fragment_goes_where_its_packet_goes_and_is_never_refused() {
    let whole = answer("tcp 10.1.2.3:12345 > 192.0.2.10:80 ack");
    let first = answer("tcp 10.1.2.3:12345 > 192.0.2.10:80 ack first-fragment id 7");
    assert_eq!((first.verdict, first.backend), (Verdict::Forward, whole.backend));
    let later = answer("tcp 10.66.1.1:12345 > 192.0.2.10:80 later-fragment");
    assert_eq!(later.verdict, Verdict::Forward, "source ranges were looked at with the first");
    assert!(later.text().contains("if that came at most 30 seconds before"), "{}", later.text());
    assert_eq!(answer("udp 10.1.2.3:1 > 192.0.2.11:53 first-fragment").verdict, Verdict::Drop);
}

#[test]
fn a_length_is_shown_as_it_is_in_the_tunnel() {
    let v4 = answer("tcp 10.1.2.3:12345 > 192.0.2.10:80 length 1500").text();
    assert!(v4.contains("size      1500 bytes, 1520 in the tunnel; whether that fits"), "{v4}");
    let v6 = answer("tcp [2001:db8::1]:12345 > [2001:db8:100::10]:80 length 1500").text();
    assert!(v6.contains("1500 bytes, 1540 in the tunnel"), "{v6}");
    assert!(!answer("tcp 10.1.2.3:12345 > 192.0.2.10:80").text().contains("size"));
}

#[test]
fn a_pods_packet_has_its_egress_policy() {
    let policy = r#"
[[nodes]]
name = "gw-1"
addresses = ["192.168.33.11"]

[[egress]]
name = "legacy-db"
sources = ["10.244.0.0/16"]
destinations = ["192.168.33.13/32"]
ips = ["192.168.33.100"]
gateways = [{ node = "gw-1" }]

[[egress]]
name = "nobody"
sources = ["10.244.9.0/24"]
destinations = ["192.168.33.13/32"]
ips = ["192.168.33.101"]
gateways = []
"#;
    let config =
        netd_schema::parse("desired.toml", format!("version = 1\n{policy}").as_bytes()).unwrap().config;
    let answer = |packet: &str| explain(&config, &packet.parse().unwrap()).unwrap();
    let taken = answer("tcp 10.244.0.5:4242 > 192.168.33.13:443");
    assert_eq!((taken.verdict, taken.policy.as_deref()), (Verdict::Translate, Some("legacy-db")));
    assert_eq!(taken.reason, "leaves node gw-1 as 192.168.33.100");
    let dropped = answer("udp 10.244.9.5:4242 > 192.168.33.13:443");
    assert_eq!((dropped.verdict, dropped.reason.as_str()), (Verdict::Drop, "the policy has no gateway"));
    // Nodes are not taken.
    let passed = answer("icmp 10.244.0.5 > 192.168.33.11");
    assert_eq!((passed.verdict, passed.policy), (Verdict::Pass, None));
}
