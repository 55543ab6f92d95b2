//! The words of `[bgp]` in every combination: what is accepted keeps what the model and the JSON Schema promise.

#![allow(clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod corpus;

use corpus::{Verdict, schema_says};
use netd_schema::{Announced, Bgp, BgpPeer, Config, Family, Gobgpd, json_schema, parse};
use proptest::prelude::*;
use std::fmt::Write as _;
use std::time::Duration;

/// Keys, each with some of the values that it may and may not have.
type Keys = &'static [(&'static str, &'static [&'static str])];

const BGP: Keys = &[
    ("router_id", &["\"10.0.0.11\"", "\"0.0.0.0\"", "\"::1\""]),
    ("listen_port", &["179", "1179", "0"]),
    (
        "gobgpd",
        &[
            "\"managed\"",
            "\"unix:///run/g.sock\"",
            "\"http://[::1]:50051\"",
            "\"https://b:1\"",
            "\"http://b:1\"",
        ],
    ),
    (
        "tls",
        &[
            "{ ca = \"/ca\" }",
            "{ ca = \"/ca\", certificate = \"/c\", key = \"/k\" }",
            "{ ca = \"/ca\", key = \"/k\" }",
        ],
    ),
    ("on_exit", &["\"keep\"", "\"withdraw\""]),
    ("hold_down", &["\"0s\"", "\"5s\"", "\"1h\"", "\"61m\""]),
    ("floor", &["0", "50", "100", "101"]),
    ("announce", &["[]", "[\"vips\"]", "[\"pod-cidrs\", \"vips\"]", "[\"egress-ips\"]"]),
];

const PEER: Keys = &[
    ("name", &["\"tor-1\"", "\"Tor\""]),
    ("port", &["179", "65536"]),
    ("password_file", &["\"/etc/p\"", "\"p\"", "\"/etc/\""]),
    ("hold", &["\"0s\"", "\"1s\"", "\"3s\"", "\"90s\"", "\"65535s\"", "\"65536s\""]),
    ("keepalive", &["\"1s\"", "\"30s\"", "\"0s\""]),
    ("connect_retry", &["\"1s\"", "\"10s\"", "\"500ms\""]),
    ("multihop_ttl", &["1", "255", "0"]),
    ("ttl_security", &["true", "false"]),
    ("source", &["\"10.0.0.11\"", "\"2001:db8::11\"", "\"10.0.0.1\""]),
    ("families", &["[\"ipv4\"]", "[\"ipv6\", \"ipv4\"]", "[]"]),
    ("extended_next_hop", &["true", "false"]),
    ("graceful_restart", &["true", "false", "{}", "{ restart = \"60s\" }", "{ restart = \"4096s\" }"]),
    ("bfd", &["{}", "{ transmit = \"300ms\", receive = \"300ms\", multiplier = 3 }", "{ multiplier = 51 }"]),
    ("passive", &["true", "false"]),
    ("import", &["\"none\"", "{ table = 100 }", "{ table = 100, default_route = true, max = 100000 }"]),
];

const ANNOUNCEMENT: Keys = &[
    ("what", &["[\"vips\"]", "[\"pod-cidrs\"]", "[\"pod-cidrs\", \"vips\"]", "[]"]),
    ("services", &["[\"web\"]", "[\"dns\"]"]),
    ("peers", &["[\"10.0.0.1\"]", "[\"2001:db8::1\"]", "[\"nobody\"]"]),
    ("communities", &["[\"64512:100\", \"no-export\"]", "[\"no-export\", \"65535:65281\"]", "[\"1\"]"]),
    ("large_communities", &["[\"64512:1:2\"]", "[\"4294000177:1:2\"]"]),
    ("local_preference", &["0", "4294967295", "-1"]),
    ("med", &["50"]),
    ("prepend", &["1", "10", "0"]),
    ("aggregate", &["{ ipv4 = 24, ipv6 = 64 }", "{ ipv4 = 32 }", "{}"]),
];

const WEB: &str = "[[services]]\nname = \"web\"\nvips = [\"192.0.2.10\"]\nports = [{ protocol = \"tcp\", port = 80 }]\n\
    backends = [{ address = \"10.1.0.2\" }]\n";

fn file(bgp: &str, peer: &str, announcement: &str) -> String {
    format!(
        "version = 1\n{WEB}[bgp]\nasn = 64512\n{bgp}\n[[bgp.peers]]\naddress = \"10.0.0.1\"\nasn = 64513\n{peer}\n\
         [[bgp.peers]]\naddress = \"2001:db8::1\"\nasn = 64512\n[[bgp.announcements]]\n{announcement}\n"
    )
}

