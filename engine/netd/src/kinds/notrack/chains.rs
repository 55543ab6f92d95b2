//! The chains of iptables: what they consist of, what `iptables-save` shows of them, and what `iptables-restore` is to do.
//!
//! The rules are those of Cilium's `install-no-conntrack-iptables-rules`, in their order, in chains of netd's own.

use ipnetwork::IpNetwork;
use std::collections::BTreeSet;

/// Each chain of the table, the word by which netd's is called, and whose packets go through it: those that come in, and
/// those of the node itself.
const HOOKS: [(&str, &str); 2] = [("PREROUTING", "PRE"), ("OUTPUT", "OUTPUT")];

/// What stands behind the prefix in each rule.
const BEHIND: &str = "-m comment --comment \"netd: NOTRACK for pod traffic\" -j ";

/// The target, by its older name, and as newer versions show it.
const TARGETS: [&str; 2] = ["NOTRACK", "CT --notrack"];

/// The kernel takes names of 28 bytes.
const INSTANCE_BYTES_MAX: usize = 12;

/// Of a longer name, so much is shown; a number that follows from the whole of it stands for the rest.
const INSTANCE_BYTES_SHOWN: usize = 6;

/// What is found of netd's chains.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Chains(Vec<Chain>);

/// A chain of netd's, and how it is reached.
#[derive(Debug, PartialEq, Eq)]
struct Chain {
    name: String,
    /// The kernel's chain that leads to it.
    hook: &'static str,
    /// Whether it is there.
    exists: bool,
    /// How many rules lead to it.
    feeders: usize,
    /// Its rules; `None` for one that is not netd's.
    rules: Vec<Option<Rule>>,
}

/// A rule: packets to, or from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rule {
    direction: Direction,
    prefix: IpNetwork,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Direction {
    To,
    From,
}

/// The names of an instance's chains.
pub(super) fn names(instance: &str) -> [String; 2] {
    let instance = match instance {
        crate::instance::DEFAULT_NAME => String::new(),
        short if short.len() <= INSTANCE_BYTES_MAX => format!("{short}_"),
        long => {
            let number = xxhash_rust::xxh3::xxh3_64(long.as_bytes()) & 0xf_ffff;
            format!("{}-{number:05x}_", long.get(..INSTANCE_BYTES_SHOWN).unwrap_or_default())
        }
    };
    HOOKS.map(|(_, word)| format!("NETD_{instance}{word}_raw"))
}

impl Chains {
    /// Reads what `iptables-save -t raw` says.
    pub(super) fn read(saved: &str, instance: &str) -> Self {
        let chains = HOOKS.iter().zip(names(instance)).map(|((hook, _), name)| {
            let declared = format!(":{name} ");
            let (own, feeder) = (format!("-A {name} "), format!("-A {hook} {}", feeder(&name)));
            Chain {
                hook,
                exists: saved.lines().any(|line| line.starts_with(&declared)),
                feeders: saved.lines().filter(|line| line.trim_end() == feeder).count(),
                rules: saved.lines().filter_map(|line| line.strip_prefix(&own)).map(Rule::read).collect(),
                name,
            }
        });
        Self(chains.collect())
    }

    /// Whether there is nothing of netd's.
    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|chain| !chain.exists && chain.feeders == 0)
    }

    /// Whose packets are not tracked, and whether all is as it should be for these.
    pub(super) fn prefixes(&self) -> (BTreeSet<IpNetwork>, bool) {
        let first = self.0.first().into_iter();
        let prefixes = first.flat_map(|chain| chain.rules.iter().flatten()).map(|rule| rule.prefix).collect();
        let is_whole = self.script(Some(&prefixes)).is_none();
        (prefixes, is_whole)
    }

    /// What `iptables-restore --noflush` has to do so that the packets of these are not tracked, and of no others;
    /// without any, the chains go. `None` if there is nothing to do.
    pub(super) fn script(&self, wanted: Option<&BTreeSet<IpNetwork>>) -> Option<String> {
        let mut lines = Vec::new();
        for chain in &self.0 {
            match wanted {
                Some(prefixes) => chain.becoming(prefixes, &mut lines),
                None => chain.going(&mut lines),
            }
        }
        (!lines.is_empty()).then(|| format!("*raw\n{}\nCOMMIT\n", lines.join("\n")))
    }
}

