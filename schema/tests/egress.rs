//! What egress policies mean, and that many of them are read in time.
#![allow(clippy::unwrap_used, reason = "tests")]

use netd_schema::{
    Config, EGRESS_PAIRS_MAX, Egress, EgressAnnounce, EgressGateway, Family, OnNoGateway, PortRange, parse,
};
use std::fmt::Write as _;

const NODES: &str = "version = 1\n\
    [[nodes]]\nname = \"gw-2\"\n\
    [[nodes]]\nname = \"gw-1\"\n\
    [egress_groups]\noffice = [\"10.9.0.0/16\", \"10.244.0.0/16\"]\n";

fn config(more: &str) -> Config {
    parse("test.toml", format!("{NODES}{more}").as_bytes()).unwrap().config
}

#[test]
fn groups_are_their_prefixes_and_what_is_not_said_is_filled_in() {
    let found = config(
        "[[egress]]\nname = \"legacy\"\nsources = [\"office\", \"10.244.0.0/16\", \"10.8.0.0/16\"]\n\
         ips = [\"192.0.2.7\"]\ngateways = [{ node = \"gw-2\", priority = 7 }, { node = \"gw-1\" }]\n",
    );
    let gateway = |node: &str, priority| EgressGateway { node: node.into(), priority };
    let networks = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    let expected = Egress {
        name: "legacy".into(),
        sources: networks(&["10.8.0.0/16", "10.9.0.0/16", "10.244.0.0/16"]),
        destinations: networks(&["0.0.0.0/0"]),
        exclude: Vec::new(),
        ips: vec!["192.0.2.7".parse().unwrap()],
        pool: None,
        gateways: vec![gateway("gw-1", 0), gateway("gw-2", 7)],
        on_no_gateway: OnNoGateway::Drop,
        announce: vec![EgressAnnounce::Arp],
        ports: PortRange { first: 32_768, last: 65_535 },
        in_cluster: false,
    };
    assert_eq!(found.egress, [expected]);
}

#[test]
fn with_a_pool_and_without_destinations_a_policy_is_for_every_family_of_its_sources() {
    let pool = "[[ip_pools]]\nname = \"out\"\nranges = [\"192.0.2.0/28\", \"2001:db8:33::/64\"]\n";
    let policy = |sources: &str| {
        let policy =
            format!("[[egress]]\nname = \"p\"\nsources = [{sources}]\npool = \"out\"\ngateways = []\n");
        config(&format!("{pool}{policy}")).egress.remove(0)
    };
    let both = policy("\"office\", \"fd00:9::/48\"");
    assert_eq!(both.destinations, ["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()]);
    assert!(Family::BOTH.into_iter().all(|family| both.takes(family)));
    let one = policy("\"office\"");
    assert!(one.takes(Family::Ipv4) && !one.takes(Family::Ipv6) && one.ips.is_empty());
}

#[test]
fn pools_from_which_only_egress_policies_take_are_not_the_load_balancers() {
    let pools = "[[ip_pools]]\nname = \"out\"\nranges = [\"192.0.2.0/28\"]\n\
                 [[ip_pools]]\nname = \"both\"\nranges = [\"192.0.2.16/28\"]\n";
    let policy = |pool: &str| {
        format!("[[egress]]\nname = \"{pool}\"\nsources = [\"office\"]\npool = \"{pool}\"\ngateways = []\n")
    };
    let service =
        "[[services]]\nname = \"web\"\npool = \"both\"\nports = [{ protocol = \"tcp\", port = 80 }]\n";
    let names =
        |text: &str| -> Vec<String> { config(text).balanced_pools().map(|pool| pool.name.clone()).collect() };
    assert_eq!(names(&format!("{pools}{}{}", policy("out"), policy("both"))), [""; 0]);
    assert_eq!(names(&format!("{pools}{}{}{service}", policy("out"), policy("both"))), ["both"]);
    assert_eq!(names(pools), ["both", "out"]);
}

#[test]
fn an_empty_announcement_is_not_the_default_one() {
    let found = config(
        "[[egress]]\nname = \"legacy\"\nsources = [\"office\"]\nips = [\"192.0.2.7\"]\nannounce = []\ngateways = []\n",
    );
    assert!(found.egress.iter().all(|policy| policy.announce.is_empty()));
}

#[test]
fn too_many_pairs_are_refused_whatever_they_are() {
    let mut sources = String::new();
    for number in 0..EGRESS_PAIRS_MAX / 64 {
        let _ = write!(sources, "\"10.{}.{}.0/24\", ", number / 256, number % 256);
    }
    let destinations: String = (0..65).map(|number| format!("\"192.0.2.{number}/32\", ")).collect();
    let text = format!(
        "{NODES}[[egress]]\nname = \"legacy\"\nsources = [{sources}]\ndestinations = [{destinations}]\n\
         ips = [\"192.0.2.200\"]\ngateways = [{{ node = \"gw-1\" }}]\n"
    );
    let refused = parse("test.toml", text.as_bytes()).unwrap_err();
    let messages: Vec<&str> = refused.list.iter().map(|it| it.message.as_str()).collect();
    assert_eq!(messages, ["the egress policies are too many for the maps of the kernel programs"]);
}
