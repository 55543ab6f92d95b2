//! Cilium's egress policies: CiliumEgressNATPolicy of 1.10, and CiliumEgressGatewayPolicy, from any number of files.
//!
//! Pods and nodes are selected by labels there and by prefixes and names here. Which these are is not in the files: it is
//! asked for, and a policy for which it was not said is refused with its place.

use super::toml_lines::Lines;
use ipnetwork::IpNetwork;
use netd_core::render::escape;
use netd_schema::quoted;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;

/// The label by which Kubernetes calls a node.
const HOST_NAME: &str = "kubernetes.io/hostname";

const NO_TABLE: &str = "it is not a table of keys";

/// What the files do not say, by the name of the policy.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// The prefixes of the pods that its selectors select.
    pub sources: BTreeMap<String, Vec<String>>,
    /// The nodes that its node selectors select.
    pub gateways: BTreeMap<String, Vec<String>>,
    /// Its egress addresses.
    pub ips: BTreeMap<String, Vec<String>>,
}

/// The TOML that says the same as these files, each with its name and its text, with comments about what it cannot say.
///
/// # Errors
///
/// A line for each thing that is wrong or was not said.
pub fn translate(files: &[(String, String)], answers: &Answers) -> Result<String, String> {
    let mut import = Import::new(answers);
    for (file, text) in files {
        match serde_saphyr::from_multiple::<Value>(text) {
            Ok(documents) => {
                for (at, document) in documents.iter().enumerate() {
                    import.document(document, &format!("{file}: document {}", at + 1));
                }
            }
            Err(error) => {
                let text = error.to_string();
                import.wrong(file, text.lines().next().unwrap_or("it is not YAML"));
            }
        }
    }
    import.finish()
}

struct Import<'a> {
    answers: &'a Answers,
    policies: Lines,
    nodes: BTreeSet<String>,
    names: BTreeSet<String>,
    wrong: String,
}

type Table = Map<String, Value>;

fn tables<'v>(table: &'v Table, key: &str) -> Vec<&'v Table> {
    let list = table.get(key).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_object).collect()
}

fn text<'v>(table: &'v Table, key: &str) -> Option<&'v str> {
    table.get(key).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty())
}

impl<'a> Import<'a> {
    fn new(answers: &'a Answers) -> Self {
        let (policies, nodes, names) = (Lines::default(), BTreeSet::new(), BTreeSet::new());
        Self { answers, policies, nodes, names, wrong: String::new() }
    }

    /// Remembers what keeps the translation from being one.
    fn wrong(&mut self, place: &str, what: &str) {
        // Writing into a String cannot fail.
        let _ = writeln!(self.wrong, "{}: {}", escape(place), escape(what));
    }

    fn document(&mut self, document: &Value, place: &str) {
        let Some(table) = document.as_object() else {
            // Behind the last line of dashes there may be nothing.
            if !document.is_null() {
                self.wrong(place, NO_TABLE);
            }
            return;
        };
        match text(table, "kind") {
            Some("List" | "CiliumEgressNATPolicyList" | "CiliumEgressGatewayPolicyList") => {
                for (at, item) in
                    table.get("items").and_then(Value::as_array).into_iter().flatten().enumerate()
                {
                    let place = format!("{place}, item {}", at + 1);
                    match item.as_object() {
                        Some(item) => self.policy(item, &place),
                        None => self.wrong(&place, NO_TABLE),
                    }
                }
            }
            Some(_) | None => self.policy(table, place),
        }
    }

    fn policy(&mut self, table: &Table, place: &str) {
        let kind = text(table, "kind").unwrap_or_default();
        let name =
            table.get("metadata").and_then(Value::as_object).and_then(|metadata| text(metadata, "name"));
        let (Some(name), Some(spec)) = (name, table.get("spec").and_then(Value::as_object)) else {
            return self.wrong(place, "it has no `metadata.name` or no `spec`");
        };
        let place = format!("{place}, policy {name}");
        match kind {
            "CiliumEgressNATPolicy" => self.nat_policy(name, spec, &place),
            "CiliumEgressGatewayPolicy" => self.gateway_policy(name, spec, &place),
            other => self.wrong(
                &place,
                &format!("`{other}` is neither a CiliumEgressNATPolicy nor a CiliumEgressGatewayPolicy"),
            ),
        }
    }

