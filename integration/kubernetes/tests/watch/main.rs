//! The watch against a server that speaks the real protocol, and breaks it as real servers do.

#![allow(clippy::unwrap_used, reason = "tests")]

mod api;
mod back;

use api::{Api, next};
use netd_kubernetes::{Back, Base, Index, Options, Run, render};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// Longer than any wait of the adapter's own on a busy machine; nothing waits for it to pass.
const DEADLINE: Duration = Duration::from_secs(90);

/// An adapter at work. It ends with this.
struct Adapter {
    directory: TempDir,
    task: JoinHandle<()>,
}

impl Drop for Adapter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Adapter {
    fn start(api: &Api, base: Option<&str>, once: bool) -> Self {
        Self::start_with(api, base, once, (Options::default(), Back::default()))
    }

    fn start_with(api: &Api, base: Option<&str>, once: bool, (options, back): (Options, Back)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = base.map(|text| {
            let path = directory.path().join("base.toml");
            fs::write(&path, text).unwrap();
            path
        });
        let run = Run {
            options,
            base: path,
            output: directory.path().join("desired.toml"),
            settle: Duration::from_millis(20),
            idle: Duration::from_secs(60),
            absent: Duration::from_millis(100),
            listen: None,
            once,
            back,
        };
        let config = kube::Config::new(api.url.parse().unwrap());
        let client = kube::Client::try_from(config).unwrap();
        let task = tokio::spawn(async move { netd_kubernetes::run(run, client).await.unwrap() });
        Self { directory, task }
    }

    fn output(&self) -> PathBuf {
        self.directory.path().join("desired.toml")
    }

    fn file(&self) -> Option<String> {
        fs::read_to_string(self.output()).ok()
    }

    /// Waits until the file is what the objects of the server say.
    async fn agrees_with(&self, api: &Api) {
        let expected = rendered(api);
        until(
            || self.file().as_deref() == Some(expected.as_str()),
            || format!("{:?}\nis not\n{expected}", self.file()),
        )
        .await;
    }
}

async fn until(mut is_so: impl FnMut() -> bool, what: impl Fn() -> String) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < DEADLINE, "{}", what());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What the file has to be.
fn rendered(api: &Api) -> String {
    let mut index = Index::default();
    api.objects().into_iter().for_each(|object| index.add(object));
    render(&index, &Base::none(), &Options::default()).unwrap().text
}

fn service(vip: u64) -> Value {
    json!({
        "spec": { "type": "LoadBalancer", "ports": [{ "port": 80 }] },
        "status": { "loadBalancer": { "ingress": [{ "ip": format!("192.0.2.{vip}") }] } },
    })
}

fn slice(service: &str, addresses: &[u64]) -> Value {
    let endpoints: Vec<Value> =
        addresses.iter().map(|last| json!({ "addresses": [format!("10.1.0.{last}")] })).collect();
    json!({
        "metadata": { "labels": { "kubernetes.io/service-name": service } },
        "addressType": "IPv4",
        "ports": [{ "port": 80 }],
        "endpoints": endpoints,
    })
}

fn node(last: u64) -> Value {
    json!({ "metadata": { "labels": { "zone": zone(last) } }, "status": { "addresses": [{ "type": "InternalIP", "address": format!("10.0.0.{last}") }] } })
}

/// One of two words, which labels and selectors say.
fn zone(number: u64) -> &'static str {
    if number.is_multiple_of(2) { "even" } else { "odd" }
}

fn pod(last: u64) -> Value {
    json!({
        "metadata": { "labels": { "app": zone(last / 2) } },
        "spec": { "nodeName": format!("node-{}", last % 8), "containers": [] },
        "status": { "phase": "Running", "podIPs": [{ "ip": format!("10.244.0.{last}") }] },
    })
}

fn namespace(number: u64) -> Value {
    json!({ "metadata": { "labels": { "team": zone(number) } } })
}

fn gateway_policy(number: u64) -> Value {
    let rule = json!({
        "podSelector": { "matchLabels": { "app": zone(number) } },
        "namespaceSelector": { "matchLabels": { "team": "odd" } },
        "nodeSelector": { "matchExpressions": [{ "key": "zone", "operator": "In", "values": [zone(number / 2)] }] },
    });
    json!({ "spec": {
        "selectors": [rule],
        "destinationCIDRs": ["198.51.100.0/24"],
        "egressGateway": {
            "nodeSelector": { "matchLabels": { "zone": "even" } },
            "egressIP": format!("203.0.113.{}", number % 16),
        },
    } })
}

