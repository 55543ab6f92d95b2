//! What becomes of Cilium's egress policies.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::*;

/// The policy of Cilium's announcement.
const ANNOUNCED: &str = r#"
apiVersion: cilium.io/v2alpha1
kind: CiliumEgressNATPolicy
metadata:
  name: egress-sample
spec:
  egress:
  - podSelector:
      matchLabels:
        org: empire
        class: mediabot
        io.kubernetes.pod.namespace: default
  destinationCIDRs:
  - 192.168.33.13/32
  egressSourceIP: "192.168.33.100"
"#;

const TODAY: &str = r#"
apiVersion: cilium.io/v2
kind: CiliumEgressGatewayPolicy
metadata:
  name: legacy
spec:
  selectors:
  - podSelector:
      matchLabels:
        app: legacy
  destinationCIDRs:
  - "0.0.0.0/0"
  excludedCIDRs:
  - "10.0.0.1/8"
  egressGateway:
    nodeSelector:
      matchLabels:
        kubernetes.io/hostname: gw-1
    egressIP: 203.0.113.7
"#;

fn answers(lists: [&[(&str, &str)]; 3]) -> Answers {
    let map = |list: &[(&str, &str)]| {
        let one = |(name, all): &(&str, &str)| {
            ((*name).to_owned(), all.split(',').map(ToOwned::to_owned).collect())
        };
        list.iter().map(one).collect()
    };
    let [sources, gateways, ips] = lists.map(map);
    Answers { sources, gateways, ips }
}

fn import(texts: &[&str], answers: &Answers) -> Result<String, String> {
    let file = |(at, text): (usize, &&str)| (format!("{at}.yaml"), (*text).to_owned());
    translate(&texts.iter().enumerate().map(file).collect::<Vec<_>>(), answers)
}

fn accepted(text: &str) -> netd_schema::Config {
    let parsed = netd_schema::parse("import.toml", text.as_bytes());
    parsed.unwrap_or_else(|found| panic!("{found}\n{text}")).config
}

#[test]
fn the_announcements_policy_is_translated_with_what_was_said_of_its_pods_and_gateway() {
    let said = answers([&[("egress-sample", "10.244.0.0/16")], &[("egress-sample", "gw-1")], &[]]);
    let text = import(&[ANNOUNCED], &said).unwrap();
    let config = accepted(&text);
    let policy = &config.egress[0];
    assert_eq!(policy.sources, ["10.244.0.0/16".parse::<IpNetwork>().unwrap()]);
    assert_eq!(policy.destinations, ["192.168.33.13/32".parse::<IpNetwork>().unwrap()]);
    assert_eq!(policy.ips, ["192.168.33.100".parse::<IpAddr>().unwrap()]);
    assert_eq!(policy.gateways[0].node, "gw-1");
    assert!(text.contains("# selected: {\"podSelector\""), "{text}");
}

#[test]
fn what_was_not_said_is_asked_for_with_its_place_and_all_at_once() {
    let why = import(&[ANNOUNCED], &Answers::default()).unwrap_err();
    let expected = "\
0.yaml: document 1, policy egress-sample: spec.egress selects pods by labels, which netd does not know: say which prefixes they have, by --sources egress-sample=PREFIX,…
0.yaml: document 1, policy egress-sample: it does not say on which node its egress address is: say which they are, by --gateways egress-sample=NODE,…";
    assert_eq!(why, expected);
}

#[test]
fn policies_of_today_come_from_several_documents_and_lists() {
    let list = format!(
        "apiVersion: v1\nkind: List\nitems:\n- {}\n",
        TODAY.trim().replace("legacy", "other").replace("203.0.113.7", "203.0.113.8").replace('\n', "\n  ")
    );
    let documents = format!("---{TODAY}---\n{list}");
    let said = answers([&[("legacy", "10.244.1.0/24"), ("other", "10.244.2.7")], &[], &[]]);
    let config = accepted(&import(&[&documents], &said).unwrap());
    let names: Vec<&str> = config.egress.iter().map(|policy| policy.name.as_str()).collect();
    assert_eq!(names, ["legacy", "other"]);
    assert_eq!(config.egress[0].exclude, ["10.0.0.0/8".parse::<IpNetwork>().unwrap()]);
    assert_eq!(config.egress[1].sources, ["10.244.2.7/32".parse::<IpNetwork>().unwrap()]);
    assert_eq!(config.nodes.len(), 1);
}