    fn nat_policy(&mut self, name: &str, spec: &Table, place: &str) {
        self.begin(name);
        self.sources(name, spec, ("egress", place));
        self.destinations(spec, place);
        let own = text(spec, "egressSourceIP").map(|ip| vec![ip.to_owned()]).unwrap_or_default();
        self.ips(name, own, (place, "it has no `spec.egressSourceIP`"));
        self.gateways(name, Vec::new(), (place, "it does not say on which node its egress address is"));
        self.left_over(spec, &["egress", "destinationCIDRs", "egressSourceIP"], "spec.");
    }

    fn gateway_policy(&mut self, name: &str, spec: &Table, place: &str) {
        self.begin(name);
        self.sources(name, spec, ("selectors", place));
        self.destinations(spec, place);
        let excluded = self.prefixes(spec, "excludedCIDRs", place);
        if !excluded.is_empty() {
            self.policies.list("exclude", &excluded);
        }
        let mut gateways = tables(spec, "egressGateways");
        gateways.extend(spec.get("egressGateway").and_then(Value::as_object));
        if gateways.len() > 1 {
            self.policies.comment(
                "Cilium spreads the pods of a policy over its gateways; here one has them all, and the others stand by.",
            );
        }
        let mut ips: Vec<String> =
            gateways.iter().filter_map(|one| text(one, "egressIP")).map(Into::into).collect();
        ips.dedup();
        for (at, gateway) in gateways.iter().enumerate() {
            let place = format!(
                "egressGateway{}.",
                if gateways.len() > 1 { format!("s[{at}]") } else { String::new() }
            );
            self.left_over(gateway, &["nodeSelector", "interface", "egressIP"], &place);
        }
        let several = ips.len() > 1 && ips.iter().filter(|ip| ip.contains(':')).count() != 1;
        if several && !self.answers.ips.contains_key(name) {
            let all = ips.join(", ");
            self.policies.comment(&format!(
                "not translated: each gateway has an address of its own ({all}); here the one in force has the first"
            ));
            ips.truncate(1);
        }
        let by_device = gateways.iter().find_map(|one| text(one, "interface"));
        let why = match by_device {
            Some(device) => format!("its egress address is the first one of the device {device}"),
            None => "its egress address is the one of the gateway's default route".to_owned(),
        };
        self.ips(name, ips, (place, &why));
        let nodes: Option<Vec<String>> =
            gateways.iter().map(|gateway| node_name(gateway.get("nodeSelector")?)).collect();
        let why = "its `nodeSelector` selects nodes by more than their names";
        self.gateways(name, nodes.unwrap_or_default(), (place, why));
        let known = ["selectors", "destinationCIDRs", "excludedCIDRs", "egressGateway", "egressGateways"];
        self.left_over(spec, &known, "spec.");
    }

    fn begin(&mut self, given: &str) {
        self.names.insert(given.to_owned());
        self.policies.header("[[egress]]");
        let is_allowed =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
        let lower = given.to_ascii_lowercase();
        let name: String = lower.chars().map(|c| if is_allowed(c) { c } else { '-' }).collect();
        if name != given {
            self.policies.comment(&format!("It was called {given}."));
        }
        self.policies.text("name", &name);
    }

    /// The pods, which are as they were asked for; what selected them is a comment.
    fn sources(&mut self, name: &str, spec: &Table, (key, place): (&str, &str)) {
        for selector in tables(spec, key) {
            self.policies.comment(&format!("selected: {}", Value::Object(selector.clone())));
        }
        match self.answers.sources.get(name) {
            Some(prefixes) => self.policies.list("sources", &self::prefixes(prefixes)),
            None => {
                let what = format!(
                    "spec.{key} selects pods by labels, which netd does not know: say which prefixes they have, by \
                     --sources {name}=PREFIX,…"
                );
                self.wrong(place, &what);
            }
        }
    }