impl Chain {
    fn becoming(&self, prefixes: &BTreeSet<IpNetwork>, lines: &mut Vec<String>) {
        let Self { name, hook, exists, feeders, rules } = self;
        let wanted: Vec<Rule> = prefixes.iter().flat_map(|prefix| Rule::both(*prefix)).collect();
        let known: Option<Vec<Rule>> = rules.iter().copied().collect();
        match known.filter(|rules| *exists && is_in_order(rules, &wanted)) {
            Some(rules) => {
                let spare = rules.iter().filter(|rule| !wanted.contains(rule));
                lines.extend(spare.map(|rule| format!("-D {name} {}", rule.text())));
                for (at, rule) in wanted.iter().enumerate().filter(|(_, rule)| !rules.contains(rule)) {
                    lines.push(format!("-I {name} {} {}", at + 1, rule.text()));
                }
            }
            None => {
                // Makes the chain, or empties it, and both come about at once with what follows.
                lines.push(format!(":{name} - [0:0]"));
                lines.extend(wanted.iter().map(|rule| format!("-A {name} {}", rule.text())));
            }
        }
        match feeders {
            0 => lines.push(format!("-I {hook} 1 {}", feeder(name))),
            more => lines.extend((1..*more).map(|_| format!("-D {hook} {}", feeder(name)))),
        }
    }

    fn going(&self, lines: &mut Vec<String>) {
        let Self { name, hook, exists, feeders, rules: _ } = self;
        lines.extend((0..*feeders).map(|_| format!("-D {hook} {}", feeder(name))));
        if *exists {
            lines.extend([format!("-F {name}"), format!("-X {name}")]);
        }
    }
}

/// Whether those that are wanted stand in the order in which they are, each once.
fn is_in_order(found: &[Rule], wanted: &[Rule]) -> bool {
    let places: Vec<Option<usize>> =
        found.iter().map(|rule| wanted.iter().position(|other| other == rule)).collect();
    let unique: BTreeSet<&Rule> = found.iter().collect();
    unique.len() == found.len() && places.iter().flatten().is_sorted()
}

fn feeder(name: &str) -> String {
    format!("-m comment --comment \"netd-feeder: {name}\" -j {name}")
}

impl Rule {
    /// In their order: what is for the prefix, then what is from it.
    fn both(prefix: IpNetwork) -> [Self; 2] {
        [Direction::To, Direction::From].map(|direction| Self { direction, prefix })
    }

    fn text(self) -> String {
        let word = match self.direction {
            Direction::To => "-d",
            Direction::From => "-s",
        };
        format!("{word} {} {BEHIND}{}", self.prefix, TARGETS[0])
    }