fn nat_policy(number: u64) -> Value {
    // One in five cannot be read.
    let address =
        if number.is_multiple_of(5) { json!(number) } else { json!(format!("203.0.113.{}", number % 16)) };
    json!({
        "metadata": { "annotations": { "netd.io/gateways": "node-1,node-2" } },
        "spec": {
            "egress": [{ "podSelector": { "matchLabels": { "app": zone(number) } } }],
            "destinationCIDRs": ["192.168.33.13/32"],
            "egressSourceIP": address,
        },
    })
}

/// A cluster with more of each than is on one page.
fn fill(api: &Api) {
    for at in 1..=5 {
        let name = format!("web-{at}");
        api.put("services", "shop", &name, service(at));
        api.put("endpointslices", "shop", &name, slice(&name, &[at, at + 10]));
        api.put("nodes", "", &format!("node-{at}"), node(at));
        api.put("namespaces", "", &format!("team-{at}"), namespace(at));
        api.put("pods", &format!("team-{at}"), &format!("pod-{at}"), pod(at));
        api.put("ciliumegressgatewaypolicies", "", &format!("partner-{at}"), gateway_policy(at));
        api.put("ciliumegressnatpolicies", "", &format!("legacy-{at}"), nat_policy(at));
    }
}

/// Something happens to some object.
fn happen(api: &Api, seed: &mut u64) {
    let at = 1 + next(seed) % 8;
    let (name, number) = (format!("web-{at}"), next(seed) % 200 + 1);
    match next(seed) % 20 {
        0 => api.delete("services", "shop", &name),
        1 => api.delete("endpointslices", "shop", &name),
        2 => api.delete("nodes", "", &format!("node-{at}")),
        3 | 4 => api.put("services", "shop", &name, service(number)),
        5 => api.put("nodes", "", &format!("node-{at}"), node(number)),
        6 => api.delete("namespaces", "", &format!("team-{at}")),
        7 => api.put("namespaces", "", &format!("team-{at}"), namespace(number)),
        8 => api.delete("pods", &format!("team-{at}"), &format!("pod-{at}")),
        9..=12 => api.put("pods", &format!("team-{at}"), &format!("pod-{at}"), pod(number)),
        13 => api.delete("ciliumegressgatewaypolicies", "", &format!("partner-{at}")),
        14 => api.put("ciliumegressgatewaypolicies", "", &format!("partner-{at}"), gateway_policy(number)),
        15 => api.delete("ciliumegressnatpolicies", "", &format!("legacy-{at}")),
        16 => api.put("ciliumegressnatpolicies", "", &format!("legacy-{at}"), nat_policy(number)),
        _ => api.put("endpointslices", "shop", &name, slice(&name, &[number, number + 1])),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a6_events_twice_and_in_any_order_give_the_file_of_the_last_objects() {
    for seed in 1..=8_u64 {
        let api = Api::start(seed).await;
        fill(&api);
        let adapter = Adapter::start(&api, None, false);
        let mut numbers = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for at in 0..200 {
            happen(&api, &mut numbers);
            if at % 50 == 49 {
                api.cut(false);
            }
            if next(&mut numbers).is_multiple_of(8) {
                tokio::task::yield_now().await;
            }
        }
        adapter.agrees_with(&api).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a7_nothing_is_written_before_every_kind_has_been_listed() {
    let api = Api::start(0).await;
    fill(&api);
    api.fail("endpointslices", Some(403));
    let adapter = Adapter::start(&api, None, false);
    until(|| api.failed("endpointslices") >= 2, || "no second try".to_owned()).await;
    assert_eq!(adapter.file(), None);
    api.fail("endpointslices", None);
    adapter.agrees_with(&api).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a1_a_server_that_is_lost_keeps_the_file_and_a5_what_was_deleted_meanwhile_goes() {
    let api = Api::start(0).await;
    fill(&api);
    let adapter = Adapter::start(&api, None, false);
    adapter.agrees_with(&api).await;
    let before = adapter.file();
    for resource in ["services", "endpointslices", "nodes"] {
        api.fail(resource, Some(503));
    }
    api.cut(true);
    api.delete("services", "shop", "web-3");
    until(|| api.failed("services") >= 2 && api.failed("nodes") >= 1, || "no second try".to_owned()).await;
    assert_eq!(adapter.file(), before);
    for resource in ["services", "endpointslices", "nodes"] {
        api.fail(resource, None);
    }
    adapter.agrees_with(&api).await;
    assert!(!adapter.file().unwrap().contains("shop.web-3"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a2_a_list_that_breaks_off_deletes_nothing() {
    let api = Api::start(0).await;
    fill(&api);
    let adapter = Adapter::start(&api, None, false);
    adapter.agrees_with(&api).await;
    let before = adapter.file();
    api.expire(true);
    api.cut(true);
    until(|| api.failed("services") >= 2, || "no second list".to_owned()).await;
    assert_eq!(adapter.file(), before);
    api.expire(false);
    api.delete("nodes", "", "node-1");
    adapter.agrees_with(&api).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn egress_policies_come_with_their_definition_and_go_with_it() {
    let policies = ["ciliumegressgatewaypolicies", "ciliumegressnatpolicies"];
    let api = Api::start(0).await;
    fill(&api);
    let expected = rendered(&api);
    assert!(expected.contains("[[egress]]"), "{expected}");
    policies.iter().for_each(|resource| api.fail(resource, Some(404)));
    let adapter = Adapter::start(&api, None, false);
    let has = |egress: bool| adapter.file().is_some_and(|file| file.contains("[[egress]]") == egress);
    until(|| has(false), || format!("{:?}", adapter.file())).await;
    policies.iter().for_each(|resource| api.fail(resource, None));
    adapter.agrees_with(&api).await;
    policies.iter().for_each(|resource| api.fail(resource, Some(404)));
    api.cut(true);
    until(|| has(false), || format!("{:?}", adapter.file())).await;
    assert!(adapter.file().unwrap().contains("[[services]]"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_forbidden_of_egress_is_no_absence_and_keeps_the_file() {
    let api = Api::start(0).await;
    fill(&api);
    let adapter = Adapter::start(&api, None, false);
    adapter.agrees_with(&api).await;
    let before = adapter.file();
    api.fail("ciliumegressgatewaypolicies", Some(403));
    api.fail("pods", Some(404));
    api.cut(true);
    let again = || api.failed("ciliumegressgatewaypolicies") >= 2 && api.failed("pods") >= 2;
    until(again, || "no second try".to_owned()).await;
    assert_eq!(adapter.file(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_base_file_with_a_mistake_leaves_the_last_file_and_a_good_one_is_taken() {
    let api = Api::start(0).await;
    fill(&api);
    let adapter = Adapter::start(&api, Some("version = 1\n"), false);
    adapter.agrees_with(&api).await;
    let base = adapter.directory.path().join("base.toml");
    fs::write(&base, "version = 1\n\n[[services]]\nname = \"mail\"\nvipz = []\n").unwrap();
    api.delete("nodes", "", "node-2");
    api.put("nodes", "", "node-9", node(9));
    fs::write(&base, "version = 1\n\n[[nodes]]\nname = \"own\"\n").unwrap();
    let is_taken =
        |file: String| file.contains("\"own\"") && file.contains("node-9") && !file.contains("node-2");
    until(|| adapter.file().is_some_and(is_taken), || format!("{:?}", adapter.file())).await;
    assert!(!adapter.file().unwrap().contains("vipz"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn once_ends_when_the_file_is_written() {
    let api = Api::start(0).await;
    fill(&api);
    let mut adapter = Adapter::start(&api, None, true);
    tokio::time::timeout(DEADLINE, &mut adapter.task).await.unwrap().unwrap();
    assert_eq!(adapter.file(), Some(rendered(&api)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_program_finds_the_cluster_that_its_environment_names() {
    let api = Api::start(0).await;
    fill(&api);
    let directory = tempfile::tempdir().unwrap();
    let (config, output) = (directory.path().join("config"), directory.path().join("desired.toml"));
    let named = |key: &str, value: Value| json!([{ "name": "test", key: value }]);
    let text = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": named("cluster", json!({ "server": api.url })),
        "users": named("user", json!({})),
        "contexts": named("context", json!({ "cluster": "test", "user": "test" })),
    });
    fs::write(&config, text.to_string()).unwrap();
    let mut command = assert_cmd::Command::cargo_bin("netd-kubernetes").unwrap();
    command
        .env("KUBECONFIG", &config)
        .args(["run", "--once", "--log-format", "json", "--output"])
        .arg(&output);
    tokio::task::spawn_blocking(move || command.timeout(DEADLINE).assert().success()).await.unwrap();
    assert_eq!(fs::read_to_string(&output).unwrap(), rendered(&api));
}
