//! `[notrack]`: what the kernel tracks of pods' packets, rules of both kinds, and what others have beside them.
#![allow(clippy::unwrap_used, reason = "tests")]

use netd_integration_tests::Lab;
use netd_integration_tests::mesh::{Mesh, addresses};
use netd_integration_tests::netd::Said;
use std::collections::BTreeSet;

/// Somebody else's rules, for which the kernel tracks connections.
const FOREIGN: &str = "table inet other {\n\tchain forward {\n\t\ttype filter hook forward priority filter; policy accept;\n\
    \t\tct state established,related counter packets 0 bytes 0 accept\n\t}\n}\n";

/// Nodes a and b of a mesh, with a file of these two only.
struct World(Mesh);

impl World {
    fn new(lab: &Lab) -> Self {
        Self(Mesh::new(lab))
    }

    /// Has both nodes be as a file with this `[notrack]` says; without it, with none.
    fn apply(&self, notrack: Option<&str>) {
        for node in &self.0.nodes[..2] {
            node.site.write(&file(notrack));
            node.site.apply();
            assert_eq!(node.site.netd(&["plan"]).code, Some(0));
        }
    }

    /// On node a.
    fn run(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.0.nodes[0].machine.command(program).args(arguments).output().unwrap();
        assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn nft(&self, command: &str) -> String {
        self.run("nft", &[command])
    }

    /// The table of node a's netd.
    fn table(&self) -> String {
        format!("inet netd_{}", self.0.nodes[0].site.instance().replace('-', "_"))
    }

    fn plan(&self) -> Said {
        self.0.nodes[0].site.netd(&["plan"])
    }

    /// UDP, TCP and pings between the pods of a and b, in both families.
    fn talk(&self) {
        self.0.assert_reach(&[(0, 1), (1, 0)]);
        for address in addresses(1) {
            let mut ping = self.0.nodes[0].pod.command("ping");
            let said = ping.args(["-c", "1", "-W", "10", &address.to_string()]).output().unwrap();
            assert!(said.status.success(), "{said:?}");
        }
    }

    /// The protocols and families of what node a tracks of the pods.
    fn tracked(&self) -> BTreeSet<(String, String)> {
        let table = self.run("cat", &["/proc/self/net/nf_conntrack"]);
        let of_pods = table.lines().filter(|line| line.contains("=10.244.") || line.contains("=fd00:0244:"));
        let words = of_pods.map(|line| line.split_whitespace().collect::<Vec<_>>());
        words.map(|words| (words[0].to_owned(), words[2].to_owned())).collect()
    }
}

fn file(notrack: Option<&str>) -> String {
    let mut text = "version = 1\n".to_owned();
    for (name, number) in [("a", 1), ("b", 2)] {
        text += &format!(
            "[[nodes]]\nname = \"{name}\"\naddresses = [\"10.0.0.{number}\", \"2001:db8::{number}\"]\n\
             pod_cidrs = [\"10.244.{number}.0/24\", \"fd00:244:{number}::/64\"]\n"
        );
    }
    text + &notrack.map(|lines| format!("[notrack]\n{lines}\n")).unwrap_or_default()
}

fn everything() -> BTreeSet<(String, String)> {
    let all = [("ipv4", "tcp"), ("ipv4", "udp"), ("ipv4", "icmp"), ("ipv6", "tcp"), ("ipv6", "udp")];
    let all = all.into_iter().chain([("ipv6", "icmpv6")]);
    all.map(|(family, protocol)| (family.to_owned(), protocol.to_owned())).collect()
}

#[test]
fn pods_packets_of_every_protocol_and_family_are_tracked_without_it_and_not_with_it() {
    let Some(lab) = Lab::new() else { return };
    for backend in ["nft", "iptables"] {
        let world = World::new(&lab);
        world.nft(FOREIGN);
        world.apply(Some(&format!("backend = \"{backend}\"")));
        world.talk();
        assert_eq!(world.tracked(), BTreeSet::new(), "{backend}");
        world.apply(None);
        world.talk();
        assert_eq!(world.tracked(), everything(), "{backend}");
    }
}

#[test]
fn a_plan_names_the_prefixes_and_an_edit_changes_elements_only() {
    let Some(lab) = Lab::new() else { return };
    let world = World::new(&lab);
    let site = &world.0.nodes[0].site;
    site.write(&file(Some("cidrs = [\"10.244.0.0/24\", \"10.244.1.0/24\", \"fd00:244::/32\"]")));
    let plan = world.plan();
    let line = "+ notrack nft  packets from and to 3 prefixes are not tracked, by nftables";
    assert!(plan.code == Some(2) && plan.out.contains(line), "{plan:?}");
    site.apply();
    let list = |elements: bool| {
        let text = world.run("nft", &["-a", "list", "table", "inet", &world.table()[5..]]);
        let of_elements = |line: &&str| line.contains("elements = ") || line.contains("10.244.");
        text.lines().filter(|line| elements == of_elements(line)).collect::<Vec<_>>().join("\n")
    };
    let before = list(false);
    assert!(before.contains(&format!("comment \"netd:{}\"", site.instance())), "{before}");
    assert!(list(true).contains("10.244.0.0/24, 10.244.1.0/24"), "{}", list(true));

    site.write(&file(Some("cidrs = [\"10.244.1.0/24\", \"10.244.2.0/24\", \"fd00:244::/32\"]")));
    let plan = world.plan();
    let names = ["~ notrack nft", "10.244.0.0/24", "10.244.2.0/24"];
    assert!(names.iter().all(|name| plan.out.contains(name)), "{plan:?}");
    assert!(!plan.out.contains("fd00:244::/32"), "{plan:?}");
    site.apply();
    assert_eq!(list(false), before, "the table, its chains and rules are the same ones");
    assert!(list(true).contains("10.244.1.0/24, 10.244.2.0/24"), "{}", list(true));
    assert_eq!(world.plan().code, Some(0));
}

#[test]
fn k30_a_table_that_somebody_edits_or_removes_is_put_right() {
    let Some(lab) = Lab::new() else { return };
    let world = World::new(&lab);
    world.apply(Some(""));
    let table = world.table();
    let (name, whole) = (table.replace("inet ", ""), world.nft(&format!("list table {table}")));
    let edits = [
        "flush ruleset".to_owned(),
        format!("delete table {table}"),
        format!("add rule {table} prerouting ip saddr 10.9.0.0/16 notrack"),
        format!("insert rule {table} output accept"),
        format!("flush chain {table} prerouting"),
        format!("add chain {table} more"),
        format!("add set {table} more {{ type ipv4_addr; }}"),
        format!("add element {table} pods_ipv4 {{ 10.9.0.1-10.9.0.7 }}"),
        format!("add element {table} pods_ipv6 {{ fd00:9::/64 }}"),
        format!("delete element {table} pods_ipv4 {{ 10.244.1.0/24 }}"),
        format!("add chain {table} prerouting {{ policy drop; }}"),
        format!("add table {table} {{ flags dormant; }}"),
    ];
    for edit in edits {
        world.nft(&edit);
        assert_eq!(world.plan().code, Some(2), "{edit}");
        world.0.nodes[0].site.apply();
        assert_eq!(world.nft(&format!("list table inet {name}")), whole, "{edit}");
        assert_eq!(world.plan().code, Some(0), "{edit}");
    }
}

#[test]
fn tables_of_others_stay_as_they_are_and_one_of_netds_name_is_a_conflict() {
    let Some(lab) = Lab::new() else { return };
    let world = World::new(&lab);
    let site = &world.0.nodes[0].site;
    world.nft(FOREIGN);
    world.nft(&format!("add table {}", world.table()));
    let before = world.run("nft", &["-a", "list", "ruleset"]);
    site.write(&file(Some("")));
    let said = site.netd(&["apply"]);
    let reason = format!("a table {} of somebody else", world.table());
    assert!(said.code == Some(1) && format!("{said:?}").contains(&reason), "{said:?}");
    assert_eq!(world.run("nft", &["-a", "list", "ruleset"]), before);

    world.nft(&format!("delete table {}", world.table()));
    site.apply();
    let said = site.netd(&["teardown", "--yes"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let after = world.run("nft", &["list", "ruleset"]);
    assert_eq!(after.trim(), world.nft("list table inet other").trim());
}

#[test]
fn another_kind_of_rules_comes_before_the_old_one_goes_and_foreign_rules_stay() {
    let Some(lab) = Lab::new() else { return };
    let world = World::new(&lab);
    let foreign = ["-t", "raw", "-A", "PREROUTING", "-s", "192.0.2.0/24", "-j", "DROP"];
    world.run("iptables", &foreign);
    let rules = || world.run("iptables", &["-t", "raw", "-S"]);
    let before = rules();
    world.apply(Some(""));
    world.apply(Some("backend = \"iptables\""));
    assert!(world.nft("list tables inet").is_empty());
    let [pre, output] = {
        let instance = &world.0.nodes[0].site.instance();
        let instance = instance.get(..12).unwrap_or(instance);
        [format!("NETD_{instance}_PRE_raw"), format!("NETD_{instance}_OUTPUT_raw")]
    };
    let text = rules();
    for (chain, hook) in [(&pre, "PREROUTING"), (&output, "OUTPUT")] {
        let feeder = format!("-A {hook} -m comment --comment \"netd-feeder: {chain}\" -j {chain}");
        assert!(text.contains(&feeder), "{text}");
        let expected: Vec<String> =
            ["-d 10.244.1.0/24", "-s 10.244.1.0/24", "-d 10.244.2.0/24", "-s 10.244.2.0/24"]
                .map(|what| {
                    format!(
                        "-A {chain} {what} -m comment --comment \"netd: NOTRACK for pod traffic\" -j NOTRACK"
                    )
                })
                .into();
        let own = format!("-A {chain} ");
        let found: Vec<&str> = text.lines().filter(|line| line.starts_with(&own)).collect();
        assert_eq!(found, expected);
    }
    // What somebody removes comes back, in its place.
    world.run("iptables", &["-t", "raw", "-D", &pre, "2"]);
    world.run("ip6tables", &["-t", "raw", "-F", "OUTPUT"]);
    assert_eq!(world.plan().code, Some(2));
    world.0.nodes[0].site.apply();
    assert_eq!(world.plan().code, Some(0));
    assert_eq!(rules(), text);

    world.apply(None);
    assert_eq!(rules(), before);
}

#[test]
fn thousands_of_prefixes_are_one_change() {
    let Some(lab) = Lab::new() else { return };
    let world = World::new(&lab);
    let site = &world.0.nodes[0].site;
    let prefixes: Vec<String> = (0..2000)
        .flat_map(|at| {
            [format!("\"172.{}.{}.0/24\"", 16 + at / 256, at % 256), format!("\"fd00:1:{at:x}::/64\"")]
        })
        .chain(["\"223.0.0.0/8\"".to_owned()])
        .collect();
    site.write(&file(Some(&format!("cidrs = [{}]", prefixes.join(", ")))));
    site.apply();
    assert_eq!(world.plan().code, Some(0));
    site.write(&file(Some(&format!("cidrs = [{}]", prefixes[1000..].join(", ")))));
    site.apply();
    assert_eq!(world.plan().code, Some(0));
}

#[test]
fn without_the_programs_of_iptables_the_status_says_so_and_nft_needs_none() {
    let Some(lab) = Lab::new() else { return };
    let world = World::new(&lab);
    let site = &world.0.nodes[0].site;
    let apply = |notrack: &str| -> Said {
        site.write(&file(Some(notrack)));
        site.netd_under(&["env", "PATH=/nonexistent"], &["apply"]).output().unwrap().into()
    };
    let said = apply("backend = \"iptables\"");
    let reason = "there is no program iptables-save on this node; `notrack.backend = \"nft\"` needs none";
    assert!(said.code == Some(1) && format!("{said:?}").contains("iptables-save"), "{said:?}");
    assert!(said.out.contains(reason) || said.err.contains(reason), "{said:?}");
    let said = apply("");
    assert_eq!(said.code, Some(0), "{said:?}");
}