fn config(text: &str) -> Config {
    parse("test.toml", text.as_bytes()).unwrap_or_else(|found| panic!("{found}\n{text}")).config
}

fn bgp(text: &str) -> Bgp {
    config(text).bgp.expect("a [bgp]")
}

#[test]
fn defaults_that_are_written_out_change_nothing() {
    let schema: serde_json::Value = serde_json::from_str(&json_schema()).expect("JSON");
    let written = |table: &str| {
        let mut text = String::new();
        for (key, of) in schema["$defs"][table]["properties"].as_object().expect("a table of the schema") {
            if let Some(default) = of.get("default").filter(|default| **default != serde_json::json!([])) {
                let _ = writeln!(text, "{key} = {default}");
            }
        }
        text
    };
    let full = file(&written("Bgp"), &written("BgpPeer"), &written("Announcement"));
    assert!(full.lines().count() > file("", "", "").lines().count() + 10, "{full}");
    assert_eq!(config(&file("", "", "")), config(&full));
    let restart =
        |word: &str| bgp(&file("", &format!("graceful_restart = {word}"), "")).peers[0].graceful_restart;
    assert_eq!(restart("true"), restart(&format!("{{ {} }}", written("Restart").trim())));
    let bfd = |word: &str| bgp(&file("", &format!("bfd = {word}"), "")).peers[0].bfd;
    assert_eq!(bfd("{}"), bfd(&format!("{{ {} }}", written("Bfd").trim().replace('\n', ", "))));
}

#[test]
fn a_session_exchanges_the_family_of_its_addresses_unless_it_is_told_more() {
    let peers = bgp(&file("", "", "")).peers;
    assert_eq!([&peers[0].families, &peers[1].families], [&vec![Family::Ipv4], &vec![Family::Ipv6]]);
    let both = file("", "", "")
        .replace("asn = 64512\n[[bgp.ann", "asn = 64512\nextended_next_hop = true\n[[bgp.ann");
    assert_eq!(bgp(&both).peers[1].families, [Family::Ipv4, Family::Ipv6]);
}

#[test]
fn without_a_keepalive_time_it_is_a_third_of_the_hold_time() {
    let keepalive =
        |hold: &str| bgp(&file("", &format!("hold = \"{hold}\""), "")).peers[0].keepalive.as_secs();
    assert_eq!([keepalive("90s"), keepalive("3s"), keepalive("4s"), keepalive("0s")], [30, 1, 1, 0]);
}

#[test]
fn a_rule_names_a_peer_by_its_name_or_its_address() {
    let rule = |peers: &str| {
        let text = file("", "name = \"tor-1\"", &format!("peers = {peers}"));
        bgp(&text).announcements[0].peers.clone()
    };
    assert_eq!(rule("[\"10.0.0.1\"]"), ["tor-1"]);
    assert_eq!(rule("[\"tor-1\", \"10.0.0.1\"]"), ["tor-1"]);
    assert_eq!(rule("[\"2001:DB8:0::1\"]"), ["2001:db8::1"]);
}

#[test]
fn a_community_has_one_meaning_however_it_is_written() {
    let shown = |word: &str| {
        let text = file("", "", &format!("communities = [\"{word}\"]"));
        bgp(&text).announcements[0].communities[0].to_string()
    };
    for (written, expected) in [
        ("64512:100", "64512:100"),
        ("65535:65281", "no-export"),
        ("no-export", "no-export"),
        ("local-as", "no-export-subconfed"),
        ("0:0", "0:0"),
    ] {
        assert_eq!(shown(written), expected);
    }
}

