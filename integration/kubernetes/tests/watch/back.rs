//! What goes back to the cluster, and who may say it.

use super::*;
use axum::Router;
use axum::routing::get;
use netd_kubernetes::{KeyOf, LeaseName};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio::net::UnixListener;

const POOL: &str = "version = 1\n\n[[ip_pools]]\nname = \"public\"\nranges = [\"192.0.2.0/24\"]\n";

/// Both is written, as often as possible.
fn back(identity: &str) -> Back {
    Back {
        events: true,
        lease: LeaseName {
            identity: identity.to_owned(),
            lasts: Duration::from_secs(1),
            ..LeaseName::default()
        },
        every: Duration::from_millis(20),
        ..Back::default()
    }
}

/// A netd that has this file in force, and gives these addresses.
#[derive(Clone)]
struct Daemon {
    file: PathBuf,
    given: Arc<Mutex<BTreeMap<String, String>>>,
    waiting: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Daemon {
    /// Listens at the path; it ends with the test's runtime.
    fn start(socket: &std::path::Path, file: PathBuf) -> Self {
        let daemon = Self { file, given: Arc::default(), waiting: Arc::default() };
        let (status, addresses) = (daemon.clone(), daemon.clone());
        let router = Router::new()
            .route("/v1/status", get(move || async move { axum::Json(status.status()) }))
            .route("/v1/addresses", get(move || async move { axum::Json(addresses.addresses()) }));
        let listener = UnixListener::bind(socket).unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        daemon
    }

    fn sha256(&self) -> String {
        let digest = Sha256::digest(fs::read(&self.file).unwrap_or_default());
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn status(&self) -> Value {
        json!({ "version": 1, "config": { "in_force": { "sha256": self.sha256(), "number": 1 } } })
    }

    fn addresses(&self) -> Value {
        let pairs = |of: &Mutex<BTreeMap<String, String>>, key: &str| -> Vec<Value> {
            let of = of.lock().unwrap();
            of.iter().map(|(service, value)| json!({ "service": service, key: value })).collect()
        };
        json!({
            "version": 1,
            "config_sha256": self.sha256(),
            "services": pairs(&self.given, "address"),
            "waiting": pairs(&self.waiting, "reason"),
        })
    }
}

fn unaddressed() -> Value {
    json!({ "metadata": { "uid": "u-1" }, "spec": { "type": "LoadBalancer", "ports": [{ "port": 80 }] } })
}

fn ingress(api: &Api, name: &str) -> Value {
    api.object("services", "shop", name).unwrap()["status"]["loadBalancer"]["ingress"].clone()
}

fn notes(api: &Api) -> Vec<String> {
    api.all("events").iter().map(|event| event["note"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_of_a_pool_goes_into_the_status_once_and_what_waits_is_an_event() {
    let api = Api::start(0).await;
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("netd.sock");
    api.put("services", "shop", "web", unaddressed());
    api.put("services", "shop", "late", unaddressed());
    api.put("services", "shop", "inside", json!({ "spec": { "ports": [{ "port": 80 }] } }));
    let back = Back { status: Some(socket.clone()), ..back("a") };
    let adapter = Adapter::start_with(&api, Some(POOL), false, (Options::default(), back));
    let daemon = Daemon::start(&socket, adapter.output());
    daemon.given.lock().unwrap().insert("shop.web".to_owned(), "192.0.2.7".to_owned());
    let reason = "pool public is exhausted";
    daemon.waiting.lock().unwrap().insert("shop.late".to_owned(), reason.to_owned());
    until(
        || ingress(&api, "web") == json!([{ "ip": "192.0.2.7" }]),
        || format!("{:?}", ingress(&api, "web")),
    )
    .await;
    let is_asked_for = |file: String| file.contains("vips = [\"192.0.2.7\"]");
    until(|| adapter.file().is_some_and(is_asked_for), || format!("{:?}", adapter.file())).await;
    until(|| !api.all("events").is_empty(), || "no event".to_owned()).await;
    let events = api.all("events");
    assert_eq!((events.len(), notes(&api)), (1, vec![reason.to_owned()]), "{events:?}");
    assert_eq!(events[0]["regarding"]["name"], "late");
    assert_eq!(events[0]["regarding"]["uid"], "u-1");
    assert_eq!(ingress(&api, "late"), Value::Null);
    assert_eq!(api.asked("services"), 1, "one status was written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_leaves_the_file_loses_its_address_and_what_others_have_written_stays() {
    let api = Api::start(0).await;
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("netd.sock");
    let mut foreign = unaddressed();
    foreign["spec"]["ports"] = json!([]);
    foreign["status"]["loadBalancer"]["ingress"] = json!([{ "ip": "198.51.100.1" }]);
    api.put("services", "shop", "foreign", foreign);
    api.put("services", "shop", "web", unaddressed());
    let back = Back { status: Some(socket.clone()), ..back("a") };
    let adapter = Adapter::start_with(&api, Some(POOL), false, (Options::default(), back));
    let daemon = Daemon::start(&socket, adapter.output());
    daemon.given.lock().unwrap().insert("shop.web".to_owned(), "192.0.2.7".to_owned());
    let has = |wanted: Value| {
        let api = &api;
        until(move || ingress(api, "web") == wanted, move || format!("{:?}", ingress(api, "web")))
    };
    has(json!([{ "ip": "192.0.2.7" }])).await;
    let mut without_ports = api.object("services", "shop", "web").unwrap();
    without_ports["spec"]["ports"] = json!([]);
    api.put("services", "shop", "web", without_ports);
    has(Value::Null).await;
    assert_eq!(ingress(&api, "foreign"), json!([{ "ip": "198.51.100.1" }]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_that_another_program_has_written_is_left_as_it_is() {
    let api = Api::start(0).await;
    let directory = tempfile::tempdir().unwrap();
    let mut service = service(1);
    service["status"]["loadBalancer"]["ingress"] = json!([{ "ip": "192.0.2.1" }, { "ip": "198.51.100.1" }]);
    let before = service["status"]["loadBalancer"]["ingress"].clone();
    api.put("services", "shop", "web", service);
    let options = Options { vips: vec!["192.0.2.0/24".parse().unwrap()], ..Options::default() };
    let back = Back { status: Some(directory.path().join("none.sock")), ..back("a") };
    let _adapter = Adapter::start_with(&api, None, false, (options, back));
    let is_said = || notes(&api).iter().any(|note| note.contains("another program has written addresses"));
    until(is_said, || format!("{:?}", notes(&api))).await;
    assert_eq!(ingress(&api, "web"), before);
    assert_eq!(api.asked("services"), 1, "it is not tried over and over");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_that_takes_nothing_costs_the_others_nothing() {
    let api = Api::start(0).await;
    let directory = tempfile::tempdir().unwrap();
    for (namespace, last) in [("forbidden", 1), ("shop", 2)] {
        let mut service = unaddressed();
        service["spec"]["loadBalancerIP"] = format!("192.0.2.{last}").into();
        api.put("services", namespace, "web", service);
        api.put("services", namespace, "without", unaddressed());
    }
    let options = Options { vips: vec!["192.0.2.0/24".parse().unwrap()], ..Options::default() };
    let back = Back { status: Some(directory.path().join("none.sock")), ..back("a") };
    let _adapter = Adapter::start_with(&api, None, false, (options, back));
    until(|| ingress(&api, "web") == json!([{ "ip": "192.0.2.2" }]), || ingress(&api, "web").to_string())
        .await;
    until(|| !api.all("events").is_empty(), || "no event".to_owned()).await;
    assert_eq!(api.all("events")[0]["regarding"]["namespace"], "shop");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a13_of_two_adapters_one_speaks_and_a_lost_lease_stops_it() {
    let api = Api::start(0).await;
    api.put("services", "shop", "web-1", unaddressed());
    let adapters = ["a", "b"]
        .map(|identity| Adapter::start_with(&api, None, false, (Options::default(), back(identity))));
    let lease = || api.object("leases", "netd-system", "netd-kubernetes");
    let holder = || lease().map(|lease| lease["spec"]["holderIdentity"].as_str().unwrap().to_owned());
    until(|| !api.all("events").is_empty(), || "no event".to_owned()).await;
    let first = holder().unwrap();
    assert!(["a", "b"].contains(&first.as_str()), "{first}");
    // Somebody else takes it, and keeps it for as long as both have looked several times.
    let take = |seconds: u64| {
        let mut taken = lease().unwrap();
        taken["spec"]["holderIdentity"] = "c".into();
        taken["spec"]["leaseDurationSeconds"] = seconds.into();
        api.put("leases", "netd-system", "netd-kubernetes", taken);
    };
    take(3600);
    let looked = |times: usize| {
        let start = api.asked("leases");
        move |api: &Api| api.asked("leases") >= start + times
    };
    let enough = looked(8);
    until(
        || {
            take(3600);
            enough(&api)
        },
        || "nobody looks".to_owned(),
    )
    .await;
    api.put("services", "shop", "web-2", unaddressed());
    let expected = api.all("events").len();
    let enough = looked(20);
    until(
        || {
            take(3600);
            enough(&api)
        },
        || "nobody looks".to_owned(),
    )
    .await;
    assert_eq!(api.all("events").len(), expected, "{:?}", api.all("events"));
    take(1);
    // Nobody renews it any more: one of them has it again, and says what is new.
    until(|| api.all("events").len() == expected + 1, || format!("{:?}", api.all("events"))).await;
    assert_ne!(holder().unwrap(), "c");
    assert!(adapters.iter().all(|adapter| !adapter.task.is_finished()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_public_key_of_the_node_becomes_its_annotation_and_nobody_elses_is_taken() {
    let api = Api::start(0).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key.pub");
    let key = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
    fs::write(&file, key).unwrap();
    api.put("nodes", "", "node-1", node(1));
    api.put("nodes", "", "node-2", node(2));
    let back = Back { key: Some(KeyOf { node: "node-1".to_owned(), file: file.clone() }), ..back("a") };
    let back = Back { events: false, ..back };
    let adapter = Adapter::start_with(&api, None, false, (Options::default(), back));
    let annotation = |name: &str| {
        let node = api.object("nodes", "", name).unwrap();
        node["metadata"]["annotations"]["netd.io/wireguard-public-key"].clone()
    };
    until(|| annotation("node-1") == json!(key), || annotation("node-1").to_string()).await;
    let has = |file: String| file.contains(&format!("public_key = \"{}\"", key));
    until(|| adapter.file().is_some_and(has), || format!("{:?}", adapter.file())).await;
    assert_eq!(annotation("node-2"), Value::Null);
    assert!(api.all("leases").is_empty(), "a key is each node's own");
    let mut other = node(1);
    other["metadata"]["annotations"] = json!({ "netd.io/wireguard-public-key": "somebody else's" });
    api.put("nodes", "", "node-1", other);
    fs::write(&file, key.replace("AQ", "Ag")).unwrap();
    let asked = api.asked("nodes");
    until(|| api.asked("nodes") >= asked + 2, || "not tried".to_owned()).await;
    assert_eq!(annotation("node-1"), "somebody else's");
}
