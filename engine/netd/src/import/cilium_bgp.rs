//! Cilium 1.10's BGP configuration, that of MetalLB 0.9: a ConfigMap, or the `config.yaml` in it.

use super::toml_lines::Lines;
use netd_schema::quoted;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The TOML that says the same, with comments about what it cannot say.
///
/// # Errors
///
/// A sentence: it is not such a file.
pub fn translate(yaml: &str) -> Result<String, String> {
    let document = parse(yaml)?;
    let config = match document.get("data").and_then(Value::as_object) {
        None => document,
        Some(data) => {
            let text = data.get("config.yaml").or_else(|| data.values().next()).and_then(Value::as_str);
            parse(text.ok_or("the ConfigMap holds no text under `data`")?)?
        }
    };
    let config = config.as_object().ok_or("it is not a table of keys")?;
    if !config.contains_key("peers") && !config.contains_key("address-pools") {
        return Err("it has neither `peers` nor `address-pools`".into());
    }
    let mut import = Import::default();
    import.lines.raw("version", "1");
    import.left_over(config, &["peers", "address-pools", "bgp-communities"], "");
    import.peers(config);
    import.pools(config);
    Ok(import.lines.finish())
}

fn parse(yaml: &str) -> Result<Value, String> {
    // The parser's own picture of the place is several lines; its first says what and where.
    serde_saphyr::from_str(yaml).map_err(|error| {
        let text = error.to_string();
        text.lines().next().unwrap_or("it is not YAML").to_owned()
    })
}

#[derive(Default)]
struct Import {
    lines: Lines,
}

type Table = Map<String, Value>;

fn tables<'v>(config: &'v Table, key: &str) -> Vec<&'v Table> {
    let list = config.get(key).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_object).collect()
}