/// Some of the keys, each with one of its values.
fn lines(keys: Keys) -> impl Strategy<Value = String> {
    let line = |(key, values): &(&'static str, &'static [&'static str])| {
        let key = *key;
        prop::option::weighted(0.25, prop::sample::select(*values))
            .prop_map(move |value| value.map(|value| format!("{key} = {value}\n")).unwrap_or_default())
    };
    keys.iter().map(line).collect::<Vec<_>>().prop_map(|lines| lines.concat())
}

/// What the model says of itself.
fn keeps_its_promises(bgp: &Bgp) {
    assert!(bgp.asn > 0 && bgp.floor <= 100 && bgp.hold_down <= Duration::from_secs(3600));
    assert!(bgp.router_id.is_none_or(|id| !id.is_unspecified()));
    assert!(bgp.announce.is_sorted() && bgp.peers.is_sorted_by_key(|peer| peer.address));
    match &bgp.gobgpd {
        Gobgpd::Managed => {}
        Gobgpd::Unix(path) => assert!(path.is_absolute()),
        Gobgpd::Http(address) => assert!(address.ip().is_loopback() && address.port() > 0),
        Gobgpd::Https { tls, .. } => assert!(tls.ca.is_absolute()),
    }
    bgp.peers.iter().for_each(|peer| is_a_peer(peer, bgp));
    for rule in &bgp.announcements {
        assert!(!rule.what.is_empty() && rule.communities.is_sorted() && rule.large_communities.is_sorted());
        assert!(rule.peers.iter().all(|name| bgp.peers.iter().any(|peer| peer.name == *name)));
        assert!(rule.services.is_empty() || rule.what.contains(&Announced::Vips));
        assert!(rule.prepend.is_none_or(|count| (1..=10).contains(&count)));
        assert!(rule.aggregate.ipv4.is_none_or(|length| (8..32).contains(&length)));
    }
}

fn is_a_peer(peer: &BgpPeer, bgp: &Bgp) {
    assert!(peer.asn > 0 && peer.port > 0 && !peer.name.is_empty());
    let seconds = peer.hold.as_secs();
    assert!(peer.hold.subsec_nanos() == 0 && (seconds == 0 || (3..=65_535).contains(&seconds)));
    assert!(if seconds == 0 { peer.keepalive.is_zero() } else { peer.keepalive < peer.hold });
    assert!(!peer.families.is_empty() && peer.families.is_sorted());
    assert!(
        peer.source.is_none_or(|source| source.is_ipv4() == peer.address.is_ipv4() && source != peer.address)
    );
    assert!(!peer.extended_next_hop || (peer.address.is_ipv6() && peer.families.contains(&Family::Ipv4)));
    assert!(peer.multihop_ttl.is_none() || !(peer.ttl_security || peer.bfd.is_some()));
    assert!(!peer.passive || bgp.listen_port.is_some());
    assert!(peer.graceful_restart.is_none_or(|time| (1..=4_095).contains(&time.as_secs())));
    assert!(peer.password_file.as_ref().is_none_or(|path| path.is_absolute()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_accepted_keeps_its_promises(top in lines(BGP), peer in lines(PEER), rule in lines(ANNOUNCEMENT)) {
        let text = file(&top, &peer, &rule);
        match parse("test.toml", text.as_bytes()) {
            Ok(parsed) => {
                keeps_its_promises(parsed.config.bgp.as_ref().expect("a [bgp]"));
                prop_assert_eq!(schema_says(&text), Verdict::Accepts, "{}", text);
            }
            Err(found) => prop_assert!(found.list.iter().all(|it| !it.labels.is_empty()), "{}", found),
        }
    }

    /// For every key that is a string, an editor never marks what the program accepts.
    #[test]
    fn any_text_is_taken_or_refused_and_the_schema_knows(
        word in prop_oneof![
            "[0-9]{1,6}(ms|s|m|h)?",
            "[0-9]{1,5}:[0-9]{1,5}(:[0-9]{1,11})?",
            "(unix:/{0,3}|https?://|)[a-z0-9.:/\\[\\]]{0,12}(:[0-9]{1,6})?",
            "/?[ -~]{0,12}",
            "(no-|graceful-)[a-z]{0,10}",
            "\\PC{0,8}",
        ],
    ) {
        let quoted = toml::Value::String(word).to_string();
        let mut files = Vec::new();
        for key in ["router_id", "gobgpd", "hold_down", "on_exit"] {
            files.push(file(&format!("{key} = {quoted}"), "", ""));
        }
        for key in ["name", "password_file", "hold", "connect_retry", "source", "import"] {
            files.push(file("", &format!("{key} = {quoted}"), ""));
        }
        for key in ["communities", "large_communities", "peers", "what"] {
            files.push(file("", "", &format!("{key} = [{quoted}]")));
        }
        for text in files {
            if let Ok(parsed) = parse("test.toml", text.as_bytes()) {
                keeps_its_promises(parsed.config.bgp.as_ref().expect("a [bgp]"));
                prop_assert_eq!(schema_says(&text), Verdict::Accepts, "{}", text);
            }
        }
    }
}