#[test]
fn several_gateways_stand_by_for_each_other_and_their_other_addresses_are_said_to_be_lost() {
    let several = TODAY.replace(
        "  egressGateway:\n    nodeSelector:\n      matchLabels:\n        kubernetes.io/hostname: gw-1\n    egressIP: 203.0.113.7\n",
        "  egressGateways:\n  - nodeSelector: {matchLabels: {kubernetes.io/hostname: gw-1}}\n    egressIP: 203.0.113.7\n  \
         - nodeSelector: {matchLabels: {kubernetes.io/hostname: gw-2}}\n    egressIP: 203.0.113.8\n",
    );
    let said = answers([&[("legacy", "10.244.0.0/16")], &[], &[]]);
    let text = import(&[&several], &said).unwrap();
    let policy = accepted(&text).egress.remove(0);
    assert_eq!((policy.gateways.len(), policy.ips.len()), (2, 1));
    assert!(
        text.contains("# not translated: each gateway has an address of its own (203.0.113.7, 203.0.113.8)"),
        "{text}"
    );
    assert!(text.contains("# Cilium spreads the pods"), "{text}");
}

#[test]
fn a_device_instead_of_an_address_and_a_node_by_its_labels_are_asked_for() {
    let by_device =
        TODAY.replace("egressIP: 203.0.113.7", "interface: eth1").replace("kubernetes.io/hostname", "zone");
    let sources: &[(&str, &str)] = &[("legacy", "10.244.0.0/16")];
    let why = import(&[&by_device], &answers([sources, &[], &[]])).unwrap_err();
    assert!(
        why.contains("the first one of the device eth1: say which that is to be, by --ips legacy=ADDRESS,…"),
        "{why}"
    );
    assert!(
        why.contains("by more than their names: say which they are, by --gateways legacy=NODE,…"),
        "{why}"
    );
    let said = answers([sources, &[("legacy", "gw-1,gw-2")], &[("legacy", "203.0.113.9,2001:db8::9")]]);
    assert!(import(&[&by_device], &said).unwrap().contains("ips = [\"203.0.113.9\", \"2001:db8::9\"]"));
}

#[test]
fn what_is_no_policy_is_refused_with_its_place() {
    let refused = |text: &str| import(&[text], &Answers::default()).unwrap_err();
    assert_eq!(refused(""), "there is no egress policy in it");
    assert_eq!(refused("- a\n- b\n"), "0.yaml: document 1: it is not a table of keys");
    let pod = "kind: Pod\nmetadata: {name: p}\nspec: {}\n";
    assert!(refused(pod).contains("document 1, policy p: `Pod` is neither"), "{}", refused(pod));
    assert!(refused("kind: CiliumEgressNATPolicy\n").contains("no `metadata.name` or no `spec`"));
    assert!(refused("a: [").starts_with("0.yaml: "));
    let other = answers([
        &[("egress-sample", "10.244.0.0/16"), ("misspelt", "10.0.0.0/8")],
        &[("egress-sample", "a")],
        &[],
    ]);
    assert_eq!(
        import(&[ANNOUNCED], &other).unwrap_err(),
        "--sources misspelt: the files have no policy of this name"
    );
}

#[test]
fn hostile_files_neither_panic_nor_leave_their_line() {
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
                d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n";
    assert!(import(&[bomb], &Answers::default()).is_err());
    let deep = format!("a: {}1{}", "[".repeat(50_000), "]".repeat(50_000));
    assert!(import(&[&deep], &Answers::default()).is_err());
    let odd = "kind: CiliumEgressNATPolicy\nmetadata: {name: \"x\\n[bgp]\\nasn = 1\"}\n\
               spec: {egress: 7, destinationCIDRs: [\"0.0.0.0/0\\\"]\\n\"], egressSourceIP: \"1.2.3.4\\nb\"}\n";
    let name = "x\n[bgp]\nasn = 1";
    let text = import(&[odd], &answers([&[(name, "10.0.0.0/8")], &[(name, "gw")], &[]])).unwrap();
    assert!(text.lines().all(|line| !line.starts_with("[bgp]") && !line.starts_with("asn")), "{text}");
    assert!(netd_schema::parse("t", text.as_bytes()).is_err());
    let why = import(&[odd], &Answers::default()).unwrap_err();
    assert_eq!(why.lines().count(), 2, "{why}");
}

#[test]
fn a_list_that_holds_something_else_is_refused_and_not_shortened() {
    let said = answers([&[("legacy", "10.244.0.0/16")], &[], &[]]);
    for (good, bad) in [("  - \"10.0.0.1/8\"", "  - {}"), ("  - \"0.0.0.0/0\"", "  - 7")] {
        let why = import(&[&TODAY.replace(good, bad)], &said).unwrap_err();
        assert!(why.ends_with("CIDRs` is not a list of prefixes"), "{why}");
    }
    let without = TODAY.replace("  destinationCIDRs:\n  - \"0.0.0.0/0\"\n", "");
    let text = import(&[&without], &said).unwrap();
    assert!(netd_schema::parse("t", text.as_bytes()).is_err(), "{text}");
    let list = "kind: List\nitems: [7]\n";
    assert_eq!(
        import(&[list], &Answers::default()).unwrap_err(),
        "0.yaml: document 1, item 1: it is not a table of keys"
    );
}
