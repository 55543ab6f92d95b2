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