    fn destinations(&mut self, spec: &Table, place: &str) {
        // Without any there is an empty list, which is refused, and not none, which would be everywhere.
        let destinations = self.prefixes(spec, "destinationCIDRs", place);
        self.policies.list("destinations", &destinations);
    }

    /// A list of prefixes; one that is left out would change whose packets are taken.
    fn prefixes(&mut self, spec: &Table, key: &str, place: &str) -> Vec<String> {
        let texts = match spec.get(key) {
            None | Some(Value::Null) => Some(Vec::new()),
            Some(Value::Array(list)) => {
                list.iter().map(|one| Some(one.as_str()?.trim().to_owned())).collect::<Option<Vec<_>>>()
            }
            Some(_) => None,
        };
        if texts.is_none() {
            self.wrong(place, &format!("`spec.{key}` is not a list of prefixes"));
        }
        prefixes(&texts.unwrap_or_default())
    }

    fn ips(&mut self, name: &str, own: Vec<String>, (place, why): (&str, &str)) {
        match self.answers.ips.get(name).cloned().or((!own.is_empty()).then_some(own)) {
            Some(ips) => self.policies.list("ips", &ips),
            None => self.wrong(place, &format!("{why}: say which that is to be, by --ips {name}=ADDRESS,…")),
        }
    }

    fn gateways(&mut self, name: &str, own: Vec<String>, (place, why): (&str, &str)) {
        let Some(nodes) = self.answers.gateways.get(name).cloned().or((!own.is_empty()).then_some(own))
        else {
            return self.wrong(place, &format!("{why}: say which they are, by --gateways {name}=NODE,…"));
        };
        let all: BTreeSet<String> = nodes.into_iter().collect();
        let tables: Vec<String> = all.iter().map(|node| format!("{{ node = {} }}", quoted(node))).collect();
        self.policies.raw("gateways", &format!("[{}]", tables.join(", ")));
        self.nodes.extend(all);
    }

    /// Says which keys have no translation.
    fn left_over(&mut self, table: &Table, known: &[&str], place: &str) {
        for key in table.keys().filter(|key| !known.contains(&key.as_str())) {
            self.policies.comment(&format!("not translated: `{place}{key}`, which is not known here"));
        }
    }

    fn finish(mut self) -> Result<String, String> {
        let Answers { sources, gateways, ips } = self.answers;
        for (option, given) in [("sources", sources), ("gateways", gateways), ("ips", ips)] {
            for name in given.keys().filter(|name| !self.names.contains(*name)) {
                let name = escape(name);
                let _ = writeln!(self.wrong, "--{option} {name}: the files have no policy of this name");
            }
        }
        if self.names.is_empty() && self.wrong.is_empty() {
            self.wrong = "there is no egress policy in it\n".to_owned();
        }
        if !self.wrong.is_empty() {
            return Err(self.wrong.trim_end().to_owned());
        }
        let mut head = Lines::default();
        head.raw("version", "1");
        for node in &self.nodes {
            head.header("[[nodes]]");
            head.text("name", node);
            head.comment("addresses = [\"...\"]");
        }
        Ok(head.finish() + &self.policies.finish())
    }
}

/// Without bits beyond the length; an address alone is the prefix of itself.
fn prefixes(all: &[String]) -> Vec<String> {
    let normal = |text: &String| match (text.parse::<IpNetwork>(), text.parse::<IpAddr>()) {
        (_, Ok(address)) => format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 }),
        (Ok(prefix), Err(_)) => format!("{}/{}", prefix.network(), prefix.prefix()),
        // netd itself says what is wrong with it.
        (Err(_), Err(_)) => text.clone(),
    };
    all.iter().map(normal).collect()
}

/// The node that a selector names, if it selects by nothing else.
fn node_name(selector: &Value) -> Option<String> {
    let selector = selector.as_object()?;
    let labels = selector.get("matchLabels")?.as_object()?;
    let is_alone = selector.len() == 1 && labels.len() == 1;
    is_alone.then(|| labels.get(HOST_NAME)?.as_str().map(ToOwned::to_owned)).flatten()
}

#[cfg(test)]
#[path = "cilium_egress_tests.rs"]
mod tests;