    /// `None` for a rule that netd does not make.
    fn read(text: &str) -> Option<Self> {
        let (what, target) = text.trim_end().split_once(BEHIND)?;
        let (word, prefix) = what.trim_end().split_once(' ')?;
        let direction = match word {
            "-d" => Direction::To,
            "-s" => Direction::From,
            _ => return None,
        };
        let prefix = prefix.parse().ok()?;
        TARGETS.contains(&target).then_some(Self { direction, prefix })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn networks(texts: &[&str]) -> BTreeSet<IpNetwork> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// What `iptables-save` shows when these rules are in both chains.
    fn saved(rules: &str) -> String {
        let mut text = "# Generated\n*raw\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n".to_owned();
        for (name, hook) in [("NETD_PRE_raw", "PREROUTING"), ("NETD_OUTPUT_raw", "OUTPUT")] {
            text += &format!(":{name} - [0:0]\n-A {hook} {}\n", feeder(name));
            text.extend(rules.lines().map(|rule| format!("-A {name} {rule}\n")));
        }
        text + "COMMIT\n"
    }

    fn rules(prefixes: &[&str]) -> String {
        let both = prefixes.iter().flat_map(|prefix| Rule::both(prefix.parse().unwrap()));
        both.map(|rule| rule.text() + "\n").collect()
    }

    #[test]
    fn both_chains_are_made_at_once_with_the_rules_in_their_order() {
        let nothing = Chains::read("*raw\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n", "default");
        assert!(nothing.is_empty());
        let script = nothing.script(Some(&networks(&["10.244.0.0/16"]))).unwrap();
        let rule = |chain: &str, end: &str| {
            format!(
                "-A {chain} {end} 10.244.0.0/16 -m comment --comment \"netd: NOTRACK for pod traffic\" -j NOTRACK\n"
            )
        };
        let part = |chain: &str, hook: &str| {
            let (to, from) = (rule(chain, "-d"), rule(chain, "-s"));
            format!(
                ":{chain} - [0:0]\n{to}{from}-I {hook} 1 -m comment --comment \"netd-feeder: {chain}\" -j {chain}\n"
            )
        };
        let (pre, output) = (part("NETD_PRE_raw", "PREROUTING"), part("NETD_OUTPUT_raw", "OUTPUT"));
        assert_eq!(script, format!("*raw\n{pre}{output}COMMIT\n"));
    }

    #[test]
    fn what_is_as_it_should_be_is_left_alone_in_either_spelling() {
        let wanted = networks(&["10.244.1.0/24", "10.244.2.0/24"]);
        let text = saved(&rules(&["10.244.1.0/24", "10.244.2.0/24"]));
        for text in [text.clone(), text.replace("-j NOTRACK", "-j CT --notrack")] {
            let found = Chains::read(&text, "default");
            assert_eq!(found.script(Some(&wanted)), None);
            assert_eq!(found.prefixes(), (wanted.clone(), true));
        }
    }

    #[test]
    fn one_more_prefix_is_two_more_rules_in_their_places() {
        let found = Chains::read(&saved(&rules(&["10.244.1.0/24", "10.244.9.0/24"])), "default");
        let script = found.script(Some(&networks(&["10.244.1.0/24", "10.244.2.0/24"]))).unwrap();
        let of_first: Vec<&str> = script
            .lines()
            .filter(|line| line.contains("NETD_PRE_raw"))
            .map(|line| line.split(" -m").next().unwrap_or_default())
            .collect();
        assert_eq!(
            of_first,
            [
                "-D NETD_PRE_raw -d 10.244.9.0/24",
                "-D NETD_PRE_raw -s 10.244.9.0/24",
                "-I NETD_PRE_raw 3 -d 10.244.2.0/24",
                "-I NETD_PRE_raw 4 -s 10.244.2.0/24",
            ]
        );
    }

    #[test]
    fn what_somebody_else_changed_is_found_and_put_right() {
        let wanted = networks(&["10.244.1.0/24"]);
        let whole = saved(&rules(&["10.244.1.0/24"]));
        let backwards: String = Rule::both("10.244.1.0/24".parse().unwrap())
            .into_iter()
            .rev()
            .map(|it| it.text() + "\n")
            .collect();
        let changed = [
            saved(&(rules(&["10.244.1.0/24"]) + "-j ACCEPT\n")),
            saved(&backwards),
            saved(&rules(&["10.244.1.0/24"]).repeat(2)),
            whole.replace("-A OUTPUT", "-A FORWARD"),
            whole.replacen("-A PREROUTING", "-A PREROUTING -i eth0", 1),
        ];
        for text in changed {
            let found = Chains::read(&text, "default");
            assert!(!found.prefixes().1, "{text}");
            assert!(found.script(Some(&wanted)).is_some(), "{text}");
        }
    }

    #[test]
    fn chains_go_with_what_leads_to_them() {
        let found = Chains::read(&saved(&rules(&["10.244.1.0/24"])), "default");
        let script = found.script(None).unwrap();
        let lines: Vec<&str> =
            script.lines().map(|line| line.split(" -m").next().unwrap_or_default()).collect();
        let output = ["-D OUTPUT", "-F NETD_OUTPUT_raw", "-X NETD_OUTPUT_raw", "COMMIT"];
        assert_eq!(lines[..4], ["*raw", "-D PREROUTING", "-F NETD_PRE_raw", "-X NETD_PRE_raw"]);
        assert_eq!(lines[4..], output);
    }

    #[test]
    fn names_fit_the_kernel() {
        assert_eq!(names("default"), ["NETD_PRE_raw", "NETD_OUTPUT_raw"]);
        let long = names("a-very-long-instance-name-of-32-c");
        assert!(long.iter().all(|name| name.len() <= 28), "{long:?}");
    }

    #[test]
    fn instances_whose_names_begin_alike_have_chains_of_their_own() {
        assert_eq!(names("edge-12chars"), ["NETD_edge-12chars_PRE_raw", "NETD_edge-12chars_OUTPUT_raw"]);
        assert_ne!(names("production-node-1"), names("production-node-2"));
    }
}
