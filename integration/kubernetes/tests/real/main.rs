//! The adapter against a real kube-apiserver, with the permissions of the manifests: where there is one on the machine.

#![allow(clippy::unwrap_used, reason = "tests")]

mod cluster;

use cluster::{Admin, Cluster, DEADLINE};
use serde_json::{Value, json};
use std::fs;
use std::time::{Duration, Instant};

const KEY: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

fn object(api_version: &str, kind: &str, name: &str, rest: Value) -> Value {
    let mut object = rest;
    object["apiVersion"] = api_version.into();
    object["kind"] = kind.into();
    object["metadata"]["name"] = name.into();
    object
}

fn service(name: &str, address: Option<&str>) -> Value {
    let spec = json!({
        "type": "LoadBalancer",
        "ports": [{ "port": 80, "targetPort": 8080 }],
        "loadBalancerIP": address,
    });
    object("v1", "Service", name, json!({ "spec": spec }))
}

fn slice(name: &str, addresses: &[&str]) -> Value {
    let endpoints: Vec<Value> = addresses.iter().map(|address| json!({ "addresses": [address] })).collect();
    let rest = json!({
        "metadata": { "labels": { "kubernetes.io/service-name": name } },
        "addressType": "IPv4",
        "ports": [{ "port": 8080, "protocol": "TCP" }],
        "endpoints": endpoints,
    });
    object("discovery.k8s.io/v1", "EndpointSlice", name, rest)
}

async fn fill(admin: &Admin) {
    admin.define("EndpointSlice", "endpointslices", ("discovery.k8s.io", "v1"), "Namespaced").await;
    let policies = ("cilium.io", "v2");
    admin.define("CiliumEgressGatewayPolicy", "ciliumegressgatewaypolicies", policies, "Cluster").await;
    for name in ["netd-system", "shop"] {
        admin.make("/api/v1/namespaces", object("v1", "Namespace", name, json!({}))).await;
    }
    admin.permit().await;
    admin.make("/api/v1/nodes", object("v1", "Node", "node-1", json!({}))).await;
    let addresses = json!({ "status": { "addresses": [{ "type": "InternalIP", "address": "10.0.0.1" }] } });
    admin.change("/api/v1/nodes/node-1/status", addresses).await;
    admin.make("/api/v1/namespaces/shop/services", service("web", Some("192.0.2.10"))).await;
    admin.make("/api/v1/namespaces/shop/services", service("foreign", None)).await;
    let ingress = json!({ "status": { "loadBalancer": { "ingress": [{ "ip": "192.0.2.20" }, { "ip": "203.0.113.1" }] } } });
    admin.change("/api/v1/namespaces/shop/services/foreign/status", ingress).await;
    let slices = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices";
    admin.make(slices, slice("web", &["10.1.0.2", "10.1.0.3"])).await;
    let spec = json!({ "containers": [{ "name": "app", "image": "app" }], "nodeName": "node-1" });
    let pod = object("v1", "Pod", "app", json!({ "metadata": { "labels": { "app": "pay" } }, "spec": spec }));
    admin.make("/api/v1/namespaces/shop/pods", pod).await;
    let status = json!({ "status": { "phase": "Running", "podIP": "10.244.1.5", "podIPs": [{ "ip": "10.244.1.5" }] } });
    admin.change("/api/v1/namespaces/shop/pods/app/status", status).await;
    let policy = json!({ "spec": {
        "selectors": [{ "podSelector": { "matchLabels": { "app": "pay" } } }],
        "destinationCIDRs": ["198.18.0.0/16"],
        "egressGateway": { "nodeSelector": {}, "egressIP": "10.0.0.250" },
    } });
    let policy = object("cilium.io/v2", "CiliumEgressGatewayPolicy", "partner", policy);
    admin.make("/apis/cilium.io/v2/ciliumegressgatewaypolicies", policy).await;
}

async fn until<F: Future<Output = Result<(), String>>>(cluster: &Cluster, mut is_so: impl FnMut() -> F) {
    let start = Instant::now();
    while let Err(why) = is_so().await {
        assert!(start.elapsed() < DEADLINE, "{why}\n{}\n{}", cluster.file(), cluster.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn file_says(cluster: &Cluster, text: &str) {
    until(cluster, || async {
        cluster.file().contains(text).then_some(()).ok_or_else(|| format!("not yet: {text}"))
    })
    .await;
}

#[test]
fn a_real_server_permits_what_the_manifests_say_and_that_is_enough() {
    let Some(cluster) = Cluster::start() else { return };
    let key = cluster.folder.path().join("key.pub").display().to_string();
    fs::write(&key, KEY).unwrap();
    cluster.namespace.run_async(|| async {
        let cluster = &cluster;
        let admin = Admin::connect(cluster).await;
        fill(&admin).await;
        let write = ["--write-status", "--write-events", "--write-key", &key, "--node", "node-1"];
        cluster.adapt(&[["--vips", "192.0.2.0/24"].as_slice(), &write].concat());
        file_says(cluster, "backends = [\n  { address = \"10.1.0.2\" },\n  { address = \"10.1.0.3\" },\n]")
            .await;
        file_says(cluster, "sources = [\"10.244.1.5/32\"]").await;
        file_says(cluster, KEY).await;
        let ingress = async |name: &str| {
            let service = admin.get(&format!("/api/v1/namespaces/shop/services/{name}")).await;
            service["status"]["loadBalancer"]["ingress"].clone()
        };
        until(cluster, || async {
            let now = ingress("web").await;
            (now == json!([{ "ip": "192.0.2.10" }])).then_some(()).ok_or_else(|| now.to_string())
        })
        .await;
        until(cluster, || async {
            let events = admin.get("/apis/events.k8s.io/v1/namespaces/shop/events").await;
            let is_said = events.to_string().contains("another program has written addresses");
            is_said.then_some(()).ok_or_else(|| events.to_string())
        })
        .await;
        assert_eq!(ingress("foreign").await, json!([{ "ip": "192.0.2.20" }, { "ip": "203.0.113.1" }]));
        let lease =
            admin.get("/apis/coordination.k8s.io/v1/namespaces/netd-system/leases/netd-kubernetes").await;
        assert_eq!(lease["spec"]["leaseDurationSeconds"], 15, "{lease}");
        let endpoints = json!({ "endpoints": [{ "addresses": ["10.1.0.4"] }] });
        admin.change("/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices/web", endpoints).await;
        file_says(cluster, "backends = [\n  { address = \"10.1.0.4\" },\n]").await;
        admin.delete("/api/v1/namespaces/shop/services/web").await;
        until(cluster, || async {
            (!cluster.file().contains("shop.web")).then_some(()).ok_or_else(String::new)
        })
        .await;
        assert!(!cluster.log().contains("orbidden"), "{}", cluster.log());
        assert!(cluster.log().contains("ciliumegressnatpolicies.cilium.io"), "{}", cluster.log());
    });
}