/// A value that YAML may have read as a number or as a text.
fn scalar(table: &Table, key: &str) -> Option<String> {
    match table.get(key)? {
        Value::String(text) => Some(text.trim().to_owned()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn texts(table: &Table, key: &str) -> Vec<String> {
    let list = table.get(key).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(|text| text.trim().to_owned()).collect()
}

impl Import {
    /// Says which keys have no translation.
    fn left_over(&mut self, table: &Table, known: &[&str], place: &str) {
        for key in table.keys().filter(|key| !known.contains(&key.as_str())) {
            self.lines.comment(&format!("not translated: `{place}{key}`, which is not known here"));
        }
    }

    fn peers(&mut self, config: &Table) {
        let peers = tables(config, "peers");
        let names: BTreeSet<String> = peers.iter().filter_map(|peer| host_names(peer)).flatten().collect();
        for name in &names {
            self.lines.header("[[nodes]]");
            self.lines.text("name", name);
            self.lines.comment("addresses = [\"...\"]");
        }
        self.lines.header("[bgp]");
        let own: BTreeSet<String> = peers.iter().filter_map(|peer| scalar(peer, "my-asn")).collect();
        match own.first() {
            Some(asn) => self.lines.raw("asn", &number(asn)),
            None => self.lines.comment("no peer says `my-asn`: asn = 64512"),
        }
        if own.len() > 1 {
            self.lines.comment("not translated: the peers have several `my-asn`; a node of netd has one AS");
        }
        let ids: BTreeSet<String> = peers.iter().filter_map(|peer| scalar(peer, "router-id")).collect();
        match ids.first() {
            Some(id) if ids.len() == 1 => {
                self.lines.comment("Only for one node; without it each node has one of its own.");
                self.lines.text("router_id", id);
            }
            Some(_) => {
                self.lines.comment("not translated: the peers have several `router-id`; a node has one")
            }
            None => {}
        }
        self.lines.raw("announce", "[\"vips\"]");
        for peer in peers {
            self.peer(peer);
        }
    }

    fn peer(&mut self, peer: &Table) {
        self.lines.header("[[bgp.peers]]");
        let address = scalar(peer, "peer-address").unwrap_or_default();
        self.lines.text("address", &address);
        self.lines.raw("asn", &number(&scalar(peer, "peer-asn").unwrap_or_default()));
        if let Some(port) = scalar(peer, "peer-port").filter(|port| port != "179") {
            self.lines.raw("port", &number(&port));
        }
        if let Some(hold) = scalar(peer, "hold-time") {
            match seconds(&hold) {
                Some(90) => {}
                Some(seconds) => self.lines.text("hold", &format!("{seconds}s")),
                None => self.lines.comment(&format!("not translated: the `hold-time` {hold}")),
            }
        }
        if let Some(source) = scalar(peer, "source-address") {
            self.lines.text("source", &source);
        }
        if scalar(peer, "password").is_some_and(|password| !password.is_empty()) {
            self.lines
                .comment("The password is not repeated here: write it into this file, for its owner only.");
            self.lines
                .text("password_file", &format!("/etc/netd/bgp-{}.password", address.replace(':', "-")));
        }
        match (peer.get("node-selectors"), host_names(peer)) {
            (None, _) => {}
            (Some(_), Some(names)) => self.lines.list("nodes", &names),
            (Some(selectors), None) => self.lines.comment(&format!(
                "not translated: node-selectors {selectors}; netd selects by name: nodes = [\"...\"]"
            )),
        }
        let known = [
            "peer-address",
            "peer-asn",
            "my-asn",
            "peer-port",
            "hold-time",
            "router-id",
            "node-selectors",
            "password",
            "source-address",
        ];
        self.left_over(peer, &known, "peers.");
    }

    fn pools(&mut self, config: &Table) {
        let aliases: BTreeMap<String, String> = config
            .get("bgp-communities")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
            .collect();
        for pool in tables(config, "address-pools") {
            let name = self.pool(pool);
            let advertisements = tables(pool, "bgp-advertisements");
            if advertisements.len() > 1 {
                self.lines.comment(
                    "Each advertisement was one of its own; rules of netd add up, and the first says how long an \
                     aggregate is.",
                );
            }
            for advertisement in advertisements {
                self.advertisement(&name, advertisement, &aliases);
            }
        }
    }

    fn pool(&mut self, pool: &Table) -> String {
        self.lines.header("[[ip_pools]]");
        let given = scalar(pool, "name").unwrap_or_default();
        let is_allowed =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
        let lower = given.to_ascii_lowercase();
        let name: String = lower.chars().map(|c| if is_allowed(c) { c } else { '-' }).collect();
        if name != given {
            self.lines.comment(&format!("It was called {given}."));
        }
        self.lines.text("name", &name);
        if let Some(protocol) = scalar(pool, "protocol").filter(|protocol| protocol != "bgp") {
            self.lines.comment(&format!("not translated: protocol {protocol}; netd announces by BGP"));
        }
        let ranges: Vec<String> = texts(pool, "addresses").iter().map(|range| as_range(range)).collect();
        self.lines.list("ranges", &ranges);
        if scalar(pool, "auto-assign").is_some_and(|flag| flag == "false") {
            self.lines.raw("auto_assign", "false");
        }
        if scalar(pool, "avoid-buggy-ips").is_some_and(|flag| flag == "true") {
            self.lines.text("avoid", "first-last");
        }
        let known = ["name", "protocol", "addresses", "auto-assign", "avoid-buggy-ips", "bgp-advertisements"];
        self.left_over(pool, &known, "address-pools.");
        name
    }

    fn advertisement(&mut self, pool: &str, advertisement: &Table, aliases: &BTreeMap<String, String>) {
        self.lines.header("[[bgp.announcements]]");
        self.lines.list("pools", &[pool.to_owned()]);
        let communities: Vec<String> = texts(advertisement, "communities")
            .into_iter()
            .map(|name| aliases.get(&name).cloned().unwrap_or(name))
            .collect();
        if !communities.is_empty() {
            self.lines.list("communities", &communities);
        }
        if let Some(preference) = scalar(advertisement, "localpref") {
            self.lines.raw("local_preference", &number(&preference));
        }
        let length = |key: &str, full: &str| scalar(advertisement, key).filter(|length| length != full);
        let lengths = [
            length("aggregation-length", "32").map(|length| format!("ipv4 = {}", number(&length))),
            length("aggregation-length-v6", "128").map(|length| format!("ipv6 = {}", number(&length))),
        ];
        let lengths: Vec<String> = lengths.into_iter().flatten().collect();
        if !lengths.is_empty() {
            self.lines.raw("aggregate", &format!("{{ {} }}", lengths.join(", ")));
        }
        let known = ["communities", "localpref", "aggregation-length", "aggregation-length-v6"];
        self.left_over(advertisement, &known, "bgp-advertisements.");
    }
}

/// Digits as they are; anything else as a text, which netd then refuses with its place.
fn number(text: &str) -> String {
    match !text.is_empty() && text.len() <= 12 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.trim_start_matches('0').parse::<u64>().unwrap_or_default().to_string(),
        false => quoted(text),
    }
}

/// A prefix without bits beyond its length, or two addresses with nothing between them but the dash.
fn as_range(text: &str) -> String {
    let bare: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    match bare.parse::<ipnetwork::IpNetwork>() {
        Ok(prefix) if bare.contains('/') => format!("{}/{}", prefix.network(), prefix.prefix()),
        Ok(_) | Err(_) => match bare.parse::<IpAddr>() {
            Ok(address) => format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 }),
            Err(_) => bare,
        },
    }
}

/// A Go duration in whole seconds: `90s`, `1m30s`.
fn seconds(text: &str) -> Option<u64> {
    let mut total = 0_u64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, behind) = rest.split_at(digits);
        let unit = match behind.chars().next()? {
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return None,
        };
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(unit)?)?;
        rest = behind.get(1..)?;
    }
    (!text.is_empty()).then_some(total)
}

/// The label by which Kubernetes calls a node.
const HOST_NAME: &str = "kubernetes.io/hostname";

/// The nodes that the selectors name, if they select by nothing else.
fn host_names(peer: &Table) -> Option<Vec<String>> {
    let selectors = peer.get("node-selectors")?.as_array()?;
    let mut names = BTreeSet::new();
    for selector in selectors {
        let selector = selector.as_object()?;
        for (key, value) in selector {
            match (key.as_str(), value) {
                ("match-labels", Value::Object(labels)) if labels.len() == 1 => {
                    names.insert(labels.get(HOST_NAME)?.as_str()?.to_owned());
                }
                ("match-expressions", Value::Array(expressions)) => {
                    let [expression] = expressions.as_slice() else { return None };
                    let expression = expression.as_object()?;
                    let is_list = expression.get("operator")?.as_str()? == "In";
                    if expression.get("key")?.as_str()? != HOST_NAME || !is_list {
                        return None;
                    }
                    names.extend(texts(expression, "values"));
                }
                _ => return None,
            }
        }
    }
    (!names.is_empty()).then(|| names.into_iter().collect())
}

#[cfg(test)]
#[path = "cilium_bgp_tests.rs"]
mod tests;
